//! A producer on one core: at home, with everything RTCP needs; or at the far end of a pipe, with
//! just what its consumers need.
#![forbid(unsafe_code)]

use std::time::Duration;

use smallvec::SmallVec;

use crate::fanout::Subscription;
use crate::ingress::history::{self, History};
use crate::ingress::key_frame::KeyFrameLimiter;
use crate::ingress::nack::{MAX_MISSING_AUDIO, MAX_MISSING_VIDEO, NackGenerator};
use crate::ingress::packet::MediaPacket;
use crate::ingress::receive_stats::ReceiveStats;
use crate::message::{
    Codec, CoreId, Feedback, MediaKind, PayloadTypeMapping, ProducerConfig, ProducerId,
    RtpStreamStats, ShortId,
};
use crate::rate::RateMeter;
use crate::rtp::dependency_descriptor::DependencyTracker;
use crate::sender_clock::SenderClock;
use crate::time::Time;

/// An encoding that was silent for so long counts as not arriving. Screen shares at rest send a
/// frame a second at least; a paused simulcast layer sends nothing.
pub const ENCODING_SILENCE: Duration = Duration::from_millis(2500);

/// An encoding that was silent for so long while another of the same producer was not counts as not
/// arriving either: the sender has stopped it, and who gets it should get another soon.
pub const LAYER_SILENCE: Duration = Duration::from_secs(1);

/// An encoding's rate is believed only so long after a packet: later it falls because the sender has
/// stopped. One that sends a few frames a second is believed at some looks, which is enough.
const RATE_FRESHNESS: Duration = Duration::from_millis(100);

/// What an encoding that never arrived and has no announced rate is taken to need, as a multiple of the
/// one below: OpenCall's and browsers' layers are about three times each other.
const STEP_BETWEEN_ENCODINGS: u32 = 3;

/// Window of an encoding's bitrate meter: long enough to hold a key frame and its pause.
const RATE_WINDOW: Duration = Duration::from_secs(1);

/// The newest sender report of an encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    /// One instant on the sender's two clocks.
    pub clock: SenderClock,
    /// When it arrived at the home core.
    pub received: Time,
}

/// What only the home core keeps of an encoding.
pub struct HomeEncoding {
    /// RFC 3550 statistics.
    pub receive: ReceiveStats,
    /// What is missing.
    pub nack: NackGenerator,
    /// The dependency structure that descriptors refer to.
    pub dependencies: DependencyTracker,
    /// Merges key-frame requests.
    pub key_frame: KeyFrameLimiter,
    /// Next FIR sequence number (RFC 5104 section 4.3.1.2).
    pub fir_sequence: u8,
    /// SSRC of the media, once seen.
    pub ssrc: Option<u32>,
    /// SSRC of the retransmissions, once seen.
    pub rtx_ssrc: Option<u32>,
    /// Packets and bytes received.
    pub packets: u64,
    /// Bytes received, headers included.
    pub bytes: u64,
    /// PLI messages sent.
    pub pli_count: u64,
    /// FIR messages sent.
    pub fir_count: u64,
    /// The score told to control last.
    pub reported_score: u8,
    /// Packets, losses and repairs at the last score.
    pub score_base: (u64, u64, u64),
}

/// One encoding, low to high quality in the producer's list.
pub struct Encoding {
    /// RID.
    pub rid: Option<ShortId>,
    /// Recent rate.
    pub rate: RateMeter,
    /// Announced top bitrate, bits per second.
    pub max_bitrate_bps: Option<u32>,
    /// Bits per second when it arrived last.
    known_bps: Option<u32>,
    /// When a packet arrived last.
    pub last_packet: Option<Time>,
    /// Key frames seen.
    pub key_frames: u64,
    /// RTP timestamp of the newest key frame: its further packets are not counted again.
    key_frame_timestamp: Option<u32>,
    /// For retransmission to consumers; none on cores without consumers that NACK.
    pub history: Option<History<MediaPacket>>,
    /// The newest sender report.
    pub sender_report: Option<SenderReport>,
    /// Whether the turn's list of key frames to ask for has it.
    pub key_frame_asked: bool,
    /// When its home core was last asked for a key frame, at the far end of a pipe.
    pub relayed_at: Option<Time>,
    /// What only the home core has.
    pub home: Option<Box<HomeEncoding>>,
}

