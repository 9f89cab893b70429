//! Webhooks: programs outside are told what happens in rooms, in LiveKit's form and signed as
//! LiveKit does, so that its server SDKs verify and read them.
//!
//! ```text
//! control thread                    web thread, one task for each receiver
//! Control ──RoomEvent──▶ Webhooks ──▶ queue of each room ──▶ POST ──▶ receiver
//! ```
//!
//! * `event` — the body.
//! * `queue` — what waits: order, turns, pauses, bounds; no clock, no socket.
//! * `receiver` — the task that delivers.
//! * `signer` — the signature.
//! * [`gauges`] — what is counted.
//!
//! Each is delivered at least once, and in the order of its room. The control thread only puts an
//! event into a channel: a receiver that hangs, or does not exist, is the web thread's to wait for.
#![forbid(unsafe_code)]

mod event;
pub mod gauges;
mod queue;
mod receiver;
mod signer;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opencall_control::room_events::RoomEvent;
use tokio::sync::mpsc::error::TrySendError;
use tokio::task::JoinSet;

use self::gauges::{WebhookDrop, WebhookGauges};
use self::receiver::{Inlet, Receiver};
use self::signer::Signer;
use crate::auth::Auth;
use crate::auth::keys::ApiKeys;
use crate::outgoing::url::HttpUrl;

/// Events that may wait for the web thread, which takes them as they come: all of a few large rooms
/// that begin at once.
const MAX_EVENTS: usize = 16_384;

/// How long a stopping server goes on delivering.
const FAREWELL: Duration = Duration::from_secs(3);

/// Who is told, and by whose key. No `Debug`: it holds secrets.
pub struct WebhookConfig {
    /// The receivers.
    pub urls: Vec<HttpUrl>,
    /// What signs.
    pub key: WebhookKey,
}

/// What signs webhooks. No `Debug`: it holds secrets.
pub enum WebhookKey {
    /// A key of join tokens, by its name.
    OfTokens(String),
    /// One of their own.
    Own {
        /// Its name.
        name: String,
        /// Nothing but it.
        keys: ApiKeys,
    },
}

/// The control thread's side.
pub struct Webhooks {
    inlets: Vec<Inlet>,
    gauges: Arc<WebhookGauges>,
}

/// The web thread's side.
pub struct Receivers {
    receivers: Vec<Receiver>,
    gauges: Arc<WebhookGauges>,
}

/// The two sides of webhooks to these receivers.
pub fn new(
    config: WebhookConfig,
    auth: &Arc<Auth>,
    gauges: &Arc<WebhookGauges>,
) -> (Webhooks, Receivers) {
    for url in &config.urls {
        tracing::info!(%url, "webhooks");
        if url.is_exposed() {
            tracing::warn!(%url, "--webhook-url is not https: whoever is on the way reads it");
        }
    }
    let signer = Arc::new(Signer::new(config.key, Arc::clone(auth)));
    let receiver = |url| Receiver::new(url, Arc::clone(&signer), Arc::clone(gauges), MAX_EVENTS);
    let (receivers, inlets) = config.urls.into_iter().map(receiver).unzip();
    let webhooks = Webhooks { inlets, gauges: Arc::clone(gauges) };
    (webhooks, Receivers { receivers, gauges: Arc::clone(gauges) })
}

impl Webhooks {
    /// Tells every receiver. Never waits.
    pub fn send(&self, event: RoomEvent) {
        let event = Arc::new(event);
        for inlet in &self.inlets {
            match inlet.events.try_send(Arc::clone(&event)) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => {
                    inlet.missed.fetch_add(1, Ordering::Relaxed);
                    self.gauges.count_dropped(WebhookDrop::Overflow, 1);
                }
                Err(TrySendError::Closed(_)) => {
                    self.gauges.count_dropped(WebhookDrop::Stopped, 1);
                }
            }
        }
    }
}

/// The tasks that deliver.
pub struct Deliveries {
    tasks: JoinSet<()>,
    gauges: Arc<WebhookGauges>,
}

impl Receivers {
    /// Starts delivering, in a task for each receiver.
    pub fn start(self) -> Deliveries {
        let mut tasks = JoinSet::new();
        for receiver in self.receivers {
            tasks.spawn(receiver.run());
        }
        Deliveries { tasks, gauges: self.gauges }
    }
}

impl Deliveries {
    /// Delivers what is left, for a while; the control thread's side is gone.
    pub async fn finish(mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            let (_, _, lost) = self.gauges.counts();
            self.gauges.count_dropped(WebhookDrop::Stopped, lost);
            tracing::warn!(lost, reason = WebhookDrop::Stopped.label(), "webhooks are lost");
        }
    }
}
