//! How much a core holds, for tests, simulations and whoever looks for what was left behind.
#![forbid(unsafe_code)]

use crate::core::Core;
use crate::egress::waiting::Waiting;
use crate::message::{CoreId, ProducerId};
use crate::transport::Transport;

/// How many of everything a core holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Holdings {
    /// Transports.
    pub transports: usize,
    /// Producers, far ends of pipes included.
    pub producers: usize,
    /// Consumers.
    pub consumers: usize,
    /// Consumers in the lists of their producers.
    pub subscriptions: usize,
    /// Outgoing SSRCs by which consumers are found.
    pub outgoing_ssrcs: usize,
    /// User fragments by which checks find their transport.
    pub ufrags: usize,
    /// Addresses by which packets find their transport.
    pub addresses: usize,
    /// Datagrams of DTLS that wait for an address to be proven.
    pub held_dtls: usize,
    /// Packets that wait for the pace of their client.
    pub waiting: usize,
    /// Events that wait for control.
    pub events: usize,
}

/// Where a producer's packets go from a core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wiring {
    /// The producer.
    pub producer: ProducerId,
    /// Whether its client is on this core; else this is the far end of a pipe.
    pub is_home: bool,
    /// Its consumers on this core.
    pub consumers: usize,
    /// The cores that it is sent to.
    pub pipes: Vec<CoreId>,
}

impl Core {
    /// Counts what the core holds.
    pub fn holdings(&self) -> Holdings {
        let transports = || self.transports.iter().map(|(_, transport)| transport);
        let producers = self.producers.iter();
        Holdings {
            transports: self.transports.len(),
            producers: self.producers.len(),
            consumers: self.consumers.len(),
            subscriptions: producers.map(|(_, producer)| producer.subscriptions.len()).sum(),
            outgoing_ssrcs: transports().map(|transport| transport.outgoing_ssrcs.len()).sum(),
            ufrags: self.index.ufrags.len(),
            addresses: self.index.addresses.len(),
            held_dtls: transports().map(|transport| transport.held_dtls.len()).sum(),
            waiting: transports().filter_map(Transport::waiting).map(Waiting::len).sum(),
            events: self.events.len(),
        }
    }

    /// Where each producer's packets go.
    pub fn wiring(&self) -> impl Iterator<Item = Wiring> {
        self.producers.iter().map(|(_, producer)| Wiring {
            producer: producer.id,
            is_home: producer.home == self.id,
            consumers: producer.subscriptions.len() + producer.stages.len(),
            pipes: producer.pipes.to_vec(),
        })
    }
}
