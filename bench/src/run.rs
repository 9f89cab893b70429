//! One run: a server, participants that come, a measured time, a result.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc as channel, oneshot};

use crate::client::connect::DtlsIdentity;
use crate::client::emulation::BadLinks;
use crate::client::engine::{
    BadTally, Command, Engine, EngineSender, EngineSetup, Latencies, Tally,
};
use crate::client::net::{Net, Network};
use crate::client::session::{Dialect, Plan, Progress, World, live};
use crate::floor::{self, FloorOptions};
use crate::janus;
use crate::machine;
use crate::media::codec::VideoCodec;
use crate::ramp::{Pressure, RampOptions};
use crate::result::{BadLinkFigures, BenchResult, Bucket, Latency, Minute, Second, Step, Storm};
use crate::scenario::Scenario;
use crate::server::{
    CoreCounters, CpuTime, Server, ServerOptions, Watch, allowed_cpus, machine_busy_s, pin,
};
use crate::trend;

/// Everyone must have come within this time beyond what their rate needs.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

/// Seconds in which no stream comes, before the first measured one: key frames and layers settle.
pub const SETTLE_SECONDS: u32 = 2;

/// How long one who passes through in a storm of joins stays.
const VISIT: Duration = Duration::from_secs(2);

/// Measured seconds that make a minute of a long run.
const MINUTE_SECONDS: u64 = 60;

/// A ramp that is in ruins for so many seconds in a row has broken: to let more in would only make
/// them larger.
const RUIN_SECONDS: u32 = 2;

/// CPU that other programs may take, of one: interrupts on nobody's account are a few percent.
const QUIET: f64 = 0.15;

/// What piled up while it was too much must have gone within this time.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(30);

/// The engine reports every second; one that says nothing for so long has ended.
const ENGINE_PATIENCE: Duration = Duration::from_secs(30);

/// What a run is asked to do.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Who meets whom.
    pub scenario: Scenario,
    /// Participants of one room.
    pub participants: u32,
    /// Rooms.
    pub rooms: u32,
    /// How long is measured.
    pub duration: Duration,
    /// Participants that enter per second.
    pub join_rate: f64,
    /// Seed of media and of who leaves.
    pub seed: u64,
    /// A server that runs already, by its WebSocket.
    pub target: Option<String>,
    /// Its processes, whose CPU is counted.
    pub pids: Vec<u32>,
    /// Else how to start one. Its CPUs are chosen here.
    pub server: ServerOptions,
    /// Whether server and participants get CPUs of their own.
    pub pin: bool,
    /// Whether the floor is measured as well.
    pub floor: bool,
    /// Where participants and server meet.
    pub network: Network,
    /// How the server is spoken to.
    pub dialect: Dialect,
    /// Nothing is measured before the run has lasted so long, so that two runs of one seed can be
    /// measured in the same words of the same people.
    pub warm_up: Duration,
    /// Bits per second of a camera's layers, lowest first.
    pub layers: Vec<u32>,
    /// A camera's codec.
    pub codec: VideoCodec,
    /// Who has a bad link, and how bad it is.
    pub bad_links: Option<BadLinks>,
    /// How a ramp is climbed.
    pub ramp: RampOptions,
}

/// What participants are told to do.
enum Order {
    Enter(Plan),
    Leave(u32),
}

/// The threads of the participants.
struct Load {
    orders: channel::UnboundedSender<Order>,
    tallies: mpsc::Receiver<Tally>,
    progress: Arc<Progress>,
    stop: Arc<AtomicBool>,
    engine: JoinHandle<Result<(), String>>,
}

