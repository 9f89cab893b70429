//! One source: what an encoding is made of from the first packet of an SSRC until another SSRC
//! takes its place, or its numbers jump because the sender began anew.
//!
//! Whatever is learned from the packets and reports of a source is true of that source only: how
//! its clock runs, what is missing of it, which pictures it announced, how much of it comes. All of
//! that lies in one object here ([`Source`] on each core, [`HomeSource`] at home), and a new source
//! gets a new one.
//!
//! Worked trace of an encoding's sources:
//!
//! ```text
//! SSRC     0x1000 … 0x1000  0x2000  0x1000 (late)  0x2000  0x2000  0x2000
//! number      500 …    530   40000            529   40001     100     101
//! source    first …  first  second        refused  second  refused  third
//! ```
//!
//! A step back is believed with the second packet in a row (RFC 3550 section A.1), an SSRC at once:
//! its packets name their stream.
#![forbid(unsafe_code)]

use std::num::NonZeroU16;
use std::time::Duration;

use opencall_wire::codec::Codec;
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::rtp::layers::LayerFrame;
use opencall_wire::rtp::payload::{LayerTracker, PayloadInfo, inspect_tracked};
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;

use crate::ingress::key_frame::KeyFrameLimiter;
use crate::ingress::layer_rates::LayerRates;
use crate::ingress::nack::NackGenerator;
use crate::ingress::pace::Pace;
use crate::ingress::receive_stats::ReceiveStats;
use crate::ingress::red::RedTimeline;
use crate::ingress::timeliness::MAX_LATENESS;
use crate::rate::RateMeter;
use crate::sender_clock::SenderClock;

/// Window of a source's bitrate meter: long enough to hold a key frame and its pause.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// A sender report that places the newest packet further than this from where it came is not of
/// this clock: it was late and speaks of what was before a jump, or the timestamps have jumped
/// since. Senders hold packets back for some hundred milliseconds; a link may stall for as long.
pub const MAX_DISAGREEMENT: Duration = Duration::from_secs(1);

/// Packets of the source before are late for so long after the change and never reordered for
/// longer: after that the sender has gone back to it.
const OVERTAKEN: Duration = Duration::from_secs(1);

/// How far below and above the highest number of the source before its late packets lie, where both
/// have one SSRC.
const LATE_PACKETS: (u16, u16) = (2048, 256);

/// Which source of its encoding: rises with each, and wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceId(NonZeroU16);

impl SourceId {
    /// The first of an encoding.
    pub const FIRST: SourceId = SourceId(NonZeroU16::MIN);

    /// The one after.
    #[must_use]
    pub fn next(self) -> Self {
        SourceId(NonZeroU16::new(self.0.get().wrapping_add(1)).unwrap_or(NonZeroU16::MIN))
    }

    /// Its number.
    pub const fn number(self) -> u16 {
        self.0.get()
    }

    /// The one with this number, if there is one.
    pub fn of_number(number: u16) -> Option<Self> {
        NonZeroU16::new(number).map(SourceId)
    }

    /// Whether this one came after the other.
    pub const fn is_after(self, other: SourceId) -> bool {
        self.0.get().wrapping_sub(other.0.get()) as i16 > 0
    }
}

/// A sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// One instant on the sender's two clocks.
    pub clock: SenderClock,
    /// When it arrived at the home core.
    pub received: Time,
    /// By how much it is later than the timeliest report of its sender, 2^-32 s.
    pub late_by: i64,
}

impl SenderReport {
    /// Whether both were made by one wall clock, as far as the travels of reports that come in time
    /// let that be told.
    pub fn is_of_clock_of(self, newer: SenderReport) -> bool {
        newer.later_than(self).unsigned_abs() <= fractions(MAX_LATENESS).unsigned_abs()
    }

    /// By how much this report is later than another of the same clock that arrived before, in
    /// 2^-32 s: what its wall clock lacks to what the other's shows by now.
    pub fn later_than(self, other: SenderReport) -> i64 {
        let shown = self.clock.ntp.0.wrapping_sub(other.clock.ntp.0) as i64;
        fractions(self.received.since(other.received)).wrapping_sub(shown)
    }

    /// Whether a newer one overtook it: both are of one clock, and this one was made before.
    fn was_overtaken_by(self, other: SenderReport) -> bool {
        let behind = other.clock.ntp.0.wrapping_sub(self.clock.ntp.0) as i64;
        behind > 0 && other.is_of_clock_of(self)
    }
}

