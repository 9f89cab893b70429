//! Per consumer: continuous numbers over drops and source changes, and what was sent under them.
#![forbid(unsafe_code)]

mod numbering;

pub mod picture_id;
pub mod send_stats;
pub mod sent;
pub mod sequence;
pub mod timestamp;
