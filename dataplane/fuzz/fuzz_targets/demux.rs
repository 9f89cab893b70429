//! Feeds [`opencall_fuzz::demux`] to the fuzzing engine.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| opencall_fuzz::demux::run(data));
