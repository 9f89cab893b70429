//! Recording without transcoding.
//!
//! ```text
//! data core ──ring──▶ track ─▶ lane (reorder ─▶ depacketize ─▶ timeline) ─▶ file ──jobs──▶ disk
//!           ◀─key frame, please─┘
//! ```
//!
//! A sink is the far end of a pipe, as another data core is: it gets the packets of a producer in
//! plain text through the same ring, by the same code, and may ask for key frames as a core does.
//! Nothing is added to the forwarding path, and a sink that falls behind loses packets for itself
//! alone. Two threads: the sink reads the rings and makes Matroska; the disk writes files. Between
//! them is a queue that is bounded in bytes.
//!
//! * [`message`] — what control says to the sink and hears from it.
//! * [`depacketize`] — RTP payloads to frames, as Matroska stores them.
//! * [`matroska`] — headers, clusters, cues; [`ebml`] — the elements that these are made of.
//! * [`reorder`], [`timeline`] — the order of packets, and when each frame was.
//! * [`track`], `lane` — a producer, and each of its encodings; `file`, `session` — a file, a
//!   recording.
//! * [`disk`] — the thread that writes; [`sink`] — the one that reads the rings.
#![forbid(unsafe_code)]

pub mod depacketize;
pub mod disk;
pub mod ebml;
mod file;
mod lane;
mod manifest;
pub mod matroska;
pub mod message;
pub mod reorder;
mod session;
pub mod sink;
pub mod timeline;
pub mod track;
