//! One producer that is recorded: the highest of its encodings that arrives, changed only where
//! decoding can begin.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::time::Duration;

use opencall_dataplane::ingress::packet::MediaPacket;
use opencall_dataplane::ingress::source::{SenderReport, SourceId};
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::time::Time;

use crate::depacketize::Frame;
use crate::lane::{Got, Lane};
use crate::message::TrackConfig;

/// An encoding of which nothing came for so long does not arrive.
const SILENT: Duration = Duration::from_secs(1);

/// How often a key frame is asked for that does not come; the home core limits it besides.
const ASK_AGAIN: Duration = Duration::from_millis(1_000);

/// Gaps, and spans of silence, that are listed; further ones are counted only.
pub const MAX_SPANS: usize = 1_000;

/// What is older than this has come, of a track of which nothing is missing: what the sink and the
/// data core need for a packet.
const SETTLED: Duration = Duration::from_millis(100);

/// A frame of a track.
#[derive(Debug)]
pub struct TrackFrame {
    /// It.
    pub frame: Frame,
    /// Its codec.
    pub codec: Codec,
    /// When it was, milliseconds from the recording's zero.
    pub at_ms: u64,
}

/// A stretch of time, milliseconds from the recording's zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// When it began.
    pub from_ms: u64,
    /// When it ended, if it did.
    pub to_ms: Option<u64>,
}

/// One producer.
#[derive(Debug)]
pub struct Track {
    /// What control said.
    pub config: TrackConfig,
    lanes: Vec<Lane>,
    /// The lane that is recorded.
    current: usize,
    asked: Option<Time>,
    zero: Time,
    last_ms: Option<u64>,
    /// Something is missing since the frame of this time.
    gap_from: Option<u64>,
    /// Where something is missing.
    pub gaps: Vec<Span>,
    /// When it was paused.
    pub muted: Vec<Span>,
    /// Packets that never came.
    pub lost: u64,
    got: VecDeque<Got>,
}

impl Track {
    /// A new one, of a recording that began at `zero`.
    pub fn new(now: Time, config: TrackConfig, zero: Time) -> Self {
        let lanes = (0..config.encodings.max(1)).map(|_| Lane::new()).collect();
        let mut track = Track {
            lanes,
            current: 0,
            asked: None,
            zero,
            last_ms: None,
            gap_from: None,
            gaps: Vec::new(),
            muted: Vec::new(),
            lost: 0,
            got: VecDeque::new(),
            config,
        };
        if track.config.muted {
            track.begin_span_of_silence(now);
        }
        track
    }

    fn ms(&self, at: Time) -> u64 {
        at.since(self.zero).as_millis() as u64
    }

    fn begin_span_of_silence(&mut self, now: Time) {
        if self.muted.len() < MAX_SPANS {
            self.muted.push(Span { from_ms: self.ms(now), to_ms: None });
        }
    }

    /// It was paused or resumed.
    pub fn set_muted(&mut self, now: Time, muted: bool) {
        if std::mem::replace(&mut self.config.muted, muted) == muted {
            return;
        }
        if muted {
            return self.begin_span_of_silence(now);
        }
        let ms = self.ms(now);
        if let Some(span) = self.muted.last_mut() {
            span.to_ms.get_or_insert(ms);
        }
        self.lanes.iter_mut().for_each(Lane::pause);
        (self.asked, self.gap_from) = (None, None);
    }

    /// Takes a packet.
    pub fn push(&mut self, now: Time, packet: &MediaPacket, bytes: &[u8]) {
        let index = usize::from(packet.encoding);
        let target = self.target(now);
        let Some(lane) = self.lanes.get_mut(index) else { return };
        match index == self.current || index == target || index > target {
            true => lane.push(now, packet, bytes),
            false => lane.note(now, packet),
        }
    }

    /// Takes a sender report.
    pub fn set_report(&mut self, encoding: u8, source: SourceId, report: Option<SenderReport>) {
        if let Some(lane) = self.lanes.get_mut(usize::from(encoding)) {
            lane.set_report(source, report);
        }
    }

    /// The highest encoding that arrives.
    fn target(&self, now: Time) -> usize {
        let arrives = |lane: &Lane| lane.last_packet().is_some_and(|at| now.since(at) < SILENT);
        self.lanes.iter().rposition(arrives).unwrap_or(self.current)
    }

    /// The encoding that is to be asked for a key frame now, if one is.
    pub fn wants_key_frame(&mut self, now: Time) -> Option<u8> {
        if self.config.kind == MediaKind::Audio || self.config.muted {
            return None;
        }
        let target = self.target(now);
        let waits = target != self.current || self.lanes[target].waits_for_key();
        if !waits || self.asked.is_some_and(|asked| now.since(asked) < ASK_AGAIN) {
            return None;
        }
        self.asked = Some(now);
        Some(target as u8)
    }

    /// All frames that are complete by now, in order.
    pub fn poll(&mut self, now: Time, mut take: impl FnMut(TrackFrame)) {
        let target = self.target(now);
        for index in 0..self.lanes.len() {
            let mut got = std::mem::take(&mut self.got);
            self.lanes[index].poll(now, &self.config.payload_types, &mut got);
            for got in got.drain(..) {
                match got {
                    Got::Lost(count) if index == self.current => self.note_lost(count),
                    Got::Lost(_) => {}
                    Got::Frame { frame, codec, at, after_hole } => {
                        if index != self.current {
                            if index != target || !frame.key {
                                continue;
                            }
                            self.lanes[self.current].clear();
                            self.current = index;
                        }
                        let at_ms = self.place(at, after_hole);
                        take(TrackFrame { frame, codec, at_ms });
                    }
                }
            }
            self.got = got;
        }
    }

    fn note_lost(&mut self, count: u64) {
        self.lost += count;
        self.gap_from = self.gap_from.or(self.last_ms);
        self.asked = None;
    }

    /// The file cannot go on without a key frame: what would have been written was dropped.
    pub fn break_off(&mut self) {
        self.gap_from = self.gap_from.or(self.last_ms);
        if self.config.kind == MediaKind::Video {
            self.lanes[self.current].clear();
            self.asked = None;
        }
    }

    /// The frame's time: after the one before, whatever clocks say.
    fn place(&mut self, at: Time, after_hole: bool) -> u64 {
        let at_ms = self.ms(at).max(self.last_ms.map_or(0, |last| last + 1));
        self.last_ms = Some(at_ms);
        if after_hole
            && let Some(from_ms) = self.gap_from.take()
            && self.gaps.len() < MAX_SPANS
        {
            self.gaps.push(Span { from_ms, to_ms: Some(at_ms) });
        }
        at_ms
    }

    /// Up to when all frames are here, milliseconds: no earlier one will come.
    pub fn settled_ms(&self, now: Time) -> u64 {
        if self.lanes[self.current].is_blocked() {
            return self.last_ms.unwrap_or(0);
        }
        self.ms(now - SETTLED)
    }
}
