//! Feeds [`opencall_fuzz::signaling_protoo`] to the fuzzing engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| opencall_fuzz::signaling_protoo::run(data));
