//! The far end of the pipes: reads the rings, and has what comes recorded.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use opencall_dataplane::fanout::links::{Links, PipeMessage, PipeSlot};
use opencall_dataplane::message::{Command, CoreId, ProducerId};
use opencall_dataplane::threads::Clock;
use opencall_wire::time::Time;

use crate::disk::{Disk, DiskEvent};
use crate::manifest;
use crate::message::{
    Ending, RecordCommand, RecordEvent, RecordingConfig, RecordingId, SinkCommand, TrackConfig,
};
use crate::session::Session;

/// How often the rings are looked at while something is recorded. Data cores wake no sink: that
/// would be a system call of theirs for each turn. A ring holds 1,024 packets, so that a core may
/// send 100,000 of them a second.
const LOOK: Duration = Duration::from_millis(10);

/// The same while nothing is.
const REST: Duration = Duration::from_secs(1);

/// Batches taken from one ring in one turn: two full rings.
const MAX_BATCHES: usize = 16;

/// How often the numbers of a recording are told.
const TELL: Duration = Duration::from_secs(1);

/// Tracks of all recordings together. What waits of each is bounded
/// ([`crate::reorder::MAX_BYTES`]), and so is all of it.
pub const MAX_TRACKS: usize = 512;

/// How long the sink takes its time to write what is left when the server stops.
pub const STOP_TIMEOUT: Duration = Duration::from_millis(600);

/// Settings.
#[derive(Debug, Clone)]
pub struct SinkConfig {
    /// Where recordings go, each into a folder of its own.
    pub folder: PathBuf,
    /// Bytes that a recording may have.
    pub max_bytes: u64,
    /// Bytes that stay free on the disk.
    pub min_free: u64,
}

/// The sink.
pub struct Sink {
    config: SinkConfig,
    links: Links,
    disk: Disk,
    sessions: BTreeMap<RecordingId, Session>,
    of: HashMap<ProducerId, RecordingId>,
    events: VecDeque<RecordEvent>,
    told: Time,
}

impl Sink {
    /// Records nothing yet.
    pub fn new(config: SinkConfig, disk: Disk) -> Self {
        Sink {
            config,
            links: Links::default(),
            disk,
            sessions: BTreeMap::new(),
            of: HashMap::new(),
            events: VecDeque::new(),
            told: Time::ZERO,
        }
    }

    /// Does what control says.
    pub fn command(&mut self, now: Time, command: SinkCommand) {
        match command {
            SinkCommand::Core(Command::AttachLink { to, link }) => self.links.attach(to, *link),
            SinkCommand::Core(Command::DetachLink(core)) => self.links.detach(core),
            // Pipes are known by what is recorded.
            SinkCommand::Core(_) => {}
            SinkCommand::Record(RecordCommand::Start(config)) => self.start(now, *config),
            SinkCommand::Record(RecordCommand::AddTrack(id, config)) => {
                self.add_track(now, id, *config);
            }
            SinkCommand::Record(RecordCommand::Mute { producer, muted }) => {
                if let Some(session) = self.session_of(producer) {
                    session.set_muted(now, producer, muted);
                }
            }
            SinkCommand::Record(RecordCommand::RemoveTrack(producer)) => {
                self.take_packets(now);
                if let Some(id) = self.of.remove(&producer)
                    && let Some(session) = self.sessions.get_mut(&id)
                {
                    session.remove_track(now, producer, &self.disk);
                }
            }
            SinkCommand::Record(RecordCommand::Stop(id)) => {
                self.take_packets(now);
                self.end(now, id, Ending::Stopped);
            }
        }
    }

    fn session_of(&mut self, producer: ProducerId) -> Option<&mut Session> {
        self.sessions.get_mut(self.of.get(&producer)?)
    }

    fn start(&mut self, now: Time, config: RecordingConfig) {
        let date = manifest::date(config.started_unix_ms / 1_000);
        let name = format!("{}-{date}-{}", manifest::safe(&config.room), config.name);
        let (recording, folder) = (config.id, self.config.folder.join(&name));
        self.sessions.insert(recording, Session::begin(now, config, folder, &self.disk));
        self.events.push_back(RecordEvent::Began { recording, folder: name });
    }

