//! Start and stop: data cores, control, HTTP, in this order, and back.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::mem;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroU16;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opencall_control::{Control, ControlConfig, ControlError, CoreAddresses};
use opencall_dataplane::calls::{CallMemory, Found, Told};
use opencall_dataplane::message::CoreId;
use opencall_dataplane::threads::{self, Clock, DataPlane, DataPlaneConfig, StartError};
use opencall_io::{Backend, SocketSet};
use opencall_recorder::sink::SinkThread;
use tokio::runtime::Runtime;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::auth::Auth;
use crate::config::Config;
use crate::connection;
use crate::drain::Drain;
use crate::gauges::Gauges;
use crate::http::admin::Admin;
use crate::http::broadcasters::Broadcasters;
use crate::http::wish::Wish;
use crate::http::{self, Front, NewConnection};
use crate::hub::{Cores, Hub, HubLink, Sites};
use crate::ice_tcp::{Doors, Gates};
use crate::push::{self, PushThread};
use crate::service_manager;
use crate::signals::{FaultSignals, Signals, stop_reason};
use crate::supervisor::inheritance::Inherited;
use crate::taps::{self, Allowed, TapThread};
use crate::webhooks::{self, Receivers};

/// Connections that may wait between HTTP and their tasks: both are on one thread, so that it only
/// smooths a burst.
const MAX_NEW_CONNECTIONS: usize = 256;

/// How long clients may take to hear that the control thread has failed.
const FAREWELL: Duration = Duration::from_millis(500);

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The HTTP port is taken or not ours.
    #[error("cannot listen on {address} for HTTP: {cause}; {cure} {flag}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// The system's words.
        cause: std::io::Error,
        /// What to do.
        cure: &'static str,
        /// The flag that says where.
        flag: &'static str,
    },
    /// A TCP port beside those of the data cores is taken or not ours.
    #[error(
        "cannot listen on {address} for ICE over TCP: {cause}; set other ports with --rtc-min-port \
         (RTC_MIN_PORT), or leave out --ice-tcp"
    )]
    IceTcp {
        /// Where.
        address: SocketAddr,
        /// The system's words.
        cause: std::io::Error,
    },
    /// Data cores.
    #[error(transparent)]
    DataPlane(#[from] StartError),
    /// Memory for the calls.
    #[error(
        "cannot have memory for calls that outlive the server: {0}; run it without --supervised"
    )]
    CallMemory(std::io::Error),
    /// Control.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The control thread has panicked: it said why.
    #[error("the control thread has failed; its last words are above: start the server again")]
    ControlLost,
    /// The runtime or its signals.
    #[error("cannot start the signaling thread: {0}; raise the limit of open files (ulimit -n)")]
    Runtime(std::io::Error),
}

/// What of a call outlives the server, and where it is.
struct Calls {
    memory: CallMemory,
    told: Told,
}

