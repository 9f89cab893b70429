//! What control says to the thread that taps, and what it hears back.
#![forbid(unsafe_code)]

use std::sync::Arc;

use opencall_dataplane::message::{Command, PayloadTypeMapping, ProducerId};
use serde::Serialize;
use smallvec::SmallVec;

/// One tap of a room; unique for the life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TapId(pub u64);

/// Where voices go. Whoever makes one has seen that it is allowed.
#[derive(Clone, PartialEq, Eq)]
pub struct TapTarget {
    /// The address, `ws` or `wss`.
    pub url: Arc<str>,
    /// The same as it may be shown.
    pub shown: Arc<str>,
}

impl std::fmt::Debug for TapTarget {
    /// Without the query, which may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// A voice that is tapped.
#[derive(Debug, Clone)]
pub struct VoiceConfig {
    /// By which tap.
    pub tap: TapId,
    /// Which producer.
    pub producer: ProducerId,
    /// The id of the participant whose it is.
    pub participant: Arc<str>,
    /// How its packets' (router's) payload types are understood.
    pub payload_types: SmallVec<[PayloadTypeMapping; 2]>,
}

/// From control to the thread that taps.
#[derive(Debug, Clone)]
pub enum TapCommand {
    /// Connect to a processor.
    Start {
        /// The tap.
        tap: TapId,
        /// To where.
        target: TapTarget,
    },
    /// Hand a voice on; its pipe is being opened.
    AddVoice(Box<VoiceConfig>),
    /// A tapped voice is there again after a pause.
    Resume(ProducerId),
    /// A tapped voice is gone.
    RemoveVoice(ProducerId),
    /// Hand nothing on any more.
    Stop(TapId),
}

/// What reaches that thread.
pub enum TapsCommand {
    /// As a core is told: links and pipes.
    Core(Command),
    /// What is tapped.
    Tap(TapCommand),
}

/// What a tap has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TapProgress {
    /// Whether the processor is connected.
    pub connected: bool,
    /// How often it was.
    pub connections: u64,
    /// Why it is not, or was not at last.
    pub error: Option<String>,
    /// Voices that are handed on now.
    pub voices: u64,
    /// Frames handed on.
    pub frames: u64,
    /// Frames that were not, for the processor was too slow or not there.
    pub frames_dropped: u64,
    /// Packets that never came.
    pub packets_lost: u64,
}

/// What a processor has understood.
#[derive(Debug, Clone, PartialEq)]
pub struct TapResult {
    /// Who has spoken, as the processor says.
    pub participant: Arc<str>,
    /// What.
    pub text: String,
    /// Whether it will say more of the same.
    pub interim: bool,
    /// In which language (BCP 47), if it knows.
    pub language: Option<String>,
}

/// From the thread that taps to control.
#[derive(Debug, Clone, PartialEq)]
pub enum TapEvent {
    /// How far a tap is; each second, and when its connection comes or goes.
    Progress {
        /// Which.
        tap: TapId,
        /// The numbers.
        progress: TapProgress,
    },
    /// A processor has understood something.
    Result {
        /// Of which tap.
        tap: TapId,
        /// It.
        result: TapResult,
    },
}
