//! What a participant sends: a voice and a camera with simulcast layers, and answers to feedback.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::rtcp::{self, DelaySinceLastRr, ExtendedBlock, Packet, Writer};
use opencall_wire::rtp::extension::ExtensionForm;
use opencall_wire::rtp::extension::writer::HeaderWriter;
use opencall_wire::rtp::header::OutgoingHeader;
use opencall_wire::srtp::{OpenContext, SealContext};
use opencall_wire::time::NtpTime;

use super::outlet::{Outlet, Path};
use super::tally::Tally;
use crate::media::codec::{self, MAX_DEPENDENCY_LEN, Place, VideoCodec};
use crate::media::cut::payload_lens;
use crate::media::model::{FrameModel, Voice, VoiceModel};
use crate::media::stamp::{STAMP_LEN, Stamp};

/// Payload types and extension ids as browsers number them.
pub mod numbers {
    /// Opus.
    pub const OPUS: u8 = 111;
    /// The camera's codec.
    pub const VIDEO: u8 = 96;
    /// RTX for it.
    pub const RTX: u8 = 97;
    /// Audio level.
    pub const LEVEL_ID: u8 = 1;
    /// Transport-wide sequence number.
    pub const TRANSPORT_CC_ID: u8 = 3;
    /// MID.
    pub const MID_ID: u8 = 4;
    /// RID.
    pub const RID_ID: u8 = 10;
    /// Repaired RID.
    pub const REPAIRED_RID_ID: u8 = 11;
    /// Dependency descriptor, with AV1.
    pub const DEPENDENCY_ID: u8 = 12;
}

/// Bits per second of the layers r0, r1, r2.
pub const LAYER_RATES: [u32; 3] = [150_000, 500_000, 1_500_000];

/// MID of the voice and of the camera.
pub const MIDS: [&str; 2] = ["0", "1"];

/// Packets kept for retransmission per layer: over a second of the largest.
const HISTORY: usize = 256;

/// Media clock ticks of a frame and of a voice packet.
const FRAME_TICKS: u32 = 3000;
const VOICE_TICKS: u32 = 960;

/// Milliseconds of a voice packet.
const VOICE_MS: u128 = 20;

/// First byte of an Opus packet: hybrid, full band, 20 ms, mono.
const OPUS_TOC: u8 = 0x78;

/// Room for a train.
const TRAIN_ROOM: usize = 66_000;

/// Buffers that all publishers share, one after the other.
pub struct Scratch {
    train: Vec<u8>,
    payload: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch { train: vec![0; TRAIN_ROOM], payload: vec![0; 2048] }
    }
}

/// A packet that may be asked for again.
#[derive(Clone, Copy, Default)]
struct Sent {
    sequence: u64,
    index: u32,
    timestamp: u32,
    /// Zero where nothing was sent yet.
    payload_len: u16,
    place: Place,
    sent_ns: u64,
}

struct Layer {
    /// None where there is but one layer.
    rid: Option<&'static str>,
    ssrc: u32,
    rtx_ssrc: u32,
    model: FrameModel,
    sequence: u64,
    rtx_sequence: u64,
    index: u32,
    frames: u32,
    key_wanted: bool,
    announced: bool,
    packets: u32,
    octets: u32,
    history: Vec<Sent>,
}

struct Audio {
    ssrc: u32,
    voice: VoiceModel,
    sequence: u64,
    timestamp: u32,
    index: u32,
    announced: bool,
    packets: u32,
    octets: u32,
}

/// A reference time of the server, which wants to know how long it was held (RFC 3611 section 4.5).
#[derive(Debug, Clone, Copy)]
struct Held {
    ssrc: u32,
    last_rr: u32,
    since_ns: u64,
}

impl Held {
    fn answer(self, now_ns: u64) -> DelaySinceLastRr {
        let held = Duration::from_nanos(now_ns.saturating_sub(self.since_ns));
        let delay_since_last_rr = (held.as_secs_f64() * 65_536.0) as u32;
        DelaySinceLastRr { ssrc: self.ssrc, last_rr: self.last_rr, delay_since_last_rr }
    }
}

/// A sending transport.
pub struct Publisher {
    /// Its way to the server.
    pub path: Path,
    codec: VideoCodec,
    participant: u32,
    run: u32,
    seal: SealContext,
    open: OpenContext,
    audio: Option<Audio>,
    layers: Vec<Layer>,
    /// How many of them are sent, from the lowest.
    sending: usize,
    timestamp: u32,
    transport_sequence: u16,
    /// Not yet answered.
    held: Option<Held>,
}

/// SSRCs of a participant: 16 numbers are its own.
fn ssrc(participant: u32, which: u32) -> u32 {
    0x1000_0000 | participant << 4 | which
}

