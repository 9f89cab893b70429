//! The task of one receiver: what happens goes into its queue, and from there to it, a few rooms at
//! a time.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{Request, StatusCode};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http_body_util::Full;
use opencall_control::room_events::RoomEvent;
use tokio::sync::mpsc;

use super::event;
use super::gauges::{WebhookDrop, WebhookGauges};
use super::queue::{Bounds, Job, Next, Outcome, Queue};
use super::signer::Signer;
use crate::auth::unix_now;
use crate::outgoing::Connection;
use crate::outgoing::url::HttpUrl;

/// Connections to one receiver, each with one webhook of another room: with a round trip of 50 ms,
/// 160 webhooks a second.
const MAX_ATTEMPTS: usize = 8;

/// From the begin of an attempt to its answer. A receiver that works longer had better answer
/// first.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);

/// What an answer may carry: nobody reads it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// Of lost and refused webhooks there is a line in the log so often at most.
const COMPLAINT_INTERVAL: Duration = Duration::from_secs(10);

/// A webhook has some 700 bytes. An hour without a receiver holds some 45,000; a room of 500 that
/// all enter, send two tracks each, and leave again makes 3,500.
const BOUNDS: Bounds = Bounds {
    bytes: 32 << 20,
    per_room: 8_192,
    max_age: Duration::from_secs(3600),
    min_pause: Duration::from_millis(500),
    max_pause: Duration::from_secs(15),
};

/// What the control thread hands over to one receiver.
pub struct Inlet {
    pub events: mpsc::Sender<Arc<RoomEvent>>,
    /// How many found no place there since the receiver last looked.
    pub missed: Arc<AtomicU32>,
}

/// One receiver, as its task has it.
pub struct Receiver {
    url: Arc<HttpUrl>,
    signer: Arc<Signer>,
    gauges: Arc<WebhookGauges>,
    events: mpsc::Receiver<Arc<RoomEvent>>,
    missed: Arc<AtomicU32>,
    queue: Queue,
    /// Connections on which nothing is on its way.
    idle: Vec<Connection>,
    complaints: Complaints,
}

/// An attempt that has ended.
struct Attempt {
    job: Job,
    answer: Result<StatusCode, String>,
    /// The connection, if it can be used again.
    connection: Option<Connection>,
}

impl Receiver {
    /// The receiver at `url`, and what hands over to it. At most `places` events wait in between.
    pub fn new(
        url: HttpUrl,
        signer: Arc<Signer>,
        gauges: Arc<WebhookGauges>,
        places: usize,
    ) -> (Self, Inlet) {
        let (sender, events) = mpsc::channel(places);
        let missed = Arc::new(AtomicU32::new(0));
        let receiver = Receiver {
            url: Arc::new(url),
            signer,
            gauges,
            events,
            missed: Arc::clone(&missed),
            queue: Queue::new(BOUNDS, Instant::now()),
            idle: Vec::new(),
            complaints: Complaints::default(),
        };
        (receiver, Inlet { events: sender, missed })
    }

    /// Delivers until nothing can come any more and nothing waits.
    pub async fn run(mut self) {
        let mut attempts = FuturesUnordered::new();
        let mut is_open = true;
        loop {
            let mut wake = None;
            while attempts.len() < MAX_ATTEMPTS {
                match self.queue.next(Instant::now()) {
                    Next::Send(job) => {
                        let connection = self.idle.pop();
                        let (url, signer) = (Arc::clone(&self.url), Arc::clone(&self.signer));
                        attempts.push(attempt(url, signer, connection, job));
                    }
                    Next::Wait(due) => {
                        wake = due;
                        break;
                    }
                }
            }
            self.count_expired();
            if !is_open && attempts.is_empty() && self.queue.len() == 0 {
                return self.complaints.utter(&self.url);
            }
            tokio::select! {
                event = self.events.recv(), if is_open => match event {
                    Some(event) => self.take(&event),
                    None => {
                        is_open = false;
                        self.queue.hurry(Instant::now());
                    }
                },
                Some(attempt) = attempts.next(), if !attempts.is_empty() => self.settle(attempt),
                () = until(wake), if wake.is_some() => {}
            }
        }
    }

    fn take(&mut self, event: &RoomEvent) {
        self.queue.add_lost(self.missed.swap(0, Ordering::Relaxed));
        let body = |lost| event::body(event, lost);
        if self.queue.push(Instant::now(), &event.room.name, body) {
            self.gauges.count_queued();
        } else {
            self.count_dropped(WebhookDrop::Overflow, 1);
        }
    }

    fn count_expired(&mut self) {
        let expired = self.queue.take_expired();
        if expired > 0 {
            self.gauges.count_gone(expired);
            self.count_dropped(WebhookDrop::Expired, expired);
        }
    }

    fn count_dropped(&mut self, reason: WebhookDrop, count: u64) {
        self.gauges.count_dropped(reason, count);
        self.complaints.note(&self.url, reason, count);
    }

