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
//! A check says that the client wants to be sent to somewhere, not that it is there: whoever reads
//! the network can send it again from elsewhere, and any client can forge a source address. So a
//! transaction belongs to the tuple it came from first, and a tuple is **proven** only by what a
//! check is not: an authentic SRTP or SRTCP packet, the answer that completed the DTLS handshake,
//! or a DTLS record after that, once control has opened it.
//!
//! * Media goes to the selected tuple only once it is proven.
//! * One that is not proven cannot take over from one that is. It **claims** to be selected
//!   instead, and is, in the moment in which it is proven: at once for a client that moves and
//!   sends, with its next report for one that only receives. Until then media goes where it went.
//! * To one that is not proven go at most [`UNPROVEN_FACTOR`] times the bytes that came from there.
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

use opencall_io::SocketId;
use opencall_wire::stun::{
    BindingRequest, ClientRole, ErrorCode, IntegrityKeys, write_error, write_success,
};
use opencall_wire::time::Time;
use smallvec::SmallVec;

use super::CONSENT_TIMEOUT;
use super::transactions::{RecentTransactions, TupleNumber};
use super::tuple::ValidatedTuple;
pub use super::tuple::{Tuple, UNPROVEN_FACTOR};
use crate::drop_reason::DropReason;
use crate::message::{IceCredentials, IceState};

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

/// How long an address is kept for a transport whose client was never proven to be there: a
/// handshake on a slow link. Whoever forges checks of addresses that others will come from keeps
/// those out for so long at most; a shorter time would let it take addresses during handshakes.
pub const UNPROVEN_HOLD: Duration = Duration::from_secs(5);

