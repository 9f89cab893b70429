//! A receiver as libwebrtc has it: puts pictures together from packets, whatever their order, and
//! decodes one if all of it is there and the picture it refers to was decoded; by TL0PICIDX (VP8), by
//! the distances of picture ids (VP9), by sequence numbers without a gap (H.264 and AV1 without
//! descriptors). Otherwise it waits, and asks for a key frame.

use std::collections::BTreeMap;
use std::time::Duration;

use opencall_dataplane::message::Codec;
use opencall_dataplane::time::Time;

use super::packets::{assemble, read};
use crate::world::Received;

/// A receiver that decodes nothing for so long asks for a key frame.
const PATIENCE: Duration = Duration::from_millis(400);

/// Packets kept.
const MOST: usize = 600;

struct Packet {
    timestamp: u32,
    marker: bool,
    payload: Vec<u8>,
}

/// A picture to be decoded.
pub struct Decodable {
    pub key: bool,
    pub bytes: Vec<u8>,
}

/// Where decoding stands.
#[derive(Clone, Copy)]
struct Decoded {
    /// Sequence number of its last packet.
    end: i64,
    picture_id: u16,
    tl0: u8,
}

pub struct Receiver {
    codec: Codec,
    packets: BTreeMap<i64, Packet>,
    highest: Option<i64>,
    decoded: Option<Decoded>,
    /// When it decoded last, and asked last.
    content_since: Time,
}

impl Receiver {
    pub fn new(codec: Codec, now: Time) -> Self {
        Receiver {
            codec,
            packets: BTreeMap::new(),
            highest: None,
            decoded: None,
            content_since: now,
        }
    }

    /// Takes a packet; returns what can be decoded with it, in order.
    pub fn receive(&mut self, now: Time, packet: &Received) -> Vec<Decodable> {
        if packet.payload.is_empty() {
            return Vec::new();
        }
        let highest = self.highest.unwrap_or(packet.header.sequence.into());
        let step = packet.header.sequence.wrapping_sub(highest as u16) as i16;
        let number = highest + i64::from(step);
        self.highest = Some(highest.max(number));
        let (timestamp, marker) = (packet.header.timestamp, packet.header.marker);
        let kept = Packet { timestamp, marker, payload: packet.payload.clone() };
        self.packets.insert(number, kept);
        while self.packets.len() > MOST {
            self.packets.pop_first();
        }
        let decodable: Vec<Decodable> = std::iter::from_fn(|| self.next()).collect();
        if !decodable.is_empty() {
            self.content_since = now;
        }
        decodable
    }

    /// Whether to ask for a key frame.
    pub fn is_stuck(&mut self, now: Time) -> bool {
        let stuck = now.since(self.content_since) >= PATIENCE;
        if stuck {
            self.content_since = now;
        }
        stuck
    }

    /// The first whole picture that can be decoded now.
    fn next(&mut self) -> Option<Decodable> {
        let (range, key) = self
            .packets
            .iter()
            .filter(|(_, packet)| packet.marker)
            .find_map(|(&end, _)| self.picture_that_ends_at(end))?;
        let first = &self.packets[range.start()].payload;
        let numbers = read(self.codec, first).numbers;
        self.decoded = Some(Decoded {
            end: *range.end(),
            picture_id: numbers.map_or(0, |numbers| numbers.picture_id),
            tl0: numbers.map_or(0, |numbers| numbers.tl0),
        });
        let payloads = self.packets.range(range.clone()).map(|(_, packet)| &packet.payload[..]);
        let bytes = assemble(self.codec, payloads);
        // What is older than the newest decoded picture is of no use.
        self.packets = self.packets.split_off(&(range.end() + 1));
        Some(Decodable { key, bytes })
    }

    /// The packets of the picture with this marker, and whether it is a key picture, if it is whole
    /// and decodable.
    fn picture_that_ends_at(&self, end: i64) -> Option<(std::ops::RangeInclusive<i64>, bool)> {
        let timestamp = self.packets[&end].timestamp;
        let mut start = end;
        loop {
            let packet = self.packets.get(&start).filter(|packet| packet.timestamp == timestamp)?;
            let part = read(self.codec, &packet.payload);
            let follows = self.decoded.is_some_and(|decoded| decoded.end + 1 == start);
            if part.key && part.begins {
                return Some((start..=end, true));
            }
            let continues = match (part.numbers, self.decoded) {
                (_, None) => false,
                (None, Some(_)) => follows,
                (Some(_), _) if !part.begins => false,
                (Some(numbers), Some(decoded)) if self.codec == Codec::Vp8 => {
                    numbers.tl0 == decoded.tl0.wrapping_add(1)
                }
                (Some(numbers), Some(decoded)) => {
                    numbers.picture_id == (decoded.picture_id + 1) & 0x7fff
                }
            };
            if continues {
                return Some((start..=end, false));
            }
            if part.begins {
                return None;
            }
            start -= 1;
        }
    }
}
