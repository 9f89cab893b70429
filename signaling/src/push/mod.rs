//! Pushes: a participant's voice and picture, sent to a server of broadcasts by RTMP, RTMPS or SRT.
//!
//! ```text
//! data core ──ring──▶ feed (tracks, order, silence, Matroska) ──pipe──▶ ffmpeg ══▶ server
//!           ◀─key frame, please─┘                                stream ─┘ starts it again
//! ```
//!
//! To data cores this is one core more, as the sink of recordings is. One thread does all of it;
//! what has to be decoded and encoded is in programs of its own, one for each push, which are less
//! urgent than anything here.
//!
//! * `target` — where pushes may go; `feed` — what is sent; `child` — the program that sends.
//! * `stream` — one push: when the program is started, and when it is given up.
#![forbid(unsafe_code)]

mod child;
mod feed;
mod stream;
mod target;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::mpsc::Sender;
use std::time::Duration;

use opencall_control::push::message::{
    PushCommand, PushEnding, PushEvent, PushId, PushTarget, PushesCommand,
};
use opencall_dataplane::fanout::links::{Links, PipeMessage, PipeSlot};
use opencall_dataplane::message::{Command, CoreId, ProducerId};
use opencall_dataplane::threads::Clock;
use opencall_wire::time::Time;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use self::child::Child;
use self::stream::Stream;
pub use self::target::{Address, Allowed};
use crate::side_thread::SideThread;

/// How often the rings are looked at while something is pushed: the time of half a frame. A ring
/// holds 1,024 packets.
const LOOK: Duration = Duration::from_millis(10);

/// The same while nothing is.
const REST: Duration = Duration::from_secs(1);

/// Batches taken from one ring in one turn: two full rings.
const MAX_BATCHES: usize = 16;

/// How often the numbers of a push are told.
const TELL: Duration = Duration::from_secs(1);

/// How long programs may take to end when the server stops; then they are killed.
const STOP_TIMEOUT: Duration = Duration::from_millis(400);

/// Control's end of the thread that broadcasts.
pub type PushThread = SideThread<PushesCommand, PushEvent>;

/// Starts it, to trust the certificates in `ca`, or the system's. `notify` is called when there are
/// events; `wake` wakes a data core that was asked something.
///
/// # Errors
/// The system has no thread or no files left.
pub fn start(
    clock: Clock,
    ca: Option<PathBuf>,
    notify: impl Fn() + Send + 'static,
    wake: impl Fn(CoreId) + Send + 'static,
) -> std::io::Result<PushThread> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    SideThread::start("push", move |taken, told| {
        runtime.block_on(Pushes::new(clock, ca, told).run(taken, notify, wake));
    })
}

struct Pushes {
    clock: Clock,
    ca: Option<PathBuf>,
    events: Sender<PushEvent>,
    is_news: bool,
    links: Links,
    streams: BTreeMap<PushId, Stream>,
    of: HashMap<ProducerId, PushId>,
    /// Programs of pushes that have ended.
    leaving: Vec<(Child, Time)>,
    told: Time,
}

impl Pushes {
    fn new(clock: Clock, ca: Option<PathBuf>, events: Sender<PushEvent>) -> Self {
        Pushes {
            clock,
            ca,
            events,
            is_news: false,
            links: Links::default(),
            streams: BTreeMap::new(),
            of: HashMap::new(),
            leaving: Vec::new(),
            told: Time::ZERO,
        }
    }

    async fn run(
        mut self,
        mut commands: UnboundedReceiver<PushesCommand>,
        notify: impl Fn(),
        wake: impl Fn(CoreId),
    ) {
        loop {
            let is_idle = self.streams.is_empty() && self.leaving.is_empty();
            match timeout(if is_idle { REST } else { LOOK }, commands.recv()).await {
                Ok(Some(command)) => {
                    self.command(self.clock.now(), command);
                    while let Ok(command) = commands.try_recv() {
                        self.command(self.clock.now(), command);
                    }
                }
                Ok(None) => break,
                Err(_) => {}
            }
            self.turn(self.clock.now());
            self.links.take_wake().for_each(&wake);
            if std::mem::take(&mut self.is_news) {
                notify();
            }
        }
        self.end().await;
    }