/// Runs, and tells `on_second` of every second.
///
/// # Errors
/// What kept the run from being one, in words.
pub fn run(
    options: &RunOptions,
    on_second: &mut dyn FnMut(&Second),
) -> Result<BenchResult, String> {
    let (server_cpus, load_cpus) = share_cpus(options);
    let server = match options.target {
        Some(_) => None,
        None => {
            let mut server = options.server.clone();
            server.cpus = if options.pin { server_cpus.clone() } else { server.cpus };
            Some(Server::start(&server)?)
        }
    };
    let url = match (&server, &options.target) {
        (Some(server), _) => server.url.clone(),
        (None, target) => target.clone().unwrap_or_default(),
    };
    if !load_cpus.is_empty() {
        pin(&load_cpus)?;
    }
    let pids = server.as_ref().map_or(options.pids.clone(), |server| vec![server.pid()]);
    let load = start_load(url.clone(), options)?;
    let mut director = Director::new(options, load, pids);
    director.cpus = [&server_cpus, &load_cpus].map(|cpus| cpus.len().max(1) as f64);
    let sums = director.direct(on_second)?;
    let mut result = director.finish()?;
    let counters = server.map(Server::stop);
    sums.complete(&mut result, counters.as_ref());
    describe(&mut result, options, &url);
    if options.floor {
        add_floor(&mut result, server_cpus, load_cpus)?;
    }
    Ok(result)
}

/// The load takes the first CPU, the server what is left; with one CPU they share it.
fn share_cpus(options: &RunOptions) -> (Vec<usize>, Vec<usize>) {
    let all = allowed_cpus();
    if !options.pin || options.target.is_some() || all.len() < 2 {
        return (Vec::new(), Vec::new());
    }
    let load = all.len().saturating_sub(options.server.workers).max(1);
    let (load, server) = all.split_at(load);
    (server.to_vec(), load.to_vec())
}

fn start_load(url: String, options: &RunOptions) -> Result<Load, String> {
    let net = Net::bind(options.network).map_err(|error| format!("UDP socket: {error}"))?;
    let identity = DtlsIdentity::new()?;
    let progress = Arc::new(Progress::default());
    let stop = Arc::new(AtomicBool::new(false));
    let (commands, inlet) = mpsc::channel::<Command>();
    let (tally_sender, tallies) = mpsc::channel();
    let (orders, order_inlet) = channel::unbounded_channel();
    let engine = Engine::new(EngineSetup {
        net: net.clone(),
        commands: inlet,
        tallies: tally_sender,
        stop: Arc::clone(&stop),
        bad_links: options.bad_links,
    });
    let engine = spawn("media", move || {
        engine.run().map_err(|error| format!("the participants cannot receive: {error}"))
    })?;
    let shared = Arc::clone(&progress);
    let (seed, layers, codec) = (options.seed, options.layers.clone(), options.codec);
    let bad_links = options.bad_links;
    let dialect = options.dialect;
    spawn("sessions", move || {
        let world = World {
            url,
            dialect,
            began: Instant::now(),
            net,
            identity,
            engine: EngineSender(commands),
            run: rand::random(),
            seed,
            layers,
            codec,
            bad_links,
            next_transport: AtomicU32::new(0),
            progress: shared,
        };
        run_sessions(Rc::new(world), order_inlet);
    })?;
    Ok(Load { orders, tallies, progress, stop, engine })
}

fn spawn<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<JoinHandle<T>, String> {
    let builder = std::thread::Builder::new().name(name.to_owned());
    builder.spawn(work).map_err(|error| format!("thread: {error}"))
}

/// The thread of all signaling and handshakes; ends with the orders.
fn run_sessions(world: Rc<World>, mut orders: channel::UnboundedReceiver<Order>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else {
        eprintln!("no runtime for the participants: are there file descriptors left?");
        return;
    };
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async move {
        let mut leavers = std::collections::HashMap::new();
        while let Some(order) = orders.recv().await {
            match order {
                Order::Leave(participant) => drop(leavers.remove(&participant)),
                Order::Enter(plan) => {
                    let (leave, left) = oneshot::channel();
                    leavers.insert(plan.participant, leave);
                    let world = Rc::clone(&world);
                    tokio::task::spawn_local(async move {
                        let progress = Arc::clone(&world.progress);
                        let life = match world.dialect {
                            Dialect::OpenCall => live(world, plan, left).await,
                            Dialect::Janus => janus::session::live(world, plan, left).await,
                        };
                        if let Err(reason) = life
                            && progress.failed.fetch_add(1, Ordering::Relaxed) == 0
                        {
                            eprintln!("participant {}: {reason}", plan.participant);
                        }
                    });
                }
            }
        }
    });
}

