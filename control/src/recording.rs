//! Recordings of rooms: who is told, what is recorded, and what becomes of it.
//!
//! To a data core the sink is one more core, after the last: a producer that is recorded reaches it
//! as it reaches any other (`producer.rs`). What goes into which file is the sink's
//! (`dataplane/recorder`).
//!
//! ```text
//! start ─▶ everyone is told ─notice─▶ Start, AddTrack … ─▶ recording ─stop, failure─▶ Ended
//! ```
//!
//! Everyone in the room is told first, and nothing is written before the notice is over; who comes
//! later is told in the answer that lets it in.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use opencall_dataplane::message::{CoreId, ProducerId, SINK};
use opencall_recorder::message::{
    Ending, Progress, RecordCommand, RecordEvent, RecordingConfig, RecordingId, TrackConfig,
};
use serde::Serialize;

use crate::admin::AdminResponse;
use crate::api::{Notification, RequestError, SessionId};
use crate::control::{Control, Timer};
use crate::limits::{malformed, not_allowed, not_found, too_many};
use crate::room::{Room, RoomId};

/// How long after everyone was told a recording begins, where nothing else is asked for.
pub const NOTICE: Duration = Duration::from_secs(1);

/// The longest notice that can be asked for.
pub const MAX_NOTICE: Duration = Duration::from_secs(60);

/// What an administrator wants with a room's recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingAction {
    /// Begin one; nothing, where there is one.
    Start {
        /// How long after everyone was told.
        notice: Duration,
    },
    /// End it; nothing, where there is none.
    Stop,
    /// Only ask.
    Ask,
}

/// Where a recording is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Phase {
    /// Everyone was told.
    Announced,
    /// It is being written.
    Recording,
    /// It was stopped, and its files are being closed.
    Ending,
    /// Its files are closed.
    Ended,
}

/// The recording of a room: the present one, or the last.
#[derive(Debug, Clone)]
pub(crate) struct Recording {
    id: RecordingId,
    phase: Phase,
    folder: Option<String>,
    started_unix_ms: Option<u64>,
    ending: Option<Ending>,
    progress: Progress,
    /// Tracks that are encrypted end to end, and so not recorded.
    encrypted: u64,
}

impl Recording {
    /// Whether it was announced and goes on.
    pub fn is_on(&self) -> bool {
        matches!(self.phase, Phase::Announced | Phase::Recording)
    }

    fn is_written(&self) -> bool {
        self.phase == Phase::Recording
    }
}

/// A room's recording as administrators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingReport {
    /// Whether the room is being recorded, or is about to be.
    pub active: bool,
    /// `announced`, `recording`, `ending`, `ended`; nothing where there was none.
    state: Option<Phase>,
    /// Its id.
    pub recording: Option<String>,
    /// The name of its folder, in the folder of recordings.
    pub folder: Option<String>,
    /// Unix time of its zero, milliseconds.
    pub started_at_unix_ms: Option<u64>,
    /// Why it ended.
    pub ending: Option<&'static str>,
    /// Bytes written.
    pub bytes: u64,
    /// Files begun.
    pub files: u64,
    /// Tracks that are recorded now.
    pub tracks: u64,
    /// Packets that never came.
    pub packets_lost: u64,
    /// Clusters dropped, for the disk was behind.
    pub clusters_dropped: u64,
    /// Tracks that were not recorded, for they are encrypted end to end.
    pub tracks_encrypted: u64,
}

/// What became of recordings, over all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecordingTotals {
    /// Recordings that are being written.
    pub active: u64,
    /// How often one ended, by [`RecordingTotals::ENDINGS`].
    pub ended: [u64; 5],
    /// Bytes of those that have ended.
    pub bytes: u64,
    /// Packets that never came, of those that have ended.
    pub packets_lost: u64,
    /// Clusters that the disk was too slow for, of those that have ended.
    pub clusters_dropped: u64,
}

impl RecordingTotals {
    /// How recordings end.
    pub const ENDINGS: [Ending; 5] = [
        Ending::Stopped,
        Ending::DiskFull,
        Ending::TooLarge,
        Ending::WriteFailed,
        Ending::SinkLost,
    ];

