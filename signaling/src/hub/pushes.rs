//! The hub's dealings with the thread that broadcasts: commands there, what becomes of it back.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_control::push::message::{PushEvent, PushesCommand};
use opencall_dataplane::message::PUSHES;
use opencall_wire::time::Time;

use super::{Hub, STOP_INTERVAL};

/// How long the thread may take to end its programs.
const STOP_TIMEOUT: Duration = Duration::from_millis(900);

impl Hub {
    /// Hands over what is to be pushed: before the pipes for it are opened.
    pub(super) fn command_pushes(&mut self) {
        while let Some(command) = self.control.poll_push_command() {
            if let Some(pushes) = &self.pushes {
                pushes.send(PushesCommand::Push(command));
            }
        }
    }

    /// The same for what it is told as a core.
    pub(super) fn link_pushes(&mut self) {
        let pushes = self.pushes.as_ref();
        self.dispatch.send(PUSHES, |command| {
            // What a thread that has failed does not take is of no use to another.
            pushes.map(|pushes| pushes.send(PushesCommand::Core(command)));
            Ok(())
        });
    }

    pub(super) fn take_push_events(&mut self, now: Time) {
        let Some(pushes) = &self.pushes else { return };
        while let Some(event) = pushes.poll_event() {
            report_push(&event);
            self.control.handle_push_event(now, event);
        }
        if !pushes.is_running() {
            tracing::error!("the thread that broadcasts has failed: nothing is pushed any more");
            self.pushes = None;
            self.control.pushes_lost(now);
        }
    }

    /// Waits until its programs have ended.
    pub(super) async fn await_pushes(&self) {
        let Some(pushes) = &self.pushes else { return };
        let ended = async {
            while pushes.is_running() {
                tokio::time::sleep(STOP_INTERVAL).await;
            }
        };
        if tokio::time::timeout(STOP_TIMEOUT, ended).await.is_err() {
            tracing::warn!("the thread that broadcasts does not stop; leaving it");
        }
    }
}

/// Says how a push ended.
fn report_push(event: &PushEvent) {
    if let PushEvent::Ended { push, ending, progress } = event {
        let (push, ending, error) = (push.0, ending.label(), progress.error.as_deref());
        tracing::info!(push, ending, error, bytes = progress.bytes, "a push has ended");
    }
}
