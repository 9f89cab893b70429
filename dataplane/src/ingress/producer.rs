//! A producer on one core: at home, with everything RTCP needs; or at the far end of a pipe, with
//! just what its consumers need.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;
use smallvec::SmallVec;

use crate::checkpoint::{Instant, ProducerCheckpoint, SourceCheckpoint};
use crate::drop_reason::DropReason;
use crate::fanout::{Stage, Subscription};
use crate::ingress::history::{self, History};
use crate::ingress::key_frame_ledger::KeyFrameLedger;
use crate::ingress::limit::{ReceiveMeter, producer_limit};
use crate::ingress::nack::{MAX_MISSING_AUDIO, MAX_MISSING_VIDEO};
use crate::ingress::packet::MediaPacket;
use crate::ingress::receive_stats::ReceiveStats;
use crate::ingress::source::{HomeSource, SenderReport, Source, SourceId, SourceNews};
use crate::message::{
    AudioLevels, CoreId, Feedback, PayloadTypeMapping, ProducerConfig, ProducerId, RtpStreamStats,
    SILENCE, ShortId,
};
use crate::store::{ProducerKey, TransportKey};

/// An encoding that was silent for so long counts as not arriving. Screen shares at rest send a
/// frame a second at least; a paused simulcast layer sends nothing.
pub const ENCODING_SILENCE: Duration = Duration::from_millis(2500);

/// An encoding's rate is believed only so long after a packet: later it falls because the sender
/// has stopped. One that sends a few frames a second is believed at some looks, which is enough.
const RATE_FRESHNESS: Duration = Duration::from_millis(100);

/// What an encoding that never arrived and has no announced rate is taken to need, as a multiple of
/// the one below: OpenCall's and browsers' layers are about three times each other.
const STEP_BETWEEN_ENCODINGS: u32 = 3;

/// What only the home core keeps of an encoding.
pub struct HomeEncoding {
    /// What is known of its present source.
    pub source: HomeSource,
    /// Number of the newest FIR: repeating it does not change it (RFC 5104 section 4.3.1.2).
    pub fir_sequence: u8,
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
    score_base: (u64, u64, u64),
    /// Packets lost and repaired of the sources before the present one.
    past: (i64, u64),
    /// Its new beginnings since a time.
    restarts: (Time, u8),
}

/// New beginnings of an encoding in a second: everyone who watches gets layers anew with each, and
/// a sender has few reasons for one.
const RESTARTS_PER_SECOND: u8 = 8;

impl HomeEncoding {
    /// Whether it may begin anew with a packet, which it does then.
    pub fn check_restart(&mut self, now: Time, header: &RtpHeader) -> Result<(), DropReason> {
        if self.source.is_overtaken(now, header.ssrc, header.sequence) {
            return Err(DropReason::SourceReplaced);
        }
        let (since, count) = &mut self.restarts;
        if now.since(*since) >= Duration::from_secs(1) {
            (*since, *count) = (now, 0);
        }
        *count = count.saturating_add(1);
        match *count <= RESTARTS_PER_SECOND {
            true => Ok(()),
            false => Err(DropReason::RestartFlood),
        }
    }
}

/// One encoding, low to high quality in the producer's list.
pub struct Encoding {
    /// RID.
    pub rid: Option<ShortId>,
    /// Announced top bitrate, bits per second.
    pub max_bitrate_bps: Option<u32>,
    /// Key frames seen.
    pub key_frames: u64,
    /// What is known of its present source.
    pub source: Source,
    /// What had come elsewhere when this core began: up to which number, of which source.
    before: Option<(SourceId, ExtendedSeq)>,
    /// For retransmission to consumers; none on cores without consumers that NACK.
    pub history: Option<History<MediaPacket>>,
    /// Who has asked for key frames.
    pub asked_by: KeyFrameLedger,
    /// Whether the turn's list of key frames to ask for has it.
    pub key_frame_asked: bool,
    /// What only the home core has.
    pub home: Option<Box<HomeEncoding>>,
}

impl HomeEncoding {
    /// Packets lost before repair, of all sources; negative when duplicates outnumber losses.
    fn packets_lost(&self) -> i64 {
        self.past.0 + self.source.receive.packets_lost()
    }

    /// Packets that came back as retransmissions, of all sources.
    fn packets_repaired(&self) -> u64 {
        self.past.1 + self.source.receive.packets_repaired()
    }
}

