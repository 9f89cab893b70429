//! One file of a participant: the tracks that began together, in clusters of a second.
//!
//! Matroska's header names all tracks, so a file waits a moment for those that are about to begin;
//! a track that comes later, or changes its codec, begins another file beside it.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use opencall_dataplane::message::ProducerId;
use opencall_wire::codec::Codec;
use opencall_wire::time::Time;

use crate::disk::{Disk, FileKey, Job};
use crate::matroska::{self, Cluster, Cue, FileHeader, Places, TrackHeader};
use crate::message::RecordingId;
use crate::track::TrackFrame;

/// How long a file waits for the first frames of other tracks of its participant: a key frame that
/// was asked for is here after half a second, as a rule, and later where the sender has no time.
const GATHER: Duration = Duration::from_secs(3);

/// A cluster is written after this at the latest: so much is lost when the server is killed, beside
/// what still waits for its order.
const CLUSTER: Duration = Duration::from_millis(900);

/// Bytes of a cluster, and of frames that wait for their order, after which it is written at once.
const MAX_CLUSTER_BYTES: usize = 1 << 20;

/// A frame waits for those of other tracks no longer than this.
const MAX_HELD_MS: u64 = 2_000;

/// Tracks of one file: their numbers have one byte, and a participant has 32 producers.
const MAX_TRACKS: usize = 32;

/// Where one can begin to play, of a file at most: a day of them, one a second.
const MAX_CUES: usize = 100_000;

/// A track of a file.
#[derive(Debug, Clone)]
pub struct FileTrack {
    /// Whose frames.
    pub producer: ProducerId,
    /// What the file says of it.
    pub header: TrackHeader,
    /// Its first and last frame, milliseconds from the recording's zero.
    pub first_ms: u64,
    /// See `first_ms`.
    pub last_ms: u64,
    /// Frames written.
    pub frames: u64,
    /// A cluster was dropped: what comes is of no use until a key frame.
    is_broken: bool,
}

struct Held {
    track: u8,
    frame: TrackFrame,
}

struct Head {
    places: Places,
    /// The recording's time of the file's zero.
    start_ms: u64,
}

/// One file.
pub struct RecordFile {
    /// For the disk.
    pub key: FileKey,
    /// Its name in the recording's folder.
    pub name: String,
    /// Its tracks.
    pub tracks: Vec<FileTrack>,
    /// Bytes given to the disk.
    pub bytes: u64,
    began: Time,
    head: Option<Head>,
    /// Frames that wait for their order, by time and arrival.
    held: BTreeMap<(u64, u64), Held>,
    held_bytes: usize,
    arrivals: u64,
    cluster: Option<(Cluster, Time)>,
    cues: Vec<Cue>,
}

/// What a file is told of its recording.
pub struct About<'a> {
    /// Which recording.
    pub recording: RecordingId,
    /// Its folder.
    pub folder: &'a Path,
    /// The participant's id.
    pub participant: &'a str,
    /// The name that it shows.
    pub display_name: &'a str,
    /// The room.
    pub room: &'a str,
    /// Unix time of the recording's zero, milliseconds.
    pub unix_ms: u64,
}

impl RecordFile {
    /// One that gathers its tracks.
    pub fn new(now: Time, key: FileKey, name: String) -> Self {
        RecordFile {
            key,
            name,
            tracks: Vec::new(),
            bytes: 0,
            began: now,
            head: None,
            held: BTreeMap::new(),
            held_bytes: 0,
            arrivals: 0,
            cluster: None,
            cues: Vec::new(),
        }
    }

    /// Whether it still takes tracks.
    pub fn gathers(&self) -> bool {
        self.head.is_none() && self.tracks.len() < MAX_TRACKS
    }

    /// Whether its gathering is over: time is up, or `is_complete` says that nobody is missing.
    pub fn is_due(&self, now: Time, is_complete: impl FnOnce() -> bool) -> bool {
        !self.tracks.is_empty()
            && (now.since(self.began) >= GATHER
                || self.held_bytes > MAX_CLUSTER_BYTES
                || is_complete())
    }

    /// The recording's time of the file's zero, once it has begun.
    pub fn start_ms(&self) -> Option<u64> {
        self.head.as_ref().map(|head| head.start_ms)
    }

    /// Its track of a producer, if that still has this codec.
    pub fn track_of(&self, producer: ProducerId, codec: Codec) -> Option<usize> {
        let is_it = |track: &FileTrack| track.producer == producer && track.header.codec == codec;
        self.tracks.iter().position(is_it)
    }

    /// Adds a track that begins with this frame.
    pub fn add_track(&mut self, producer: ProducerId, name: String, frame: &TrackFrame) -> usize {
        let private = match frame.codec {
            Codec::Opus => Some(matroska::opus_head()),
            _ => frame.frame.private.clone(),
        };
        let header = TrackHeader {
            number: self.tracks.len() as u8 + 1,
            name,
            codec: frame.codec,
            private,
            size: frame.frame.size,
        };
        let (first_ms, last_ms) = (frame.at_ms, frame.at_ms);
        self.tracks.push(FileTrack {
            producer,
            header,
            first_ms,
            last_ms,
            frames: 0,
            is_broken: false,
        });
        self.tracks.len() - 1
    }

