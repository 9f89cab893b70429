//! Talks between clients and the SFU, in memory: the test holds the clock and the wires; the
//! machine is the one that runs under io_uring.

mod world;

mod a_packet_reaches_everyone_else;
mod a_retransmission_is_the_packet_again;
mod a_switch_of_layers_leaves_no_seam;
mod forged_packets_change_nothing;
mod forwarding_takes_nothing_from_the_heap;
mod participants_on_other_cores_see_the_same;
