//! One recording: whose tracks go into which files.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use opencall_dataplane::message::{CoreId, ProducerId};
use opencall_wire::time::Time;
use serde_json::Value;

use crate::depacketize::Depacketizer;
use crate::disk::{Disk, FileKey, Job};
use crate::file::{About, RecordFile};
use crate::manifest;
use crate::message::{Ending, Progress, RecordingConfig, TrackConfig};
use crate::track::{Track, TrackFrame};

/// How often `recording.json` is written anew while something changes.
const MANIFEST_INTERVAL: Duration = Duration::from_secs(1);

/// What is remembered of tracks and files that have ended; a room in which people come and go all
/// day has some thousands.
pub const MAX_PAST: usize = 20_000;

/// One person of the recording.
pub struct Participant {
    /// The name that was shown last.
    pub display_name: String,
    /// Files that are open.
    pub files: Vec<RecordFile>,
    /// Files that are closed, as `recording.json` has them.
    pub past_files: Vec<Value>,
    /// Tracks that have ended, as `recording.json` has them.
    pub past_tracks: Vec<Value>,
}

/// One recording.
pub struct Session {
    /// What control said.
    pub config: RecordingConfig,
    /// Its folder.
    pub folder: PathBuf,
    /// Those of whom there is anything.
    pub participants: BTreeMap<Arc<str>, Participant>,
    /// What is recorded now.
    pub tracks: BTreeMap<ProducerId, Track>,
    /// How it ended, once it has.
    pub ending: Option<Ending>,
    /// When that was.
    pub ended: Option<Time>,
    /// Tracks that were not recorded, for there were too many.
    pub refused: u64,
    progress: Progress,
    /// Bytes of closed files.
    closed_bytes: u64,
    past: usize,
    files: u64,
    is_dirty: bool,
    written: Time,
}

impl Session {
    /// Begins a recording in a folder of its own.
    pub fn begin(now: Time, config: RecordingConfig, folder: PathBuf, disk: &Disk) -> Self {
        disk.give(Job::Folder(config.id, folder.clone()));
        let mut session = Session {
            config,
            folder,
            participants: BTreeMap::new(),
            tracks: BTreeMap::new(),
            ending: None,
            ended: None,
            refused: 0,
            progress: Progress::default(),
            closed_bytes: 0,
            past: 0,
            files: 0,
            is_dirty: true,
            written: now,
        };
        session.write_manifest(now, disk);
        session
    }

    /// Adds a track.
    pub fn add_track(&mut self, now: Time, config: TrackConfig) {
        let participant =
            self.participants.entry(Arc::clone(&config.participant)).or_insert(Participant {
                display_name: String::new(),
                files: Vec::new(),
                past_files: Vec::new(),
                past_tracks: Vec::new(),
            });
        participant.display_name.clone_from(&config.display_name);
        self.tracks.insert(config.producer, Track::new(now, config, self.config.started));
        self.is_dirty = true;
    }

    /// A producer was paused or resumed.
    pub fn set_muted(&mut self, now: Time, producer: ProducerId, muted: bool) {
        if let Some(track) = self.tracks.get_mut(&producer) {
            track.set_muted(now, muted);
            self.is_dirty = true;
        }
    }

    /// A producer is gone: its track ends, and with the last track of a file the file.
    pub fn remove_track(&mut self, now: Time, producer: ProducerId, disk: &Disk) {
        self.poll_track(now, producer);
        let Some(track) = self.tracks.remove(&producer) else { return };
        self.progress.packets_lost += track.lost;
        self.is_dirty = true;
        let ms = self.ms(now);
        let Some(mut participant) = self.participants.remove(&track.config.participant) else {
            return;
        };
        if self.past < MAX_PAST {
            self.past += 1;
            participant.past_tracks.push(manifest::track(&track, Some(ms)));
        }
        let is_over = |file: &RecordFile| {
            file.tracks.iter().all(|track| !self.tracks.contains_key(&track.producer))
        };
        let over: Vec<RecordFile> =
            participant.files.extract_if(.., |file| is_over(file)).collect();
        for file in over {
            self.close_file(now, &track.config.participant, &mut participant, file, disk);
        }
        self.participants.insert(track.config.participant, participant);
    }

    fn close_file(
        &mut self,
        now: Time,
        id: &str,
        participant: &mut Participant,
        mut file: RecordFile,
        disk: &Disk,
    ) {
        if file.start_ms().is_none() {
            if file.tracks.is_empty() {
                return;
            }
            file.begin(&self.about(id, &participant.display_name), disk);
            self.progress.files += 1;
        }
        self.progress.clusters_dropped += file.finish(now, disk);
        self.closed_bytes += file.bytes;
        if self.past < MAX_PAST {
            self.past += 1;
            participant.past_files.push(manifest::file(&file, true));
        }
    }