    fn add_track(&mut self, now: Time, id: RecordingId, config: TrackConfig) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.ending.is_some() {
            return;
        }
        if self.of.len() >= MAX_TRACKS {
            session.refused += 1;
            return;
        }
        self.of.insert(config.producer, id);
        session.add_track(now, config);
    }

    fn end(&mut self, now: Time, id: RecordingId, ending: Ending) {
        if let Some(session) = self.sessions.get_mut(&id) {
            session.end(now, ending, &self.disk);
            self.of.retain(|_, of| *of != id);
        }
    }

    /// One round: packets in; frames, clusters and requests out.
    pub fn turn(&mut self, now: Time) {
        self.take_packets(now);
        let mut too_large = Vec::new();
        for (id, session) in &mut self.sessions {
            session.poll(now, &self.disk);
            for (home, producer, encoding) in session.key_frames(now) {
                let message = PipeMessage::KeyFrameRequest { producer, encoding };
                // A ring that is full, or not there yet: it is asked again.
                let _ = self.links.send(home, message, &[]);
            }
            if session.progress().bytes > self.config.max_bytes {
                too_large.push(*id);
            }
        }
        too_large.into_iter().for_each(|id| self.end(now, id, Ending::TooLarge));
        while let Some(event) = self.disk.poll_event() {
            self.on_disk_event(now, event);
        }
        if now.since(self.told) >= TELL {
            self.told = now;
            self.tell_progress();
        }
    }

    fn tell_progress(&mut self) {
        for (&recording, session) in &self.sessions {
            let progress = session.progress();
            self.events.push_back(RecordEvent::Progress { recording, progress });
        }
    }

    fn on_disk_event(&mut self, now: Time, event: DiskEvent) {
        match event {
            DiskEvent::Failed(id, ending) => self.end(now, id, ending),
            DiskEvent::Ended(recording) => {
                let Some(session) = self.sessions.remove(&recording) else { return };
                let ending = session.ending.unwrap_or(Ending::Stopped);
                let progress = session.progress();
                self.events.push_back(RecordEvent::Ended { recording, ending, progress });
            }
        }
    }

    fn take_packets(&mut self, now: Time) {
        let Sink { links, sessions, of, .. } = self;
        links.drain(MAX_BATCHES, |slot| take_slot(now, slot, sessions, of));
    }

    /// What control is told next.
    pub fn poll_event(&mut self) -> Option<RecordEvent> {
        self.events.pop_front()
    }

    /// The cores that were asked something since the last call.
    pub fn cores_to_wake(&mut self) -> impl Iterator<Item = CoreId> + use<> {
        self.links.take_wake()
    }

    /// Whether nothing is recorded, nor being closed.
    pub fn is_idle(&self) -> bool {
        self.sessions.is_empty()
    }

    /// Ends all recordings.
    pub fn end_all(&mut self, now: Time) {
        let all: Vec<RecordingId> = self.sessions.keys().copied().collect();
        all.into_iter().for_each(|id| self.end(now, id, Ending::Stopped));
    }
}

fn take_slot(
    now: Time,
    slot: &PipeSlot,
    sessions: &mut BTreeMap<RecordingId, Session>,
    of: &HashMap<ProducerId, RecordingId>,
) {
    let (PipeMessage::Packet { producer, .. } | PipeMessage::Source { producer, .. }) =
        slot.message
    else {
        return;
    };
    let session = of.get(&producer).and_then(|id| sessions.get_mut(id));
    let Some(track) = session.and_then(|session| session.tracks.get_mut(&producer)) else { return };
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

/// Control's end of the sink's thread.
pub struct SinkThread {
    commands: Option<Sender<SinkCommand>>,
    events: Receiver<RecordEvent>,
    thread: Option<JoinHandle<()>>,
}

/// Starts the sink. `notify` is called when there are events; `wake` wakes a data core that was
/// asked something.
///
/// # Errors
/// The system has no thread left.
pub fn start(
    config: SinkConfig,
    clock: Clock,
    notify: Arc<dyn Fn() + Send + Sync>,
    wake: impl Fn(CoreId) + Send + 'static,
) -> std::io::Result<SinkThread> {
    let disk = Disk::start(config.min_free)?;
    let (commands, taken) = channel();
    let (told, events) = channel();
    let run = move || {
        let sink = Sink::new(config, disk);
        run(sink, clock, &taken, &told, &*notify, wake);
    };
    let thread = std::thread::Builder::new().name("record".into()).spawn(run)?;
    Ok(SinkThread { commands: Some(commands), events, thread: Some(thread) })
}

impl SinkThread {
    /// Hands a command over. Returns whether the sink lives.
    pub fn send(&self, command: SinkCommand) -> bool {
        self.commands.as_ref().is_some_and(|commands| commands.send(command).is_ok())
    }

    /// The next event.
    pub fn poll_event(&self) -> Option<RecordEvent> {
        self.events.try_recv().ok()
    }

    /// Whether its thread runs.
    pub fn is_running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Tells it to end: what is left is written, for [`STOP_TIMEOUT`] at most.
    pub fn stop(&mut self) {
        self.commands = None;
    }
}

fn run(
    mut sink: Sink,
    clock: Clock,
    commands: &Receiver<SinkCommand>,
    told: &Sender<RecordEvent>,
    notify: &(dyn Fn() + Send + Sync),
    wake: impl Fn(CoreId),
) {
    let mut stops = None;
    loop {
        let patience = if sink.is_idle() { REST } else { LOOK };
        match commands.recv_timeout(patience) {
            Ok(command) => {
                sink.command(clock.now(), command);
                while let Ok(command) = commands.try_recv() {
                    sink.command(clock.now(), command);
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                let now = clock.now();
                let until = *stops.get_or_insert(now + STOP_TIMEOUT);
                sink.end_all(now);
                if sink.is_idle() || now >= until {
                    return;
                }
                std::thread::sleep(LOOK);
            }
        }
        sink.turn(clock.now());
        sink.cores_to_wake().for_each(&wake);
        let mut is_news = false;
        while let Some(event) = sink.poll_event() {
            // Nobody hears it while the server stops.
            is_news |= told.send(event).is_ok();
        }
        if is_news {
            notify();
        }
    }
}
