//! What one push sends: the frames of a voice and a picture in their order, as live Matroska.
//!
//! Sound is whole from the beginning on: where there is none (no microphone, a mute, loss, pauses
//! of a sender that saves them) stands silence, so that a server of broadcasts, which shows nothing
//! without sound, goes on. A picture may come later, stop and change its size; one that comes where
//! there was none, or in another codec, begins the stream anew.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::time::Duration;

use opencall_dataplane::fanout::links::{PipeMessage, PipeSlot};
use opencall_dataplane::message::{CoreId, ProducerId};
use opencall_recorder::depacketize::Depacketizer;
use opencall_recorder::matroska::{self, Cluster, FileHeader, TrackHeader};
use opencall_recorder::message::TrackConfig;
use opencall_recorder::track::{Track, TrackFrame};
use opencall_wire::codec::{Codec, MediaKind};
use opencall_wire::time::Time;

/// How long a stream waits for the first picture, which needs a key frame.
const GATHER: Duration = Duration::from_secs(3);

/// Frames wait so long for those of the other track, milliseconds.
const HOLD_MS: u64 = 300;

/// The same where packets are missing that may still come.
const MAX_HOLD_MS: u64 = 2_000;

/// What has not come so long after its time is silence, milliseconds; where a sender lags behind
/// its own clock, more.
const SILENT_MS: u64 = 500;
const MAX_SILENT_MS: u64 = 1_700;

/// Bytes of frames that wait: two of the largest; each counts for its place besides.
const MAX_HELD_BYTES: usize = 8 << 20;
const PLACE_BYTES: usize = 128;

/// How far a picture's time may be ahead of ours, milliseconds: as far as a sender's clock is
/// believed. Those of a picture each fraction of a millisecond would run away.
const MAX_AHEAD_MS: u64 = 2_000;

/// A packet of Opus in two channels that is silent for 20 ms (RFC 6716 section 3.1).
const SILENCE: [u8; 3] = [0xf8, 0xff, 0xfe];

/// How long that is.
const SILENCE_MS: u64 = 20;

/// Numbers of the tracks.
const SOUND: u8 = 1;
const PICTURE: u8 = 2;

struct Held {
    codec: Codec,
    key: bool,
    private: Option<Vec<u8>>,
    size: Option<(u32, u32)>,
    data: Vec<u8>,
}

/// A stream that has begun.
#[derive(Clone, Copy)]
struct Stream {
    picture: Option<Codec>,
    start_ms: u64,
}

/// How much the program that sends has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Enough to begin again.
    Ample,
    /// Some.
    Little,
    /// None.
    None,
}

/// What a push sends.
pub struct Feed {
    zero: Time,
    sound: Option<Track>,
    picture: Option<Track>,
    stream: Option<Stream>,
    /// Since when there is none.
    waits_since: Time,
    held: BTreeMap<(u64, u64), Held>,
    held_bytes: usize,
    arrivals: u64,
    /// Up to where there is sound, milliseconds.
    whole_ms: u64,
    /// How late sound comes, milliseconds: the worst, forgotten within some five seconds.
    late_ms: u64,
    /// The time of the last picture.
    last_picture_ms: u64,
    /// A picture has come that the stream has no place for.
    is_outdated: bool,
    /// Pictures are of no use before a key frame, and whether one was asked for.
    is_broken: bool,
    has_asked: bool,
    /// Frames that were not sent.
    pub dropped: u64,
    lost: u64,
}

impl Feed {
    /// One without tracks.
    pub fn new(now: Time) -> Self {
        Feed {
            zero: now,
            sound: None,
            picture: None,
            stream: None,
            waits_since: now,
            held: BTreeMap::new(),
            held_bytes: 0,
            arrivals: 0,
            whole_ms: 0,
            late_ms: 0,
            last_picture_ms: 0,
            is_outdated: false,
            is_broken: false,
            has_asked: false,
            dropped: 0,
            lost: 0,
        }
    }

    fn ms(&self, at: Time) -> u64 {
        at.since(self.zero).as_millis() as u64
    }