    fn count(&mut self, ending: Ending, progress: &Progress) {
        if let Some(index) = Self::ENDINGS.iter().position(|known| *known == ending) {
            self.ended[index] += 1;
        }
        self.bytes += progress.bytes;
        self.packets_lost += progress.packets_lost;
        self.clusters_dropped += progress.clusters_dropped;
    }
}

/// Refuses a notice that is longer than one may be.
pub(crate) fn check_notice(notice: Duration) -> Result<(), RequestError> {
    if notice > MAX_NOTICE {
        let reason = format!("noticeSeconds is {} at most", MAX_NOTICE.as_secs());
        return Err(malformed(reason));
    }
    Ok(())
}

impl Control {
    /// Where the sink is; `None` without one.
    pub(crate) fn sink(&self) -> Option<CoreId> {
        self.config.recordings.map(|_| SINK)
    }

    /// What the sink has to do, in order. To be carried there before the commands of
    /// [`Control::poll_command`]: it then knows of a track before its packets come.
    pub fn poll_record_command(&mut self) -> Option<RecordCommand> {
        self.record_commands.pop_front()
    }

    /// What became of recordings.
    pub fn recording_totals(&self) -> RecordingTotals {
        let recordings = self.rooms.values().filter_map(|room| room.recording.as_ref());
        let active = recordings.filter(|recording| recording.is_written()).count() as u64;
        RecordingTotals { active, ..self.recording_totals }
    }

    pub(crate) fn administer_recording(
        &mut self,
        room: &str,
        action: RecordingAction,
    ) -> Result<AdminResponse, RequestError> {
        if self.sink().is_none() {
            let reason = "this server does not record: start it with --recording-dir";
            return Err(not_found(reason));
        }
        let id = self.room_called(room)?;
        match action {
            RecordingAction::Start { notice } => self.announce_recording(id, notice)?,
            RecordingAction::Stop => self.stop_recording(id),
            RecordingAction::Ask => {}
        }
        Ok(AdminResponse::Recording(Box::new(self.describe_recording(id))))
    }

    fn describe_recording(&self, id: RoomId) -> RecordingReport {
        let recording = self.rooms.get(&id).and_then(|room| room.recording.as_ref());
        let progress = recording.map_or_else(Progress::default, |recording| recording.progress);
        RecordingReport {
            active: recording.is_some_and(Recording::is_on),
            state: recording.map(|recording| recording.phase),
            recording: recording.map(|recording| self.ids.text(recording.id.0)),
            folder: recording.and_then(|recording| recording.folder.clone()),
            started_at_unix_ms: recording.and_then(|recording| recording.started_unix_ms),
            ending: recording.and_then(|recording| recording.ending).map(Ending::label),
            bytes: progress.bytes,
            files: progress.files,
            tracks: progress.tracks,
            packets_lost: progress.packets_lost,
            clusters_dropped: progress.clusters_dropped,
            tracks_encrypted: recording.map_or(0, |recording| recording.encrypted),
        }
    }

    fn announce_recording(&mut self, id: RoomId, notice: Duration) -> Result<(), RequestError> {
        check_notice(notice)?;
        let limit = self.config.recordings.unwrap_or(0);
        let recordings = self.rooms.values().filter_map(|room| room.recording.as_ref());
        let count = recordings.filter(|recording| recording.phase != Phase::Ended).count();
        let Some(room) = self.rooms.get_mut(&id) else { return Ok(()) };
        match room.recording.as_ref().map(|recording| recording.phase) {
            Some(Phase::Announced | Phase::Recording) => return Ok(()),
            Some(Phase::Ending) => {
                return Err(not_allowed(
                    "the last recording is being closed: ask again in a second",
                ));
            }
            Some(Phase::Ended) | None if count >= limit => {
                return Err(too_many("recordings at a time", limit));
            }
            Some(Phase::Ended) | None => {}
        }
        room.recording = Some(Recording {
            id: RecordingId(self.ids.next()),
            phase: Phase::Announced,
            folder: None,
            started_unix_ms: None,
            ending: None,
            progress: Progress::default(),
            encrypted: 0,
        });
        let starts_in_ms = notice.as_millis() as u32;
        self.tell_recording(
            id,
            Notification::RecordingChanged {
                recording: true,
                starts_in_ms: Some(starts_in_ms),
                reason: None,
            },
        );
        self.timers.set(Timer::Recording(id), self.now + notice);
        Ok(())
    }

