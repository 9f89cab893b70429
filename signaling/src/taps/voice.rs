//! One voice: its packets in order, numbered, with times.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use opencall_control::tap::message::VoiceConfig;
use opencall_dataplane::ingress::packet::MediaPacket;
use opencall_recorder::reorder::{Out, Packet, Reorder};
use opencall_wire::codec::Codec;
use opencall_wire::time::Time;

use super::line::{Frame, VoiceName};

/// How long a packet waits for one before it. A caption is shown within two seconds; a word without
/// a fiftieth of a second of it is understood.
const WAIT: Duration = Duration::from_millis(100);

/// Of Opus, whatever its bandwidth (RFC 7587).
const TICKS_PER_SECOND: u64 = 48_000;

/// One voice.
pub struct Voice {
    config: VoiceConfig,
    /// Whose it is, and what it is called.
    pub name: Arc<VoiceName>,
    order: Reorder,
    began: Time,
    next_chunk: u64,
    /// Source, timestamp and time of the last frame.
    last: Option<(u16, u32, u64)>,
}

impl Voice {
    /// A new one, the so-manieth of a tap that began then.
    pub fn new(config: VoiceConfig, number: u64, began: Time) -> Self {
        let tag = format!("{}-{number}", config.participant);
        let json = serde_json::Value::from(tag.as_str()).to_string();
        let participant = Arc::clone(&config.participant);
        Voice {
            config,
            name: Arc::new(VoiceName { tag, json, participant }),
            order: Reorder::waiting(WAIT),
            began,
            next_chunk: 0,
            last: None,
        }
    }

    /// Nothing was sent for a while.
    pub fn resume(&mut self) {
        self.order.expect_hole();
    }

    /// Takes a packet; `false` if it is no Opus.
    pub fn push(
        &mut self,
        now: Time,
        packet: &MediaPacket,
        bytes: &[u8],
        frames: &mut Vec<Frame>,
    ) -> bool {
        let payload_type = packet.header.payload_type;
        let mut mappings = self.config.payload_types.iter();
        let is_opus = mappings.any(|of| of.router == payload_type && of.codec == Codec::Opus);
        let Some(payload) = bytes.get(packet.payload()).filter(|_| is_opus) else { return false };
        let taken = Packet {
            arrived: now,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload_type,
            source: packet.source.number(),
            payload: payload.into(),
        };
        match self.order.pass(packet.sequence) {
            true => frames.push(self.frame(taken)),
            false => {
                self.order.push(packet.sequence, taken);
            }
        }
        true
    }

    /// What is in order by now; how many packets before it never came.
    pub fn poll(&mut self, now: Time, frames: &mut Vec<Frame>) -> u64 {
        let mut lost = 0;
        while let Some(out) = self.order.pop(now) {
            match out {
                Out::Lost(count) => {
                    lost += count;
                    self.next_chunk += count;
                }
                Out::Packet(packet) => frames.push(self.frame(packet)),
            }
        }
        lost
    }

    fn frame(&mut self, packet: Packet) -> Frame {
        let arrived = packet.arrived.since(self.began).as_millis() as u64;
        let by_arrival = arrived * TICKS_PER_SECOND / 1_000;
        let timestamp = match self.last {
            // Within a source its own clock counts.
            Some((source, last, at)) if source == packet.source => {
                let passed = packet.timestamp.wrapping_sub(last) as i32;
                at.saturating_add_signed(passed.into())
            }
            _ => by_arrival,
        };
        self.last = Some((packet.source, packet.timestamp, timestamp));
        let chunk = self.next_chunk;
        self.next_chunk += 1;
        let voice = Arc::clone(&self.name);
        Frame { voice, chunk, timestamp, payload: packet.payload, arrived: packet.arrived }
    }
}
