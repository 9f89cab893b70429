//! Talks between clients, the control core and data cores that only keep books: one file for each
//! promise.

mod administrators_announce;
mod administrators_see_and_act;
mod data_channels_bound_laggards;
mod data_channels_carry_messages;
mod data_channels_open_in_band;
mod every_order_ends_alike;
mod grants_are_enforced;
mod hosts_act_in_their_room;
mod late_joiner_is_offered_everything;
mod mls_is_delivered_in_order;
mod peers_come_and_go;
mod producers_come_and_go;
mod quality_and_speakers_are_told;
mod random_talks_leave_nothing_behind;
mod recordings_are_announced;
mod requests_out_of_order_are_refused;
mod room_events_are_reported;
mod rooms_span_cores;
mod sctp_peer;
mod senders_are_advised_on_codecs;
mod senders_are_told_what_is_wanted;
mod talk;
mod the_stage_of_a_large_room;
mod transports_connect_and_are_lost;
mod views_follow_the_floor;
