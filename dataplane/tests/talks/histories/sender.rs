//! A sender with a microphone, a simulcast camera and a shared screen, on a path that loses,
//! delays, repeats and reorders; and what is true of all that it sends.

use std::collections::HashMap;
use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtcp::{self, Nack, Packet, ReportBlock, SenderInfo};
use opencall_wire::rtp::header::OutgoingHeader;
use opencall_wire::time::{NtpTime, Time};

use super::film::{Film, Place, is_key};
use super::packets::{Numbers, assemble, packetize, read};
use super::random::Random;
use super::received::{Media, Sources};
use super::track::{SCREEN, Track, VOICE};
use crate::world::*;

/// What is true of a packet.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub track: usize,
    /// Rises with everything that changes the track's numbers or clock.
    pub era: u32,
    pub captured: Time,
}

/// A track's picture, whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    pub track: usize,
    pub number: u32,
}

/// All that was sent.
#[derive(Default)]
pub struct Ledger {
    /// By what comes after the payload descriptor.
    /// `None` is true of several: parameter sets, and the few bytes at a picture's end.
    pub packets: HashMap<Vec<u8>, Option<Sent>>,
    /// By their bytes.
    pub pictures: HashMap<Vec<u8>, Vec<Picture>>,
}

/// The worst weather's jitter, and how much later a packet comes that is overtaken.
pub const JITTER_MS_MOST: u64 = 60;
const OVERTAKEN_MS: u64 = 40;

/// How the path to the server and the sender behave.
#[derive(Debug, Clone, Copy)]
pub struct Weather {
    pub loss_percent: u64,
    pub jitter_ms: u64,
    /// Lost packets are sent again when asked for.
    pub repairs: bool,
    pub late_reports_percent: u64,
    pub lost_reports_percent: u64,
}

pub const CALM: Weather = Weather {
    loss_percent: 0,
    jitter_ms: 5,
    repairs: true,
    late_reports_percent: 0,
    lost_reports_percent: 0,
};

/// Where its packets are.
struct Flight {
    arrives: Time,
    bytes: Vec<u8>,
    media: Option<Media>,
    /// SSRC and wall clock of a report.
    report: Option<(u32, NtpTime)>,
}

/// A packet to be sent again.
#[derive(Clone)]
struct Kept {
    bytes: Vec<u8>,
    media: Media,
    fields: OutgoingHeader,
    payload: Vec<u8>,
}

pub struct Sender {
    pub seed: u64,
    pub client: Client,
    pub producers: Vec<ProducerConfig>,
    pub tracks: Vec<Track>,
    pub weather: Weather,
    pub ledger: Ledger,
    /// What has arrived, and what the server says of it.
    pub sources: Sources,
    /// Its wall clock, at the origin of time.
    wall: NtpTime,
    /// A lie: the microphone's reports are off by so much.
    pub skew: Duration,
    random: Random,
    flights: Vec<Flight>,
    /// Media as it was sent, to be sent again.
    kept: HashMap<(u32, u16), Kept>,
    film: Box<dyn Film>,
}

