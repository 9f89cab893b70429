//! The session of a broadcaster: a participant for whom HTTP requests speak. It lasts until it is
//! deleted, or control ends it.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opencall_control::api::{Request, RequestError, Response};
use tokio::sync::{mpsc, oneshot};

use crate::http::wish::problem::Problem;
use crate::http::wish::session::Session;

/// Requests of one broadcaster that may wait.
const MAX_ASKS: usize = 4;

/// By room and id.
pub type Key = (String, String);
type Answer = Result<Response, RequestError>;

/// What a broadcaster is asked.
enum Ask {
    /// This of control.
    Control(Box<Request>, oneshot::Sender<Answer>),
    /// To end.
    End(oneshot::Sender<()>),
}

/// The way to a session.
#[derive(Clone)]
pub struct Handle(mpsc::Sender<Ask>);

impl Handle {
    /// Asks control in the broadcaster's name.
    pub async fn ask(&self, request: Request) -> Result<Response, Problem> {
        let (reply, answer) = oneshot::channel();
        let ask = Ask::Control(Box::new(request), reply);
        self.0.send(ask).await.map_err(|_| Problem::gone())?;
        Ok(answer.await.map_err(|_| Problem::gone())??)
    }

    /// Ends the session.
    pub async fn end(&self) -> Result<(), Problem> {
        let (reply, ended) = oneshot::channel();
        self.0.send(Ask::End(reply)).await.map_err(|_| Problem::gone())?;
        ended.await.map_err(|_| Problem::gone())
    }
}

/// All broadcasters.
#[derive(Clone, Default)]
pub struct Sessions(Arc<Mutex<HashMap<Key, Handle>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Handle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way to one.
    pub fn of(&self, room: &str, id: &str) -> Result<Handle, Problem> {
        let key = (room.to_owned(), id.to_owned());
        self.lock().get(&key).cloned().ok_or_else(Problem::gone)
    }

    /// Whether there is one.
    pub fn has(&self, key: &Key) -> bool {
        self.lock().contains_key(key)
    }

    /// Lets a session go on by itself, until it is ended or closed by control.
    pub fn serve(&self, key: Key, session: Session) {
        let (asks, asked) = mpsc::channel(MAX_ASKS);
        self.lock().insert(key.clone(), Handle(asks));
        let listed = Listed { key, sessions: self.clone() };
        tokio::spawn(async move {
            let ended = run(session, asked).await;
            // Whoever is told that it has ended finds it gone.
            drop(listed);
            ended.map(|ended| ended.send(()))
        });
    }
}

/// A session's place on the list, given back however it ends.
struct Listed {
    key: Key,
    sessions: Sessions,
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.sessions.lock().remove(&self.key);
    }
}

/// Serves a session until it ends; who is to be told.
async fn run(mut session: Session, mut asked: mpsc::Receiver<Ask>) -> Option<oneshot::Sender<()>> {
    let mut stopping = session.hub.stopping();
    let mailbox = Arc::clone(&session.mailbox);
    loop {
        while mailbox.take().is_some() {}
        if mailbox.closing().is_some() {
            return None;
        }
        tokio::select! {
            ask = asked.recv() => match ask? {
                Ask::End(reply) => return Some(reply),
                Ask::Control(request, reply) => {
                    let Ok(answer) = session.ask(*request).await else { return None };
                    drop(reply.send(answer));
                }
            },
            () = mailbox.arrived.notified() => {}
            () = mailbox.closed.notified() => {}
            () = mailbox.challenged.notified() => session.presence.answer_challenge(),
            _ = stopping.changed() => return None,
        }
    }
}
