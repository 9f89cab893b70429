//! A track: encoders whose packets carry a [`Stamp`], with what a browser keeps beside them:
//! history for retransmissions, sender reports, key frames on request.

use std::collections::VecDeque;
use std::time::Duration;

use opencall_control::rtp_parameters::{Kind, RtpParameters};
use opencall_wire::rtcp;
use opencall_wire::rtp::extension::{ExtensionForm, HeaderWriter};
use opencall_wire::rtp::header::OutgoingHeader;
use opencall_wire::time::{NtpTime, Time};
use rand::RngExt as _;
use rand::rngs::StdRng;
use serde_json::json;

use crate::stamp::Stamp;

/// Extension ids of what clients send.
pub const MID: u8 = 4;
const RID: u8 = 10;
const REPAIRED_RID: u8 = 11;
const TRANSPORT_CC: u8 = 5;
const AUDIO_LEVEL: u8 = 1;

const AUDIO_PT: u8 = 111;
const VIDEO_PT: u8 = 96;
const RTX_PT: u8 = 97;

/// Bytes of a VP8 payload before the stamp: descriptor and frame header.
pub const VP8_HEAD_LEN: usize = 15;

/// Packets of an encoding that can be sent again: ten seconds.
const HISTORY: usize = 256;

/// A packet before it is protected.
#[derive(Debug, Clone)]
pub struct Packet {
    /// Header fields.
    pub header: OutgoingHeader,
    /// SRTP index: roll-over counter and sequence number.
    pub index: u64,
    rid: Option<&'static str>,
    repaired: bool,
    is_audio: bool,
    /// Payload.
    pub payload: Vec<u8>,
}

impl Packet {
    /// Writes the header with its extensions; its length.
    pub fn write_header(&self, mid: &str, transport_sequence: u16, out: &mut [u8]) -> usize {
        let writer = HeaderWriter::new(out, self.header, ExtensionForm::OneByte);
        let mut writer = writer.expect("room for a header").extension(MID, mid.as_bytes());
        if let Some(rid) = self.rid {
            let id = if self.repaired { REPAIRED_RID } else { RID };
            writer = writer.extension(id, rid.as_bytes());
        }
        if self.is_audio {
            writer = writer.extension(AUDIO_LEVEL, &[0x80 | 30]);
        }
        writer
            .extension(TRANSPORT_CC, &transport_sequence.to_be_bytes())
            .finish()
            .expect("room for extensions")
    }
}

struct Encoding {
    ssrc: u32,
    rtx_ssrc: u32,
    rid: Option<&'static str>,
    next_index: u64,
    next_rtx_index: u64,
    timestamp_base: u32,
    picture: u16,
    tl0: u8,
    frame: u32,
    packet: u32,
    key_due: bool,
    history: VecDeque<Packet>,
    packets: u32,
    octets: u32,
    newest_timestamp: Option<(u32, Time)>,
}

impl Encoding {
    fn new(dice: &mut StdRng, rid: Option<&'static str>) -> Self {
        // Mostly in the lower half, as RFC 3711 section 3.3.1 wants it; some clients do not care.
        let first = if dice.random_bool(0.9) { 0..0x8000 } else { 0x8000..0xfff0 };
        Encoding {
            ssrc: dice.random_range(0x1000..0x7fff_ffff),
            rtx_ssrc: dice.random_range(0x8000_0000..0xffff_f000),
            rid,
            next_index: dice.random_range(first),
            next_rtx_index: dice.random_range(0..0x8000),
            timestamp_base: dice.random(),
            picture: dice.random_range(0..0x8000),
            tl0: dice.random(),
            frame: 0,
            packet: 0,
            key_due: true,
            history: VecDeque::new(),
            packets: 0,
            octets: 0,
            newest_timestamp: None,
        }
    }

    /// VP8 with a 15-bit picture id and TL0PICIDX (RFC 7741 section 4.2), then the head of a frame
    /// (RFC 6386 section 9.1).
    fn vp8_head(&self, key: bool, first: bool) -> [u8; VP8_HEAD_LEN] {
        let [high, low] = (self.picture | 0x8000).to_be_bytes();
        let mut head = [0x5a; VP8_HEAD_LEN];
        head[..6].copy_from_slice(&[
            if first { 0x90 } else { 0x80 },
            0xc0,
            high,
            low,
            self.tl0,
            u8::from(!key),
        ]);
        if first && key {
            head[8..].copy_from_slice(&[0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01]);
        }
        head
    }
}

