//! One SCTP association (RFC 9260) inside a transport's DTLS (RFC 8261, RFC 8831), sans-IO: packets
//! and time in; packets, messages and resets out.
//!
//! The library behind it reads what a client wrote. A panic of its must cost that client its data
//! channels and nobody anything else, so every call into it is caught.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, SocketEvent, SocketState, SocketTime,
    StreamId, ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
};
use opencall_wire::dcep::DCEP_PPID;
use opencall_wire::time::Time;

/// Bytes of a message at most, in both directions: what browsers announce and mediasoup takes.
pub const MAX_MESSAGE_BYTES: usize = 262_144;

/// Streams in each direction, as in mediasoup: channels that one transport can have.
pub(crate) const MAX_STREAMS: u16 = 1_024;

/// The port of both sides (RFC 8841 leaves it to the offer; every client uses this one).
pub(crate) const SCTP_PORT: u16 = 5_000;

/// Bytes of an SCTP packet: with the record's header and tag a datagram of 1200 bytes, as a
/// handshake's.
const SCTP_MTU_BYTES: usize = 1_152;

/// Bytes that one client can have us keep for it to be put together or read: two of the largest
/// messages and half of one. Less slows long paths (this is 50 Mbit/s over 100 ms), more is a
/// client's to fill, and a laggard's, who keeps its sender from being read.
const RECEIVE_WINDOW_BYTES: usize = 640 * 1024;

/// Bytes inside the association that are not acknowledged, over all streams.
const SEND_BUFFER_BYTES: usize = 1024 * 1024;

/// Longest wait before a packet is sent again. ICE decides about death, so none is too many.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

const PPID_DCEP: PpId = PpId(DCEP_PPID);

/// RFC 8831 section 8: payload protocol identifiers. An empty message is one byte under a PPID of
/// its own, for SCTP cannot carry none.
const PPID_TEXT: PpId = PpId(51);
const PPID_BINARY: PpId = PpId(53);
const PPID_TEXT_EMPTY: PpId = PpId(56);
const PPID_BINARY_EMPTY: PpId = PpId(57);

/// A message's text or bytes, shared by all whom it goes to.
#[derive(Debug, PartialEq, Eq)]
pub struct DataMessage {
    /// Text, else bytes.
    pub is_text: bool,
    /// It, UTF-8 if it is text and its sender is honest.
    pub bytes: Vec<u8>,
}

/// How messages of a stream are sent (RFC 3758, RFC 8831 section 6.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reliability {
    /// Messages come in the order in which they were sent.
    pub ordered: bool,
    /// Milliseconds after which a message is sent no more.
    pub max_packet_life_time_ms: Option<u16>,
    /// How often a packet is sent again at most.
    pub max_retransmits: Option<u16>,
}

impl Reliability {
    /// Everything arrives, in order.
    pub const RELIABLE: Reliability =
        Reliability { ordered: true, max_packet_life_time_ms: None, max_retransmits: None };

    /// Whether every message must arrive.
    pub fn is_reliable(self) -> bool {
        self.max_packet_life_time_ms.is_none() && self.max_retransmits.is_none()
    }
}

/// What an association has to say.
#[derive(Debug, PartialEq, Eq)]
pub enum SctpOutput {
    /// Send this packet.
    Packet(Vec<u8>),
    /// The peer has closed these streams towards us; none named: all, as after a new beginning.
    Reset(Vec<u16>),
    /// The association has ended, for the reason given; another may follow.
    Over(String),
}

/// A message as it came.
pub enum Received {
    /// Text or bytes.
    Message {
        /// Where.
        stream: u16,
        /// What.
        message: DataMessage,
    },
    /// A message of DCEP, as it came.
    Dcep {
        /// Where.
        stream: u16,
        /// What.
        bytes: Vec<u8>,
    },
    /// Longer than any may be.
    TooLarge,
    /// Of a protocol that is not spoken here.
    UnknownProtocol,
}

/// One association. A server's never speaks first: clients do, and before that it costs nothing.
pub struct Association {
    socket: Option<Box<dyn DcSctpSocket>>,
    began: Time,
    now: Time,
    /// The library has panicked.
    broken: bool,
    outputs: VecDeque<SctpOutput>,
}

impl Association {
    /// One that waits for its peer.
    pub fn new(now: Time) -> Self {
        Association { socket: None, began: now, now, broken: false, outputs: VecDeque::new() }
    }

    /// A client's side, which speaks first.
    pub fn connecting(now: Time) -> Self {
        let mut client = Association::new(now);
        client.socket = Some(Association::socket());
        client.call(|socket| socket.connect());
        client
    }

