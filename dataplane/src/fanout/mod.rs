//! Who gets a packet: on this core through pending lists per transport, on other cores through
//! single-producer single-consumer rings.

pub mod links;
mod pending;
mod stage;

pub use pending::{Gathered, MAX_PENDING, PacketRef, Pending, Subscription};
pub use stage::Stage;
