//! Who gets a packet, on this core and (through rings) on the others.

pub mod ring;
