//! The rings between this core and the others, and what travels in them.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use opencall_io::ring::{RingConsumer, RingProducer, ring};
use opencall_wire::mtu::RING_SLOT_BYTES;

use crate::drop_reason::DropReason;
use crate::ingress::packet::MediaPacket;
use crate::ingress::source::{SourceId, SourceNews};
use crate::message::{Command, CoreId, ProducerId};

/// Slots of each ring between two cores. 1024 packets are 100 ms of 10,000 packets/s, far more than
/// a core may stall; each slot costs 1.7 KiB.
pub const RING_SLOTS: usize = 1024;

/// Messages taken from one ring in one turn, so that no core can starve this one's own clients.
pub const MAX_PIPED_PER_TURN: usize = 128;

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
    /// What is known at home of the source of a producer's encoding.
    Source {
        /// Whose.
        producer: ProducerId,
        /// Which encoding.
        encoding: u8,
        /// Which source of it.
        source: SourceId,
        /// What is known.
        news: SourceNews,
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
    pub bytes: [u8; RING_SLOT_BYTES],
}

impl PipeSlot {
    fn new() -> Self {
        PipeSlot { message: PipeMessage::Empty, len: 0, bytes: [0; RING_SLOT_BYTES] }
    }
}

/// One core's ends of its rings to and from another.
pub struct Link {
    outgoing: RingProducer<PipeSlot>,
    incoming: RingConsumer<PipeSlot>,
}

impl Link {
    /// The rings between two cores: an end for each. They take 3.4 MiB.
    pub fn pair() -> (Link, Link) {
        Self::pair_of(RING_SLOTS)
    }

    /// The same with so many slots in each ring.
    fn pair_of(slots: usize) -> (Link, Link) {
        let (there, from_here) = ring(slots, PipeSlot::new);
        let (back, from_there) = ring(slots, PipeSlot::new);
        (
            Link { outgoing: there, incoming: from_there },
            Link { outgoing: back, incoming: from_here },
        )
    }
}

/// One core's links to the others, made when the first producer crosses: see [`Mesh`].
#[derive(Default)]
pub struct Links {
    links: Vec<Option<Link>>,
    taken: Vec<usize>,
    /// The cores that it is linked to: a turn looks at no others.
    linked: Vec<u8>,
    /// Bit per core; a server has at most [`MAX_CORES`](crate::message::MAX_CORES).
    wake: u128,
}

/// Links all of `cores` cores at once.
pub fn connect(cores: usize) -> Vec<Links> {
    let mut all: Vec<Links> = (0..cores).map(|_| Links::default()).collect();
    for from in 0..cores {
        for to in from + 1..cores {
            let (here, there) = Link::pair();
            all[from].attach(CoreId(to as u8), here);
            all[to].attach(CoreId(from as u8), there);
        }
    }
    all
}

/// Which cores are linked. A full mesh of 32 cores would take 1.6 GiB, and most rooms are on one.
#[derive(Debug)]
pub struct Mesh {
    linked: BTreeSet<(CoreId, CoreId)>,
    slots: usize,
}

impl Default for Mesh {
    fn default() -> Self {
        Self::with_slots(RING_SLOTS)
    }
}

impl Mesh {
    /// Nothing is linked yet; rings will have so many slots. Few of them fill soon: for
    /// simulations.
    pub fn with_slots(slots: usize) -> Self {
        Mesh { linked: BTreeSet::new(), slots }
    }

    /// What is to be sent before `command` goes to `core`: the ends of a new link, if it opens the
    /// first pipe between two cores.
    pub fn link_for(&mut self, core: CoreId, command: &Command) -> Option<[(CoreId, Command); 2]> {
        let &Command::OpenPipe { to, .. } = command else { return None };
        let pair = (CoreId(core.0.min(to.0)), CoreId(core.0.max(to.0)));
        if core == to || !self.linked.insert(pair) {
            return None;
        }
        let (here, there) = Link::pair_of(self.slots);
        Some([
            (core, Command::AttachLink { to, link: Box::new(here) }),
            (to, Command::AttachLink { to: core, link: Box::new(there) }),
        ])
    }

