//! The ICE agent of one transport: who may speak to it, where to send, until when.
//!
//! A *tuple* is a client's address with the socket of ours it reached. A valid check makes a tuple
//! *validated*; one of the validated tuples is *selected*, and that is where everything is sent.
//!
//! Which one is selected follows from the checks alone:
//!
//! * The first validated tuple is selected **provisionally**, so that DTLS need not wait.
//! * A tuple whose check **nominates** (USE-CANDIDATE or NOMINATION) is selected, unless it stands
//!   against a newer or a better nomination: see `IceAgent::outranks`.
//! * A tuple that does not nominate takes over only when nothing has been heard from the selected
//!   one for [`SELECTED_SILENCE`].
//!
//! Two clients decide what has to work. libwebrtc (Chrome, Safari, Edge) puts USE-CANDIDATE into
//! every check of the pair it uses, and into no other; moving to another network shows as a first
//! USE-CANDIDATE from there, and must be followed at once. Clients of aggressive nomination (RFC
//! 5245) put it into every check of every pair, many pairs in turn; following each would make media
//! jump to and fro, so there the pair of the highest priority stays.
//!
//! Nothing here answers a check that fails authentication. RFC 8489 section 9.1.3 would have a
//! server say 401; but the sender of such a packet is unknown, its source address may be that of a
//! victim, an answer would tell which user fragments exist, and an honest client treats a 401 as it
//! treats silence: it tries again. So the packet is counted and dropped.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::time::Duration;

use smallvec::SmallVec;

use super::CONSENT_TIMEOUT;
use super::integrity::IntegrityKeys;
use super::stun::{BindingRequest, ClientRole, ErrorCode, write_error, write_success};
use crate::drop_reason::DropReason;
use crate::io::SocketId;
use crate::message::{IceCredentials, IceState};
use crate::time::Time;

/// Validated tuples of a transport at most. A client with two interfaces, IPv4 and IPv6, and a NAT
/// rebinding has five; a higher bound would only serve who floods us with source ports.
pub const MAX_TUPLES: usize = 8;

/// How long the selected tuple may go without a check before one that does not nominate takes over:
/// two consent checks in a row lost, at the longest interval between them (RFC 7675 section 5.1:
/// 5 s, randomised up to 6 s). Less would leave a working path on the loss of one packet; more
/// would keep sending to where a NAT's mapping is gone.
pub const SELECTED_SILENCE: Duration = Duration::from_secs(12);

// Whatever check brings a transport back, its source is selected: the old one has been silent.
const _: () = assert!(SELECTED_SILENCE.as_secs() < CONSENT_TIMEOUT.as_secs());

/// A client's address, and our socket that it reached.
pub type Tuple = (SocketAddr, SocketId);

/// What a Binding request led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    /// Bytes of the answer, at the start of the buffer; it goes back where the request came from.
    pub response_len: usize,
    /// What changed.
    pub outcome: Outcome,
    /// A tuple that is validated no more, for the new one needed its place.
    pub evicted: Option<Tuple>,
    /// A user fragment that is ours no more, for the first check since a restart has come.
    pub retired_ufrag: Option<String>,
}

/// What an authentic check changed. Unless it was rejected, its source is a validated tuple now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The answer is an error (420 or 487), and nothing changed.
    Rejected,
    /// Nothing changed, but consent is fresh.
    Unchanged,
    /// The source is newly validated; another tuple stays selected.
    NewTuple,
    /// The source is the selected tuple, and that or [`IceAgent::state`] is new.
    Selected {
        /// Another tuple, or none, was selected before.
        changed: bool,
    },
}

/// ICE-lite agent of one transport; always the controlled side.
pub struct IceAgent {
    current: Credentials,
    /// Good until the first valid check with the current ones.
    previous: Option<Credentials>,
    tuples: SmallVec<[ValidatedTuple; MAX_TUPLES]>,
    /// Index of the selected tuple.
    selected: Option<usize>,
    state: Option<IceState>,
    last_check: Time,
}