    fn about<'a>(&'a self, participant: &'a str, display_name: &'a str) -> About<'a> {
        About {
            recording: self.config.id,
            folder: &self.folder,
            participant,
            display_name,
            room: &self.config.room,
            unix_ms: self.config.started_unix_ms,
        }
    }

    /// Milliseconds from the recording's zero.
    pub fn ms(&self, now: Time) -> u64 {
        now.since(self.config.started).as_millis() as u64
    }

    /// Frames that are complete go into files, and clusters that are to the disk.
    pub fn poll(&mut self, now: Time, disk: &Disk) {
        if self.ending.is_some() {
            return;
        }
        let producers: Vec<ProducerId> = self.tracks.keys().copied().collect();
        for producer in producers {
            self.poll_track(now, producer);
        }
        self.poll_files(now, disk);
        if self.is_dirty && now.since(self.written) >= MANIFEST_INTERVAL {
            self.write_manifest(now, disk);
        }
    }

    fn poll_track(&mut self, now: Time, producer: ProducerId) {
        let Session { tracks, participants, files, is_dirty, .. } = self;
        let Some(track) = tracks.get_mut(&producer) else { return };
        let name = track.config.source;
        let Some(participant) = participants.get_mut(&track.config.participant) else { return };
        let id = Arc::clone(&track.config.participant);
        track.poll(now, |frame| {
            *is_dirty |= put(now, &id, participant, producer, name, frame, files);
        });
    }

    fn poll_files(&mut self, now: Time, disk: &Disk) {
        let now_ms = self.ms(now);
        let mut participants = std::mem::take(&mut self.participants);
        for (id, participant) in &mut participants {
            for file in &mut participant.files {
                if file.gathers() && file.is_due(now, || self.has_all(id, file)) {
                    file.begin(&self.about(id, &participant.display_name), disk);
                    self.progress.files += 1;
                    self.is_dirty = true;
                }
                let tracks = file.tracks.iter().filter_map(|of| self.tracks.get(&of.producer));
                let settled = tracks.map(|track| track.settled_ms(now)).min();
                let dropped = file.poll(now, settled.unwrap_or(u64::MAX), now_ms, disk);
                if dropped > 0 {
                    self.progress.clusters_dropped += dropped;
                    let broken = file.tracks.iter().map(|track| track.producer);
                    for producer in broken {
                        if let Some(track) = self.tracks.get_mut(&producer) {
                            track.break_off();
                        }
                    }
                }
            }
        }
        self.participants = participants;
    }

    /// Whether nobody is missing in a file of a participant that is about to be heard or seen.
    fn has_all(&self, participant: &str, file: &RecordFile) -> bool {
        let own = |track: &&Track| *track.config.participant == *participant;
        let waited_for = self
            .tracks
            .values()
            .filter(own)
            .filter(|track| !track.config.muted && can_be_recorded(&track.config));
        let has = file.tracks.iter().filter(|of| self.tracks.contains_key(&of.producer));
        has.count() >= waited_for.count()
    }

    /// Who is to be asked for a key frame: on which core, which producer, which encoding.
    pub fn key_frames(&mut self, now: Time) -> Vec<(CoreId, ProducerId, u8)> {
        let wanted = self.tracks.iter_mut().filter_map(|(producer, track)| {
            let encoding = track.wants_key_frame(now)?;
            Some((track.config.home, *producer, encoding))
        });
        wanted.collect()
    }

    /// The numbers so far.
    pub fn progress(&self) -> Progress {
        let open = self.participants.values().flat_map(|participant| &participant.files);
        let lost: u64 = self.tracks.values().map(|track| track.lost).sum();
        Progress {
            bytes: self.closed_bytes + open.map(|file| file.bytes).sum::<u64>(),
            tracks: self.tracks.len() as u64,
            packets_lost: self.progress.packets_lost + lost,
            ..self.progress
        }
    }

    /// Ends it: closes its files. [`Job::End`] is the last of its jobs.
    pub fn end(&mut self, now: Time, ending: Ending, disk: &Disk) {
        if self.ending.is_some() {
            return;
        }
        let producers: Vec<ProducerId> = self.tracks.keys().copied().collect();
        producers.into_iter().for_each(|producer| self.remove_track(now, producer, disk));
        (self.ending, self.ended) = (Some(ending), Some(now));
        self.write_manifest(now, disk);
        disk.give(Job::End(self.config.id));
    }

    fn write_manifest(&mut self, now: Time, disk: &Disk) {
        (self.is_dirty, self.written) = (false, now);
        let mut bytes = serde_json::to_vec_pretty(&manifest::of(self)).unwrap_or_default();
        bytes.push(b'\n');
        let path: &Path = &self.folder;
        disk.give(Job::Replace(self.config.id, path.join("recording.json"), bytes));
    }
}

/// Whether Matroska has a name for its codec.
fn can_be_recorded(config: &TrackConfig) -> bool {
    let main = config.payload_types.first();
    main.is_some_and(|main| Depacketizer::new(main.codec).is_some())
}

/// Puts a frame into the file of its track, which is made if there is none. Returns whether it was.
fn put(
    now: Time,
    id: &str,
    participant: &mut Participant,
    producer: ProducerId,
    name: &str,
    frame: TrackFrame,
    files: &mut u64,
) -> bool {
    let found =
        participant.files.iter().enumerate().rev().find_map(|(index, file)| {
            file.track_of(producer, frame.codec).map(|track| (index, track))
        });
    if let Some((file, track)) = found {
        participant.files[file].push(track, frame);
        return false;
    }
    let index = match participant.files.iter().position(RecordFile::gathers) {
        Some(index) => index,
        None => {
            *files += 1;
            let name = format!("{}-{files}.mkv", manifest::safe(id));
            participant.files.push(RecordFile::new(now, FileKey::next(), name));
            participant.files.len() - 1
        }
    };
    let file = &mut participant.files[index];
    let track = file.add_track(producer, name.to_owned(), &frame);
    file.push(track, frame);
    true
}
