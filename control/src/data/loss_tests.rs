//! What becomes of messages of each kind of channel on a path that loses one packet in twenty and
//! lets others overtake each other. The other end is another implementation's; a seed replays it.
//!
//! The wire keeps what was sent and what of it arrived, so that each outcome is known exactly, not
//! by a percentage.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use opencall_wire::time::Time;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sctp_proto::{
    AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload,
    PayloadProtocolIdentifier as Ppid, ReliabilityType, ServerConfig, Transmit, TransportConfig,
};

use super::Reliability;
use super::association::{Association, DataMessage, Received, SctpOutput};

const STREAM: u16 = 4;
const COUNT: u32 = 400;

/// Each message is one chunk, or two where little may be under way.
const MESSAGE_BYTES: usize = 200;

const LOSS: f64 = 0.05;
const DELAY: Duration = Duration::from_millis(20);

/// At a message every 2 ms: up to seven overtake one.
const JITTER_MS: u64 = 15;

/// These never get through, however often they are sent.
const CURSED: [u32; 3] = [11, 150, 333];

/// After a silence of both ends as long as this, longer than any wait before something is sent
/// again, everything has arrived or was given up.
const SILENCE: Duration = Duration::from_secs(8);

/// A tenth of all messages.
const FEW: usize = COUNT as usize / 10;

fn remote() -> SocketAddr {
    ([192, 0, 2, 1], 5000).into()
}

/// One direction of the path.
struct Wire {
    rng: StdRng,
    cursed: bool,
    under_way: BTreeMap<(Time, u64), Vec<u8>>,
    count: u64,
    /// By TSN, from the first one on.
    chunks: BTreeMap<u32, Sent>,
    first_tsn: Option<u32>,
}

/// A DATA chunk on the wire.
#[derive(Default)]
struct Sent {
    /// The number in it, where it begins a message.
    number: Option<u32>,
    ends_message: bool,
    /// When it was transmitted, and whether that arrived.
    times: Vec<(Time, bool)>,
}

impl Wire {
    fn new(seed: u64, cursed: bool) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Wire {
            rng,
            cursed,
            under_way: BTreeMap::new(),
            count: 0,
            chunks: BTreeMap::new(),
            first_tsn: None,
        }
    }

    fn take(&mut self, now: Time, packet: Vec<u8>) {
        let chunks = chunks_in(&packet);
        let is_cursed = |(_, number, _): &(u32, Option<u32>, bool)| {
            number.is_some_and(|number| CURSED.contains(&number))
        };
        let is_cursed = self.cursed && chunks.iter().any(is_cursed);
        let arrives = !self.rng.random_bool(LOSS) && !is_cursed;
        for (tsn, number, ends_message) in chunks {
            let tsn = tsn.wrapping_sub(*self.first_tsn.get_or_insert(tsn));
            let sent = self.chunks.entry(tsn).or_default();
            (sent.number, sent.ends_message) = (number, ends_message);
            sent.times.push((now, arrives));
        }
        let jitter = Duration::from_millis(self.rng.random_range(0..JITTER_MS));
        self.count += 1;
        if arrives {
            self.under_way.insert((now + DELAY + jitter, self.count), packet);
        }
    }

    fn due(&mut self, now: Time) -> Option<Vec<u8>> {
        let (&(at, _), _) = self.under_way.first_key_value()?;
        if at > now {
            return None;
        }
        self.under_way.pop_first().map(|(_, packet)| packet)
    }

    /// Messages of all whose chunks a transmission arrived.
    fn arrived(&self) -> BTreeSet<u32> {
        let mut arrived = BTreeSet::new();
        // The message that the chunk before this one belongs to, if all of it arrived.
        let mut message = None;
        for chunk in self.chunks.values() {
            message = chunk.number.or(message);
            if !chunk.times.iter().any(|(_, arrives)| *arrives) {
                message = None;
            }
            if chunk.ends_message {
                arrived.extend(message.take());
            }
        }
        arrived
    }

    fn of(&self, message: u32) -> &Sent {
        let mut chunks = self.chunks.values();
        chunks.find(|chunk| chunk.number == Some(message)).expect("it was sent")
    }

    fn most_transmissions(&self) -> usize {
        self.chunks.values().map(|chunk| chunk.times.len()).max().unwrap_or(0)
    }
}

/// TSN, number and whether a message ends, of the DATA chunks in a packet (RFC 9260 section 3.3.1).
fn chunks_in(packet: &[u8]) -> Vec<(u32, Option<u32>, bool)> {
    const DATA: u8 = 0;
    const BEGIN: u8 = 2;
    const END: u8 = 1;
    let mut chunks = Vec::new();
    let mut rest = packet.get(12..).unwrap_or_default();
    while let Some(&[kind, flags, high, low]) = rest.first_chunk::<4>() {
        let len = usize::from(u16::from_be_bytes([high, low]));
        let word = |at: usize| rest.get(at..at + 4).and_then(|bytes| bytes.first_chunk().copied());
        if kind == DATA
            && let Some(tsn) = word(4).map(u32::from_be_bytes)
        {
            let number = word(16).map(u32::from_be_bytes).filter(|_| flags & BEGIN != 0);
            chunks.push((tsn, number, flags & END != 0));
        }
        rest = rest.get(len.max(4).next_multiple_of(4)..).unwrap_or_default();
    }
    chunks
}

