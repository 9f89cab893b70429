//! What the service manager is told, where there is one: ready, alive, how it goes, stopping
//! (sd_notify(3)).
#![forbid(unsafe_code)]

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::MissedTickBehavior;

use crate::drain::Drain;
use crate::gauges::Gauges;

/// How often the status line is sent where the manager wants no sign of life.
const STATUS_INTERVAL: Duration = Duration::from_secs(10);

/// Tells the manager that the server serves.
pub fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Tells the manager that the server ends, and why.
pub fn stopping(why: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(why)]);
}

/// Sends signs of life and the status line until it is dropped. It has to run on the control
/// thread: when that hangs, the signs end, and the manager starts the server again.
pub async fn report(gauges: &Gauges, drain: &Drain) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    // Half of what the manager waits, as sd_watchdog_enabled(3) recommends.
    let watchdog = sd_notify::watchdog_enabled().map(|limit| limit / 2);
    let interval = watchdog.unwrap_or(STATUS_INTERVAL).max(Duration::from_millis(1));
    let mut ticks = tokio::time::interval(interval.min(STATUS_INTERVAL));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let status = status(gauges, drain);
        notify(&[NotifyState::Watchdog, NotifyState::Status(&status)]);
    }
}

/// One line for `systemctl status`.
fn status(gauges: &Gauges, drain: &Drain) -> String {
    let counts = gauges.counts();
    let state = match drain.now() {
        Some(_) => "draining: ",
        None if gauges.is_degraded() => "degraded: ",
        None => "",
    };
    format!("{state}{} participants in {} rooms", counts.peers, counts.rooms)
}

/// Without a manager this does nothing; one that cannot be reached is no reason to fail.
fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