impl Encoding {
    /// Whether packets arrive.
    pub fn is_active(&self, now: Time) -> bool {
        self.last_packet.is_some_and(|last| now.since(last) < ENCODING_SILENCE)
    }

    /// Bits per second it takes to receive it; 0 where nothing arrives. `newest` is when the producer's
    /// newest packet came, of whichever encoding.
    ///
    /// It is measured over a second. Of a simulcast's encoding that has just begun or just stopped
    /// most of that second is silence: that looks cheap, and everyone would switch to it.
    pub fn expected_bps(&mut self, now: Time, newest: Time, is_simulcast: bool) -> u32 {
        let stopped = self.last_packet.is_some_and(|last| newest.since(last) >= LAYER_SILENCE);
        if stopped || !self.is_active(now) {
            return 0;
        }
        let bps = self.rate.bps(now).max(1);
        let is_fresh = self.last_packet.is_some_and(|last| now.since(last) < RATE_FRESHNESS);
        if is_fresh && self.rate.is_full() {
            self.known_bps = Some(bps);
        } else if is_simulcast {
            return self.remembered_bps().map_or(bps, |remembered| remembered.max(bps));
        }
        bps
    }

    /// Bits per second that it would have if it arrived, which it does not: what it had, else what was
    /// announced, else a guess from the encoding below.
    pub fn supposed_bps(&self, below_bps: u32) -> u32 {
        let guess = || below_bps.saturating_mul(STEP_BETWEEN_ENCODINGS);
        self.remembered_bps().unwrap_or_else(guess).max(1)
    }

    /// Bits per second when it arrived last; before that, as announced.
    fn remembered_bps(&self) -> Option<u32> {
        self.known_bps.or(self.max_bitrate_bps)
    }
}

/// One producer on this core.
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// Core of its transport.
    pub home: CoreId,
    /// Slab key of its transport, at home.
    pub transport: Option<usize>,
    /// Audio or video.
    pub kind: MediaKind,
    /// Main codec.
    pub codec: Codec,
    /// RTP clock rate of the main codec, Hz.
    pub clock_rate_hz: u32,
    /// Payload types.
    pub payload_types: SmallVec<[PayloadTypeMapping; 2]>,
    /// Feedback its client understands.
    pub feedback: Feedback,
    /// Encodings.
    pub encodings: SmallVec<[Encoding; 3]>,
    /// Not forwarded while paused.
    pub paused: bool,
    /// Who gets it on this core.
    pub subscriptions: Vec<Subscription>,
    /// How many of its encodings they want, as told to control last.
    pub demand: u8,
    /// Whether the turn's list of demands to count has it.
    pub demand_stale: bool,
    /// Cores that get it through a pipe (at home).
    pub pipes: SmallVec<[CoreId; 4]>,
    /// Loudest level since the last event, dBov, and when that event was.
    pub level: LevelWindow,
}

/// Gathers audio levels between events.
#[derive(Debug, Clone, Copy)]
pub struct LevelWindow {
    loudest_dbov: i8,
    since: Time,
    heard: bool,
}

impl LevelWindow {
    /// At most one event in this time: the speaker list is updated every 200 ms.
    const INTERVAL: Duration = Duration::from_millis(100);

    fn new() -> Self {
        LevelWindow { loudest_dbov: i8::MIN, since: Time::ZERO, heard: false }
    }

