//! Data channels between clients: what one sends on a stream arrives at all others that consume it,
//! over an SCTP that is not ours on their side.

use std::time::Duration;

use opencall_control::DataDrop;
use opencall_control::api::ConsumeMode::{self, Automatic, OnRequest};
use opencall_control::api::*;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sctp_proto::PayloadProtocolIdentifier as Ppid;
use serde_json::json;

use crate::sctp_peer::{Message, SctpPeer};
use crate::talk::{Talk, create, join, json_object};

pub fn transport(talk: &mut Talk, session: SessionId, direction: Direction) -> (String, SctpPeer) {
    let options = talk.transport(session, direction);
    let peer = SctpPeer::connect(talk, session, &options);
    (options.id, peer)
}

pub fn enter(talk: &mut Talk, name: &str, mode: ConsumeMode) -> SessionId {
    let session = talk.connect(name, mode);
    talk.ok(session, join(name));
    session
}

pub fn produce(transport_id: &str, parameters: serde_json::Value) -> Request {
    Request::ProduceData {
        transport_id: transport_id.to_owned(),
        sctp_stream_parameters: serde_json::from_value(parameters).expect("parameters"),
        label: "chat".to_owned(),
        protocol: "p1".to_owned(),
        app_data: json_object(json!({"channel": "chat"})),
    }
}

pub fn produced(response: Response) -> String {
    match response {
        Response::ProducedData { data_producer_id } => data_producer_id,
        _ => panic!("a data producer was asked for"),
    }
}

pub fn offer(talk: &mut Talk, session: SessionId) -> DataConsumerOptions {
    let news = talk.news(session).into_iter();
    let mut offers = news.filter_map(|news| match news {
        Notification::NewDataConsumer(options) => Some(*options),
        _ => None,
    });
    offers.next().expect("an offer")
}

pub fn ready(id: &str, accepted: bool) -> Request {
    Request::DataConsumerReady { data_consumer_id: id.to_owned(), accepted }
}

/// Anna sends on stream 1; Bert receives.
struct Pair {
    talk: Talk,
    anna: SessionId,
    anna_sends: SctpPeer,
    producer: String,
    bert: SessionId,
    bert_receives: SctpPeer,
    offer: DataConsumerOptions,
}

impl Pair {
    fn new(parameters: serde_json::Value) -> Self {
        let mut talk = Talk::new();
        let anna = enter(&mut talk, "anna", Automatic);
        let (send, mut anna_sends) = transport(&mut talk, anna, Direction::Send);
        anna_sends.open(1, false, None);
        let producer = produced(talk.ok(anna, produce(&send, parameters)));
        let bert = enter(&mut talk, "bert", Automatic);
        let (_, mut bert_receives) = transport(&mut talk, bert, Direction::Recv);
        let offer = offer(&mut talk, bert);
        bert_receives.open(offer.sctp_stream_parameters.stream_id, false, None);
        talk.ok(bert, ready(&offer.id, true));
        Pair { talk, anna, anna_sends, producer, bert, bert_receives, offer }
    }

    fn say(&mut self, ppid: Ppid, bytes: &[u8]) {
        self.anna_sends.send(&mut self.talk, 1, ppid, bytes);
        self.bert_receives.run(&mut self.talk);
    }
}

pub fn reliable() -> serde_json::Value {
    json!({"streamId": 1, "ordered": true})
}

#[test]
fn options_speak_both_generations_words() {
    let mut talk = Talk::new();
    let anna = talk.connect("anna", Automatic);
    let options = talk.transport(anna, Direction::Send);
    let expected = json!({"port": 5000, "OS": 1024, "MIS": 1024, "maxMessageSize": 262_144,
        "maxSendMessageSize": 262_144, "maxReceiveMessageSize": 262_144,
        "sendBufferSize": 262_144, "sctpBufferedAmount": 0, "isDataChannel": true});
    assert_eq!(json!(options)["sctpParameters"], expected);
    let without = Request::CreateTransport {
        direction: Direction::Send,
        force_tcp: false,
        sctp: SctpMode::Off,
    };
    let Response::Transport(options) = talk.ok(anna, without) else { panic!("a transport") };
    assert_eq!(json!(options)["sctpParameters"], json!(null));
    talk.ok(anna, join("anna"));
    let (code, reason) = talk.refused(anna, produce(&options.id, reliable()));
    assert_eq!((code, reason.contains("no SCTP")), (403, true), "{reason}");
}