/// A track of one client.
pub struct Track {
    /// Audio or video.
    pub kind: Kind,
    /// Its MID.
    pub mid: String,
    /// Its number, unique among all.
    pub number: u32,
    room: u32,
    peer: u32,
    encodings: Vec<Encoding>,
    /// Whether its key frames have many full packets, more than a path carries at once, and no more
    /// than small rings hold.
    has_large_key_frames: bool,
    /// Encodings that are sent, from the lowest.
    pub sent_encodings: usize,
}

impl Track {
    /// A voice.
    pub fn voice(ids: (u32, u32, u32), mid: String, dice: &mut StdRng) -> Self {
        Self::new(ids, mid, Kind::Audio, vec![Encoding::new(dice, None)])
    }

    /// A camera with so many encodings: one announces its SSRC, more use RIDs.
    pub fn camera(ids: (u32, u32, u32), mid: String, encodings: usize, dice: &mut StdRng) -> Self {
        let rids = ["r0", "r1", "r2"];
        let encodings = (0..encodings.clamp(1, rids.len()))
            .map(|index| Encoding::new(dice, (encodings > 1).then_some(rids[index])))
            .collect();
        let camera = Self::new(ids, mid, Kind::Video, encodings);
        Track { has_large_key_frames: dice.random_bool(0.3), ..camera }
    }

    fn new(ids: (u32, u32, u32), mid: String, kind: Kind, encodings: Vec<Encoding>) -> Self {
        let (room, peer, number) = ids;
        let sent_encodings = encodings.len();
        let has_large_key_frames = false;
        Track { kind, mid, number, room, peer, encodings, has_large_key_frames, sent_encodings }
    }

    /// How many encodings it has.
    pub fn encodings(&self) -> usize {
        self.encodings.len()
    }

    fn clock_rate_hz(&self) -> u32 {
        if self.kind == Kind::Audio { 48_000 } else { 90_000 }
    }

    /// What the client tells the server of it.
    pub fn rtp_parameters(&self) -> RtpParameters {
        let mid = &self.mid;
        let extension = |uri: &str, id: u8| {
            let uri = match uri {
                "transport-cc" => {
                    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01"
                        .to_owned()
                }
                uri => format!("urn:ietf:params:rtp-hdrext:{uri}"),
            };
            json!({"uri": uri, "id": id})
        };
        let value = match self.kind {
            Kind::Audio => json!({
                "mid": mid,
                "codecs": [{"mimeType": "audio/opus", "payloadType": AUDIO_PT, "clockRate": 48000,
                    "channels": 2, "parameters": {"minptime": 10, "useinbandfec": 1},
                    "rtcpFeedback": [{"type": "transport-cc"}]}],
                "headerExtensions": [extension("sdes:mid", MID),
                    extension("ssrc-audio-level", AUDIO_LEVEL),
                    extension("transport-cc", TRANSPORT_CC)],
                "encodings": [{"ssrc": self.encodings[0].ssrc, "dtx": true}],
                "rtcp": {"cname": format!("peer{}", self.peer)}
            }),
            Kind::Video => json!({
                "mid": mid,
                "codecs": [
                    {"mimeType": "video/VP8", "payloadType": VIDEO_PT, "clockRate": 90000,
                     "rtcpFeedback": [{"type": "nack"}, {"type": "nack", "parameter": "pli"},
                        {"type": "ccm", "parameter": "fir"}, {"type": "transport-cc"}]},
                    {"mimeType": "video/rtx", "payloadType": RTX_PT, "clockRate": 90000,
                     "parameters": {"apt": VIDEO_PT}}],
                "headerExtensions": [extension("sdes:mid", MID),
                    extension("sdes:rtp-stream-id", RID),
                    extension("sdes:repaired-rtp-stream-id", REPAIRED_RID),
                    extension("transport-cc", TRANSPORT_CC)],
                "encodings": self.encodings.iter().map(|encoding| match encoding.rid {
                    Some(rid) => json!({"rid": rid, "scalabilityMode": "L1T1"}),
                    None => json!({"ssrc": encoding.ssrc, "rtx": {"ssrc": encoding.rtx_ssrc}}),
                }).collect::<Vec<_>>(),
                "rtcp": {"cname": format!("peer{}", self.peer), "reducedSize": true}
            }),
        };
        serde_json::from_value(value).expect("RTP parameters")
    }

    /// One frame of each encoding that is sent.
    pub fn capture(&mut self, now: Time, dice: &mut StdRng) -> Vec<Packet> {
        let sent = self.sent_encodings.min(self.encodings.len());
        (0..sent).flat_map(|layer| self.encode(now, layer, dice)).collect()
    }

