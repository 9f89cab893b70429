//! The hub: control between the connections and the data cores, all on one thread.
//!
//! Whoever brings something (a connection a request, a core an event, the clock a time-out) also
//! carries away what follows from it: answers and news to the mailboxes of the connections,
//! commands to the cores.
#![forbid(unsafe_code)]

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opencall_control::Control;
use opencall_control::api::{
    CloseReason, Notification, Output, Request, RequestError, Response, SessionConfig, SessionId,
    Token,
};
use opencall_dataplane::message::{Command, CoreId};
use opencall_dataplane::thread::{Clock, DataPlane};
use opencall_dataplane::time::Time;
use tokio::sync::Notify;

use crate::envelope::Closing;
use crate::gauges::Gauges;

/// What may wait for one connection. Entering a room of 500 brings about 2000 at once; a client
/// that lets more than this pile up does not read. About 4 KiB each at worst.
const MAX_MAIL: usize = 8192;

/// Events of one core taken before the next core and the connections get their turn: a DTLS record
/// may cost half a millisecond.
const MAX_EVENTS_PER_TURN: usize = 32;

/// The longest the hub sleeps: how late a dead core or a full command ring is looked at again.
const MAX_SLEEP: Duration = Duration::from_millis(500);

/// How often rooms and peers are counted for `/healthz`.
const COUNT_INTERVAL: Duration = Duration::from_millis(250);

/// How soon a full command ring is tried again.
const FULL_RING_RETRY: Duration = Duration::from_millis(1);

/// What control has for one connection.
pub enum Mail {
    /// An answer.
    Response(Token, Result<Response, RequestError>),
    /// News.
    Notification(Notification),
}

/// Where it waits for the connection. Bounded: whoever does not fetch it is closed.
#[derive(Default)]
pub struct Mailbox {
    mail: RefCell<VecDeque<Mail>>,
    closing: Cell<Option<Closing>>,
    /// Mail has come.
    pub arrived: Notify,
    /// [`Mailbox::closing`] is set.
    pub closed: Notify,
}

impl Mailbox {
    /// The next piece.
    pub fn take(&self) -> Option<Mail> {
        self.mail.borrow_mut().pop_front()
    }

    /// Why the connection must close, if it must.
    pub fn closing(&self) -> Option<Closing> {
        self.closing.get()
    }

    /// Makes the connection close; the first reason stays.
    pub fn close(&self, closing: Closing) {
        if self.closing.get().is_none() {
            self.closing.set(Some(closing));
            self.closed.notify_one();
        }
    }

    fn put(&self, mail: Mail) {
        let mut queue = self.mail.borrow_mut();
        if queue.len() >= MAX_MAIL {
            queue.clear();
            return self.close(Closing::SlowReader);
        }
        queue.push_back(mail);
        self.arrived.notify_one();
    }
}

/// Names a mailbox within the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct MailboxId(u64);

struct State {
    control: Control,
    plane: DataPlane,
    /// Commands that did not fit a core's ring.
    backlog: Vec<VecDeque<Command>>,
    /// Where the mail of each session goes.
    sessions: HashMap<SessionId, Rc<Mailbox>>,
    counted_at: Time,
}

/// The hub; shared by everything that runs on the thread.
pub struct Hub {
    clock: Clock,
    state: RefCell<State>,
    /// Something to do for [`Hub::run`].
    wake: Arc<Notify>,
    /// When [`Hub::run`] wakes by itself.
    sleeps_until: Cell<Time>,
    /// Every connection's mailbox, with or without a session.
    mailboxes: RefCell<HashMap<MailboxId, Rc<Mailbox>>>,
    next_mailbox: Cell<u64>,
    /// No new connections.
    stopping: Cell<bool>,
    gauges: Arc<Gauges>,
}

impl Hub {
    /// A hub over running cores, whose events ring `wake`.
    pub fn new(
        clock: Clock,
        control: Control,
        plane: DataPlane,
        wake: Arc<Notify>,
        gauges: Arc<Gauges>,
    ) -> Self {
        let backlog = plane.cores.iter().map(|_| VecDeque::new()).collect();
        let state =
            State { control, plane, backlog, sessions: HashMap::new(), counted_at: Time::ZERO };
        Hub {
            clock,
            state: RefCell::new(state),
            wake,
            sleeps_until: Cell::new(Time::ZERO),
            mailboxes: RefCell::default(),
            next_mailbox: Cell::new(0),
            stopping: Cell::new(false),
            gauges,
        }
    }

    /// The process's clock.
    pub fn clock(&self) -> Clock {
        self.clock
    }

    /// A mailbox for a new connection.
    pub fn enter(&self) -> (MailboxId, Rc<Mailbox>) {
        let id = MailboxId(self.next_mailbox.get());
        self.next_mailbox.set(id.0 + 1);
        let mailbox = Rc::new(Mailbox::default());
        if self.stopping.get() {
            mailbox.close(Closing::ByControl(CloseReason::Shutdown));
        }
        self.mailboxes.borrow_mut().insert(id, Rc::clone(&mailbox));
        (id, mailbox)
    }

    /// The connection is gone, and its session with it.
    pub fn leave(&self, id: MailboxId, session: Option<SessionId>) {
        self.mailboxes.borrow_mut().remove(&id);
        if let Some(session) = session {
            self.close_session(session);
        }
    }

    /// Opens a session; its mail goes to `mailbox`.
    pub fn open_session(&self, config: SessionConfig, mailbox: Rc<Mailbox>) -> SessionId {
        let mut state = self.state.borrow_mut();
        let session = state.control.open_session(self.clock.now(), config);
        state.sessions.insert(session, mailbox);
        self.settle(&mut state);
        session
    }