struct Credentials {
    ufrag: String,
    /// Boxed: the two key schedules have 2.4 KiB, and restarts are rare.
    keys: Box<IntegrityKeys>,
}

impl From<IceCredentials> for Credentials {
    fn from(IceCredentials { ufrag, pwd }: IceCredentials) -> Self {
        Credentials { ufrag, keys: Box::new(IntegrityKeys::new(&pwd)) }
    }
}

#[derive(Clone, Copy)]
struct ValidatedTuple {
    tuple: Tuple,
    last_check: Time,
    /// Of the client's pair, as its last check said.
    priority: u32,
    /// Highest NOMINATION seen from here; 0 where the client counts none.
    nomination: u32,
    /// The last check nominated.
    nominating: bool,
    /// It is or was selected by nomination.
    nominated: bool,
}

/// A check, as far as the choice of the selected tuple is concerned.
struct Challenge {
    /// Index of the tuple it came from.
    index: usize,
    nominates: bool,
    /// The previous check from there nominated as well.
    nominated_before: bool,
    /// When the previous check from there came.
    previous_check: Option<Time>,
}

impl IceAgent {
    /// An agent that waits for its first check, however long that takes: only control knows whether
    /// the client is still in signaling.
    pub fn new(credentials: IceCredentials) -> Self {
        IceAgent {
            current: credentials.into(),
            previous: None,
            tuples: SmallVec::new(),
            selected: None,
            state: None,
            last_check: Time::ZERO,
        }
    }

