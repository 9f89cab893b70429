//! The hub: control between the connections and the data cores, on the control thread.
//!
//! ```text
//!  web thread                       control thread                       data cores
//! connection ──Call──▶ fair queue ─▶ ┌─────────┐ ──Command──▶ backlog ──▶ core
//!            ◀──Mail── mailbox ◀──── │ Control │ ◀──Event──────────────── core
//!                                    └─────────┘
//! ```
//!
//! JSON, sockets and files are the web thread's; here are only typed requests. Calls are served in
//! turns by room (`fair_queue`), and paid for (`accounts`).
#![forbid(unsafe_code)]

mod accounts;
mod cores;
mod fair_queue;
mod link;
pub mod mail_queue;
mod mailbox;
mod meters;
mod pushes;
mod taps;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use accounts::{ADDRESS_RATE, ADMINISTRATORS_RATE, Account, Accounts, ROOM_RATE, Rate};
use cores::Crew;
pub use cores::{Cores, Sites, WorkerReport, WorkerRequest};
use fair_queue::FairQueue;
use link::{AdminReply, Call};
use meters::Meters;
use opencall_control::admin::AdminRequest;
use opencall_control::api::{Output, SessionConfig, SessionId, Token};
use opencall_control::dispatch::{Dispatch, Vacancy};
use opencall_control::{Control, Work};
use opencall_dataplane::fanout::links::Mesh;
use opencall_dataplane::histogram::Histogram;
use opencall_dataplane::message::{Command, CoreId, Event, PUSHES, SINK, TAPS};
use opencall_dataplane::threads::{Clock, DataPlane, Loss, StartError, WATCH_INTERVAL};
use opencall_recorder::message::{RecordEvent, SinkCommand};
use opencall_recorder::sink::{STOP_TIMEOUT as SINK_STOP_TIMEOUT, SinkThread};
use opencall_wire::time::Time;
use tokio::sync::{Notify, mpsc, watch};

use crate::envelope::Closing;
use crate::gauges::{Gauges, Watched};
use crate::push::PushThread;
use crate::taps::TapThread;
use crate::webhooks::Webhooks;
pub use link::{Administered, HubGone, HubLink, Managed, Presence};
use mail_queue::Mail;
pub use mailbox::Mailbox;

/// Events of one core taken before the next core and the connections get their turn: a DTLS record
/// may cost half a millisecond.
const MAX_EVENTS_PER_TURN: usize = 32;

/// Calls taken up before the queue is served.
const MAX_CALLS_PER_TURN: usize = 1_024;

/// Work of requests done before the data cores' events get their turn: about a millisecond.
const MAX_WORK_PER_TURN: u32 = 256;

/// What opening a session counts as, and resuming one.
const OPENING: Work = Work(4);

/// What adding a core counts as, or having one drain: sockets, a thread.
const MANAGING: Work = Work(64);

/// Bytes that are sent again for one unit of work.
const BYTES_PER_UNIT: usize = 2_048;

/// The longest the hub sleeps: so often it looks whether the data cores make turns. One that died
/// wakes it.
const MAX_SLEEP: Duration = WATCH_INTERVAL;

/// How often rooms and peers are counted for `/healthz`.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// How often the load of the data cores is measured, which decides where newcomers are placed.
const LOAD_INTERVAL: Duration = Duration::from_secs(1);

/// How often accounts that are paid off are forgotten.
const PRUNE_INTERVAL: Duration = Duration::from_secs(10);

/// How soon a full command ring is tried again.
const FULL_RING_RETRY: Duration = Duration::from_millis(1);

/// How long connections may take to hear that the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long data cores may take to leave their loops.
const STOP_TIMEOUT: Duration = Duration::from_millis(700);

/// How often a stopping hub looks whether connections and cores are gone.
const STOP_INTERVAL: Duration = Duration::from_millis(5);

/// What the hub knows of a session.
struct Client {
    mailbox: Arc<Mailbox>,
    room: Arc<str>,
    address: Option<IpAddr>,
    account: Account,
}