    fn tracks(&mut self) -> impl Iterator<Item = &mut Track> {
        self.sound.iter_mut().chain(&mut self.picture)
    }

    fn track(&mut self, producer: ProducerId) -> Option<&mut Track> {
        self.tracks().find(|track| track.config.producer == producer)
    }

    /// Adds a track, in place of the one of its kind before.
    pub fn add(&mut self, now: Time, config: TrackConfig) {
        let track = Some(Track::new(now, config, self.zero));
        let place = match track.as_ref().map(|track| track.config.kind) {
            Some(MediaKind::Audio) => &mut self.sound,
            _ => &mut self.picture,
        };
        self.lost += std::mem::replace(place, track).map_or(0, |before| before.lost);
    }

    /// A producer is gone.
    pub fn remove(&mut self, now: Time, producer: ProducerId) {
        self.poll(now);
        for place in [&mut self.sound, &mut self.picture] {
            if let Some(track) = place.take_if(|track| track.config.producer == producer) {
                self.lost += track.lost;
            }
        }
    }

    /// A producer was paused or resumed.
    pub fn set_muted(&mut self, now: Time, producer: ProducerId, muted: bool) {
        if let Some(track) = self.track(producer) {
            track.set_muted(now, muted);
        }
    }

    /// Takes what a data core sent of a producer.
    pub fn push(&mut self, now: Time, producer: ProducerId, slot: &PipeSlot) {
        let Some(track) = self.track(producer) else { return };
        match slot.message {
            PipeMessage::Packet { packet, .. } => {
                track.push(now, &packet, &slot.bytes[..usize::from(slot.len)]);
            }
            PipeMessage::Source { encoding, source, news, .. } => {
                track.set_report(encoding, source, news.report);
            }
            _ => {}
        }
    }

    /// Packets that never came.
    pub fn lost(&self) -> u64 {
        let tracks = self.sound.iter().chain(&self.picture);
        self.lost + tracks.map(|track| track.lost).sum::<u64>()
    }

    /// Who is to be asked for a key frame: on which core, which producer, which encoding.
    pub fn key_frame(&mut self, now: Time) -> Option<(CoreId, ProducerId, u8)> {
        let track = self.picture.as_mut()?;
        let encoding = track.wants_key_frame(now)?;
        Some((track.config.home, track.config.producer, encoding))
    }

    /// Brings what has come into its order.
    pub fn poll(&mut self, now: Time) {
        let mut came = Vec::new();
        self.tracks().for_each(|track| track.poll(now, |frame| came.push(frame)));
        let now_ms = self.ms(now);
        for frame in came {
            match frame.codec {
                Codec::Opus => self.take_sound(now_ms, frame),
                _ => self.take_picture(now_ms, frame),
            }
        }
        let settled = self.sound.as_ref().map_or(now_ms, |track| track.settled_ms(now));
        let patience = (self.late_ms + SILENT_MS / 2).clamp(SILENT_MS, MAX_SILENT_MS);
        let silent = settled.min(now_ms.saturating_sub(patience));
        self.be_silent_until(silent.max(now_ms.saturating_sub(MAX_HOLD_MS)));
        if self.held_bytes > MAX_HELD_BYTES && self.stream.is_none() {
            self.discard(now);
        }
    }

    fn be_silent_until(&mut self, at_ms: u64) {
        while self.whole_ms + SILENCE_MS <= at_ms {
            self.hold(self.whole_ms, Held::sound(SILENCE.to_vec()));
            self.whole_ms += SILENCE_MS;
        }
    }

    fn take_sound(&mut self, now_ms: u64, frame: TrackFrame) {
        let late_ms = now_ms.saturating_sub(frame.at_ms);
        self.late_ms = late_ms.max(self.late_ms - self.late_ms.div_ceil(256));
        let length = opus_ms(&frame.frame.data);
        // It comes where silence was sent already; of less than half a frame clocks may differ.
        if frame.at_ms + SILENCE_MS / 2 < self.whole_ms {
            self.dropped += 1;
            return;
        }
        self.be_silent_until(frame.at_ms);
        self.hold(frame.at_ms, Held::sound(frame.frame.data));
        self.whole_ms = self.whole_ms.max(frame.at_ms + length);
    }

