//! Start and stop: data cores, control, HTTP, in this order, and back.
#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use opencall_control::{Control, ControlConfig, ControlError, CoreAddresses};
use opencall_dataplane::io::Backend;
use opencall_dataplane::thread::{self, Clock, DataPlane, DataPlaneConfig, StartError};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::LocalSet;

use crate::addresses::Addresses;
use crate::config::Config;
use crate::connection;
use crate::gauges::Gauges;
use crate::http::{self, Front, NewConnection};
use crate::hub::Hub;

/// Connections that may wait between HTTP and the hub: both are on one thread, so that it only
/// smooths a burst.
const MAX_NEW_CONNECTIONS: usize = 256;

/// How long connections may take to hear that the server stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);

/// How long data cores may take to leave their loops.
const STOP_TIMEOUT: Duration = Duration::from_millis(700);

/// Exit status after a second signal, as shells count SIGINT.
const INTERRUPTED: i32 = 130;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The HTTP port is taken or not ours.
    #[error("cannot listen on {address} for HTTP: {cause}; {cure}")]
    Http {
        /// Where.
        address: SocketAddr,
        /// The system's words.
        cause: std::io::Error,
        /// What to do.
        cure: &'static str,
    },
    /// Data cores.
    #[error(transparent)]
    DataPlane(#[from] StartError),
    /// Control.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The runtime or its signals.
    #[error("cannot start the signaling thread: {0}; raise the limit of open files (ulimit -n)")]
    Runtime(std::io::Error),
}

/// Runs the server until a signal ends it.
pub fn run(config: Config) -> Result<(), ServerError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(ServerError::Runtime)?;
    let result = LocalSet::new().block_on(&runtime, serve(config));
    // What is left (idle HTTP connections) is of no use to anyone.
    runtime.shutdown_background();
    result
}

async fn serve(config: Config) -> Result<(), ServerError> {
    let mut signals = Signals::new().map_err(ServerError::Runtime)?;
    raise_file_limit();
    let clock = Clock::start();
    let wake = Arc::new(Notify::new());
    let control = Control::new(control_config(&config), clock.origin())?;
    let listener = listen(&config).await?;
    let plane = start_cores(&config, clock, Arc::clone(&wake))?;
    // Handshakes and JSON must not delay media where they share a CPU. The cores run already.
    opencall_dataplane::io::step_back();
    let gauges = Arc::new(Gauges::default());
    let (sender, connections) = mpsc::channel(MAX_NEW_CONNECTIONS);
    let front = Arc::new(Front {
        connections: sender,
        addresses: Addresses::new(config.limits.sessions_per_address),
        max_message_size: config.limits.max_message_size,
        gauges: Arc::clone(&gauges),
        cores: plane.cores.len(),
        io: backend_name(plane.backend),
        started: Instant::now(),
        page_dir: config.page_dir.clone(),
    });
    log_start(&config, &plane, &listener);

    let hub = Rc::new(Hub::new(clock, control, plane, wake, Arc::clone(&gauges)));
    let driver = tokio::task::spawn_local({
        let hub = Rc::clone(&hub);
        async move { hub.run().await }
    });
    let web = tokio::spawn(http::serve(listener, front));
    let doors =
        tokio::task::spawn_local(admit(connections, Rc::clone(&hub), config, gauges.clone()));

    signals.received().await;
    tracing::info!("stopping; a second signal ends at once");
    tokio::task::spawn_local(async move {
        signals.received().await;
        std::process::exit(INTERRUPTED);
    });
    web.abort();
    doors.abort();
    hub.close_all();
    drain(&gauges).await;
    driver.abort();
    stop_cores(&hub).await;
    tracing::info!("stopped");
    Ok(())
}

/// Gives each accepted WebSocket a task.
async fn admit(
    mut connections: mpsc::Receiver<NewConnection>,
    hub: Rc<Hub>,
    config: Config,
    gauges: Arc<Gauges>,
) {
    while let Some(NewConnection { socket, dialect, remote, place }) = connections.recv().await {
        let (hub, gauges, limits) = (Rc::clone(&hub), Arc::clone(&gauges), config.limits);
        tokio::task::spawn_local(async move {
            connection::serve(socket, dialect, remote, hub, limits, gauges).await;
            drop(place);
        });
    }
}

async fn listen(config: &Config) -> Result<TcpListener, ServerError> {
    let address = config.http_listen;
    TcpListener::bind(address).await.map_err(|cause| {
        let cure = match cause.kind() {
            ErrorKind::AddrInUse => "another program has this port: stop it, or set --http-listen",
            ErrorKind::PermissionDenied => "ports below 1024 need a privilege: set --http-listen",
            _ => "set --http-listen to an address of this machine",
        };
        ServerError::Http { address, cause, cure }
    })
}

fn control_config(config: &Config) -> ControlConfig {
    let cores = (0..config.workers).map(|index| {
        let port = config.first_port.saturating_add(u16::try_from(index).unwrap_or(u16::MAX));
        let announced = config.listen.iter().map(|listen| SocketAddr::new(listen.announced, port));
        CoreAddresses { announced: announced.collect() }
    });
    ControlConfig {
        codecs: config.codecs.clone(),
        dtls: config.dtls.clone(),
        placement: config.placement,
        outgoing_bitrate_bps: config.outgoing_bitrate_bps,
        unix_origin_ms: unix_now_ms(),
        ..ControlConfig::new(cores.collect())
    }
}

/// Unix time, taken when the clock starts.
fn unix_now_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
}

fn start_cores(config: &Config, clock: Clock, wake: Arc<Notify>) -> Result<DataPlane, StartError> {
    let plane = DataPlaneConfig {
        cores: config.workers,
        listen: config.listen.iter().map(|listen| listen.ip).collect(),
        first_port: config.first_port,
        backend: config.io,
        pin: config.pin,
        seed: rand::random(),
    };
    let notify: Arc<dyn Fn() + Send + Sync> = Arc::new(move || wake.notify_one());
    thread::start(&plane, clock, &notify)
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
fn log_start(config: &Config, plane: &DataPlane, listener: &TcpListener) {
    tracing::info!("{}", crate::envelope::VERSION);
    tracing::info!("I/O: {} ({})", backend_name(plane.backend), plane.reason);
    let last = plane.cores.last().map_or(config.first_port, |core| core.port);
    for listen in &config.listen {
        tracing::info!(
            "media: {} data cores on {} UDP {}-{last}, announced as {}",
            plane.cores.len(),
            listen.ip,
            config.first_port,
            listen.announced
        );
    }
    if !config.page_dir.join("index.html").is_file() {
        tracing::warn!(
            "no meeting page in {}: run `npm ci && npm run build` in client/, or set --page-dir",
            config.page_dir.display()
        );
    }
    match listener.local_addr() {
        Ok(address) => tracing::info!("ready: http://{address}/ (WebSocket: ws://{address}/ws)"),
        Err(error) => tracing::warn!(%error, "HTTP address unknown"),
    }
}

/// Waits until every connection has been closed, within reason.
async fn drain(gauges: &Gauges) {
    let empty = async {
        while gauges.connections.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, empty).await.is_err() {
        tracing::warn!("some clients did not answer the closing of their connection");
    }
}

async fn stop_cores(hub: &Hub) {
    let stopped = async {
        hub.stop_cores();
        while hub.cores_running() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(STOP_TIMEOUT, stopped).await.is_err() {
        tracing::warn!("a data core does not stop; leaving it");
    }
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
