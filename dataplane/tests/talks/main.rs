//! Talks between clients and the SFU, in memory: the test holds the clock and the wires; the
//! machine is the one that runs under io_uring.

mod bits;
#[path = "../estimator_support/mod.rs"]
mod estimator_support;
mod histories;
mod paths;
mod world;

mod a_beginning_lost_across_a_wrap_is_no_end;
mod a_break_in_content_waits_for_a_key_frame;
mod a_budget_holds_for_everything;
mod a_client_that_moves_is_followed;
mod a_core_that_cannot_keep_up_spares_pictures;
mod a_core_that_dies_is_replaced;
mod a_core_that_wakes_up_takes_nothing;
mod a_death_in_a_handshake_loses_no_client;
mod a_fir_that_was_answered_asks_no_more;
mod a_first_picture_that_came_too_soon_comes_again;
mod a_frame_leaves_as_one_train;
mod a_full_batch_reaches_a_large_room;
mod a_key_frame_is_begun_where_it_begins;
mod a_key_frame_leaves_in_steps;
mod a_key_frame_request_outlives_a_full_ring;
mod a_layer_that_stops_is_replaced;
mod a_new_ssrc_goes_on_at_once;
mod a_packet_reaches_everyone_else;
mod a_path_gets_what_it_carries;
mod a_picture_of_two_cores_is_none;
mod a_replayed_check_moves_nothing;
mod a_retransmission_is_the_packet_again;
mod a_rise_of_temporal_layers_comes_at_once;
mod a_storm_of_nacks_is_bounded;
mod a_switch_of_layers_leaves_no_seam;
mod a_voice_is_repeated_to_who_loses_it;
mod an_address_stays_with_its_client;
mod an_ssrc_follows_what_its_packets_say;
mod closing_costs_what_is_closed;
mod contributing_sources_are_named_to_everyone;
mod deaths_in_a_row_mislead_nobody;
mod every_report_tells_the_senders_clock;
mod every_stream_is_reported;
mod forged_packets_change_nothing;
mod forwarding_takes_nothing_from_the_heap;
mod keys_are_taken_once;
mod no_wrong_picture_is_decoded;
mod one_viewer_makes_few_key_frames;
mod participants_on_other_cores_see_the_same;
mod records_are_what_the_core_was_told;
mod reports_belong_to_their_source;
mod retries_follow_the_round_trip;
mod scalability;
mod spatial_layers_inside_an_encoding_are_chosen;
mod the_stage_changes_whom_it_carries;
mod transport_wide_numbers_may_begin_anew;
mod what_has_no_room_begins_nothing;
mod what_nobody_takes_need_not_be_sent;
