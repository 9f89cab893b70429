//! The rings between this core and the others, and what travels in them.
#![forbid(unsafe_code)]

use crate::drop_reason::DropReason;
use crate::fanout::ring::{RingConsumer, RingProducer, ring};
use crate::ingress::packet::MediaPacket;
use crate::ingress::source::{SenderReport, SourceId};
use crate::message::{CoreId, ProducerId};

/// Slots of each ring between two cores. 1024 packets are 100 ms of 10,000 packets/s, far more than
/// a core may stall; each slot costs 1.7 KiB.
pub const RING_SLOTS: usize = 1024;

/// Messages taken from one ring in one turn, so that no core can starve this one's own clients.
pub const MAX_PIPED_PER_TURN: usize = 128;

/// Bytes of a packet in a slot: an RTP packet within any MTU that matters to WebRTC.
pub const SLOT_BYTES: usize = 1600;

/// What a slot means.
#[derive(Debug, Clone, Copy)]
pub enum PipeMessage {
    /// Nothing yet.
    Empty,
    /// A packet of a producer; its bytes are in the slot.
    Packet {
        /// Whose.
        producer: ProducerId,
        /// What it is.
        packet: MediaPacket,
    },
    /// A sender report of a producer's encoding.
    SenderReport {
        /// Whose.
        producer: ProducerId,
        /// Which encoding.
        encoding: u8,
        /// Which source of it.
        source: SourceId,
        /// The newest report; `None`: the one before no longer counts.
        report: Option<SenderReport>,
    },
    /// A consumer on the sending core needs a key frame of a producer at home on the receiving one.
    KeyFrameRequest {
        /// Whose.
        producer: ProducerId,
        /// Which encoding.
        encoding: u8,
    },
}

/// One slot of a ring between cores, filled in place.
pub struct PipeSlot {
    /// What it means.
    pub message: PipeMessage,
    /// Bytes of the packet in use.
    pub len: u16,
    /// The packet.
    pub bytes: [u8; SLOT_BYTES],
}

impl PipeSlot {
    fn new() -> Self {
        PipeSlot { message: PipeMessage::Empty, len: 0, bytes: [0; SLOT_BYTES] }
    }
}

/// One core's ends of all rings.
#[derive(Default)]
pub struct Links {
    outgoing: Vec<Option<RingProducer<PipeSlot>>>,
    incoming: Vec<Option<RingConsumer<PipeSlot>>>,
    taken: Vec<usize>,
    /// Bit per core; a server has at most 128.
    wake: u128,
}

/// Makes the rings between `cores` cores: one [`Links`] each.
pub fn connect(cores: usize) -> Vec<Links> {
    let mut links: Vec<Links> = (0..cores)
        .map(|_| Links {
            outgoing: (0..cores).map(|_| None).collect(),
            incoming: (0..cores).map(|_| None).collect(),
            taken: vec![0; cores],
            wake: 0,
        })
        .collect();
    for from in 0..cores {
        for to in (0..cores).filter(|&to| to != from) {
            let (producer, consumer) = ring(RING_SLOTS, PipeSlot::new);
            links[from].outgoing[to] = Some(producer);
            links[to].incoming[from] = Some(consumer);
        }
    }
    links
}

impl Links {
    /// Sends a message, with a packet's bytes, to another core. Never blocks.
    pub fn send(
        &mut self,
        to: CoreId,
        message: PipeMessage,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let Some(Some(ring)) = self.outgoing.get_mut(usize::from(to.0)) else {
            return Err(DropReason::RingFull);
        };
        if bytes.len() > SLOT_BYTES {
            return Err(DropReason::TooLarge);
        }
        ring.push_with(|slot| {
            slot.message = message;
            slot.len = bytes.len() as u16;
            slot.bytes[..bytes.len()].copy_from_slice(bytes);
        })
        .map_err(|_| DropReason::RingFull)?;
        self.wake |= 1_u128.checked_shl(to.0.into()).unwrap_or(0);
        Ok(())
    }

    /// The cores that were sent something since the last call.
    pub fn take_wake(&mut self) -> impl Iterator<Item = CoreId> + use<> {
        let mut mask = std::mem::take(&mut self.wake);
        std::iter::from_fn(move || {
            let core = mask.trailing_zeros();
            (core < u128::BITS).then(|| {
                mask &= mask - 1;
                CoreId(core as u8)
            })
        })
    }

    /// How many cores there are.
    pub fn cores(&self) -> usize {
        self.incoming.len()
    }

    /// Takes up what waits from `core`, at most [`MAX_PIPED_PER_TURN`]; how many slots that is.
    pub fn take(&mut self, core: usize) -> usize {
        let Some(Some(ring)) = self.incoming.get_mut(core) else { return 0 };
        let taken = ring.len().min(MAX_PIPED_PER_TURN);
        self.taken[core] = taken;
        taken
    }

    /// A slot taken up from `core` in this turn.
    pub fn slot(&mut self, core: usize, slot: usize) -> Option<&mut PipeSlot> {
        if slot >= *self.taken.get(core)? {
            return None;
        }
        Some(self.incoming.get_mut(core)?.as_mut()?.slot(slot))
    }

    /// Gives back all slots taken up in this turn.
    pub fn release(&mut self) {
        for (ring, taken) in self.incoming.iter_mut().zip(&mut self.taken) {
            if let Some(ring) = ring {
                ring.release(std::mem::take(taken));
            }
        }
    }

    /// Whether something waits.
    pub fn has_work(&mut self) -> bool {
        self.incoming.iter_mut().flatten().any(|ring| !ring.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_ring_refuses_and_never_blocks() {
        let mut links = connect(2);
        let mut second = links.pop().unwrap();
        let mut first = links.pop().unwrap();
        for _ in 0..RING_SLOTS {
            first.send(CoreId(1), PipeMessage::Empty, b"x").unwrap();
        }
        assert_eq!(first.send(CoreId(1), PipeMessage::Empty, b"x"), Err(DropReason::RingFull));
        assert_eq!(first.take_wake().collect::<Vec<_>>(), [CoreId(1)]);
        assert_eq!(first.take_wake().count(), 0);

        assert_eq!(second.take(0), MAX_PIPED_PER_TURN);
        assert_eq!(second.slot(0, 3).map(|slot| slot.len), Some(1));
        assert!(second.slot(0, MAX_PIPED_PER_TURN).is_none());
        second.release();
        assert!(first.send(CoreId(1), PipeMessage::Empty, b"x").is_ok());
    }

    #[test]
    fn the_last_of_128_cores_is_woken() {
        let mut links = Links { outgoing: (0..128).map(|_| None).collect(), ..Links::default() };
        let (producer, _consumer) = ring(1, PipeSlot::new);
        links.outgoing[127] = Some(producer);
        links.send(CoreId(127), PipeMessage::Empty, &[]).unwrap();
        assert_eq!(links.take_wake().collect::<Vec<_>>(), [CoreId(127)]);
    }

    #[test]
    fn a_packet_too_large_for_a_slot_is_named_so() {
        let mut links = connect(2);
        let sent = links[0].send(CoreId(1), PipeMessage::Empty, &[0; SLOT_BYTES + 1]);
        assert_eq!(sent, Err(DropReason::TooLarge));
    }
}