impl Encoding {
    /// Whether later packets than this one had come when this core began: what should follow it is
    /// not to be had here.
    pub fn came_too_late(&self, packet: &MediaPacket) -> bool {
        self.before.is_some_and(|(id, highest)| id == packet.source && packet.sequence <= highest)
    }

    /// Takes what arrives from now on for another source, if it is not the present one.
    #[inline]
    fn follow(&mut self, id: SourceId) {
        if id != self.source.id {
            self.begin_source(id);
        }
    }

    /// Goes on with another source: nothing known of the one before is true of it. Everyone needs a
    /// key frame of it, which is no viewer's doing.
    #[cold]
    fn begin_source(&mut self, id: SourceId) {
        self.source = Source::new(id);
        self.asked_by = KeyFrameLedger::default();
    }

    /// Goes on with another source, at home, whose SSRC may not be known yet. A pending key-frame
    /// request moves to it: returns when to send that.
    #[cold]
    pub fn go_on_with(&mut self, now: Time, ssrc: Option<u32>) -> Time {
        self.begin_source(self.source.id.next());
        let Some(home) = &mut self.home else { return Time::NEVER };
        home.past = (home.packets_lost(), home.packets_repaired());
        home.source = home.source.successor(now, ssrc);
        home.source.key_frame.next_timeout()
    }

    /// The present source has got its SSRC: key-frame requests before that could not be sent.
    /// Returns when to send one.
    #[cold]
    pub fn ask_anew(&mut self, now: Time) -> Time {
        let Some(home) = &mut self.home else { return Time::NEVER };
        home.source.key_frame = home.source.key_frame.take_over(now);
        home.source.key_frame.next_timeout()
    }

    /// Takes up a sender report of a source; `None` says that the one before no longer counts.
    pub fn on_sender_report(&mut self, source: SourceId, report: Option<SenderReport>) {
        if source.is_after(self.source.id) {
            self.begin_source(source);
        }
        match report {
            _ if source != self.source.id => {}
            Some(report) => {
                self.source.on_report(report);
            }
            None => self.source.forget_report(),
        }
    }

    /// Takes up what its home core knows of a source. Without the rate it had, one that has just
    /// begun would look cheap here, and everyone would take more than fits.
    pub fn on_source_news(&mut self, source: SourceId, news: &SourceNews) {
        self.on_sender_report(source, news.report);
        if source == self.source.id {
            self.max_bitrate_bps = news.max_bitrate_bps;
            self.source.known_bps = self.source.known_bps.or(news.known_bps);
        }
    }

    /// Whether media arrives.
    pub fn is_active(&self, now: Time) -> bool {
        let last = self.source.last_packet.filter(|_| !self.source.pace.has_stopped());
        last.is_some_and(|last| now.since(last) < ENCODING_SILENCE)
    }

    /// Bits per second it takes to receive it; 0 where nothing arrives. `newest` is when the
    /// producer's newest packet came, of whichever encoding: after a silence of all, those that
    /// have not come back yet have not stopped.
    ///
    /// It is measured over a second. Of a simulcast's encoding that has just begun or just stopped
    /// most of that second is silence: that looks cheap, and everyone would switch to it.
    pub fn expected_bps(&mut self, now: Time, newest: Time, is_simulcast: bool) -> u32 {
        let last = self.source.last_packet;
        let is_silent = last.is_none() || now.since(newest) >= ENCODING_SILENCE;
        if is_silent || self.source.pace.has_stopped() {
            return 0;
        }
        let bps = self.source.rate.bps(now).max(1);
        let is_fresh = last.is_some_and(|last| now.since(last) < RATE_FRESHNESS);
        if is_fresh && self.source.rate.is_full() {
            self.source.known_bps = Some(bps);
        } else if is_simulcast {
            return self.remembered_bps().map_or(bps, |remembered| remembered.max(bps));
        }
        bps
    }

    /// Bits per second that it would have if it arrived, which it does not: what it had, else what
    /// was announced, else a guess from the encoding below.
    pub fn supposed_bps(&self, below_bps: u32) -> u32 {
        let guess = || below_bps.saturating_mul(STEP_BETWEEN_ENCODINGS);
        self.remembered_bps().unwrap_or_else(guess).max(1)
    }

    /// Bits per second when it arrived last; before that, as announced.
    fn remembered_bps(&self) -> Option<u32> {
        self.source.known_bps.or(self.max_bitrate_bps)
    }
}