/// What other cores are told of an encoding's source beside its packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceNews {
    /// The newest sender report; `None`: the one before no longer counts.
    pub report: Option<SenderReport>,
    /// Announced top bitrate, bits per second. Sources of the stage have each their own.
    pub max_bitrate_bps: Option<u32>,
    /// Bits per second when it arrived last.
    pub known_bps: Option<u32>,
    /// How many encodings its producer sends at most.
    pub sent_encodings: u8,
}

/// In 2^-32 s.
pub fn fractions(duration: Duration) -> i64 {
    ((duration.as_nanos() << 32) / 1_000_000_000) as i64
}

/// What every core knows of an encoding's present source.
#[derive(Debug, Clone)]
pub struct Source {
    /// Which one it is.
    pub id: SourceId,
    /// Recent rate.
    pub rate: RateMeter,
    /// Bits per second when it arrived last.
    pub known_bps: Option<u32>,
    /// When a packet of media arrived last.
    pub last_packet: Option<Time>,
    /// The highest number of media.
    highest: Option<ExtendedSeq>,
    /// When its pictures come.
    pub pace: Pace,
    /// RTP timestamp of the newest key frame: its further packets are not counted again.
    pub key_frame_timestamp: Option<u32>,
    /// When it began to arrive.
    pub key_frame_at: Option<Time>,
    /// The newest sender report.
    report: Option<SenderReport>,
    /// When the home core was last asked for a key frame, at the far end of a pipe.
    pub relayed_at: Option<Time>,
    /// What its layers take, where it has several spatial ones inside.
    pub layers: Option<Box<LayerRates>>,
}

impl Source {
    /// A source of which nothing has come.
    pub fn new(id: SourceId) -> Self {
        Source {
            id,
            rate: RateMeter::new(RATE_WINDOW),
            known_bps: None,
            last_packet: None,
            highest: None,
            pace: Pace::default(),
            key_frame_timestamp: None,
            key_frame_at: None,
            report: None,
            relayed_at: None,
            layers: None,
        }
    }

    /// Notes a packet of media; returns whether a picture begins with it.
    ///
    /// What is late by its number says nothing of when pictures come, nor of the clock: it may be
    /// of before a jump.
    #[inline]
    pub fn on_packet(&mut self, now: Time, sequence: ExtendedSeq, timestamp: u32) -> bool {
        self.last_packet = Some(now);
        if self.highest.is_some_and(|highest| sequence < highest) {
            self.pace.on_late_packet();
            return false;
        }
        self.highest = Some(sequence);
        self.pace.on_packet(now, timestamp)
    }

    /// Notes a frame of several spatial layers, of which so many bytes have come; returns whether
    /// it has other layers than before.
    pub fn on_layer_frame(
        &mut self,
        now: Time,
        info: &PayloadInfo,
        frame: &LayerFrame,
        bytes: usize,
    ) -> bool {
        let rates = self.layers.get_or_insert_with(|| Box::new(LayerRates::new(RATE_WINDOW)));
        rates.add(now, info, frame, bytes)
    }

    /// Takes up a sender report, unless a newer one overtook it; returns whether it did.
    pub fn on_report(&mut self, report: SenderReport) -> bool {
        let was_overtaken = self.report.is_some_and(|newest| report.was_overtaken_by(newest));
        if !was_overtaken {
            self.report = Some(report);
        }
        !was_overtaken
    }

    /// Forgets the sender report: another stream of the sender has shown that the clock it speaks
    /// of was set.
    pub fn forget_report(&mut self) {
        self.report = None;
    }

    /// The newest sender report as it came, whether or not it agrees with the packets.
    pub fn newest_report(&self) -> Option<SenderReport> {
        self.report
    }

    /// The newest sender report, if it tells the clock of what arrives.
    pub fn report(&self, clock_rate_hz: u32) -> Option<SenderReport> {
        let report = self.report?;
        let (timestamp, at) = self.pace.newest()?;
        let clock_rate_hz = u64::from(clock_rate_hz);
        let ticks =
            |nanos: u64| (u128::from(nanos) * u128::from(clock_rate_hz) / 1_000_000_000) as u32;
        let elapsed = ticks(at.since(report.received).as_nanos() as u64);
        let early = ticks(report.received.since(at).as_nanos() as u64);
        let expected = report.clock.rtp.wrapping_add(elapsed).wrapping_sub(early);
        let apart = u64::from((expected.wrapping_sub(timestamp) as i32).unsigned_abs());
        (apart <= MAX_DISAGREEMENT.as_secs() * clock_rate_hz).then_some(report)
    }
}

