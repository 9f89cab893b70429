//! Per producer stream: what arrived, what is missing, what to tell the sender, and the packets
//! kept for those who missed them.
#![forbid(unsafe_code)]

pub mod history;
pub mod nack;
pub mod receive_stats;