/// Whose calls take turns.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Group {
    Room(Arc<str>),
    Administrators,
}

/// The hub; all of it lives on the control thread.
pub struct Hub {
    clock: Clock,
    control: Control,
    plane: DataPlane,
    dispatch: Dispatch,
    crew: Crew,
    /// Records, if anything may be recorded: one core more for the others.
    recorder: Option<SinkThread>,
    /// Hands voices on, if they may go anywhere: another one.
    taps: Option<TapThread>,
    /// Broadcasts, if anything may be: another one.
    pushes: Option<PushThread>,
    calls: mpsc::UnboundedReceiver<Call>,
    waiting: FairQueue<Group, Call>,
    clients: HashMap<SessionId, Client>,
    /// Work of one connection.
    rate: Rate,
    rooms: Accounts<Arc<str>>,
    /// Work of all administrators together.
    administrators: Account,
    /// Questions of administrators so far.
    asked: u64,
    /// Those that wait for control's answer.
    administered: HashMap<Token, (AdminReply, Duration)>,
    meters: Meters,
    /// How much later than it meant to this thread woke up.
    lateness: Histogram,
    addresses: Accounts<IpAddr>,
    /// A data core has news.
    wake: Arc<Notify>,
    stopping: watch::Sender<bool>,
    webhooks: Option<Webhooks>,
    gauges: Arc<Gauges>,
    /// Data cores that wait to be replaced, and when each died.
    lost: HashMap<CoreId, Time>,
    counted_at: Time,
    load_measured_at: Time,
    pruned_at: Time,
}

impl Hub {
    /// A hub over running cores, whose events ring `wake`, and the way to it. `rate` is the work of
    /// one connection: per second, and at once.
    pub fn new(
        clock: Clock,
        control: Control,
        Cores { plane, recorder, taps, pushes, sites }: Cores,
        wake: Arc<Notify>,
        gauges: Arc<Gauges>,
        rate: (u32, u32),
        webhooks: Option<Webhooks>,
    ) -> (Self, HubLink) {
        let (sender, calls) = mpsc::unbounded_channel();
        let (stopping, stops) = watch::channel(false);
        let router = Arc::clone(control.router_rtp_capabilities());
        let link = HubLink::new(sender, clock, router, stops);
        let meters = Meters::new(plane.cores.iter().map(|core| (core.id, core.port)));
        gauges.set_cores(meters.views());
        let ids = plane.cores.iter().map(|core| core.id);
        let far_ends = [
            recorder.is_some().then_some(SINK),
            taps.is_some().then_some(TAPS),
            pushes.is_some().then_some(PUSHES),
        ];
        let dispatch = Dispatch::new(ids.chain(far_ends.into_iter().flatten()), Mesh::default());
        let hub = Hub {
            clock,
            control,
            dispatch,
            crew: Crew::new(sites),
            recorder,
            taps,
            pushes,
            plane,
            calls,
            waiting: FairQueue::default(),
            clients: HashMap::new(),
            rate: Rate { per_second: rate.0, burst: rate.1 },
            rooms: Accounts::new(ROOM_RATE),
            administrators: Account::default(),
            asked: 0,
            administered: HashMap::new(),
            meters,
            lateness: Histogram::default(),
            addresses: Accounts::new(ADDRESS_RATE),
            wake,
            stopping,
            webhooks,
            gauges,
            lost: HashMap::new(),
            counted_at: Time::ZERO,
            load_measured_at: Time::ZERO,
            pruned_at: Time::ZERO,
        };
        (hub, link)
    }

