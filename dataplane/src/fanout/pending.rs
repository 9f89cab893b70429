//! Who gets a packet on this core: pending lists per transport, filled in the gather phase.
#![forbid(unsafe_code)]

use crate::core::Core;
use crate::ingress::packet::MediaPacket;
use crate::store::{ConsumerKey, ProducerKey, TransportKey};

/// Packets that may wait for one transport in one turn. A receive batch cannot hold more for it,
/// except through several cores at once.
pub const MAX_PENDING: usize = 1024;

/// Where a packet's bytes lie during a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PacketRef {
    /// In the receive batch.
    Received(u16),
    /// In the ring from another core.
    Piped {
        /// Index of the core.
        core: u8,
        /// Slot from the ring's read position.
        slot: u16,
    },
}

/// A packet taken up in this turn's gather phase.
#[derive(Debug, Clone, Copy)]
pub struct Gathered {
    /// Where its bytes are.
    pub bytes: PacketRef,
    /// What it is.
    pub packet: MediaPacket,
}

/// A gathered packet that waits for one consumer.
#[derive(Debug, Clone, Copy)]
pub struct Pending {
    /// Index into the turn's gathered packets.
    pub packet: u16,
    /// The consumer.
    pub consumer: ConsumerKey,
}

/// A consumer in its producer's list: all that the gather phase looks at.
#[derive(Debug, Clone, Copy)]
pub struct Subscription {
    /// The consumer.
    pub consumer: ConsumerKey,
    /// Its transport.
    pub transport: TransportKey,
    /// Bit per encoding the consumer may forward now; 0 while it is paused.
    pub encodings: u8,
    /// How many encodings, from the lowest, it would take if all arrived; 0 while it is paused.
    pub wanted: u8,
}

impl Core {
    /// Appends a packet to the pending list of each transport that has a consumer of it. Returns
    /// whether there is any.
    pub(crate) fn fan_out(
        &mut self,
        producer: ProducerKey,
        bytes: PacketRef,
        packet: &MediaPacket,
    ) -> bool {
        let index = self.turn.gathered.len() as u16;
        let bit = 1_u8 << packet.encoding;
        let mut wanted = false;
        for subscription in &self.producers[producer].subscriptions {
            if subscription.encodings & bit == 0 {
                continue;
            }
            let transport = &mut self.transports[subscription.transport];
            if transport.pending.len() >= MAX_PENDING {
                self.stats.drops.count(crate::drop_reason::DropReason::PendingFull);
                continue;
            }
            if transport.pending.is_empty() {
                self.turn.touched.push(subscription.transport);
            }
            transport.pending.push(Pending { packet: index, consumer: subscription.consumer });
            wanted = true;
        }
        if wanted {
            self.turn.gathered.push(Gathered { bytes, packet: *packet });
        }
        wanted
    }
}
