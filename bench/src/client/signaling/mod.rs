//! What participants and servers say to each other: the same few requests in either of two
//! envelopes.
//!
//! * [`opencall`] — OpenCall's messages: participants hear of producers and ask to consume them.
//! * [`protoo`] — mediasoup applications: the server asks participants to take what it has for
//!   them.
//! * `socket` — the WebSocket below both.
//! * [`rtp_parameters`] — voices and cameras, described.
#![forbid(unsafe_code)]

pub mod opencall;
pub mod protoo;
pub mod rtp_parameters;
mod socket;

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::timeout;

use self::opencall::OpenCall;
use self::protoo::Protoo;
use self::socket::Socket;
use crate::client::messages::MessagePlan;
use crate::client::receive::ConsumerSetup;

/// OpenCall's own client waits so long for an answer; protoo's 22 s and more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The two envelopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Protocol {
    /// OpenCall's messages.
    #[default]
    Opencall,
    /// protoo, as mediasoup applications speak it.
    Protoo,
}

/// Which way media of a transport goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Send,
    /// From the server.
    Receive,
}

/// What a server says unasked, as far as participants listen.
#[derive(Debug, PartialEq)]
pub enum Told {
    /// Something is there to be received.
    Stream(Stream),
    /// The consumer of this id is over.
    Closed(String),
    /// Messages are there to be received.
    Messages(MessageOffer),
    /// Nobody takes more than so many layers of the camera.
    Layers(usize),
}

/// Something to receive.
#[derive(Debug, PartialEq)]
pub struct Stream {
    /// What the server calls the participant who sends it.
    peer: String,
    offer: Offer,
}

#[derive(Debug, PartialEq)]
enum Offer {
    /// A producer that can be consumed.
    Producer(Value),
    /// A consumer, and the request by which it came.
    Consumer { request: u64, data: Value },
}

/// Messages to receive.
#[derive(Debug, PartialEq)]
pub enum MessageOffer {
    /// A data producer that can be consumed.
    Producer(Value),
    /// A data consumer, by the request with which it came.
    Consumer(u64),
}

/// A frame, taken apart.
#[derive(Debug, PartialEq)]
enum Frame {
    /// The answer to a request of ours.
    Answer(u64, Result<Value, String>),
    /// Something unasked.
    Told(Told),
    /// A request of the server's that asks for nothing we do.
    Request(u64),
    /// Anything else.
    Other,
}

#[derive(Debug)]
enum Envelope {
    OpenCall(OpenCall),
    Protoo,
}

/// A participant's connection.
pub struct Signaling {
    socket: Socket,
    envelope: Envelope,
    next_id: u64,
    /// Whether transports carry data channels.
    has_messages: bool,
    /// What was said while an answer was waited for.
    told: VecDeque<Told>,
}

