//! The stage: producers of which control says whose packets they carry, so that a large room has a
//! few of them for everyone instead of everyone's.
//!
//! A producer of the stage lives on one core. There the packets of its present source are copied
//! into it, with its own numbers, wherever they come from; whatever takes them sees an ordinary
//! producer whose encodings begin another source now and then. A source of pictures is taken with a
//! key frame, so that until it comes the one before goes on; one of sound with its next packet.
//!
//! Worked trace of one encoding; B's key frame is its 70:
//!
//! ```text
//! from      A 10  A 11  |B?  A 12  B 69  A 13  B 70*  A 14  B 71  B 73  B 72
//! goes on   500   501        502   —     503   504    —     505   507   506
//! source    1     1          1           1     2            2     2     2
//! ```
//!
//! Senders' wall clocks differ. Reports of a source are told in the server's clock, for all streams
//! of one sender by the same difference, so that all of the stage is of one clock and lips stay
//! with voices.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::codec::MediaKind;
use opencall_wire::mtu::RING_SLOT_BYTES;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::{NtpTime, Time};

use crate::checkpoint::{Instant, SourceCheckpoint};
use crate::core::Core;
use crate::drop_reason::DropReason;
use crate::fanout::PacketRef;
use crate::ingress::packet::MediaPacket;
use crate::ingress::producer::Producer;
use crate::ingress::source::{SenderReport, Source, SourceId};
use crate::ingress::stream_table::needs_key_frame;
use crate::layers::allocation::MAX_ENCODINGS;
use crate::message::{CoreId, Event, ProducerId};
use crate::sender_clock::SenderClock;
use crate::store::ProducerKey;

/// For so long a key frame of the next source is waited for while the present one goes on: four
/// requests. Then control is told that the present one stays.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whose packets a producer of the stage carries, at its home.
#[derive(Debug, Default)]
pub struct Stage {
    /// The present source.
    source: Option<ProducerKey>,
    /// The next one, and since when it is waited for.
    next: Option<(ProducerKey, Time)>,
    tracks: [Track; MAX_ENCODINGS],
}

/// The numbers of one encoding.
#[derive(Debug, Clone, Copy, Default)]
struct Track {
    /// Which source of the present producer's encoding it follows.
    of: Option<SourceId>,
    /// The first number of that.
    floor: u64,
    /// What is added to its numbers, wrapping.
    offset: u64,
    /// One above the highest number that went on.
    end: u64,
}

impl Track {
    /// The number under which a packet goes on; `None` if it is of before the track began.
    fn number(&mut self, sequence: ExtendedSeq) -> Option<ExtendedSeq> {
        if sequence.0 < self.floor {
            return None;
        }
        let number = sequence.0.wrapping_add(self.offset);
        self.end = self.end.max(number.wrapping_add(1));
        Some(ExtendedSeq(number))
    }

    /// Begins with this packet of a source.
    fn begin(&mut self, of: SourceId, first: ExtendedSeq) {
        self.of = Some(of);
        self.floor = first.0;
        self.offset = self.end.wrapping_sub(first.0);
    }
}

impl Producer {
    /// Takes its place on the stage, at home: after all numbers and sources that a core before has
    /// used.
    pub fn enter_stage(&mut self) {
        let mut stage = Box::<Stage>::default();
        for (index, encoding) in (0..).zip(&mut self.encodings) {
            let before = self.checkpoint.encoding(index).and_then(|before| before.source());
            if let (Some(before), Some(track)) = (before, stage.tracks.get_mut(usize::from(index)))
            {
                track.end = before.highest.0 + 1;
                encoding.source = Source::new(before.id.next());
            }
        }
        self.stage = Some(stage);
    }

    /// Whether its next source may begin with this packet.
    fn may_begin_with(&self, packet: &MediaPacket) -> bool {
        packet.info.key_frame || self.kind == MediaKind::Audio || !needs_key_frame(self.codec)
    }
}