impl Sender {
    pub fn new(world: &mut World, film: Box<dyn Film>, seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5e4d);
        let client = world.join(CoreId(0));
        let tracks: Vec<Track> =
            (0..=VOICE).map(|number| Track::new(number, &mut random, world.now)).collect();
        let mut producers = Vec::new();
        for (mid, kind, ssrcs) in [
            (b"c", MediaKind::Video, &[1, 2, 3][..]),
            (b"s", MediaKind::Video, &[tracks[SCREEN].ssrc]),
            (b"v", MediaKind::Audio, &[tracks[VOICE].ssrc]),
        ] {
            let mut config = world.produce(&client, kind, ssrcs);
            world.command(CoreId(0), Command::CloseProducer(config.id));
            config.mid = Some(ShortId::from_slice(mid));
            if kind == MediaKind::Video {
                config.payload_types[0].codec = film.codec();
            }
            world.command(CoreId(0), Command::CreateProducer(Box::new(config.clone())));
            producers.push(config);
        }
        let ahead_ms = random.within(0..20_000) + 0xe000_0000 * 1000 - 10_000;
        Sender {
            seed,
            client,
            producers,
            tracks,
            weather: CALM,
            ledger: Ledger::default(),
            sources: Sources::default(),
            wall: NtpTime(0) + Duration::from_millis(ahead_ms),
            skew: Duration::ZERO,
            random,
            flights: Vec::new(),
            kept: HashMap::new(),
            film,
        }
    }

    /// What its wall clock shows.
    pub fn wall(&self, at: Time) -> NtpTime {
        self.wall + Duration::from_nanos(at.as_nanos())
    }

    /// A picture's place in the pattern of its layers.
    pub fn place(&self, picture: Picture) -> Place {
        self.film.place(picture.number)
    }

    /// Does what is due now.
    pub fn turn(&mut self, world: &mut World) {
        for track in 0..self.tracks.len() {
            if self.tracks[track].next_capture <= world.now {
                self.capture(world.now, track);
            }
            if self.tracks[track].next_report <= world.now {
                self.report(world.now, track);
            }
        }
        self.deliver(world);
    }

    fn capture(&mut self, now: Time, index: usize) {
        let track = &mut self.tracks[index];
        track.next_capture = now + track.period;
        if now < track.silent_until {
            // An encoder that is taken up again begins with a key picture.
            track.key_due = true;
            return;
        }
        let (timestamp, era) = (track.clock(now), track.era);
        let payloads = if index == VOICE {
            vec![[&now.as_nanos().to_be_bytes()[..], &[7; 72]].concat()]
        } else {
            self.picture(index)
        };
        let lost = now < self.tracks[index].lost_until;
        let encoded = now + self.random.millis(3..15);
        let count = payloads.len();
        for (n, payload) in payloads.into_iter().enumerate() {
            let sent = Sent { track: index, era, captured: now };
            let codec = if index == VOICE { Codec::Opus } else { self.film.codec() };
            let body = read(codec, &payload).body.to_vec();
            self.ledger.packets.entry(body).and_modify(|sent| *sent = None).or_insert(Some(sent));
            self.send(index, timestamp, n + 1 == count, &payload, (encoded, lost));
        }
    }

    /// The payloads of a track's next picture.
    fn picture(&mut self, index: usize) -> Vec<Vec<u8>> {
        let track = &mut self.tracks[index];
        let number = track.next_number();
        let Some(picture) = self.film.picture(index, number) else { return Vec::new() };
        let place = self.film.place(number);
        track.picture_id = (track.picture_id + 1) & 0x7fff;
        track.tl0 = track.tl0.wrapping_add(u8::from(place.temporal == 0));
        let (temporal, sync) = (place.temporal, place.sync);
        let numbers = Numbers { picture_id: track.picture_id, tl0: track.tl0, temporal, sync };
        let codec = self.film.codec();
        let payloads = packetize(codec, &picture, is_key(number), numbers, place.distances);
        let whole = assemble(self.film.codec(), payloads.iter().map(Vec::as_slice));
        self.ledger.pictures.entry(whole).or_default().push(Picture { track: index, number });
        payloads
    }

    fn send(
        &mut self,
        index: usize,
        timestamp: u32,
        marker: bool,
        payload: &[u8],
        (encoded, lost): (Time, bool),
    ) {
        let track = &mut self.tracks[index];
        let (ssrc, sequence) = (track.ssrc, track.sequence);
        track.sequence = sequence.wrapping_add(1);
        self.client.mid = track.mid;
        let fields = OutgoingHeader { marker, payload_type: SENT_PT, sequence, timestamp, ssrc };
        let bytes = self.client.sealed(fields, track.rid, payload);
        let media = Media { ssrc, numbering: track.numbering, sequence };
        let kept = Kept { bytes: bytes.clone(), media, fields, payload: payload.to_vec() };
        self.kept.insert((ssrc, sequence), kept);
        let media = Some(media);
        if !lost && !self.random.percent(self.weather.loss_percent) {
            self.fly(encoded, bytes.clone(), media, None);
            if self.random.percent(2) {
                self.fly(encoded, bytes, media, None);
            }
        }
    }

    fn fly(
        &mut self,
        sent: Time,
        bytes: Vec<u8>,
        media: Option<Media>,
        report: Option<(u32, NtpTime)>,
    ) {
        let overtaken = if self.random.percent(3) { 1 } else { 0 };
        let arrives = sent
            + Duration::from_millis(15)
            + self.random.millis(0..self.weather.jitter_ms)
            + self.random.millis(0..OVERTAKEN_MS) * overtaken;
        self.flights.push(Flight { arrives, bytes, media, report });
    }

    fn report(&mut self, now: Time, index: usize) {
        let most = if index == VOICE { 2200 } else { 1200 };
        let track = &mut self.tracks[index];
        track.next_report = now + self.random.millis(800..most);
        let lie = if index == VOICE { self.skew } else { Duration::ZERO };
        let (ssrc, rtp_timestamp) = (track.ssrc, track.clock(now));
        let ntp = self.wall(now) + lie;
        let info = SenderInfo { ntp, rtp_timestamp, packets: 1, octets: 1 };
        let bytes = self.client.sealed_rtcp(|writer| {
            writer.sender_report(ssrc, &info, &[]).unwrap();
        });
        if self.random.percent(self.weather.lost_reports_percent) {
            return;
        }
        let is_late = self.random.percent(self.weather.late_reports_percent);
        let sent = now + if is_late { self.random.millis(200..4_000) } else { Duration::ZERO };
        if self.random.percent(10) {
            self.fly(sent, bytes.clone(), None, Some((ssrc, ntp)));
        }
        self.fly(sent, bytes, None, Some((ssrc, ntp)));
    }

    fn deliver(&mut self, world: &mut World) {
        let now = world.now;
        let (due, flying) = self.flights.drain(..).partition(|flight| flight.arrives <= now);
        self.flights = flying;
        let due: Vec<Flight> = due;
        for flight in due {
            world.push(self.client.address, CoreId(0), &flight.bytes);
            if let Some(media) = flight.media {
                self.sources.on_packet(media);
            }
            if let Some((ssrc, ntp)) = flight.report {
                self.sources.on_report(ssrc, ntp);
            }
        }
    }

    /// Takes what the server says, and answers it. Returns faults of its reports.
    pub fn listen(&mut self, world: &mut World) -> Vec<String> {
        let (_, control) = self.client.receive(world);
        let mut faults = Vec::new();
        for compound in control {
            for packet in rtcp::packets(&compound) {
                match packet.unwrap() {
                    Packet::Pli { media_ssrc, .. } => {
                        let asked = self.tracks.iter_mut().find(|track| track.ssrc == media_ssrc);
                        asked.into_iter().for_each(Track::skip_to_key);
                    }
                    Packet::Nack(nack) if self.weather.repairs => self.repair(world.now, &nack),
                    Packet::ReceiverReport(report) => {
                        for block in report.reports() {
                            faults.extend(self.judge(&block));
                        }
                    }
                    _ => {}
                }
            }
        }
        faults
    }

    fn repair(&mut self, now: Time, nack: &Nack<'_>) {
        let again = now + Duration::from_millis(5);
        for sequence in nack.sequences() {
            let Some(kept) = self.kept.get(&(nack.media_ssrc, sequence)).cloned() else { continue };
            let screen = &mut self.tracks[SCREEN];
            if kept.media.ssrc != screen.ssrc || self.random.percent(30) {
                self.fly(again, kept.bytes, Some(kept.media), None);
                continue;
            }
            // RFC 4588: a stream of its own, the number first.
            screen.rtx_sequence = screen.rtx_sequence.wrapping_add(1);
            let fields = OutgoingHeader {
                payload_type: SENT_RTX_PT,
                sequence: screen.rtx_sequence,
                ssrc: kept.fields.ssrc + 1,
                ..kept.fields
            };
            self.client.mid = screen.mid;
            let payload = [&sequence.to_be_bytes()[..], &kept.payload].concat();
            let bytes = self.client.sealed(fields, None, &payload);
            self.fly(again, bytes, None, None);
        }
    }

    /// By how much the delays of two packets may differ that were not sent again.
    fn most_variation(&self) -> Duration {
        Duration::from_millis(12 + JITTER_MS_MOST + OVERTAKEN_MS)
    }

    fn judge(&mut self, block: &ReportBlock) -> Option<String> {
        let track = self.tracks.iter().find(|track| track.mid == b"v" && track.ssrc == block.ssrc);
        let rate = if track.is_some() { 48_000 } else { 90_000 };
        self.sources.judge(block, self.most_variation().as_millis() as u32 * rate / 1000)
    }
}