    fn settle(&mut self, attempt: Attempt) {
        let Attempt { job, answer, connection } = attempt;
        let was_unreachable = self.queue.is_unreachable();
        self.idle.extend(connection);
        let outcome = match &answer {
            Ok(status) if status.is_success() => {
                self.gauges.count_sent();
                self.gauges.count_gone(1);
                Outcome::Settled
            }
            Ok(status) if is_final(*status) => {
                self.gauges.count_gone(1);
                self.count_dropped(WebhookDrop::Refused, 1);
                Outcome::Settled
            }
            Ok(_) => Outcome::Failed,
            Err(_) => Outcome::Unreachable,
        };
        if outcome != Outcome::Settled {
            self.gauges.count_failed();
        }
        self.queue.done(Instant::now(), job, &outcome);
        let (url, waiting) = (&self.url, self.queue.len());
        match (answer, was_unreachable) {
            (Err(reason), false) => {
                tracing::warn!(%url, reason, waiting, "webhooks wait for their receiver");
            }
            (Ok(_), true) => tracing::info!(%url, waiting, "the receiver of webhooks answers"),
            (Ok(status), false) if outcome == Outcome::Failed => {
                self.complaints.failed(url, status);
            }
            _ => {}
        }
    }
}

/// Whether a webhook with this answer is not worth another attempt. What a wrong key, a wrong path
/// or too much at once are answered with passes when someone has seen to it.
fn is_final(status: StatusCode) -> bool {
    let passing = [
        StatusCode::UNAUTHORIZED,
        StatusCode::FORBIDDEN,
        StatusCode::NOT_FOUND,
        StatusCode::REQUEST_TIMEOUT,
        StatusCode::MISDIRECTED_REQUEST,
        StatusCode::TOO_EARLY,
        StatusCode::TOO_MANY_REQUESTS,
    ];
    status.is_client_error() && !passing.contains(&status)
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

async fn attempt(
    url: Arc<HttpUrl>,
    signer: Arc<Signer>,
    connection: Option<Connection>,
    job: Job,
) -> Attempt {
    let posted = post(&url, &signer, connection, job.body.clone());
    let (answer, connection) = match tokio::time::timeout(ATTEMPT_TIMEOUT, posted).await {
        Ok(Ok((status, connection))) => (Ok(status), connection),
        Ok(Err(reason)) => (Err(reason), None),
        Err(_) => (Err(format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs())), None),
    };
    Attempt { job, answer, connection }
}

/// Posts a body. A kept connection may have been closed by the other side meanwhile, so that what
/// fails on one is tried again on a new one.
async fn post(
    url: &HttpUrl,
    signer: &Signer,
    kept: Option<Connection>,
    body: Bytes,
) -> Result<(StatusCode, Option<Connection>), String> {
    let token = signer.sign(&body, unix_now())?;
    let request = || {
        Request::post(url.target())
            .header(CONTENT_TYPE, "application/webhook+json")
            .header(AUTHORIZATION, &token)
            .body(Full::new(body.clone()))
            .map_err(|error| error.to_string())
    };
    if let Some(mut kept) = kept.filter(Connection::is_open)
        && let Ok((status, rest)) = kept.exchange(url, request()?, MAX_ANSWER_BYTES).await
    {
        return Ok((status, rest.is_ok().then_some(kept)));
    }
    let mut connection = Connection::open(url).await?;
    let (status, rest) = connection.exchange(url, request()?, MAX_ANSWER_BYTES).await?;
    Ok((status, rest.is_ok().then_some(connection)))
}

/// What the log is told, now and then.
#[derive(Default)]
struct Complaints {
    lost: [u64; WebhookDrop::ALL.len()],
    uttered_at: Option<Instant>,
    failed_at: Option<Instant>,
}

impl Complaints {
    fn note(&mut self, url: &HttpUrl, reason: WebhookDrop, count: u64) {
        if let Some(lost) = self.lost.get_mut(reason as usize) {
            *lost += count;
        }
        if is_due(&mut self.uttered_at) {
            self.utter(url);
        }
    }

    fn utter(&mut self, url: &HttpUrl) {
        for (reason, lost) in WebhookDrop::ALL.into_iter().zip(std::mem::take(&mut self.lost)) {
            if lost > 0 {
                tracing::warn!(%url, lost, reason = reason.label(), "webhooks are lost");
            }
        }
    }

    fn failed(&mut self, url: &HttpUrl, status: StatusCode) {
        if is_due(&mut self.failed_at) {
            let status = status.as_u16();
            tracing::warn!(%url, status, "a webhook is not taken now: its room's wait");
        }
    }
}

fn is_due(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let is_due = last.is_none_or(|last| now.duration_since(last) >= COMPLAINT_INTERVAL);
    if is_due {
        *last = Some(now);
    }
    is_due
}
