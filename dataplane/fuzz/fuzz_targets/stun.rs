//! Feeds [`opencall_fuzz::stun`] to the fuzzing engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| opencall_fuzz::stun::run(data));
