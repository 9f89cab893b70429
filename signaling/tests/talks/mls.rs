//! The delivery service of MLS over the wire: people of both dialects in one group, and what is
//! hostile.

use serde_json::{Value, json};

use crate::client::Client;
use crate::server::Server;

/// Someone of either dialect.
enum Person {
    Protoo(Client),
    OpenCall(Client),
}

impl Person {
    async fn enter(server: &Server, is_protoo: bool, room: &str, name: &str) -> (Self, Value) {
        if is_protoo {
            let mut client = Client::protoo(server, room, name).await;
            let entrance = client.ask("join", json!({"displayName": name})).await.unwrap();
            return (Person::Protoo(client), entrance);
        }
        let mut client = Client::opencall(server).await;
        let data = json!({"meetingId": room, "participantId": name,
                          "rtpCapabilities": {"codecs": [], "headerExtensions": []}});
        let entrance = client.request("setRtpCapabilities", data).await.unwrap();
        (Person::OpenCall(client), entrance)
    }

    async fn ask(&mut self, name: &str, data: Value) -> Result<Value, String> {
        match self {
            Person::Protoo(client) => client.ask(name, data).await.map_err(|(_, reason)| reason),
            Person::OpenCall(client) => client.request(name, data).await,
        }
    }

    async fn told(&mut self, name: &str) -> Value {
        match self {
            Person::Protoo(client) => client.notified(name).await,
            Person::OpenCall(client) => client.event(name).await,
        }
    }

    /// The members that name one and all.
    fn words(&self) -> (&'static str, &'static str) {
        match self {
            Person::Protoo(_) => ("peerId", "peerIds"),
            Person::OpenCall(_) => ("participantId", "participantIds"),
        }
    }
}

fn commit(epoch: u64, welcomed: &[&str]) -> Value {
    json!({"groupId": "group", "epoch": epoch, "commit": format!("commit-{epoch}"),
           "groupInfo": format!("info-{}", epoch + 1), "welcome": "welcome", "welcomed": welcomed})
}

#[tokio::test]
async fn a_group_goes_through_both_dialects() {
    let server = Server::start();
    for is_protoo in [true, false] {
        let room = if is_protoo { "one" } else { "two" };
        let (mut ann, entrance) = Person::enter(&server, is_protoo, room, "ann").await;
        assert_eq!(entrance.get("e2ee"), None);
        let (who, everyone) = ann.words();
        let none = json!({"groupId": null, "epoch": null, "isMember": false, everyone: ["ann"],
                          "waiting": [], "commits": []});
        let package = json!({"keyPackage": "ann-1"});
        assert_eq!(ann.ask("mlsJoin", package).await.unwrap(), none);
        let group = json!({"groupId": "group", "groupInfo": "info-0"});
        assert_eq!(ann.ask("mlsCreate", group.clone()).await.unwrap()["epoch"], 0);

        let (mut ben, entrance) = Person::enter(&server, !is_protoo, room, "ben").await;
        assert_eq!(entrance["e2ee"], "mls");
        ben.ask("mlsJoin", json!({"keyPackage": "ben-1"})).await.unwrap();
        let offered = ann.told("mlsOffered").await;
        assert_eq!(offered, json!({who: "ben", "keyPackage": "ben-1"}));
        let found = ann.ask("mlsCommit", commit(0, &["ben"])).await.unwrap();
        let expected = json!({"groupId": "group", "epoch": 1, "isMember": true,
            everyone: ["ann", "ben"], "waiting": [], "commits": []});
        assert_eq!(found, expected);
        let welcome = ben.told("mlsWelcome").await;
        let (bens_who, bens_everyone) = ben.words();
        let expected = json!({"groupId": "group", "epoch": 1, "isMember": true,
            bens_everyone: ["ann", "ben"], "waiting": [], "commits": [], "welcome": "welcome",
            "groupInfo": "info-1"});
        assert_eq!(welcome, expected);

        // Both end the epoch; one of them first.
        ben.ask("mlsCommit", commit(1, &[])).await.unwrap();
        let reason = ann.ask("mlsCommit", commit(1, &[])).await.unwrap_err();
        assert!(reason.starts_with("mls-epoch: the group is in epoch 2"), "{reason}");
        let told = ann.told("mlsCommit").await;
        let expected = json!({who: "ben", "groupId": "group", "epoch": 1, "commit": "commit-1"});
        assert_eq!(told, expected);
        ann.ask("mlsCommit", commit(2, &[])).await.unwrap();
        let told = ben.told("mlsCommit").await;
        assert_eq!((&told[bens_who], &told["epoch"]), (&json!("ann"), &json!(2)));
        let found = ben.ask("mlsGroup", json!({})).await.unwrap();
        assert_eq!(found, json!({"groupId": "group", "epoch": 3, "groupInfo": "info-3"}));
        let reason = ben.ask("mlsCreate", group).await.unwrap_err();
        assert!(reason.starts_with("mls-group-exists"), "{reason}");
        drop(ann);
        assert_eq!(ben.told("mlsLeft").await, json!({bens_who: "ann"}));
    }
}

#[tokio::test]
async fn what_is_hostile_is_refused_by_name() {
    let server = Server::start();
    for is_protoo in [true, false] {
        let room = if is_protoo { "one" } else { "two" };
        let (mut eve, _) = Person::enter(&server, is_protoo, room, "eve").await;
        let table = [
            ("mlsCommit", commit(0, &[]), "mls-not-joined"),
            ("mlsGroup", json!({}), "mls-not-joined"),
            ("mlsJoin", json!({}), "keyPackage: missing"),
            ("mlsJoin", json!({"keyPackage": "x".repeat(3_000)}), "mls-too-large: keyPackage"),
            ("mlsJoin", json!({"keyPackage": "\u{0}"}), "mls-malformed: keyPackage"),
            ("mlsJoin", json!({"keyPackage": "k", "groupId": "g", "epoch": 0.5}), "epoch:"),
            ("mlsCreate", json!({"groupId": ["g"]}), "groupId: expected a string"),
        ];
        for (name, data, expected) in table {
            let reason = eve.ask(name, data).await.unwrap_err();
            assert!(reason.starts_with(expected), "{expected}: {reason}");
        }
        eve.ask("mlsJoin", json!({"keyPackage": "k"})).await.unwrap();
        let reason = eve.ask("mlsCommit", commit(0, &[])).await.unwrap_err();
        assert!(reason.starts_with("mls-no-group"), "{reason}");
    }
}
