//! The thread on which all media runs: timers, sending, receiving, counting.
#![forbid(unsafe_code)]

use std::net::SocketAddrV4;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Inlet, Sender, TryRecvError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::prctl::set_timerslack;
use opencall_wire::time::NtpTime;
use tokio::sync::mpsc::UnboundedSender;

use super::emulation::{BadLinks, Links, Through, Way};
use super::messages::MessageNews;
use super::net::{Net, Received};
use super::outlet::{Outlet, Path};
use super::publish::{Publisher, Scratch};
use super::receive::{ConsumerSetup, Losses, Receiver, Standing};
use super::tally::Tally;
use super::wheel::Wheel;

/// Intervals of what happens again and again, nanoseconds.
const VOICE_NS: u64 = 20_000_000;
const FRAME_NS: u64 = 1_000_000_000 / 30;
const FEEDBACK_NS: u64 = 100_000_000;
const REPORT_NS: u64 = 1_000_000_000;
const TALLY_NS: u64 = 1_000_000_000;

/// Longest sleep. The thread sleeps on the clock and never in its socket, for waking it would be
/// the sender's work: the kernel does it within the server's call, as no network card would. So
/// nothing wakes it, and what arrives waits for so long, which its latency, stamped by the kernel,
/// does not contain. Less costs the generator CPU while it has little to do.
const MAX_SLEEP_NS: u64 = 200_000;

/// How late a sleep may end beyond what was asked for: the kernel's own is 50 us.
const TIMER_SLACK_NS: u64 = 1_000;

/// Timers run before the socket is looked at again: some 0.2 ms of sending.
const MAX_TIMERS: usize = 64;

/// Participants from this number on only pass through: they are no part of the latencies, so that
/// these compare the same people before and during a storm of joins.
pub const FIRST_VISITOR: u32 = 1 << 20;

/// Wall-clock time, which the kernel's receive timestamps are on, as nanoseconds that are told
/// apart easily. One machine, one clock: sender and receiver read the same.
#[derive(Clone, Copy)]
pub struct Clock;

