//! What clients and the delivery service of MLS say to each other, in the same words in both
//! envelopes but for what participants are called.
#![forbid(unsafe_code)]

use opencall_control::api::{
    MlsAnswer, MlsCommit, MlsNews, MlsRequest, MlsState, Request, RequestError,
};
use serde_json::{Value, json};

use super::fields::{Fields, bad_request};

/// How an envelope calls participants.
#[derive(Clone, Copy)]
pub(super) struct Words {
    /// One.
    pub who: &'static str,
    /// Several.
    pub everyone: &'static str,
}

/// The request of that name; `None` if it is none of the delivery service.
pub(super) fn request(
    name: &str,
    fields: &mut Fields<'_>,
) -> Result<Option<Request>, RequestError> {
    let request = match name {
        "mlsJoin" => {
            let known = match fields.optional_long_string("groupId")? {
                Some(group_id) => Some((group_id, epoch(fields)?)),
                None => None,
            };
            MlsRequest::Join { key_package: fields.long_string("keyPackage")?, known }
        }
        "mlsCreate" => MlsRequest::Create {
            group_id: fields.long_string("groupId")?,
            group_info: fields.long_string("groupInfo")?,
            replaces: fields.optional_long_string("replaces")?,
        },
        "mlsCommit" => MlsRequest::Commit {
            group_id: fields.long_string("groupId")?,
            epoch: epoch(fields)?,
            commit: fields.long_string("commit")?,
            group_info: fields.long_string("groupInfo")?,
            welcome: fields.optional_long_string("welcome")?,
            welcomed: fields.optional_typed("welcomed")?.unwrap_or_default(),
        },
        "mlsGroup" => MlsRequest::Group,
        _ => return Ok(None),
    };
    Ok(Some(Request::Mls(request)))
}

fn epoch(fields: &Fields<'_>) -> Result<u64, RequestError> {
    let missing = || bad_request("epoch: expected a whole number from 0 to 9007199254740991");
    fields.whole_number("epoch").ok_or_else(missing)
}

/// The data of an answer.
pub(super) fn answer(answer: &MlsAnswer, words: Words) -> Value {
    match answer {
        MlsAnswer::State(found) => state(found, words),
        MlsAnswer::Group { group_id, epoch, group_info } => {
            json!({"groupId": &**group_id, "epoch": epoch, "groupInfo": &**group_info})
        }
    }
}

/// Name and data of news.
pub(super) fn news(news: &MlsNews, words: Words) -> (&'static str, Value) {
    match news {
        MlsNews::Offered { peer_id, key_package } => {
            ("mlsOffered", json!({words.who: &**peer_id, "keyPackage": key_package.as_deref()}))
        }
        MlsNews::Left { peer_id } => ("mlsLeft", json!({words.who: &**peer_id})),
        MlsNews::Commit(of) => ("mlsCommit", commit(of, words)),
        MlsNews::Welcome { welcome, group_info, state: found } => {
            let mut data = state(found, words);
            data["welcome"] = json!(&**welcome);
            data["groupInfo"] = json!(&**group_info);
            ("mlsWelcome", data)
        }
        MlsNews::Ended { group_id } => ("mlsEnded", json!({"groupId": &**group_id})),
    }
}

fn state(state: &MlsState, words: Words) -> Value {
    let waiting = state
        .waiting
        .iter()
        .map(|(peer_id, key_package)| json!({words.who: &**peer_id, "keyPackage": &**key_package}));
    let commits = state.commits.iter().map(|of| commit(of, words));
    json!({
        "groupId": state.group.as_ref().map(|(id, _)| &**id),
        "epoch": state.group.as_ref().map(|(_, epoch)| epoch),
        "isMember": state.is_member,
        words.everyone: state.present.iter().map(|id| &**id).collect::<Vec<_>>(),
        "waiting": waiting.collect::<Vec<_>>(),
        "commits": commits.collect::<Vec<_>>(),
    })
}

fn commit(of: &MlsCommit, words: Words) -> Value {
    json!({
        words.who: &*of.peer_id,
        "groupId": &*of.group_id,
        "epoch": of.epoch,
        "commit": &*of.commit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, data: Value) -> Result<Option<Request>, RequestError> {
        let text = data.to_string();
        request(name, &mut Fields::parse(&text).unwrap())
    }

    #[test]
    fn requests_are_read() {
        let text = str::to_owned;
        let table = [
            (
                "mlsJoin",
                json!({"keyPackage": "k", "groupId": "g", "epoch": 3}),
                MlsRequest::Join { key_package: text("k"), known: Some((text("g"), 3)) },
            ),
            (
                "mlsJoin",
                json!({"keyPackage": "k"}),
                MlsRequest::Join { key_package: text("k"), known: None },
            ),
            (
                "mlsCreate",
                json!({"groupId": "g", "groupInfo": "i"}),
                MlsRequest::Create { group_id: text("g"), group_info: text("i"), replaces: None },
            ),
            (
                "mlsCommit",
                json!({"groupId": "g", "epoch": 3, "commit": "c", "groupInfo": "i",
                       "welcome": "w", "welcomed": ["bob"]}),
                MlsRequest::Commit {
                    group_id: text("g"),
                    epoch: 3,
                    commit: text("c"),
                    group_info: text("i"),
                    welcome: Some(text("w")),
                    welcomed: vec![text("bob")],
                },
            ),
            ("mlsGroup", json!({}), MlsRequest::Group),
        ];
        for (name, data, expected) in table {
            assert_eq!(read(name, data), Ok(Some(Request::Mls(expected))), "{name}");
        }
        assert_eq!(read("join", json!({})), Ok(None));
    }

    #[test]
    fn what_is_missing_is_named() {
        let table = [
            ("mlsJoin", json!({}), "keyPackage: missing"),
            ("mlsJoin", json!({"keyPackage": "k", "groupId": "g"}), "epoch: expected"),
            ("mlsJoin", json!({"keyPackage": 7}), "keyPackage: expected a string"),
            ("mlsCreate", json!({"groupId": "g"}), "groupInfo: missing"),
            (
                "mlsCommit",
                json!({"groupId": "g", "epoch": -1, "commit": "c", "groupInfo": "i"}),
                "epoch: expected",
            ),
            (
                "mlsCommit",
                json!({"groupId": "g", "epoch": 1, "commit": "c", "groupInfo": "i",
                       "welcomed": [1]}),
                "welcomed[0]: invalid type",
            ),
        ];
        for (name, data, reason) in table {
            let error = read(name, data).unwrap_err();
            assert!(error.code == 400 && error.reason.contains(reason), "{}", error.reason);
        }
    }
}