/// The SSRC of a participant's voice, which signaling names.
pub fn voice_ssrc(participant: u32) -> u32 {
    ssrc(participant, 1)
}

/// The SSRCs of a participant's only layer and of its retransmissions, which signaling names.
pub fn camera_ssrcs(participant: u32) -> [u32; 2] {
    [ssrc(participant, 2), ssrc(participant, 8)]
}

/// What a publisher is made of.
pub struct PublisherSetup {
    /// Its way to the server.
    pub path: Path,
    /// The camera's codec.
    pub codec: VideoCodec,
    /// Who it is.
    pub participant: u32,
    /// The run.
    pub run: u32,
    /// For what it sends.
    pub seal: SealContext,
    /// For what it receives.
    pub open: OpenContext,
    /// A voice.
    pub audio: bool,
    /// Bits per second of the camera's layers, lowest first: at most three, and none without a
    /// camera.
    pub layers: Vec<u32>,
    /// Seed of its media.
    pub seed: u64,
    /// How long the run has lasted: the same seed says the same at the same time of a run.
    pub age: Duration,
}

impl Publisher {
    /// A publisher that has sent nothing.
    pub fn new(setup: PublisherSetup) -> Self {
        let PublisherSetup { participant, seed, .. } = setup;
        let mut voice = VoiceModel::new(seed);
        for _ in 0..setup.age.as_millis() / VOICE_MS {
            voice.tick();
        }
        let audio = setup.audio.then(|| Audio {
            ssrc: ssrc(participant, 1),
            voice,
            sequence: seed & 0x3fff,
            timestamp: seed as u32,
            index: 0,
            announced: false,
            packets: 0,
            octets: 0,
        });
        let is_simulcast = setup.layers.len() > 1;
        let layer = |(at, rate): (usize, &u32)| Layer {
            rid: is_simulcast.then(|| ["r0", "r1", "r2"][at]),
            ssrc: ssrc(participant, 2 + at as u32),
            rtx_ssrc: ssrc(participant, 8 + at as u32),
            model: FrameModel::new(*rate, seed ^ (at as u64 + 1)),
            sequence: seed >> 8 & 0x3fff,
            rtx_sequence: seed >> 16 & 0x3fff,
            index: 0,
            frames: 0,
            key_wanted: true,
            announced: false,
            packets: 0,
            octets: 0,
            history: vec![Sent::default(); HISTORY],
        };
        Publisher {
            path: setup.path,
            codec: setup.codec,
            participant,
            run: setup.run,
            seal: setup.seal,
            open: setup.open,
            audio,
            layers: setup.layers.iter().take(3).enumerate().map(layer).collect(),
            sending: setup.layers.len().min(3),
            timestamp: (seed >> 32) as u32,
            transport_sequence: 0,
            held: None,
        }
    }

    /// One tick of the voice.
    pub fn send_voice(&mut self, outlet: &mut Outlet, scratch: &mut Scratch, tally: &mut Tally) {
        let Some(audio) = &mut self.audio else { return };
        audio.timestamp = audio.timestamp.wrapping_add(VOICE_TICKS);
        let (len, level) = match audio.voice.tick() {
            Voice::Nothing => return,
            Voice::Comfort => (STAMP_LEN, 127),
            Voice::Speech { len, level } => (len.max(STAMP_LEN), level | 0x80),
        };
        let fields = OutgoingHeader {
            marker: false,
            payload_type: numbers::OPUS,
            sequence: audio.sequence as u16,
            timestamp: audio.timestamp,
            ssrc: audio.ssrc,
        };
        let Some(writer) = HeaderWriter::new(&mut scratch.train, fields, ExtensionForm::OneByte)
        else {
            return;
        };
        let mut writer = writer.extension(numbers::LEVEL_ID, &[level]);
        if !audio.announced {
            writer = writer.extension(numbers::MID_ID, MIDS[0].as_bytes());
        }
        let Some(header_len) = writer.finish() else { return };
        let stamp = Stamp {
            sender: self.participant,
            stream: 0,
            index: audio.index,
            run: self.run,
            sent_ns: outlet.clock.now_ns(),
        };
        let payload = &mut scratch.payload[..=len];
        payload[0] = OPUS_TOC;
        stamp.write(&mut payload[1..]);
        let sealed = self.seal.seal_rtp(audio.sequence, header_len, payload, &mut scratch.train);
        audio.sequence += 1;
        audio.index += 1;
        audio.packets += 1;
        audio.octets = audio.octets.wrapping_add(len as u32);
        if let Ok(sealed) = sealed {
            tally.sent += 1;
            outlet.send(&self.path, &scratch.train[..sealed], sealed, tally);
        }
    }

    /// Sends so many layers from now on, from the lowest; one that was off begins with a key frame.
    pub fn limit_layers(&mut self, count: usize) {
        let count = count.min(self.layers.len());
        self.layers.iter_mut().take(count).skip(self.sending).for_each(|l| l.key_wanted = true);
        self.sending = count;
    }