/// Runs the server until a signal ends it; as the child of a supervisor on what it has inherited.
pub fn run(mut config: Config, inherited: Option<Inherited>) -> Result<(), ServerError> {
    raise_file_limit();
    let mut held = inherited.map(Held::open).transpose()?.unwrap_or_default();
    let clock = held.clock.unwrap_or_else(Clock::start);
    let wake = Arc::new(Notify::new());
    let (control_runtime, web_runtime) = (runtime()?, runtime()?);
    let listeners = held.listeners.take().map_or_else(|| listeners(&config), Ok)?;
    let mut control = Control::new(control_config(&config, clock, &listeners.0), clock.origin())?;
    let doors = ice_tcp_doors(&config)?;
    let plane = start_cores(&config, clock, Arc::clone(&wake), mem::take(&mut held.cores))?;
    held.take_up_calls(&mut control, clock);
    // Handshakes and JSON must not delay media where they share a CPU. The cores run already; the
    // web thread is started below and inherits this.
    opencall_io::step_back();
    let gauges = Arc::new(Gauges::default());
    let ice_tcp = doors.serve(runtime()?, Arc::clone(&gauges.ice_tcp));
    let (ice_tcp, gates) = ice_tcp.map_err(ServerError::Runtime)?;
    let lodge = config.ice_tcp_on_http.is_some().then(|| gates.lodge());
    let auth = Auth::new(mem::take(&mut config.auth));
    let hooks = config.webhooks.take();
    let hooks = hooks.map(|hooks| webhooks::new(hooks, &auth, &gauges.webhooks));
    let (webhooks, receivers) = hooks.unzip();
    log_start(&config, &plane, &listeners, &auth);
    let (sender, connections) = mpsc::channel(MAX_NEW_CONNECTIONS);
    let rate = (config.limits.request_rate.get(), config.limits.request_burst.get());
    let (backend, faults) = (plane.backend, config.debug_faults.then(|| plane.faults()));
    let recorder = start_recorder(&config, clock, &plane, &wake)?;
    let taps = start_taps(&config, clock, &gauges, &wake)?;
    let pushes = start_pushes(&config, clock, &plane, &wake)?;
    let cores = Cores { plane, recorder, taps, pushes, sites: sites(&config, gates) };
    let (hub, link) = Hub::new(clock, control, cores, wake, Arc::clone(&gauges), rate, webhooks);
    let (drain, drain_timeout) = (Drain::default(), config.drain_timeout);
    let admin = administration(&mut config, &link, &drain);
    let front = Front {
        connections: sender,
        ice_tcp: lodge,
        auth,
        admin,
        wish: Wish::new(link.clone()),
        broadcasters: Broadcasters::new(link.clone()),
        limits: config.limits,
        gauges: Arc::clone(&gauges),
        io: backend_name(backend),
        started: Instant::now(),
        web: config.web.clone(),
    };
    let web = Web::start(web_runtime, listeners, front, connections, link, receivers)?;
    let result = control_runtime.block_on(async {
        let signals = Signals::new().map_err(ServerError::Runtime)?;
        if let Some(faults) = faults {
            let asked = FaultSignals::new().map_err(ServerError::Runtime)?;
            tokio::spawn(asked.obey(faults));
        }
        service_manager::ready();
        let stop = async {
            stop_reason(signals, &drain, &gauges, drain_timeout).await;
            service_manager::stopping("stopping");
        };
        tokio::select! {
            outcome = supervise(&gauges, hub.run(stop)) => outcome,
            () = service_manager::report(&gauges, &drain) => Ok(()),
        }
    });
    web.stop(if result.is_ok() { Duration::ZERO } else { FAREWELL });
    ice_tcp.stop();
    if result.is_ok() {
        tracing::info!("stopped");
    }
    result
}

fn administration(config: &mut Config, link: &HubLink, drain: &Drain) -> Admin {
    let allowed = config.taps.take().map_or_else(Allowed::default, |taps| taps.allowed);
    let pushes = config.pushes.take().map_or_else(Default::default, |pushes| pushes.allowed);
    Admin::new(mem::take(&mut config.admin), link.clone(), drain.clone(), allowed, pushes)
}

/// What a supervisor holds for the server; nothing, if there is none.
#[derive(Default)]
struct Held {
    listeners: Option<Listeners>,
    cores: Vec<SocketSet>,
    clock: Option<Clock>,
    calls: Option<Calls>,
}

impl Held {
    /// Goes on with the calls of the process before.
    fn take_up_calls(self, control: &mut Control, clock: Clock) {
        if let Some(Calls { memory, told }) = self.calls {
            let transports = control.take_up(clock.now(), memory, told);
            if transports > 0 {
                tracing::info!(transports, "calls of the process before are taken up");
            }
        }
    }

    fn open(inherited: Inherited) -> Result<Self, ServerError> {
        let Inherited { memory, http, metrics, cores } = inherited;
        let found = CallMemory::open(memory.as_fd(), Clock::monotonic());
        let Found { memory, told, origin, refused } = found.map_err(ServerError::CallMemory)?;
        if let Some(reason) = refused {
            tracing::warn!("the calls of the process before are not taken up: {reason}");
        }
        Ok(Held {
            listeners: Some((http, metrics)),
            cores,
            clock: Some(Clock::started_at(origin)),
            calls: Some(Calls { memory, told }),
        })
    }
}