#[test]
fn text_binary_empty_and_the_largest_message_arrive() {
    let mut pair = Pair::new(reliable());
    let large: Vec<u8> = (0..262_144_u32).map(|n| (n % 251) as u8).collect();
    let said: [(Ppid, &[u8]); 5] = [
        (Ppid::String, "grüß dich".as_bytes()),
        (Ppid::Binary, &[0, 1, 2, 255]),
        (Ppid::StringEmpty, &[0]),
        (Ppid::BinaryEmpty, &[0]),
        (Ppid::Binary, &large),
    ];
    let stream = pair.offer.sctp_stream_parameters.stream_id;
    for (ppid, bytes) in said {
        pair.say(ppid, bytes);
        for _ in 0..20 {
            pair.anna_sends.run(&mut pair.talk);
            pair.bert_receives.run(&mut pair.talk);
        }
        let expected = Message { stream, ppid: ppid as u32, bytes: bytes.to_vec() };
        let heard = pair.bert_receives.messages.pop_front();
        assert!(heard.as_ref() == Some(&expected), "{ppid:?}, {} bytes", bytes.len());
    }
    assert!(pair.bert_receives.messages.is_empty());
}

#[test]
fn statistics_count_messages_and_bytes() {
    let mut pair = Pair::new(reliable());
    pair.say(Ppid::String, b"12345");
    pair.say(Ppid::StringEmpty, &[0]);
    let mut ask = |session, of| match pair.talk.ok(session, Request::Stats(of)) {
        Response::Stats(reports) => json!(reports[0].to_object()),
        _ => panic!("statistics"),
    };
    let sent = ask(pair.anna, StatsOf::DataProducer(pair.producer.clone()));
    assert_eq!((&sent["type"], &sent["label"]), (&json!("data-producer"), &json!("chat")));
    assert_eq!((&sent["messagesReceived"], &sent["bytesReceived"]), (&json!(2), &json!(5)));
    let received = ask(pair.bert, StatsOf::DataConsumer(pair.offer.id.clone()));
    assert_eq!((&received["messagesSent"], &received["bytesSent"]), (&json!(2), &json!(5)));
    assert_eq!(received["bufferedAmount"], 0);
    let foreign = Request::Stats(StatsOf::DataProducer(pair.producer.clone()));
    assert_eq!(pair.talk.refused(pair.bert, foreign).0, 404);
}

/// Whatever comes first, transport, entry or producer, the offer comes once, and what was said
/// before it was accepted is not lost.
#[test]
fn offers_wait_for_a_transport_and_messages_for_its_client() {
    let mut talk = Talk::new();
    let anna = enter(&mut talk, "anna", Automatic);
    let bert = enter(&mut talk, "bert", Automatic);
    let (send, mut anna_sends) = transport(&mut talk, anna, Direction::Send);
    anna_sends.open(1, false, None);
    talk.ok(anna, produce(&send, reliable()));
    talk.news(anna);
    let without = Request::CreateTransport {
        direction: Direction::Recv,
        force_tcp: false,
        sctp: SctpMode::Off,
    };
    talk.ok(bert, without);
    talk.ok(bert, create(Direction::Send));
    assert!(talk.news(bert).is_empty(), "it has nothing to receive data on");
    let (_, mut bert_receives) = transport(&mut talk, bert, Direction::Recv);
    let offer = offer(&mut talk, bert);
    let owner = offer.peer_id.as_deref();
    assert_eq!((owner, &*offer.label, &*offer.protocol), (Some("anna"), "chat", "p1"));
    anna_sends.send(&mut talk, 1, Ppid::String, b"early");
    bert_receives.run(&mut talk);
    assert!(bert_receives.messages.is_empty());
    bert_receives.open(offer.sctp_stream_parameters.stream_id, false, None);
    talk.ok(bert, ready(&offer.id, true));
    bert_receives.run(&mut talk);
    assert_eq!(bert_receives.texts(), ["early"]);
    talk.ok(bert, create(Direction::Recv));
    assert!(talk.news(bert).is_empty(), "it has the consumer already");
}

