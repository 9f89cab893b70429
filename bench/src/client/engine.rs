//! The thread on which all media runs: timers, sending, receiving, counting.
#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver as Inlet, Sender, TryRecvError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use opencall_dataplane::time::NtpTime;
use tokio::sync::mpsc::UnboundedSender;

use super::net::{Net, Received};
use super::publish::{Publisher, Scratch};
use super::receive::{ConsumerSetup, Receiver};

/// Intervals of what happens again and again, nanoseconds.
const VOICE_NS: u64 = 20_000_000;
const FRAME_NS: u64 = 1_000_000_000 / 30;
const FEEDBACK_NS: u64 = 100_000_000;
const REPORT_NS: u64 = 1_000_000_000;
const TALLY_NS: u64 = 1_000_000_000;

/// Longest sleep: commands have no other way to wake the thread.
const MAX_SLEEP: Duration = Duration::from_millis(5);

/// Timers run before the socket is looked at again.
const MAX_TIMERS: usize = 64;

/// Latencies above count as this: a minute, nanoseconds.
const MAX_LATENCY_NS: u64 = 60_000_000_000;

/// Wall-clock time, which the kernel's receive timestamps are on, as nanoseconds that are told apart
/// easily. One machine, one clock: sender and receiver read the same.
#[derive(Clone, Copy)]
pub struct Clock;

impl Clock {
    /// Now, nanoseconds since 1970.
    pub fn now_ns(&self) -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What happened in one interval.
#[derive(Clone)]
pub struct Tally {
    /// When it ended, nanoseconds on the engine's clock.
    pub at_ns: u64,
    /// Media packets sent.
    pub sent: u64,
    /// Calls to send that failed.
    pub send_errors: u64,
    /// Media packets received.
    pub received: u64,
    /// Their bytes on the wire.
    pub bytes: u64,
    /// Media that came twice.
    pub duplicated: u64,
    /// What failed authentication, or is not what was sent.
    pub corrupted: u64,
    /// Media after a later packet.
    pub reordered: u64,
    /// Media that came by retransmission.
    pub retransmitted: u64,
    /// Packets of streams that were not announced yet.
    pub unannounced: u64,
    /// Packets that the server asked us for.
    pub upstream_nacks: u64,
    /// Requests for packets to the server.
    pub downstream_nacks: u64,
    /// Lost since the beginning, on all streams.
    pub lost_so_far: u64,
    /// Streams that are announced, and nothing has come.
    pub silent: u64,
    /// How late a timer ran at most, nanoseconds.
    pub lag_ns: u64,
    /// Latencies, nanoseconds.
    pub latency: Histogram<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Tally {
            at_ns: 0,
            sent: 0,
            send_errors: 0,
            received: 0,
            bytes: 0,
            duplicated: 0,
            corrupted: 0,
            reordered: 0,
            retransmitted: 0,
            unannounced: 0,
            upstream_nacks: 0,
            downstream_nacks: 0,
            lost_so_far: 0,
            silent: 0,
            lag_ns: 0,
            latency: new_histogram(),
        }
    }
}

/// A histogram of latencies in nanoseconds, to 1 %.
pub fn new_histogram() -> Histogram<u64> {
    // These bounds are right for every call, so the other way is never gone.
    Histogram::new_with_bounds(100, MAX_LATENCY_NS, 2)
        .unwrap_or_else(|error| panic!("histogram bounds are constants: {error}"))
}

impl Tally {
    /// Counts a latency.
    pub fn record_latency(&mut self, latency_ns: u64) {
        self.latency.saturating_record(latency_ns);
    }
}

/// What the engine is told.
pub enum Command {
    /// Where a transport's STUN and DTLS go.
    Inbox(u32, UnboundedSender<Vec<u8>>),
    /// A transport sends from now on.
    Publish(u32, Box<Publisher>),
    /// A transport receives from now on.
    Receive(u32, Box<Receiver>),
    /// A stream will come.
    Consume(u32, ConsumerSetup),
    /// A transport is gone.
    Remove(u32),
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

#[derive(Default)]
struct Slot {
    inbox: Option<UnboundedSender<Vec<u8>>>,
    publisher: Option<Box<Publisher>>,
    receiver: Option<Box<Receiver>>,
}

/// What a timer is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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

/// See the module.
pub struct Engine {
    clock: Clock,
    net: Net,
    commands: Inlet<Command>,
    tallies: Sender<Tally>,
    stop: Arc<AtomicBool>,
    slots: Vec<Slot>,
    timers: BinaryHeap<Reverse<(u64, u32, Timer)>>,
    scratch: Scratch,
    tally: Tally,
    lost_of_the_gone: u64,
}

impl Engine {
    /// An engine without participants.
    pub fn new(
        net: Net,
        commands: Inlet<Command>,
        tallies: Sender<Tally>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Engine {
            clock: Clock,
            net,
            commands,
            tallies,
            stop,
            slots: Vec::new(),
            timers: BinaryHeap::new(),
            scratch: Scratch::default(),
            tally: Tally::default(),
            lost_of_the_gone: 0,
        }
    }