    /// One frame of each layer, each in one burst.
    pub fn send_frame(&mut self, outlet: &mut Outlet, scratch: &mut Scratch, tally: &mut Tally) {
        self.timestamp = self.timestamp.wrapping_add(FRAME_TICKS);
        for at in 0..self.sending {
            self.send_layer(at, outlet, scratch, tally);
        }
    }

    fn send_layer(
        &mut self,
        at: usize,
        outlet: &mut Outlet,
        scratch: &mut Scratch,
        tally: &mut Tally,
    ) {
        let (timestamp, sent_ns) = (self.timestamp, outlet.clock.now_ns());
        let Some(layer) = self.layers.get_mut(at) else { return };
        let is_key = std::mem::take(&mut layer.key_wanted);
        let frame_len = layer.model.next_len(is_key);
        layer.frames += 1;
        let picture = layer.frames as u16 & 0x7fff;
        let lens = payload_lens(frame_len);
        let count = lens.len();
        let (mut used, mut segment) = (0, 0);
        for (n, payload_len) in lens.enumerate() {
            let Some(layer) = self.layers.get_mut(at) else { return };
            let (is_first, is_second, is_last) = (n == 0, n == 1, n + 1 == count);
            let sent = Sent {
                sequence: layer.sequence,
                index: layer.index,
                timestamp,
                payload_len: payload_len as u16,
                place: Place { picture, is_first, is_second, is_last, is_key },
                sent_ns,
            };
            layer.sequence += 1;
            layer.index += 1;
            layer.packets += 1;
            layer.octets = layer.octets.wrapping_add(u32::from(sent.payload_len));
            if let Some(kept) = layer.history.get_mut(sent.sequence as usize % HISTORY) {
                *kept = sent;
            }
            let Some(len) = self.write_packet(at, &sent, false, used, scratch) else { continue };
            tally.sent += 1;
            // A train has equal segments, only its last may be shorter.
            if len > segment && used > 0 {
                outlet.send(&self.path, &scratch.train[..used], segment, tally);
                scratch.train.copy_within(used..used + len, 0);
                (used, segment) = (0, 0);
            }
            segment = segment.max(len);
            used += len;
            if len < segment || n + 1 == count {
                outlet.send(&self.path, &scratch.train[..used], segment, tally);
                (used, segment) = (0, 0);
            }
        }
    }

    /// Writes and seals a packet of a layer at `start` of the train; its length.
    fn write_packet(
        &mut self,
        at: usize,
        sent: &Sent,
        as_rtx: bool,
        start: usize,
        scratch: &mut Scratch,
    ) -> Option<usize> {
        let layer = self.layers.get_mut(at)?;
        let index = if as_rtx { layer.rtx_sequence } else { sent.sequence };
        let fields = OutgoingHeader {
            marker: sent.place.is_last,
            payload_type: if as_rtx { numbers::RTX } else { numbers::VIDEO },
            sequence: index as u16,
            timestamp: sent.timestamp,
            ssrc: if as_rtx { layer.rtx_ssrc } else { layer.ssrc },
        };
        let out = scratch.train.get_mut(start..)?;
        let mut writer = HeaderWriter::new(out, fields, ExtensionForm::OneByte)?
            .extension(numbers::TRANSPORT_CC_ID, &self.transport_sequence.to_be_bytes());
        if as_rtx || !layer.announced {
            let rid_id = if as_rtx { numbers::REPAIRED_RID_ID } else { numbers::RID_ID };
            writer = writer.extension(numbers::MID_ID, MIDS[1].as_bytes());
            if let Some(rid) = layer.rid {
                writer = writer.extension(rid_id, rid.as_bytes());
            }
        }
        if self.codec == VideoCodec::Av1 {
            let mut descriptor = [0; MAX_DEPENDENCY_LEN];
            let len = codec::write_dependency(&sent.place, &mut descriptor);
            writer = writer.extension(numbers::DEPENDENCY_ID, &descriptor[..len]);
        }
        let header_len = writer.finish()?;
        self.transport_sequence = self.transport_sequence.wrapping_add(1);
        let stamp = Stamp {
            sender: self.participant,
            stream: at as u8 + 1,
            index: sent.index,
            run: self.run,
            sent_ns: sent.sent_ns,
        };
        let prefix = if as_rtx { 2 } else { 0 };
        scratch.payload[..2].copy_from_slice(&(sent.sequence as u16).to_be_bytes());
        let out_payload = scratch.payload.get_mut(prefix..)?;
        let payload_len = usize::from(sent.payload_len);
        let len = codec::write(self.codec, &sent.place, payload_len, &stamp, out_payload)?;
        if as_rtx {
            layer.rtx_sequence += 1;
        }
        let payload = scratch.payload.get(..prefix + len)?;
        self.seal.seal_rtp(index, header_len, payload, out).ok()
    }

