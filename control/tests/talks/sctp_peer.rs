//! A client's side of SCTP, by another implementation than ours.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use opencall_control::api::*;
use opencall_control::dtls::Role;
use opencall_dataplane::message::{Event as CoreEvent, IceState, TransportId};
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier as Ppid, ReliabilityType, ServerConfig, StreamEvent,
    Transmit, TransportConfig,
};

use crate::talk::{Browser, Talk};

/// A message as a client receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub stream: u16,
    pub ppid: u32,
    pub bytes: Vec<u8>,
}

/// One transport of a client, connected, with SCTP inside.
pub struct SctpPeer {
    pub browser: Browser,
    pub transport: TransportId,
    endpoint: Endpoint,
    handle: AssociationHandle,
    association: Association,
    /// What came, in order.
    pub messages: VecDeque<Message>,
    pub connected: bool,
    /// Streams that the server has closed.
    pub finished: Vec<u16>,
    /// Whether its application reads.
    pub reads: bool,
    /// The packet it sent last.
    pub last_sent: Vec<u8>,
}

/// What it takes without its application reading.
pub const RECEIVE_BUFFER_BYTES: u32 = 1024 * 1024;

fn remote() -> SocketAddr {
    ([192, 0, 2, 1], 5000).into()
}

impl SctpPeer {
    /// Passes ICE and DTLS on a transport just made, and begins SCTP.
    pub fn connect(talk: &mut Talk, session: SessionId, options: &TransportOptions) -> Self {
        Self::connect_as(DtlsRole::Client, talk, session, options)
    }

    /// The same in a DTLS role of the client's choice.
    pub fn connect_as(
        dtls_role: DtlsRole,
        talk: &mut Talk,
        session: SessionId,
        options: &TransportOptions,
    ) -> Self {
        let (_, transport) = talk.newest_transport();
        let now = talk.instant();
        let role = if dtls_role == DtlsRole::Server { Role::Server } else { Role::Client };
        let browser = Browser::new(role, options, now);
        let dtls_parameters = browser.parameters(dtls_role);
        let transport_id = options.id.clone();
        talk.ok(session, Request::ConnectTransport { transport_id, dtls_parameters });
        let remote_address = ([198, 51, 100, 7], 50_000).into();
        let state = IceState::Connected;
        talk.event(0, CoreEvent::Ice { transport, state, remote: remote_address });
        let transport_config = TransportConfig::default()
            .with_max_send_message_size(262_144)
            .with_max_receive_message_size(262_144)
            .with_max_receive_buffer_size(RECEIVE_BUFFER_BYTES);
        let transport_config = Arc::new(transport_config);
        let mut server = ServerConfig::new();
        server.transport = Arc::clone(&transport_config);
        let config = Arc::new(EndpointConfig::new());
        let mut endpoint = Endpoint::new(config, Some(Arc::new(server)));
        let mut client = ClientConfig::new();
        client.transport = transport_config;
        let (handle, association) = endpoint.connect(client, remote()).expect("an association");
        let mut peer = SctpPeer {
            browser,
            transport,
            endpoint,
            handle,
            association,
            messages: VecDeque::new(),
            connected: false,
            finished: Vec::new(),
            reads: true,
            last_sent: Vec::new(),
        };
        peer.run(talk);
        assert!(peer.browser.keys.is_some(), "DTLS: {:?}", peer.browser.failed);
        assert!(peer.connected, "SCTP");
        peer
    }

    /// Carries datagrams until both sides are silent.
    pub fn run(&mut self, talk: &mut Talk) {
        for _ in 0..10_000 {
            let now = talk.instant();
            self.association.handle_timeout(now);
            talk.exchange(&mut self.browser, 0, self.transport);
            talk.pass(Duration::from_micros(10));
            let taken = self.take_packets(now);
            let sent = self.send_packets(now);
            self.take_events();
            if !taken && !sent && !talk.datagrams.contains_key(&self.transport) {
                return;
            }
        }
        panic!("they talk on and on");
    }

    fn take_packets(&mut self, now: Instant) -> bool {
        let mut taken = false;
        while let Some(packet) = self.browser.inside.pop_front() {
            taken = true;
            let bytes = Bytes::from(packet.into_vec());
            let event = self.endpoint.handle(now, remote(), None, None, bytes);
            if let Some((_, DatagramEvent::AssociationEvent(event))) = event {
                self.association.handle_event(event);
            }
        }
        taken
    }

    fn send_packets(&mut self, now: Instant) -> bool {
        let mut packets = Vec::new();
        let mut take = |transmit: Transmit| {
            if let Payload::RawEncode(parts) = transmit.payload {
                packets.extend(parts);
            }
        };
        while let Some(transmit) = self.endpoint.poll_transmit() {
            take(transmit);
        }
        while let Some(transmit) = self.association.poll_transmit(now) {
            take(transmit);
        }
        while let Some(event) = self.association.poll_endpoint_event() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.association.handle_event(event);
            }
        }
        for packet in &packets {
            self.browser.endpoint.send(packet);
            self.last_sent = packet.to_vec();
        }
        !packets.is_empty()
    }

    fn take_events(&mut self) {
        while let Some(event) = self.association.poll() {
            match event {
                Event::Connected => self.connected = true,
                Event::Stream(StreamEvent::Finished { id }) => self.finished.push(id),
                _ => {}
            }
        }
        for stream in self.association.stream_ids().into_iter().filter(|_| self.reads) {
            while let Ok(mut open) = self.association.stream(stream)
                && let Ok(Some(chunks)) = open.read_sctp()
            {
                let mut bytes = vec![0; chunks.len()];
                chunks.read(&mut bytes).expect("it fits");
                self.messages.push_back(Message { stream, ppid: chunks.ppi as u32, bytes });
            }
        }
    }

    /// A negotiated channel: both sides just begin.
    pub fn open(&mut self, stream: u16, unordered: bool, max_retransmits: Option<u32>) {
        let mut open = match self.association.open_stream(stream, Ppid::Binary) {
            Ok(open) => open,
            Err(error) => panic!("stream {stream}: {error}"),
        };
        if let Some(times) = max_retransmits {
            open.set_reliability_params(unordered, ReliabilityType::Rexmit, times).expect("open");
        }
    }

    /// Sends one message.
    pub fn send(&mut self, talk: &mut Talk, stream: u16, ppid: Ppid, bytes: &[u8]) {
        self.put(stream, ppid, bytes);
        self.run(talk);
    }

    /// Bytes that wait to be sent, or to be acknowledged.
    pub fn buffered(&mut self, stream: u16) -> usize {
        self.association.stream(stream).and_then(|open| open.buffered_amount()).expect("open")
    }

    /// Queues one message.
    pub fn put(&mut self, stream: u16, ppid: Ppid, bytes: &[u8]) {
        let mut open = self.association.stream(stream).expect("open");
        assert_eq!(open.write_with_ppi(bytes, ppid).expect("room"), bytes.len());
    }

    /// Closes a channel.
    pub fn close(&mut self, talk: &mut Talk, stream: u16) {
        self.association.stream(stream).expect("open").close().expect("closed");
        self.run(talk);
    }

    /// Sends a raw packet inside DTLS.
    pub fn send_raw(&mut self, talk: &mut Talk, packet: &[u8]) {
        self.browser.endpoint.send(packet);
        talk.exchange(&mut self.browser, 0, self.transport);
    }

    /// Texts that came.
    pub fn texts(&mut self) -> Vec<String> {
        let texts = self.messages.drain(..);
        texts.map(|message| String::from_utf8_lossy(&message.bytes).into_owned()).collect()
    }
}
