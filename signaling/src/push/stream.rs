//! One push: its feed, and the program that sends it, which is started again when it ends.
//!
//! ```text
//! waits for a beginning ─▶ sends ─the other side is gone─▶ rests ─▶ waits …
//!                            └─ never taken ─▶ failed      └─ minutes ─▶ given up
//! ```
#![forbid(unsafe_code)]

use std::path::Path;
use std::time::Duration;

use opencall_control::push::message::{PushEnding, PushId, PushProgress, PushTarget};
use opencall_wire::time::Time;

use super::child::Child;
use super::feed::{Feed, Room};
use super::target::Address;

/// The first pause after a connection, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// A connection that lasted so long was none that is refused again and again.
const LASTING: Duration = Duration::from_secs(10);

/// Without any connection for so long a push is given up.
const GIVE_UP: Duration = Duration::from_secs(300);

/// A program that sends nothing for so long is stuck.
const STUCK: Duration = Duration::from_secs(10);

/// How long one may take to send what is left.
const FAREWELL: Duration = Duration::from_secs(1);

/// A stream that begins anew does so no sooner after its last beginning: whose codec changes with
/// each picture is not to have a program for each.
const LEAST_LIFE: Duration = Duration::from_secs(2);

/// Bytes that wait for the program at most: ten seconds of 3 Mbit/s.
const MAX_QUEUED: usize = 4 << 20;

/// What the program sends.
struct Sending {
    child: Child,
    began: Time,
    /// What it had sent when that last grew, and when that was.
    sent: (u64, Time),
    /// Why it was ended.
    killed: Option<&'static str>,
}

enum State {
    Waiting,
    Sending(Box<Sending>),
    Resting(Time),
}

/// One push.
pub struct Stream {
    id: PushId,
    address: Address,
    /// What it sends.
    pub feed: Feed,
    state: State,
    /// Programs that end.
    leaving: Vec<(Child, Time)>,
    /// None is started before.
    begins_from: Time,
    pause: Duration,
    /// Since when nobody has taken anything.
    silent_since: Time,
    progress: PushProgress,
    /// Bytes sent by programs before.
    bytes_before: u64,
    told_connected: bool,
}

impl Stream {
    /// Begins one; `None` for an address that was none when it was allowed.
    pub fn new(now: Time, id: PushId, target: &PushTarget) -> Option<Self> {
        Some(Stream {
            id,
            address: Address::parse(&target.url).ok()?,
            feed: Feed::new(now),
            state: State::Waiting,
            leaving: Vec::new(),
            begins_from: now,
            pause: FIRST_PAUSE,
            silent_since: now,
            progress: PushProgress::default(),
            bytes_before: 0,
            told_connected: false,
        })
    }

    /// How far it is.
    pub fn progress(&self) -> PushProgress {
        let sent = if let State::Sending(sending) = &self.state { sending.sent.0 } else { 0 };
        PushProgress {
            bytes: self.bytes_before + sent,
            frames_dropped: self.feed.dropped,
            packets_lost: self.feed.lost(),
            ..self.progress.clone()
        }
    }

    /// Whether its connection came or went since the last call.
    pub fn has_changed(&mut self) -> bool {
        let connected = self.progress.connected;
        std::mem::replace(&mut self.told_connected, connected) != connected
    }

    /// One round; an ending where it is over.
    pub fn turn(&mut self, now: Time, ca: Option<&Path>) -> Option<PushEnding> {
        self.feed.poll(now);
        self.leaving.retain_mut(|(child, until)| {
            if now >= *until {
                child.kill();
            }
            child.ended().is_none()
        });
        match &mut self.state {
            State::Waiting => self.begin(now, ca),
            State::Resting(until) if now < *until => {
                self.feed.forget(now);
                None
            }
            State::Resting(_) => {
                self.feed.discard(now);
                self.state = State::Waiting;
                None
            }
            State::Sending(_) if self.feed.is_outdated() => {
                self.renew(now);
                None
            }
            State::Sending(_) => self.send(now),
        }
    }

