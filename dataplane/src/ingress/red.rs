//! Sound that comes as RED (RFC 2198): taken apart where it comes in, so that everything behind
//! sees Opus, and packets that were lost on the way here go on out of those that repeat them.
//!
//! A repetition tells its timestamp and not its number. Between the numbers and timestamps that are
//! known it has its place.
//!
//! Worked trace of 20 ms packets; each repeats the two before it, 12 and 15 to 16 are lost:
//!
//! ```text
//! arrives        10      11      13                14      17
//! timestamp       0     960    2880              3840    6720
//! repeats         –       0     960, 1920  1920, 2880    4800, 5760
//! goes on        10      11      12 13             14      15 16 17
//! ```
#![forbid(unsafe_code)]

use opencall_wire::codec::Codec;
use opencall_wire::rtp::extension::ExtensionSpans;
use opencall_wire::rtp::red::{MAX_REPETITIONS, RedPayload};
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;
use smallvec::SmallVec;

use crate::core::Core;
use crate::drop_reason::DropReason;
use crate::fanout::PacketRef;
use crate::ingress::packet::MediaPacket;
use crate::ingress::receive_stats::ArrivalKind;
use crate::ingress::stream_table::StreamRef;
use crate::store::TransportKey;

/// Packets whose timestamps are known: those that may be repeated, and one before them.
const KNOWN_PACKETS: usize = (MAX_REPETITIONS + 1).next_power_of_two();

/// What a packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    /// Of Opus, however long.
    Sound,
    /// Nothing: it probed the link, and has the timestamp of the last sound before it.
    Padding,
}

/// Numbers and timestamps of the last packets of a source.
#[derive(Debug, Clone, Default)]
pub struct RedTimeline {
    known: [Option<(ExtendedSeq, u32, Carries)>; KNOWN_PACKETS],
}

impl RedTimeline {
    /// Notes a packet.
    pub fn note(&mut self, sequence: ExtendedSeq, timestamp: u32, carries: Carries) {
        let place = &mut self.known[(sequence.0 % KNOWN_PACKETS as u64) as usize];
        if place.is_none_or(|(held, ..)| held < sequence) {
            *place = Some((sequence, timestamp, carries));
        }
    }

    /// The number of a packet that is not known and has this timestamp; `None` if it is known, or
    /// nothing is missing there, or it could be one of several.
    fn missing_at(&self, timestamp: u32) -> Option<ExtendedSeq> {
        let mut below: Option<(u64, u32)> = None;
        let mut above: Option<(u64, u32)> = None;
        for &(ExtendedSeq(sequence), known, carries) in self.known.iter().flatten() {
            match timestamp.wrapping_sub(known) as i32 {
                0 if carries == Carries::Sound => return None,
                1.. if below.is_none_or(|(highest, _)| sequence > highest) => {
                    below = Some((sequence, known));
                }
                // Padding of this timestamp came after its sound.
                ..=0 if above.is_none_or(|(lowest, _)| sequence < lowest) => {
                    above = Some((sequence, known));
                }
                _ => {}
            }
        }
        let ((first, from), (last, to)) = below.zip(above)?;
        let steps = u32::try_from(last.checked_sub(first)?).ok()?;
        let (span, offset) = (to.wrapping_sub(from), timestamp.wrapping_sub(from));
        let nth = match steps {
            0 | 1 => return None,
            // Whatever its length.
            2 => 1,
            // Of several all must be of one length, as they are unless a pause is among them.
            _ if !span.is_multiple_of(steps) || !offset.is_multiple_of(span / steps) => {
                return None;
            }
            _ => offset / (span / steps),
        };
        (0 < nth && nth < steps).then(|| ExtendedSeq(first + u64::from(nth)))
    }
}

impl Core {
    /// Takes a packet apart: what it repeats and was missing goes on before it. `packet` is as it
    /// came.
    #[cold]
    #[inline(never)]
    pub(super) fn on_red(
        &mut self,
        now: Time,
        (transport, stream): (TransportKey, StreamRef),
        at: PacketRef,
        mut packet: MediaPacket,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let base = packet.payload_start;
        let payload = bytes.get(packet.payload()).ok_or(DropReason::RedMalformed)?;
        if payload.is_empty() {
            self.note_red(stream, &packet, Carries::Padding);
            self.forward(now, stream.producer, at, &packet, bytes);
            return Ok(());
        }
        let red = RedPayload::parse(payload).ok_or(DropReason::RedMalformed)?;
        let streams = &self.transports[transport].streams;
        let router = packet.header.payload_type;
        let is_opus = |payload_type| {
            let of = streams.payload_type(stream.producer, payload_type);
            of.is_some_and(|of| {
                of.mapping.codec == Codec::Opus && of.mapping.router == router && !of.rtx
            })
        };
        if !is_opus(red.own.payload_type) {
            return Err(DropReason::RedMalformed);
        }
        let repeated: SmallVec<[_; 4]> = red
            .repetitions()
            .iter()
            .filter(|block| block.timestamp_offset > 0 && !block.range().is_empty())
            .filter(|block| is_opus(block.payload_type))
            .copied()
            .collect();
        let own = red.own.range();
        let whole = packet;
        (packet.payload_start, packet.payload_end) =
            (base + own.start as u16, base + own.end as u16);
        self.note_red(stream, &packet, Carries::Sound);
        for block in repeated {
            let timestamp = whole.header.timestamp.wrapping_sub(block.timestamp_offset.into());
            let Some(sequence) = self.take_repeated(now, transport, stream, timestamp) else {
                continue;
            };
            // A packet that repeats many makes as many for everyone who gets them.
            if !self.producers[stream.producer].received.admit(now, block.range().len()) {
                self.stats.drops.count(DropReason::IngressRate);
                continue;
            }
            let (mut header, range) = (whole.header, block.range());
            (header.sequence, header.timestamp) = (sequence.wire(), timestamp);
            header.marker = false;
            let repeated = MediaPacket {
                header,
                // They tell of the packet that repeats it.
                extensions: ExtensionSpans::default(),
                payload_start: base + range.start as u16,
                payload_end: base + range.end as u16,
                sequence,
                ..whole
            };
            self.note_red(stream, &repeated, Carries::Sound);
            self.forward(now, stream.producer, at, &repeated, bytes);
        }
        self.forward(now, stream.producer, at, &packet, bytes);
        Ok(())
    }

