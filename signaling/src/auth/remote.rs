//! A JWK Set behind a URL: fetched by a task of its own, kept, and fetched again when a token names
//! a key that is not in it.
#![forbid(unsafe_code)]

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::fetch::fetch;
use super::jwks::KeySet;
use crate::outgoing::url::HttpUrl;

/// How often a set is fetched.
#[derive(Clone, Copy)]
struct Pace {
    /// By itself: a key that its provider withdraws is refused this much later.
    refresh: Duration,
    /// After a fetch that failed.
    retry: Duration,
    /// Because of unknown keys: tokens with invented ones must not make this server an attacker of
    /// its provider.
    unknown_key: Duration,
    /// How long keys are trusted while the provider is not to be reached: an outage of a night must
    /// not end meetings; a withdrawn key must not live as long as its thief keeps us from fetching.
    max_age: Duration,
}

const PACE: Pace = Pace {
    refresh: Duration::from_secs(300),
    retry: Duration::from_secs(15),
    unknown_key: Duration::from_secs(10),
    max_age: Duration::from_secs(24 * 3600),
};

/// When to fetch. No clock: time is an argument.
struct Schedule {
    pace: Pace,
    fetching: bool,
    /// When the last fetch began.
    began_at: Option<Instant>,
    /// When the last good one ended.
    good_at: Option<Instant>,
}

impl Schedule {
    /// How long until the next fetch by itself.
    fn wait(&self, now: Instant) -> Duration {
        let was_good = self.good_at >= self.began_at;
        let interval = if was_good { self.pace.refresh } else { self.pace.retry };
        match self.began_at {
            None => Duration::ZERO,
            Some(began) => (began + interval).saturating_duration_since(now),
        }
    }

    /// Whether a fetch because of an unknown key is under way or may begin.
    fn may_help(&self, now: Instant) -> bool {
        let rested = |began| now.saturating_duration_since(began) >= self.pace.unknown_key;
        self.fetching || self.began_at.is_none_or(rested)
    }

    fn is_stale(&self, now: Instant) -> bool {
        self.good_at.is_some_and(|good| now.saturating_duration_since(good) > self.pace.max_age)
    }
}

struct State {
    keys: Arc<KeySet>,
    schedule: Schedule,
}

/// The set, shared by the task that fetches it and those who verify tokens.
pub struct RemoteKeys {
    url: HttpUrl,
    state: Mutex<State>,
    /// A key was not found.
    asked: Notify,
    /// Counts the fetches that have ended.
    fetched: watch::Sender<u64>,
}

impl RemoteKeys {
    /// Without any keys; [`RemoteKeys::run`] fetches them.
    pub fn new(url: HttpUrl) -> Self {
        Self::at_pace(url, PACE)
    }

    fn at_pace(url: HttpUrl, pace: Pace) -> Self {
        let schedule = Schedule { pace, fetching: false, began_at: None, good_at: None };
        let state = Mutex::new(State { keys: Arc::default(), schedule });
        RemoteKeys { url, state, asked: Notify::new(), fetched: watch::Sender::new(0) }
    }

    /// Where it is.
    pub fn url(&self) -> &HttpUrl {
        &self.url
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The keys known now.
    pub fn current(&self) -> Arc<KeySet> {
        Arc::clone(&self.state().keys)
    }

    /// A token names a key that is not there: the keys after the next fetch, if one may be made.
    /// All who wait share it.
    pub async fn renewed(&self) -> Option<Arc<KeySet>> {
        let mut fetched = self.fetched.subscribe();
        if !self.state().schedule.may_help(Instant::now()) {
            return None;
        }
        self.asked.notify_one();
        // The sender lives as long as this object.
        fetched.changed().await.ok()?;
        Some(self.current())
    }

    /// Fetches the set now and then; never ends.
    pub async fn run(&self) {
        loop {
            let wait = self.state().schedule.wait(Instant::now());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.asked.notified() => {
                    // Those who ask at the end of a fetch have been answered by it.
                    if !self.state().schedule.may_help(Instant::now()) {
                        continue;
                    }
                }
            }
            self.refresh().await;
        }
    }

    async fn refresh(&self) {
        {
            let schedule = &mut self.state().schedule;
            schedule.fetching = true;
            schedule.began_at = Some(Instant::now());
        }
        let found = fetch(&self.url).await.and_then(|bytes| KeySet::parse(&bytes));
        self.take(found, Instant::now());
        self.fetched.send_modify(|count| *count += 1);
    }

