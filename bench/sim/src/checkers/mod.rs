//! What holds in every meeting. Each checker looks for itself, at one thing, and knows nothing of
//! the others.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod continuity;
pub mod indexes;
pub mod liveness;
pub mod memory;
pub mod pipes;
pub mod rooms;
pub mod subscriptions;

use std::net::SocketAddr;

use opencall_wire::srtp::Profile;
use opencall_wire::time::Time;

use crate::participant::{Media, Participant};
use crate::server::Server;

/// All of them, with what each remembers.
pub struct Checkers {
    indexes: indexes::Indexes,
    continuity: continuity::Continuity,
}

type Checked = Result<(), (&'static str, String)>;

impl Checkers {
    /// Of a meeting whose transports have this SRTP profile.
    pub fn new(profile: Profile) -> Self {
        Checkers {
            indexes: indexes::Indexes::new(profile),
            continuity: continuity::Continuity::default(),
        }
    }

    /// A core has sent a datagram.
    pub fn sent(&mut self, now: Time, to: SocketAddr, bytes: &[u8]) -> Checked {
        self.continuity.sent(now, bytes);
        self.indexes.sent(to, bytes).map_err(|what| ("indexes", what))
    }

    /// A participant has opened a packet, which was sent then.
    pub fn media(&mut self, participant: &Participant, media: &Media, sent: Time) -> Checked {
        let named = |checker| move |what| (checker, format!("{}: {what}", participant.name));
        rooms::check(participant, media).map_err(named("rooms"))?;
        subscriptions::check(media, sent).map_err(named("subscriptions"))?;
        self.continuity.check(participant.number, &media.arrived).map_err(named("continuity"))
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
        pipes::check(&cores.collect::<Vec<_>>()).map_err(|what| ("pipes", what))?;
        memory::agree(server).map_err(|what| ("memory", what))
    }

    /// Everyone has left.
    pub fn empty(&mut self, server: &mut Server) -> Checked {
        memory::empty(server).map_err(|what| ("memory", what))
    }
}
