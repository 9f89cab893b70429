//! The way out: which encoding a consumer gets, and how it becomes one continuous stream.
#![forbid(unsafe_code)]

mod catch_up;
pub mod consumer;
pub mod header;
pub mod limit;
mod numbering;
pub mod pace;
mod pacer;
pub mod path;
pub mod picture_id;
pub mod prober;
pub mod redundancy;
mod replay;
pub mod report;
pub mod retransmit;
pub mod scatter;
pub mod send_stats;
pub mod sent;
pub mod sequence;
pub mod timestamp;
pub mod waiting;
