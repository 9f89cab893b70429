//! Per producer stream: what arrived, what is missing, what to tell the sender, and the packets
//! kept for those who missed them.
#![forbid(unsafe_code)]

pub mod history;
pub mod key_frame;
pub mod nack;
pub mod receive_stats;
pub mod remb;
pub mod transport_cc;