    /// Feedback of the server.
    pub fn handle_rtcp(
        &mut self,
        packet: &mut [u8],
        outlet: &mut Outlet,
        scratch: &mut Scratch,
        tally: &mut Tally,
    ) {
        let Ok(len) = self.open.open_rtcp(packet) else {
            tally.corrupted += 1;
            return;
        };
        for part in rtcp::packets(&packet[..len]) {
            match part {
                Ok(Packet::Pli { media_ssrc, .. }) => self.want_key(media_ssrc),
                Ok(Packet::Fir(fir)) => fir.entries().for_each(|entry| self.want_key(entry.ssrc)),
                Ok(Packet::ReceiverReport(report)) => {
                    report.reports().for_each(|block| self.announce(block.ssrc));
                }
                Ok(Packet::SenderReport(report)) => {
                    report.reports().for_each(|block| self.announce(block.ssrc));
                }
                Ok(Packet::Nack(nack)) => {
                    for sequence in nack.sequences() {
                        self.retransmit(nack.media_ssrc, sequence, outlet, scratch, tally);
                    }
                }
                Ok(Packet::ExtendedReport(report)) => {
                    for block in report.blocks() {
                        let ExtendedBlock::ReceiverReferenceTime(ntp) = block else { continue };
                        let since_ns = outlet.clock.now_ns();
                        let (ssrc, last_rr) = (report.ssrc, ntp.middle());
                        self.held = Some(Held { ssrc, last_rr, since_ns });
                    }
                }
                _ => {}
            }
        }
    }

    fn want_key(&mut self, ssrc: u32) {
        self.layers.iter_mut().filter(|l| l.ssrc == ssrc).for_each(|l| l.key_wanted = true);
    }

    /// The server knows this SSRC now: browsers stop naming MID and RID then.
    fn announce(&mut self, ssrc: u32) {
        self.audio.iter_mut().filter(|a| a.ssrc == ssrc).for_each(|a| a.announced = true);
        self.layers.iter_mut().filter(|l| l.ssrc == ssrc).for_each(|l| l.announced = true);
    }

    fn retransmit(
        &mut self,
        ssrc: u32,
        sequence: u16,
        outlet: &mut Outlet,
        scratch: &mut Scratch,
        tally: &mut Tally,
    ) {
        tally.upstream_nacks += 1;
        let Some(at) = self.layers.iter().position(|layer| layer.ssrc == ssrc) else { return };
        let kept = |sent: &&Sent| sent.sequence as u16 == sequence && sent.payload_len > 0;
        let Some(&sent) = self.layers.get(at).and_then(|l| l.history.iter().find(kept)) else {
            return;
        };
        if let Some(len) = self.write_packet(at, &sent, true, 0, scratch) {
            outlet.send(&self.path, &scratch.train[..len], len, tally);
        }
    }

    /// Sender reports of all streams, and the answer to the server's reference time.
    pub fn send_reports(&mut self, ntp: NtpTime, outlet: &mut Outlet, tally: &mut Tally) {
        let mut buffer = [0; 512];
        let mut writer = Writer::new(&mut buffer);
        let mut report = |ssrc, rtp_timestamp, packets, octets| {
            let info = rtcp::report::SenderInfo { ntp, rtp_timestamp, packets, octets };
            // Four reports are far below the buffer's size.
            let _ = writer.sender_report(ssrc, &info, &[]);
        };
        if let Some(audio) = self.audio.as_ref().filter(|audio| audio.packets > 0) {
            report(audio.ssrc, audio.timestamp, audio.packets, audio.octets);
        }
        for layer in self.layers.iter().take(self.sending) {
            report(layer.ssrc, self.timestamp, layer.packets, layer.octets);
        }
        if writer.is_empty() {
            return;
        }
        if let Some(held) = self.held.take() {
            let item = held.answer(outlet.clock.now_ns());
            let _ = writer.dlrr(ssrc(self.participant, 1), &[item]);
        }
        let len = writer.finish();
        if let Ok(len) = self.seal.seal_rtcp(&mut buffer, len) {
            outlet.send(&self.path, &buffer[..len], len, tally);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_time_is_answered_with_how_long_it_was_held() {
        let held = Held { ssrc: 9, last_rr: 0x0012_0000, since_ns: 7_000_000_000 };
        let answer = |now_ns| held.answer(now_ns).delay_since_last_rr;
        assert_eq!(held.answer(0).last_rr, 0x0012_0000);
        assert_eq!((answer(7_000_000_000), answer(7_500_000_000)), (0, 0x8000));
        assert_eq!(answer(6_000_000_000), 0, "a clock that went back");
    }
}