impl Signaling {
    /// Connects to `url` as `peer`, who will be in `room`.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(
        protocol: Protocol,
        url: &str,
        room: String,
        peer: String,
        has_messages: bool,
    ) -> Result<Self, String> {
        let (envelope, socket) = match protocol {
            Protocol::Opencall => {
                let socket = Socket::connect(url, None).await?;
                (Envelope::OpenCall(OpenCall { meeting: room, participant: peer }), socket)
            }
            Protocol::Protoo => {
                let url = protoo::url(url, &room, &peer);
                (Envelope::Protoo, Socket::connect(&url, Some(protoo::SUBPROTOCOL)).await?)
            }
        };
        Ok(Signaling { socket, envelope, next_id: 0, has_messages, told: VecDeque::new() })
    }

    /// What the server's router can do.
    ///
    /// # Errors
    /// As all requests: what the server says against it, or that it says nothing.
    pub async fn router_capabilities(&mut self) -> Result<Value, String> {
        match self.envelope {
            Envelope::OpenCall(_) => self.request("getRouterCapabilities", json!({})).await,
            Envelope::Protoo => {
                let answer = self.request("getRouterRtpCapabilities", json!({})).await?;
                Ok(Protoo::one_of(answer, "routerRtpCapabilities"))
            }
        }
    }

    /// Makes a transport: its parameters, and in them its `id`.
    ///
    /// # Errors
    /// As all requests.
    pub async fn create_transport(&mut self, direction: Direction) -> Result<Value, String> {
        match self.envelope {
            Envelope::OpenCall(_) => {
                let direction = if direction == Direction::Send { "send" } else { "recv" };
                self.request("createTransport", json!({"direction": direction})).await
            }
            Envelope::Protoo => {
                let data = Protoo::transport(direction, self.has_messages);
                let mut options = self.request("createWebRtcTransport", data).await?;
                if options["id"].is_null() {
                    options["id"] = options["transportId"].take();
                }
                Ok(options)
            }
        }
    }

    /// Tells of our certificate.
    ///
    /// # Errors
    /// As all requests.
    pub async fn connect_transport(
        &mut self,
        transport: &Value,
        dtls: Value,
    ) -> Result<(), String> {
        let data = json!({"transportId": transport, "dtlsParameters": dtls});
        let name = match self.envelope {
            Envelope::OpenCall(_) => "connectTransport",
            Envelope::Protoo => "connectWebRtcTransport",
        };
        self.request(name, data).await.map(drop)
    }

    /// Enters the room: from now on there may be streams for those who receive.
    ///
    /// # Errors
    /// As all requests.
    pub async fn enter(
        &mut self,
        name: &str,
        capabilities: &Value,
        receives: bool,
    ) -> Result<(), String> {
        let (request, data) = match self.envelope {
            Envelope::OpenCall(_) => (
                "setRtpCapabilities",
                json!({"rtpCapabilities": capabilities, "displayName": name}),
            ),
            Envelope::Protoo => {
                let capabilities = receives.then_some(capabilities);
                ("join", Protoo::join(name, capabilities, self.has_messages))
            }
        };
        self.request(request, data).await.map(drop)
    }

    /// Begins to send something.
    ///
    /// # Errors
    /// As all requests.
    pub async fn produce(
        &mut self,
        transport: &Value,
        kind: &str,
        rtp_parameters: Value,
    ) -> Result<(), String> {
        let source = match self.envelope {
            Envelope::OpenCall(_) if kind == "audio" => "microphone",
            Envelope::OpenCall(_) => "webcam",
            Envelope::Protoo => kind,
        };
        let data = json!({"transportId": transport, "kind": kind, "rtpParameters": rtp_parameters,
                          "appData": {"source": source}});
        self.request("produce", data).await.map(drop)
    }

    /// Begins to send messages.
    ///
    /// # Errors
    /// As all requests.
    pub async fn produce_messages(&mut self, transport: &Value) -> Result<(), String> {
        let data = json!({"transportId": transport, "label": "bench", "protocol": "",
                          "sctpStreamParameters": MessagePlan::stream_parameters(),
                          "appData": {}});
        self.request("produceData", data).await.map(drop)
    }

    /// Takes messages: they come from now on.
    ///
    /// # Errors
    /// As all requests.
    pub async fn receive_messages(&mut self, offer: MessageOffer) -> Result<(), String> {
        match offer {
            MessageOffer::Producer(id) => {
                self.request("consumeData", json!({"dataProducerId": id})).await.map(drop)
            }
            MessageOffer::Consumer(request) => self.socket.send(Protoo::accept(request)).await,
        }
    }

    /// Takes a stream whose sender is known by the name of its peer; `begin` is told of it before
    /// the server sends. One that cannot be taken is refused.
    ///
    /// # Errors
    /// As all requests, or what is not as it should be with the stream.
    pub async fn receive(
        &mut self,
        stream: Stream,
        capabilities: &Value,
        sender_of: impl Fn(&str) -> Option<u32>,
        begin: impl FnOnce(ConsumerSetup),
    ) -> Result<(), String> {
        let sender = sender_of(&stream.peer)
            .ok_or_else(|| format!("a stream of {:?}, who is not of this run", stream.peer));
        match stream.offer {
            Offer::Producer(id) => {
                let data = json!({"producerId": id, "rtpCapabilities": capabilities});
                let sender = sender?;
                begin(consumer_of(&self.request("consume", data).await?, sender)?);
                Ok(())
            }
            Offer::Consumer { request, data } => {
                match sender.and_then(|sender| consumer_of(&data, sender)) {
                    Ok(setup) => {
                        begin(setup);
                        self.socket.send(Protoo::accept(request)).await
                    }
                    Err(reason) => {
                        self.socket.send(Protoo::refuse(request, &reason)).await?;
                        Err(reason)
                    }
                }
            }
        }
    }

    /// Does without a stream: a server that waits for an answer gets one.
    ///
    /// # Errors
    /// That the connection is gone.
    pub async fn decline(&mut self, stream: Stream) -> Result<(), String> {
        match stream.offer {
            Offer::Producer(_) => Ok(()),
            Offer::Consumer { request, .. } => {
                let refusal = Protoo::refuse(request, "this participant does not receive");
                self.socket.send(refusal).await
            }
        }
    }

    /// The next thing the server says unasked; ends with the connection.
    ///
    /// # Errors
    /// How the connection ended.
    pub async fn told(&mut self) -> Result<Told, String> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Ok(told);
            }
            let frame = self.frame().await?;
            self.keep(frame).await?;
        }
    }

    async fn request(&mut self, name: &str, data: Value) -> Result<Value, String> {
        self.next_id += 1;
        let id = self.next_id;
        let frame = match &self.envelope {
            Envelope::OpenCall(own) => own.request(id, name, data),
            Envelope::Protoo => Protoo::request(id, name, data),
        };
        self.socket.send(frame).await.map_err(|error| format!("{name}: {error}"))?;
        let answer = timeout(ANSWER_TIMEOUT, self.answer(id)).await;
        answer.unwrap_or_else(|_| Err("no answer".into())).map_err(|e| format!("{name}: {e}"))
    }

    async fn answer(&mut self, wanted: u64) -> Result<Value, String> {
        loop {
            match self.frame().await? {
                Frame::Answer(id, result) if id == wanted => return result,
                other => self.keep(other).await?,
            }
        }
    }

    async fn keep(&mut self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Told(told) => self.told.push_back(told),
            Frame::Request(id) => {
                let refusal = Protoo::refuse(id, "this participant does not do that");
                self.socket.send(refusal).await?;
            }
            Frame::Answer(..) | Frame::Other => {}
        }
        Ok(())
    }

    async fn frame(&mut self) -> Result<Frame, String> {
        Ok(match self.envelope {
            Envelope::OpenCall(_) => OpenCall::read(self.socket.next(OpenCall::is_ignored).await?),
            Envelope::Protoo => Protoo::read(self.socket.next(Protoo::is_ignored).await?),
        })
    }

    /// Says goodbye.
    pub async fn close(self) {
        self.socket.close().await;
    }
}

