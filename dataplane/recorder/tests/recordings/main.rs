//! A data core and the sink that records: packets go through the ring between them, and what is on
//! the disk is read by an independent demuxer.

mod films;
mod stand;

mod disks_fail;
mod files_are_what_was_sent;
mod layers_and_losses;