impl Clock {
    /// Now, nanoseconds since 1970.
    pub fn now_ns(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What the engine is told.
pub enum Command {
    /// A transport begins.
    Begin(Beginning),
    /// A datagram that is no media goes out; only bad links are asked to carry them, others are
    /// sent without us.
    Send(u32, Vec<u8>),
    /// A transport sends from now on.
    Publish(u32, Box<Publisher>),
    /// A transport sends no more than so many layers.
    LimitLayers(u32, usize),
    /// A transport receives from now on.
    Receive(u32, Box<Receiver>),
    /// A stream will come.
    Consume(u32, ConsumerSetup),
    /// A stream, by the id of its consumer, is over.
    StopConsuming(u32, String),
    /// What became of a message on a data channel.
    Message(MessageNews),
    /// A transport is gone.
    Remove(u32),
}

/// What is known of a transport when it begins.
pub struct Beginning {
    /// The transport.
    pub transport: u32,
    /// Whose it is.
    pub participant: u32,
    /// The server.
    pub remote: SocketAddrV4,
    /// Where its STUN and DTLS go.
    pub inbox: UnboundedSender<Vec<u8>>,
}

/// The way to the engine.
#[derive(Clone)]
pub struct EngineSender(pub Sender<Command>);

impl EngineSender {
    /// Tells the engine something.
    pub fn send(&self, command: Command) {
        // It ends last; what comes after its end is of no interest.
        let _ = self.0.send(command);
    }
}

/// What the engine knows of a transport.
struct Slot {
    participant: u32,
    path: Path,
    inbox: UnboundedSender<Vec<u8>>,
    publisher: Option<Box<Publisher>>,
    receiver: Option<Box<Receiver>>,
}

/// What a timer is for.
#[derive(Clone, Copy)]
enum Timer {
    Voice,
    Frame,
    Feedback,
    Report,
}

impl Timer {
    fn interval_ns(self) -> u64 {
        match self {
            Timer::Voice => VOICE_NS,
            Timer::Frame => FRAME_NS,
            Timer::Feedback => FEEDBACK_NS,
            Timer::Report => REPORT_NS,
        }
    }
}

/// What an engine is made of.
pub struct EngineSetup {
    /// All transports' socket.
    pub net: Net,
    /// What it is told.
    pub commands: Inlet<Command>,
    /// Where its figures go.
    pub tallies: Sender<Tally>,
    /// Whether it is to end.
    pub stop: Arc<AtomicBool>,
    /// Who has a bad link.
    pub bad_links: Option<BadLinks>,
}

/// See the module.
pub struct Engine {
    clock: Clock,
    outlet: Outlet,
    bad_links: Option<BadLinks>,
    commands: Inlet<Command>,
    tallies: Sender<Tally>,
    stop: Arc<AtomicBool>,
    slots: Vec<Option<Slot>>,
    timers: Wheel<(u32, Timer)>,
    scratch: Scratch,
    tally: Tally,
    /// Losses of transports that are gone, and of all together at the last tally.
    gone: Losses,
    known: Losses,
}

impl Engine {
    /// An engine without participants.
    pub fn new(setup: EngineSetup) -> Self {
        let links = Links::new(setup.bad_links);
        Engine {
            clock: Clock,
            outlet: Outlet { net: setup.net, links, clock: Clock },
            bad_links: setup.bad_links,
            commands: setup.commands,
            tallies: setup.tallies,
            stop: setup.stop,
            slots: Vec::new(),
            timers: Wheel::new(Clock.now_ns()),
            scratch: Scratch::default(),
            tally: Tally::default(),
            gone: Losses::default(),
            known: Losses::default(),
        }
    }

    /// Runs until stopped.
    ///
    /// # Errors
    /// What the kernel says against receiving.
    pub fn run(mut self) -> std::io::Result<()> {
        // Without it the sleeps are longer, and that is all.
        let _ = set_timerslack(TIMER_SLACK_NS);
        let mut received = Received::new();
        let mut next_tally = self.clock.now_ns() + TALLY_NS;
        while !self.stop.load(Ordering::Relaxed) {
            if !self.take_commands() {
                return Ok(());
            }
            self.run_timers();
            self.release();
            let now = self.clock.now_ns();
            if now >= next_tally {
                next_tally += TALLY_NS;
                self.hand_in(now);
            }
            if received.fill(&self.outlet.net)? > 0 {
                received.for_each(|transport, at_ns, datagram| {
                    self.take_datagram(transport, at_ns, datagram);
                });
                continue;
            }
            self.sleep();
        }
        Ok(())
    }

    fn sleep(&self) {
        let now = self.clock.now_ns();
        let due = self.timers.next_due(now, MAX_SLEEP_NS);
        let due = self.outlet.links.next_due().map_or(due, |link| due.min(link));
        let sleep = Duration::from_nanos(due.saturating_sub(now));
        if !sleep.is_zero() {
            std::thread::sleep(sleep);
        }
    }

    /// False when nobody is left to give commands.
    fn take_commands(&mut self) -> bool {
        loop {
            match self.commands.try_recv() {
                Ok(command) => self.take_command(command),
                Err(TryRecvError::Empty) => return true,
                Err(TryRecvError::Disconnected) => return false,
            }
        }
    }

    fn take_command(&mut self, command: Command) {
        match command {
            Command::Begin(beginning) => self.begin(beginning),
            Command::Send(transport, bytes) => {
                if let Some(Some(slot)) = self.slots.get(transport as usize) {
                    self.outlet.send(&slot.path, &bytes, bytes.len(), &mut self.tally);
                }
            }
            Command::Publish(transport, mut publisher) => {
                let Some(Some(slot)) = self.slots.get_mut(transport as usize) else { return };
                publisher.path = slot.path;
                slot.publisher = Some(publisher);
                self.start(transport, &[Timer::Voice, Timer::Frame, Timer::Report]);
            }
            Command::LimitLayers(transport, count) => {
                let slot = self.slots.get_mut(transport as usize).and_then(Option::as_mut);
                if let Some(publisher) = slot.and_then(|slot| slot.publisher.as_mut()) {
                    publisher.limit_layers(count);
                }
            }
            Command::Receive(transport, mut receiver) => {
                let Some(Some(slot)) = self.slots.get_mut(transport as usize) else { return };
                receiver.path = slot.path;
                slot.receiver = Some(receiver);
                self.start(transport, &[Timer::Feedback, Timer::Report]);
            }
            Command::Consume(transport, setup) => {
                let Some(Some(slot)) = self.slots.get_mut(transport as usize) else { return };
                let is_sender_bad = self.bad_links.is_some_and(|links| links.has(setup.sender));
                let standing = match slot.participant {
                    _ if slot.path.is_bad || is_sender_bad => Standing::BadLink,
                    FIRST_VISITOR.. => Standing::Visitor,
                    _ => Standing::Regular,
                };
                if let Some(receiver) = &mut slot.receiver {
                    receiver.add_consumer(setup, standing, self.clock.now_ns());
                }
            }
            Command::StopConsuming(transport, consumer) => {
                let slot = self.slots.get_mut(transport as usize).and_then(Option::as_mut);
                if let Some(receiver) = slot.and_then(|slot| slot.receiver.as_mut()) {
                    receiver.remove_consumer(&consumer);
                }
            }
            Command::Message(news) => self.tally.messages.note(news),
            Command::Remove(transport) => self.remove(transport),
        }
    }

    fn begin(&mut self, beginning: Beginning) {
        let Beginning { transport, participant, remote, inbox } = beginning;
        let at = transport as usize;
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, || None);
        }
        let is_bad = self.outlet.links.add(transport, participant);
        let path = Path { transport, remote, is_bad };
        self.slots[at] = Some(Slot { participant, path, inbox, publisher: None, receiver: None });
    }

    fn remove(&mut self, transport: u32) {
        self.outlet.links.remove(transport);
        let gone = self.slots.get_mut(transport as usize).and_then(Option::take);
        if let Some(receiver) = gone.and_then(|slot| slot.receiver) {
            self.gone.add(receiver.losses(0));
        }
    }

