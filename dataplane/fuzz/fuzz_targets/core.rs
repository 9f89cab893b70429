//! Feeds [`opencall_fuzz::core`] to the fuzzing engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| opencall_fuzz::core::run(data));