    /// Serves calls, events and time-outs until `stop` says that the server stops; then closes
    /// every connection and the data cores.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::pin!(stop);
        loop {
            let more = self.turn(self.clock.now());
            opencall_io::give_way();
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            let due = self.sleeps_until();
            let until = due.since(self.clock.now());
            tokio::select! {
                () = self.wake.notified() => {}
                Some(call) = self.calls.recv() => self.take_call(call),
                () = tokio::time::sleep(until) => {
                    self.lateness.note(self.clock.now().since(due), 1);
                }
                () = &mut stop => break,
            }
        }
        self.stop().await;
    }

    /// Returns whether more work waits.
    fn turn(&mut self, now: Time) -> bool {
        for _ in 0..MAX_CALLS_PER_TURN {
            let Ok(call) = self.calls.try_recv() else { break };
            self.take_call(call);
        }
        let more = self.take_events(now);
        self.take_record_events(now);
        self.take_push_events(now);
        let more = self.take_tap_events(now) || more;
        self.serve_calls(now);
        if self.control.next_timeout() <= now {
            self.control.handle_timeout(now);
        }
        self.settle();
        self.look_after(now);
        self.watch_cores(now);
        more || !self.waiting.is_empty()
    }

    /// Where a call goes: those that make work wait for their room's turn.
    fn take_call(&mut self, call: Call) {
        let now = self.clock.now();
        match call {
            Call::Open { ref config, .. } => {
                let room = Arc::from(config.room.as_str());
                self.waiting.push(Group::Room(room), call);
            }
            Call::Ask { session, .. } => {
                // Control has forgotten sessions that it closed itself; their mailbox says so.
                if let Some(client) = self.clients.get(&session) {
                    self.waiting.push(Group::Room(Arc::clone(&client.room)), call);
                }
            }
            Call::Administer { .. } | Call::Workers { .. } => {
                self.waiting.push(Group::Administrators, call);
            }
            Call::Alive { session } => self.control.challenge_answered(now, session),
            Call::Resumed { session, bytes, reply } => {
                let work = Work(OPENING.0 + u32::try_from(bytes / BYTES_PER_UNIT).unwrap_or(0));
                // A connection that is gone needs no answer.
                let _ = reply.send(self.charge(now, session, work));
            }
            Call::Leave { session } => self.leave(now, session),
        }
    }

    fn serve_calls(&mut self, now: Time) {
        let mut done = 0;
        while done < MAX_WORK_PER_TURN
            && let Some(call) = self.waiting.pop()
        {
            done += match call {
                Call::Open { config, mailbox, address, reply } => {
                    let (session, wait) = self.open(now, *config, mailbox, address);
                    if reply.send((session, wait)).is_err() {
                        self.leave(now, session);
                    }
                    OPENING.0
                }
                Call::Ask { session, token, request, reply } => {
                    let work = self.control.handle_request(now, session, token, *request);
                    // A connection that is gone needs no answer.
                    let _ = reply.send(self.charge(now, session, work));
                    work.0
                }
                Call::Administer { request, reply } => self.administer(now, *request, reply).0,
                Call::Workers { request, reply } => {
                    let answer = self.manage_cores(now, request);
                    let wait = self.administrators.charge(now, ADMINISTRATORS_RATE, MANAGING);
                    // An administrator who is gone needs no answer.
                    let _ = reply.send((answer, wait));
                    MANAGING.0
                }
                Call::Alive { .. } | Call::Resumed { .. } | Call::Leave { .. } => 0,
            };
        }
    }

    fn administer(&mut self, now: Time, request: AdminRequest, reply: AdminReply) -> Work {
        self.asked += 1;
        let token = Token(self.asked);
        let work = self.control.administer(now, token, request);
        let wait = self.administrators.charge(now, ADMINISTRATORS_RATE, work);
        self.administered.insert(token, (reply, wait));
        work
    }

    fn open(
        &mut self,
        now: Time,
        config: SessionConfig,
        mailbox: Arc<Mailbox>,
        address: Option<IpAddr>,
    ) -> (SessionId, Duration) {
        let room = Arc::from(config.room.as_str());
        let session = self.control.open_session(now, config);
        let client = Client { mailbox, room, address, account: Account::default() };
        self.clients.insert(session, client);
        (session, self.charge(now, session, OPENING))
    }

    /// What a leaver leaves to do is paid by its address and its room.
    fn leave(&mut self, now: Time, session: SessionId) {
        if self.clients.contains_key(&session) {
            let work = self.control.close_session(now, session);
            self.charge(now, session, work);
            self.clients.remove(&session);
        }
    }

    /// Charges work to whom it was done for; how long its client must wait.
    fn charge(&mut self, now: Time, session: SessionId, work: Work) -> Duration {
        let Some(client) = self.clients.get_mut(&session) else { return Duration::ZERO };
        let own = client.account.charge(now, self.rate, work);
        let room = self.rooms.charge(now, Arc::clone(&client.room), work);
        let address = client.address;
        let address = address.map(|address| self.addresses.charge(now, address, work));
        own.max(room).max(address.unwrap_or_default())
    }

    fn take_events(&mut self, now: Time) -> bool {
        let mut more = false;
        for index in 0..self.plane.cores.len() {
            let core = self.plane.cores[index].id;
            more |= self.take_events_of(now, core, MAX_EVENTS_PER_TURN);
        }
        more
    }

    /// Takes so many events of a core at most; whether there may be more.
    fn take_events_of(&mut self, now: Time, id: CoreId, most: usize) -> bool {
        let Some(core) = self.plane.core_mut(id) else { return false };
        let mut taken = 0;
        while let Some(event) = core.poll_event() {
            match &event {
                Event::Stats { token, stats } if self.meters.take(*token, stats) => {}
                Event::Overload { ceiling_bps } => {
                    report_load(id, *ceiling_bps);
                    self.control.handle_event(now, id, event);
                }
                _ => self.control.handle_event(now, id, event),
            }
            taken += 1;
            if taken == most {
                return true;
            }
        }
        false
    }

    /// Carries away what control has to say.
    fn settle(&mut self) {
        self.deliver();
        self.report_room_events();
        self.answer_administrators();
        self.send_commands();
    }

    fn deliver(&mut self) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Opened { session } => self.mail(session, Mail::Opened),
                Output::Challenge { session } => {
                    if let Some(client) = self.clients.get(&session) {
                        client.mailbox.challenged.notify_one();
                    }
                }
                Output::Response { session, token, result } => {
                    self.mail(session, Mail::Response(token, result));
                }
                Output::Notification { session, notification } => {
                    self.mail(session, Mail::Notification(*notification));
                }
                Output::Close { session, reason, by } => {
                    if let Some(client) = self.clients.remove(&session) {
                        client.mailbox.close_by(Closing::ByControl(reason), by);
                    }
                }
            }
        }
    }

    /// What happened in rooms goes to whoever is told.
    fn report_room_events(&mut self) {
        while let Some(event) = self.control.poll_room_event() {
            if let Some(webhooks) = &self.webhooks {
                webhooks.send(event);
            }
        }
    }

    /// Answers to administrators; one who is gone needs none.
    fn answer_administrators(&mut self) {
        while let Some((token, answer)) = self.control.poll_administered() {
            if let Some((reply, wait)) = self.administered.remove(&token) {
                let _ = reply.send((answer, wait));
            }
        }
    }

    fn mail(&self, session: SessionId, mail: Mail) {
        if let Some(client) = self.clients.get(&session) {
            client.mailbox.put(mail);
        }
    }

    fn send_commands(&mut self) {
        self.command_recorder();
        self.command_taps();
        self.command_pushes();
        self.dispatch.take(&mut self.control);
        let recorder = self.recorder.as_ref();
        self.dispatch.send(SINK, |command| {
            // What a sink that has failed does not take is of no use to another.
            recorder.map(|recorder| recorder.send(SinkCommand::Core(command)));
            Ok(())
        });
        self.link_taps();
        self.link_pushes();
        for core in &mut self.plane.cores {
            if self.dispatch.send(core.id, |command| core.send(command)) {
                core.wake();
            }
        }
    }

    /// Hands over what is to be recorded: before the pipes for it are opened.
    fn command_recorder(&mut self) {
        while let Some(command) = self.control.poll_record_command() {
            if let Some(recorder) = &self.recorder {
                recorder.send(SinkCommand::Record(command));
            }
        }
    }

    fn take_record_events(&mut self, now: Time) {
        let Some(recorder) = &self.recorder else { return };
        while let Some(event) = recorder.poll_event() {
            report_recording(&event);
            self.control.handle_record_event(now, event);
        }
        if !recorder.is_running() {
            tracing::error!("the thread that records has failed: nothing is recorded any more");
            self.recorder = None;
            self.control.sink_lost(now);
        }
    }

    /// Replaces data cores that have died or stalled, of which clients hear nothing; ends those
    /// that have drained.
    fn watch_cores(&mut self, now: Time) {
        for loss in self.plane.losses(now) {
            report_loss(&loss);
            self.gauges.workers.count_loss(&loss);
            self.meters.lost(&loss);
            self.lost.insert(loss.core, loss.death.at);
        }
        while let Some(core) = self.plane.due_for_replacement(now) {
            self.replace_core(now, core);
        }
        self.tend_draining(now);
    }

    fn replace_core(&mut self, now: Time, core: CoreId) {
        let mut lost = Lost { plane: &mut self.plane, meters: &mut self.meters, core };
        if let Err(error) = self.dispatch.replace(now, core, &mut lost, &mut self.control) {
            return tracing::error!(core = core.0, %error, "worker stays dead");
        }
        self.settle();
        let died = self.lost.remove(&core).unwrap_or(now);
        let milliseconds = self.clock.now().since(died).as_secs_f64() * 1e3;
        self.gauges.workers.count_recovery(milliseconds, self.lost.is_empty());
        let recorded = self.control.recorded(core);
        tracing::warn!(
            core = core.0,
            milliseconds,
            transports = recorded.transports,
            producers = recorded.producers,
            consumers = recorded.consumers,
            "worker recovered"
        );
    }

    /// Looks after gauges and accounts.
    fn look_after(&mut self, now: Time) {
        self.gauges.beat();
        if now.since(self.counted_at) >= COUNT_INTERVAL {
            self.counted_at = now;
            self.gauges.set_counts(self.control.counts());
            self.gauges.set_data_drops(*self.control.data_drops());
            self.gauges.set_cores(self.meters.views());
            self.gauges.set_watched(Watched {
                joins: self.control.joins(),
                dtls_drops: self.control.dtls_drops().clone(),
                lateness: self.lateness.clone(),
                recordings: self.control.recording_totals(),
                taps: self.control.tap_totals(),
                pushes: self.control.push_totals(),
            });
        }
        if now.since(self.load_measured_at) >= LOAD_INTERVAL {
            self.load_measured_at = now;
            for core in &mut self.plane.cores {
                if let Some(busy) = core.busy(now) {
                    self.control.set_core_load(core.id, busy);
                    self.meters.set_busy(core.id, busy);
                }
                // Not by way of control: it holds for no core that comes after this one.
                if self.dispatch.is_empty_for(core.id) {
                    self.dispatch.push(core.id, Meters::question(core.id));
                }
            }
        }
        if now.since(self.pruned_at) >= PRUNE_INTERVAL {
            self.pruned_at = now;
            self.rooms.prune(now);
            self.addresses.prune(now);
        }
    }

    fn sleeps_until(&self) -> Time {
        let is_calm = self.dispatch.is_empty() && !self.plane.is_any_leaving();
        let retry = if is_calm { MAX_SLEEP } else { FULL_RING_RETRY };
        let due = self.control.next_timeout().min(self.plane.next_replacement());
        due.min(self.clock.now() + retry)
    }

    async fn stop(mut self) {
        self.stopping.send_replace(true);
        self.control.shutdown(self.clock.now());
        self.settle();
        if let Some(recorder) = &mut self.recorder {
            recorder.stop();
        }
        if let Some(taps) = &mut self.taps {
            taps.stop();
        }
        if let Some(pushes) = &mut self.pushes {
            pushes.stop();
        }
        let gauges = Arc::clone(&self.gauges);
        let drained = async {
            while gauges.connections.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(STOP_INTERVAL).await;
            }
        };
        if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
            tracing::warn!("some clients did not answer the closing of their connection");
        }
        self.stop_cores().await;
        self.await_recorder().await;
        self.await_taps().await;
        self.await_pushes().await;
    }

    /// Waits until what was recorded is on the disk.
    async fn await_recorder(&self) {
        let Some(recorder) = &self.recorder else { return };
        let written = async {
            while recorder.is_running() {
                tokio::time::sleep(STOP_INTERVAL).await;
            }
        };
        if tokio::time::timeout(SINK_STOP_TIMEOUT, written).await.is_err() {
            tracing::warn!("the disk is slow: the last second of a recording may be missing");
        }
    }

    async fn stop_cores(&mut self) {
        for core in &mut self.plane.cores {
            // A core whose ring is full is stuck; the process ends all the same.
            if core.send(Command::Shutdown).is_err() {
                tracing::warn!(core = core.id.0, "data core does not take its shutdown");
            }
            core.wake();
        }
        let cores = &self.plane.cores;
        let stopped = async {
            while cores.iter().any(|core| core.is_running()) {
                tokio::time::sleep(STOP_INTERVAL).await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, stopped).await.is_err() {
            tracing::warn!("a data core does not stop; leaving it");
        }
    }
}