    /// Notes a level (RFC 6464: 0 is loudest, 127 silence); returns one to report.
    pub fn note(&mut self, now: Time, level: u8) -> Option<i8> {
        let dbov = -(level.min(127) as i8);
        self.loudest_dbov = self.loudest_dbov.max(dbov);
        if now.since(self.since) < Self::INTERVAL {
            return None;
        }
        let loudest = self.loudest_dbov;
        // Silence is said once; a quiet microphone costs control nothing.
        let audible = loudest > -127;
        let report = audible || self.heard;
        self.heard = audible;
        self.loudest_dbov = i8::MIN;
        self.since = now;
        report.then_some(loudest)
    }
}

impl Producer {
    /// A producer; `transport` is its slab key at home, `None` at the far end of a pipe.
    pub fn new(config: &ProducerConfig, transport: Option<usize>) -> Self {
        let main = config.payload_types.first();
        let clock_rate_hz = main.map_or(90_000, |mapping| mapping.clock_rate_hz);
        let encodings = config
            .encodings
            .iter()
            .map(|encoding| Encoding {
                rid: encoding.rid.clone(),
                rate: RateMeter::new(RATE_WINDOW),
                max_bitrate_bps: encoding.max_bitrate_bps,
                known_bps: None,
                last_packet: None,
                key_frames: 0,
                key_frame_timestamp: None,
                history: None,
                sender_report: None,
                key_frame_asked: false,
                relayed_at: None,
                home: transport.map(|_| {
                    Box::new(HomeEncoding {
                        receive: ReceiveStats::new(clock_rate_hz),
                        nack: NackGenerator::new(match config.kind {
                            MediaKind::Audio => MAX_MISSING_AUDIO,
                            MediaKind::Video => MAX_MISSING_VIDEO,
                        }),
                        dependencies: DependencyTracker::default(),
                        key_frame: KeyFrameLimiter::new(),
                        fir_sequence: 0,
                        ssrc: encoding.ssrc,
                        rtx_ssrc: encoding.rtx_ssrc,
                        packets: 0,
                        bytes: 0,
                        pli_count: 0,
                        fir_count: 0,
                        reported_score: 10,
                        score_base: (0, 0, 0),
                    })
                }),
            })
            .collect();
        Producer {
            id: config.id,
            home: config.home,
            transport,
            kind: config.kind,
            codec: main.map_or(Codec::Opaque, |mapping| mapping.codec),
            clock_rate_hz,
            payload_types: config.payload_types.clone(),
            feedback: config.feedback,
            encodings,
            paused: config.paused,
            subscriptions: Vec::new(),
            demand: 0,
            demand_stale: false,
            pipes: SmallVec::new(),
            level: LevelWindow::new(),
        }
    }

    /// When the newest packet came, of whichever encoding.
    pub fn newest_packet(&self) -> Time {
        self.encodings
            .iter()
            .filter_map(|encoding| encoding.last_packet)
            .max()
            .unwrap_or(Time::ZERO)
    }

    /// Starts keeping history: a consumer that NACKs has come.
    pub fn keep_history(&mut self) {
        let (packets, bytes) = match self.kind {
            MediaKind::Audio => (history::AUDIO_PACKETS, history::AUDIO_BYTES),
            MediaKind::Video => (history::VIDEO_PACKETS, history::VIDEO_BYTES),
        };
        for encoding in &mut self.encodings {
            encoding.history.get_or_insert_with(|| History::new(packets, bytes));
        }
    }

    /// Notes a packet of `len` bytes that is about to be fanned out, on whichever core. Returns
    /// whether its encoding begins to arrive, after a silence or for the first time.
    pub fn observe(&mut self, now: Time, packet: &MediaPacket, len: usize) -> bool {
        let Some(encoding) = self.encodings.get_mut(usize::from(packet.encoding)) else {
            return false;
        };
        let began = !encoding.is_active(now);
        encoding.last_packet = Some(now);
        encoding.rate.add(now, len);
        if packet.info.key_frame && encoding.key_frame_timestamp != Some(packet.header.timestamp) {
            encoding.key_frame_timestamp = Some(packet.header.timestamp);
            encoding.key_frames += 1;
        }
        began
    }