    fn tell_recording(&mut self, id: RoomId, news: Notification) {
        let Some(room) = self.rooms.get(&id) else { return };
        for session in room.members.iter().copied().collect::<Vec<_>>() {
            self.notify(session, news.clone());
        }
    }

    /// The notice is over.
    pub(crate) fn begin_recording(&mut self, id: RoomId) {
        let started_unix_ms = self.config.unix_origin_ms + self.now.as_millis();
        let Some(room) = self.rooms.get_mut(&id) else { return };
        let Some(recording) = room.recording.as_mut().filter(|of| of.phase == Phase::Announced)
        else {
            return;
        };
        recording.phase = Phase::Recording;
        recording.started_unix_ms = Some(started_unix_ms);
        let config = RecordingConfig {
            id: recording.id,
            name: self.ids.text(recording.id.0),
            room: room.name.clone(),
            started: self.now,
            started_unix_ms,
        };
        let members: Vec<SessionId> = room.members.iter().copied().collect();
        self.record_commands.push_back(RecordCommand::Start(Box::new(config)));
        let peers = members.iter().filter_map(|session| self.peers.get(session));
        let producers: Vec<ProducerId> = peers.flat_map(|peer| peer.producers.clone()).collect();
        producers.into_iter().for_each(|producer| self.record_producer(producer));
    }

    /// Records a producer, if its room is being recorded.
    pub(crate) fn record_producer(&mut self, id: ProducerId) {
        let (Some(sink), Some(producer)) = (self.sink(), self.producers.get(&id)) else { return };
        let Some(peer) = self.peers.get(&producer.session) else { return };
        let room = self.rooms.get_mut(&peer.room);
        let recording = room.and_then(|room| room.recording.as_mut());
        let Some(recording) = recording.filter(|recording| recording.is_written()) else { return };
        if producer.reaches(sink) {
            return;
        }
        if producer.app_data.get("e2ee").is_some_and(|value| value.get() != "null") {
            recording.encrypted += 1;
            return;
        }
        let recording = recording.id;
        let config = TrackConfig {
            producer: id,
            home: producer.home(),
            participant: Arc::clone(&peer.name),
            display_name: peer.info.display_name.clone(),
            source: producer.source().label(),
            kind: crate::producer::media_kind(producer.kind),
            payload_types: producer.payload_types(),
            encodings: producer.encoding_count() as u8,
            muted: producer.paused,
        };
        let encodings = config.encodings;
        self.record_commands.push_back(RecordCommand::AddTrack(recording, Box::new(config)));
        self.reach(id, sink);
        self.encodings_wanted(sink, id, encodings);
    }

    /// Records a producer no more.
    pub(crate) fn leave_recording(&mut self, id: ProducerId) {
        let Some(sink) = self.sink() else { return };
        if self.producers.get(&id).is_some_and(|producer| producer.reaches(sink)) {
            self.record_commands.push_back(RecordCommand::RemoveTrack(id));
            self.unreach(id, sink);
        }
    }

    /// A producer was paused or resumed.
    pub(crate) fn tell_sink_of_pause(&mut self, id: ProducerId, muted: bool) {
        let Some(sink) = self.sink() else { return };
        if self.producers.get(&id).is_some_and(|producer| producer.reaches(sink)) {
            self.record_commands.push_back(RecordCommand::Mute { producer: id, muted });
        }
    }

