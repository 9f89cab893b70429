//! What rigs share that stand against the SFU without a network: the client's side of a transport,
//! cameras, receivers, wires. All of it is sans-IO and deterministic: time and dice are arguments.
//!
//! * [`leg`] — one transport of a client: ICE checks, DTLS, SRTP both ways.
//! * [`camera`] — a track: encoders whose packets carry a [`stamp`].
//! * [`receiver`] — puts pictures together, asks for lost packets and key frames.
//! * [`feedback`] — transport-wide feedback on what arrives.
//! * [`wire`] — one direction of a link: loss, duplication, delay, reordering, partition.
//! * [`seeded`] — DTLS whose keys come from a seed.
#![forbid(unsafe_code)]

pub mod camera;
pub mod feedback;
pub mod leg;
pub mod receiver;
pub mod seeded;
pub mod stamp;
pub mod wire;
