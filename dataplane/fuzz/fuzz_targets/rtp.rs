//! Feeds [`opencall_fuzz::rtp`] to the fuzzing engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| opencall_fuzz::rtp::run(data));