    /// Whether the library has failed: a fault of it, or of ours.
    pub fn has_failed(&self) -> bool {
        self.broken
    }

    fn socket() -> Box<dyn DcSctpSocket> {
        let options = Options {
            local_port: SCTP_PORT,
            remote_port: SCTP_PORT,
            announced_maximum_incoming_streams: MAX_STREAMS,
            announced_maximum_outgoing_streams: MAX_STREAMS,
            mtu: SCTP_MTU_BYTES,
            max_message_size: MAX_MESSAGE_BYTES,
            max_receiver_window_buffer_size: RECEIVE_WINDOW_BYTES,
            max_send_buffer_size: SEND_BUFFER_BYTES,
            per_stream_send_queue_limit: SEND_BUFFER_BYTES,
            max_timer_backoff_duration: Some(MAX_BACKOFF),
            max_retransmissions: None,
            max_init_retransmits: None,
            // Parts of many large messages would fill the window, and nothing end any more.
            enable_message_interleaving: false,
            zero_checksum_alternate_error_detection_method:
                ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
            ..Options::default()
        };
        dcsctp::new_socket("", &options)
    }

    /// Whether messages can be sent.
    pub fn is_connected(&self) -> bool {
        self.open().is_some_and(|socket| socket.state() == SocketState::Connected)
    }

    /// One packet of the peer.
    pub fn handle_packet(&mut self, now: Time, packet: &[u8]) {
        self.socket.get_or_insert_with(Association::socket);
        self.handle_timeout(now);
        self.call(|socket| socket.handle_input(packet));
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Time) {
        self.now = self.now.max(now);
        let since = self.now.since(self.began);
        self.call(|socket| socket.advance_time(SocketTime::zero() + since));
    }

    /// When [`Self::handle_timeout`] wants to be called; [`Time::NEVER`] if not at all.
    pub fn next_timeout(&self) -> Time {
        match self.open().map(|socket| socket.poll_timeout()) {
            Some(at) if at != SocketTime::infinite_future() => {
                self.began + (at - SocketTime::zero())
            }
            _ => Time::NEVER,
        }
    }

    /// What there is to say; ask until there is nothing.
    pub fn poll_output(&mut self) -> Option<SctpOutput> {
        self.outputs.pop_front()
    }

    /// The next whole message. What is not taken stays in the receive window, and slows the sender.
    pub fn next_message(&mut self) -> Option<Received> {
        let message = self.call(|socket| socket.get_next_message())??;
        if message.payload.len() > MAX_MESSAGE_BYTES {
            return Some(Received::TooLarge);
        }
        let stream = message.stream_id.0;
        let (is_text, bytes) = match message.ppid {
            PPID_DCEP => return Some(Received::Dcep { stream, bytes: message.payload }),
            PPID_TEXT => (true, message.payload),
            PPID_BINARY => (false, message.payload),
            PPID_TEXT_EMPTY => (true, Vec::new()),
            PPID_BINARY_EMPTY => (false, Vec::new()),
            _ => return Some(Received::UnknownProtocol),
        };
        Some(Received::Message { stream, message: DataMessage { is_text, bytes } })
    }

    /// Whether there is a whole message to take.
    pub fn has_message(&self) -> bool {
        self.open().is_some_and(|socket| socket.messages_ready_count() > 0)
    }

    /// Bytes of a stream that wait inside the association.
    pub fn buffered(&self, stream: u16) -> usize {
        self.open().map_or(0, |socket| socket.buffered_amount(StreamId(stream)))
    }

    /// Sends a message; `false` if there is no room for it now.
    pub fn send(&mut self, stream: u16, message: &DataMessage, how: Reliability) -> bool {
        let (ppid, payload) = match (message.is_text, message.bytes.is_empty()) {
            (true, true) => (PPID_TEXT_EMPTY, vec![0]),
            (false, true) => (PPID_BINARY_EMPTY, vec![0]),
            (true, false) => (PPID_TEXT, message.bytes.clone()),
            (false, false) => (PPID_BINARY, message.bytes.clone()),
        };
        self.send_under(ppid, stream, payload, how)
    }

    /// Sends a message of DCEP; `false` if there is no room for it now.
    pub fn send_dcep(&mut self, stream: u16, bytes: Vec<u8>) -> bool {
        self.send_under(PPID_DCEP, stream, bytes, Reliability::RELIABLE)
    }