/// What only the home core knows of an encoding's present source.
pub struct HomeSource {
    /// Its SSRC, once seen or announced.
    pub ssrc: Option<u32>,
    /// RFC 3550 statistics.
    pub receive: ReceiveStats,
    /// What is missing.
    pub nack: NackGenerator,
    /// What tells the layers of its frames.
    layers: LayerTracker,
    /// The producer has other encodings: they are its spatial layers, and those inside stay
    /// together.
    is_simulcast: bool,
    /// Merges key-frame requests.
    pub key_frame: KeyFrameLimiter,
    /// RTP timestamp of the picture that began as a key frame last.
    pub key_frame_timestamp: Option<u32>,
    /// What tells the numbers of packets that others repeat; of a source that comes as RED.
    pub red: Option<Box<RedTimeline>>,
    /// What it took the place of.
    replaced: Option<Replaced>,
}

/// The source before.
#[derive(Debug, Clone, Copy)]
struct Replaced {
    ssrc: u32,
    /// Its highest number.
    highest: u16,
    at: Time,
}

impl HomeSource {
    /// A source of which nothing has come, whose RTP clock runs at `clock_rate_hz`, and of which at
    /// most `max_missing` packets are remembered as missing.
    pub fn new(ssrc: Option<u32>, clock_rate_hz: u32, max_missing: usize) -> Self {
        HomeSource {
            ssrc,
            receive: ReceiveStats::new(clock_rate_hz),
            nack: NackGenerator::new(max_missing),
            layers: LayerTracker::default(),
            is_simulcast: false,
            key_frame: KeyFrameLimiter::new(),
            key_frame_timestamp: None,
            red: None,
            replaced: None,
        }
    }

    /// The same of a producer with so many encodings.
    #[must_use]
    pub fn among(mut self, encodings: usize) -> Self {
        self.is_simulcast = encodings > 1;
        self
    }

    /// What a payload is, by itself and as part of this source.
    #[inline(always)]
    pub fn describe(
        &mut self,
        now: Time,
        codec: Codec,
        payload: &[u8],
        header: &RtpHeader,
        descriptor: Option<&[u8]>,
    ) -> PayloadInfo {
        let tracker = &mut self.layers;
        let mut info = inspect_tracked(codec, payload, header.marker, descriptor, tracker);
        if self.is_simulcast {
            info.layers = None;
        }
        if info.key_frame {
            self.key_frame.on_key_frame(now);
            self.key_frame_timestamp = Some(header.timestamp);
        } else if info.starts_inter && self.key_frame_timestamp == Some(header.timestamp) {
            info.false_start = true;
        }
        info
    }

    /// The source that comes after this one: its numbers lie above all of this one's, and it knows
    /// nothing else of it. Its SSRC may not be known yet.
    pub fn successor(&mut self, now: Time, ssrc: Option<u32>) -> Self {
        let old = self.ssrc.zip(self.receive.highest());
        HomeSource {
            ssrc,
            receive: self.receive.successor(),
            nack: self.nack.take_over(),
            layers: LayerTracker::default(),
            is_simulcast: self.is_simulcast,
            key_frame: self.key_frame.take_over(now),
            key_frame_timestamp: None,
            red: None,
            replaced: old.map(|(ssrc, highest)| Replaced {
                ssrc,
                highest: highest.wire(),
                at: now,
            }),
        }
    }

    /// Whether a packet that is not of this source is of the one before, overtaken by this one's.
    pub fn is_overtaken(&self, now: Time, ssrc: u32, sequence: u16) -> bool {
        let Some(old) = self.replaced else { return false };
        let (behind, ahead) = LATE_PACKETS;
        let above_lowest = sequence.wrapping_sub(old.highest.wrapping_sub(behind));
        let is_near = above_lowest <= behind + ahead;
        old.ssrc == ssrc && now.since(old.at) < OVERTAKEN && (is_near || self.ssrc != Some(ssrc))
    }
}

#[cfg(test)]
mod tests {
    use opencall_wire::time::NtpTime;

    use super::*;

    const RATE: u32 = 90_000;

    fn at(ms: u64) -> Time {
        Time::from_millis(ms)
    }

    fn report(received_ms: u64, rtp: u32) -> SenderReport {
        SenderReport {
            clock: SenderClock { ntp: NtpTime(7 << 32), rtp },
            received: at(received_ms),
            late_by: 0,
        }
    }

    #[test]
    fn ids_rise_and_skip_zero_at_the_wrap() {
        let mut id = SourceId::FIRST;
        for _ in 0..70_000 {
            let next = id.next();
            assert!(next.is_after(id) && !id.is_after(next) && !id.is_after(id));
            id = next;
        }
    }