#[test]
fn on_request_clients_are_notified_once_and_ask() {
    let mut talk = Talk::new();
    let anna = enter(&mut talk, "anna", OnRequest);
    let (send, mut anna_sends) = transport(&mut talk, anna, Direction::Send);
    anna_sends.open(1, false, None);
    let producer = produced(talk.ok(anna, produce(&send, reliable())));
    let bert = enter(&mut talk, "bert", OnRequest);
    assert!(talk.news(bert).is_empty(), "not before it can receive");
    let (_, mut bert_receives) = transport(&mut talk, bert, Direction::Recv);
    assert_eq!(talk.news_texts(bert), ["NewDataProducer anna chat"]);
    let consume = Request::ConsumeData { data_producer_id: producer.clone(), transport_id: None };
    assert_eq!(talk.refused(anna, consume.clone()).0, 403, "one's own");
    let Response::ConsumedData(options) = talk.ok(bert, consume) else { panic!("consumed") };
    bert_receives.open(options.sctp_stream_parameters.stream_id, false, None);
    anna_sends.send(&mut talk, 1, Ppid::String, b"hello");
    bert_receives.run(&mut talk);
    assert_eq!(bert_receives.texts(), ["hello"]);
    talk.ok(anna, Request::CloseDataProducer { data_producer_id: producer });
    assert_eq!(talk.news_texts(bert), ["DataConsumerClosed", "DataProducerClosed"]);
    bert_receives.run(&mut talk);
    assert_eq!(bert_receives.finished, [options.sctp_stream_parameters.stream_id]);
}

/// A browser that closes its channel says so in SCTP alone.
#[test]
fn a_channel_closed_in_sctp_closes_its_producer_and_consumers() {
    let mut pair = Pair::new(reliable());
    pair.anna_sends.close(&mut pair.talk, 1);
    assert_eq!(pair.talk.news_texts(pair.bert), ["DataConsumerClosed"]);
    assert_eq!(pair.talk.control.counts().data_producers, 0);
    let gone = Request::CloseDataProducer { data_producer_id: pair.producer.clone() };
    assert_eq!(pair.talk.refused(pair.anna, gone).0, 404);
    pair.talk.leave(pair.anna);
    pair.talk.leave(pair.bert);
    pair.talk.assert_nothing_is_left();
}

#[test]
fn a_refused_offer_is_forgotten_and_leavers_leave_nothing() {
    let mut pair = Pair::new(reliable());
    let carol = enter(&mut pair.talk, "carol", Automatic);
    transport(&mut pair.talk, carol, Direction::Recv);
    let offer = offer(&mut pair.talk, carol);
    pair.talk.ok(carol, ready(&offer.id, false));
    assert_eq!(pair.talk.refused(carol, ready(&offer.id, true)).0, 404);
    pair.talk.news(pair.bert);
    pair.talk.leave(pair.anna);
    assert_eq!(pair.talk.news_texts(pair.bert), ["DataConsumerClosed", "PeerClosed anna"]);
    pair.talk.leave(pair.bert);
    pair.talk.leave(carol);
    pair.talk.assert_nothing_is_left();
}

#[test]
fn parameters_are_checked_as_in_mediasoup() {
    let mut talk = Talk::new();
    let anna = enter(&mut talk, "anna", Automatic);
    let send = talk.transport(anna, Direction::Send);
    let refused = [
        json!({"streamId": 1024}),
        json!({"streamId": 1, "maxPacketLifeTime": 5, "maxRetransmits": 5}),
        json!({"streamId": 1, "ordered": true, "maxPacketLifeTime": 5}),
        json!({"streamId": 1, "ordered": true, "maxRetransmits": 5}),
    ];
    for parameters in refused {
        assert_eq!(talk.refused(anna, produce(&send.id, parameters)).0, 400);
    }
    talk.ok(anna, produce(&send.id, json!({"streamId": 1, "maxRetransmits": 0})));
    let (code, reason) = talk.refused(anna, produce(&send.id, json!({"streamId": 1})));
    assert_eq!((code, reason.contains("in use")), (400, true));
    let mut long = produce(&send.id, json!({"streamId": 2}));
    if let Request::ProduceData { label, .. } = &mut long {
        *label = "x".repeat(257);
    }
    assert_eq!(talk.refused(anna, long).0, 400);
}