    /// Ends all programs, and waits for them.
    async fn end(mut self) {
        let until = self.clock.now() + STOP_TIMEOUT;
        for (_, stream) in std::mem::take(&mut self.streams) {
            self.leaving.extend(stream.end(self.clock.now()));
        }
        self.leaving.iter_mut().for_each(|(_, at)| *at = until.min(*at));
        while !self.leaving.is_empty() && self.clock.now() < until + STOP_TIMEOUT {
            self.dismiss(self.clock.now());
            tokio::time::sleep(LOOK).await;
        }
    }

    fn dismiss(&mut self, now: Time) {
        self.leaving.retain_mut(|(child, until)| {
            if now >= *until {
                child.kill();
            }
            child.ended().is_none()
        });
    }

    fn command(&mut self, now: Time, command: PushesCommand) {
        match command {
            PushesCommand::Core(Command::AttachLink { to, link }) => self.links.attach(to, *link),
            PushesCommand::Core(Command::DetachLink(core)) => self.links.detach(core),
            // Pipes are known by what is pushed.
            PushesCommand::Core(_) => {}
            PushesCommand::Push(PushCommand::Start { push, target }) => {
                self.start(now, push, &target);
            }
            PushesCommand::Push(PushCommand::AddTrack(push, config)) => {
                if let Some(stream) = self.streams.get_mut(&push) {
                    self.of.insert(config.producer, push);
                    stream.feed.add(now, *config);
                }
            }
            PushesCommand::Push(PushCommand::Mute { producer, muted }) => {
                if let Some(stream) = self.of.get(&producer).and_then(|id| self.streams.get_mut(id))
                {
                    stream.feed.set_muted(now, producer, muted);
                }
            }
            PushesCommand::Push(PushCommand::RemoveTrack(producer)) => {
                self.take_packets(now);
                if let Some(id) = self.of.remove(&producer)
                    && let Some(stream) = self.streams.get_mut(&id)
                {
                    stream.feed.remove(now, producer);
                }
            }
            PushesCommand::Push(PushCommand::Stop(push)) => self.stop(now, push),
        }
    }

    fn start(&mut self, now: Time, push: PushId, target: &PushTarget) {
        if let Some(stream) = Stream::new(now, push, target) {
            self.streams.insert(push, stream);
        }
    }

    fn stop(&mut self, now: Time, push: PushId) {
        if let Some(stream) = self.streams.remove(&push) {
            self.leaving.extend(stream.end(now));
            self.of.retain(|_, of| *of != push);
        }
    }

    fn tell(&mut self, event: PushEvent) {
        // Nobody hears it while the server stops.
        self.is_news |= self.events.send(event).is_ok();
    }

    /// One round: packets in; frames and requests out.
    fn turn(&mut self, now: Time) {
        self.take_packets(now);
        self.dismiss(now);
        let mut ended: Vec<(PushId, PushEnding)> = Vec::new();
        let mut changed: Vec<PushId> = Vec::new();
        let is_due = now.since(self.told) >= TELL;
        for (id, stream) in &mut self.streams {
            ended.extend(stream.turn(now, self.ca.as_deref()).map(|ending| (*id, ending)));
            changed.extend((stream.has_changed() || is_due).then_some(*id));
            if let Some((home, producer, encoding)) = stream.feed.key_frame(now) {
                let message = PipeMessage::KeyFrameRequest { producer, encoding };
                // A ring that is full, or not there yet: it is asked again.
                let _ = self.links.send(home, message, &[]);
            }
        }
        if is_due {
            self.told = now;
        }
        for push in changed {
            if let Some(progress) = self.streams.get(&push).map(Stream::progress) {
                self.tell(PushEvent::Progress { push, progress });
            }
        }
        for (push, ending) in ended {
            if let Some(progress) = self.streams.get(&push).map(Stream::progress) {
                self.stop(now, push);
                self.tell(PushEvent::Ended { push, ending, progress });
            }
        }
    }

    fn take_packets(&mut self, now: Time) {
        let Pushes { links, streams, of, .. } = self;
        links.drain(MAX_BATCHES, |slot| take_slot(now, slot, streams, of));
    }
}

fn take_slot(
    now: Time,
    slot: &PipeSlot,
    streams: &mut BTreeMap<PushId, Stream>,
    of: &HashMap<ProducerId, PushId>,
) {
    let (PipeMessage::Packet { producer, .. } | PipeMessage::Source { producer, .. }) =
        slot.message
    else {
        return;
    };
    if let Some(stream) = of.get(&producer).and_then(|id| streams.get_mut(id)) {
        stream.feed.push(now, producer, slot);
    }
}
