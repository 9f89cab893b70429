//! One encoding of a track: its packets in order, made into frames with times.
#![forbid(unsafe_code)]

use std::collections::VecDeque;

use opencall_dataplane::ingress::packet::MediaPacket;
use opencall_dataplane::ingress::source::{SenderReport, SourceId};
use opencall_dataplane::message::PayloadTypeMapping;
use opencall_wire::codec::Codec;
use opencall_wire::time::Time;

use crate::depacketize::{Depacketizer, Frame};
use crate::reorder::{Out, Packet, Reorder};
use crate::timeline::Timeline;

/// What a lane gives.
#[derive(Debug)]
pub enum Got {
    /// A frame.
    Frame {
        /// It.
        frame: Frame,
        /// Its codec.
        codec: Codec,
        /// When it was.
        at: Time,
        /// It follows a hole, or is the first.
        after_hole: bool,
    },
    /// So many packets never came.
    Lost(u64),
}

/// One encoding.
#[derive(Debug, Default)]
pub struct Lane {
    reorder: Reorder,
    depacketizer: Option<(Codec, Depacketizer)>,
    timeline: Option<(u16, Timeline)>,
    /// The newest report, and of which source.
    report: Option<(u16, SenderReport)>,
    /// When the first packet of the frame that is put together came.
    frame_began: Option<Time>,
    /// Frames are of no use until one with which decoding can begin.
    waits_for_key: bool,
    after_hole: bool,
    last_packet: Option<Time>,
}

impl Lane {
    /// One that waits for a key frame.
    pub fn new() -> Self {
        Lane { waits_for_key: true, after_hole: true, ..Lane::default() }
    }

    /// When a packet came last.
    pub fn last_packet(&self) -> Option<Time> {
        self.last_packet
    }

    /// Notes that a packet came. Padding alone, which probes the sender's path, is no sign that the
    /// encoding is still sent.
    pub fn note(&mut self, now: Time, packet: &MediaPacket) {
        if !packet.payload().is_empty() {
            self.last_packet = Some(now);
        }
    }

    /// Takes a packet.
    pub fn push(&mut self, now: Time, packet: &MediaPacket, bytes: &[u8]) {
        self.note(now, packet);
        let Some(payload) = bytes.get(packet.payload()) else { return };
        let taken = Packet {
            arrived: now,
            timestamp: packet.header.timestamp,
            marker: packet.header.marker,
            payload_type: packet.header.payload_type,
            source: packet.source.number(),
            payload: payload.into(),
        };
        self.reorder.push(packet.sequence, taken);
    }

    /// Takes a sender report of a source; `None`: the one before no longer counts.
    pub fn set_report(&mut self, source: SourceId, report: Option<SenderReport>) {
        self.report = report.map(|report| (source.number(), report));
        if let Some((of, timeline)) = &mut self.timeline
            && *of == source.number()
        {
            timeline.set_report(report);
        }
    }

    /// Whether it waits for a key frame.
    pub fn waits_for_key(&self) -> bool {
        self.waits_for_key
    }

    /// Whether packets wait for one that is missing.
    pub fn is_blocked(&self) -> bool {
        self.reorder.is_blocked()
    }

    /// Nothing was sent for a while.
    pub fn pause(&mut self) {
        self.reorder.expect_hole();
        self.interrupt();
    }

    /// Forgets what waits.
    pub fn clear(&mut self) {
        self.reorder.clear();
        self.interrupt();
    }

    fn interrupt(&mut self) {
        if let Some((_, depacketizer)) = &mut self.depacketizer {
            depacketizer.reset();
        }
        (self.frame_began, self.waits_for_key, self.after_hole) = (None, true, true);
    }

    /// All that is in order by now.
    pub fn poll(&mut self, now: Time, mappings: &[PayloadTypeMapping], got: &mut VecDeque<Got>) {
        while let Some(out) = self.reorder.pop(now) {
            match out {
                Out::Lost(count) => {
                    self.interrupt();
                    got.push_back(Got::Lost(count));
                }
                Out::Packet(packet) => {
                    if let Some(frame) = self.take(&packet, mappings) {
                        got.push_back(frame);
                    }
                }
            }
        }
    }

    fn take(&mut self, packet: &Packet, mappings: &[PayloadTypeMapping]) -> Option<Got> {
        if packet.payload.is_empty() {
            return None;
        }
        let mapping = mappings.iter().find(|of| of.router == packet.payload_type)?;
        let codec = mapping.codec;
        if self.timeline.as_ref().is_none_or(|(source, _)| *source != packet.source) {
            if self.timeline.is_some() {
                self.interrupt();
            }
            let mut timeline = Timeline::new(mapping.clock_rate_hz);
            let report = self.report.filter(|(source, _)| *source == packet.source);
            timeline.set_report(report.map(|(_, report)| report));
            self.timeline = Some((packet.source, timeline));
        }
        if self.depacketizer.as_ref().is_none_or(|(of, _)| *of != codec) {
            self.interrupt();
            self.depacketizer = Some((codec, Depacketizer::new(codec)?));
        }
        let (_, depacketizer) = self.depacketizer.as_mut()?;
        let began = *self.frame_began.get_or_insert(packet.arrived);
        let frame = match depacketizer.push(packet.timestamp, packet.marker, &packet.payload) {
            Ok(frame) => frame?,
            Err(_) => {
                self.interrupt();
                return None;
            }
        };
        self.frame_began = None;
        let (_, timeline) = self.timeline.as_mut()?;
        let at = timeline.at(packet.timestamp, began);
        if self.waits_for_key && !frame.key {
            return None;
        }
        self.waits_for_key = false;
        let after_hole = std::mem::take(&mut self.after_hole);
        Some(Got::Frame { frame, codec, at, after_hole })
    }
}
