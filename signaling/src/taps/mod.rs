//! Taps: the voices of a room, handed to a program outside, and what it says of them.
//!
//! ```text
//! data core ──ring──▶ voice (order, numbers) ─▶ line (bounded) ─▶ processor ══WebSocket══▶ program
//!                            control ◀── results ◀── mediajson ◀─────────┘
//! ```
//!
//! To data cores this is one core more, as the sink of recordings is: it gets the packets of a
//! voice in plain text through the same rings. Opus goes out as it came. One thread does all of it,
//! and a program that is slow, gone or hostile costs its own tap and nobody else.
//!
//! * `voice` — packets to frames; `line` — what waits; `processor` — the connection.
//! * [`mediajson`] — what is said, and what is understood.
//! * [`gauges`] — what is counted.
#![forbid(unsafe_code)]

pub mod gauges;
mod line;
pub mod mediajson;
mod processor;
mod voice;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use opencall_control::tap::message::{
    TapCommand, TapEvent, TapId, TapTarget, TapsCommand, VoiceConfig,
};
use opencall_dataplane::fanout::links::{Links, PipeMessage, PipeSlot};
use opencall_dataplane::message::{Command, ProducerId};
use opencall_dataplane::threads::Clock;
use opencall_wire::time::Time;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::gauges::{FrameDrop, TapGauges};
use self::line::{Frame, Line};
use self::processor::Processor;
use self::voice::Voice;
use crate::outgoing::url::HttpUrl;
use crate::side_thread::SideThread;

/// How often the rings are looked at while something is tapped: half of a frame. A ring holds 1,024
/// packets, so that a core may send 100,000 of them a second.
const LOOK: Duration = Duration::from_millis(10);

/// The same while nothing is.
const REST: Duration = Duration::from_secs(1);

/// Batches taken from one ring in one turn: two full rings.
const MAX_BATCHES: usize = 16;

/// How often the numbers of a tap are told.
const TELL: Duration = Duration::from_secs(1);

/// Voices of all taps together: two rooms of 500.
const MAX_VOICES: usize = 1_024;

/// How long programs may take to hear that the server stops.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Where voices may go.
#[derive(Clone, Default)]
pub struct Allowed {
    /// Scheme, host and port of programs.
    pub origins: Vec<HttpUrl>,
}

impl Allowed {
    /// The program at an address, if voices may go there; the error is one line.
    pub fn target(&self, text: &str) -> Result<TapTarget, String> {
        let url = HttpUrl::parse_websocket(text)?;
        if !self.origins.iter().any(|origin| url.is_of_same_origin(origin)) {
            return Err(format!("voices may not go to {url}: allow it with --tap-allow"));
        }
        Ok(TapTarget { url: url.uri().to_string().into(), shown: url.to_string().into() })
    }
}

/// The way of news to control.
pub struct Teller {
    events: Sender<TapEvent>,
    notify: Box<dyn Fn() + Send + Sync>,
}

impl Teller {
    fn tell(&self, event: TapEvent) {
        // Nobody hears it while the server stops.
        if self.events.send(event).is_ok() {
            (self.notify)();
        }
    }
}

/// Control's end of the thread that taps.
pub type TapThread = SideThread<TapsCommand, TapEvent>;

/// Starts it. `notify` is called when there are events.
///
/// # Errors
/// The system has no thread or no files left.
pub fn start(
    clock: Clock,
    gauges: Arc<TapGauges>,
    notify: impl Fn() + Send + Sync + 'static,
) -> std::io::Result<TapThread> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    SideThread::start("tap", move |taken, told| {
        let teller = Arc::new(Teller { events: told, notify: Box::new(notify) });
        runtime.block_on(Taps::new(clock, teller, gauges).run(taken));
        // A name that is being looked up is of no use to anyone.
        runtime.shutdown_background();
    })
}

/// One tap.
struct Tap {
    line: Arc<Line>,
    began: Time,
    voices: BTreeMap<ProducerId, Voice>,
    /// Voices so far.
    count: u64,
    frames: Vec<Frame>,
}

struct Taps {
    clock: Clock,
    teller: Arc<Teller>,
    gauges: Arc<TapGauges>,
    links: Links,
    taps: BTreeMap<TapId, Tap>,
    of: HashMap<ProducerId, TapId>,
    processors: JoinSet<()>,
    told: Time,
}

impl Taps {
    fn new(clock: Clock, teller: Arc<Teller>, gauges: Arc<TapGauges>) -> Self {
        Taps {
            clock,
            teller,
            gauges,
            links: Links::default(),
            taps: BTreeMap::new(),
            of: HashMap::new(),
            processors: JoinSet::new(),
            told: Time::ZERO,
        }
    }