    /// Keeps a packet for retransmission. Only one that a consumer on this core may get: of a
    /// simulcast most packets are of encodings that nobody here wants, and what was never sent is
    /// never asked for again.
    pub fn remember(&mut self, now: Time, packet: &MediaPacket, bytes: &[u8]) {
        let encoding = self.encodings.get_mut(usize::from(packet.encoding));
        let Some(history) = encoding.and_then(|encoding| encoding.history.as_mut()) else { return };
        let header = &bytes[..usize::from(packet.payload_start).min(bytes.len())];
        let payload = bytes.get(packet.payload()).unwrap_or_default();
        history.insert(now, packet.sequence, *packet, header, payload);
    }
}

impl Producer {
    /// Statistics of every encoding that was seen or announced, low to high; `round_trip_ms` is that of
    /// its transport.
    pub fn stats(
        &mut self,
        now: Time,
        round_trip_ms: Option<f32>,
    ) -> SmallVec<[RtpStreamStats; 3]> {
        self.encodings
            .iter_mut()
            .filter_map(|encoding| encoding.stats(now, round_trip_ms))
            .collect()
    }

    /// The scores of all encodings, when one has changed since the last call.
    pub fn changed_scores(&mut self, now: Time) -> Option<SmallVec<[(u32, u8); 3]>> {
        let mut changed = false;
        let mut scores = SmallVec::new();
        for encoding in &mut self.encodings {
            let active = encoding.is_active(now);
            let home = encoding.home.as_mut()?;
            let score = home.score(active);
            changed |= score != home.reported_score;
            home.reported_score = score;
            scores.push((home.ssrc.unwrap_or(0), score));
        }
        changed.then_some(scores)
    }
}

impl HomeEncoding {
    /// Quality since the last call, 0–10: what share of the packets came, a repaired one counting
    /// half, since it came late.
    fn score(&mut self, active: bool) -> u8 {
        let lost = u64::try_from(self.receive.packets_lost()).unwrap_or(0);
        let repaired = self.receive.packets_repaired();
        let (packets, losses, repairs) = self.score_base;
        self.score_base = (self.packets, lost, repaired);
        if !active {
            return 0;
        }
        let received = self.packets.saturating_sub(packets);
        let lost = lost.saturating_sub(losses);
        let repaired = repaired.saturating_sub(repairs).min(lost);
        let expected = received + lost;
        if expected == 0 {
            return self.reported_score;
        }
        let good = 2 * received + repaired;
        ((10 * good).div_ceil(2 * expected)).min(10) as u8
    }
}

impl Encoding {
    fn stats(&mut self, now: Time, round_trip_ms: Option<f32>) -> Option<RtpStreamStats> {
        let bitrate_bps = self.rate.bps(now);
        let home = self.home.as_ref()?;
        let nack = home.nack.counters();
        Some(RtpStreamStats {
            ssrc: home.ssrc?,
            rtx_ssrc: home.rtx_ssrc,
            rid: self.rid.clone(),
            packets: home.packets,
            bytes: home.bytes,
            bitrate_bps,
            packets_lost: home.receive.packets_lost(),
            fraction_lost: home.receive.fraction_lost(),
            jitter: home.receive.jitter(),
            round_trip_ms,
            nack_count: nack.messages,
            nack_packet_count: nack.requested,
            packets_retransmitted: home.receive.packets_repaired(),
            pli_count: home.pli_count,
            fir_count: home.fir_count,
            key_frames: self.key_frames,
            score: home.reported_score,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_reported_at_most_every_100_ms_and_silence_once() {
        let mut window = LevelWindow::new();
        let at = Time::from_millis;
        assert_eq!(window.note(at(1000), 30), Some(-30));
        assert_eq!(window.note(at(1020), 20), None);
        assert_eq!(window.note(at(1090), 60), None);
        assert_eq!(window.note(at(1100), 90), Some(-20));
        assert_eq!(window.note(at(1200), 127), Some(-127));
        assert_eq!(window.note(at(1300), 127), None);
        assert_eq!(window.note(at(1400), 127), None);
    }
}