impl Core {
    /// Whose packets a producer of the stage is to carry; `None`: nobody's. And whose it carries
    /// already, should this core not know that: those of nobody else are to be had until then.
    pub(crate) fn set_stage(
        &mut self,
        now: Time,
        stage: ProducerId,
        [source, shown]: [Option<ProducerId>; 2],
    ) {
        let Some(&key) = self.index.producers.get(&stage) else { return };
        if source.is_some() && shown != source {
            self.show_again(key, shown);
        }
        let source = match source.map(|source| self.index.producers.get(&source)) {
            Some(Some(&source)) if source != key => Some(source),
            Some(_) => return,
            None => None,
        };
        self.leave_next(key);
        let Some(stage) = &mut self.producers[key].stage else { return };
        let Some(next) = source else {
            if let Some(present) = stage.source.take() {
                self.producers[present].stages.retain(|other| *other != key);
            }
            return;
        };
        if stage.source == Some(next) {
            return;
        }
        stage.next = Some((next, now));
        self.producers[next].stages.push(key);
        if self.producers[key].kind == MediaKind::Video {
            self.request_key_frames_of_source(now, next);
        }
    }

    /// A producer of the stage that carries nobody here goes on with whom it carried on a core
    /// before. Who watches waits for a key frame anyway.
    fn show_again(&mut self, key: ProducerKey, shown: Option<ProducerId>) {
        let is_empty = self.producers[key].stage.as_ref().is_some_and(|of| of.source.is_none());
        let shown = shown.and_then(|shown| self.index.producers.get(&shown)).copied();
        let Some(shown) = shown.filter(|&shown| is_empty && shown != key) else { return };
        self.leave_next(key);
        self.producers[shown].stages.push(key);
        self.take_source(key, shown);
    }

    /// A producer of the stage lives elsewhere from now on, or here. Its consumers stay: to them it
    /// goes on with another source.
    pub(crate) fn move_stage(&mut self, stage: ProducerId, home: CoreId) {
        let Some(&key) = self.index.producers.get(&stage) else { return };
        let producer = &mut self.producers[key];
        // Here that is said of what is another's only: who has it already goes on.
        if producer.home == home || producer.transport.is_some() {
            return;
        }
        producer.home = home;
        for encoding in &mut producer.encodings {
            encoding.source.relayed_at = None;
        }
        if home == self.id {
            producer.enter_stage();
        }
    }

    /// Asks for the key frame with which a source can be taken: of what arrives, and of the lowest
    /// encoding, which a sender that nobody watches sends.
    fn request_key_frames_of_source(&mut self, now: Time, source: ProducerKey) {
        for index in 0..self.producers[source].encodings.len() {
            if index == 0 || self.producers[source].encodings[index].is_active(now) {
                self.request_key_frame(source, index as u8);
            }
        }
    }

    /// A producer of the stage no longer waits for its next source.
    fn leave_next(&mut self, key: ProducerKey) {
        let Some(stage) = &mut self.producers[key].stage else { return };
        if let Some((next, _)) = stage.next.take() {
            self.producers[next].stages.retain(|other| *other != key);
        }
    }

    /// A producer is removed: whatever it was to the stage, it no longer is.
    pub(crate) fn forget_on_stage(&mut self, key: ProducerKey, removed: &Producer) {
        for &stage in &removed.stages {
            let Some(of) = self.producers.get_mut(stage).and_then(|of| of.stage.as_mut()) else {
                continue;
            };
            of.source = of.source.filter(|source| *source != key);
            of.next = of.next.filter(|(next, _)| *next != key);
        }
        let Some(stage) = &removed.stage else { return };
        for source in stage.source.into_iter().chain(stage.next.map(|(next, _)| next)) {
            if let Some(source) = self.producers.get_mut(source) {
                source.stages.retain(|other| *other != key);
            }
        }
    }