    fn close_session(&self, session: SessionId) {
        let mut state = self.state.borrow_mut();
        // Control has forgotten sessions that it closed itself.
        if state.sessions.remove(&session).is_some() {
            state.control.close_session(self.clock.now(), session);
            self.settle(&mut state);
        }
    }

    /// Asks control; the answer comes by mail.
    pub fn request(&self, session: SessionId, token: Token, request: Request) {
        let mut state = self.state.borrow_mut();
        if state.sessions.contains_key(&session) {
            state.control.handle_request(self.clock.now(), session, token, request);
            self.settle(&mut state);
        }
    }

    /// What a router can do.
    pub fn router_rtp_capabilities(&self) -> Response {
        Response::RouterRtpCapabilities(
            self.state.borrow().control.router_rtp_capabilities().clone(),
        )
    }

    /// Closes every connection, and lets no new one in.
    pub fn close_all(&self) {
        self.stopping.set(true);
        let mut state = self.state.borrow_mut();
        state.control.shutdown(self.clock.now());
        self.settle(&mut state);
        drop(state);
        for mailbox in self.mailboxes.borrow().values() {
            mailbox.close(Closing::ByControl(CloseReason::Shutdown));
        }
    }

    /// Tells every core to stop.
    pub fn stop_cores(&self) {
        for core in &mut self.state.borrow_mut().plane.cores {
            // A core whose ring is full is stuck; the process ends all the same.
            if core.send(Command::Shutdown).is_err() {
                tracing::warn!(core = core.id.0, "data core does not take its shutdown");
            }
            core.wake();
        }
    }

    /// Whether a core has not left its loop yet.
    pub fn cores_running(&self) -> bool {
        self.state.borrow().plane.cores.iter().any(|core| core.is_running())
    }

    /// Serves events and time-outs; never ends.
    pub async fn run(&self) {
        loop {
            let now = self.clock.now();
            let more = self.turn(now);
            opencall_dataplane::io::give_way();
            if more {
                tokio::task::yield_now().await;
                continue;
            }
            let until = self.sleeps_until.get().since(self.clock.now());
            tokio::select! {
                () = self.wake.notified() => {}
                () = tokio::time::sleep(until) => {}
            }
        }
    }

    /// Returns whether more events wait.
    fn turn(&self, now: Time) -> bool {
        let mut state = self.state.borrow_mut();
        let more = state.take_events(now);
        if state.control.next_timeout() <= now {
            state.control.handle_timeout(now);
        }
        if state.plane.cores.iter().any(|core| !core.is_running())
            && !self.gauges.core_lost.swap(true, Ordering::Relaxed)
        {
            tracing::error!("a data core has ended: its participants have no media; restart");
        }
        self.settle(&mut state);
        if now.since(state.counted_at) >= COUNT_INTERVAL {
            state.counted_at = now;
            self.gauges.set_counts(state.control.counts());
        }
        let retry =
            if state.backlog.iter().all(VecDeque::is_empty) { MAX_SLEEP } else { FULL_RING_RETRY };
        self.sleeps_until.set(state.control.next_timeout().min(now + retry));
        more
    }

    /// Carries away what control has to say.
    fn settle(&self, state: &mut State) {
        state.deliver();
        state.send_commands();
        if state.control.next_timeout() < self.sleeps_until.get() {
            self.wake.notify_one();
        }
    }
}

impl State {
    fn take_events(&mut self, now: Time) -> bool {
        let mut more = false;
        for core in &mut self.plane.cores {
            let mut taken = 0;
            while let Some(event) = core.poll_event() {
                self.control.handle_event(now, core.id, event);
                taken += 1;
                if taken == MAX_EVENTS_PER_TURN {
                    more = true;
                    break;
                }
            }
        }
        more
    }

    fn deliver(&mut self) {
        while let Some(output) = self.control.poll_output() {
            match output {
                Output::Response { session, token, result } => {
                    self.mail(session, Mail::Response(token, result));
                }
                Output::Notification { session, notification } => {
                    self.mail(session, Mail::Notification(*notification));
                }
                Output::Close { session, reason } => {
                    if let Some(mailbox) = self.sessions.remove(&session) {
                        mailbox.close(Closing::ByControl(reason));
                    }
                }
            }
        }
    }

    fn mail(&self, session: SessionId, mail: Mail) {
        if let Some(mailbox) = self.sessions.get(&session) {
            mailbox.put(mail);
        }
    }

    fn send_commands(&mut self) {
        while let Some((CoreId(index), command)) = self.control.poll_command() {
            if let Some(queue) = self.backlog.get_mut(usize::from(index)) {
                queue.push_back(command);
            }
        }
        for (core, queue) in self.plane.cores.iter_mut().zip(&mut self.backlog) {
            let mut sent = false;
            while let Some(command) = queue.pop_front() {
                if let Err(command) = core.send(command) {
                    queue.push_front(command);
                    break;
                }
                sent = true;
            }
            if sent {
                core.wake();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_mailbox_is_emptied_and_closed() {
        let mailbox = Mailbox::default();
        let news = || Mail::Notification(Notification::ConsumerClosed { consumer_id: "c".into() });
        (0..MAX_MAIL).for_each(|_| mailbox.put(news()));
        assert_eq!(mailbox.closing(), None);
        mailbox.put(news());
        assert_eq!(mailbox.closing(), Some(Closing::SlowReader));
        assert!(mailbox.take().is_none());
        // The first reason stays.
        mailbox.close(Closing::ByControl(CloseReason::Shutdown));
        assert_eq!(mailbox.closing(), Some(Closing::SlowReader));
    }
}