#[test]
fn who_may_not_send_data_is_refused_and_who_may_not_subscribe_is_not_offered() {
    let mut talk = Talk::new();
    let silent = talk.enter_with("silent", Automatic, Grants { data: false, ..Default::default() });
    let (code, reason) = talk.refused(silent.session, produce(&silent.send.id, reliable()));
    assert_eq!((code, reason.contains("canPublishData")), (403, true), "{reason}");
    let deaf =
        talk.enter_with("deaf", Automatic, Grants { subscribe: false, ..Default::default() });
    let anna = talk.enter("anna", Automatic);
    talk.news(deaf.session);
    talk.ok(anna.session, produce(&anna.send.id, reliable()));
    assert!(talk.news(deaf.session).is_empty());
    assert_eq!(talk.news_texts(silent.session).last().unwrap(), "NewDataConsumer anna chat");
}

/// Messages of a lossy channel that nobody takes are dropped by age; a reliable reader that takes
/// nothing is cut off, and the sender goes on.
#[test]
fn a_lossy_laggard_loses_what_is_old_and_a_reliable_one_is_cut_off() {
    let chunk = vec![7; 60_000];
    for (parameters, lossy) in
        [(json!({"streamId": 1, "maxRetransmits": 0}), true), (reliable(), false)]
    {
        let mut pair = Pair::new(parameters);
        pair.talk.news(pair.bert);
        // Bert's datagrams are lost from now on: nothing is acknowledged.
        for _ in 0..60 {
            pair.anna_sends.put(1, Ppid::Binary, &chunk);
            pair.anna_sends.run(&mut pair.talk);
            pair.talk.datagrams.remove(&pair.bert_receives.transport);
            pair.talk.pass(Duration::from_millis(150));
        }
        let drops = pair.talk.control.data_drops();
        assert_eq!(drops.of(DataDrop::Stale) > 0, lossy, "{drops:?}");
        assert_eq!(drops.of(DataDrop::Laggard), u64::from(!lossy));
        let closed = pair.talk.news_texts(pair.bert) == ["DataConsumerClosed"];
        assert_eq!(closed, !lossy);
        for _ in 0..40 {
            pair.talk.pass(Duration::from_millis(500));
            pair.anna_sends.run(&mut pair.talk);
        }
        let Response::Stats(reports) =
            pair.talk.ok(pair.anna, Request::Stats(StatsOf::DataProducer(pair.producer.clone())))
        else {
            panic!("statistics")
        };
        let read = json!(reports[0].to_object())["messagesReceived"].clone();
        assert_eq!(read, 60, "the sender goes on");
    }
}

/// A reliable reader that stalls for a while holds its sender up, and loses nothing.
#[test]
fn a_stalled_reader_holds_its_sender_up_and_then_gets_everything() {
    const COUNT: usize = 100;
    let mut pair = Pair::new(reliable());
    for n in 0..COUNT {
        pair.anna_sends.put(1, Ppid::Binary, &vec![n as u8; 60_000]);
    }
    // Bert's datagrams are lost for three seconds.
    for _ in 0..30 {
        pair.anna_sends.run(&mut pair.talk);
        pair.talk.datagrams.remove(&pair.bert_receives.transport);
        pair.talk.pass(Duration::from_millis(100));
    }
    let of = StatsOf::DataProducer(pair.producer.clone());
    let Response::Stats(reports) = pair.talk.ok(pair.anna, Request::Stats(of)) else {
        panic!("statistics")
    };
    let read = json!(reports[0].to_object())["messagesReceived"].as_u64().unwrap();
    assert!(read < 30, "{read} were read for a queue of half a megabyte");
    let mut rounds = 0;
    while pair.bert_receives.messages.len() < COUNT {
        pair.bert_receives.run(&mut pair.talk);
        pair.anna_sends.run(&mut pair.talk);
        pair.talk.pass(Duration::from_millis(20));
        rounds += 1;
        assert!(rounds < 2_000, "{} came", pair.bert_receives.messages.len());
    }
    let firsts: Vec<u8> = pair.bert_receives.messages.iter().map(|m| m.bytes[0]).collect();
    assert_eq!(firsts, (0..COUNT as u8).collect::<Vec<_>>());
    assert_eq!(pair.talk.control.data_drops().of(DataDrop::Laggard), 0);
}