/// Leads a run through its phases.
struct Director<'a> {
    options: &'a RunOptions,
    load: Load,
    watch: Watch,
    own: Watch,
    started: Instant,
    /// Participants in the order of their coming, those who left taken out.
    present: Vec<u32>,
    next_participant: u32,
    last_own: CpuTime,
    last_at_ns: u64,
    last_lost: u64,
    last_bad_lost: u64,
    /// CPUs of the server and of the generator.
    cpus: [f64; 2],
    /// Who passes through, and since when.
    visitors: VecDeque<(Instant, u32)>,
    next_visitor: u32,
    /// Seconds in a row in which latency or loss were in ruins, and in which both were within limits.
    ruined_seconds: u32,
    calm_seconds: u32,
    sums: Sums,
    minute: Sums,
    result: BenchResult,
}

/// Who comes and goes while it is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Moves {
    /// Nobody.
    None,
    /// One leaves and another enters.
    Exchange,
    /// One passes through.
    Visit,
}

impl<'a> Director<'a> {
    fn new(options: &'a RunOptions, load: Load, pids: Vec<u32>) -> Self {
        let watch = Watch::new(pids);
        let own = Watch::new(vec![std::process::id()]);
        Director {
            options,
            load,
            last_own: own.cpu(),
            watch,
            own,
            started: Instant::now(),
            present: Vec::new(),
            next_participant: 0,
            last_at_ns: 0,
            last_lost: 0,
            last_bad_lost: 0,
            cpus: [1.0, 1.0],
            visitors: VecDeque::new(),
            next_visitor: 0,
            ruined_seconds: 0,
            calm_seconds: 0,
            sums: Sums::default(),
            minute: Sums::default(),
            result: BenchResult::default(),
        }
    }

    /// Leads through a scenario; what was measured.
    fn direct(&mut self, on_second: &mut dyn FnMut(&Second)) -> Result<Sums, String> {
        let RunOptions { scenario, duration, .. } = *self.options;
        self.result.rss_start_bytes = self.is_watched().then(|| self.watch.rss_bytes());
        if scenario == Scenario::Ramp {
            self.climb(on_second)?;
            return self.measure(duration, Moves::None, on_second);
        }
        self.gather(self.all(), on_second)?;
        self.settle(on_second)?;
        match scenario {
            Scenario::JoinStorm => self.storm(on_second),
            Scenario::Churn => self.measure(duration, Moves::Exchange, on_second),
            _ => self.measure(duration, Moves::None, on_second),
        }
    }

    /// Raises the load until it breaks, then lowers it to a part of what held.
    fn climb(&mut self, on_second: &mut dyn FnMut(&Second)) -> Result<(), String> {
        let (ramp, size) = (self.options.ramp, self.options.participants);
        let mut rooms = 0;
        while rooms < self.options.rooms {
            rooms = (rooms + ramp.step_rooms).min(self.options.rooms);
            let step = self.take_step(u64::from(rooms), on_second)?;
            let held = step.held;
            self.result.steps.push(step);
            if !held {
                break;
            }
        }
        let knee = ramp.knee(&self.result.steps, self.cpus[0], self.cpus[1]);
        let wanted = ramp.rooms_after(knee.rooms) as usize * size as usize;
        self.result.verdicts.push(format!(
            "knee: {} participants, {:.0} packets/s received, {:.0} sent; limit: {}",
            knee.participants, knee.packets_per_s, knee.sent_packets_per_s, knee.limit
        ));
        self.result.verdicts.push(format!(
            "the figures are those of {wanted} participants, {:.0} % of the knee",
            ramp.then * 100.0
        ));
        self.result.knee = Some(knee);
        while self.present.len() > wanted {
            self.leave_last();
        }
        let begun = Instant::now();
        self.settle(on_second)?;
        while self.calm_seconds < SETTLE_SECONDS {
            if begun.elapsed() > RECOVERY_PATIENCE {
                let words = "the server has NOT recovered from the overload: see its latency";
                self.result.verdicts.push(words.to_owned());
                break;
            }
            let _ = self.second(Instant::now() + ENGINE_PATIENCE, false, on_second)?;
        }
        Ok(())
    }

    fn judge(&mut self, second: &Second) {
        let pressure = self.options.ramp.pressure(second);
        self.ruined_seconds = if pressure == Pressure::Ruin { self.ruined_seconds + 1 } else { 0 };
        self.calm_seconds = if pressure == Pressure::Calm { self.calm_seconds + 1 } else { 0 };
    }

