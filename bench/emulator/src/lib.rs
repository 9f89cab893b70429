//! A link, sans-IO: what it does to packets is a function of the seed, and of when they enter.
//!
//! Nothing waits for an event: the queue is first in, first out and the rate known in advance, so
//! that the moment a packet leaves follows from what entered before it. Cross traffic is run up to
//! the same moment first.
//!
//! * [`config`] — one direction of a link, described.
//! * [`impairment`] — the same with its state: packets in, their arrivals out.
//! * [`rate`] — constant rates, schedules and traces, and the files they are read from.
//! * [`bottleneck`] — the queue in front of such a rate.
//! * [`loss`] — random and bursty loss.
//! * [`cross`], [`tcp`] — others' traffic through the same queue.
//! * [`log`] — what the link was, each 10 ms.
#![forbid(unsafe_code)]

pub mod bottleneck;
pub mod config;
pub mod cross;
pub mod impairment;
pub mod log;
pub mod loss;
pub mod rate;
pub mod tcp;

pub use config::{LinkConfig, QueueLimit};
pub use cross::Cross;
pub use impairment::Impairment;
pub use log::LogRow;
pub use loss::Bursts;
pub use rate::Rate;