    /// Starts timers somewhere in their interval, so that participants do not act in step.
    fn start(&mut self, transport: u32, timers: &[Timer]) {
        let now = self.clock.now_ns();
        for &timer in timers {
            let phase = rand::random::<u64>() % timer.interval_ns();
            self.timers.set(now + phase, (transport, timer));
        }
    }

    fn run_timers(&mut self) {
        let mut count = 0;
        while count < MAX_TIMERS {
            let now = self.clock.now_ns();
            let Some(due) = self.timers.take_due(now) else { return };
            count += due.len();
            for &(due_ns, (transport, timer)) in &due {
                let late_ns = now.saturating_sub(due_ns);
                self.tally.lag.record(late_ns);
                // Who is late by whole intervals leaves them out, as an encoder without CPU does:
                // making up for them would be a burst that nobody sends.
                let missed = late_ns / timer.interval_ns();
                self.tally.skipped += missed;
                if self.run_timer(transport, timer) {
                    let next = due_ns + timer.interval_ns() * (missed + 1);
                    self.timers.set(next, (transport, timer));
                }
            }
            self.timers.done(due);
        }
    }

    /// False if the transport is gone.
    fn run_timer(&mut self, transport: u32, timer: Timer) -> bool {
        let Engine { outlet, slots, scratch, tally, .. } = self;
        let Some(Some(slot)) = slots.get_mut(transport as usize) else { return false };
        if let Some(publisher) = &mut slot.publisher {
            match timer {
                Timer::Voice => publisher.send_voice(outlet, scratch, tally),
                Timer::Frame => publisher.send_frame(outlet, scratch, tally),
                Timer::Report => {
                    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    publisher.send_reports(NtpTime::from_unix(since), outlet, tally);
                }
                Timer::Feedback => {}
            }
            return true;
        }
        let Some(receiver) = &mut slot.receiver else { return false };
        match timer {
            Timer::Feedback => receiver.send_feedback(outlet, tally),
            Timer::Report => receiver.send_reports(outlet, tally),
            Timer::Voice | Timer::Frame => {}
        }
        true
    }

    /// Lets out what has come through bad links by now.
    fn release(&mut self) {
        let now = self.clock.now_ns();
        while let Some(through) = self.outlet.links.pop(now) {
            let Through { at_ns, way, transport, mut bytes, .. } = through;
            match way {
                Way::Down => self.deliver(transport, at_ns, &mut bytes),
                Way::Up => {
                    let Some(Some(slot)) = self.slots.get(transport as usize) else { continue };
                    let path = Path { is_bad: false, ..slot.path };
                    let len = bytes.len();
                    self.outlet.send(&path, &bytes, len, &mut self.tally);
                }
            }
        }
    }

    fn take_datagram(&mut self, transport: u32, at_ns: u64, datagram: &mut [u8]) {
        let slot = self.slots.get(transport as usize).and_then(Option::as_ref);
        if slot.is_some_and(|slot| slot.path.is_bad) {
            self.outlet.links.offer(Way::Down, transport, at_ns, datagram);
            return;
        }
        self.deliver(transport, at_ns, datagram);
    }

    /// A datagram has come to a transport.
    fn deliver(&mut self, transport: u32, at_ns: u64, datagram: &mut [u8]) {
        let Engine { outlet, slots, scratch, tally, .. } = self;
        let Some(Some(slot)) = slots.get_mut(transport as usize) else { return };
        match *datagram {
            // RFC 7983 and RFC 5761.
            [128..=191, 192..=223, ..] => {
                if let Some(publisher) = &mut slot.publisher {
                    publisher.handle_rtcp(datagram, outlet, scratch, tally);
                } else if let Some(receiver) = &mut slot.receiver {
                    receiver.handle_rtcp(datagram, tally);
                }
            }
            [128..=191, ..] => {
                if let Some(receiver) = &mut slot.receiver {
                    receiver.handle_rtp(at_ns, datagram, tally);
                }
            }
            _ => {
                // A transport that ends no longer reads.
                let _ = slot.inbox.send(datagram.to_vec());
            }
        }
    }

    fn hand_in(&mut self, now: u64) {
        let mut losses = self.gone;
        for receiver in self.slots.iter_mut().flatten().filter_map(|slot| slot.receiver.as_mut()) {
            losses.add(receiver.losses(now));
            receiver.record_standstills(now, &mut self.tally);
        }
        let before = std::mem::replace(&mut self.known, losses);
        let mut tally = std::mem::take(&mut self.tally);
        tally.at_ns = now;
        tally.lost = losses.lost as i64 - before.lost as i64;
        tally.silent = losses.silent;
        tally.bad.lost = losses.lost_on_bad_links as i64 - before.lost_on_bad_links as i64;
        tally.bad.overflowed = self.outlet.links.overflowed();
        // Without a listener the run is about to be stopped.
        let _ = self.tallies.send(tally);
    }
}