/// A stream as the server describes it.
fn consumer_of(data: &Value, sender: u32) -> Result<ConsumerSetup, String> {
    let parameters = &data["rtpParameters"];
    let number = |value: &Value| value.as_u64().and_then(|n| u32::try_from(n).ok());
    let encoding = &parameters["encodings"][0];
    let is_transport_cc = |extension: &&Value| {
        extension["uri"].as_str().is_some_and(|uri| uri.contains("transport-wide-cc"))
    };
    let extensions = parameters["headerExtensions"].as_array().map_or(&[][..], Vec::as_slice);
    let transport_cc = extensions.iter().find(is_transport_cc);
    // mediasoup-demo's server of the newer generation calls it otherwise.
    let id = if data["id"].is_null() { &data["consumerId"] } else { &data["id"] };
    Ok(ConsumerSetup {
        id: id.as_str().ok_or("a consumer without id")?.to_owned(),
        ssrc: number(&encoding["ssrc"]).ok_or("a consumer without SSRC")?,
        rtx_ssrc: number(&encoding["rtx"]["ssrc"]),
        is_video: data["kind"] == "video",
        sender,
        transport_cc_id: transport_cc.and_then(|e| u8::try_from(e["id"].as_u64()?).ok()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_is_read_from_its_parameters() {
        let uri = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
        let data = json!({"id": "c", "kind": "video", "rtpParameters": {
            "encodings": [{"ssrc": 5, "rtx": {"ssrc": 6}}],
            "headerExtensions": [{"uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 1},
                                 {"uri": uri, "id": 5}]}});
        let setup = consumer_of(&data, 12).expect("complete");
        assert_eq!((setup.ssrc, setup.rtx_ssrc, setup.transport_cc_id), (5, Some(6), Some(5)));
        assert_eq!((setup.sender, setup.is_video), (12, true));
        assert!(consumer_of(&json!({"kind": "video"}), 12).is_err());
    }
}