    fn is_ruined(&self) -> bool {
        self.options.scenario == Scenario::Ramp && self.ruined_seconds >= RUIN_SECONDS
    }

    /// Fills so many rooms and measures; a step that does not hold has a second chance, for one
    /// bad moment of the machine is no knee.
    fn take_step(
        &mut self,
        rooms: u64,
        on_second: &mut dyn FnMut(&Second),
    ) -> Result<Step, String> {
        let ramp = self.options.ramp;
        let failed_before = self.load.progress.failed.load(Ordering::Relaxed);
        self.gather(rooms as u32 * self.options.participants, on_second)?;
        self.settle(on_second)?;
        let mut step = Step::default();
        for _ in 0..2 {
            let sums = self.measure(ramp.step, Moves::None, on_second)?;
            step = sums.step();
            step.rooms = rooms;
            step.participants = self.load.progress.present.load(Ordering::Relaxed);
            let failed = self.load.progress.failed.load(Ordering::Relaxed);
            step.failed_joins = failed - failed_before;
            step.held = ramp.holds(&step);
            if step.held || self.is_ruined() {
                break;
            }
        }
        Ok(step)
    }

    /// Half of the time as it is, half of the time with a storm of joins.
    fn storm(&mut self, on_second: &mut dyn FnMut(&Second)) -> Result<Sums, String> {
        let half = self.options.duration / 2;
        let mut before = self.measure(half, Moves::None, on_second)?;
        let during = self.measure(half, Moves::Visit, on_second)?;
        let (before_us, during_us) = (latency(&before.latency), latency(&during.latency));
        let storm = Storm {
            wanted_joins_per_second: self.options.join_rate,
            joins_per_second: during.joined as f64 / during.elapsed_s.max(0.001),
            p99_ratio: during_us.p99 / before_us.p99.max(1.0),
            before_us,
            during_us,
        };
        self.result.verdicts.push(format!(
            "joining at {:.0}/s ({:.0}/s wanted) makes the p99 of those who are there {:.2} times \
             what it was: {:.0} us before, {:.0} us during",
            storm.joins_per_second,
            storm.wanted_joins_per_second,
            storm.p99_ratio,
            before_us.p99,
            during_us.p99
        ));
        self.result.joins_per_second = storm.joins_per_second;
        self.result.storm = Some(storm);
        before.add_all(&during);
        Ok(before)
    }

    fn is_watched(&self) -> bool {
        !self.options.pids.is_empty() || self.options.target.is_none()
    }

    fn all(&self) -> u32 {
        self.options.participants.saturating_mul(self.options.rooms)
    }

    fn enter(&mut self) {
        let RunOptions { scenario, rooms, participants, .. } = *self.options;
        let plan = scenario.plan(self.next_participant, rooms, participants);
        self.present.push(plan.participant);
        self.next_participant += 1;
        // The sessions end after us.
        let _ = self.load.orders.send(Order::Enter(plan));
    }

    fn leave(&mut self) {
        if self.present.is_empty() {
            return;
        }
        // Whoever came first leaves first: all have been there equally long then.
        let participant = self.present.remove(0);
        let _ = self.load.orders.send(Order::Leave(participant));
    }

    /// Who came last leaves.
    fn leave_last(&mut self) {
        if let Some(participant) = self.present.pop() {
            let _ = self.load.orders.send(Order::Leave(participant));
        }
    }

    /// One passes through; those whose visit is over go.
    fn visit(&mut self) {
        let now = Instant::now();
        while let Some((_, visitor)) = self.visitors.pop_front_if(|(since, _)| *since + VISIT < now)
        {
            let _ = self.load.orders.send(Order::Leave(visitor));
        }
        let plan = Scenario::visitor(self.next_visitor, self.options.rooms);
        self.next_visitor += 1;
        self.visitors.push_back((now, plan.participant));
        let _ = self.load.orders.send(Order::Enter(plan));
    }