    /// Asks for the key frame of a producer of the stage where that comes from; `false` if it is
    /// not of the stage, or this is not its home.
    pub(crate) fn ask_sources_of_stage(&mut self, key: ProducerKey, index: u8) -> bool {
        let Some(producer) = self.producers.get_mut(key) else { return false };
        let Some(stage) = &producer.stage else { return false };
        let sources = [stage.source, stage.next.map(|(next, _)| next)];
        if let Some(encoding) = producer.encodings.get_mut(usize::from(index)) {
            encoding.key_frame_asked = false;
        }
        for source in sources.into_iter().flatten() {
            self.request_key_frame(source, index);
        }
        true
    }

    /// Hands a packet on to the producers of the stage that carry it.
    #[cold]
    #[inline(never)]
    pub(crate) fn spread_on_stage(
        &mut self,
        now: Time,
        key: ProducerKey,
        at: PacketRef,
        packet: &MediaPacket,
        bytes: &[u8],
    ) {
        for index in 0.. {
            let Some(&stage) = self.producers[key].stages.get(index) else { return };
            if self.takes_next(stage, key, packet) {
                self.take_source(stage, key);
            }
            self.review_patience(now, stage);
            let Some(packet) = self.number_on_stage(now, stage, key, packet) else { continue };
            self.hand_on(now, stage, at, &packet, bytes);
        }
    }

    /// The same of a packet that another core sent.
    #[cold]
    #[inline(never)]
    pub(crate) fn spread_piped_on_stage(
        &mut self,
        now: Time,
        key: ProducerKey,
        (core, slot): (usize, usize),
        packet: &MediaPacket,
    ) {
        let mut copy = [0; RING_SLOT_BYTES];
        let Some(entry) = self.links.slot(core, slot) else { return };
        let len = usize::from(entry.len).min(copy.len());
        copy[..len].copy_from_slice(&entry.bytes[..len]);
        let at = PacketRef::Piped { core: core as u8, slot: slot as u16 };
        self.spread_on_stage(now, key, at, packet, &copy[..len]);
    }

    /// Whether the next source is taken with this packet.
    fn takes_next(&self, stage: ProducerKey, key: ProducerKey, packet: &MediaPacket) -> bool {
        let producer = &self.producers[stage];
        let next = producer.stage.as_ref().and_then(|stage| stage.next);
        next.is_some_and(|(next, _)| next == key)
            && usize::from(packet.encoding) < producer.encodings.len()
            && !packet.payload().is_empty()
            && producer.may_begin_with(packet)
    }

    /// A producer of the stage has another source: nothing that was known of the one before is true
    /// of it, on any core.
    fn take_source(&mut self, key: ProducerKey, source: ProducerKey) {
        let Some(stage) = &mut self.producers[key].stage else { return };
        stage.next = None;
        for track in &mut stage.tracks {
            track.of = None;
        }
        let before = stage.source.replace(source);
        if let Some(before) = before.filter(|before| *before != source) {
            self.producers[before].stages.retain(|other| *other != key);
        }
        let known: Vec<_> = self.producers[source]
            .encodings
            .iter()
            .map(|encoding| (encoding.max_bitrate_bps, encoding.source.known_bps))
            .collect();
        let id = self.producers[source].id;
        let producer = &mut self.producers[key];
        for (index, encoding) in producer.encodings.iter_mut().enumerate() {
            encoding.source = Source::new(encoding.source.id.next());
            (encoding.max_bitrate_bps, encoding.source.known_bps) =
                known.get(index).copied().unwrap_or_default();
            encoding.asked_by = Default::default();
        }
        producer.sent_encodings = known.len();
        let stage = producer.id;
        for index in 0..self.producers[key].encodings.len() {
            self.report_on_stage(key, source, index);
        }
        self.events.push_back(Event::StageTaken { stage, source: id });
    }

    /// The next source has been waited for long enough.
    fn review_patience(&mut self, now: Time, key: ProducerKey) {
        let Some(stage) = &self.producers[key].stage else { return };
        let (Some(_), Some((next, since))) = (stage.source, stage.next) else { return };
        if now.since(since) >= PATIENCE {
            self.leave_next(key);
            let (stage, source) = (self.producers[key].id, self.producers[next].id);
            self.events.push_back(Event::StageRefused { stage, source });
        }
    }

