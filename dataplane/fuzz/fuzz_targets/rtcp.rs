//! Feeds [`opencall_fuzz::rtcp`] to the fuzzing engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| opencall_fuzz::rtcp::run(data));