/// CRC32c as SCTP has it (RFC 9260 appendix A).
fn seal(packet: &mut [u8]) {
    packet[8..12].fill(0);
    let mut crc = u32::MAX;
    for &byte in packet.iter() {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (0_u32.wrapping_sub(crc & 1)));
        }
    }
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
}

/// Chunks of all kinds with a good header and checksum, from a client that has keys: no panic, no
/// endless turn, and everyone else goes on.
#[test]
fn chunk_soup_with_good_checksums_harms_its_sender_at_most() {
    let mut rng = StdRng::seed_from_u64(15);
    for _ in 0..30 {
        let mut pair = Pair::new(reliable());
        pair.say(Ppid::String, b"hello");
        let header = pair.anna_sends.last_sent[..12].to_vec();
        let good = pair.anna_sends.last_sent.clone();
        for n in 0..300_u32 {
            let mut packet = if n % 2 == 0 { header.clone() } else { good.clone() };
            for _ in 0..rng.random_range(1..5) {
                const KINDS: [u8; 12] = [0, 1, 2, 3, 4, 6, 10, 64, 130, 192, 194, 255];
                let kind = KINDS[rng.random_range(0..KINDS.len())];
                let len = rng.random_range(0..12_usize) * 4;
                packet.extend([kind, rng.random_range(0..8), 0, (len + 4) as u8]);
                let small = rng.random_bool(0.5);
                let byte =
                    |rng: &mut StdRng| if small { rng.random_range(0..3) } else { rng.random() };
                packet.extend((0..len).map(|_| byte(&mut rng)));
            }
            if n % 2 == 1 {
                let at = rng.random_range(12..packet.len());
                packet[at] = rng.random();
            }
            seal(&mut packet);
            pair.anna_sends.send_raw(&mut pair.talk, &packet);
            pair.talk.pass(Duration::from_millis(3));
        }
        assert!(pair.talk.closed.is_empty());
        let Pair { mut talk, bert, mut bert_receives, .. } = pair;
        let carol = enter(&mut talk, "carol", Automatic);
        let (send, mut carol_sends) = transport(&mut talk, carol, Direction::Send);
        carol_sends.open(9, false, None);
        talk.ok(carol, produce(&send, json!({"streamId": 9})));
        let offer = offer(&mut talk, bert);
        bert_receives.open(offer.sctp_stream_parameters.stream_id, false, None);
        talk.ok(bert, ready(&offer.id, true));
        carol_sends.send(&mut talk, 9, Ppid::String, b"well");
        bert_receives.run(&mut talk);
        assert_eq!(bert_receives.texts().last().unwrap(), "well");
    }
}

/// Garbage inside DTLS, from a client that has keys: no panic, and others go on.
#[test]
fn mutated_packets_do_no_harm() {
    let mut rng = StdRng::seed_from_u64(14);
    for seed in 0..20_u64 {
        let mut pair = Pair::new(reliable());
        let mut packets: Vec<Vec<u8>> = vec![vec![0; 12], vec![0x13, 0x88, 0x13, 0x88]];
        for n in 0..200 {
            let mut packet = packets[rng.random_range(0..packets.len())].clone();
            let chunk_type = rng.random::<u8>();
            let len = rng.random_range(0..64_usize);
            let mut chunk = vec![chunk_type, rng.random(), 0, (len + 4) as u8];
            chunk.extend((0..len).map(|_| rng.random::<u8>()));
            packet.extend(chunk);
            packet.truncate(1_100);
            if n % 3 == 0 {
                packets.push(packet.clone());
            }
            pair.anna_sends.send_raw(&mut pair.talk, &packet);
        }
        pair.talk.pass(Duration::from_millis(10 * seed));
        assert!(pair.talk.closed.is_empty());
        pair.say(Ppid::String, b"still here");
        assert_eq!(pair.bert_receives.texts(), ["still here"]);
    }
}
