//! The hub's dealings with the thread that taps: commands there, what programs say back.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_control::tap::message::TapsCommand;
use opencall_dataplane::message::TAPS;
use opencall_wire::time::Time;

use super::{Hub, STOP_INTERVAL};

/// How long the thread may take to say farewell to programs.
const STOP_TIMEOUT: Duration = Duration::from_millis(700);

/// Events taken in one turn.
const MAX_EVENTS: usize = 64;

impl Hub {
    /// Hands over what is to be tapped: before the pipes for it are opened.
    pub(super) fn command_taps(&mut self) {
        while let Some(command) = self.control.poll_tap_command() {
            if let Some(taps) = &self.taps {
                taps.send(TapsCommand::Tap(command));
            }
        }
    }

    /// The same for what it is told as a core.
    pub(super) fn link_taps(&mut self) {
        let taps = self.taps.as_ref();
        self.dispatch.send(TAPS, |command| {
            // What a thread that has failed does not take is of no use to another.
            taps.map(|taps| taps.send(TapsCommand::Core(command)));
            Ok(())
        });
    }

    /// Returns whether there may be more.
    pub(super) fn take_tap_events(&mut self, now: Time) -> bool {
        let Some(taps) = &self.taps else { return false };
        for _ in 0..MAX_EVENTS {
            let Some(event) = taps.poll_event() else {
                if !taps.is_running() {
                    tracing::error!("the thread that taps has failed: voices go nowhere any more");
                    self.taps = None;
                    self.control.taps_lost(now);
                }
                return false;
            };
            self.control.handle_tap_event(now, event);
        }
        true
    }

    /// Waits until programs were told that it is over.
    pub(super) async fn await_taps(&self) {
        let Some(taps) = &self.taps else { return };
        let told = async {
            while taps.is_running() {
                tokio::time::sleep(STOP_INTERVAL).await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, told).await.is_err() {
            tracing::warn!("the thread that taps does not stop; leaving it");
        }
    }
}
