//! What control says to the thread that broadcasts, and what it hears back.
#![forbid(unsafe_code)]

use std::sync::Arc;

use opencall_dataplane::message::{Command, ProducerId};
use opencall_recorder::message::TrackConfig;
use serde::Serialize;

/// One push of a room; unique for the life of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PushId(pub u64);

/// Where a push goes. Whoever makes one has seen that it is allowed.
#[derive(Clone, PartialEq, Eq)]
pub struct PushTarget {
    /// The address: `rtmp`, `rtmps` or `srt`, with its stream key.
    pub url: Arc<str>,
    /// The same as it may be shown.
    pub shown: Arc<str>,
}

impl std::fmt::Debug for PushTarget {
    /// Without the stream key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// From control to the thread that broadcasts.
#[derive(Debug, Clone)]
pub enum PushCommand {
    /// Begin a push.
    Start {
        /// The push.
        push: PushId,
        /// To where.
        target: PushTarget,
    },
    /// Push a producer, in place of the one of its kind before; its pipe is being opened.
    AddTrack(PushId, Box<TrackConfig>),
    /// A pushed producer was paused or resumed.
    Mute {
        /// Which.
        producer: ProducerId,
        /// Whether it is paused now.
        muted: bool,
    },
    /// A pushed producer is gone.
    RemoveTrack(ProducerId),
    /// End a push.
    Stop(PushId),
}

/// What reaches that thread.
pub enum PushesCommand {
    /// As a core is told: links and pipes.
    Core(Command),
    /// What is pushed.
    Push(PushCommand),
}

/// What a push has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PushProgress {
    /// Whether the other side takes what is sent.
    pub connected: bool,
    /// How often it did so anew.
    pub connections: u64,
    /// Why it does not, or did not at last.
    pub error: Option<String>,
    /// Bytes that were sent.
    pub bytes: u64,
    /// Frames that were not, for they came faster than they were taken.
    pub frames_dropped: u64,
    /// Packets that never came.
    pub packets_lost: u64,
}

/// Why a push has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushEnding {
    /// It was told to, or everyone has left.
    Stopped,
    /// It was never connected.
    Failed,
    /// It was connected, and could not be again for minutes.
    GivenUp,
    /// The thread that broadcasts has failed.
    Lost,
}

impl PushEnding {
    /// All of them.
    pub const ALL: [PushEnding; 4] =
        [PushEnding::Stopped, PushEnding::Failed, PushEnding::GivenUp, PushEnding::Lost];

    /// As APIs, logs and metrics say it.
    pub const fn label(self) -> &'static str {
        match self {
            PushEnding::Stopped => "stopped",
            PushEnding::Failed => "failed",
            PushEnding::GivenUp => "given_up",
            PushEnding::Lost => "push_lost",
        }
    }
}

/// From the thread that broadcasts to control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PushEvent {
    /// How far a push is; each second, and when its connection comes or goes.
    Progress {
        /// Which.
        push: PushId,
        /// The numbers.
        progress: PushProgress,
    },
    /// A push has ended by itself.
    Ended {
        /// Which.
        push: PushId,
        /// How.
        ending: PushEnding,
        /// The last numbers.
        progress: PushProgress,
    },
}
