//! Feeds [`opencall_fuzz::ice`] to the fuzzing engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| opencall_fuzz::ice::run(data));