    /// Takes a frame of its track.
    pub fn push(&mut self, track: usize, frame: TrackFrame) {
        let Some(of) = self.tracks.get_mut(track) else { return };
        of.last_ms = of.last_ms.max(frame.at_ms);
        of.frames += 1;
        self.held_bytes += frame.frame.data.len();
        self.arrivals += 1;
        let key = (frame.at_ms, self.arrivals);
        self.held.insert(key, Held { track: of.header.number, frame });
    }

    /// Begins the file on the disk.
    pub fn begin(&mut self, about: &About<'_>, disk: &Disk) {
        let start_ms = self.held.keys().next().map_or(0, |(at, _)| *at);
        let header = FileHeader {
            title: format!("{} — {}", about.display_name, about.room),
            unix_ms: about.unix_ms + start_ms,
            tags: vec![
                ("PARTICIPANT", about.participant.to_owned()),
                ("ROOM", about.room.to_owned()),
                ("START_UNIX_MS", (about.unix_ms + start_ms).to_string()),
            ],
            tracks: self.tracks.iter().map(|track| track.header.clone()).collect(),
        };
        let (bytes, places) = matroska::header(&header);
        disk.give(Job::Create(about.recording, self.key, about.folder.join(&self.name)));
        self.bytes = bytes.len() as u64;
        disk.give(Job::Append(self.key, bytes));
        self.head = Some(Head { places, start_ms });
    }

    /// Writes what has its order by now: all frames before `settled_ms`, and what has waited for
    /// long. Returns the clusters that the disk did not take.
    #[must_use]
    pub fn poll(&mut self, now: Time, settled_ms: u64, now_ms: u64, disk: &Disk) -> u64 {
        let Some(start_ms) = self.start_ms() else { return 0 };
        let mut dropped = 0;
        while let Some((&(at_ms, _), _)) = self.held.first_key_value() {
            let waited = at_ms + MAX_HELD_MS <= now_ms || self.held_bytes > MAX_CLUSTER_BYTES;
            if at_ms >= settled_ms && !waited {
                break;
            }
            let Some((_, held)) = self.held.pop_first() else { break };
            self.held_bytes -= held.frame.frame.data.len();
            dropped += self.write(now, at_ms.saturating_sub(start_ms), &held, disk);
        }
        let is_due = |(cluster, since): &(Cluster, Time)| {
            now.since(*since) >= CLUSTER || cluster.len() > MAX_CLUSTER_BYTES
        };
        if self.cluster.as_ref().is_some_and(is_due) {
            dropped += self.flush(disk);
        }
        dropped
    }

    fn write(&mut self, now: Time, time_ms: u64, held: &Held, disk: &Disk) -> u64 {
        let fits = |(cluster, _): &(Cluster, Time)| {
            cluster.spans(time_ms) && cluster.len() <= MAX_CLUSTER_BYTES
        };
        let dropped = if self.cluster.as_ref().is_some_and(|open| !fits(open)) {
            self.flush(disk)
        } else {
            0
        };
        let frame = &held.frame.frame;
        let track = self.tracks.get_mut(usize::from(held.track) - 1);
        if let Some(track) = track {
            track.is_broken &= !frame.key;
            if track.is_broken {
                return dropped;
            }
        }
        let is_picture = held.frame.codec != Codec::Opus;
        let only_sound = self.tracks.iter().all(|track| track.header.codec == Codec::Opus);
        let (cluster, _) = self.cluster.get_or_insert_with(|| (Cluster::new(time_ms), now));
        let is_cue = frame.key && (is_picture || only_sound && cluster.is_empty());
        cluster.push(held.track, time_ms, frame.key, &frame.data);
        let is_new = self.cues.last().is_none_or(|cue| cue.at != self.bytes);
        if is_cue && is_new && self.cues.len() < MAX_CUES {
            self.cues.push(Cue { time_ms, track: held.track, at: self.bytes });
        }
        dropped
    }

    /// Gives the open cluster to the disk; 1 if the disk does not take it.
    fn flush(&mut self, disk: &Disk) -> u64 {
        let Some((cluster, _)) = self.cluster.take() else { return 0 };
        let bytes = cluster.finish();
        let len = bytes.len() as u64;
        if !disk.append(self.key, bytes) {
            self.cues.retain(|cue| cue.at != self.bytes);
            self.tracks.iter_mut().for_each(|track| track.is_broken = true);
            return 1;
        }
        self.bytes += len;
        0
    }

    /// Writes what is left, and what the header kept room for.
    pub fn finish(&mut self, now: Time, disk: &Disk) -> u64 {
        let dropped = self.poll(now, u64::MAX, 0, disk) + self.flush(disk);
        let Some(Head { places, start_ms }) = &self.head else { return dropped };
        let end_ms = self.tracks.iter().map(|track| track.last_ms).max().unwrap_or(*start_ms);
        let cues_at = self.bytes;
        let cues = matroska::cues(places, &self.cues);
        self.bytes += cues.len() as u64;
        let duration_ms = end_ms.saturating_sub(*start_ms);
        disk.give(Job::Append(self.key, cues));
        for (at, bytes) in matroska::patches(places, self.bytes, cues_at, duration_ms) {
            disk.give(Job::Patch(self.key, at, bytes));
        }
        disk.give(Job::Close(self.key));
        dropped
    }
}
