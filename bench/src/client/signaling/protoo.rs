//! protoo's envelope, and what mediasoup applications say in it, of either generation: what the two
//! ask differently is asked in the words of both, and either's answer is taken.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::{Direction, Frame, MessageOffer, Offer, Stream, Told};

/// The WebSocket's sub-protocol.
pub const SUBPROTOCOL: &str = "protoo";

/// The code of a refusal, as of clients that do not consume.
const REFUSED: u32 = 403;

/// `url` with the ids that protoo has there, in place of such that it names.
pub fn url(url: &str, room: &str, peer: &str) -> String {
    let (place, query) = url.split_once('?').unwrap_or((url, ""));
    let (_, host) = place.split_once("://").unwrap_or(("", place));
    let slash = if host.contains('/') { "" } else { "/" };
    let is_other = |part: &&str| {
        !part.is_empty() && !part.starts_with("roomId=") && !part.starts_with("peerId=")
    };
    let others: String = query.split('&').filter(is_other).flat_map(|part| [part, "&"]).collect();
    format!("{place}{slash}?{others}roomId={room}&peerId={peer}")
}

/// The envelope has nothing to remember.
pub(super) struct Protoo;

impl Protoo {
    pub fn request(id: u64, method: &str, data: Value) -> Value {
        json!({"request": true, "id": id, "method": method, "data": data})
    }

    /// The good answer to a request of the server's.
    pub fn accept(id: u64) -> Value {
        json!({"response": true, "id": id, "ok": true, "data": {}})
    }

    /// The bad answer to a request of the server's.
    pub fn refuse(id: u64, reason: &str) -> Value {
        json!({"response": true, "id": id, "ok": false, "errorCode": REFUSED, "errorReason": reason})
    }

    /// Most notifications are of speakers, scores and people: no participant of ours looks at them.
    pub fn is_ignored(frame: &str) -> bool {
        frame.contains("\"notification\":true") && !frame.contains("\"consumerClosed\"")
    }

    pub fn read(mut frame: Value) -> Frame {
        let data = frame["data"].take();
        if frame["method"] == "consumerClosed"
            && let Some(consumer) = data["consumerId"].as_str()
        {
            return Frame::Told(Told::Closed(consumer.to_owned()));
        }
        let Some(id) = frame["id"].as_u64() else { return Frame::Other };
        if frame["response"] == true {
            let refused = || format!("{} {}", frame["errorCode"], frame["errorReason"]);
            return Frame::Answer(id, (frame["ok"] == true).then_some(data).ok_or_else(refused));
        }
        if frame["request"] != true {
            return Frame::Other;
        }
        match frame["method"].as_str() {
            Some("newConsumer") => {
                let peer = data["peerId"].as_str().unwrap_or_default().to_owned();
                let offer = Offer::Consumer { request: id, data };
                Frame::Told(Told::Stream(Stream { peer, offer }))
            }
            Some("newDataConsumer") => Frame::Told(Told::Messages(MessageOffer::Consumer(id))),
            _ => Frame::Request(id),
        }
    }

    /// What the newer generation puts under `name` and the older gives as it is.
    pub fn one_of(mut answer: Value, name: &str) -> Value {
        match answer.get_mut(name) {
            Some(named) => named.take(),
            None => answer,
        }
    }

    pub fn transport(direction: Direction, has_messages: bool) -> Value {
        let sends = direction == Direction::Send;
        let named = if sends { "producer" } else { "consumer" };
        let mut data = json!({"forceTcp": false, "producing": sends, "consuming": !sends,
                              "appData": {"direction": named}});
        if has_messages {
            data["sctpCapabilities"] = sctp_capabilities();
        }
        data
    }

    /// Whoever names no capabilities is sent nothing.
    pub fn join(name: &str, capabilities: Option<&Value>, has_messages: bool) -> Value {
        let device = json!({"flag": "opencall-bench", "name": "opencall-bench",
                            "version": env!("CARGO_PKG_VERSION")});
        let mut data = json!({"displayName": name, "device": device});
        if let Some(capabilities) = capabilities {
            data["rtpCapabilities"] = capabilities.clone();
            if has_messages {
                data["sctpCapabilities"] = sctp_capabilities();
            }
        }
        data
    }
}

/// What browsers say.
fn sctp_capabilities() -> Value {
    json!({"numStreams": {"OS": 1024, "MIS": 1024}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart() {
        let data = json!({"peerId": "p3", "id": "c", "rtpParameters": {}});
        let offer = Offer::Consumer { request: 9, data: data.clone() };
        let refusal = json!({"response": true, "id": 8, "ok": false, "errorCode": 403,
                             "errorReason": "no"});
        let table = [
            (
                json!({"response": true, "id": 7, "ok": true, "data": 1}),
                Frame::Answer(7, Ok(json!(1))),
            ),
            (refusal, Frame::Answer(8, Err("403 \"no\"".into()))),
            (
                Protoo::request(9, "newConsumer", data),
                Frame::Told(Told::Stream(Stream { peer: "p3".into(), offer })),
            ),
            (
                Protoo::request(10, "newDataConsumer", json!({})),
                Frame::Told(Told::Messages(MessageOffer::Consumer(10))),
            ),
            (Protoo::request(11, "moveCamera", json!({})), Frame::Request(11)),
            (json!({"notification": true, "method": "newPeer", "data": {}}), Frame::Other),
            (
                json!({"notification": true, "method": "consumerClosed",
                       "data": {"consumerId": "c"}}),
                Frame::Told(Told::Closed("c".into())),
            ),
            (json!({}), Frame::Other),
        ];
        for (frame, read) in table {
            assert_eq!(Protoo::read(frame.clone()), read, "{frame}");
        }
        assert!(Protoo::is_ignored(r#"{"notification":true,"method":"activeSpeaker"}"#));
    }

    #[test]
    fn either_generation_is_understood() {
        let capabilities = json!({"codecs": []});
        let newer = json!({"routerRtpCapabilities": capabilities});
        assert_eq!(Protoo::one_of(newer, "routerRtpCapabilities"), capabilities);
        let older = capabilities.clone();
        assert_eq!(Protoo::one_of(older, "routerRtpCapabilities"), capabilities);
    }

    #[test]
    fn the_ids_are_in_the_url() {
        assert_eq!(url("ws://h:1/ws", "r", "p"), "ws://h:1/ws?roomId=r&peerId=p");
        assert_eq!(url("ws://h:1", "r", "p"), "ws://h:1/?roomId=r&peerId=p");
        assert_eq!(url("ws://h:1/?a=b", "r", "p"), "ws://h:1/?a=b&roomId=r&peerId=p");
        assert_eq!(url("ws://h:1?a=b", "r", "p"), "ws://h:1/?a=b&roomId=r&peerId=p");
        let named = "ws://h:1/?roomId=x&a=b&peerId=y";
        assert_eq!(url(named, "r", "p"), "ws://h:1/?a=b&roomId=r&peerId=p");
    }
}
