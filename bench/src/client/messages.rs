//! Messages over data channels: one side of an SCTP association inside a transport's DTLS (RFC
//! 8831), which sends messages at a rate, or tells how those of another side came.
//!
//! ```text
//! run (32) | index (64) | sent (64) | filler …
//! ```
#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, SocketEvent, SocketState, SocketTime,
    StreamId, ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
};
use serde_json::{Value, json};

use super::engine::{Command, EngineSender};

/// Bytes before the filler.
pub const MESSAGE_MIN_BYTES: usize = 20;

/// What every client takes at most.
pub const MESSAGE_MAX_BYTES: usize = 262_144;

/// The stream that messages are sent on.
const STREAM: StreamId = StreamId(0);

/// Binary (RFC 8831 section 8).
const BINARY: PpId = PpId(53);

/// The port of both sides.
const SCTP_PORT: u16 = 5_000;

/// With the record's header and tag a datagram of 1200 bytes.
const SCTP_MTU_BYTES: usize = 1_152;

/// Window and buffers, in each direction.
const BUFFER_BYTES: usize = 2 * 1024 * 1024;

/// Longest wait before a packet is sent again, as in browsers.
const MAX_BACKOFF: Duration = Duration::from_secs(3);

/// What one participant of each room sends to all others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MessagePlan {
    /// Messages per second.
    pub per_second: f64,
    /// Bytes of each.
    pub bytes: usize,
}

impl MessagePlan {
    /// The stream, as signaling describes it: reliable and in order.
    pub fn stream_parameters() -> Value {
        json!({"streamId": STREAM.0, "ordered": true})
    }

    fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.per_second)
    }
}

/// What became of one message, for the figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageNews {
    /// It was sent.
    Sent,
    /// It was not, for the buffer is full.
    HeldBack,
    /// It came, after so many others that did not.
    Came {
        /// Messages missing before it.
        lost: u64,
        /// Its bytes.
        bytes: usize,
        /// From the sender's clock reading to ours.
        latency_ns: u64,
    },
    /// It is not what was sent.
    Corrupted,
}

/// One side of an association.
pub struct Messages {
    socket: Box<dyn DcSctpSocket>,
    began: Instant,
    run: u32,
    engine: EngineSender,
    /// What is sent, and when the next is due.
    sending: Option<(MessagePlan, Instant)>,
    index: u64,
    /// The next one's index, once one has come.
    expected: Option<u64>,
    packets: Vec<Vec<u8>>,
}

impl Messages {
    /// A client's side, which speaks first; `began` is the origin of the run's clock.
    pub fn connecting(began: Instant, run: u32, engine: EngineSender) -> Self {
        let options = Options {
            local_port: SCTP_PORT,
            remote_port: SCTP_PORT,
            mtu: SCTP_MTU_BYTES,
            max_message_size: MESSAGE_MAX_BYTES,
            max_receiver_window_buffer_size: BUFFER_BYTES,
            max_send_buffer_size: BUFFER_BYTES,
            per_stream_send_queue_limit: BUFFER_BYTES,
            max_timer_backoff_duration: Some(MAX_BACKOFF),
            max_retransmissions: None,
            max_init_retransmits: None,
            zero_checksum_alternate_error_detection_method:
                ZERO_CHECKSUM_ALTERNATE_ERROR_DETECTION_METHOD_LOWER_LAYER_DTLS,
            ..Options::default()
        };
        let mut socket = dcsctp::new_socket("", &options);
        socket.connect();
        Messages {
            socket,
            began,
            run,
            engine,
            sending: None,
            index: 0,
            expected: None,
            packets: Vec::new(),
        }
    }

    /// Sends from now on.
    pub fn start(&mut self, plan: MessagePlan) {
        self.sending = Some((plan, Instant::now()));
    }

    /// Takes an SCTP packet.
    pub fn take(&mut self, packet: &[u8]) {
        self.socket.handle_input(packet);
        while let Some(message) = self.socket.get_next_message() {
            let news = self.read(&message.payload);
            self.engine.send(Command::Message(news));
        }
    }

    /// Lets time pass; the SCTP packets there are to send.
    pub fn drive(&mut self, now: Instant) -> Vec<Vec<u8>> {
        self.socket.advance_time(SocketTime::zero() + now.duration_since(self.began));
        self.send_due(now);
        while let Some(event) = self.socket.poll_event() {
            if let SocketEvent::SendPacket(packet) = event {
                self.packets.push(packet);
            }
        }
        std::mem::take(&mut self.packets)
    }

