//! Who gets everything of a sender, and judges what comes: each sender report by what is true of
//! the media beside it, each picture by those before it.

use std::time::Duration;

use opencall_dataplane::message::*;
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::rtcp::{self, Packet};
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::time::{NtpTime, Time};

use super::film::is_key;
use super::packets::read;
use super::random::Random;
use super::receiver::{Decodable, Receiver};
use super::sender::{Picture, Sender, Sent};
use super::track::{LAYERS, SCREEN, VOICE};
use crate::world::*;

/// What a sender report may be off.
const TOLERANCE_S: f64 = 0.005;

/// Of a hundred packets to the hearer, those lost.
const LOSS_PERCENT: u64 = 1;

const TEMPORAL_LAYERS: usize = 3;

/// A decoded picture: what it was, and its bytes.
pub struct Shown {
    pub picture: Picture,
    pub bytes: Vec<u8>,
}

/// One consumer.
pub struct Seat {
    config: ConsumerConfig,
    codec: Codec,
    rate: u32,
    receiver: Receiver,
    /// The newest packet.
    newest: Option<(Sent, RtpHeader)>,
    /// A report that is not true of it, and so must be of the next: what came between may have been
    /// of layers that are left out.
    doubted: Option<(NtpTime, u32)>,
    /// The newest picture decoded of each temporal layer.
    newest_of: [Option<Picture>; TEMPORAL_LAYERS],
    pub shown: Vec<Shown>,
    pub reports: usize,
    /// The same since the call has settled.
    settled: (usize, usize),
}

pub struct Hearer {
    client: Client,
    /// The camera, the screen and the voice.
    pub seats: Vec<Seat>,
    /// Whether it asks for lost packets.
    asks_again: bool,
    random: Random,
    faults: Vec<String>,
}

impl Hearer {
    pub fn join(world: &mut World, sender: &Sender, number: usize, codec: Codec) -> Self {
        let client = world.join(CoreId(number as u8));
        let seats = sender.producers.iter().map(|producer| {
            let is_voice = producer.kind == MediaKind::Audio;
            let codec = if is_voice { Codec::Opus } else { codec };
            Seat {
                config: world.consume(&client, producer),
                codec,
                rate: if is_voice { 48_000 } else { 90_000 },
                receiver: Receiver::new(codec, world.now),
                newest: None,
                doubted: None,
                newest_of: [None; TEMPORAL_LAYERS],
                shown: Vec::new(),
                reports: 0,
                settled: (0, 0),
            }
        });
        let seats = seats.collect();
        let mut random = Random::new(sender.seed << 8 | number as u64);
        let asks_again = random.percent(50);
        Hearer { client, seats, asks_again, random, faults: Vec::new() }
    }

    pub fn prefer(&self, world: &mut World, layers: Layers) {
        let consumer = self.seats[0].config.id;
        world.command(self.client.core, Command::SetPreferredLayers { consumer, layers });
    }

    pub fn pause(&self, world: &mut World, track: usize, paused: bool) {
        let seat = match track {
            VOICE => 2,
            SCREEN => 1,
            _ => 0,
        };
        let id = self.seats[seat].config.id;
        let command = if paused { Command::PauseConsumer(id) } else { Command::ResumeConsumer(id) };
        world.command(self.client.core, command);
    }

    pub fn resume_all(&self, world: &mut World) {
        for track in [0, SCREEN, VOICE] {
            self.pause(world, track, false);
        }
        self.prefer(world, Layers { spatial: LAYERS as u8 - 1, temporal: None });
    }

    /// Takes what has come, in its order.
    pub fn listen(&mut self, world: &mut World, sender: &Sender, settled: Time) {
        for bytes in self.client.raw(world) {
            let (media, control) = self.client.opened(bytes);
            if let Some(packet) = media {
                self.on_media(world.now, sender, packet, world.now >= settled);
            }
            if let Some(compound) = control {
                self.on_control(&compound, sender, world.now >= settled);
            }
        }
        for seat in self.seats.iter_mut().filter(|seat| seat.codec != Codec::Opus) {
            let ssrc = seat.config.ssrc;
            if seat.receiver.is_stuck(world.now) {
                self.client.send_rtcp(world, |writer| writer.pli(1, ssrc).unwrap());
            }
            let missing = if self.asks_again { seat.receiver.missing() } else { Vec::new() };
            if !missing.is_empty() {
                self.client.send_rtcp(world, |writer| {
                    writer.nack(1, ssrc, missing.iter().copied()).unwrap();
                });
            }
        }
    }

