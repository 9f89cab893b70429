//! What holds in every meeting. Each checker looks for itself, at one thing, and knows nothing of
//! the others.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod continuity;
pub mod indexes;
pub mod liveness;
pub mod memory;
pub mod pipes;
pub mod records;
pub mod resumption;
pub mod rooms;
pub mod silence;
pub mod subscriptions;

use std::net::SocketAddr;

use opencall_control::api::Output;
use opencall_dataplane::message::CoreId;
use opencall_io::memory::Datagram;
use opencall_wire::srtp::Profile;

use crate::participant::{Media, Participant, Sent};
use crate::server::Server;

/// All of them, with what each remembers.
pub struct Checkers {
    indexes: indexes::Indexes,
    continuity: continuity::Continuity,
    /// Whether clients may be told anything.
    pub silence: silence::Silence,
}

type Checked = Result<(), (&'static str, String)>;

impl Checkers {
    /// Of a meeting whose transports have this SRTP profile.
    pub fn new(profile: Profile) -> Self {
        Checkers {
            indexes: indexes::Indexes::new(profile),
            continuity: continuity::Continuity::default(),
            silence: silence::Silence::default(),
        }
    }

    /// A core has sent a datagram.
    pub fn sent(&mut self, sent: Sent, to: SocketAddr, bytes: &[u8]) -> Checked {
        self.continuity.sent(sent, bytes);
        self.indexes.sent(to, bytes).map_err(|what| ("indexes", what))
    }

    /// A core has sealed a datagram that does not leave, for the core has died or stalled.
    pub fn sealed(&mut self, life: u32, datagram: &Datagram) -> Checked {
        self.continuity.sealed(life, &datagram.bytes);
        let sealed = self.indexes.sent(datagram.destination, &datagram.bytes);
        sealed.map_err(|what| ("indexes", what))
    }

    /// Control says something to a participant.
    pub fn output(&self, participant: &Participant, output: &Output) -> Checked {
        let told = self.silence.check(output);
        told.map_err(|what| ("silence", format!("{}: {what}", participant.name)))
    }

    /// A participant has opened a packet, which was sent then.
    pub fn media(&mut self, participant: &Participant, media: &Media, sent: Sent) -> Checked {
        let named = |checker| move |what| (checker, format!("{}: {what}", participant.name));
        rooms::check(participant, media, sent.at).map_err(named("rooms"))?;
        subscriptions::check(media, sent.at).map_err(named("subscriptions"))?;
        let continues = self.continuity.check(participant.number, &media.arrived, sent.life);
        continues.map_err(named("continuity"))
    }

    /// A core has taken a turn.
    pub fn after_turn(&mut self, server: &mut Server, core: usize) -> Checked {
        let station = &server.stations[core];
        let stats = station.seat.core().stats();
        let named = |checker| move |what| (checker, format!("core {core}: {what}"));
        accounts::check(stats, station.delivered, station.sent).map_err(named("accounts"))?;
        memory::check(&station.seat.core().holdings()).map_err(named("memory"))
    }

    /// Everything that was due at a time has happened.
    pub fn after_step(&mut self, server: &mut Server) -> Checked {
        if server.is_settled() { self.settled(server) } else { Ok(()) }
    }

    /// Nothing is on its way between control and the cores.
    pub fn settled(&mut self, server: &mut Server) -> Checked {
        if !server.is_settled() {
            return Ok(());
        }
        let cores = server.stations.iter().map(|s| s.seat.core().wiring().collect());
        let cores: Vec<_> = cores.collect();
        pipes::check(&cores, server.is_staged).map_err(|what| ("pipes", what))?;
        for (core, station) in server.stations.iter().enumerate() {
            let recorded = server.control.recorded(CoreId(core as u8));
            let checked = records::check(recorded, &station.seat.core().holdings());
            checked.map_err(|what| ("records", format!("core {core}: {what}")))?;
        }
        memory::agree(server).map_err(|what| ("memory", what))
    }

    /// Everyone has left.
    pub fn empty(&mut self, server: &mut Server) -> Checked {
        memory::empty(server).map_err(|what| ("memory", what))
    }
}