fn runtime() -> Result<Runtime, ServerError> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build().map_err(ServerError::Runtime)
}

/// Runs the hub; a panic of its is an error that everyone hears of: `/healthz`, the clients, and
/// whoever started the server. A server that goes on without control would look well and serve
/// nobody.
async fn supervise(gauges: &Gauges, hub: impl Future<Output = ()>) -> Result<(), ServerError> {
    let mut hub = std::pin::pin!(hub);
    let outcome = std::future::poll_fn(|context| {
        match catch_unwind(AssertUnwindSafe(|| hub.as_mut().poll(context))) {
            Ok(poll) => poll.map(Ok),
            Err(_) => std::task::Poll::Ready(Err(ServerError::ControlLost)),
        }
    });
    let outcome = outcome.await;
    if outcome.is_err() {
        gauges.control_lost.store(true, Ordering::Relaxed);
    }
    outcome
}

/// The web thread: HTTP, WebSockets, JSON, webhooks.
struct Web {
    thread: JoinHandle<()>,
    stop: oneshot::Sender<Duration>,
}

impl Web {
    fn start(
        runtime: Runtime,
        (listener, metrics): Listeners,
        front: Front,
        connections: mpsc::Receiver<NewConnection>,
        link: HubLink,
        receivers: Option<Receivers>,
    ) -> Result<Self, ServerError> {
        let (stop, stopped) = oneshot::channel();
        let work = async move {
            let (auth, gauges) = (Arc::clone(&front.auth), Arc::clone(&front.gauges));
            tokio::spawn(async move { auth.run().await });
            let web = tokio::spawn(http::serve(listener, metrics, front));
            let doors = tokio::spawn(admit(connections, link, gauges));
            let deliveries = receivers.map(Receivers::start);
            let farewell = stopped.await.unwrap_or_default();
            web.abort();
            doors.abort();
            tokio::time::sleep(farewell).await;
            if let Some(deliveries) = deliveries {
                deliveries.finish().await;
            }
        };
        let run = move || {
            runtime.block_on(work);
            // What is left (idle HTTP connections) is of no use to anyone.
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("web".into()).spawn(run);
        Ok(Web { thread: thread.map_err(ServerError::Runtime)?, stop })
    }

    /// Ends the thread, after clients had some time to hear why, and webhooks to be delivered.
    fn stop(self, farewell: Duration) {
        let _ = self.stop.send(farewell);
        let _ = self.thread.join();
    }
}

/// Gives each accepted WebSocket a task.
async fn admit(mut connections: mpsc::Receiver<NewConnection>, link: HubLink, gauges: Arc<Gauges>) {
    while let Some(NewConnection { socket, dialect, remote, place }) = connections.recv().await {
        let (link, gauges) = (link.clone(), Arc::clone(&gauges));
        tokio::spawn(async move {
            connection::serve(socket, dialect, remote, place, link, gauges).await;
        });
    }
}

/// The web side's, and that of metrics.
type Listeners = (TcpListener, Option<TcpListener>);

fn listeners(config: &Config) -> Result<Listeners, ServerError> {
    let web = listen(config.web.listen, "--http-listen")?;
    let metrics = config.web.metrics_listen.map(|address| listen(address, "--metrics-listen"));
    Ok((web, metrics.transpose()?))
}

/// Listens for HTTP at an address that a flag names.
pub(crate) fn listen(address: SocketAddr, flag: &'static str) -> Result<TcpListener, ServerError> {
    http::listener::listen(address).map_err(|cause| {
        let cure = match cause.kind() {
            ErrorKind::AddrInUse => "another program has this port: stop it, or set another with",
            ErrorKind::PermissionDenied => "ports below 1024 need a privilege: set another with",
            _ => "give an address of this machine with",
        };
        ServerError::Http { address, cause, cure, flag }
    })
}

/// Listens for ICE over TCP where the data cores are, if that is wanted.
fn ice_tcp_doors(config: &Config) -> Result<Doors, ServerError> {
    let workers = if config.ice_tcp { config.workers } else { 0 };
    let addresses: Vec<SocketAddr> =
        (0..workers).flat_map(|index| core_addresses(config, index)).collect();
    Doors::open(&addresses).map_err(|(address, cause)| ServerError::IceTcp { address, cause })
}

/// Where there may be further data cores.
fn sites(config: &Config, gates: Gates) -> Sites {
    for index in 0..config.workers {
        if let (Ok(core), Some(at)) = (u8::try_from(index), core_addresses(config, index).next()) {
            gates.add_core(CoreId(core), at);
        }
    }
    Sites {
        listen: config.listen.iter().map(|listen| (listen.ip, listen.announced)).collect(),
        first_port: config.first_port,
        max: config.max_workers,
        has_doors: config.ice_tcp,
        gates,
    }
}

fn core_port(config: &Config, index: usize) -> u16 {
    config.first_port.saturating_add(u16::try_from(index).unwrap_or(u16::MAX))
}

/// What a core binds, in the order of the listen addresses.
fn core_addresses(config: &Config, index: usize) -> impl Iterator<Item = SocketAddr> {
    let port = core_port(config, index);
    config.listen.iter().map(move |listen| SocketAddr::new(listen.ip, port))
}

/// Where clients reach the web side for ICE over TCP, if they may.
fn shared_tcp(config: &Config, listener: &TcpListener) -> Vec<SocketAddr> {
    let Some(shared) = &config.ice_tcp_on_http else { return Vec::new() };
    let own = || listener.local_addr().map_or(config.web.listen.port(), |own| own.port());
    let port = shared.port.map_or_else(own, NonZeroU16::get);
    shared.announced.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
}

fn control_config(config: &Config, clock: Clock, listener: &TcpListener) -> ControlConfig {
    let cores = (0..config.workers).map(|index| {
        let port = core_port(config, index);
        let announced = config.listen.iter().map(|listen| SocketAddr::new(listen.announced, port));
        CoreAddresses { announced: announced.collect() }
    });
    ControlConfig {
        codecs: config.codecs.clone(),
        dtls: config.dtls.clone(),
        placement: config.placement,
        outgoing_bitrate_bps: config.outgoing_bitrate_bps,
        ice_tcp: config.ice_tcp,
        shared_tcp: shared_tcp(config, listener),
        dev_hosts: config.dev_hosts,
        stage: config.stage,
        room_events: config.webhooks.is_some(),
        recordings: config.recordings.as_ref().map(|recordings| recordings.at_once),
        taps: config.taps.as_ref().map(|taps| taps.at_once),
        pushes: config.pushes.as_ref().map(|pushes| pushes.at_once),
        unix_origin_ms: unix_now_ms().saturating_sub(clock.now().as_millis()),
        ..ControlConfig::new(cores.collect())
    }
}

/// Unix time.
fn unix_now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

fn start_cores(
    config: &Config,
    clock: Clock,
    wake: Arc<Notify>,
    sockets: Vec<SocketSet>,
) -> Result<DataPlane, StartError> {
    let plane = DataPlaneConfig {
        cores: config.workers,
        listen: config.listen.iter().map(|listen| listen.ip).collect(),
        first_port: config.first_port,
        backend: config.io,
        pin: config.pin,
        seed: rand::random(),
        sockets,
    };
    let notify: Arc<dyn Fn() + Send + Sync> = Arc::new(move || wake.notify_one());
    threads::start(&plane, clock, &notify)
}

/// Starts the sink of recordings, if there may be any.
fn start_recorder(
    config: &Config,
    clock: Clock,
    plane: &DataPlane,
    wake: &Arc<Notify>,
) -> Result<Option<SinkThread>, ServerError> {
    let Some(recordings) = &config.recordings else { return Ok(None) };
    let (wake, cores) = (Arc::clone(wake), plane.wakers());
    let notify = Arc::new(move || wake.notify_one());
    let started =
        opencall_recorder::sink::start(recordings.sink.clone(), clock, notify, move |core| {
            cores.wake(core)
        });
    tracing::info!("recordings: {}", recordings.sink.folder.display());
    started.map(Some).map_err(ServerError::Runtime)
}

/// Starts what hands voices on, if they may go anywhere.
fn start_taps(
    config: &Config,
    clock: Clock,
    gauges: &Gauges,
    wake: &Arc<Notify>,
) -> Result<Option<TapThread>, ServerError> {
    let Some(taps) = &config.taps else { return Ok(None) };
    for origin in &taps.allowed.origins {
        tracing::info!(%origin, "voices may go there");
        if origin.is_exposed() {
            tracing::warn!(%origin, "--tap-allow is not wss: whoever is on the way hears voices");
        }
    }
    let wake = Arc::clone(wake);
    let started = taps::start(clock, Arc::clone(&gauges.taps), move || wake.notify_one());
    started.map(Some).map_err(ServerError::Runtime)
}

/// Starts what broadcasts, if anything may be.
fn start_pushes(
    config: &Config,
    clock: Clock,
    plane: &DataPlane,
    wake: &Arc<Notify>,
) -> Result<Option<PushThread>, ServerError> {
    let Some(pushes) = &config.pushes else { return Ok(None) };
    for address in &pushes.allowed.origins {
        let origin = address.origin();
        tracing::info!(origin, "participants may be broadcast there");
        if address.is_exposed() {
            tracing::warn!(origin, "--push-allow is rtmp: whoever is on the way sees stream keys");
        }
    }
    let (wake, cores) = (Arc::clone(wake), plane.wakers());
    let notify = move || wake.notify_one();
    let started =
        push::start(clock, pushes.allowed.ca.clone(), notify, move |core| cores.wake(core));
    started.map(Some).map_err(ServerError::Runtime)
}

fn backend_name(backend: Backend) -> &'static str {
    match backend {
        Backend::Uring => "uring",
        Backend::Mmsg => "mmsg",
    }
}