    #[test]
    fn a_report_is_believed_where_it_agrees_with_what_arrives() {
        // The newest picture is RTP 1 000 000, at 10.0 s. (when the report came, its RTP, believed)
        let cases = [
            (10_000, 1_000_000, true),
            (10_500, 1_045_000, true),  // after the picture
            (4_000, 460_000, true),     // six seconds before
            (10_000, 1_090_000, true),  // the sender holds pictures back for a second
            (10_000, 1_090_001, false), // not for longer
            (10_000, 3_000_000_000, false),
            (10_500, 900_000, false), // late, from before a jump of a second and a half
        ];
        for (received, rtp, believed) in cases {
            let mut source = Source::new(SourceId::FIRST);
            source.on_report(report(received, rtp));
            assert_eq!(source.report(RATE), None, "nothing to agree with");
            source.pace.on_packet(at(10_000), 1_000_000);
            assert_eq!(source.report(RATE).is_some(), believed, "{received} {rtp}");
        }
    }

    #[test]
    fn reports_of_one_wall_clock_agree_whatever_their_rtp_clocks_say() {
        let early = report(10_000, 5);
        let at_ntp = |received_ms: u64, seconds: u64| SenderReport {
            clock: SenderClock { ntp: NtpTime(seconds << 32), rtp: 99 },
            received: at(received_ms),
            late_by: 0,
        };
        assert!(early.is_of_clock_of(at_ntp(15_000, 12)));
        assert!(early.is_of_clock_of(at_ntp(15_500, 12)), "half a second late");
        assert!(!early.is_of_clock_of(at_ntp(15_501, 12)), "or set back by a little more");
        assert!(!early.is_of_clock_of(at_ntp(15_000, 17)), "set forward by five seconds");
        assert!(!early.is_of_clock_of(at_ntp(15_000, 7)), "set back");
    }

    #[test]
    fn late_packets_do_not_set_the_clock_back_and_jumps_do() {
        let mut source = Source::new(SourceId::FIRST);
        source.on_report(report(10_000, 1_000_000));
        source.pace.on_packet(at(10_000), 1_000_000);
        source.pace.on_packet(at(10_900), 990_000);
        assert!(source.report(RATE).is_some(), "a late packet");
        source.pace.on_packet(at(10_910), 500_000);
        assert!(source.report(RATE).is_none(), "five and a half seconds back");
    }

    #[test]
    fn what_is_late_by_its_number_does_not_bring_back_the_clock_before_a_jump() {
        let mut source = Source::new(SourceId::FIRST);
        source.on_report(report(10_000, 1_000_000));
        assert!(source.on_packet(at(10_000), ExtendedSeq(70), 1_000_000));
        assert!(source.report(RATE).is_some());
        assert!(source.on_packet(at(10_100), ExtendedSeq(72), 3_000_000_000), "the jump");
        assert!(source.report(RATE).is_none());
        assert!(!source.on_packet(at(10_200), ExtendedSeq(71), 1_003_000), "from before it");
        assert!(source.report(RATE).is_none());
    }

    #[test]
    fn a_report_that_a_newer_one_overtook_is_not_taken_up() {
        let made = |received_ms: u64, ms: u64| SenderReport {
            clock: SenderClock { ntp: NtpTime(7 << 32) + Duration::from_millis(ms), rtp: 5 },
            received: at(received_ms),
            late_by: 0,
        };
        let mut source = Source::new(SourceId::FIRST);
        assert!(source.on_report(made(10_000, 500)));
        assert!(!source.on_report(made(10_001, 400)));
        assert!(source.on_report(made(11_000, 1_500)));
        assert_eq!(source.newest_report(), Some(made(11_000, 1_500)));
    }

    #[test]
    fn late_packets_of_the_source_before_are_known_for_a_second() {
        let mut first = HomeSource::new(None, RATE, 16);
        first.ssrc = Some(0x1000);
        first.receive.on_packet(at(0), 500, 0);
        let second = first.successor(at(100), Some(0x2000));
        assert!(second.is_overtaken(at(100), 0x1000, 499));
        assert!(second.is_overtaken(at(1_099), 0x1000, 60_000));
        assert!(!second.is_overtaken(at(1_100), 0x1000, 501));
        assert!(!second.is_overtaken(at(100), 0x3000, 499));
        // The same SSRC with other numbers.
        let second = first.successor(at(100), Some(0x1000));
        assert!(second.is_overtaken(at(100), 0x1000, 499));
        assert!(second.is_overtaken(at(100), 0x1000, 510));
        assert!(!second.is_overtaken(at(100), 0x1000, 5_000));
    }
}
