//! The threads: one per data core. Beside the I/O seam, the only place that knows of clocks and
//! threads.
//!
//! * `plane` — starts the cores, and is control's end of them.
//! * `worker` — what a core's thread does: the time, the sockets, the sleep.
//! * [`seat`] — the loop of a core, sans-IO.
//! * `clock` — the one clock; `load` — how busy each thread is.

mod clock;
mod load;
mod plane;
pub mod seat;
mod worker;

pub use clock::Clock;
pub use plane::{DataCore, DataPlane, DataPlaneConfig, StartError, start};