    /// Lets people in until `wanted` have come.
    fn gather(&mut self, wanted: u32, on_second: &mut dyn FnMut(&Second)) -> Result<(), String> {
        let interval = Duration::from_secs_f64(1.0 / self.options.join_rate);
        let (begun, first) = (Instant::now(), self.next_participant);
        let deadline = begun + interval * wanted.saturating_sub(first) + JOIN_PATIENCE;
        let progress = Arc::clone(&self.load.progress);
        loop {
            if self.is_ruined() {
                return Ok(());
            }
            let due = begun + interval * (self.next_participant - first);
            if self.next_participant < wanted && Instant::now() >= due {
                self.enter();
                continue;
            }
            let joined = progress.joined.load(Ordering::Relaxed);
            let failed = progress.failed.load(Ordering::Relaxed);
            if joined + failed >= u64::from(wanted) {
                let came = joined.saturating_sub(u64::from(first));
                self.result.joins_per_second =
                    came as f64 / begun.elapsed().as_secs_f64().max(0.001);
                if joined == 0 && wanted > 0 {
                    return Err("nobody could join: see the reason above".into());
                }
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("only {joined} of {wanted} have joined in time"));
            }
            // Who waits for the last ones must not take the CPU that they need.
            let soon = Instant::now() + Duration::from_millis(10);
            let next = if self.next_participant < wanted { due.min(soon) } else { soon };
            let _ = self.second(next, false, on_second)?;
        }
    }

    fn settle(&mut self, on_second: &mut dyn FnMut(&Second)) -> Result<(), String> {
        let deadline = Instant::now() + JOIN_PATIENCE;
        let (mut calm, mut known) = (0, 0);
        while (calm < SETTLE_SECONDS && Instant::now() < deadline)
            || self.started.elapsed() < self.options.warm_up
        {
            while !self.second(Instant::now() + ENGINE_PATIENCE, false, on_second)? {}
            let streams = self.load.progress.streams.load(Ordering::Relaxed);
            calm = if streams == known { calm + 1 } else { 0 };
            known = streams;
        }
        Ok(())
    }

    /// Measures whole seconds of the engine, while people come and go.
    fn measure(
        &mut self,
        duration: Duration,
        moves: Moves,
        on_second: &mut dyn FnMut(&Second),
    ) -> Result<Sums, String> {
        let progress = Arc::clone(&self.load.progress);
        let joined_before = progress.joined.load(Ordering::Relaxed);
        let (begun, cpu, own) = (Instant::now(), self.watch.cpu(), self.own.cpu());
        let busy_s = machine_busy_s();
        let (first_ns, first_lost) = (self.last_at_ns, self.last_lost);
        let first_bad_lost = self.last_bad_lost;
        let interval = Duration::from_secs_f64(1.0 / self.options.join_rate);
        let (mut next_move, end_ns) = (begun, first_ns + duration.as_nanos() as u64 - 500_000_000);
        let deadline = begun + duration + ENGINE_PATIENCE;
        while self.last_at_ns < end_ns {
            if Instant::now() > deadline {
                return Err("the generator cannot keep up: give it fewer participants".into());
            }
            let wake = if moves == Moves::None { deadline } else { next_move };
            if Instant::now() >= wake {
                next_move += interval;
                match moves {
                    Moves::Visit => self.visit(),
                    Moves::Exchange => {
                        self.leave();
                        self.enter();
                    }
                    Moves::None => {}
                }
                continue;
            }
            let _ = self.second(wake, true, on_second)?;
        }
        let mut sums = std::mem::take(&mut self.sums);
        sums.elapsed_s = (self.last_at_ns - first_ns) as f64 / 1e9;
        sums.cpu = self.watch.cpu().since(cpu);
        sums.is_watched = self.is_watched();
        let own_s = self.own.cpu().since(own).total_s();
        sums.generator_cpu = own_s / begun.elapsed().as_secs_f64();
        let others_s = machine_busy_s() - busy_s - own_s - sums.cpu.total_s();
        sums.other_cpu = (others_s / begun.elapsed().as_secs_f64()).max(0.0);
        sums.lost = self.last_lost.saturating_sub(first_lost);
        sums.bad.lost_so_far = self.last_bad_lost.saturating_sub(first_bad_lost);
        sums.joined = progress.joined.load(Ordering::Relaxed) - joined_before;
        if moves == Moves::Exchange {
            self.result.joins_per_second = sums.joined as f64 / sums.elapsed_s;
        }
        Ok(sums)
    }

    /// Waits for the engine's next second, but not beyond `until`; whether it came.
    fn second(
        &mut self,
        until: Instant,
        measured: bool,
        on_second: &mut dyn FnMut(&Second),
    ) -> Result<bool, String> {
        let tally =
            match self.load.tallies.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(tally) => tally,
                Err(RecvTimeoutError::Timeout) => return Ok(false),
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the media thread has ended before the run".into());
                }
            };
        let seconds = match self.last_at_ns {
            0 => 1.0,
            last => (tally.at_ns.saturating_sub(last) as f64 / 1e9).max(0.001),
        };
        let own = self.own.cpu();
        let second = Second {
            t: self.started.elapsed().as_secs_f64(),
            measured,
            participants: self.load.progress.present.load(Ordering::Relaxed),
            packets_per_s: tally.received as f64 / seconds,
            sent_packets_per_s: tally.sent as f64 / seconds,
            bits_per_s: tally.bytes as f64 * 8.0 / seconds,
            lost: tally.lost_so_far.saturating_sub(self.last_lost),
            latency_p50_us: tally.latency.value_at_quantile(0.5) as f64 / 1e3,
            latency_p99_us: tally.latency.value_at_quantile(0.99) as f64 / 1e3,
            threads: self.watch.threads(seconds),
            generator_cpu: own.since(self.last_own).total_s() / seconds,
            rss_bytes: self.watch.rss_bytes(),
        };
        self.last_own = own;
        self.last_at_ns = tally.at_ns;
        self.last_lost = tally.lost_so_far;
        self.last_bad_lost = tally.bad.lost_so_far;
        if measured {
            self.sums.add(&tally);
            self.add_to_minute(&tally, &second);
        }
        self.judge(&second);
        on_second(&second);
        self.result.seconds.push(second);
        Ok(true)
    }

    fn add_to_minute(&mut self, tally: &Tally, second: &Second) {
        self.minute.add(tally);
        self.minute.lost += second.lost;
        if self.minute.seconds < MINUTE_SECONDS {
            return;
        }
        let minute = std::mem::take(&mut self.minute);
        self.result.minutes.push(Minute {
            minute: self.result.minutes.len() as u64 + 1,
            rss_bytes: second.rss_bytes,
            latency_us: latency(&minute.latency),
            packets_per_s: minute.received as f64 / MINUTE_SECONDS as f64,
            lost: minute.lost,
        });
    }

    /// What the server's memory says.
    fn judge_memory(&mut self) {
        if !self.is_watched() {
            return;
        }
        let (rss, result) = (self.watch.rss_bytes(), &mut self.result);
        result.rss_bytes = Some(rss);
        let grown = rss.saturating_sub(result.rss_start_bytes.unwrap_or(0));
        if result.participants > 0 {
            let each = grown as f64 / result.participants as f64;
            result.rss_per_participant_bytes = Some(each);
            if self.options.scenario == Scenario::Idle {
                result.verdicts.push(format!(
                    "an idle participant takes {:.1} KiB of the server's memory",
                    each / 1024.0
                ));
            }
        }
        result.memory = trend::memory(&result.seconds);
        if matches!(self.options.scenario, Scenario::Soak | Scenario::Churn) {
            let memory = result.memory.as_ref().map(trend::memory_verdict);
            result.verdicts.extend(memory);
            result.verdicts.extend(trend::latency_verdict(&result.minutes));
        }
    }

    /// Sends everyone home.
    fn finish(mut self) -> Result<BenchResult, String> {
        let progress = Arc::clone(&self.load.progress);
        self.result.participants = progress.present.load(Ordering::Relaxed);
        self.result.srtp_profile =
            progress.srtp_profile.get().map(|profile| format!("{profile:?}"));
        self.result.streams = progress.streams.load(Ordering::Relaxed);
        self.result.failed_joins = progress.failed.load(Ordering::Relaxed);
        self.judge_memory();
        let failed = progress.failed_consumes.load(Ordering::Relaxed);
        if failed > 0 {
            eprintln!("{failed} requests to consume were refused");
        }
        self.load.stop.store(true, Ordering::Relaxed);
        let ended = self.load.engine.join().map_err(|_| "the media thread panicked".to_owned())?;
        ended.map(|()| self.result)
    }
}