    /// A packet of a source as the stage has it; `None` if it is not of the present one, or of
    /// before it was taken.
    fn number_on_stage(
        &mut self,
        now: Time,
        key: ProducerKey,
        source: ProducerKey,
        packet: &MediaPacket,
    ) -> Option<MediaPacket> {
        let index = usize::from(packet.encoding);
        let stage = self.producers[key].stage.as_mut().filter(|of| of.source == Some(source))?;
        let track = stage.tracks.get_mut(index)?;
        if track.of.is_some_and(|of| of != packet.source && !packet.source.is_after(of)) {
            self.stats.drops.count(DropReason::BeforeStage);
            return None;
        }
        let begins = track.of != Some(packet.source);
        let goes_on_with_another = begins && track.of.is_some();
        if begins {
            track.begin(packet.source, packet.sequence);
        }
        let Some(sequence) = track.number(packet.sequence) else {
            self.stats.drops.count(DropReason::BeforeStage);
            return None;
        };
        let is_newest = sequence.0 + 1 == track.end;
        let encoding = self.producers[key].encodings.get_mut(index)?;
        if goes_on_with_another {
            encoding.source = Source::new(encoding.source.id.next());
        }
        let packet = MediaPacket { sequence, source: encoding.source.id, ..*packet };
        if is_newest && let Some(word) = self.producers[key].checkpoint.encoding(packet.encoding) {
            word.note(SourceCheckpoint {
                ssrc: packet.header.ssrc,
                id: packet.source,
                origin: 0,
                highest: sequence,
                newest: Instant::new(now, packet.header.timestamp),
            });
        }
        if begins {
            self.report_on_stage(key, source, index);
        }
        Some(packet)
    }

    /// Tells the producers of the stage that carry an encoding of its newest report.
    pub(crate) fn report_to_stages(&mut self, key: ProducerKey, index: usize) {
        for at in 0..self.producers[key].stages.len() {
            let stage = self.producers[key].stages[at];
            let source = self.producers[stage].stage.as_ref().and_then(|stage| stage.source);
            if source == Some(key) {
                self.report_on_stage(stage, key, index);
            }
        }
    }

    /// Takes over the newest report of a source's encoding, here and on other cores.
    fn report_on_stage(&mut self, key: ProducerKey, source: ProducerKey, index: usize) {
        let of = self.producers[source].encodings.get(index);
        let report = of.and_then(|encoding| encoding.source.newest_report());
        let report = report.map(|report| self.in_our_clock(report));
        let Some(encoding) = self.producers[key].encodings.get_mut(index) else { return };
        encoding.on_sender_report(encoding.source.id, report);
        self.pipe_source(key, index);
    }

    /// A report of a sender's clock as one of ours: as if the timeliest of the sender's reports had
    /// not travelled at all.
    fn in_our_clock(&self, report: SenderReport) -> SenderReport {
        let ours = self.clock.ntp(report.received).0.wrapping_sub(report.late_by as u64);
        let clock = SenderClock { ntp: NtpTime(ours), ..report.clock };
        SenderReport { clock, late_by: 0, ..report }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_over_sources_and_none_is_used_twice() {
        let mut track = Track { end: 504, ..Track::default() };
        let (first, second) = (SourceId::FIRST, SourceId::FIRST.next());
        track.begin(first, ExtendedSeq(70));
        let numbers = [70, 69, 71, 73, 72].map(|number| track.number(ExtendedSeq(number)));
        let expected = [Some(504), None, Some(505), Some(507), Some(506)];
        assert_eq!(numbers, expected.map(|number| number.map(ExtendedSeq)));
        track.begin(second, ExtendedSeq(3));
        assert_eq!(track.number(ExtendedSeq(3)), Some(ExtendedSeq(508)));
        assert_eq!((track.of, track.number(ExtendedSeq(2))), (Some(second), None));
    }
}
