//! The threads: one per data core. Beside the I/O seam, the only place that knows of clocks and
//! threads.
//!
//! * `plane` — starts the cores, is control's end of them, replaces those that died, adds and
//!   ends them.
//! * `worker` — what a core's thread does: the time, the sockets, the sleep.
//! * [`seat`] — the loop of a core, sans-IO.
//! * `nursery` — makes the threads, as nice as the server was at its start.
//! * `clock` — the one clock; `load` — how busy each thread is; `vitals` — whether it lives.

mod clock;
mod load;
mod nursery;
mod plane;
pub mod seat;
mod vitals;
mod worker;

pub use clock::Clock;
pub use plane::{DataCore, DataPlane, DataPlaneConfig, Loss, StartError, start};
pub use vitals::{Death, Fault, Faults, WATCH_INTERVAL, Wakers};
