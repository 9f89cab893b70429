//! Bad links of single participants: what they send and what they receive goes through an emulated
//! link each way, inside the generator, so that some suffer while others show whether they suffer
//! with them.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use opencall_emulator::{Impairment, LinkConfig};

/// Datagrams under way on all links at most. A second of 100 participants at 2 Mbit/s each way is
/// half of that; beyond it the generator would only grow, and more are lost.
const MAX_UNDER_WAY: usize = 1 << 16;

/// How many have a bad link.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// So many: those who come first.
    Count(u32),
    /// A part of all, 0 to 1, chosen by the seed.
    Part(f64),
}

impl Share {
    /// Reads `5` or `20%`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text} is neither a number of participants nor a share as in 20%");
        match text.strip_suffix('%') {
            None => text.parse().map(Share::Count).map_err(|_| wrong()),
            Some(percent) => match percent.parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Share::Part(percent / 100.0)),
                _ => Err(wrong()),
            },
        }
    }
}

/// Who has a bad link, and how bad it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BadLinks {
    /// From the participant to the server.
    pub up: LinkConfig,
    /// From the server to the participant.
    pub down: LinkConfig,
    /// How many have one.
    pub share: Share,
    /// The same seed treats the same packets the same way.
    pub seed: u64,
}

impl BadLinks {
    /// Whether this participant has one.
    pub fn has(&self, participant: u32) -> bool {
        match self.share {
            Share::Count(count) => participant < count,
            // The golden ratio spreads any number of participants evenly.
            Share::Part(part) => {
                let turn = 0x9e37_79b9_7f4a_7c15_u64;
                let place = (u64::from(participant).wrapping_add(self.seed)).wrapping_mul(turn);
                (place >> 11) as f64 / ((1_u64 << 53) as f64) < part
            }
        }
    }
}

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// To the server.
    Up,
    /// To the participant.
    Down,
}

/// A datagram that has come through.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Through {
    /// When, nanoseconds on the engine's clock.
    pub at_ns: u64,
    /// Keeps those of one moment in their order.
    order: u64,
    /// Which way it went.
    pub way: Way,
    /// Whose it is.
    pub transport: u32,
    /// The datagram.
    pub bytes: Vec<u8>,
}

struct Link {
    up: Impairment,
    down: Impairment,
}

/// The links of all who have a bad one.
pub struct Links {
    config: Option<BadLinks>,
    /// By participant: both of its transports share one link.
    links: BTreeMap<u32, Link>,
    /// The participant of each transport on a bad link.
    transports: BTreeMap<u32, u32>,
    under_way: BinaryHeap<Reverse<Through>>,
    order: u64,
    overflowed: u64,
}

impl Links {
    /// Links as described; without a description all are good.
    pub fn new(config: Option<BadLinks>) -> Self {
        Links {
            config,
            links: BTreeMap::new(),
            transports: BTreeMap::new(),
            under_way: BinaryHeap::new(),
            order: 0,
            overflowed: 0,
        }
    }

    /// Puts a participant's transport on its link; whether that is a bad one.
    pub fn add(&mut self, transport: u32, participant: u32) -> bool {
        let Some(config) = self.config.filter(|config| config.has(participant)) else {
            return false;
        };
        let seed = config.seed.wrapping_add(u64::from(participant) << 1);
        self.links.entry(participant).or_insert_with(|| Link {
            up: Impairment::new(config.up, seed),
            down: Impairment::new(config.down, seed.wrapping_add(1)),
        });
        self.transports.insert(transport, participant);
        true
    }

    /// Forgets a transport, and its link with its last one.
    pub fn remove(&mut self, transport: u32) {
        let Some(participant) = self.transports.remove(&transport) else { return };
        if !self.transports.values().any(|&other| other == participant) {
            self.links.remove(&participant);
        }
    }