    fn take(&self, found: Result<KeySet, String>, now: Instant) {
        let mut state = self.state();
        state.schedule.fetching = false;
        match found {
            Ok(keys) => {
                if state.keys.is_empty() {
                    tracing::info!(url = %self.url, keys = keys.len(), "JWK Set fetched");
                }
                state.keys = Arc::new(keys);
                state.schedule.good_at = Some(now);
            }
            Err(reason) => {
                tracing::warn!(url = %self.url, reason, "no JWK Set: its last keys stay");
                if state.schedule.is_stale(now) && !state.keys.is_empty() {
                    tracing::error!(url = %self.url, "its keys are a day old and trusted no more");
                    state.keys = Arc::default();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    /// A set with one key of this name.
    fn jwks(kid: &str) -> String {
        let x = "A".repeat(43);
        format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","kid":"{kid}","x":"{x}"}}]}}"#)
    }

    /// A provider that answers each fetch with the next of these bodies.
    async fn provider(answers: Vec<(u16, String)>) -> HttpUrl {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut request = [0; 1024];
                let length = stream.read(&mut request).await.unwrap();
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                assert!(request.starts_with("GET /keys?a=b HTTP/1.1\r\n"), "{request}");
                let host = format!("host: {address}\r\n");
                assert!(request.contains(&host), "{request}");
                let length = body.len();
                let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n");
                stream.write_all((head + &body).as_bytes()).await.unwrap();
            }
        });
        HttpUrl::parse(&format!("http://{address}/keys?a=b")).unwrap()
    }

    fn has(keys: &KeySet, kid: &str) -> bool {
        keys.find(Some(kid), jsonwebtoken::Algorithm::EdDSA).is_ok()
    }

    /// Nothing happens by itself, everything when it is asked for.
    const ON_DEMAND: Pace = Pace {
        refresh: Duration::from_secs(3600),
        retry: Duration::from_secs(3600),
        unknown_key: Duration::ZERO,
        max_age: Duration::from_secs(3600),
    };

    async fn fetched(url: HttpUrl, pace: Pace) -> Arc<RemoteKeys> {
        let remote = Arc::new(RemoteKeys::at_pace(url, pace));
        let mut count = remote.fetched.subscribe();
        tokio::spawn({
            let remote = Arc::clone(&remote);
            async move { remote.run().await }
        });
        count.changed().await.unwrap();
        remote
    }

    #[tokio::test]
    async fn an_unknown_key_causes_a_fetch_and_a_bad_one_changes_nothing() {
        let good = |kid: &str| (200, jwks(kid));
        let large = "x".repeat(super::super::jwks::MAX_SET_BYTES + 1);
        let answers = vec![
            good("a"),
            good("b"),
            (200, "<html>".into()),
            (500, jwks("x")),
            (302, jwks("x")),
            (200, large),
            good("c"),
        ];
        let remote = fetched(provider(answers).await, ON_DEMAND).await;
        assert!(has(&remote.current(), "a"));
        let renewed = remote.renewed().await.unwrap();
        assert!(has(&renewed, "b") && !has(&renewed, "a"));
        for _ in 0..4 {
            assert!(has(&remote.renewed().await.unwrap(), "b"));
        }
        // Those who wait at the same time share one fetch.
        let (one, other) = tokio::join!(remote.renewed(), remote.renewed());
        assert!(has(&one.unwrap(), "c") && has(&other.unwrap(), "c"));
    }

    #[tokio::test]
    async fn unknown_keys_cause_one_fetch_in_a_while() {
        let pace = Pace { unknown_key: Duration::from_secs(3600), ..ON_DEMAND };
        let remote = fetched(provider(vec![(200, jwks("a"))]).await, pace).await;
        assert!(remote.renewed().await.is_none());
        assert!(has(&remote.current(), "a"));
    }

    #[tokio::test]
    async fn a_provider_that_is_not_there_is_asked_again() {
        let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let url = HttpUrl::parse(&format!("http://{closed}/keys")).unwrap();
        let pace = Pace { retry: Duration::from_millis(1), ..ON_DEMAND };
        let remote = fetched(url, pace).await;
        let mut count = remote.fetched.subscribe();
        count.changed().await.unwrap();
        assert!(remote.current().is_empty());
    }

    #[test]
    fn keys_grow_old_only_while_the_provider_is_away() {
        let url = HttpUrl::parse("http://127.0.0.1/").unwrap();
        let remote = RemoteKeys::new(url);
        let begin = Instant::now();
        let keys = || KeySet::parse(jwks("a").as_bytes());
        remote.take(keys(), begin);
        remote.take(Err("away".into()), begin + PACE.max_age);
        assert!(has(&remote.current(), "a"));
        remote.take(Err("away".into()), begin + PACE.max_age + Duration::from_secs(1));
        assert!(remote.current().is_empty());
        remote.take(keys(), begin + PACE.max_age * 2);
        assert!(has(&remote.current(), "a"));
    }

    #[test]
    fn the_schedule_tells_failures_from_successes() {
        let begin = Instant::now();
        let mut schedule = Schedule { pace: PACE, fetching: false, began_at: None, good_at: None };
        assert_eq!(schedule.wait(begin), Duration::ZERO);
        assert!(schedule.may_help(begin));
        schedule.began_at = Some(begin);
        assert_eq!(schedule.wait(begin), PACE.retry);
        schedule.good_at = Some(begin);
        assert_eq!(schedule.wait(begin), PACE.refresh);
        assert_eq!(schedule.wait(begin + PACE.refresh * 2), Duration::ZERO);
        assert!(!schedule.may_help(begin) && schedule.may_help(begin + PACE.unknown_key));
        schedule.fetching = true;
        assert!(schedule.may_help(begin));
    }
}
