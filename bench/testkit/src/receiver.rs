//! What a client does with one stream: puts pictures together whatever their packets' order,
//! decodes a picture if the one before it was decoded or it is a key frame, and asks for what is
//! missing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use opencall_control::api::ConsumerOptions;
use opencall_control::rtp_parameters::Kind;
use opencall_wire::rtcp::{self, ReportBlock};
use opencall_wire::rtp::extension::{Extension, ExtensionIds};
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::time::Time;

use crate::camera::VP8_HEAD_LEN;
use crate::stamp::Stamp;

/// A receiver that gets packets and decodes nothing for so long asks for a key frame.
const PATIENCE: Duration = Duration::from_millis(600);

/// Time between two requests for one lost packet, and how often it is asked for: as libwebrtc.
const NACK_INTERVAL: Duration = Duration::from_millis(120);
const NACKS: u8 = 10;

/// Sequence numbers that are remembered behind the highest.
const WINDOW: u64 = 512;

/// A lost packet this far behind the highest is given up.
const NACK_WINDOW: u64 = 200;

/// Pictures that wait for their packets.
const FRAMES: usize = 64;

/// A packet as it was received for the first time.
#[derive(Debug, Clone, Copy)]
pub struct Arrived {
    /// The stream's media SSRC.
    pub ssrc: u32,
    /// Extended sequence number; of the original where it was sent again.
    pub sequence: u64,
    /// RTP timestamp.
    pub timestamp: u32,
    /// VP8 picture id.
    pub picture: Option<u16>,
    /// VP8 TL0PICIDX.
    pub tl0: Option<u8>,
    /// What its payload says.
    pub stamp: Stamp,
    /// Whether it came before, as far as is known.
    pub is_repeated: bool,
}

impl Arrived {
    /// Of a packet that no receiver takes: nothing is known of those before it.
    pub fn unread(header: &RtpHeader, payload: &[u8]) -> Option<Arrived> {
        let starts = [0, VP8_HEAD_LEN, 2 + VP8_HEAD_LEN, 2];
        let stamp = starts.iter().find_map(|&start| Stamp::read(payload.get(start..)?))?;
        Some(Arrived {
            ssrc: header.ssrc,
            sequence: header.sequence.into(),
            timestamp: header.timestamp,
            picture: None,
            tl0: None,
            stamp,
            is_repeated: true,
        })
    }
}

struct Frame {
    parts: u64,
    stamp: Stamp,
}

struct Asked {
    times: u8,
    next: Time,
}

/// One consumed stream.
pub struct Receiver {
    /// Audio or video.
    pub kind: Kind,
    /// Media SSRC.
    pub ssrc: u32,
    /// SSRC of retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// Extension ids of the stream.
    pub extensions: ExtensionIds,
    highest: Option<u64>,
    missing: BTreeMap<u64, Asked>,
    seen: BTreeSet<u64>,
    frames: BTreeMap<(u32, u8), Frame>,
    decoded: Option<Stamp>,
    progress_at: Time,
    packet_at: Time,
    /// Pictures decoded, or packets of a voice.
    pub shown: u64,
    /// When the newest of them was captured, milliseconds.
    pub newest_ms: u32,
}

impl Receiver {
    /// Of a consumer.
    pub fn new(options: &ConsumerOptions, now: Time) -> Self {
        let parameters = &options.rtp_parameters;
        let mut extensions = ExtensionIds::default();
        for extension in &parameters.stream.header_extensions {
            if extension.uri.ends_with("transport-wide-cc-extensions-01") {
                extensions.set(Extension::TransportCc, extension.id);
            } else if extension.uri.ends_with(":mid") {
                extensions.set(Extension::Mid, extension.id);
            }
        }
        Receiver {
            kind: options.kind,
            ssrc: parameters.ssrc,
            rtx_ssrc: parameters.rtx_ssrc,
            extensions,
            highest: None,
            missing: BTreeMap::new(),
            seen: BTreeSet::new(),
            frames: BTreeMap::new(),
            decoded: None,
            progress_at: now,
            packet_at: Time::ZERO,
            shown: 0,
            newest_ms: 0,
        }
    }

    /// Whether packets of this SSRC are for it.
    pub fn takes(&self, ssrc: u32) -> bool {
        self.ssrc == ssrc || self.rtx_ssrc == Some(ssrc)
    }