/// Our end, another's, and the path between them.
struct Path {
    origin: Instant,
    now: Time,
    ours: Association,
    endpoint: Endpoint,
    handle: AssociationHandle,
    theirs: sctp_proto::Association,
    is_connected: bool,
    up: Wire,
    down: Wire,
    /// What each end received, in order.
    got_by_ours: Vec<u32>,
    got_by_theirs: Vec<u32>,
}

impl Path {
    fn new(seed: u64, cursed: bool) -> Self {
        let config = TransportConfig::default().with_max_receive_buffer_size(1024 * 1024);
        let config = Arc::new(config);
        let mut server = ServerConfig::new();
        server.transport = Arc::clone(&config);
        let mut client = ClientConfig::new();
        client.transport = config;
        let mut endpoint = Endpoint::new(Arc::new(EndpointConfig::new()), Some(Arc::new(server)));
        let (handle, theirs) = endpoint.connect(client, remote()).expect("an association");
        let now = Time::from_millis(1);
        let mut path = Path {
            origin: Instant::now(),
            now,
            ours: Association::new(now),
            endpoint,
            handle,
            theirs,
            is_connected: false,
            up: Wire::new(seed, cursed),
            down: Wire::new(seed + 1, cursed),
            got_by_ours: Vec::new(),
            got_by_theirs: Vec::new(),
        };
        while !(path.is_connected && path.ours.is_connected()) {
            path.step();
        }
        path.theirs.open_stream(STREAM, Ppid::Binary).expect("a stream");
        path
    }

    /// A millisecond.
    fn step(&mut self) {
        self.now = self.now + Duration::from_millis(1);
        let instant = self.origin + Duration::from_nanos(self.now.as_nanos());
        self.ours.handle_timeout(self.now);
        self.theirs.handle_timeout(instant);
        while let Some(packet) = self.up.due(self.now) {
            self.ours.handle_packet(self.now, &packet);
        }
        while let Some(packet) = self.down.due(self.now) {
            let event = self.endpoint.handle(instant, remote(), None, None, Bytes::from(packet));
            if let Some((_, DatagramEvent::AssociationEvent(event))) = event {
                self.theirs.handle_event(event);
            }
        }
        while let Some(output) = self.ours.poll_output() {
            if let SctpOutput::Packet(packet) = output {
                self.down.take(self.now, packet);
            }
        }
        self.take_theirs(instant);
        self.read();
    }

    fn take_theirs(&mut self, instant: Instant) {
        while let Some(event) = self.theirs.poll_endpoint_event() {
            if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                self.theirs.handle_event(event);
            }
        }
        while let Some(Transmit { payload, .. }) =
            self.endpoint.poll_transmit().or_else(|| self.theirs.poll_transmit(instant))
        {
            let Payload::RawEncode(parts) = payload else { continue };
            for part in parts {
                self.up.take(self.now, part.to_vec());
            }
        }
        while let Some(event) = self.theirs.poll() {
            self.is_connected |= matches!(event, Event::Connected);
        }
    }

    fn read(&mut self) {
        let number = |bytes: &[u8]| u32::from_be_bytes(*bytes.first_chunk().expect("a number"));
        while let Some(Received::Message { message, .. }) = self.ours.next_message() {
            assert_eq!(message.bytes.len(), MESSAGE_BYTES);
            self.got_by_ours.push(number(&message.bytes));
        }
        while let Ok(mut stream) = self.theirs.stream(STREAM)
            && let Ok(Some(chunks)) = stream.read_sctp()
        {
            let mut bytes = vec![0; chunks.len()];
            chunks.read(&mut bytes).expect("it fits");
            self.got_by_theirs.push(number(&bytes));
        }
    }

    /// Sends all messages from our end, one every 2 ms, and waits.
    fn send_all(&mut self, how: Reliability) {
        for number in 0..COUNT {
            let message = DataMessage { is_text: false, bytes: message(number) };
            assert!(self.ours.send(STREAM, &message, how));
            self.step();
            self.step();
        }
        self.wait();
    }

    fn wait(&mut self) {
        let mut seen = (0, self.now);
        while self.now.since(seen.1) < SILENCE {
            self.step();
            let count = self.up.count + self.down.count;
            if count != seen.0 {
                seen = (count, self.now);
            }
        }
    }
}

fn message(number: u32) -> Vec<u8> {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.resize(MESSAGE_BYTES, 7);
    bytes
}