    fn begin(&mut self, now: Time, ca: Option<&Path>) -> Option<PushEnding> {
        // Servers of broadcasts refuse a second one with the same key.
        if now < self.begins_from || !self.leaving.is_empty() {
            return None;
        }
        let (picture, head) = self.feed.begin(now)?;
        match Child::start(&self.address, picture, ca) {
            Ok(child) => {
                tracing::info!(push = self.id.0, url = ?self.address, ?picture, "a push begins");
                child.put(head);
                let (sent, killed) = ((0, now), None);
                self.state = State::Sending(Box::new(Sending { child, began: now, sent, killed }));
                None
            }
            Err(error) => self.failed(now, now, format!("ffmpeg cannot be run: {error}")),
        }
    }

    /// Ends the program, and has another one begin with what waits.
    fn renew(&mut self, now: Time) {
        if let State::Sending(sending) = std::mem::replace(&mut self.state, State::Waiting) {
            self.bytes_before += sending.child.sent();
            self.begins_from = sending.began + LEAST_LIFE;
            self.dismiss(now, sending.child);
        }
        self.progress.connected = false;
        self.feed.reopen(now);
    }

    fn dismiss(&mut self, now: Time, mut child: Child) {
        child.finish();
        self.leaving.push((child, now + FAREWELL));
    }

    fn send(&mut self, now: Time) -> Option<PushEnding> {
        let State::Sending(sending) = &mut self.state else { return None };
        let queued = sending.child.queued();
        let room = match queued {
            ..=0x1f_ffff => Room::Ample,
            _ if queued < MAX_QUEUED => Room::Little,
            _ => Room::None,
        };
        if let Some(bytes) = self.feed.take(now, room) {
            sending.child.put(bytes);
        }
        let sent = sending.child.sent();
        if sent > sending.sent.0 {
            sending.sent = (sent, now);
            self.silent_since = now;
            if !std::mem::replace(&mut self.progress.connected, true) {
                self.progress.connections += 1;
                tracing::info!(push = self.id.0, url = ?self.address, "a push is taken");
            }
        } else if now.since(sending.sent.1) >= STUCK && sending.killed.is_none() {
            sending.killed = Some("nothing was taken for 10 s");
            sending.child.kill();
        }
        let status = sending.child.ended()?;
        let (began, killed) = (sending.began, sending.killed);
        let error = match killed {
            Some(reason) => reason.to_owned(),
            None if status.code() == Some(127) => "there is no ffmpeg on the server".to_owned(),
            None => match self.address.redact(&sending.child.words()) {
                words if words.is_empty() => format!("ffmpeg has ended: {status}"),
                words => words,
            },
        };
        self.bytes_before += sending.sent.0;
        self.failed(now, began, error)
    }

    /// The program has ended, which was started at `began`.
    fn failed(&mut self, now: Time, began: Time, error: String) -> Option<PushEnding> {
        let was_connected = std::mem::take(&mut self.progress.connected);
        tracing::warn!(push = self.id.0, url = ?self.address, error, "a push is taken no more");
        self.progress.error = Some(error);
        self.state = State::Resting(now + self.pause);
        self.feed.forget(now);
        let lasted = was_connected && now.since(began) >= LASTING;
        self.pause = if lasted { FIRST_PAUSE } else { (self.pause * 2).min(LONGEST_PAUSE) };
        match self.progress.connections {
            0 => Some(PushEnding::Failed),
            _ if now.since(self.silent_since) >= GIVE_UP => Some(PushEnding::GivenUp),
            _ => None,
        }
    }

    /// Ends it: what there is is sent, for a second at most.
    pub fn end(mut self, now: Time) -> Vec<(Child, Time)> {
        if let State::Sending(sending) = std::mem::replace(&mut self.state, State::Waiting) {
            self.dismiss(now, sending.child);
        }
        self.leaving
    }
}