/// Every connection is a file, and the usual soft limit is 1024.
fn raise_file_limit() {
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::debug!(limit, "open files"),
        Err(error) => tracing::warn!(%error, "cannot raise the limit of open files"),
    }
}

/// One line each: what runs, how, where.
fn log_start(config: &Config, plane: &DataPlane, listeners: &Listeners, auth: &Auth) {
    tracing::info!("{}", crate::envelope::VERSION);
    tracing::info!("I/O: {} ({})", backend_name(plane.backend), plane.reason);
    let last = plane.cores.last().map_or(config.first_port, |core| core.port);
    for listen in &config.listen {
        tracing::info!(
            "media: {} data cores on {} {} {}-{last}, announced as {}",
            plane.cores.len(),
            listen.ip,
            if config.ice_tcp { "UDP and TCP" } else { "UDP" },
            config.first_port,
            listen.announced
        );
    }
    for address in shared_tcp(config, &listeners.0) {
        tracing::info!("media: all data cores on the TCP port of HTTP, announced as {address}");
    }
    if !config.web.page_dir.join("index.html").is_file() {
        tracing::warn!(
            "no meeting page in {}: run `npm ci && npm run build` in client/, or set --page-dir",
            config.web.page_dir.display()
        );
    }
    auth.log_start();
    if let Some(Ok(address)) = listeners.1.as_ref().map(TcpListener::local_addr) {
        tracing::info!("metrics: http://{address}/metrics");
    }
    match listeners.0.local_addr() {
        Ok(address) => {
            let scheme = config.web.scheme();
            let socket = scheme.replace("http", "ws");
            tracing::info!("ready: {scheme}://{address}/ (WebSocket: {socket}://{address}/ws)");
        }
        Err(error) => tracing::warn!(%error, "HTTP address unknown"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_of_the_control_thread_is_an_error_that_health_tells() {
        let gauges = Gauges::default();
        let fine = supervise(&gauges, async {}).await;
        assert!(fine.is_ok() && !gauges.is_degraded());
        let failing = async {
            tokio::task::yield_now().await;
            panic!("this panic is part of the test");
        };
        let failed = supervise(&gauges, failing).await;
        assert!(matches!(failed, Err(ServerError::ControlLost)));
        assert!(gauges.is_degraded());
    }
}