    fn encode(&mut self, now: Time, layer: usize, dice: &mut StdRng) -> Vec<Packet> {
        let (rate, is_audio) = (self.clock_rate_hz(), self.kind == Kind::Audio);
        let (room, peer, track) = (self.room, self.peer, self.number);
        let encoding = &mut self.encodings[layer];
        let key = std::mem::take(&mut encoding.key_due) || is_audio;
        let is_large = key && self.has_large_key_frames;
        let parts = match (is_audio, is_large) {
            (true, _) => 1,
            (false, true) => dice.random_range(6..11),
            (false, false) => 1 + u8::from(key) + u8::from(dice.random_bool(0.3)),
        };
        let ticks = now.as_nanos() as u128 * u128::from(rate) / 1_000_000_000;
        let timestamp = encoding.timestamp_base.wrapping_add(ticks as u32);
        encoding.newest_timestamp = Some((timestamp, now));
        let mut packets = Vec::with_capacity(parts.into());
        for part in 0..parts {
            let stamp = Stamp {
                room,
                peer,
                track,
                frame: encoding.frame,
                packet: encoding.packet,
                captured_ms: now.as_millis() as u32,
                layer: layer as u8,
                key,
                part,
                parts,
            };
            let mut payload = Vec::with_capacity(160);
            if !is_audio {
                payload.extend(encoding.vp8_head(key, part == 0));
            }
            payload.extend(stamp.write());
            let filler = dice.random_range(0..60) + if is_large { 900 } else { 40 * layer };
            payload.resize(payload.len() + filler, 0x5a);
            let packet = Packet {
                header: OutgoingHeader {
                    marker: part + 1 == parts,
                    payload_type: if is_audio { AUDIO_PT } else { VIDEO_PT },
                    sequence: encoding.next_index as u16,
                    timestamp,
                    ssrc: encoding.ssrc,
                },
                index: encoding.next_index,
                rid: encoding.rid,
                repaired: false,
                is_audio,
                payload,
            };
            encoding.next_index += 1;
            encoding.packet += 1;
            encoding.packets += 1;
            encoding.octets += packet.payload.len() as u32;
            encoding.history.push_back(packet.clone());
            packets.push(packet);
        }
        while encoding.history.len() > HISTORY {
            encoding.history.pop_front();
        }
        encoding.frame += 1;
        encoding.picture = (encoding.picture + 1) & 0x7fff;
        encoding.tl0 = encoding.tl0.wrapping_add(1);
        packets
    }

    /// The server asks for a key frame. Returns whether the SSRC is of this track.
    pub fn on_key_frame_request(&mut self, ssrc: u32) -> bool {
        let encoding = self.encodings.iter_mut().find(|encoding| encoding.ssrc == ssrc);
        encoding.is_some_and(|encoding| {
            encoding.key_due = true;
            true
        })
    }

    /// Packets to be sent again (RFC 4588).
    pub fn on_nack(&mut self, ssrc: u32, sequences: impl Iterator<Item = u16>) -> Vec<Packet> {
        let encoding = self.encodings.iter_mut().find(|encoding| encoding.ssrc == ssrc);
        let Some(encoding) = encoding.filter(|_| self.kind == Kind::Video) else {
            return Vec::new();
        };
        let mut packets = Vec::new();
        for sequence in sequences {
            let found = encoding.history.iter().find(|old| old.header.sequence == sequence);
            let Some(old) = found else { continue };
            let mut packet = old.clone();
            packet.repaired = true;
            packet.header.payload_type = RTX_PT;
            packet.header.ssrc = encoding.rtx_ssrc;
            packet.header.sequence = encoding.next_rtx_index as u16;
            packet.index = encoding.next_rtx_index;
            packet.payload.splice(0..0, sequence.to_be_bytes());
            encoding.next_rtx_index += 1;
            packets.push(packet);
        }
        packets
    }

    /// Writes a sender report of each encoding that was sent. `wall` is the client's own clock.
    pub fn write_reports(&self, now: Time, wall: NtpTime, writer: &mut rtcp::Writer<'_>) {
        for encoding in &self.encodings {
            let Some((timestamp, at)) = encoding.newest_timestamp else { continue };
            let since = now.since(at).min(Duration::from_secs(60));
            let ticks = since.as_nanos() * u128::from(self.clock_rate_hz()) / 1_000_000_000;
            let info = rtcp::SenderInfo {
                ntp: wall,
                rtp_timestamp: timestamp.wrapping_add(ticks as u32),
                packets: encoding.packets,
                octets: encoding.octets,
            };
            let _ = writer.sender_report(encoding.ssrc, &info, &[]);
        }
    }
}