    /// Our user fragments: the current one and, while restarting, the previous.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        let previous = self.previous.as_ref();
        std::iter::once(&self.current).chain(previous).map(|c| c.ufrag.as_str())
    }

    /// Takes new credentials (RFC 8445 section 9). The old ones stay good until the first valid
    /// check with the new ones, and media flows on as before until the client nominates again.
    ///
    /// Returns the user fragment that is ours no more: of credentials that were replaced before any
    /// check came with them. Those that a client has used are kept in their stead.
    pub fn restart(&mut self, credentials: IceCredentials) -> Option<String> {
        let replaced = std::mem::replace(&mut self.current, credentials.into());
        let retired = match self.previous {
            None => {
                self.previous = Some(replaced);
                None
            }
            Some(_) => Some(replaced.ufrag),
        };
        // Never both at once under one name, and never a name retired that is in use.
        self.previous.take_if(|previous| previous.ufrag == self.current.ufrag);
        retired.filter(|ufrag| self.ufrags().all(|kept| kept != ufrag))
    }

    /// Authenticates a check, writes the answer into `out` (at most
    /// [`MAX_RESPONSE_LEN`](super::stun::MAX_RESPONSE_LEN) bytes) and says what changed.
    ///
    /// # Errors
    /// No answer must be sent and nothing has changed: [`DropReason::StunUnknownUfrag`] when the
    /// request is for another agent, [`DropReason::StunBadIntegrity`] when its sender does not know
    /// the password, [`DropReason::ArenaFull`] when the answer does not fit into `out`.
    pub fn handle_binding_request(
        &mut self,
        now: Time,
        request: &BindingRequest<'_>,
        source: SocketAddr,
        socket: SocketId,
        out: &mut [u8],
    ) -> Result<Handled, DropReason> {
        let credentials = self.credentials(request.ufrag()).ok_or(DropReason::StunUnknownUfrag)?;
        if !request.is_authentic(&credentials.keys) {
            return Err(DropReason::StunBadIntegrity);
        }
        if let Some(code) = reject(request) {
            let response_len =
                write_error(request, code, &credentials.keys, out).ok_or(DropReason::ArenaFull)?;
            let outcome = Outcome::Rejected;
            return Ok(Handled { response_len, outcome, evicted: None, retired_ufrag: None });
        }
        let response_len =
            write_success(request, source, &credentials.keys, out).ok_or(DropReason::ArenaFull)?;

        let retired_ufrag =
            if request.ufrag() == self.current.ufrag { self.finish_restart() } else { None };
        let (outcome, evicted) = self.accept(now, request, (source, socket));
        Ok(Handled { response_len, outcome, evicted, retired_ufrag })
    }

    /// Whether a check from there has succeeded, and so whether it may speak to the transport.
    pub fn is_validated(&self, source: SocketAddr, socket: SocketId) -> bool {
        self.find((source, socket)).is_some()
    }

    /// When the last valid check came from there.
    pub fn last_check_from(&self, source: SocketAddr, socket: SocketId) -> Option<Time> {
        let index = self.find((source, socket))?;
        Some(self.tuples[index].last_check)
    }

    /// All validated tuples.
    pub fn tuples(&self) -> impl Iterator<Item = Tuple> {
        self.tuples.iter().map(|t| t.tuple)
    }

    /// Forgets a tuple, because another transport's client has passed a check from there since: a
    /// NAT has given the address away. If it was the selected one, none is until the next check.
    pub fn forget(&mut self, source: SocketAddr, socket: SocketId) {
        let Some(index) = self.find((source, socket)) else { return };
        let last = self.tuples.len() - 1;
        self.tuples.swap_remove(index);
        self.selected = match self.selected {
            Some(selected) if selected == index => None,
            Some(selected) if selected == last => Some(index),
            other => other,
        };
    }

    /// Where to send; none before the first valid check. It stays as it was when consent expires:
    /// ask [`Self::has_consent`].
    pub fn selected(&self) -> Option<Tuple> {
        Some(self.selected_tuple()?.tuple)
    }

    /// Whether the client wants to be sent to; without, nothing must be sent (RFC 7675 section 5.1)
    /// but answers to checks.
    pub fn has_consent(&self) -> bool {
        matches!(self.state, Some(IceState::Connected | IceState::Completed))
    }

    /// How ICE stands; none before the first valid check.
    pub fn state(&self) -> Option<IceState> {
        self.state
    }

    /// When [`Self::handle_timeout`] has something to do.
    pub fn next_timeout(&self) -> Time {
        if self.has_consent() { self.last_check + CONSENT_TIMEOUT } else { Time::NEVER }
    }

    /// Withdraws consent when no valid check has come for [`CONSENT_TIMEOUT`]: returns
    /// [`IceState::Disconnected`] once. The next valid check brings the transport back.
    pub fn handle_timeout(&mut self, now: Time) -> Option<IceState> {
        if !self.has_consent() || now < self.next_timeout() {
            return None;
        }
        self.state = Some(IceState::Disconnected);
        self.state
    }

    fn credentials(&self, ufrag: &str) -> Option<&Credentials> {
        let previous = self.previous.as_ref();
        std::iter::once(&self.current).chain(previous).find(|c| c.ufrag == ufrag)
    }

    /// The client uses the new credentials: the old ones go, and its nominations count afresh. What
    /// is validated and selected stays so (RFC 8445 section 9: media continues meanwhile).
    fn finish_restart(&mut self) -> Option<String> {
        let previous = self.previous.take()?;
        for tuple in &mut self.tuples {
            tuple.nomination = 0;
            tuple.nominating = false;
        }
        Some(previous.ufrag)
    }

    /// Takes a valid check into account.
    fn accept(
        &mut self,
        now: Time,
        request: &BindingRequest<'_>,
        tuple: Tuple,
    ) -> (Outcome, Option<Tuple>) {
        let (index, is_new, evicted) = match self.find(tuple) {
            Some(index) => (index, false, None),
            None => {
                let (index, evicted) = self.insert(now, tuple);
                (index, true, evicted)
            }
        };
        let nominates = request.use_candidate() || request.nomination().is_some();
        let checked = &mut self.tuples[index];
        let challenge = Challenge {
            index,
            nominates,
            nominated_before: checked.nominating,
            previous_check: (!is_new).then_some(checked.last_check),
        };
        checked.last_check = now;
        checked.nominating = nominates;
        checked.priority = request.priority().unwrap_or(checked.priority);
        checked.nomination = checked.nomination.max(request.nomination().unwrap_or(0));

        let changed = self.selected != Some(index) && self.takes_over(now, &challenge);
        if changed {
            self.selected = Some(index);
        }
        if self.selected == Some(index) && nominates {
            self.tuples[index].nominated = true;
        }
        let moved = self.renew_consent(now);
        let outcome = match (changed || moved, is_new) {
            (true, _) => Outcome::Selected { changed },
            (false, true) => Outcome::NewTuple,
            (false, false) => Outcome::Unchanged,
        };
        (outcome, evicted)
    }

    /// Whether the tuple a check came from is to be selected in the place of another.
    fn takes_over(&self, now: Time, challenge: &Challenge) -> bool {
        let Some(selected) = self.selected_tuple() else { return true };
        if now.since(selected.last_check) >= SELECTED_SILENCE {
            return true;
        }
        challenge.nominates && self.outranks(challenge, selected)
    }

    /// Whether a nomination stands against that of the selected tuple.
    ///
    /// The higher NOMINATION wins; a check without one counts as the last from its tuple, so that a
    /// straggler of an earlier nomination undoes nothing. Among equals, and that is all there is
    /// unless the client renominates, a nomination wins when it is
    ///
    /// * the first, since the last check of the selected tuple did not nominate;
    /// * new, since the previous check from there did not nominate: the client has moved;
    /// * of higher priority, as RFC 5245 section 8.1.1.2 decides between many nominated pairs;
    /// * the second in a row with nothing from the selected tuple between: the client has moved
    ///   back to where it nominated before.
    fn outranks(&self, challenge: &Challenge, selected: &ValidatedTuple) -> bool {
        let challenger = &self.tuples[challenge.index];
        if challenger.nomination != selected.nomination {
            return challenger.nomination > selected.nomination;
        }
        !selected.nominating
            || !challenge.nominated_before
            || challenger.priority > selected.priority
            || challenge.previous_check.is_some_and(|previous| previous > selected.last_check)
    }

    /// Any valid check renews consent for the transport. Returns whether the state is a new one.
    fn renew_consent(&mut self, now: Time) -> bool {
        self.last_check = self.last_check.max(now);
        let completed = self.selected_tuple().is_some_and(|t| t.nominated);
        let state = if completed { IceState::Completed } else { IceState::Connected };
        self.state.replace(state) != Some(state)
    }

    /// Makes room for a tuple and puts it there: its index, and who had to go. That is the one
    /// checked least recently, but never the selected one.
    fn insert(&mut self, now: Time, tuple: Tuple) -> (usize, Option<Tuple>) {
        let validated = ValidatedTuple {
            tuple,
            last_check: now,
            priority: 0,
            nomination: 0,
            nominating: false,
            nominated: false,
        };
        if self.tuples.len() < MAX_TUPLES {
            self.tuples.push(validated);
            return (self.tuples.len() - 1, None);
        }
        let oldest = (0..self.tuples.len())
            .filter(|&index| self.selected != Some(index))
            .min_by_key(|&index| self.tuples[index].last_check)
            .expect("of eight tuples at most one is selected");
        let evicted = std::mem::replace(&mut self.tuples[oldest], validated);
        (oldest, Some(evicted.tuple))
    }

    fn find(&self, tuple: Tuple) -> Option<usize> {
        self.tuples.iter().position(|t| t.tuple == tuple)
    }

    fn selected_tuple(&self) -> Option<&ValidatedTuple> {
        self.selected.map(|index| &self.tuples[index])
    }
}

/// Why an authentic request is turned down, if it is. Unknown attributes come first (RFC 8489
/// section 6.3.1). A lite agent cannot take the controlling role whatever the tie-breakers say, so
/// a client that claims the controlled one has to give way (RFC 8445 sections 6.1.1 and 7.3.1.1).
fn reject(request: &BindingRequest<'_>) -> Option<ErrorCode> {
    if !request.unknown_attributes().is_empty() {
        return Some(ErrorCode::UnknownAttribute);
    }
    match request.role() {
        Some(ClientRole::Controlled(_)) => Some(ErrorCode::RoleConflict),
        Some(ClientRole::Controlling(_)) | None => None,
    }
}

#[cfg(test)]
mod tests;
