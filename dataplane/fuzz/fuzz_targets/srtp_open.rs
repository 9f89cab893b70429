//! Feeds [`opencall_fuzz::srtp_open`] to the fuzzing engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| opencall_fuzz::srtp_open::run(data));
