//! Signals, and when the server stops: at once, or after those inside have gone.
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use opencall_dataplane::threads::{Fault, Faults};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::drain::{Drain, Draining};
use crate::gauges::Gauges;

/// Exit status after a last signal, as shells count SIGINT.
const INTERRUPTED: i32 = 130;

/// What newcomers are told while the server waits for those inside.
const GOING_DOWN: &str = "this server is about to stop: try again in a moment";

/// SIGTERM, SIGINT and SIGHUP.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    /// SIGTERM: end, after a drain if there is one.
    End,
    /// SIGINT: end now.
    EndNow,
}

impl Signals {
    /// Begins to take them.
    pub fn new() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn received(&mut self) -> Wish {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return Wish::End,
                _ = self.interrupt.recv() => return Wish::EndNow,
                // Without a handler it would end the server.
                _ = self.hang_up.recv() => tracing::info!(
                    "SIGHUP: nothing to do; keys and certificates are read anew whenever their \
                     files change, and flags want a restart"
                ),
            }
        }
    }
}

/// Waits until the server is to stop: by a signal, or because it has drained. SIGTERM drains for
/// `drain_timeout` at most, if that is not zero; the next signal stops at once, and one more ends
/// the process as it is.
pub async fn stop_reason(
    mut signals: Signals,
    drain: &Drain,
    gauges: &Gauges,
    drain_timeout: Duration,
) {
    let drained = tokio::select! {
        wish = signals.received() => {
            let inside = wish == Wish::End && !drain_timeout.is_zero();
            inside && last_calls(&mut signals, drain, gauges, drain_timeout).await
        }
        () = drain.over(gauges) => true,
    };
    if drained {
        tracing::info!("drained: stopping");
    } else {
        tracing::info!("stopping; a second signal ends at once");
    }
    tokio::spawn(async move {
        signals.received().await;
        std::process::exit(INTERRUPTED);
    });
}

/// Drains; `false` if a signal cut that short.
async fn last_calls(
    signals: &mut Signals,
    drain: &Drain,
    gauges: &Gauges,
    timeout: Duration,
) -> bool {
    let deadline = Some(Instant::now() + timeout);
    drain.set(Some(Draining { reason: GOING_DOWN.to_owned(), deadline }));
    let seconds = timeout.as_secs();
    tracing::info!(seconds, "draining: those inside may stay; a second signal stops at once");
    tokio::select! {
        _ = signals.received() => false,
        () = drain.over(gauges) => true,
    }
}

/// SIGUSR1 and SIGUSR2, with --debug-faults only.
pub struct FaultSignals {
    panic: Signal,
    stall: Signal,
}

impl FaultSignals {
    /// Begins to take them.
    pub fn new() -> std::io::Result<Self> {
        tracing::warn!(
            "--debug-faults: SIGUSR1 makes a data core panic and SIGUSR2 one stall; for tests only"
        );
        Ok(FaultSignals {
            panic: signal(SignalKind::user_defined1())?,
            stall: signal(SignalKind::user_defined2())?,
        })
    }

    /// Makes one core after the other suffer.
    pub async fn obey(mut self, faults: Faults) {
        let mut last = None;
        loop {
            let fault = tokio::select! {
                _ = self.panic.recv() => Fault::Panic,
                _ = self.stall.recv() => Fault::Stall,
            };
            last = faults.next_after(last);
            if let Some(core) = last {
                faults.inject(core, fault);
            }
        }
    }
}