    async fn run(mut self, mut commands: UnboundedReceiver<TapsCommand>) {
        loop {
            let patience = if self.taps.is_empty() { REST } else { LOOK };
            match timeout(patience, commands.recv()).await {
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
            while self.processors.try_join_next().is_some() {}
        }
        self.taps.values().for_each(|tap| tap.line.end());
        let all = async { while self.processors.join_next().await.is_some() {} };
        if timeout(STOP_TIMEOUT, all).await.is_err() {
            tracing::warn!("a program that was handed voices does not hear that it is over");
        }
    }

    fn command(&mut self, now: Time, command: TapsCommand) {
        match command {
            TapsCommand::Core(Command::AttachLink { to, link }) => self.links.attach(to, *link),
            TapsCommand::Core(Command::DetachLink(core)) => self.links.detach(core),
            // Pipes are known by what is tapped.
            TapsCommand::Core(_) => {}
            TapsCommand::Tap(TapCommand::Start { tap, target }) => self.start(now, tap, &target),
            TapsCommand::Tap(TapCommand::AddVoice(config)) => self.add_voice(*config),
            TapsCommand::Tap(TapCommand::Resume(producer)) => {
                if let Some(tap) = self.of.get(&producer).and_then(|tap| self.taps.get_mut(tap))
                    && let Some(voice) = tap.voices.get_mut(&producer)
                {
                    voice.resume();
                }
            }
            TapsCommand::Tap(TapCommand::RemoveVoice(producer)) => {
                self.turn(now);
                if let Some(tap) = self.of.remove(&producer)
                    && let Some(tap) = self.taps.get_mut(&tap)
                    && let Some(voice) = tap.voices.remove(&producer)
                {
                    tap.line.remove_voice(voice.name);
                }
            }
            TapsCommand::Tap(TapCommand::Stop(id)) => {
                if let Some(tap) = self.taps.remove(&id) {
                    tap.line.end();
                    self.of.retain(|_, of| *of != id);
                }
            }
        }
    }

    fn start(&mut self, now: Time, id: TapId, target: &TapTarget) {
        // It was one when it was allowed.
        let Ok(url) = HttpUrl::parse_websocket(&target.url) else { return };
        let line = Arc::new(Line::new(Arc::clone(&self.gauges)));
        let processor = Processor {
            tap: id,
            url,
            line: Arc::clone(&line),
            teller: Arc::clone(&self.teller),
            gauges: Arc::clone(&self.gauges),
            clock: self.clock,
        };
        self.processors.spawn(processor.run());
        let (voices, frames) = (BTreeMap::new(), Vec::new());
        self.taps.insert(id, Tap { line, began: now, voices, count: 0, frames });
    }

    fn add_voice(&mut self, config: VoiceConfig) {
        let Some(tap) = self.taps.get_mut(&config.tap) else { return };
        if self.of.len() >= MAX_VOICES {
            self.gauges.count_dropped(FrameDrop::TooManyVoices, 1);
            return;
        }
        self.of.insert(config.producer, config.tap);
        tap.count += 1;
        let producer = config.producer;
        let voice = Voice::new(config, tap.count, tap.began);
        tap.line.add_voice(&voice.name);
        tap.voices.insert(producer, voice);
    }

    /// One round: packets in, frames out.
    fn turn(&mut self, now: Time) {
        let Taps { links, taps, of, gauges, .. } = self;
        links.drain(MAX_BATCHES, |slot| take_slot(now, slot, taps, of, gauges));
        for tap in taps.values_mut() {
            let voices = tap.voices.values_mut();
            let lost = voices.map(|voice| voice.poll(now, &mut tap.frames)).sum();
            if lost > 0 || !tap.frames.is_empty() {
                tap.line.put(now, tap.frames.drain(..), lost);
            }
        }
        if now.since(self.told) >= TELL {
            self.told = now;
            for (&tap, of) in &self.taps {
                self.teller.tell(TapEvent::Progress { tap, progress: of.line.progress() });
            }
        }
    }
}

fn take_slot(
    now: Time,
    slot: &PipeSlot,
    taps: &mut BTreeMap<TapId, Tap>,
    of: &HashMap<ProducerId, TapId>,
    gauges: &TapGauges,
) {
    let PipeMessage::Packet { producer, packet } = &slot.message else { return };
    let tap = of.get(producer).and_then(|tap| taps.get_mut(tap));
    let Some(Tap { voices, frames, .. }) = tap else { return };
    let Some(voice) = voices.get_mut(producer) else { return };
    if !voice.push(now, packet, &slot.bytes[..usize::from(slot.len)], frames) {
        gauges.count_dropped(FrameDrop::NotOpus, 1);
    }
}