    fn take_picture(&mut self, now_ms: u64, frame: TrackFrame) {
        let TrackFrame { frame, codec, at_ms } = frame;
        if self.stream.is_some_and(|stream| stream.picture != Some(codec)) && !self.is_outdated {
            if !frame.key {
                return;
            }
            self.is_outdated = true;
            self.forget_pictures();
        }
        let at_ms = at_ms.max(self.last_picture_ms + 1);
        if at_ms > now_ms + MAX_AHEAD_MS {
            self.is_broken = true;
            self.dropped += 1;
            return;
        }
        self.last_picture_ms = at_ms;
        let (key, private, size) = (frame.key, frame.private, frame.size);
        self.hold(at_ms, Held { codec, key, private, size, data: frame.data });
    }

    fn forget_pictures(&mut self) {
        self.held.retain(|_, held| held.codec == Codec::Opus);
        self.held_bytes = self.held.values().map(Held::cost).sum();
    }

    fn hold(&mut self, at_ms: u64, held: Held) {
        self.held_bytes += held.cost();
        self.arrivals += 1;
        self.held.insert((at_ms, self.arrivals), held);
    }

    /// Whether the stream is to begin anew, for a picture that it has no place for.
    pub fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// The stream ends, and another may begin with what waits.
    pub fn reopen(&mut self, now: Time) {
        (self.stream, self.waits_since) = (None, now);
        (self.is_outdated, self.is_broken, self.has_asked) = (false, false, false);
    }

    /// The same, without what waits.
    pub fn forget(&mut self, now: Time) {
        self.reopen(now);
        let silent = self.held.values().filter(|held| held.data == SILENCE).count();
        self.dropped += (self.held.len() - silent) as u64;
        self.held.clear();
        self.held_bytes = 0;
    }

    /// The same, and pictures begin again with a key frame.
    pub fn discard(&mut self, now: Time) {
        self.forget(now);
        if let Some(track) = &mut self.picture {
            track.break_off();
        }
    }

    /// Begins a stream, once it is known of what: the codec of its picture, and its head.
    pub fn begin(&mut self, now: Time) -> Option<(Option<Codec>, Vec<u8>)> {
        let first = self.held.iter().find(|(_, held)| held.codec != Codec::Opus && held.key);
        let picture = first.map(|((at_ms, _), held)| (*at_ms, held));
        let awaited = self.picture.as_ref().is_some_and(|track| {
            let main = track.config.payload_types.first();
            !track.config.muted && main.is_some_and(|main| Depacketizer::new(main.codec).is_some())
        });
        let patience = if awaited { GATHER } else { Duration::from_millis(HOLD_MS) };
        if picture.is_none() && now.since(self.waits_since) < patience {
            return None;
        }
        let recent = self.ms(now).saturating_sub(HOLD_MS);
        let start_ms = picture.as_ref().map_or(recent, |(at_ms, _)| *at_ms);
        let track = |number, name: &str, codec| {
            let (private, size, name) = (None, None, name.to_owned());
            TrackHeader { number, name, codec, private, size }
        };
        let private = Some(matroska::opus_head());
        let mut tracks = vec![TrackHeader { private, ..track(SOUND, "sound", Codec::Opus) }];
        let codec = picture.as_ref().map(|(_, held)| held.codec);
        tracks.extend(picture.map(|(_, held)| TrackHeader {
            private: held.private.clone(),
            size: held.size,
            ..track(PICTURE, "picture", held.codec)
        }));
        let (title, tags) = (String::new(), Vec::new());
        let (head, _) = matroska::header(&FileHeader { title, unix_ms: 0, tags, tracks });
        self.stream = Some(Stream { picture: codec, start_ms });
        self.held = self.held.split_off(&(start_ms, 0));
        self.held_bytes = self.held.values().map(Held::cost).sum();
        Some((codec, head))
    }