/// One producer on this core.
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// Core of its transport.
    pub home: CoreId,
    /// Its transport, at home.
    pub transport: Option<TransportKey>,
    /// Audio or video.
    pub kind: MediaKind,
    /// Main codec.
    pub codec: Codec,
    /// RTP clock rate of the main codec, Hz.
    pub clock_rate_hz: u32,
    /// Payload types.
    pub payload_types: SmallVec<[PayloadTypeMapping; 2]>,
    /// How much may arrive of it at home.
    pub received: ReceiveMeter,
    /// Feedback its client understands.
    pub feedback: Feedback,
    /// Encodings.
    pub encodings: SmallVec<[Encoding; 3]>,
    /// Not forwarded while paused.
    pub paused: bool,
    /// Who gets it on this core.
    pub subscriptions: Vec<Subscription>,
    /// The producers of the stage that carry it, or will.
    pub stages: SmallVec<[ProducerKey; 1]>,
    /// What it carries, if it is of the stage and this is its home.
    pub stage: Option<Box<Stage>>,
    /// How many of its encodings are sent at most, as far as this core knows: not all sources of
    /// the stage have as many.
    pub sent_encodings: usize,
    /// How many of its encodings they want, as told to control last.
    pub demand: u8,
    /// Whether the turn's list of demands to count has it.
    pub demand_stale: bool,
    /// Cores that get it through a pipe (at home).
    pub pipes: SmallVec<[CoreId; 4]>,
    /// Levels since the last event.
    pub level: LevelWindow,
    /// Another core had it before, and its scores as that one saw them are what control knows.
    is_resumed: bool,
    /// What a home core that comes after this one goes on from.
    pub checkpoint: ProducerCheckpoint,
}

/// Gathers audio levels between events, in pieces of 20 ms.
#[derive(Debug, Clone, Copy)]
pub struct LevelWindow {
    pieces: AudioLevels,
    since: Time,
    last: Time,
    heard: bool,
}

impl LevelWindow {
    /// At most one event in this time: the speaker list is updated every 200 ms.
    const INTERVAL: Duration = Duration::from_millis(100);

    /// One packet of most senders.
    const PIECE: Duration = Duration::from_millis(20);

    /// A packet speaks for the time since the one before, if that is not longer: packets of 60 ms,
    /// or one that was lost. Longer is a pause, in which nothing was sent (DTX).
    const REACH: Duration = Duration::from_millis(70);

    fn new() -> Self {
        LevelWindow { pieces: SILENCE, since: Time::ZERO, last: Time::ZERO, heard: false }
    }

    /// The piece that ends at `at`, about.
    fn piece(&self, at: Time) -> usize {
        let pieces = (at.since(self.since) + Self::PIECE / 2).as_millis() / Self::PIECE.as_millis();
        usize::try_from(pieces).unwrap_or(usize::MAX).saturating_sub(1).min(SILENCE.len() - 1)
    }

    /// Notes a level (RFC 6464: 0 is loudest, 127 silence); returns what to report.
    pub fn note(&mut self, now: Time, level: u8) -> Option<AudioLevels> {
        let dbov = -(level.min(127) as i8);
        let newest = self.piece(now);
        let first = match now.since(self.last) <= Self::REACH {
            true if self.last > self.since => (self.piece(self.last) + 1).min(newest),
            true => 0,
            false => newest,
        };
        for piece in &mut self.pieces[first..=newest] {
            *piece = dbov.max(*piece);
        }
        self.last = now;
        if now.since(self.since) < Self::INTERVAL {
            return None;
        }
        let pieces = std::mem::replace(&mut self.pieces, SILENCE);
        // Silence is said once; a quiet microphone costs control nothing.
        let audible = pieces != SILENCE;
        let report = audible || self.heard;
        self.heard = audible;
        self.since = now;
        report.then_some(pieces)
    }
}