    /// Runs until stopped.
    ///
    /// # Errors
    /// What the kernel says against receiving.
    pub fn run(mut self) -> std::io::Result<()> {
        let mut received = Received::new();
        let mut next_tally = self.clock.now_ns() + TALLY_NS;
        while !self.stop.load(Ordering::Relaxed) {
            if !self.take_commands() {
                return Ok(());
            }
            let now = self.clock.now_ns();
            self.run_timers(now);
            if now >= next_tally {
                next_tally += TALLY_NS;
                self.hand_in(now);
            }
            if received.fill(&self.net)? > 0 {
                self.handle_batch(&mut received);
                continue;
            }
            let due = self.timers.peek().map_or(u64::MAX, |Reverse((due, ..))| *due);
            let sleep = Duration::from_nanos(due.saturating_sub(self.clock.now_ns()));
            if !sleep.is_zero() {
                self.net.wait(sleep.min(MAX_SLEEP));
            }
        }
        Ok(())
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
            Command::Inbox(transport, inbox) => self.slot(transport).inbox = Some(inbox),
            Command::Publish(transport, publisher) => {
                self.slot(transport).publisher = Some(publisher);
                self.start(transport, &[Timer::Voice, Timer::Frame, Timer::Report]);
            }
            Command::Receive(transport, receiver) => {
                self.slot(transport).receiver = Some(receiver);
                self.start(transport, &[Timer::Feedback, Timer::Report]);
            }
            Command::Consume(transport, setup) => {
                if let Some(receiver) = &mut self.slot(transport).receiver {
                    receiver.add_consumer(setup);
                }
            }
            Command::Remove(transport) => {
                let gone = std::mem::take(self.slot(transport));
                self.lost_of_the_gone += gone.receiver.map_or(0, |receiver| receiver.losses().0);
            }
        }
    }

    fn slot(&mut self, transport: u32) -> &mut Slot {
        let at = transport as usize;
        if at >= self.slots.len() {
            self.slots.resize_with(at + 1, Slot::default);
        }
        &mut self.slots[at]
    }

    /// Starts timers somewhere in their interval, so that participants do not act in step.
    fn start(&mut self, transport: u32, timers: &[Timer]) {
        let now = self.clock.now_ns();
        for &timer in timers {
            let phase = rand::random::<u64>() % timer.interval_ns();
            self.timers.push(Reverse((now + phase, transport, timer)));
        }
    }

    fn run_timers(&mut self, now: u64) {
        for _ in 0..MAX_TIMERS {
            let Some(&Reverse((due, transport, timer))) = self.timers.peek() else { return };
            if due > now {
                return;
            }
            self.timers.pop();
            self.tally.lag_ns = self.tally.lag_ns.max(now - due);
            if self.run_timer(transport, timer) {
                let next = due + timer.interval_ns();
                self.timers.push(Reverse((next, transport, timer)));
            }
        }
    }

    /// False if the transport is gone.
    fn run_timer(&mut self, transport: u32, timer: Timer) -> bool {
        let Engine { clock, net, slots, scratch, tally, .. } = self;
        let Some(slot) = slots.get_mut(transport as usize) else { return false };
        if let Some(publisher) = &mut slot.publisher {
            match timer {
                Timer::Voice => publisher.send_voice(clock, net, scratch, tally),
                Timer::Frame => publisher.send_frame(clock, net, scratch, tally),
                Timer::Report => {
                    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                    publisher.send_reports(NtpTime::from_unix(since), net, tally);
                }
                Timer::Feedback => {}
            }
            return true;
        }
        let Some(receiver) = &mut slot.receiver else { return false };
        match timer {
            Timer::Feedback => receiver.send_feedback(net, tally),
            Timer::Report => receiver.send_reports(net, tally),
            Timer::Voice | Timer::Frame => {}
        }
        true
    }

    fn handle_batch(&mut self, received: &mut Received) {
        let Engine { net, slots, scratch, tally, .. } = self;
        let mut i = 0;
        while let Some((transport, at_ns, datagram)) = received.datagram(i) {
            i += 1;
            let Some(slot) = slots.get_mut(transport as usize) else { continue };
            match *datagram {
                // RFC 7983 and RFC 5761.
                [128..=191, 192..=223, ..] => {
                    if let Some(publisher) = &mut slot.publisher {
                        publisher.handle_rtcp(datagram, net, scratch, tally);
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
                    if let Some(inbox) = &slot.inbox {
                        // A transport that ends no longer reads.
                        let _ = inbox.send(datagram.to_vec());
                    }
                }
            }
        }
    }

    fn hand_in(&mut self, now: u64) {
        let mut tally = std::mem::take(&mut self.tally);
        tally.at_ns = now;
        tally.lost_so_far = self.lost_of_the_gone;
        for receiver in self.slots.iter().filter_map(|slot| slot.receiver.as_ref()) {
            let (lost, silent) = receiver.losses();
            tally.lost_so_far += lost;
            tally.silent += silent;
        }
        // Without a listener the run is about to be stopped.
        let _ = self.tallies.send(tally);
    }
}
