//! The delivery service of MLS (RFC 9420; RFC 9750 §5): it hands key packages, commits and welcomes
//! from clients to clients of one room and decides which of two commits came first. It is blind:
//! what it carries is text to it, and who is in a group it knows only from who was sent what.
//!
//! ```text
//! join ──▶ waits, offered to members ──commit by a member──▶ welcome ──▶ member
//!      └─▶ member again, with the commits that it missed      └─▶ everyone else: the commit
//! ```
//!
//! Clients trust nothing of this: a server that lies here can keep people apart, and cannot read.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::api::{Notification, RequestError, Response, SessionId};
use crate::control::Control;
use crate::limits::{conflict, malformed, not_allowed, not_found};
use crate::room::RoomId;

/// Bytes of the text of a key package. Real ones have 400, and the id of a participant up to 256.
const MAX_KEY_PACKAGE_BYTES: usize = 2_048;

/// Bytes of the text of a commit. One for a group of 500 that was never updated has 57,000.
const MAX_COMMIT_BYTES: usize = 64 << 10;

/// Bytes of the text of a welcome: 64 newcomers have 16,000.
const MAX_WELCOME_BYTES: usize = 64 << 10;

/// Bytes of the text of a group's description, of which some 330 are for each member.
const MAX_GROUP_INFO_BYTES: usize = 256 << 10;

/// Bytes of a group's id.
const MAX_GROUP_ID_BYTES: usize = 64;

/// Newcomers that one commit welcomes, and those waiting that an answer lists: the rest come with
/// the next.
pub const MAX_WELCOMED: usize = 64;

/// Commits kept for members who were away, and their bytes. Who missed more joins anew.
const MAX_KEPT_COMMITS: usize = 64;
const MAX_KEPT_BYTES: usize = 256 << 10;

/// What a client asks of the delivery service. All but ids is base64url that only clients read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MlsRequest {
    /// Take part → [`MlsAnswer::State`]: as a member that was away, if the group still has its
    /// epoch, else as a newcomer, who is offered to the members.
    Join {
        /// Of the newcomer, used once.
        key_package: String,
        /// The group and the epoch in which a member was last.
        known: Option<(String, u64)>,
    },
    /// Begin a group → [`MlsAnswer::State`].
    Create {
        /// Its id, drawn by the client.
        group_id: String,
        /// What others join it by.
        group_info: String,
        /// The group that nobody can use any more.
        replaces: Option<String>,
    },
    /// End an epoch → [`MlsAnswer::State`], if nobody has ended it before.
    Commit {
        /// Of which group.
        group_id: String,
        /// Which epoch.
        epoch: u64,
        /// The commit.
        commit: String,
        /// What others join the next epoch by.
        group_info: String,
        /// For those whom it adds.
        welcome: Option<String>,
        /// Their ids.
        welcomed: Vec<String>,
    },
    /// Ask for what the group is joined by from outside → [`MlsAnswer::Group`].
    Group,
}

/// What the delivery service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MlsAnswer {
    /// The room as who takes part finds it.
    State(Box<MlsState>),
    /// The group, from outside.
    Group {
        /// Its id.
        group_id: Arc<str>,
        /// Its epoch.
        epoch: u64,
        /// What it is joined by.
        group_info: Arc<str>,
    },
}

/// A room's group, and who takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MlsState {
    /// The group and its epoch; nothing: the client is to begin one.
    pub group: Option<(Arc<str>, u64)>,
    /// Whether the client counts as a member.
    pub is_member: bool,
    /// Everyone who takes part, this client too: whoever else is in the group is gone.
    pub present: Arc<[Arc<str>]>,
    /// To members: who waits to be added, and by which key package.
    pub waiting: Vec<(Arc<str>, Arc<str>)>,
    /// To members: what they have missed, oldest first.
    pub commits: Vec<Arc<MlsCommit>>,
}

/// The end of an epoch.
#[derive(Debug, PartialEq, Eq)]
pub struct MlsCommit {
    /// Whose.
    pub peer_id: Arc<str>,
    /// Of which group.
    pub group_id: Arc<str>,
    /// The epoch that it ends.
    pub epoch: u64,
    /// The commit.
    pub commit: Box<str>,
}

/// What those who take part are told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MlsNews {
    /// Someone waits to be added, or (without a key package) is there again.
    Offered {
        /// Who.
        peer_id: Arc<str>,
        /// How.
        key_package: Option<Arc<str>>,
    },
    /// Someone takes part no more.
    Left {
        /// Who.
        peer_id: Arc<str>,
    },
    /// To members: the epoch has ended.
    Commit(Arc<MlsCommit>),
    /// This client was added.
    Welcome {
        /// Its way in.
        welcome: Arc<str>,
        /// The group that it comes into.
        group_info: Arc<str>,
        /// How it finds the group.
        state: Box<MlsState>,
    },
    /// There is no such group any more: join again.
    Ended {
        /// Which.
        group_id: Arc<str>,
    },
}

