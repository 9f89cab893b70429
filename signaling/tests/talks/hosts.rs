//! Hosts over the wire, in both dialects: who may what, what those concerned are told, and how the
//! waiting room looks from outside.

use opencall_signaling::auth::mint::mint;
use opencall_signaling::auth::unix_now;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::client::{Client, microphone};
use crate::server::Server;
use crate::tokens::{KEY, SECRET, signed};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Protoo,
    OpenCall,
}
use Dialect::{OpenCall, Protoo};

impl Dialect {
    /// The member that says who.
    fn who(self) -> &'static str {
        if self == Protoo { "peerId" } else { "participantId" }
    }
}

/// Someone with a token.
struct Person {
    client: Client,
    dialect: Dialect,
}

fn token(room: &str, name: &str, flags: &[&str]) -> String {
    let line = ["token", KEY, "--room", room, "--identity", name];
    mint(line.iter().chain(flags).copied()).unwrap_or_else(|error| panic!("{error}"))
}

impl Person {
    async fn connect(server: &Server, dialect: Dialect, token: &str) -> Result<Self, Error> {
        let protocol = (dialect == Protoo).then_some("protoo");
        let path = format!("/ws?access_token={token}");
        let client = Client::connect(server, &path, protocol).await?;
        Ok(Person { client, dialect })
    }

    /// Enters; what it is told of the room.
    async fn enter(&mut self) -> Value {
        match self.dialect {
            Protoo => self.client.ask("join", json!({"displayName": "x"})).await.unwrap(),
            OpenCall => {
                let data = json!({"rtpCapabilities": {"codecs": [], "headerExtensions": []}});
                self.client.request("setRtpCapabilities", data).await.unwrap()
            }
        }
    }

    async fn inside(server: &Server, dialect: Dialect, name: &str, flags: &[&str]) -> Self {
        let token = token("room", name, flags);
        let mut person = Person::connect(server, dialect, &token).await.unwrap();
        let entrance = person.enter().await;
        assert_eq!(entrance["can"]["host"], flags.contains(&"--admin"), "{entrance}");
        person
    }

    async fn act(&mut self, name: &str, data: Value) -> Result<Value, String> {
        match self.dialect {
            Protoo => self.client.ask(name, data).await.map_err(|(_, reason)| reason),
            OpenCall => self.client.request(name, data).await,
        }
    }

    async fn told(&mut self, name: &str) -> Value {
        match self.dialect {
            Protoo => self.client.notified(name).await,
            OpenCall => self.client.event(name).await,
        }
    }

    /// Sends a voice.
    async fn speak(&mut self) {
        let (make, data) = match self.dialect {
            Protoo => ("createWebRtcTransport", json!({"producing": true})),
            OpenCall => ("createTransport", json!({"direction": "send"})),
        };
        let transport = self.act(make, data).await.unwrap();
        let data = json!({"transportId": transport["id"], "kind": "audio",
                          "rtpParameters": microphone(7), "appData": {}});
        self.act("produce", data).await.unwrap();
    }
}

/// Every action on someone, with what it lacks but for who.
const ON_SOMEONE: [(&str, &str); 5] = [
    ("muteParticipant", "{\"source\": \"microphone\"}"),
    ("muteParticipant", "{\"source\": \"microphone\", \"muted\": false}"),
    ("removeParticipant", "{}"),
    ("admitParticipant", "{}"),
    ("denyParticipant", "{}"),
];

fn on(name: &str, data: &str) -> Value {
    let mut data: Value = serde_json::from_str(data).unwrap();
    data["target"] = json!(name);
    data
}