/// What measured seconds add up to.
#[derive(Default)]
struct Sums {
    cpu: CpuTime,
    is_watched: bool,
    generator_cpu: f64,
    other_cpu: f64,
    elapsed_s: f64,
    seconds: u64,
    joined: u64,
    sent: u64,
    received: u64,
    bytes: u64,
    lost: u64,
    duplicated: u64,
    corrupted: u64,
    reordered: u64,
    retransmitted: u64,
    send_errors: u64,
    skipped: u64,
    silent: u64,
    lag: Latencies,
    latency: Latencies,
    bad: BadTally,
}

impl Sums {
    fn add(&mut self, tally: &Tally) {
        self.seconds += 1;
        self.sent += tally.sent;
        self.received += tally.received;
        self.bytes += tally.bytes;
        self.duplicated += tally.duplicated;
        self.corrupted += tally.corrupted;
        self.reordered += tally.reordered;
        self.retransmitted += tally.retransmitted;
        self.send_errors += tally.send_errors;
        self.skipped += tally.skipped;
        self.silent = tally.silent;
        self.lag.merge(&tally.lag);
        self.latency.merge(&tally.latency);
        self.bad.received += tally.bad.received;
        self.bad.retransmitted += tally.bad.retransmitted;
        self.bad.overflowed = tally.bad.overflowed;
        self.bad.latency.merge(&tally.bad.latency);
    }

