//! One run: a server, participants that come, a measured time, a result.
#![forbid(unsafe_code)]

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use tokio::sync::{mpsc as channel, oneshot};

use crate::client::connect::DtlsIdentity;
use crate::client::emulation::BadLinks;
use crate::client::engine::{Command, Engine, EngineSender, EngineSetup, Tally, new_histogram};
use crate::client::net::{Net, Network};
use crate::client::session::{Plan, Progress, World, live};
use crate::floor;
use crate::machine;
use crate::media::codec::VideoCodec;
use crate::result::{BenchResult, Bucket, Latency, Second};
use crate::scenario::Scenario;
use crate::server::{CoreCounters, CpuTime, Server, ServerOptions, Watch, allowed_cpus, pin};

/// Everyone must have come within this time beyond what their rate needs.
const JOIN_PATIENCE: Duration = Duration::from_secs(60);

/// Seconds between the last arrival and the first measured one: key frames and layers settle.
const SETTLE_SECONDS: u32 = 2;

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
    /// Bits per second of a camera's layers, lowest first.
    pub layers: Vec<u32>,
    /// A camera's codec.
    pub codec: VideoCodec,
    /// Who has a bad link, and how bad it is.
    pub bad_links: Option<BadLinks>,
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
            let options = ServerOptions { cpus: server_cpus, ..options.server.clone() };
            Some(Server::start(&options)?)
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
    director.gather(on_second)?;
    director.settle(on_second)?;
    director.measure(on_second)?;
    let (mut result, sums) = director.finish()?;
    let counters = server.map(Server::stop);
    sums.complete(&mut result, counters.as_ref());
    describe(&mut result, options, &url);
    if options.floor {
        add_floor(&mut result)?;
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
    spawn("sessions", move || {
        let world = World {
            url,
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
                        if let Err(reason) = live(world, plan, left).await
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
    sums: Sums,
    result: BenchResult,
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
            sums: Sums::default(),
            result: BenchResult::default(),
        }
    }

    fn all(&self) -> u32 {
        self.options.participants.saturating_mul(self.options.rooms)
    }

    fn enter(&mut self) {
        let plan = self.options.scenario.plan(self.next_participant, self.options.rooms);
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

    /// Lets everyone in who is to be there from the start.
    fn gather(&mut self, on_second: &mut dyn FnMut(&Second)) -> Result<(), String> {
        let wanted = self.options.scenario.present_at_start(self.all());
        let interval = Duration::from_secs_f64(1.0 / self.options.join_rate);
        let begun = Instant::now();
        let deadline = begun + interval * wanted + JOIN_PATIENCE;
        let progress = Arc::clone(&self.load.progress);
        loop {
            let due = begun + interval * self.next_participant;
            if self.next_participant < wanted && Instant::now() >= due {
                self.enter();
                continue;
            }
            let joined = progress.joined.load(Ordering::Relaxed);
            let failed = progress.failed.load(Ordering::Relaxed);
            if joined + failed >= u64::from(wanted) {
                self.result.joins_per_second =
                    joined as f64 / begun.elapsed().as_secs_f64().max(0.001);
                if joined == 0 {
                    return Err("nobody could join: see the reason above".into());
                }
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("only {joined} of {wanted} have joined in time"));
            }
            let next = due.min(Instant::now() + Duration::from_millis(10));
            let _ = self.second(next, false, on_second)?;
        }
    }

    fn settle(&mut self, on_second: &mut dyn FnMut(&Second)) -> Result<(), String> {
        for _ in 0..SETTLE_SECONDS {
            while !self.second(Instant::now() + ENGINE_PATIENCE, false, on_second)? {}
        }
        Ok(())
    }

    /// Measures whole seconds of the engine.
    fn measure(&mut self, on_second: &mut dyn FnMut(&Second)) -> Result<(), String> {
        let joined_before = self.load.progress.joined.load(Ordering::Relaxed);
        let (begun, cpu, own) = (Instant::now(), self.watch.cpu(), self.own.cpu());
        let interval = self.options.scenario.interval(self.options.join_rate);
        let (first_ns, first_lost) = (self.last_at_ns, self.last_lost);
        let (mut next_move, end_ns) =
            (begun, first_ns + self.options.duration.as_nanos() as u64 - 500_000_000);
        let deadline = begun + self.options.duration + ENGINE_PATIENCE;
        while self.last_at_ns < end_ns {
            if Instant::now() > deadline {
                return Err("the generator cannot keep up: give it fewer participants".into());
            }
            let wake = match interval {
                Some(interval) => {
                    if Instant::now() >= next_move {
                        self.step();
                        next_move += interval;
                    }
                    next_move
                }
                None => deadline,
            };
            let _ = self.second(wake, true, on_second)?;
        }
        let elapsed = (self.last_at_ns - first_ns) as f64 / 1e9;
        self.sums.cpu = self.watch.cpu().since(cpu);
        self.sums.is_watched = !self.options.pids.is_empty() || self.options.target.is_none();
        self.result.duration_s = elapsed;
        self.result.generator_cpu =
            self.own.cpu().since(own).total_s() / begun.elapsed().as_secs_f64();
        self.result.lost = self.last_lost.saturating_sub(first_lost);
        self.result.rss_bytes = self.sums.is_watched.then(|| self.watch.rss_bytes());
        if interval.is_some() {
            let joined = self.load.progress.joined.load(Ordering::Relaxed) - joined_before;
            self.result.joins_per_second = joined as f64 / elapsed;
        }
        Ok(())
    }

    /// One who comes, or who comes for another.
    fn step(&mut self) {
        match self.options.scenario {
            Scenario::JoinStorm if self.next_participant < self.all() => self.enter(),
            Scenario::Churn => {
                self.leave();
                self.enter();
            }
            _ => {}
        }
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
        if measured {
            self.sums.add(&tally);
        }
        on_second(&second);
        self.result.seconds.push(second);
        Ok(true)
    }

    /// Sends everyone home.
    fn finish(mut self) -> Result<(BenchResult, Sums), String> {
        let progress = &self.load.progress;
        self.result.participants = progress.present.load(Ordering::Relaxed);
        self.result.failed_joins = progress.failed.load(Ordering::Relaxed);
        let failed = progress.failed_consumes.load(Ordering::Relaxed);
        if failed > 0 {
            eprintln!("{failed} requests to consume were refused");
        }
        self.load.stop.store(true, Ordering::Relaxed);
        let ended = self.load.engine.join().map_err(|_| "the media thread panicked".to_owned())?;
        ended.map(|()| (self.result, self.sums))
    }
}

/// What the measured seconds add up to.
struct Sums {
    cpu: CpuTime,
    is_watched: bool,
    sent: u64,
    received: u64,
    bytes: u64,
    duplicated: u64,
    corrupted: u64,
    reordered: u64,
    retransmitted: u64,
    send_errors: u64,
    silent: u64,
    lag: Histogram<u64>,
    latency: Histogram<u64>,
}

impl Default for Sums {
    fn default() -> Self {
        Sums {
            cpu: CpuTime::default(),
            is_watched: false,
            sent: 0,
            received: 0,
            bytes: 0,
            duplicated: 0,
            corrupted: 0,
            reordered: 0,
            retransmitted: 0,
            send_errors: 0,
            silent: 0,
            lag: new_histogram(),
            latency: new_histogram(),
        }
    }
}

impl Sums {
    fn add(&mut self, tally: &Tally) {
        self.sent += tally.sent;
        self.received += tally.received;
        self.bytes += tally.bytes;
        self.duplicated += tally.duplicated;
        self.corrupted += tally.corrupted;
        self.reordered += tally.reordered;
        self.retransmitted += tally.retransmitted;
        self.send_errors += tally.send_errors;
        self.silent = tally.silent;
        // All have the same bounds.
        let _ = self.lag.add(&tally.lag);
        let _ = self.latency.add(&tally.latency);
    }

    fn complete(&self, result: &mut BenchResult, counters: Option<&CoreCounters>) {
        result.sent_packets = self.sent;
        result.forwarded_packets = self.received;
        result.forwarded_bytes = self.bytes;
        result.duplicated = self.duplicated;
        result.corrupted = self.corrupted;
        result.reordered = self.reordered;
        result.retransmitted = self.retransmitted;
        result.silent_streams = self.silent;
        result.generator_lag_ms = self.lag.max() as f64 / 1e6;
        let expected = (self.received + result.lost).max(1) as f64;
        result.loss_ratio = result.lost as f64 / expected;
        if self.is_watched && self.received > 0 {
            let per_packet = |seconds: f64| Some(seconds * 1e6 / self.received as f64);
            result.cpu_us_per_forwarded_packet = per_packet(self.cpu.total_s());
            result.user_us_per_forwarded_packet = per_packet(self.cpu.user_s);
            result.system_us_per_forwarded_packet = per_packet(self.cpu.system_s);
            result.server_cpu = Some(self.cpu.total_s() / result.duration_s.max(0.001));
        }
        let quantile = |q: f64| self.latency.value_at_quantile(q) as f64 / 1e3;
        result.latency_us = Latency {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            p999: quantile(0.999),
            max: self.latency.max() as f64 / 1e3,
        };
        let bucket = |value: hdrhistogram::iterators::IterationValue<u64>| Bucket {
            up_to_us: value.value_iterated_to() as f64 / 1e3,
            count: value.count_since_last_iteration(),
        };
        result.latency_histogram =
            self.latency.iter_log(1000, 1.15).map(bucket).filter(|b| b.count > 0).collect();
        result.mean_gso_segments = counters.and_then(CoreCounters::mean_segments);
        if self.send_errors > 0 {
            eprintln!("{} sends of participants failed", self.send_errors);
        }
        for dropped in counters.iter().flat_map(|counters| &counters.dropped) {
            eprintln!("the server dropped in its life: {dropped}");
        }
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

fn add_floor(result: &mut BenchResult) -> Result<(), String> {
    let mean = result.forwarded_bytes / result.forwarded_packets.max(1);
    let trains = result.mean_gso_segments.unwrap_or(1.0);
    let floor = floor::measure(mean as usize, trains)?;
    result.floor_ratio =
        result.cpu_us_per_forwarded_packet.map(|us| us * 1000.0 / floor.ns_per_packet);
    result.floor = Some(floor);
    Ok(())
}