impl MlsState {
    fn size(&self) -> usize {
        let present: usize = self.present.iter().map(|name| name.len() + 3).sum();
        let waiting: usize = self.waiting.iter().map(|(_, package)| package.len() + 300).sum();
        let commits: usize = self.commits.iter().map(|commit| commit.size()).sum();
        present + waiting + commits
    }
}

impl MlsCommit {
    fn size(&self) -> usize {
        self.commit.len() + self.peer_id.len() + self.group_id.len()
    }
}

impl MlsAnswer {
    /// About how many bytes it has as JSON.
    pub(crate) fn size(&self) -> usize {
        match self {
            MlsAnswer::State(state) => state.size(),
            MlsAnswer::Group { group_info, .. } => group_info.len(),
        }
    }
}

impl MlsNews {
    /// About how many bytes it has as JSON.
    pub(crate) fn size(&self) -> usize {
        match self {
            MlsNews::Offered { key_package, .. } => key_package.as_ref().map_or(0, |of| of.len()),
            MlsNews::Commit(commit) => commit.size(),
            MlsNews::Welcome { welcome, group_info, state } => {
                welcome.len() + group_info.len() + state.size()
            }
            MlsNews::Left { .. } | MlsNews::Ended { .. } => 0,
        }
    }
}

/// Someone who takes part.
struct Party {
    name: Arc<str>,
    /// Of who waits.
    key_package: Option<Arc<str>>,
    is_member: bool,
}

struct Group {
    id: Arc<str>,
    epoch: u64,
    info: Arc<str>,
    /// The last commits, oldest first.
    commits: VecDeque<Arc<MlsCommit>>,
}

impl Group {
    fn keep(&mut self, commit: Arc<MlsCommit>) {
        self.commits.push_back(commit);
        let bytes = |commits: &VecDeque<Arc<MlsCommit>>| {
            commits.iter().map(|commit| commit.size()).sum::<usize>()
        };
        while self.commits.len() > MAX_KEPT_COMMITS || bytes(&self.commits) > MAX_KEPT_BYTES {
            self.commits.pop_front();
        }
    }

    /// What a member has missed since an epoch; nothing if that is not known any more.
    fn since(&self, id: &str, epoch: u64) -> Option<Vec<Arc<MlsCommit>>> {
        let kept = self.epoch.checked_sub(self.commits.len() as u64)?;
        let is_known = id == &*self.id && (kept..=self.epoch).contains(&epoch);
        let missed = self.commits.iter().filter(|commit| commit.epoch >= epoch);
        is_known.then(|| missed.cloned().collect())
    }
}

/// News and for whom.
type Letters = Vec<(SessionId, MlsNews)>;

/// The delivery service of one room.
#[derive(Default)]
pub(crate) struct Delivery {
    parties: BTreeMap<SessionId, Party>,
    group: Option<Group>,
}

impl Delivery {
    /// Whether the room has a group.
    pub fn has_group(&self) -> bool {
        self.group.is_some()
    }

    fn join(
        &mut self,
        session: SessionId,
        name: Arc<str>,
        key_package: &str,
        known: Option<(String, u64)>,
    ) -> (MlsState, Letters) {
        let missed = known.and_then(|(id, epoch)| self.group.as_ref()?.since(&id, epoch));
        let is_member = missed.is_some();
        let key_package = (!is_member).then(|| Arc::<str>::from(key_package));
        let news =
            MlsNews::Offered { peer_id: Arc::clone(&name), key_package: key_package.clone() };
        let mut letters = Letters::new();
        if !is_member {
            self.parties.remove(&session);
            letters = self.end_if_empty();
        }
        self.parties.insert(session, Party { name, key_package, is_member });
        letters.extend(self.members_but(session).map(|member| (member, news.clone())));
        let state = self.state(session, missed.unwrap_or_default());
        (state, letters)
    }

    fn create(
        &mut self,
        session: SessionId,
        (id, info): (String, String),
        replaces: Option<&str>,
    ) -> Result<(MlsState, Letters), RequestError> {
        self.check_party(session)?;
        let mut letters = Letters::new();
        if let Some(group) = &self.group {
            if replaces != Some(&*group.id) || *id == *group.id {
                let reason = "mls-group-exists: this room has a group; wait to be added to it";
                return Err(conflict(reason));
            }
            letters = self.end_group(Some(session));
        }
        let (id, info) = (id.into(), info.into());
        self.group = Some(Group { id, epoch: 0, info, commits: VecDeque::new() });
        self.make_member(session);
        Ok((self.state(session, Vec::new()), letters))
    }

