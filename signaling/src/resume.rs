//! Sessions that outlive their connection. A client that asks for it gets a token when it enters;
//! with that it takes its session over on another connection, and both sides go on with what the
//! other has not received.
//!
//! ```text
//! connection 1 ──lost──▶ parked: session, mailbox, translator ──30 s──▶ the participant leaves
//!                              │ claim
//! connection 2 ──resume────────┘ ──▶ frames that were missed, then whatever came meanwhile
//! ```
//!
//! An answer that gives a new token may be lost. So the one before is good as well until the client
//! has said anything on the new connection.
//!
//! Nothing is numbered on the wire: WebSockets keep order, so each side counts the text frames of a
//! session, and says when it resumes how many it has.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::json;
use tokio::sync::oneshot;

use crate::envelope::Envelope;
use crate::hub::{Mailbox, Presence};

/// How long a session waits for its client: walking from one network into another, a lift, a
/// tunnel. The others see a person who stands still meanwhile.
pub const RESUME_GRACE: Duration = Duration::from_secs(30);

/// How long the connection that has a session may take to hand it over.
pub const CLAIM_TIMEOUT: Duration = Duration::from_secs(2);

/// Frames kept in case that the client has not received them. A client acknowledges with each ping,
/// every two seconds: that is far more than comes in between.
const MAX_FRAMES: usize = 256;

/// Their bytes. What does not fit is forgotten, and with it the chance to resume.
const MAX_BYTES: usize = 128 << 10;

/// What proves that a client is the one that entered. Known to it and the server; no `Debug`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ResumeToken(String);

impl ResumeToken {
    fn draw() -> Self {
        ResumeToken(format!("{:032x}", rand::random::<u128>()))
    }
}

/// Who wants to have a session back.
pub struct Claim {
    /// Its room.
    pub room: String,
    /// Its peer.
    pub peer: String,
    /// The token that its last connection was given.
    pub token: String,
    /// Text frames of the session that the client has received.
    pub received: u64,
}

impl std::fmt::Debug for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Claim").field("room", &self.room).field("peer", &self.peer).finish()
    }
}

/// A session on its way from one connection to the next.
pub struct Held {
    pub(crate) envelope: Box<dyn Envelope>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) presence: Presence,
    pub(crate) record: Record,
}

/// Where a session is handed to.
pub type HandOver = oneshot::Sender<Held>;

struct Entry {
    room: String,
    peer: String,
    owner: oneshot::Sender<HandOver>,
}

/// The sessions that can be resumed: one entry for each at most.
#[derive(Default)]
pub struct Resumptions {
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    entries: HashMap<ResumeToken, Entry>,
    /// Tokens of which it is not known yet whether their clients have the next.
    former: HashMap<ResumeToken, ResumeToken>,
}

impl Resumptions {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token for a session; whoever comes with it is heard of through the ticket.
    pub fn issue(self: &Arc<Self>, room: &str, peer: &str) -> Ticket {
        let token = ResumeToken::draw();
        let (owner, claimed) = oneshot::channel();
        let entry = Entry { room: room.to_owned(), peer: peer.to_owned(), owner };
        self.known().entries.insert(token.clone(), entry);
        Ticket { token, former: None, claimed, resumptions: Arc::clone(self) }
    }

    /// The next token for a session that was claimed, beside that of the claim.
    pub fn issue_after(self: &Arc<Self>, claim: &Claim) -> Ticket {
        let mut ticket = self.issue(&claim.room, &claim.peer);
        let former = ResumeToken(claim.token.clone());
        self.known().former.insert(former.clone(), ticket.token.clone());
        ticket.former = Some(former);
        ticket
    }

    /// The session of a token, which is used up; `None` if there is none for this peer, or its
    /// connection does not let go.
    pub async fn claim(&self, claim: &Claim) -> Option<Held> {
        let token = ResumeToken(claim.token.clone());
        let entry = {
            let mut known = self.known();
            let token = known.former.get(&token).cloned().unwrap_or(token);
            let entry = known.entries.get(&token)?;
            if entry.room != claim.room || entry.peer != claim.peer {
                return None;
            }
            known.entries.remove(&token)?
        };
        let (hand_over, handed) = oneshot::channel();
        entry.owner.send(hand_over).ok()?;
        tokio::time::timeout(CLAIM_TIMEOUT, handed).await.ok()?.ok()
    }
}

/// A session's side of its token, which ends with it.
pub struct Ticket {
    token: ResumeToken,
    /// The one before, while its client may have no other.
    former: Option<ResumeToken>,
    /// Who has come with the token.
    pub(crate) claimed: oneshot::Receiver<HandOver>,
    resumptions: Arc<Resumptions>,
}

impl Ticket {
    /// What the client is told of it.
    pub(crate) fn token(&self) -> &str {
        &self.token.0
    }

    /// The client has it: the one before is good for nothing any more.
    fn confirm(&mut self) {
        if let Some(former) = self.former.take() {
            self.resumptions.known().former.remove(&former);
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.confirm();
        self.resumptions.known().entries.remove(&self.token);
    }
}

/// What was said on all connections of a session.
#[derive(Default)]
pub struct Record {
    /// There is one once the client has asked to be able to resume.
    pub(crate) ticket: Option<Ticket>,
    /// Text frames of the client.
    received: u64,
    /// Text frames to the client.
    sent: u64,
    /// The newest of those, as far as they are not acknowledged.
    frames: VecDeque<String>,
    bytes: usize,
}

impl Record {
    /// The client has said something.
    pub(crate) fn note_received(&mut self) {
        self.received += 1;
        if let Some(ticket) = &mut self.ticket {
            ticket.confirm();
        }
    }

