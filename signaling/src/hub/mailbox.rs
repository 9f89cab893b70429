//! Where control's mail waits for a connection, between the two threads.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::mail_queue::{Mail, MailQueue};
use crate::envelope::Closing;

/// Bytes that may wait for all clients together. What many are told is shared, so that the memory
/// behind them is less.
const MAX_ALL_BYTES: usize = 256 << 20;

/// What a mailbox may always hold, however much waits for others.
const GUARANTEED_BYTES: usize = 64 << 10;

/// The books of what waits for all clients.
pub struct AllMail {
    bytes: AtomicUsize,
    limit: usize,
}

impl Default for AllMail {
    fn default() -> Self {
        AllMail { bytes: AtomicUsize::new(0), limit: MAX_ALL_BYTES }
    }
}

/// One client's mail. Bounded: whoever does not fetch it is closed.
pub struct Mailbox {
    inner: Mutex<Inner>,
    all: Arc<AllMail>,
    /// Mail has come.
    pub arrived: Notify,
    /// [`Mailbox::closing`] is set.
    pub closed: Notify,
    /// The client is to show that it is there.
    pub challenged: Notify,
}

#[derive(Default)]
struct Inner {
    queue: MailQueue,
    closing: Option<Closing>,
    /// The host who wanted it.
    closed_by: Option<Arc<str>>,
}

impl Mailbox {
    /// An empty one.
    pub fn new(all: Arc<AllMail>) -> Self {
        Mailbox {
            inner: Mutex::default(),
            all,
            arrived: Notify::new(),
            closed: Notify::new(),
            challenged: Notify::new(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does something to the queue, and keeps the books of all mail.
    fn change<T>(&self, inner: &mut Inner, change: impl FnOnce(&mut MailQueue) -> T) -> T {
        let before = inner.queue.bytes();
        let result = change(&mut inner.queue);
        self.all.bytes.fetch_add(inner.queue.bytes(), Ordering::Relaxed);
        self.all.bytes.fetch_sub(before, Ordering::Relaxed);
        result
    }

    /// The next piece.
    pub fn take(&self) -> Option<Mail> {
        self.change(&mut self.inner(), MailQueue::take)
    }

    /// Why the connection must close, if it must.
    pub fn closing(&self) -> Option<Closing> {
        self.inner().closing
    }

    /// The host who made the connection close, if one did.
    pub fn closed_by(&self) -> Option<Arc<str>> {
        self.inner().closed_by.clone()
    }

    /// Makes the connection close; the first reason stays.
    pub fn close(&self, closing: Closing) {
        self.close_by(closing, None);
    }

    /// The same, for a host who wants it.
    pub fn close_by(&self, closing: Closing, by: Option<Arc<str>>) {
        let mut inner = self.inner();
        if inner.closing.is_none() {
            (inner.closing, inner.closed_by) = (Some(closing), by);
        }
        drop(inner);
        self.closed.notify_one();
    }

    /// Adds a piece; the client that has too much is closed.
    pub fn put(&self, mail: Mail) {
        let mut inner = self.inner();
        let too_much = self.change(&mut inner, |queue| {
            let overflow = queue.put(mail).is_err();
            let all = self.all.bytes.load(Ordering::Relaxed);
            overflow || (all > self.all.limit && queue.bytes() > GUARANTEED_BYTES)
        });
        if too_much {
            self.change(&mut inner, MailQueue::clear);
            drop(inner);
            return self.close(Closing::SlowReader);
        }
        self.arrived.notify_one();
    }
}

impl Drop for Mailbox {
    fn drop(&mut self) {
        let mut inner =
            std::mem::take(self.inner.get_mut().unwrap_or_else(PoisonError::into_inner));
        self.change(&mut inner, MailQueue::clear);
    }
}

#[cfg(test)]
mod tests {
    use opencall_control::api::{CloseReason, Notification};

    use super::super::mail_queue::MAX_MAIL;
    use super::*;

    fn renamed(peer: usize, bytes: usize) -> Mail {
        Mail::Notification(Notification::PeerDisplayNameChanged {
            peer_id: peer.to_string().into(),
            display_name: "x".repeat(bytes),
            old_display_name: String::new(),
        })
    }

    #[test]
    fn a_full_mailbox_is_emptied_and_closed() {
        let all = Arc::new(AllMail::default());
        let mailbox = Mailbox::new(Arc::clone(&all));
        (0..MAX_MAIL).for_each(|peer| mailbox.put(renamed(peer, 1)));
        assert_eq!(mailbox.closing(), None);
        assert!(all.bytes.load(Ordering::Relaxed) > MAX_MAIL);
        mailbox.put(renamed(MAX_MAIL, 1));
        assert_eq!(mailbox.closing(), Some(Closing::SlowReader));
        assert!(mailbox.take().is_none());
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
        // The first reason stays.
        mailbox.close(Closing::ByControl(CloseReason::Shutdown));
        assert_eq!(mailbox.closing(), Some(Closing::SlowReader));
    }

    #[test]
    fn all_mail_together_is_bounded_but_everyone_may_have_a_little() {
        let all = Arc::new(AllMail { limit: 4 << 20, ..AllMail::default() });
        let full: Vec<Mailbox> = (0..64).map(|_| Mailbox::new(Arc::clone(&all))).collect();
        for mailbox in &full {
            (0..10).for_each(|peer| mailbox.put(renamed(peer, 20_000)));
        }
        let closed = full.iter().filter(|mailbox| mailbox.closing().is_some()).count();
        assert!(closed > 10, "{closed}");
        assert!(all.bytes.load(Ordering::Relaxed) <= (4 << 20) + 64 * GUARANTEED_BYTES);
        let honest = Mailbox::new(Arc::clone(&all));
        honest.put(renamed(0, 10_000));
        assert_eq!(honest.closing(), None);
        drop((full, honest));
        assert_eq!(all.bytes.load(Ordering::Relaxed), 0);
    }
}