    /// A datagram enters a bad link.
    pub fn offer(&mut self, way: Way, transport: u32, at_ns: u64, bytes: &[u8]) {
        let Some(link) = self.transports.get(&transport).and_then(|p| self.links.get_mut(p)) else {
            return;
        };
        let direction = match way {
            Way::Up => &mut link.up,
            Way::Down => &mut link.down,
        };
        for arrival in direction.offer(Duration::from_nanos(at_ns), bytes.len()) {
            if self.under_way.len() >= MAX_UNDER_WAY {
                self.overflowed += 1;
                continue;
            }
            self.order += 1;
            let at_ns = u64::try_from(arrival.as_nanos()).unwrap_or(u64::MAX);
            let (order, bytes) = (self.order, bytes.to_vec());
            self.under_way.push(Reverse(Through { at_ns, order, way, transport, bytes }));
        }
    }

    /// The next datagram that has come through by now.
    pub fn pop(&mut self, now_ns: u64) -> Option<Through> {
        let Reverse(first) = self.under_way.peek()?;
        if first.at_ns > now_ns {
            return None;
        }
        self.under_way.pop().map(|Reverse(through)| through)
    }

    /// When the next one comes through.
    pub fn next_due(&self) -> Option<u64> {
        self.under_way.peek().map(|Reverse(through)| through.at_ns)
    }

    /// Datagrams for which there was no room.
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn links(down: LinkConfig) -> BadLinks {
        BadLinks { up: LinkConfig::default(), down, share: Share::Count(2), seed: 1 }
    }

    #[test]
    fn a_share_is_a_number_or_a_percentage() {
        assert_eq!(Share::parse("3"), Ok(Share::Count(3)));
        assert_eq!(Share::parse("25%"), Ok(Share::Part(0.25)));
        for wrong in ["", "x", "-1", "101%", "%", "nan%"] {
            assert!(Share::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_is_met_whatever_the_seed() {
        for seed in 0..20 {
            let share = Share::Part(0.2);
            let links = BadLinks { share, seed, ..links(LinkConfig::default()) };
            let count = (0..500).filter(|&participant| links.has(participant)).count();
            assert!((95..=105).contains(&count), "{count}");
        }
    }

    #[test]
    fn only_transports_of_the_chosen_are_on_a_bad_link() {
        let mut all = Links::new(Some(links(LinkConfig::default())));
        assert!(all.add(10, 0) && all.add(11, 0) && all.add(12, 1) && !all.add(13, 2));
        all.remove(10);
        assert_eq!(all.links.len(), 2);
        all.remove(11);
        assert_eq!(all.links.len(), 1);
        all.offer(Way::Up, 11, 0, b"from one who left");
        assert_eq!(all.next_due(), None);
        assert!(!Links::new(None).add(10, 0));
    }

    #[test]
    fn what_enters_comes_out_later_and_in_order() {
        let delay = Duration::from_millis(30);
        let mut all = Links::new(Some(links(LinkConfig { delay, ..Default::default() })));
        all.add(5, 0);
        all.offer(Way::Down, 5, 1000 * MS, b"one");
        all.offer(Way::Down, 5, 1000 * MS, b"two");
        assert_eq!((all.next_due(), all.pop(1029 * MS)), (Some(1030 * MS), None));
        let came: Vec<Vec<u8>> =
            std::iter::from_fn(|| all.pop(1030 * MS)).map(|through| through.bytes).collect();
        assert_eq!(came, [b"one", b"two"]);
        assert_eq!(all.overflowed(), 0);
    }

    #[test]
    fn a_bottleneck_is_shared_by_both_transports_of_a_participant() {
        let slow = LinkConfig { rate_bps: Some(8_000_000), ..LinkConfig::default() };
        let mut all = Links::new(Some(links(slow)));
        all.add(5, 0);
        all.add(6, 0);
        all.add(7, 1);
        for transport in [5, 6, 7] {
            all.offer(Way::Down, transport, 0, &[0; 1000]);
        }
        let came: Vec<(u64, u32)> = std::iter::from_fn(|| all.pop(10 * MS))
            .map(|through| (through.at_ns / MS, through.transport))
            .collect();
        assert_eq!(came, [(1, 5), (1, 7), (2, 6)]);
    }
}
