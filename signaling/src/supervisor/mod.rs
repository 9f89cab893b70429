//! The server as a child: it may be killed, and calls live on.
//!
//! ```text
//! supervisor: sockets, memory of the calls ──inherited──▶ server ──✝
//!                    └────────────────────inherited──▶ the next server
//! ```
//!
//! The supervisor holds what must outlive the server, reads none of it, and does nothing but start
//! the server, hand signals on and wait: it is small so that nothing kills it.
//!
//! * [`inheritance`] — what is handed on, and how it is found.
//! * `lives` — when the next server is started.
#![forbid(unsafe_code)]

pub mod inheritance;
mod lives;

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal as Number};
use nix::unistd::Pid;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::inheritance::Estate;
use self::lives::{Lives, Next};
use crate::config::Config;
use crate::server::ServerError;

/// Why there is no server and will be none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SupervisorError {
    /// A port is taken, or the memory is not to be had.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The system's.
    #[error("cannot supervise the server: {0}; run it without --supervised")]
    Io(#[from] io::Error),
}

/// Signals that are handed on.
struct Signals {
    child: Signal,
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// With --debug-faults.
    faults: Option<(Signal, Signal)>,
}

impl Signals {
    fn new(faults: bool) -> io::Result<Self> {
        let fault = |kind| faults.then(|| signal(kind)).transpose();
        let one = fault(SignalKind::user_defined1())?;
        Ok(Signals {
            child: signal(SignalKind::child())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
            faults: one.zip(fault(SignalKind::user_defined2())?),
        })
    }

    /// The next to hand on; `None`: a child may have ended.
    async fn next(&mut self) -> Option<Number> {
        let Signals { child, terminate, interrupt, hang_up, faults } = self;
        let fault = async {
            match faults {
                Some((one, two)) => tokio::select! {
                    _ = one.recv() => Number::SIGUSR1,
                    _ = two.recv() => Number::SIGUSR2,
                },
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = child.recv() => None,
            _ = terminate.recv() => Some(Number::SIGTERM),
            _ = interrupt.recv() => Some(Number::SIGINT),
            _ = hang_up.recv() => Some(Number::SIGHUP),
            number = fault => Some(number),
        }
    }
}

/// Runs servers, one after the other, until one ends by itself. Returns its exit status.
///
/// # Errors
/// See [`SupervisorError`].
pub fn run(config: &Config) -> Result<u8, SupervisorError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut estate = Estate::open(config)?;
    tracing::info!(
        "supervised: the server's sockets and calls are held by process {}",
        std::process::id()
    );
    runtime.block_on(async {
        let mut signals = Signals::new(config.debug_faults)?;
        let (mut lives, mut stopping) = (Lives::default(), false);
        loop {
            let since = Instant::now();
            let mut child = start(&estate)?;
            let status = wait(&mut child, &mut signals, &mut stopping).await?;
            match lives.next(&status, since.elapsed(), stopping) {
                Next::End(code) => return Ok(code),
                Next::Start { pause, afresh } => {
                    report(&status, lives.short(), pause, afresh);
                    if afresh {
                        estate.forget_calls()?;
                    }
                    if rest(pause, &mut signals).await {
                        return Ok(0);
                    }
                }
            }
        }
    })
}

/// Executes this program again, with the same arguments.
fn start(estate: &Estate) -> io::Result<Child> {
    let mut arguments = std::env::args_os();
    let mut command = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        command.arg0(name);
    }
    // A group of its own: what the terminal sends to all of a group would reach it twice.
    command.args(arguments).process_group(0);
    // The watchdog of the service manager watches the server, which the manager does not know.
    command.env_remove("WATCHDOG_PID");
    estate.hand_on(&mut command)
}

/// Waits for the end of a server, and hands signals on until then.
async fn wait(
    child: &mut Child,
    signals: &mut Signals,
    stopping: &mut bool,
) -> io::Result<ExitStatus> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        let Some(number) = signals.next().await else { continue };
        *stopping |= matches!(number, Number::SIGTERM | Number::SIGINT);
        let id = i32::try_from(child.id()).map_err(io::Error::other)?;
        // It has not been waited for, so that its number is still its own.
        signal::kill(Pid::from_raw(id), number)?;
    }
}

/// Waits; whether a signal says that the server is to stop.
async fn rest(pause: Duration, signals: &mut Signals) -> bool {
    let until = tokio::time::Instant::now() + pause;
    loop {
        tokio::select! {
            biased;
            number = signals.next() => {
                if matches!(number, Some(Number::SIGTERM | Number::SIGINT)) {
                    return true;
                }
            }
            () = tokio::time::sleep_until(until) => return false,
        }
    }
}

fn report(status: &ExitStatus, short_lives: u32, pause: Duration, afresh: bool) {
    let died = match (status.signal(), status.code()) {
        (Some(number), _) => format!("was killed by signal {number}"),
        (None, Some(code)) => format!("has failed with status {code}"),
        (None, None) => "has died".to_owned(),
    };
    if short_lives < 2 {
        tracing::error!("the server {died}: another goes on in its place");
        return;
    }
    let calls = if afresh { ", without the calls, which may be why" } else { "" };
    tracing::error!(
        "the server {died}, the {short_lives}th time within {} s of its start: its last words are \
         above; another is started in {} ms{calls}",
        lives::SHORT_LIFE.as_secs(),
        pause.as_millis(),
    );
}