    fn commit(
        &mut self,
        session: SessionId,
        (id, epoch): (&str, u64),
        (commit, info): (String, String),
        (welcome, welcomed): (Option<String>, &[String]),
    ) -> Result<(MlsState, Letters), RequestError> {
        let peer_id = self.check_party(session)?;
        let group = self.group.as_mut().filter(|group| *group.id == *id);
        let group = group.ok_or_else(no_group)?;
        if group.epoch != epoch {
            let reason = format!(
                "mls-epoch: the group is in epoch {}, and epoch {epoch} has ended; take the commit \
                 that ended it",
                group.epoch
            );
            return Err(conflict(reason));
        }
        let commit =
            MlsCommit { peer_id, group_id: Arc::clone(&group.id), epoch, commit: commit.into() };
        let commit = Arc::new(commit);
        group.epoch += 1;
        group.info = info.into();
        group.keep(Arc::clone(&commit));
        let group_info = Arc::clone(&group.info);
        let mut letters: Letters = self
            .members_but(session)
            .map(|member| (member, MlsNews::Commit(Arc::clone(&commit))))
            .collect();
        self.make_member(session);
        if let Some(welcome) = welcome {
            letters.extend(self.welcome(welcome.into(), group_info, welcomed));
        }
        Ok((self.state(session, Vec::new()), letters))
    }

    /// Who is named is a member now. Who has left meanwhile the members remove, who are told.
    fn welcome(&mut self, welcome: Arc<str>, group_info: Arc<str>, named: &[String]) -> Letters {
        let waits = |party: &Party| {
            party.key_package.is_some() && named.iter().any(|name| **name == *party.name)
        };
        let newcomers = self.parties.iter().filter(|(_, party)| waits(party));
        let newcomers: Vec<SessionId> = newcomers.map(|(session, _)| *session).collect();
        for newcomer in &newcomers {
            self.make_member(*newcomer);
        }
        let letter = |newcomer| {
            let state = Box::new(self.state(newcomer, Vec::new()));
            let (welcome, group_info) = (Arc::clone(&welcome), Arc::clone(&group_info));
            (newcomer, MlsNews::Welcome { welcome, group_info, state })
        };
        newcomers.into_iter().map(letter).collect()
    }

    fn group(&self, session: SessionId) -> Result<MlsAnswer, RequestError> {
        self.check_party(session)?;
        let group = self.group.as_ref().ok_or_else(no_group)?;
        let (group_id, group_info) = (Arc::clone(&group.id), Arc::clone(&group.info));
        Ok(MlsAnswer::Group { group_id, epoch: group.epoch, group_info })
    }

    fn leave(&mut self, session: SessionId) -> Letters {
        let Some(party) = self.parties.remove(&session) else { return Letters::new() };
        let news = MlsNews::Left { peer_id: party.name };
        let mut letters: Letters =
            self.parties.keys().map(|other| (*other, news.clone())).collect();
        letters.extend(self.end_if_empty());
        letters
    }

    fn check_party(&self, session: SessionId) -> Result<Arc<str>, RequestError> {
        let party = self.parties.get(&session);
        let reason = "mls-not-joined: ask mlsJoin first";
        party.map(|party| Arc::clone(&party.name)).ok_or_else(|| not_allowed(reason))
    }

    fn make_member(&mut self, session: SessionId) {
        if let Some(party) = self.parties.get_mut(&session) {
            (party.is_member, party.key_package) = (true, None);
        }
    }

    fn members_but(&self, but: SessionId) -> impl Iterator<Item = SessionId> {
        let members = self.parties.iter().filter(move |(id, party)| party.is_member && **id != but);
        members.map(|(session, _)| *session)
    }

    /// A group that nobody is in can be used by nobody: the next one begins another.
    fn end_if_empty(&mut self) -> Letters {
        match self.parties.values().any(|party| party.is_member) {
            true => Letters::new(),
            false => self.end_group(None),
        }
    }

    fn end_group(&mut self, but: Option<SessionId>) -> Letters {
        let Some(group) = self.group.take() else { return Letters::new() };
        for party in self.parties.values_mut() {
            (party.is_member, party.key_package) = (false, None);
        }
        let others = self.parties.keys().copied().filter(|session| Some(*session) != but);
        others
            .map(|session| (session, MlsNews::Ended { group_id: Arc::clone(&group.id) }))
            .collect()
    }

