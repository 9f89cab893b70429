//! The packet's way on one core.
//!
//! ```text
//! io ─▶ demux ─▶ ice │ dtls door │ srtp open ─▶ ingress ─▶ fan-out ─▶ egress ─▶ srtp seal ─▶ io
//! ```
//!
//! * [`demux`] — which protocol a datagram is of.
//! * [`dtls`] — what the door for DTLS reads of it; the records are control's.
//! * [`ice`] — ICE-lite: binding checks, nomination, consent, restart.
//! * `ingress` — per producer stream: statistics, NACK, transport-wide feedback, history.
//! * `fanout` — who gets a packet, on this core and (through rings) on the others.
//! * `layers` — which layers each consumer gets.
//! * `egress` — per consumer: rewriting, pacing of probes, retransmission.
//! * [`congestion`] — per client: how much it can be sent.
//! * [`message`] — what the control core says to a data core and hears from it.
//! * [`records`], [`checkpoint`] — what control told a core, and the numbers that core used: what a
//!   new core needs to go on in the place of one that died.
//!
//! What is on the wire (RTP, RTCP, SRTP, STUN) is read and written by `opencall-wire`. What talks
//! to the kernel, and the rings between cores, are `opencall-io`. But for [`threads`] everything
//! here is sans-IO: no clock, socket or thread.
#![forbid(unsafe_code)]

mod address_table;
pub mod backlog;
pub mod calls;
pub mod checkpoint;
pub mod congestion;
pub mod core;
pub mod demux;
pub mod drop_reason;
pub mod dtls;
pub mod egress;
pub mod fanout;
pub mod histogram;
pub mod holdings;
pub mod ice;
pub mod ingress;
pub mod layers;
pub mod message;
pub mod outline;
pub mod overload;
pub mod plain;
pub mod planted;
pub mod rate;
pub mod records;
pub mod round_trip;
pub mod sender_clock;
mod store;
pub mod threads;
mod timers;
pub mod transport;
pub mod turn;