    fn note_red(&mut self, stream: StreamRef, packet: &MediaPacket, carries: Carries) {
        if let Some(home) = self.home_of(stream) {
            let timeline = home.source.red.get_or_insert_default();
            timeline.note(packet.sequence, packet.header.timestamp, carries);
        }
    }

    /// The number of a packet that is missing at this timestamp: it is no more.
    fn take_repeated(
        &mut self,
        now: Time,
        transport: TransportKey,
        stream: StreamRef,
        timestamp: u32,
    ) -> Option<ExtendedSeq> {
        let asks = self.producers[stream.producer].feedback.nack;
        let source = &mut self.home_of(stream)?.source;
        let sequence = source.red.as_ref()?.missing_at(timestamp)?;
        let arrival = source.receive.on_repaired(sequence.wire());
        if arrival.kind == ArrivalKind::Duplicate {
            return None;
        }
        if asks {
            source.nack.on_packet(now, arrival.extended);
            let due = source.nack.next_timeout();
            self.schedule(transport, due);
        }
        Some(arrival.extended)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known, a timestamp, and the number that is missing there.
    type Case<'a> = (&'a [(u64, u32)], u32, Option<u64>);

    /// A timeline that knows these, of sound.
    fn timeline(known: &[(u64, u32)]) -> RedTimeline {
        let mut timeline = RedTimeline::default();
        for &(sequence, timestamp) in known {
            timeline.note(ExtendedSeq(sequence), timestamp, Carries::Sound);
        }
        timeline
    }

    #[test]
    fn a_repetition_finds_its_place_beside_padding() {
        let sound = [(10, 0), (13, 1920), (17, 2880), (20, 4800)];
        // Behind it, before it, and both: padding has the timestamp of the sound before it.
        let padding = [(11, 0), (14, 1920), (15, 1920), (16, 1920), (19, 3840)];
        let mut both = timeline(&sound);
        for (sequence, timestamp) in padding {
            both.note(ExtendedSeq(sequence), timestamp, Carries::Padding);
        }
        for (timestamp, wanted) in [(960, Some(12)), (3840, Some(18)), (1920, None), (0, None)] {
            let found = both.missing_at(timestamp).map(|sequence| sequence.0);
            assert_eq!(found, wanted, "{timestamp}");
        }
        // Without: it lies as if there were three of sound.
        assert_eq!(timeline(&sound).missing_at(960), None);
    }

    #[test]
    fn a_repetition_finds_its_place_between_what_is_known() {
        let even = [(10, 0), (11, 960), (13, 2880), (14, 3840), (17, 6720)];
        // 20 ms, then 10 ms and a pause of 400 ms.
        let uneven = [(10, 0), (12, 19_680), (15, 25_000)];
        let wrapping = [(10, u32::MAX - 959), (12, 960)];
        let table: [Case<'_>; 13] = [
            (&even, 1920, Some(12)),
            (&even, 960, None),
            (&even, 4800, Some(15)),
            (&even, 5760, Some(16)),
            (&even, 5000, None),
            (&even, 480, None),
            (&even, 7680, None),
            (&even, 0_u32.wrapping_sub(960), None),
            (&uneven, 480, Some(11)),
            (&uneven, 20_640, None),
            (&wrapping, 0, Some(11)),
            (&[], 960, None),
            (&[(10, 0)], 960, None),
        ];
        for (known, timestamp, wanted) in table {
            let found = timeline(known).missing_at(timestamp).map(|sequence| sequence.0);
            assert_eq!(found, wanted, "{timestamp} in {known:?}");
        }
    }

    #[test]
    fn what_nobody_would_send_names_nothing_or_something_between() {
        let mut random = opencall_wire::rtp::test_support::Random(7);
        for _ in 0..100_000 {
            let mut known = Vec::new();
            for _ in 0..random.below(6) {
                known.push((random.below(40) as u64, (random.bits() as u32) % 40_000));
            }
            let timestamp = (random.bits() as u32) % 40_000;
            if let Some(found) = timeline(&known).missing_at(timestamp) {
                let numbers = || known.iter().map(|(sequence, _)| *sequence);
                assert!(numbers().any(|of| of < found.0) && numbers().any(|of| of > found.0));
            }
        }
    }

    #[test]
    fn old_packets_do_not_take_the_place_of_newer_ones() {
        let mut timeline = timeline(&[(0, 0), (KNOWN_PACKETS as u64, 30_720)]);
        timeline.note(ExtendedSeq(0), 5, Carries::Sound);
        let newer = (ExtendedSeq(KNOWN_PACKETS as u64), 30_720, Carries::Sound);
        assert_eq!(timeline.known[0], Some(newer));
    }
}