    fn send_under(&mut self, ppid: PpId, stream: u16, payload: Vec<u8>, how: Reliability) -> bool {
        let options = SendOptions {
            unordered: !how.ordered,
            lifetime: how.max_packet_life_time_ms.map(|ms| Duration::from_millis(ms.into())),
            max_retransmissions: how.max_retransmits,
            lifecycle_id: None,
        };
        let message = Message::new(StreamId(stream), ppid, payload);
        self.call(|socket| socket.send(message, &options).is_ok()).unwrap_or(false)
    }

    /// Closes a stream towards the peer (RFC 8831 section 6.7).
    pub fn reset(&mut self, stream: u16) {
        // Without an association, or where the peer cannot, the stream just falls silent.
        self.call(|socket| drop(socket.reset_streams(&[StreamId(stream)])));
    }

    /// The library's side, while it is of use.
    fn open(&self) -> Option<&dyn DcSctpSocket> {
        self.socket.as_deref().filter(|_| !self.broken)
    }

    /// Calls the library and takes up what it then has to say.
    fn call<T>(&mut self, act: impl FnOnce(&mut dyn DcSctpSocket) -> T) -> Option<T> {
        let socket = self.socket.as_deref_mut().filter(|_| !self.broken)?;
        let outputs = &mut self.outputs;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let result = act(socket);
            while let Some(event) = socket.poll_event() {
                outputs.extend(output_of(event));
            }
            result
        }));
        if result.is_err() {
            self.broken = true;
            outputs.push_back(SctpOutput::Over("the SCTP library failed".to_owned()));
        }
        result.ok()
    }
}

fn output_of(event: SocketEvent) -> Option<SctpOutput> {
    match event {
        SocketEvent::SendPacket(packet) => Some(SctpOutput::Packet(packet)),
        SocketEvent::OnIncomingStreamReset(streams) => {
            Some(SctpOutput::Reset(streams.into_iter().map(|stream| stream.0).collect()))
        }
        SocketEvent::OnConnectionRestarted() => Some(SctpOutput::Reset(Vec::new())),
        SocketEvent::OnClosed() => Some(SctpOutput::Over("closed by the client".to_owned())),
        SocketEvent::OnAborted(_, reason) => Some(SctpOutput::Over(reason)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Sends `count` of the largest messages, on a stream each, over a wire that loses packets as
    /// `is_lost` says; how many arrive within 20 s.
    fn arriving(count: u16, is_lost: impl Fn(Time, &[u8]) -> bool) -> u16 {
        let mut now = Time::ZERO;
        let mut server = Association::new(now);
        let mut client = Association::connecting(now);
        let (mut sent, mut got) = (0, 0);
        for _ in 0..20_000 {
            now = now + Duration::from_millis(1);
            while sent < count && client.is_connected() {
                let bytes = vec![sent as u8; MAX_MESSAGE_BYTES];
                if !client.send(sent, &DataMessage { is_text: false, bytes }, Reliability::RELIABLE)
                {
                    break;
                }
                sent += 1;
            }
            carry(now, &mut client, &mut server, |packet| is_lost(now, packet));
            carry(now, &mut server, &mut client, |_| false);
            while let Some(Received::Message { stream, message }) = server.next_message() {
                assert!(message.bytes == vec![stream as u8; MAX_MESSAGE_BYTES]);
                got += 1;
            }
        }
        got
    }

    /// Carries over what one has to say, but for what is lost.
    fn carry(
        now: Time,
        from: &mut Association,
        to: &mut Association,
        is_lost: impl Fn(&[u8]) -> bool,
    ) {
        from.handle_timeout(now);
        while let Some(output) = from.poll_output() {
            match output {
                SctpOutput::Packet(packet) if !is_lost(&packet) => to.handle_packet(now, &packet),
                _ => {}
            }
        }
    }

    /// More than the receive window holds. In turns (RFC 8260) their parts would fill it before any
    /// is whole, and none would ever come.
    #[test]
    fn large_messages_on_many_streams_all_arrive() {
        assert_eq!(arriving(5, |_, _| false), 5);
    }

    /// The window fills behind a lost packet; that packet must be taken when it comes at last.
    #[test]
    fn a_hole_with_a_full_window_behind_it_is_filled() {
        let first = Cell::new(None);
        let is_first = |now: Time, packet: &[u8]| {
            // The first chunk is DATA (RFC 9260 section 3.3.1); its TSN.
            if packet.get(12) != Some(&0) {
                return false;
            }
            let tsn = packet.get(16..20).and_then(|tsn| tsn.first_chunk::<4>().copied());
            first.set(first.get().or(tsn));
            first.get() == tsn && now < Time::from_millis(10_000)
        };
        assert_eq!(arriving(5, is_first), 5);
    }
}