    /// When [`Self::drive`] wants to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let at = self.socket.poll_timeout();
        let timer =
            (at != SocketTime::infinite_future()).then(|| self.began + (at - SocketTime::zero()));
        let due = self.sending.filter(|_| self.is_connected()).map(|(_, due)| due);
        [timer, due].into_iter().flatten().min()
    }

    fn is_connected(&self) -> bool {
        self.socket.state() == SocketState::Connected
    }

    fn send_due(&mut self, now: Instant) {
        while let Some((plan, due)) = self.sending.filter(|&(_, due)| due <= now) {
            if !self.is_connected() {
                return;
            }
            self.sending = Some((plan, due + plan.interval()));
            let message = Message::new(STREAM, BINARY, self.write(plan.bytes));
            let options = SendOptions::default();
            let is_sent = self.socket.send(message, &options).is_ok();
            self.index += u64::from(is_sent);
            let news = if is_sent { MessageNews::Sent } else { MessageNews::HeldBack };
            self.engine.send(Command::Message(news));
        }
    }

    fn write(&self, len: usize) -> Vec<u8> {
        let mut message = Vec::with_capacity(len);
        message.extend(self.run.to_be_bytes());
        message.extend(self.index.to_be_bytes());
        message.extend(self.now_ns().to_be_bytes());
        message.resize(len.max(MESSAGE_MIN_BYTES), self.index as u8);
        message
    }

    fn read(&mut self, message: &[u8]) -> MessageNews {
        let Some((stamp, filler)) = message.split_first_chunk::<MESSAGE_MIN_BYTES>() else {
            return MessageNews::Corrupted;
        };
        let long = |at: usize| {
            let bytes = stamp.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
            bytes.map_or(0, u64::from_be_bytes)
        };
        let (index, sent_ns) = (long(4), long(12));
        let expected = self.expected.unwrap_or(index);
        let is_whole =
            stamp.starts_with(&self.run.to_be_bytes()) && filler.iter().all(|&b| b == index as u8);
        if !is_whole || index < expected {
            return MessageNews::Corrupted;
        }
        self.expected = Some(index + 1);
        let latency_ns = self.now_ns().saturating_sub(sent_ns);
        MessageNews::Came { lost: index - expected, bytes: message.len(), latency_ns }
    }

    fn now_ns(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn side(began: Instant) -> (Messages, mpsc::Receiver<Command>) {
        let (sender, news) = mpsc::channel();
        (Messages::connecting(began, 7, EngineSender(sender)), news)
    }

    fn news(from: &mpsc::Receiver<Command>) -> Vec<MessageNews> {
        let is_news = |command| match command {
            Command::Message(news) => Some(news),
            _ => None,
        };
        from.try_iter().filter_map(is_news).collect()
    }

    #[test]
    fn messages_go_from_one_side_to_the_other_and_each_is_told_of() {
        let began = Instant::now();
        let (mut one, sent) = side(began);
        let (mut other, came) = side(began);
        one.start(MessagePlan { per_second: 1000.0, bytes: 5_000 });
        // Both speak first (RFC 9260 section 5.2.1).
        while news(&sent).is_empty() || other.expected.is_none() {
            assert!(began.elapsed() < Duration::from_secs(10), "they have not met");
            let now = Instant::now();
            one.drive(now).iter().for_each(|packet| other.take(packet));
            other.drive(now).iter().for_each(|packet| one.take(packet));
        }
        let first = news(&came).first().copied();
        let is_first = matches!(first, Some(MessageNews::Came { lost: 0, bytes: 5_000, .. }));
        assert!(is_first, "{first:?}");
    }

    #[test]
    fn what_is_missing_and_what_is_wrong_is_told() {
        let (mut one, _sent) = side(Instant::now());
        let mut other = side(Instant::now()).0;
        let messages: Vec<Vec<u8>> = (0..5)
            .map(|index| {
                one.index = index;
                one.write(100)
            })
            .collect();
        let lost = |news| match news {
            MessageNews::Came { lost, .. } => Some(lost),
            _ => None,
        };
        assert_eq!(lost(other.read(&messages[1])), Some(0), "who comes late has lost nothing");
        assert_eq!(lost(other.read(&messages[4])), Some(2));
        assert_eq!(other.read(&messages[3]), MessageNews::Corrupted, "out of order");
        let mut next = messages[4].clone();
        next[99] ^= 1;
        for wrong in [&next[..], &messages[4][..10], &[]] {
            assert_eq!(other.read(wrong), MessageNews::Corrupted);
        }
    }
}