/// What a Binding request led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handled {
    /// Bytes of the answer, at the start of the buffer; it goes back where the request came from.
    pub response_len: usize,
    /// What changed.
    pub outcome: Outcome,
    /// Whether it is proven that the client is where the request came from.
    pub proven: bool,
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
    transactions: RecentTransactions,
    /// The number of the next tuple.
    next_number: TupleNumber,
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
            transactions: RecentTransactions::new(),
            next_number: 1,
        }
    }

    /// Our user fragments: the current one and, while restarting, the previous.
    pub fn ufrags(&self) -> impl Iterator<Item = &str> {
        let previous = self.previous.as_ref();
        std::iter::once(&self.current).chain(previous).map(|c| c.ufrag.as_str())
    }

    /// Our user fragment that the client's checks carry.
    pub fn used_ufrag(&self) -> &str {
        &self.previous.as_ref().unwrap_or(&self.current).ufrag
    }

    /// Goes on where an agent of a core before was: it had found the client there, and proven, or
    /// had an answer from there to a flight of DTLS.
    pub fn resume(&mut self, now: Time, tuple: Tuple, proven: bool) {
        let (index, _) = self.insert(now, tuple);
        let found = &mut self.tuples[index];
        (found.proven, found.nominating, found.nominated) = (proven, true, true);
        found.answered = !proven;
        self.selected = Some(index);
        self.renew_consent(now);
    }

    /// Takes a tuple of which something else than a check says that the client is there.
    pub fn settle(&mut self, now: Time, tuple: Tuple) {
        let index = self.find(tuple).unwrap_or_else(|| self.insert(now, tuple).0);
        let found = &mut self.tuples[index];
        (found.proven, found.nominated) = (true, true);
        self.selected = Some(index);
        self.renew_consent(now);
    }

    /// Goes on where an agent of a core before was: the client claimed to be there.
    pub fn resume_claimant(&mut self, now: Time, tuple: Tuple) {
        let (index, _) = self.insert(now, tuple);
        (self.tuples[index].claims, self.tuples[index].nominating) = (true, true);
    }

    /// Goes on where an agent of a core before was: a check had come with these credentials.
    /// Returns the user fragment that is ours no more. Where the client claims to be it has said
    /// since.
    pub fn resume_restart(&mut self, ufrag: &str) -> Option<String> {
        if self.current.ufrag != ufrag {
            return None;
        }
        let claims = self.tuples.iter().position(|tuple| tuple.claims);
        let retired = self.finish_restart();
        if let Some(index) = claims {
            (self.tuples[index].claims, self.tuples[index].nominating) = (true, true);
        }
        retired
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
    /// [`MAX_RESPONSE_LEN`](opencall_wire::stun::MAX_RESPONSE_LEN) bytes) and says what changed.
    ///
    /// # Errors
    /// No answer must be sent and nothing has changed: [`DropReason::StunUnknownUfrag`] when the
    /// request is for another agent, [`DropReason::StunBadIntegrity`] when its sender does not know
    /// the password, [`DropReason::StunReplayed`] when the same check came from elsewhere before,
    /// [`DropReason::ArenaFull`] when the answer does not fit into `out`.
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
            let proven = false;
            return Ok(Handled {
                response_len,
                outcome,
                proven,
                evicted: None,
                retired_ufrag: None,
            });
        }
        let response_len =
            write_success(request, source, &credentials.keys, out).ok_or(DropReason::ArenaFull)?;
        let tuple = (source, socket);
        let index = self.find(tuple);
        let known = index.map(|index| &self.tuples[index]);
        let number = known.map_or(self.next_number, |known| known.number);
        let is_proven = known.is_some_and(|known| known.proven);
        if !self.transactions.admit(request.transaction_id(), number, is_proven) {
            return Err(DropReason::StunReplayed);
        }

        let retired_ufrag =
            if request.ufrag() == self.current.ufrag { self.finish_restart() } else { None };
        let (is_new, (index, evicted)) = match index {
            Some(index) => (false, (index, None)),
            None => (true, self.insert(now, tuple)),
        };
        let outcome = self.accept(now, request, index, is_new);
        let checked = &mut self.tuples[index];
        checked.count_received(request.raw().len());
        checked.count_sent(response_len);
        Ok(Handled { response_len, outcome, proven: checked.proven, evicted, retired_ufrag })
    }

    /// Notes that something came from there that only the client can have sent. Returns whether
    /// another tuple is selected now.
    pub fn prove(&mut self, source: SocketAddr, socket: SocketId) -> bool {
        let Some(index) = self.find((source, socket)) else { return false };
        let proven = &mut self.tuples[index];
        proven.proven = true;
        let claims = std::mem::take(&mut proven.claims);
        let Some(selected) = self.selected.filter(|&selected| selected != index) else {
            return false;
        };
        if !claims && self.tuples[selected].proven {
            return false;
        }
        self.tuples[index].nominated |= self.tuples[index].nominating;
        // Media goes to who is there; who was nominated has it as soon as that is proven, too.
        self.tuples[selected].claims = !claims && self.tuples[selected].nominating;
        self.selected = Some(index);
        if self.has_consent() {
            self.state = Some(self.connected_state());
        }
        true
    }

    /// Notes that the DTLS handshake is complete: whoever answered our flights has received them.
    /// Returns the tuple that this proves, which is none if answers came from several and from none
    /// that is selected.
    pub fn prove_by_handshake(&mut self) -> Option<Tuple> {
        let (source, socket) = self.answered()?;
        self.prove(source, socket);
        Some((source, socket))
    }

    /// The tuple that is proven once the DTLS handshake is complete.
    pub fn answered(&self) -> Option<Tuple> {
        let mut answered = self.tuples.iter().filter(|tuple| tuple.answered);
        let answered = match (answered.next(), answered.next()) {
            (only, None) => only,
            _ => self.selected_tuple().filter(|selected| selected.answered),
        };
        answered.map(|tuple| tuple.tuple)
    }

    /// Notes DTLS from there; `is_later` when it cannot be the first that a client sends. Returns
    /// whether it is the first such from there.
    pub fn on_dtls(
        &mut self,
        source: SocketAddr,
        socket: SocketId,
        len: usize,
        is_later: bool,
    ) -> bool {
        let Some(index) = self.find((source, socket)) else { return false };
        self.tuples[index].count_received(len);
        is_later && !std::mem::replace(&mut self.tuples[index].answered, true)
    }

    /// Whether something came from there that only the client can have sent.
    pub fn is_proven(&self, source: SocketAddr, socket: SocketId) -> bool {
        self.find((source, socket)).is_some_and(|index| self.tuples[index].proven)
    }

    /// Bytes that may be sent there now, of whatever kind: all there are once it is proven.
    pub fn allowance(&self, (source, socket): Tuple) -> u64 {
        self.find((source, socket)).map_or(0, |index| self.tuples[index].allowance())
    }

    /// Notes bytes sent there.
    pub fn count_sent(&mut self, (source, socket): Tuple, len: usize) {
        let Some(index) = self.find((source, socket)) else { return };
        self.tuples[index].count_sent(len);
    }

    /// Whether a check from there has succeeded, and so whether it may speak to the transport.
    pub fn is_validated(&self, source: SocketAddr, socket: SocketId) -> bool {
        self.find((source, socket)).is_some()
    }

    /// Whether the address is kept for this transport: its client was heard there just now.
    pub fn holds(&self, now: Time, source: SocketAddr, socket: SocketId) -> bool {
        let Some(index) = self.find((source, socket)) else { return false };
        let held = &self.tuples[index];
        held.silence(now) < SELECTED_SILENCE
            && (held.proven || now.since(held.since) < UNPROVEN_HOLD)
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

    /// Where media goes: to the selected tuple if it is proven, and with consent.
    pub fn destination(&self) -> Option<Tuple> {
        let selected = self.selected_tuple().filter(|selected| selected.proven)?;
        self.has_consent().then_some(selected.tuple)
    }

    /// Where the client says that it is, and has not proven it yet: the tuple selected or, where
    /// that is proven, the one that claimed to be last.
    pub fn claimant(&self) -> Option<Tuple> {
        let unproven = self.selected_tuple().filter(|selected| !selected.proven);
        let claims = self.tuples.iter().filter(|tuple| tuple.claims && !tuple.proven);
        let newest = || claims.max_by_key(|tuple| tuple.last_check);
        let claimant = unproven.or_else(newest)?;
        self.has_consent().then_some(claimant.tuple)
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
            tuple.claims = false;
        }
        Some(previous.ufrag)
    }

    /// Takes a valid check from a tuple into account.
    fn accept(
        &mut self,
        now: Time,
        request: &BindingRequest<'_>,
        index: usize,
        is_new: bool,
    ) -> Outcome {
        let nominates = request.use_candidate() || request.nomination().is_some();
        let checked = &mut self.tuples[index];
        let previous_check = (!is_new).then_some(checked.last_check);
        checked.on_check(now);
        let nominated_before = checked.nominating;
        let challenge = Challenge { index, nominates, nominated_before, previous_check };
        checked.nominating = nominates;
        checked.priority = request.priority().unwrap_or(checked.priority);
        checked.nomination = checked.nomination.max(request.nomination().unwrap_or(0));

        let wants = self.selected != Some(index) && self.takes_over(now, &challenge);
        let changed = wants && self.gives_way(now, index);
        self.tuples[index].claims = wants && !changed;
        if changed {
            self.selected = Some(index);
        }
        if self.selected == Some(index) && nominates {
            self.tuples[index].nominated = true;
            // The client has said it again: what claims there were are older.
            self.tuples.iter_mut().for_each(|tuple| tuple.claims = false);
        }
        let moved = self.renew_consent(now);
        match (changed || moved, is_new) {
            (true, _) => Outcome::Selected { changed },
            (false, true) => Outcome::NewTuple,
            (false, false) => Outcome::Unchanged,
        }
    }

    /// Whether the selected tuple gives way to one that is to be selected: to one that is not
    /// proven only when it is not either, or has gone without a check for as long as consent lasts.
    fn gives_way(&self, now: Time, index: usize) -> bool {
        let Some(selected) = self.selected_tuple() else { return true };
        !selected.proven || self.tuples[index].proven || selected.silence(now) >= CONSENT_TIMEOUT
    }

    /// Whether the tuple a check came from is to be selected in the place of another.
    fn takes_over(&self, now: Time, challenge: &Challenge) -> bool {
        let Some(selected) = self.selected_tuple() else { return true };
        if selected.silence(now) >= SELECTED_SILENCE {
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
    pub(crate) fn renew_consent(&mut self, now: Time) -> bool {
        self.last_check = self.last_check.max(now);
        let state = self.connected_state();
        self.state.replace(state) != Some(state)
    }

    /// The state of an agent that has consent.
    fn connected_state(&self) -> IceState {
        let completed = self.selected_tuple().is_some_and(|tuple| tuple.nominated);
        if completed { IceState::Completed } else { IceState::Connected }
    }

    /// Makes room for a tuple and puts it there: its index, and who had to go. That is one that is
    /// not proven if there is any, of those the one checked least recently, and never the selected.
    fn insert(&mut self, now: Time, tuple: Tuple) -> (usize, Option<Tuple>) {
        let validated = ValidatedTuple::new(now, tuple, self.next_number);
        self.next_number = self.next_number.wrapping_add(1).max(1);
        if self.tuples.len() < MAX_TUPLES {
            self.tuples.push(validated);
            return (self.tuples.len() - 1, None);
        }
        let oldest = (0..self.tuples.len())
            .filter(|&index| self.selected != Some(index))
            .min_by_key(|&index| (self.tuples[index].proven, self.tuples[index].last_check))
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
