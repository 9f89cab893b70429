//! OpenCall's envelope: typed messages with ids that are text.
#![forbid(unsafe_code)]

use serde_json::{Value, json};

use super::{Frame, MessageOffer, Offer, Stream, Told};

/// Who speaks: each request says so.
#[derive(Debug)]
pub(super) struct OpenCall {
    pub meeting: String,
    pub participant: String,
}

impl OpenCall {
    pub fn request(&self, id: u64, name: &str, mut data: Value) -> Value {
        data["meetingId"] = self.meeting.as_str().into();
        data["participantId"] = self.participant.as_str().into();
        json!({"type": format!("mediasoup:{name}"), "id": id.to_string(), "data": data})
    }

    /// Whether a frame is one of the frequent events that no participant of ours looks at: they are
    /// not worth reading.
    pub fn is_ignored(frame: &str) -> bool {
        ["\"mediasoup:activeSpeakers\"", "\"mediasoup:connectionQuality\""]
            .iter()
            .any(|name| frame.contains(name) && !frame.contains("\"id\":"))
    }

    pub fn read(mut frame: Value) -> Frame {
        // Whatever else a server sends, it is an object or nothing to us.
        let data = frame.get_mut("data").map(Value::take).unwrap_or_default();
        if let Some(id) = frame["id"].as_str().and_then(|id| id.parse().ok()) {
            let is_answer = frame["type"] == "response";
            return Frame::Answer(id, is_answer.then_some(data).ok_or(frame["error"].to_string()));
        }
        match frame["type"].as_str() {
            Some("mediasoup:newProducer") => {
                let peer = data["participantId"].as_str().unwrap_or_default().to_owned();
                let offer = Offer::Producer(data["producerId"].clone());
                Frame::Told(Told::Stream(Stream { peer, offer }))
            }
            Some("mediasoup:newDataProducer") => {
                let offer = MessageOffer::Producer(data["dataProducerId"].clone());
                Frame::Told(Told::Messages(offer))
            }
            Some("mediasoup:consumerClosed") => match data["consumerId"].as_str() {
                Some(consumer) => Frame::Told(Told::Closed(consumer.to_owned())),
                None => Frame::Other,
            },
            // Of a camera: nothing else that a participant sends has layers.
            Some("mediasoup:producerMaxSpatialLayer") => match data["spatialLayer"].as_u64() {
                Some(layer) => {
                    let highest = usize::try_from(layer).unwrap_or(usize::MAX);
                    Frame::Told(Told::Layers(highest.saturating_add(1)))
                }
                None => Frame::Other,
            },
            _ => Frame::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_taken_apart() {
        let stream = Stream { peer: "p3".into(), offer: Offer::Producer(json!("abc")) };
        let table = [
            (json!({"type": "response", "id": "7", "data": 1}), Frame::Answer(7, Ok(json!(1)))),
            (
                json!({"type": "error", "id": "8", "error": "no"}),
                Frame::Answer(8, Err("\"no\"".into())),
            ),
            (
                json!({"type": "mediasoup:newProducer",
                       "data": {"participantId": "p3", "producerId": "abc", "kind": "audio"}}),
                Frame::Told(Told::Stream(stream)),
            ),
            (
                json!({"type": "mediasoup:producerMaxSpatialLayer", "data": {"spatialLayer": 1}}),
                Frame::Told(Told::Layers(2)),
            ),
            (
                json!({"type": "mediasoup:newDataProducer",
                       "data": {"participantId": "p3", "dataProducerId": "d"}}),
                Frame::Told(Told::Messages(MessageOffer::Producer(json!("d")))),
            ),
            (
                json!({"type": "mediasoup:consumerClosed", "data": {"consumerId": "c"}}),
                Frame::Told(Told::Closed("c".into())),
            ),
            (json!({"type": "mediasoup:participantLeft", "data": "p3"}), Frame::Other),
            (json!({}), Frame::Other),
            (json!([1]), Frame::Other),
        ];
        for (frame, read) in table {
            assert_eq!(OpenCall::read(frame.clone()), read, "{frame}");
        }
        assert!(OpenCall::is_ignored(r#"{"type":"mediasoup:activeSpeakers","data":[]}"#));
        assert!(!OpenCall::is_ignored(r#"{"type":"mediasoup:newProducer","data":{}}"#));
    }
}
