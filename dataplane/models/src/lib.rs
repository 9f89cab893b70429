//! The files of the data plane that hold `unsafe` or orderings but no sockets, compiled alone.
//!
//! Model checkers are turned on by compiler flags, which then hold for every dependency; the data
//! plane's take minutes to build under them, and those that know `cfg(loom)` themselves do not
//! build at all. This crate has the same sources and next to no dependencies:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p opencall-models --target-dir target/loom
//! cargo +nightly miri test -p opencall-models --target-dir target/miri
//! RUSTFLAGS="-Zsanitizer=thread" cargo +nightly test -Zbuild-std -p opencall-models --lib \
//!     --target x86_64-unknown-linux-gnu --target-dir target/tsan
//! ```

/// The rings between cores, the parker and, where there is nothing to model, the batches.
#[path = "../../io/src"]
pub mod io {
    #[cfg(not(loom))]
    pub mod batch;
    pub mod park;
    pub mod ring;
    #[cfg(not(loom))]
    mod types;
}