    /// The next frames, if any are due and there is room for them.
    pub fn take(&mut self, now: Time, room: Room) -> Option<Vec<u8>> {
        let stream = self.stream?;
        if self.is_broken && !self.has_asked && room == Room::Ample {
            self.has_asked = true;
            if let Some(track) = &mut self.picture {
                track.break_off();
            }
        }
        let due_ms = self.due_ms(now);
        let mut cluster: Option<Cluster> = None;
        while let Some((&(at_ms, _), _)) = self.held.first_key_value() {
            let is_full = self.held_bytes > MAX_HELD_BYTES;
            let time_ms = at_ms.saturating_sub(stream.start_ms);
            let spans = cluster.as_ref().is_none_or(|open| open.spans(time_ms));
            if at_ms >= due_ms && !is_full || !spans {
                break;
            }
            let Some((_, held)) = self.held.pop_first() else { break };
            self.held_bytes -= held.cost();
            if !self.passes(&held, stream, room) {
                self.dropped += 1;
                continue;
            }
            let number = if held.codec == Codec::Opus { SOUND } else { PICTURE };
            let open = cluster.get_or_insert_with(|| Cluster::new(time_ms));
            open.push(number, time_ms, held.key, &held.data);
        }
        cluster.map(Cluster::finish)
    }

    fn passes(&mut self, held: &Held, stream: Stream, room: Room) -> bool {
        let is_picture = held.codec != Codec::Opus;
        if room == Room::None {
            self.is_broken |= is_picture;
            return false;
        }
        if is_picture && held.key {
            (self.is_broken, self.has_asked) = (false, false);
        }
        !is_picture || !self.is_broken && stream.picture == Some(held.codec)
    }

    /// Up to when everything is here.
    fn due_ms(&self, now: Time) -> u64 {
        let now_ms = self.ms(now);
        let picture = self.picture.as_ref().map_or(now_ms, |track| track.settled_ms(now));
        let settled = picture.min(self.whole_ms).min(now_ms.saturating_sub(HOLD_MS));
        settled.max(now_ms.saturating_sub(MAX_HOLD_MS))
    }
}

impl Held {
    fn sound(data: Vec<u8>) -> Self {
        Held { codec: Codec::Opus, key: true, private: None, size: None, data }
    }

    /// What it takes of [`MAX_HELD_BYTES`].
    fn cost(&self) -> usize {
        self.data.len() + PLACE_BYTES
    }
}

/// How long a packet of Opus lasts, milliseconds (RFC 6716 section 3.1).
fn opus_ms(packet: &[u8]) -> u64 {
    let Some(&toc) = packet.first() else { return 0 };
    let frame_us = match toc >> 3 {
        config @ 0..12 => [10_000, 20_000, 40_000, 60_000][usize::from(config % 4)],
        config @ 12..16 => [10_000, 20_000][usize::from(config % 2)],
        config => [2_500, 5_000, 10_000, 20_000][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u64::from(packet.get(1).copied().unwrap_or_default() & 0x3f),
    };
    // 120 ms at most, whatever a packet says.
    (frame_us * frames / 1_000).min(120)
}

#[cfg(test)]
mod tests {
    use opencall_recorder::depacketize::Frame;

    use super::*;

    fn picture(at_ms: u64, key: bool) -> TrackFrame {
        let frame = Frame { key, private: None, size: Some((640, 360)), data: vec![0] };
        TrackFrame { frame, codec: Codec::Vp8, at_ms }
    }

    #[test]
    fn more_pictures_than_milliseconds_do_not_run_away() {
        let mut feed = Feed::new(Time::ZERO);
        feed.take_picture(0, picture(0, true));
        for _ in 0..20_000 {
            feed.take_picture(0, picture(0, false));
        }
        assert_eq!(feed.held.len() as u64, MAX_AHEAD_MS);
        assert_eq!(feed.dropped, 20_001 - MAX_AHEAD_MS);
        assert_eq!(feed.held_bytes, feed.held.len() * (1 + PLACE_BYTES));
        // Time goes on, and with the next key frame the picture does.
        feed.take_picture(5_000, picture(5_000, true));
        assert_eq!(feed.held.len() as u64, MAX_AHEAD_MS + 1);
    }
}
