//! What a run is asked to do.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::client::emulation::BadLinks;
use crate::client::messages::MessagePlan;
use crate::client::net::Network;
use crate::client::session::Dialect;
use crate::media::codec::VideoCodec;
use crate::ramp::RampOptions;
use crate::scenario::Scenario;
use crate::server::ServerOptions;

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Who meets whom.
    pub scenario: Scenario,
    /// Participants of one room.
    pub participants: u32,
    /// Rooms.
    pub rooms: u32,
    /// The name of the one room, where others are in it, too.
    pub room: Option<String>,
    /// How long is measured.
    pub duration: Duration,
    /// Participants that enter per second.
    pub join_rate: f64,
    /// Seed of media and of who leaves.
    pub seed: u64,
    /// A server that runs already, by its WebSocket.
    pub target: Option<String>,
    /// Its processes, whose CPU is counted.
    pub pids: Vec<u32>,
    /// Else how to start one. Its CPUs are chosen here.
    pub server: ServerOptions,
    /// Whether server and participants get CPUs of their own.
    pub pin: bool,
    /// Whether the floor is measured as well.
    pub floor: bool,
    /// Where participants and server meet.
    pub network: Network,
    /// How the server is spoken to.
    pub dialect: Dialect,
    /// Nothing is measured before the run has lasted so long, so that two runs of one seed can be
    /// measured in the same words of the same people.
    pub warm_up: Duration,
    /// Bits per second of a camera's layers, lowest first.
    pub layers: Vec<u32>,
    /// Whether layers are sent though the server says that nobody takes them.
    pub sends_all_layers: bool,
    /// A camera's codec.
    pub codec: VideoCodec,
    /// What the first of each room sends to the others over data channels.
    pub messages: Option<MessagePlan>,
    /// Who has a bad link, and how bad it is.
    pub bad_links: Option<BadLinks>,
    /// Datagrams per second that strangers send in a flood.
    pub strangers: u32,
    /// How a ramp is climbed.
    pub ramp: RampOptions,
}

impl RunOptions {
    /// Participants of all rooms.
    pub fn people(&self) -> u32 {
        self.participants.saturating_mul(self.rooms)
    }

    /// Time between two who enter.
    pub(super) fn join_interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.join_rate)
    }
}