    /// Ends a room's recording, if it has one.
    pub(crate) fn stop_recording(&mut self, id: RoomId) {
        let Some(recording) = self.rooms.get_mut(&id).and_then(|room| room.recording.as_mut())
        else {
            return;
        };
        match recording.phase {
            Phase::Announced => {
                recording.phase = Phase::Ended;
                self.timers.cancel(Timer::Recording(id));
            }
            Phase::Recording => {
                recording.phase = Phase::Ending;
                let stop = RecordCommand::Stop(recording.id);
                self.record_commands.push_back(stop);
                self.close_pipes_to_sink(id);
            }
            Phase::Ending | Phase::Ended => return,
        }
        self.tell_recording(
            id,
            Notification::RecordingChanged {
                recording: false,
                starts_in_ms: None,
                reason: Some(Ending::Stopped.label()),
            },
        );
    }

    fn close_pipes_to_sink(&mut self, id: RoomId) {
        let Some(room) = self.rooms.get(&id) else { return };
        let peers = room.members.iter().filter_map(|session| self.peers.get(session));
        let producers: Vec<ProducerId> = peers.flat_map(|peer| peer.producers.clone()).collect();
        producers.into_iter().for_each(|producer| self.leave_recording(producer));
    }

    /// What the sink says.
    pub fn handle_record_event(&mut self, now: opencall_wire::time::Time, event: RecordEvent) {
        self.begin(now);
        let (RecordEvent::Began { recording: id, .. }
        | RecordEvent::Progress { recording: id, .. }
        | RecordEvent::Ended { recording: id, .. }) = event;
        let is_it = |recording: &Recording| recording.id == id;
        let found = self.rooms.iter_mut().find_map(|(room, of)| {
            Some((*room, of.recording.as_mut().filter(|recording| is_it(recording))?))
        });
        if let RecordEvent::Ended { ending, progress, .. } = &event {
            self.recording_totals.count(*ending, progress);
        }
        let Some((room, recording)) = found else { return };
        match event {
            RecordEvent::Began { folder, .. } => recording.folder = Some(folder),
            RecordEvent::Progress { progress, .. } => recording.progress = progress,
            RecordEvent::Ended { ending, progress, .. } => {
                let is_news = recording.phase == Phase::Recording;
                recording.phase = Phase::Ended;
                (recording.ending, recording.progress) = (Some(ending), progress);
                if is_news {
                    self.close_pipes_to_sink(room);
                    self.tell_recording(
                        room,
                        Notification::RecordingChanged {
                            recording: false,
                            starts_in_ms: None,
                            reason: Some(ending.label()),
                        },
                    );
                }
            }
        }
    }

    /// The sink has failed: everything that is recorded has ended, and so has what was about to be.
    pub fn sink_lost(&mut self, now: opencall_wire::time::Time) {
        self.call_off_recordings();
        let recordings = self.rooms.values().filter_map(|room| room.recording.as_ref());
        let unended = recordings.filter(|of| matches!(of.phase, Phase::Recording | Phase::Ending));
        let lost: Vec<(RecordingId, Progress)> = unended.map(|of| (of.id, of.progress)).collect();
        for (recording, progress) in lost {
            let ending = Ending::SinkLost;
            self.handle_record_event(now, RecordEvent::Ended { recording, ending, progress });
        }
        self.record_commands.clear();
        self.config.recordings = None;
    }

    /// Nothing comes of the recordings that were announced.
    fn call_off_recordings(&mut self) {
        let announced = |room: &Room| {
            let recording = room.recording.as_ref();
            recording.is_some_and(|recording| recording.phase == Phase::Announced)
        };
        let rooms = self.rooms.iter().filter(|(_, room)| announced(room));
        for id in rooms.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.timers.cancel(Timer::Recording(id));
            if let Some(recording) = self.rooms.get_mut(&id).and_then(|of| of.recording.as_mut()) {
                recording.phase = Phase::Ended;
                recording.ending = Some(Ending::SinkLost);
            }
            let reason = Some(Ending::SinkLost.label());
            let news =
                Notification::RecordingChanged { recording: false, starts_in_ms: None, reason };
            self.tell_recording(id, news);
        }
    }
}