    /// Adds what was measured after this.
    fn add_all(&mut self, later: &Sums) {
        // As shares of the time they were measured in.
        let elapsed_s = (self.elapsed_s + later.elapsed_s).max(0.001);
        self.generator_cpu = (self.generator_cpu * self.elapsed_s
            + later.generator_cpu * later.elapsed_s)
            / elapsed_s;
        self.other_cpu = self.other_cpu.max(later.other_cpu);
        self.elapsed_s = elapsed_s;
        self.cpu.user_s += later.cpu.user_s;
        self.cpu.system_s += later.cpu.system_s;
        self.seconds += later.seconds;
        self.joined += later.joined;
        self.sent += later.sent;
        self.received += later.received;
        self.bytes += later.bytes;
        self.lost += later.lost;
        self.duplicated += later.duplicated;
        self.corrupted += later.corrupted;
        self.reordered += later.reordered;
        self.retransmitted += later.retransmitted;
        self.send_errors += later.send_errors;
        self.skipped += later.skipped;
        self.silent = later.silent;
        self.lag.merge(&later.lag);
        self.latency.merge(&later.latency);
        self.bad.received += later.bad.received;
        self.bad.retransmitted += later.bad.retransmitted;
        self.bad.lost_so_far += later.bad.lost_so_far;
        self.bad.overflowed = later.bad.overflowed;
        self.bad.latency.merge(&later.bad.latency);
    }

    fn loss_ratio(&self) -> f64 {
        self.lost as f64 / (self.received + self.lost).max(1) as f64
    }

    fn server_cpu(&self) -> Option<f64> {
        self.is_watched.then(|| self.cpu.total_s() / self.elapsed_s.max(0.001))
    }

    /// As a step of a ramp.
    fn step(&self) -> Step {
        Step {
            packets_per_s: self.received as f64 / self.elapsed_s.max(0.001),
            sent_packets_per_s: self.sent as f64 / self.elapsed_s.max(0.001),
            latency_us: latency(&self.latency),
            loss_ratio: self.loss_ratio(),
            server_cpu: self.server_cpu(),
            generator_cpu: self.generator_cpu,
            skipped: self.skipped,
            ..Step::default()
        }
    }