impl Producer {
    /// A producer; `transport` is its own at home, `None` at the far end of a pipe.
    pub fn new(config: &ProducerConfig, transport: Option<TransportKey>) -> Self {
        let main = config.payload_types.first();
        let clock_rate_hz = main.map_or(90_000, |mapping| mapping.clock_rate_hz);
        let max_missing = match config.kind {
            MediaKind::Audio => MAX_MISSING_AUDIO,
            MediaKind::Video => MAX_MISSING_VIDEO,
        };
        let encodings = config
            .encodings
            .iter()
            .zip(0..)
            .map(|(encoding, index)| Encoding {
                rid: encoding.rid.clone(),
                max_bitrate_bps: encoding.max_bitrate_bps,
                key_frames: 0,
                source: Source::new(SourceId::FIRST),
                before: {
                    let before = config.checkpoint.encoding(index);
                    let before = before.and_then(|before| before.source());
                    before.map(|before| (before.id, before.highest))
                },
                history: None,
                asked_by: KeyFrameLedger::default(),
                key_frame_asked: false,
                home: transport.map(|_| {
                    Box::new(HomeEncoding {
                        source: HomeSource::new(encoding.ssrc, clock_rate_hz, max_missing)
                            .among(config.encodings.len()),
                        fir_sequence: 0,
                        rtx_ssrc: encoding.rtx_ssrc,
                        packets: 0,
                        bytes: 0,
                        pli_count: 0,
                        fir_count: 0,
                        reported_score: 10,
                        score_base: (0, 0, 0),
                        past: (0, 0),
                        restarts: (Time::ZERO, 0),
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
            received: ReceiveMeter::new(producer_limit(config.kind)),
            feedback: config.feedback,
            encodings,
            paused: config.paused,
            subscriptions: Vec::new(),
            stages: SmallVec::new(),
            stage: None,
            sent_encodings: config.encodings.len(),
            demand: 0,
            demand_stale: false,
            pipes: SmallVec::new(),
            level: LevelWindow::new(),
            is_resumed: false,
            checkpoint: config.checkpoint.clone(),
        }
    }

    /// Leaves word, at home, of a packet that has the highest number so far.
    #[inline]
    pub fn leave_word(&self, now: Time, packet: &MediaPacket) {
        let encoding = self.encodings.get(usize::from(packet.encoding));
        let home = encoding.and_then(|encoding| encoding.home.as_deref());
        let checkpoint = self.checkpoint.encoding(packet.encoding);
        let (Some(home), Some(checkpoint)) = (home, checkpoint) else { return };
        let receive = &home.source.receive;
        if receive.highest() == Some(packet.sequence) {
            checkpoint.note(SourceCheckpoint {
                ssrc: packet.header.ssrc,
                id: packet.source,
                origin: receive.origin(),
                highest: packet.sequence,
                newest: Instant::new(now, packet.header.timestamp),
            });
        }
    }

    /// Goes on, at home, where a core before was: its sources keep their numbers, so that other
    /// cores' consumers need not begin anew, and what comes now is missing nothing but what has
    /// come meanwhile. Returns the SSRCs: of which encoding, and whether of its retransmissions.
    pub fn resume(&mut self) -> SmallVec<[(u32, u8, bool); 6]> {
        let mut ssrcs = SmallVec::new();
        let rate = self.clock_rate_hz;
        for (index, encoding) in (0..).zip(&mut self.encodings) {
            let Some(checkpoint) = self.checkpoint.encoding(index) else { break };
            let Some(home) = &mut encoding.home else { continue };
            if let Some(source) = checkpoint.source() {
                let SourceCheckpoint { ssrc, id, origin, highest, .. } = source;
                encoding.source = Source::new(id);
                home.source.ssrc = Some(ssrc);
                home.source.receive = ReceiveStats::resume(rate, origin, highest);
                home.source.nack.resume(highest);
                self.is_resumed = true;
                ssrcs.push((ssrc, index, false));
            }
            if let Some(ssrc) = checkpoint.rtx_ssrc() {
                home.rtx_ssrc = Some(ssrc);
                ssrcs.push((ssrc, index, true));
            }
        }
        ssrcs
    }

    /// When the newest packet of media came, of whichever encoding.
    pub fn newest_packet(&self) -> Time {
        let packets = self.encodings.iter().filter_map(|encoding| encoding.source.last_packet);
        packets.max().unwrap_or(Time::ZERO)
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

    /// Notes a packet that is about to be fanned out, on whichever core. Returns whether an
    /// encoding begins to arrive with it, after a silence or for the first time, or another has
    /// stopped.
    ///
    /// Packets without a payload are not of the stream: with them a sender probes its link, or
    /// keeps a rate up, also when the encoding has stopped.
    pub fn observe(&mut self, now: Time, packet: &MediaPacket) -> bool {
        let index = usize::from(packet.encoding);
        let Some(encoding) = self.encodings.get_mut(index) else { return false };
        if packet.payload().is_empty() {
            return false;
        }
        encoding.follow(packet.source);
        let mut changed = !encoding.is_active(now);
        let source = &mut encoding.source;
        let begins_picture = source.on_packet(now, packet.sequence, packet.header.timestamp);
        source.rate.add(now, packet.payload().end);
        if let Some(frame) = &packet.info.layers {
            changed |= source.on_layer_frame(now, &packet.info, frame, packet.payload().end);
        }
        if packet.info.key_frame && source.key_frame_timestamp != Some(packet.header.timestamp) {
            source.key_frame_timestamp = Some(packet.header.timestamp);
            source.key_frame_at = Some(now);
            encoding.key_frames += 1;
        }
        if begins_picture && self.encodings.len() > 1 {
            for (other, encoding) in self.encodings.iter_mut().enumerate() {
                changed |= other != index && encoding.source.pace.on_picture_of_another(now);
            }
        }
        changed
    }

    /// Keeps a packet for retransmission. Only one that a consumer on this core may get: of a
    /// simulcast most packets are of encodings that nobody here wants, and what was never sent is
    /// never asked for again.
    pub fn remember(&mut self, now: Time, packet: &MediaPacket, bytes: &[u8]) {
        if packet.payload().is_empty() {
            return;
        }
        let encoding = self.encodings.get_mut(usize::from(packet.encoding));
        let Some(history) = encoding.and_then(|encoding| encoding.history.as_mut()) else { return };
        // A voice may have come with repetitions before its payload (RFC 2198).
        let header_len = match self.kind {
            MediaKind::Audio => packet.header.header_len.min(packet.payload_start),
            MediaKind::Video => packet.payload_start,
        };
        let header = &bytes[..usize::from(header_len).min(bytes.len())];
        let payload = bytes.get(packet.payload()).unwrap_or_default();
        history.insert(now, packet.sequence, *packet, header, payload);
    }
}

impl Producer {
    /// Statistics of every encoding that was seen or announced, low to high; `round_trip_ms` is
    /// that of its transport.
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
        let mut changed = std::mem::take(&mut self.is_resumed);
        let mut scores = SmallVec::new();
        for encoding in &mut self.encodings {
            let active = encoding.is_active(now);
            let home = encoding.home.as_mut()?;
            let score = home.score(active);
            changed |= score != home.reported_score;
            home.reported_score = score;
            scores.push((home.source.ssrc.unwrap_or(0), score));
        }
        changed.then_some(scores)
    }
}

impl HomeEncoding {
    /// Quality since the last call, 0–10: what share of the packets came, a repaired one counting
    /// half, since it came late.
    fn score(&mut self, active: bool) -> u8 {
        let lost = u64::try_from(self.packets_lost()).unwrap_or(0);
        let repaired = self.packets_repaired();
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
        let bitrate_bps = self.source.rate.bps(now);
        let home = self.home.as_ref()?;
        let source = &home.source;
        let nack = source.nack.counters();
        Some(RtpStreamStats {
            ssrc: source.ssrc?,
            rtx_ssrc: home.rtx_ssrc,
            rid: self.rid.clone(),
            packets: home.packets,
            bytes: home.bytes,
            bitrate_bps,
            packets_lost: home.packets_lost(),
            fraction_lost: source.receive.fraction_lost(),
            jitter: source.receive.jitter(),
            round_trip_ms,
            nack_count: nack.messages,
            nack_packet_count: nack.requested,
            packets_retransmitted: home.packets_repaired(),
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
        assert_eq!(window.note(at(1000), 30), Some([-127, -127, -127, -127, -30]));
        assert_eq!(window.note(at(1020), 20), None);
        assert_eq!(window.note(at(1090), 60), None);
        assert_eq!(window.note(at(1100), 90), Some([-20, -60, -60, -60, -60]));
        assert_eq!(window.note(at(1200), 127), Some(SILENCE));
        assert_eq!(window.note(at(1300), 127), None);
        assert_eq!(window.note(at(1400), 127), None);
    }

    #[test]
    fn long_packets_fill_their_pieces_and_pauses_stay_empty() {
        let mut window = LevelWindow::new();
        let at = Time::from_millis;
        window.note(at(1000), 30);
        assert_eq!(window.note(at(1040), 31), None);
        assert_eq!(window.note(at(1100), 32), Some([-31, -31, -32, -32, -32]));
        assert_eq!(window.note(at(1500), 33), Some([-127, -127, -127, -127, -33]));
    }
}