#[tokio::test]
async fn every_action_wants_the_grant_the_room_and_someone_whom_hosts_see() {
    let server = Server::start_with(&[KEY]);
    for dialect in [Protoo, OpenCall] {
        let mut bert = Person::inside(&server, dialect, "bert", &[]).await;
        let mut hanna = Person::inside(&server, dialect, "hanna", &["--admin"]).await;
        let _ghost = Person::inside(&server, dialect, "ghost", &["--hidden"]).await;
        let elsewhere = token("other", "carl", &["--admin"]);
        let mut carl = Person::connect(&server, dialect, &elsewhere).await.unwrap();
        carl.enter().await;
        // Without the grant.
        let on_room = [("lockRoom", json!({"locked": true})), ("lockRoom", json!({}))];
        let on_hanna = ON_SOMEONE.map(|(action, data)| (action, on("hanna", data)));
        for (action, data) in on_room.into_iter().chain(on_hanna) {
            let refusal = bert.act(action, data).await.unwrap_err();
            assert!(refusal.contains("roomAdmin"), "{dialect:?} {action}: {refusal}");
        }
        for (action, data) in ON_SOMEONE {
            // From another room, where nobody has that name.
            let refusal = carl.act(action, on("bert", data)).await.unwrap_err();
            assert!(refusal.contains("nobody called \"bert\""), "{dialect:?} {action}: {refusal}");
            let refusal = hanna.act(action, on("ghost", data)).await.unwrap_err();
            assert!(refusal.contains("nobody called \"ghost\""), "{dialect:?} {action}: {refusal}");
        }
        // With a token that has expired nobody comes so far as to ask.
        let expired = json!({"iss": "key", "sub": "hanna", "exp": unix_now() - 100,
            "video": {"roomJoin": true, "room": "room", "roomAdmin": true}});
        let expired = signed(&expired, SECRET);
        let refused = Person::connect(&server, dialect, &expired).await.err();
        assert!(matches!(&refused, Some(Error::Http(answer)) if answer.status() == 401));
        // With all of it.
        bert.speak().await;
        for muted in [true, false] {
            let data = json!({"target": "bert", "source": "microphone", "muted": muted});
            hanna.act("muteParticipant", data).await.unwrap();
            let news = bert.told("producerMuted").await;
            assert_eq!((&news["muted"], &news["by"]), (&json!(muted), &json!("hanna")));
        }
        for locked in [true, false] {
            hanna.act("lockRoom", json!({"locked": locked})).await.unwrap();
            let news = bert.told("roomLocked").await;
            assert_eq!(news, json!({"locked": locked, "waitingRoom": false, "by": "hanna"}));
        }
        hanna.act("removeParticipant", json!({"target": "bert"})).await.unwrap();
        let farewell = json!({"reason": "removed by a host", "by": "hanna"});
        assert_eq!(bert.told("removed").await, farewell);
        assert_eq!(bert.client.closed().await, Some((4000, "removed by a host".into())));
        let audited = "host=\"hanna\" action=\"remove\" room=\"room\" participant=\"bert\" \
                       what=\"\" result=\"done\"";
        server.logged(audited);
    }
}

#[tokio::test]
async fn who_waits_is_let_in_or_not() {
    let server = Server::start_with(&[KEY]);
    for dialect in [Protoo, OpenCall] {
        let who = dialect.who();
        let mut hanna = Person::inside(&server, dialect, "hanna", &["--admin"]).await;
        let lock = json!({"locked": true, "waitingRoom": true});
        hanna.act("lockRoom", lock).await.unwrap();
        let mut admitted = Vec::new();
        for (name, action) in [("carl", "admitParticipant"), ("dora", "denyParticipant")] {
            let token = token("room", name, &["--name", "Someone"]);
            let mut person = Person::connect(&server, dialect, &token).await.unwrap();
            if dialect == OpenCall {
                // The session opens with the first request.
                person
                    .client
                    .send_request("createTransport", "early", json!({"direction": "send"}))
                    .await;
            }
            assert_eq!(person.told("waiting").await, json!({}));
            let news = hanna.told("participantWaiting").await;
            assert_eq!(news, json!({who: name, "displayName": "Someone"}));
            hanna.act(action, json!({"target": name})).await.unwrap();
            assert_eq!(hanna.told("participantWaitingEnded").await, json!({who: name}));
            if action == "denyParticipant" {
                let farewell = json!({"reason": "not let in by a host", "by": "hanna"});
                assert_eq!(person.told("denied").await, farewell);
                let closed = person.client.closed().await;
                assert_eq!(closed, Some((4005, "not let in by a host".into())));
                continue;
            }
            assert_eq!(person.told("admitted").await, json!({"by": "hanna"}));
            if dialect == OpenCall {
                let early = person.client.frame("early", |frame| frame["id"] == "early").await;
                assert!(early["data"]["id"].is_string(), "{early}");
            }
            let entrance = person.enter().await;
            let expected = (&json!(true), &json!(true), &json!(false));
            let (locked, waits) = (&entrance["roomLocked"], &entrance["waitingRoom"]);
            assert_eq!((locked, waits, &entrance["can"]["host"]), expected);
            admitted.push(person);
        }
        hanna.act("lockRoom", json!({"locked": false})).await.unwrap();
    }
}
