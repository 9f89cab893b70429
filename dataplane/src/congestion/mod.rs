//! How much each client can be sent, from what its feedback says.
//!
//! ```text
//! on_sent ─▶ sent ◀─ feedback ─┬▶ inter_arrival ─▶ trendline ─▶ aimd ◀─ link_capacity
//!                              ├▶ acknowledged                  │
//!                              ├▶ probe_result ────────────────▶├─ delay ─┐
//!                              └▶ loss ◀────────────────────────┘         ├▶ estimator ─▶ target
//! set_demand ─▶ upgrade ─▶ probe ─▶ next_probe             maximum, watch┘
//! ```
//!
//! * [`estimator`] — the whole, for one transport: what the rest of the crate talks to.
//! * [`sent`], [`feedback`] — what left, and what is said of it.
//! * [`inter_arrival`], [`trendline`], [`aimd`], [`link_capacity`], [`delay`] — the rate from
//!   delays.
//! * [`standing`] — a queue that stands.
//! * [`acknowledged`] — the rate that arrives.
//! * [`loss`] — the rate from losses.
//! * [`alr`], [`probe`], [`probe_result`], [`upgrade`] — when little is sent, or more is wanted.
//! * [`watch`] — what happens when feedback fails.
//!
//! The algorithms are those of libwebrtc M150 (`modules/congestion_controller/goog_cc`), written
//! anew. What differs from them, and why:
//!
//! * The receiver's own estimate (REMB) is not taken: where there is transport-wide feedback nobody
//!   agreed on one, and Chromium sends some all the same.
//! * The legacy estimator by receiver reports is left out: until losses are observed three times,
//!   delays are trusted.
//! * [`upgrade`] and [`watch`] are added. No probe is sent while all that is wanted fits, nor one
//!   below the estimate; the first ones do not depend on what is wanted then.
//! * After overuse the rate follows what arrived in the last 300 ms where that is less, and a queue
//!   that stands lowers it too ([`standing`]): from 4 to 1 Mbit/s in half a second instead of three
//!   and a half. Of lossy links more is used ([`loss`]). Both not with [`Config::as_reference`].
//! * Delays do not count while a probe for an upgrade is out and right after it: a path that is no
//!   wider than was known is full then, and that is not to cost anything.
//! * The bias for higher rates is not of whole kbit/s.
//! * Overuse before any rate was acknowledged halves the rate once in a round trip, as the
//!   reference's comment says; its code does so with every feedback.
//! * A packet that is reported lost twice is counted once.
//! * The budget of [`alr`] is not rounded to whole milliseconds and kilobits.
//!
//! Rates are `f64` in bits per second: nothing overflows, and infinity is "no limit". Nothing here
//! reads a clock, allocates with a feedback once its buffers have grown, or panics whatever a
//! client says. The module is public for the tests that run it against a simulated link and against
//! an independent port (`tests/estimator_*`).
#![forbid(unsafe_code)]

pub mod acknowledged;
pub mod aimd;
pub mod alr;
pub mod delay;
pub mod estimator;
pub mod feedback;
pub mod inter_arrival;
pub mod link_capacity;
pub mod loss;
pub mod probe;
pub mod probe_result;
pub mod sent;
pub mod standing;
pub mod trendline;
pub mod upgrade;
pub mod watch;

pub use estimator::{Config, Estimator, Scratch, Update};
pub use probe::ProbeCluster;
pub use upgrade::Demand;

use opencall_wire::time::Time;

/// The least there ever is.
pub const MIN_BPS: f64 = 5_000.0;

/// What delays say of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Usage {
    /// Its queue neither grows nor shrinks.
    #[default]
    Normal,
    /// It grows.
    Over,
    /// It shrinks.
    Under,
}

/// Milliseconds since the origin of time.
fn millis(time: Time) -> f64 {
    time.as_nanos() as f64 / 1e6
}

/// How much later than the other; negative if it is earlier.
fn millis_between(later: Time, earlier: Time) -> f64 {
    let (later, earlier) = (later.as_nanos(), earlier.as_nanos());
    if later >= earlier {
        (later - earlier) as f64 / 1e6
    } else {
        -((earlier - later) as f64 / 1e6)
    }
}
