//! Load generator and link emulator.
#![forbid(unsafe_code)]