    fn state(&self, session: SessionId, commits: Vec<Arc<MlsCommit>>) -> MlsState {
        let is_member = self.parties.get(&session).is_some_and(|party| party.is_member);
        let waiting = self.parties.values().filter(|_| is_member).filter_map(|party| {
            Some((Arc::clone(&party.name), Arc::clone(party.key_package.as_ref()?)))
        });
        MlsState {
            group: self.group.as_ref().map(|group| (Arc::clone(&group.id), group.epoch)),
            is_member,
            present: self.parties.values().map(|party| Arc::clone(&party.name)).collect(),
            waiting: waiting.take(MAX_WELCOMED).collect(),
            commits,
        }
    }
}

impl Control {
    pub(crate) fn deliver(
        &mut self,
        session: SessionId,
        request: MlsRequest,
    ) -> Result<Response, RequestError> {
        check_sizes(&request)?;
        let peer = self.peer(session)?;
        if !peer.joined {
            return Err(not_allowed("join first: a group is of those who are in the room"));
        }
        if peer.grants.hidden {
            return Err(not_allowed("mls-hidden: who is hidden is given no keys"));
        }
        let (name, room) = (Arc::clone(&peer.name), peer.room);
        let Some(room) = self.rooms.get_mut(&room) else { return Err(no_group()) };
        let delivery = &mut room.delivery;
        let state = |state| Response::Mls(MlsAnswer::State(Box::new(state)));
        let (response, letters) = match request {
            MlsRequest::Join { key_package, known } => {
                let (found, letters) = delivery.join(session, name, &key_package, known);
                (state(found), letters)
            }
            MlsRequest::Create { group_id, group_info, replaces } => {
                let (found, letters) =
                    delivery.create(session, (group_id, group_info), replaces.as_deref())?;
                (state(found), letters)
            }
            MlsRequest::Commit { group_id, epoch, commit, group_info, welcome, welcomed } => {
                let (found, letters) = delivery.commit(
                    session,
                    (&group_id, epoch),
                    (commit, group_info),
                    (welcome, &welcomed),
                )?;
                (state(found), letters)
            }
            MlsRequest::Group => (Response::Mls(delivery.group(session)?), Letters::new()),
        };
        self.post(letters);
        Ok(response)
    }

    /// Someone is in a room no more.
    pub(crate) fn leave_delivery(&mut self, room: RoomId, session: SessionId) {
        let Some(room) = self.rooms.get_mut(&room) else { return };
        let letters = room.delivery.leave(session);
        self.post(letters);
    }

    fn post(&mut self, letters: Letters) {
        for (session, news) in letters {
            self.notify(session, Notification::Mls(news));
        }
    }
}

fn no_group() -> RequestError {
    not_found("mls-no-group: this room has no such group; ask mlsJoin again")
}

fn check_sizes(request: &MlsRequest) -> Result<(), RequestError> {
    match request {
        MlsRequest::Join { key_package, known } => {
            check("keyPackage", key_package, MAX_KEY_PACKAGE_BYTES)?;
            known.as_ref().map_or(Ok(()), |(id, _)| check("groupId", id, MAX_GROUP_ID_BYTES))
        }
        MlsRequest::Create { group_id, group_info, replaces } => {
            check("groupId", group_id, MAX_GROUP_ID_BYTES)?;
            check("groupInfo", group_info, MAX_GROUP_INFO_BYTES)?;
            replaces.as_ref().map_or(Ok(()), |id| check("replaces", id, MAX_GROUP_ID_BYTES))
        }
        MlsRequest::Commit { group_id, commit, group_info, welcome, welcomed, .. } => {
            check("groupId", group_id, MAX_GROUP_ID_BYTES)?;
            check("commit", commit, MAX_COMMIT_BYTES)?;
            check("groupInfo", group_info, MAX_GROUP_INFO_BYTES)?;
            if welcomed.len() > MAX_WELCOMED {
                let reason = format!("mls-too-large: welcomed names more than {MAX_WELCOMED}");
                return Err(malformed(reason));
            }
            welcome.as_ref().map_or(Ok(()), |text| check("welcome", text, MAX_WELCOME_BYTES))
        }
        MlsRequest::Group => Ok(()),
    }
}

/// What is carried is text that JSON need not escape, within its bounds.
fn check(what: &str, text: &str, limit: usize) -> Result<(), RequestError> {
    if text.len() > limit {
        return Err(malformed(format!("mls-too-large: {what} has more than {limit} bytes")));
    }
    let is_base64url = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if text.is_empty() || !text.bytes().all(is_base64url) {
        return Err(malformed(format!("mls-malformed: {what} is to be base64url without padding")));
    }
    Ok(())
}