    fn on_media(&mut self, now: Time, sender: &Sender, mut packet: Received, settled: bool) {
        let Some(seat) = self.seats.iter_mut().find(|seat| seat.takes(&packet.header)) else {
            return;
        };
        if seat.config.ssrc != packet.header.ssrc {
            // RFC 4588: the original number comes first.
            let original = packet.payload.split_off(2);
            let number = std::mem::replace(&mut packet.payload, original);
            packet.header.sequence = u16::from_be_bytes([number[0], number[1]]);
        }
        let sent = sender.ledger.packets.get(read(seat.codec, &packet.payload).body);
        let Some(&sent) = sent else {
            self.faults.push(format!("a packet that nobody sent: {:?}", packet.header));
            return;
        };
        seat.note(sent, &packet.header);
        if seat.newest.is_some_and(|(_, newest)| newest.sequence == packet.header.sequence)
            && let Some((ntp, rtp)) = seat.doubted.take()
        {
            self.faults.extend(seat.judge(ntp, rtp, sender));
        }
        if seat.codec == Codec::Opus || self.random.percent(LOSS_PERCENT * u64::from(!settled)) {
            return;
        }
        for decodable in seat.receiver.receive(now, &packet) {
            seat.settled.0 += usize::from(settled);
            self.faults.extend(seat.show(decodable, sender));
        }
    }

    fn on_control(&mut self, compound: &[u8], sender: &Sender, settled: bool) {
        for packet in rtcp::packets(compound) {
            let Packet::SenderReport(report) = packet.unwrap() else { continue };
            let seat = self.seats.iter_mut().find(|seat| seat.config.ssrc == report.ssrc);
            let Some(seat) = seat else { continue };
            seat.reports += 1;
            seat.settled.1 += usize::from(settled);
            let told = (report.ntp, report.rtp_timestamp);
            seat.doubted = seat.judge(told.0, told.1, sender).map(|_| told);
        }
    }

    /// What was wrong, or did not come back.
    pub fn faults(&mut self) -> impl Iterator<Item = String> {
        for (number, seat) in self.seats.iter().enumerate() {
            let (shown, reports) = seat.settled;
            if seat.codec != Codec::Opus && shown < 5 {
                self.faults.push(format!("{shown} pictures at the end in seat {number}"));
            }
            if reports == 0 {
                self.faults.push(format!("no report at the end in seat {number}"));
            }
        }
        self.faults.drain(..)
    }
}

impl Seat {
    /// Whether a packet is its, sent for the first time or again.
    fn takes(&self, header: &RtpHeader) -> bool {
        [Some(self.config.ssrc), self.config.rtx_ssrc].contains(&Some(header.ssrc))
    }

    /// Remembers the newest packet: the numbers that go out rise over switches. `None` may be the
    /// first of another source.
    fn note(&mut self, sent: Option<Sent>, header: &RtpHeader) {
        let is_late = self
            .newest
            .is_some_and(|(_, newest)| newest.sequence.wrapping_sub(header.sequence) as i16 > 0);
        if !is_late {
            self.newest = sent.map(|sent| (sent, *header));
        }
    }

    /// Compares a report with when the newest media was captured.
    fn judge(&self, ntp: NtpTime, rtp: u32, sender: &Sender) -> Option<String> {
        let (sent, header) = self.newest?;
        let wall = |ntp: NtpTime| ntp.0 as f64 / 4_294_967_296.0;
        let ticks = header.timestamp.wrapping_sub(rtp) as i32;
        let told = wall(ntp) + f64::from(ticks) / f64::from(self.rate);
        let error_s = told - wall(sender.wall(sent.captured));
        let error = Duration::from_secs_f64(error_s.abs());
        (error_s.abs() > TOLERANCE_S).then(|| {
            let Sent { track, era, captured } = sent;
            format!("a report that is {error:?} off, track {track}, era {era}, at {captured:?}")
        })
    }

    /// Whether a decoder that has shown what it has would show this picture.
    fn show(&mut self, decodable: Decodable, sender: &Sender) -> Option<String> {
        let Some(all) = sender.ledger.pictures.get(&decodable.bytes) else {
            return Some("a picture that nobody sent".into());
        };
        // Pictures that change the same may have the same bytes.
        let right = all.iter().find(|picture| self.can_decode(**picture, sender));
        let picture = *right.unwrap_or(&all[0]);
        let (key, before) = (is_key(picture.number), self.newest_of);
        if key {
            self.newest_of = [None; TEMPORAL_LAYERS];
        }
        self.newest_of[usize::from(sender.place(picture).temporal)] = Some(picture);
        self.shown.push(Shown { picture, bytes: decodable.bytes });
        (right.is_none() || decodable.key != key)
            .then(|| format!("{picture:?} decoded on top of {before:?}"))
    }

    /// Whether a decoder holds what a picture refers to: of each layer it keeps the newest.
    fn can_decode(&self, picture: Picture, sender: &Sender) -> bool {
        let holds = |back: &u16| {
            let number = picture.number - u32::from(*back);
            let refers_to = Picture { number, ..picture };
            self.newest_of[usize::from(sender.place(refers_to).temporal)] == Some(refers_to)
        };
        is_key(picture.number) || sender.place(picture).distances.iter().all(holds)
    }
}