    /// How much the client has said.
    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// A frame is about to be sent.
    pub(crate) fn note_sent(&mut self, frame: &str) {
        self.sent += 1;
        if self.ticket.is_none() {
            return;
        }
        self.bytes += frame.len();
        self.frames.push_back(frame.to_owned());
        while self.frames.len() > MAX_FRAMES || self.bytes > MAX_BYTES {
            self.forget_oldest();
        }
    }

    /// The client has received so many frames in all.
    pub(crate) fn acknowledge(&mut self, received: u64) {
        while self.first_kept() < received.min(self.sent) && !self.frames.is_empty() {
            self.forget_oldest();
        }
    }

    /// What comes after so many frames; `None` if it is not kept any more, or was never sent.
    pub(crate) fn after(&self, received: u64) -> Option<Vec<String>> {
        let skipped = received.checked_sub(self.first_kept())?;
        let skipped = usize::try_from(skipped).ok().filter(|skipped| *skipped <= self.frames.len());
        Some(self.frames.iter().skip(skipped?).cloned().collect())
    }

    /// Frames before the oldest that is kept.
    fn first_kept(&self) -> u64 {
        self.sent - self.frames.len() as u64
    }

    fn forget_oldest(&mut self) {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.len();
        }
    }
}

/// The answer to a client that has its session back.
pub(crate) fn resumed(id: &str, ticket: &Ticket, record: &Record) -> String {
    let data = json!({"resumeToken": ticket.token(), "received": record.received()});
    json!({"type": "response", "id": id, "data": data}).to_string()
}

/// The answer to one that has ended a session of its own.
pub(crate) fn ended(id: &str) -> String {
    json!({"type": "response", "id": id, "data": {}}).to_string()
}

/// The answer to one that has to join anew.
pub(crate) fn refused(id: &str) -> String {
    let error = "this session cannot be resumed: it is over, or too much was missed; join again";
    json!({"type": "error", "id": id, "error": error}).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(token: &str, peer: &str) -> Claim {
        Claim { room: "room".into(), peer: peer.into(), token: token.into(), received: 0 }
    }

    fn record(resumptions: &Arc<Resumptions>) -> Record {
        Record { ticket: Some(resumptions.issue("room", "anna")), ..Record::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_for_one_peer_and_for_one_use() {
        let resumptions = Arc::new(Resumptions::default());
        let mut ticket = resumptions.issue("room", "anna");
        let token = ticket.token().to_owned();
        assert!(resumptions.claim(&claim(&token, "otto")).await.is_none());
        assert!(resumptions.claim(&claim("x", "anna")).await.is_none());
        assert!(ticket.claimed.try_recv().is_err(), "strangers are not heard of");
        // Nobody hands it over in time here; it is used up all the same.
        assert!(resumptions.claim(&claim(&token, "anna")).await.is_none());
        assert!(ticket.claimed.try_recv().is_ok());
        assert!(resumptions.claim(&claim(&token, "anna")).await.is_none());
    }

    #[test]
    fn a_token_ends_with_its_session() {
        let resumptions = Arc::new(Resumptions::default());
        let first = resumptions.issue("room", "anna");
        let second = resumptions.issue("room", "otto");
        assert!(first.token() != second.token() && first.token().len() == 32);
        assert_eq!(resumptions.known().entries.len(), 2);
        drop((first, second));
        assert_eq!(resumptions.known().entries.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_until_its_client_has_shown_that_it_has_the_next() {
        let resumptions = Arc::new(Resumptions::default());
        for has_the_next in [false, true] {
            let mut next = resumptions.issue_after(&claim("first", "anna"));
            assert!(resumptions.claim(&claim("first", "otto")).await.is_none());
            if has_the_next {
                next.confirm();
            }
            let _ = resumptions.claim(&claim("first", "anna")).await;
            assert_eq!(next.claimed.try_recv().is_ok(), !has_the_next);
        }
        let known = resumptions.known();
        assert_eq!((known.entries.len(), known.former.len()), (0, 0));
    }

    #[test]
    fn what_was_not_received_is_sent_again_and_what_was_is_forgotten() {
        let mut record = record(&Arc::default());
        for number in 1..=5 {
            record.note_sent(&number.to_string());
        }
        assert_eq!(record.after(3).unwrap(), ["4", "5"]);
        assert_eq!(record.after(5).unwrap(), [""; 0]);
        assert_eq!(record.after(6), None, "more than was sent");
        record.acknowledge(4);
        assert_eq!(record.after(4).unwrap(), ["5"]);
        assert_eq!(record.after(3), None, "the client has said that it has it");
        record.acknowledge(u64::MAX);
        assert_eq!((record.frames.len(), record.bytes), (0, 0));
        assert_eq!(record.after(5).unwrap(), [""; 0]);
    }

    #[test]
    fn what_is_kept_is_bounded_in_number_and_bytes() {
        let mut record = record(&Arc::default());
        for _ in 0..2 * MAX_FRAMES {
            record.note_sent("x");
        }
        assert_eq!(record.frames.len(), MAX_FRAMES);
        assert_eq!(record.after(MAX_FRAMES as u64 - 1), None);
        for _ in 0..10 {
            record.note_sent(&"x".repeat(MAX_BYTES / 2));
        }
        assert!(record.bytes <= MAX_BYTES);
        assert_eq!(record.frames.len(), 2);
    }

    #[test]
    fn who_did_not_ask_for_it_costs_nothing() {
        let mut record = Record::default();
        record.note_sent("x");
        assert!(record.frames.is_empty());
    }
}