fn retransmits(ordered: bool, times: u16) -> Reliability {
    Reliability { ordered, max_packet_life_time_ms: None, max_retransmits: Some(times) }
}

/// Whether each comes once, and exactly those come of which a transmission arrived, in order if
/// asked; `most` may be skipped: where the news of their arrival was lost they are given up with
/// those before them, and a retransmission may be overtaken by that (RFC 3758 section 3.6).
fn assert_what_arrived_was_delivered(got: &[u32], wire: &Wire, ordered: bool, most: usize) {
    let set: BTreeSet<u32> = got.iter().copied().collect();
    assert_eq!(set.len(), got.len(), "each once");
    let arrived = wire.arrived();
    let unheard: Vec<&u32> = set.difference(&arrived).collect();
    assert!(unheard.is_empty(), "delivered, but never sent: {unheard:?}");
    let skipped: Vec<&u32> = arrived.difference(&set).collect();
    assert!(skipped.len() <= most, "arrived, but not delivered: {skipped:?}");
    assert!(!ordered || got.is_sorted(), "in order");
}

#[test]
fn reliable_messages_all_arrive_once_and_in_order_if_asked() {
    for ordered in [true, false] {
        let mut path = Path::new(40, false);
        path.send_all(Reliability { ordered, ..Reliability::RELIABLE });
        let mut got = path.got_by_theirs.clone();
        assert_eq!(got.is_sorted(), ordered, "others overtake those sent again");
        got.sort_unstable();
        assert_eq!(got, (0..COUNT).collect::<Vec<_>>());
        assert!(path.down.most_transmissions() > 1, "some were lost");
    }
}

#[test]
fn without_retransmissions_each_is_sent_once() {
    for ordered in [true, false] {
        let mut path = Path::new(41, false);
        path.send_all(retransmits(ordered, 0));
        assert_what_arrived_was_delivered(
            &path.got_by_theirs,
            &path.down,
            ordered,
            if ordered { FEW } else { 0 },
        );
        assert_eq!(path.down.most_transmissions(), 1);
        let lost = COUNT as usize - path.got_by_theirs.len();
        assert!((5..60).contains(&lost), "{lost} of {COUNT}, at a twentieth");
    }
}

#[test]
fn after_three_retransmissions_a_message_is_given_up() {
    for ordered in [true, false] {
        let mut path = Path::new(42, true);
        path.send_all(retransmits(ordered, 3));
        assert_what_arrived_was_delivered(
            &path.got_by_theirs,
            &path.down,
            ordered,
            if ordered { FEW } else { 0 },
        );
        for cursed in CURSED {
            assert_eq!(path.down.of(cursed).times.len(), 4, "message {cursed}");
        }
        assert_eq!(path.down.most_transmissions(), 4);
        assert!(path.got_by_theirs.len() > COUNT as usize * 9 / 10, "nearly all others");
    }
}

#[test]
fn after_its_lifetime_a_message_is_sent_no_more() {
    for ordered in [true, false] {
        let mut path = Path::new(43, true);
        let lifetime = Some(100);
        path.send_all(Reliability {
            ordered,
            max_packet_life_time_ms: lifetime,
            max_retransmits: None,
        });
        assert_what_arrived_was_delivered(&path.got_by_theirs, &path.down, ordered, FEW);
        for Sent { number, times, .. } in path.down.chunks.values() {
            let (first, last) = (times[0].0, times[times.len() - 1].0);
            assert!(last.since(first) <= Duration::from_millis(101), "{number:?}: {times:?}");
        }
        let again = CURSED.iter().any(|&cursed| path.down.of(cursed).times.len() > 1);
        assert!(again, "what was lost was sent again in time");
        assert!(CURSED.iter().all(|cursed| !path.got_by_theirs.contains(cursed)));
    }
}

/// The other way round: what another implementation sends again, gives up and skips.
#[test]
fn a_clients_messages_of_each_kind_are_delivered_alike() {
    let kinds = [
        (ReliabilityType::Reliable, 0),
        (ReliabilityType::Rexmit, 0),
        (ReliabilityType::Timed, 100),
    ];
    for (unordered, (kind, value)) in [false, true].into_iter().flat_map(|u| kinds.map(|k| (u, k)))
    {
        let mut path = Path::new(44, kind != ReliabilityType::Reliable);
        let mut stream = path.theirs.stream(STREAM).expect("open");
        stream.set_reliability_params(unordered, kind, value).expect("set");
        for number in 0..COUNT {
            let mut stream = path.theirs.stream(STREAM).expect("open");
            stream.write_with_ppi(&message(number), Ppid::Binary).expect("room");
            path.step();
            path.step();
        }
        path.wait();
        let most = if kind == ReliabilityType::Reliable { 0 } else { FEW };
        assert_what_arrived_was_delivered(&path.got_by_ours, &path.up, !unordered, most);
        if kind == ReliabilityType::Reliable {
            assert_eq!(path.got_by_ours.len(), COUNT as usize);
        }
    }
}
