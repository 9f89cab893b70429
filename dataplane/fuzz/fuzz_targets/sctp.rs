//! Feeds [`opencall_fuzz::sctp`] to the fuzzing engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| opencall_fuzz::sctp::run(data));