    fn complete(&self, result: &mut BenchResult, counters: Option<&CoreCounters>) {
        result.duration_s = self.elapsed_s;
        result.generator_cpu = self.generator_cpu;
        if self.is_watched {
            result.other_cpu = Some(self.other_cpu);
            if self.other_cpu > QUIET {
                result.verdicts.push(format!(
                    "OTHER PROGRAMS took {:.0} % of a CPU meanwhile: measure again on a quiet machine",
                    self.other_cpu * 100.0
                ));
            }
        }
        result.sent_packets = self.sent;
        result.forwarded_packets = self.received;
        result.forwarded_bytes = self.bytes;
        result.lost = self.lost;
        result.loss_ratio = self.loss_ratio();
        result.duplicated = self.duplicated;
        result.corrupted = self.corrupted;
        result.reordered = self.reordered;
        result.retransmitted = self.retransmitted;
        result.silent_streams = self.silent;
        result.generator_lag_ms = self.lag.max() as f64 / 1e6;
        result.generator_lag_p99_ms = self.lag.value_at_quantile(0.99) as f64 / 1e6;
        result.skipped = self.skipped;
        result.server_cpu = self.server_cpu();
        if self.is_watched && self.received > 0 {
            let per_packet = |seconds: f64| Some(seconds * 1e6 / self.received as f64);
            result.cpu_us_per_forwarded_packet = per_packet(self.cpu.total_s());
            result.user_us_per_forwarded_packet = per_packet(self.cpu.user_s);
            result.system_us_per_forwarded_packet = per_packet(self.cpu.system_s);
        }
        result.latency_us = latency(&self.latency);
        let bucket = |value: hdrhistogram::iterators::IterationValue<u64>| Bucket {
            up_to_us: value.value_iterated_to() as f64 / 1e3,
            count: value.count_since_last_iteration(),
        };
        result.latency_histogram =
            self.latency.iter_log(1000, 1.15).map(bucket).filter(|b| b.count > 0).collect();
        self.complete_bad_links(result);
        result.mean_gso_segments = counters.and_then(CoreCounters::mean_segments);
        result.send_packets_per_syscall = counters.and_then(CoreCounters::packets_per_call);
        if self.send_errors > 0 {
            eprintln!("{} sends of participants failed", self.send_errors);
        }
        for dropped in counters.iter().flat_map(|counters| &counters.dropped) {
            eprintln!("the server dropped in its life: {dropped}");
        }
    }

    fn complete_bad_links(&self, result: &mut BenchResult) {
        let bad = &self.bad;
        if bad.received + bad.lost_so_far == 0 {
            return;
        }
        result.bad_links = Some(BadLinkFigures {
            received: bad.received,
            lost: bad.lost_so_far,
            loss_ratio: bad.lost_so_far as f64 / (bad.received + bad.lost_so_far) as f64,
            retransmitted: bad.retransmitted,
            latency_us: latency(&bad.latency),
        });
        if bad.overflowed > 0 {
            eprintln!("{} packets found no room on the emulated links", bad.overflowed);
        }
    }
}

/// The percentiles of latencies in nanoseconds, as microseconds.
fn latency(latencies: &Latencies) -> Latency {
    let quantile = |q: f64| latencies.value_at_quantile(q) as f64 / 1e3;
    Latency {
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        p999: quantile(0.999),
        max: latencies.max() as f64 / 1e3,
    }
}

fn describe(result: &mut BenchResult, options: &RunOptions, url: &str) {
    result.scenario = options.scenario.name().to_owned();
    result.seed = options.seed;
    result.rooms = u64::from(options.rooms);
    result.command_line = std::env::args().collect::<Vec<_>>().join(" ");
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let length = result.seconds.last().map_or(0.0, |second| second.t);
    result.started_unix_s = now.as_secs().saturating_sub(length as u64);
    result.machine = machine::machine();
    result.kernel = machine::kernel();
    result.commit = machine::commit();
    result.server = url.to_owned();
    if options.target.is_none() {
        result.server = options.server.program.display().to_string();
        result.workers = Some(options.server.workers as u64);
        result.io = Some(options.server.io.clone());
    }
}

fn add_floor(
    result: &mut BenchResult,
    cpus: Vec<usize>,
    neighbour_cpus: Vec<usize>,
) -> Result<(), String> {
    let floor = floor::measure(&FloorOptions {
        packet_len: (result.forwarded_bytes / result.forwarded_packets.max(1)) as usize,
        train_segments: result.mean_gso_segments.unwrap_or(1.0),
        cpus,
        neighbour_cpus,
        neighbour_share: result.generator_cpu,
    })?;
    result.floor_ratio =
        result.cpu_us_per_forwarded_packet.map(|us| us * 1000.0 / floor.ns_per_packet);
    result.floor = Some(floor);
    Ok(())
}