    /// A packet.
    ///
    /// # Errors
    /// Its payload is nothing that a [`camera`](crate::camera) made.
    pub fn receive(
        &mut self,
        now: Time,
        header: &RtpHeader,
        mut payload: &[u8],
    ) -> Result<Option<Arrived>, String> {
        let mut sequence = header.sequence;
        if self.rtx_ssrc == Some(header.ssrc) {
            let Some((number, rest)) = payload.split_first_chunk() else { return Ok(None) };
            (sequence, payload) = (u16::from_be_bytes(*number), rest);
        }
        let video = self.kind == Kind::Video;
        let head = if video { VP8_HEAD_LEN } else { 0 };
        let stamp = payload.get(head..).and_then(Stamp::read);
        let stamp = stamp.ok_or_else(|| format!("a payload that nobody sent: {payload:02x?}"))?;
        self.packet_at = now;
        let sequence = self.note_sequence(now, sequence);
        if sequence + WINDOW < self.highest.unwrap_or(0) {
            return Ok(None);
        }
        let is_repeated = !self.seen.insert(sequence);
        self.newest_ms = self.newest_ms.max(stamp.captured_ms);
        match video {
            _ if is_repeated => {}
            true => self.take_part(now, stamp),
            false => self.shown += 1,
        }
        let picture = video.then(|| u16::from_be_bytes([payload[2], payload[3]]) & 0x7fff);
        let tl0 = video.then(|| payload[4]);
        let timestamp = header.timestamp;
        let ssrc = self.ssrc;
        Ok(Some(Arrived { ssrc, sequence, timestamp, picture, tl0, stamp, is_repeated }))
    }

    fn note_sequence(&mut self, now: Time, sequence: u16) -> u64 {
        // From the second round on, so that what is late has a number.
        let highest = *self.highest.get_or_insert(0x10000 | u64::from(sequence));
        let step = sequence.wrapping_sub(highest as u16) as i16;
        let extended = highest.wrapping_add_signed(step.into());
        if extended > highest {
            for lost in (highest + 1).max(extended.saturating_sub(NACK_WINDOW))..extended {
                self.missing.insert(lost, Asked { times: 0, next: now });
            }
            self.highest = Some(extended);
            while self.seen.first().is_some_and(|first| first + WINDOW < extended) {
                self.seen.pop_first();
            }
            let given_up = |first: &u64| first + NACK_WINDOW < extended;
            while self.missing.first_key_value().is_some_and(|(first, _)| given_up(first)) {
                self.missing.pop_first();
            }
        }
        self.missing.remove(&extended);
        extended
    }

    fn take_part(&mut self, now: Time, stamp: Stamp) {
        let frame = self.frames.entry((stamp.captured_ms, stamp.layer));
        let frame = frame.or_insert(Frame { parts: 0, stamp });
        frame.parts |= 1 << stamp.part;
        while let Some(key) = self.next_decodable() {
            let newer = self.frames.split_off(&key);
            let decoded = newer.first_key_value().map(|(_, frame)| frame.stamp);
            self.frames = newer;
            self.frames.pop_first();
            self.decoded = decoded;
            self.shown += 1;
            self.progress_at = now;
        }
        while self.frames.len() > FRAMES {
            self.frames.pop_first();
        }
    }

    fn next_decodable(&self) -> Option<(u32, u8)> {
        let decodable = self.frames.iter().find(|(_, frame)| {
            let (stamp, before) = (frame.stamp, self.decoded);
            let whole = frame.parts + 1 == 1 << stamp.parts;
            let follows = before.is_some_and(|before| {
                (before.layer, before.frame + 1) == (stamp.layer, stamp.frame)
            });
            let is_newer = before.is_none_or(|before| before.captured_ms < stamp.captured_ms);
            whole && (follows || stamp.key && is_newer)
        });
        decodable.map(|(key, _)| *key)
    }

    /// Asks for what is missing.
    pub fn write_requests(&mut self, now: Time, writer: &mut rtcp::Writer<'_>) {
        if self.kind == Kind::Audio {
            return;
        }
        let mut due = Vec::new();
        self.missing.retain(|sequence, asked| {
            if asked.next <= now {
                due.push(*sequence as u16);
                *asked = Asked { times: asked.times + 1, next: now + NACK_INTERVAL };
            }
            asked.times < NACKS
        });
        let _ = writer.nack(1, self.ssrc, due.into_iter());
        let is_fed = now.since(self.packet_at) < PATIENCE;
        if is_fed && now.since(self.progress_at) >= PATIENCE {
            self.progress_at = now;
            let _ = writer.pli(1, self.ssrc);
        }
    }

    /// When the newest picture decoded was captured, or the newest packet of a voice, milliseconds.
    pub fn shown_ms(&self) -> u32 {
        match self.kind {
            Kind::Audio => self.newest_ms,
            Kind::Video => self.decoded.map_or(0, |stamp| stamp.captured_ms),
        }
    }

    /// Whether packets arrive and it decodes none.
    pub fn is_stuck(&self, now: Time) -> bool {
        self.kind == Kind::Video && now.since(self.progress_at) >= PATIENCE
    }

    /// What a receiver report says of it.
    pub fn report(&self) -> Option<ReportBlock> {
        let highest = self.highest?;
        Some(ReportBlock {
            ssrc: self.ssrc,
            highest_sequence: highest as u32,
            ..ReportBlock::default()
        })
    }
}
