//! The control core: one thread that knows rooms, clients and capabilities, and tells the data
//! cores what to forward. It never touches a media packet.
//!
//! ```text
//! signaling ─▶ control ─▶ peer ─▶ transport (dtls) ─▶ producer ─▶ consumer ─▶ data cores
//!                                      └─▶ data (sctp): channels, which end here
//! ```
//!
//! * [`admin`] — what administrators may see and do.
//! * [`api`] — the typed requests, answers and notifications that signaling speaks to it.
//! * [`codec_choice`] — which codecs a participant had best send, as a pure function.
//! * [`Control`] — the machine itself: feed it, drain it.
//! * [`dtls`] — handshakes, fingerprints, SRTP keys.
//! * [`error`] — what is wrong with the configuration.
//! * [`json_object`] — what clients pass on to others, as shared text.
//! * [`limits`] — how much one client can make us keep.
//! * [`ortc`] — the capability rules, as pure functions.
//! * [`rtp_parameters`] — RTP capabilities and parameters as mediasoup-client writes them in JSON.
//! * [`sctp`] — one association of data channels.
//! * [`push`] — a participant's voice and picture for a server of broadcasts.
//! * [`tap`] — voices for programs outside, and what they understand of them.
#![forbid(unsafe_code)]

pub mod admin;
mod advice;
pub mod api;
pub mod codec_choice;
mod consumer;
mod contest;
mod control;
mod cores;
mod data;
mod demand;
pub mod dispatch;
pub mod dtls;
pub mod error;
mod grants;
mod host;
mod ids;
mod js;
pub mod json_object;
mod known_capabilities;
mod left;
pub mod limits;
mod mls;
pub mod ortc;
mod peer;
mod placement;
mod plain;
mod producer;
pub mod push;
mod recording;
mod room;
pub mod room_events;
pub mod rtp_parameters;
mod speakers;
mod stage;
mod stats;
pub mod tap;
mod timers;
mod transport;
mod view;
mod waiting;

pub mod sctp {
    //! SCTP inside a transport's DTLS, sans-IO: for fuzzing and for whoever plays a client.

    pub use crate::data::association::{
        Association, DataMessage, Received, Reliability, SctpOutput,
    };
}

pub use contest::CHALLENGE_TIMEOUT;
pub use control::{Control, ControlConfig, CoreAddresses, Counts, Work};
pub use data::{DataDrop, DataDropCounters, MAX_MESSAGE_BYTES};
pub use demand::LOWER_AFTER;
pub use error::ControlError;
pub use left::LEFT_GRACE;
pub use placement::{PARTICIPANTS_PER_CORE, PlacementPolicy};
pub use recording::{MAX_NOTICE, NOTICE, RecordingAction, RecordingReport, RecordingTotals};
pub use stage::StageConfig;
pub use transport::TRANSPORT_LOST_GRACE;
pub use waiting::{MAX_WAITING, WAITING_TIMEOUT};
