//! What control says to the sink, and what it hears back.
#![forbid(unsafe_code)]

use std::sync::Arc;

use opencall_dataplane::message::{Command, CoreId, PayloadTypeMapping, ProducerId};
use opencall_wire::codec::MediaKind;
use opencall_wire::time::Time;
use smallvec::SmallVec;

/// One recording of a room; unique for the life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordingId(pub u64);

/// A new recording.
#[derive(Debug, Clone)]
pub struct RecordingConfig {
    /// Its id.
    pub id: RecordingId,
    /// Its id as administrators see it, part of the folder's name.
    pub name: String,
    /// The room's name.
    pub room: String,
    /// Its zero.
    pub started: Time,
    /// The same as Unix time, milliseconds.
    pub started_unix_ms: u64,
}

/// A producer that is recorded, or goes elsewhere in the same way.
#[derive(Debug, Clone)]
pub struct TrackConfig {
    /// Which producer.
    pub producer: ProducerId,
    /// The core that it arrives on.
    pub home: CoreId,
    /// The id of the participant whose it is.
    pub participant: Arc<str>,
    /// The name that the participant shows.
    pub display_name: String,
    /// What it shows, in LiveKit's words: `camera`, `microphone` …
    pub source: &'static str,
    /// Audio or video.
    pub kind: MediaKind,
    /// How its packets' (router's) payload types are understood.
    pub payload_types: SmallVec<[PayloadTypeMapping; 2]>,
    /// How many encodings it has.
    pub encodings: u8,
    /// Whether it is paused now.
    pub muted: bool,
}

/// From control to the sink.
#[derive(Debug, Clone)]
pub enum RecordCommand {
    /// Begin a recording.
    Start(Box<RecordingConfig>),
    /// Record a producer in a recording; its pipe is being opened.
    AddTrack(RecordingId, Box<TrackConfig>),
    /// A recorded producer was paused or resumed.
    Mute {
        /// Which.
        producer: ProducerId,
        /// Whether it is paused now.
        muted: bool,
    },
    /// A recorded producer is gone.
    RemoveTrack(ProducerId),
    /// End a recording.
    Stop(RecordingId),
}

/// What reaches the sink's thread.
pub enum SinkCommand {
    /// As a core is told: links and pipes.
    Core(Command),
    /// What is recorded.
    Record(RecordCommand),
}

/// How a recording ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was told to, or everyone has left.
    Stopped,
    /// The disk is full, or less is free than must stay so.
    DiskFull,
    /// It has reached the size that a recording may have.
    TooLarge,
    /// A file could not be written.
    WriteFailed,
    /// The sink itself has failed.
    SinkLost,
}

impl Ending {
    /// As APIs, files and metrics say it.
    pub const fn label(self) -> &'static str {
        match self {
            Ending::Stopped => "stopped",
            Ending::DiskFull => "disk_full",
            Ending::TooLarge => "too_large",
            Ending::WriteFailed => "write_failed",
            Ending::SinkLost => "sink_lost",
        }
    }
}

/// What a recording has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes written.
    pub bytes: u64,
    /// Files begun.
    pub files: u64,
    /// Tracks that are recorded now.
    pub tracks: u64,
    /// Packets that never came.
    pub packets_lost: u64,
    /// Clusters dropped, for the disk was behind.
    pub clusters_dropped: u64,
}

/// From the sink to control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordEvent {
    /// A recording's folder exists.
    Began {
        /// Which recording.
        recording: RecordingId,
        /// The folder's name, in the folder of recordings.
        folder: String,
    },
    /// How far a recording is; each second.
    Progress {
        /// Which recording.
        recording: RecordingId,
        /// The numbers.
        progress: Progress,
    },
    /// A recording has ended, and its files are closed.
    Ended {
        /// Which recording.
        recording: RecordingId,
        /// How.
        ending: Ending,
        /// The last numbers.
        progress: Progress,
    },
}