    /// Forgets the links of a core that has ended; what is to be sent to those that had one.
    pub fn forget(&mut self, core: CoreId) -> Vec<(CoreId, Command)> {
        let ended = self.linked.extract_if(.., |&(a, b)| a == core || b == core);
        let others = ended.map(|(a, b)| if a == core { b } else { a });
        others.map(|other| (other, Command::DetachLink(core))).collect()
    }
}

impl Links {
    /// Adds the link to a core, in place of an older one. Not within a turn.
    pub fn attach(&mut self, to: CoreId, link: Link) {
        let index = usize::from(to.0);
        if self.links.len() <= index {
            self.links.resize_with(index + 1, || None);
            self.taken.resize(index + 1, 0);
        }
        self.links[index] = Some(link);
        if !self.linked.contains(&to.0) {
            self.linked.push(to.0);
        }
    }

    /// Removes the link to a core: what waits in it is lost. Not within a turn.
    pub fn detach(&mut self, core: CoreId) {
        if let Some(link) = self.links.get_mut(usize::from(core.0)) {
            *link = None;
        }
        self.linked.retain(|other| *other != core.0);
    }

    /// Sends a message, with a packet's bytes, to another core. Never blocks.
    pub fn send(
        &mut self,
        to: CoreId,
        message: PipeMessage,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let Some(Some(link)) = self.links.get_mut(usize::from(to.0)) else {
            return Err(DropReason::CoreNotLinked);
        };
        if bytes.len() > RING_SLOT_BYTES {
            return Err(DropReason::TooLarge);
        }
        let pushed = link.outgoing.push_with(|slot| {
            slot.message = message;
            slot.len = bytes.len() as u16;
            slot.bytes[..bytes.len()].copy_from_slice(bytes);
        });
        pushed.map_err(|_| DropReason::RingFull)?;
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

    /// The index of the core that it is linked to at this place, from 0 on without gaps.
    pub fn linked(&self, place: usize) -> Option<usize> {
        self.linked.get(place).map(|core| usize::from(*core))
    }

    /// Takes up what waits from `core`, at most [`MAX_PIPED_PER_TURN`]; how many slots that is.
    pub fn take(&mut self, core: usize) -> usize {
        let Some(Some(link)) = self.links.get_mut(core) else { return 0 };
        let taken = link.incoming.len().min(MAX_PIPED_PER_TURN);
        self.taken[core] = taken;
        taken
    }

    /// A slot taken up from `core` in this turn.
    pub fn slot(&mut self, core: usize, slot: usize) -> Option<&mut PipeSlot> {
        if slot >= *self.taken.get(core)? {
            return None;
        }
        Some(self.links.get_mut(core)?.as_mut()?.incoming.slot(slot))
    }

    /// Gives back all slots taken up in this turn.
    pub fn release(&mut self) {
        for core in self.linked.iter().map(|core| usize::from(*core)) {
            let taken = std::mem::take(&mut self.taken[core]);
            if let Some(link) = &mut self.links[core] {
                link.incoming.release(taken);
            }
        }
    }

    /// Takes up and gives back what waits, at most so many batches of each core: for the far ends
    /// of pipes that are no cores, and make no turns.
    pub fn drain(&mut self, batches: usize, mut take: impl FnMut(&PipeSlot)) {
        for place in 0.. {
            let Some(core) = self.linked(place) else { return };
            for _ in 0..batches {
                let taken = self.take(core);
                if taken == 0 {
                    break;
                }
                for index in 0..taken {
                    if let Some(slot) = self.slot(core, index) {
                        take(slot);
                    }
                }
                self.release();
            }
        }
    }

    /// Whether something waits.
    pub fn has_work(&mut self) -> bool {
        let Links { links, linked, .. } = self;
        linked.iter().any(|core| {
            let link = links.get_mut(usize::from(*core)).and_then(Option::as_mut);
            link.is_some_and(|link| !link.incoming.is_empty())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::SINK;

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
        let mut links = Links::default();
        let (here, _there) = Link::pair();
        links.attach(CoreId(127), here);
        links.send(CoreId(127), PipeMessage::Empty, &[]).unwrap();
        assert_eq!(links.take_wake().collect::<Vec<_>>(), [CoreId(127)]);
    }

    #[test]
    fn a_turn_looks_at_the_linked_and_the_sink_is_not_woken() {
        let mut links = Links::default();
        let looked_at = |links: &Links| (0..).map_while(|place| links.linked(place)).collect();
        let mut far = Vec::new();
        for core in [SINK, CoreId(2), CoreId(2), CoreId(5)] {
            let (here, there) = Link::pair();
            links.attach(core, here);
            far.push(there);
        }
        let all: Vec<usize> = looked_at(&links);
        assert_eq!(all, [usize::from(SINK.0), 2, 5]);
        links.send(SINK, PipeMessage::Empty, &[]).unwrap();
        assert_eq!(links.take_wake().count(), 0);
        far[3].outgoing.push_with(|_| ()).unwrap();
        assert!(links.has_work());
        links.detach(CoreId(5));
        links.detach(CoreId(9));
        let left: Vec<usize> = looked_at(&links);
        assert_eq!((left, links.has_work()), (vec![usize::from(SINK.0), 2], false));
    }

    fn open(to: u8) -> Command {
        Command::OpenPipe { producer: ProducerId(1), to: CoreId(to) }
    }

    fn attached(links: &mut [Links], commands: impl IntoIterator<Item = (CoreId, Command)>) {
        for (core, command) in commands {
            let links = &mut links[usize::from(core.0)];
            match command {
                Command::AttachLink { to, link } => links.attach(to, *link),
                Command::DetachLink(core) => links.detach(core),
                _ => panic!("another command"),
            }
        }
    }

    #[test]
    fn two_cores_are_linked_once_by_whichever_pipe_is_first() {
        let mut mesh = Mesh::default();
        assert!(mesh.link_for(CoreId(0), &Command::CloseProducer(ProducerId(1))).is_none());
        assert!(mesh.link_for(CoreId(0), &open(0)).is_none(), "a core needs no link to itself");
        let mut links = [Links::default(), Links::default(), Links::default()];
        assert_eq!(
            links[2].send(CoreId(0), PipeMessage::Empty, b"x"),
            Err(DropReason::CoreNotLinked)
        );
        attached(&mut links, mesh.link_for(CoreId(2), &open(0)).unwrap());
        assert!(mesh.link_for(CoreId(0), &open(2)).is_none());
        assert!(mesh.link_for(CoreId(2), &open(0)).is_none());
        links[2].send(CoreId(0), PipeMessage::Empty, b"x").unwrap();
        links[0].send(CoreId(2), PipeMessage::Empty, b"yy").unwrap();
        assert_eq!((links[0].take(2), links[2].take(0)), (1, 1));
        assert_eq!(links[2].slot(0, 0).map(|slot| slot.len), Some(2));
        assert!(!links[1].has_work());
    }

    #[test]
    fn a_core_that_ended_is_linked_anew() {
        let mut mesh = Mesh::default();
        let mut links = [Links::default(), Links::default(), Links::default()];
        attached(&mut links, mesh.link_for(CoreId(0), &open(1)).unwrap());
        attached(&mut links, mesh.link_for(CoreId(2), &open(1)).unwrap());
        attached(&mut links, mesh.link_for(CoreId(0), &open(2)).unwrap());
        links[1] = Links::default();
        attached(&mut links, mesh.forget(CoreId(1)));
        for core in [0, 2] {
            let sent = links[core].send(CoreId(1), PipeMessage::Empty, b"x");
            assert_eq!(sent, Err(DropReason::CoreNotLinked));
        }
        links[0].send(CoreId(2), PipeMessage::Empty, b"x").unwrap();
        attached(&mut links, mesh.link_for(CoreId(1), &open(0)).unwrap());
        links[0].send(CoreId(1), PipeMessage::Empty, b"x").unwrap();
        assert_eq!(links[1].take(0), 1);
    }

    #[test]
    fn a_packet_too_large_for_a_slot_is_named_so() {
        let mut links = connect(2);
        let sent = links[0].send(CoreId(1), PipeMessage::Empty, &[0; RING_SLOT_BYTES + 1]);
        assert_eq!(sent, Err(DropReason::TooLarge));
    }
}