/// Says when a recording begins, and how it ends.
fn report_recording(event: &RecordEvent) {
    match event {
        RecordEvent::Began { recording, folder } => {
            tracing::info!(recording = recording.0, folder, "a recording begins");
        }
        RecordEvent::Progress { .. } => {}
        RecordEvent::Ended { recording, ending, progress } => {
            let (recording, ending) = (recording.0, ending.label());
            let (bytes, files) = (progress.bytes, progress.files);
            let (lost, dropped) = (progress.packets_lost, progress.clusters_dropped);
            tracing::info!(recording, ending, bytes, files, lost, dropped, "a recording has ended");
        }
    }
}

/// Says that a data core cannot keep up, or that it can again.
fn report_load(core: CoreId, ceiling_bps: Option<u64>) {
    let core = core.0;
    match ceiling_bps {
        Some(bps) => tracing::warn!(
            core,
            kbps = bps / 1000,
            "the data core cannot keep up: each client's pictures may take so much"
        ),
        None => tracing::info!(core, "the data core keeps up again: no limit to pictures"),
    }
}

/// A core of the plane that has died.
struct Lost<'a> {
    plane: &'a mut DataPlane,
    meters: &'a mut Meters,
    core: CoreId,
}

impl Vacancy for Lost<'_> {
    type Error = StartError;

    fn poll_event(&mut self) -> Option<Event> {
        loop {
            match self.plane.core_mut(self.core)?.poll_event()? {
                Event::Stats { token, stats } if self.meters.take(token, &stats) => {}
                event => return Some(event),
            }
        }
    }

    fn fill(&mut self, now: Time) -> Result<(), StartError> {
        self.plane.replace(self.core, now)?;
        self.meters.replaced(self.core);
        Ok(())
    }
}

/// Says that a data core is lost, how, and what it had in hand.
fn report_loss(loss: &Loss) {
    let core = loss.core.0;
    let what = if loss.stalled { "worker stalled" } else { "worker died" };
    tracing::error!(core, reason = loss.death.reason, "{what}; another takes its place");
    if loss.stalled {
        tracing::error!(
            core,
            "its thread cannot be ended and may use a CPU until the server is restarted; it sends \
             nothing any more"
        );
    }
    if let Some(suspect) = &loss.death.suspect {
        let bytes: String = suspect.head.iter().map(|byte| format!("{byte:02x}")).collect();
        let (from, len) = (suspect.source, suspect.len);
        let transport = suspect.transport.map(|transport| transport.0);
        tracing::error!(core, %from, ?transport, len, bytes, "it had this datagram in hand");
    }
    if let Some(address) = loss.quarantined {
        tracing::error!(
            core,
            %address,
            "the second death with a datagram from there: nothing from there is taken any more"
        );
    }
}
