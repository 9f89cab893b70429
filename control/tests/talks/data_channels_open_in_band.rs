//! Plain peer connections open their channels in SCTP (RFC 8832), and so does the server towards
//! them. The client's SCTP is another implementation's.

use opencall_control::DataDrop;
use opencall_control::api::ConsumeMode::{Automatic, OnRequest};
use opencall_control::api::*;
use opencall_wire::dcep::{ACK, Dcep, Effort, Open};
use sctp_proto::PayloadProtocolIdentifier as Ppid;
use serde_json::json;

use crate::data_channels_carry_messages::{enter, offer, produce, produced, ready, transport};
use crate::sctp_peer::{Message, SctpPeer};
use crate::talk::Talk;

const CHAT: Open<'static> =
    Open { ordered: true, effort: Effort::Reliable, priority: 256, label: "chat", protocol: "p1" };

fn bytes_of(open: Open<'_>) -> Vec<u8> {
    open.to_bytes().expect("short texts")
}

fn in_band(direction: Direction) -> Request {
    Request::CreateTransport { direction, force_tcp: false, sctp: SctpMode::InBand }
}

/// A receiving transport on which the server opens the channels.
fn plain_receiver(talk: &mut Talk, session: SessionId) -> SctpPeer {
    let Response::Transport(options) = talk.ok(session, in_band(Direction::Recv)) else {
        panic!("a transport")
    };
    assert!(talk.news(session).is_empty(), "the server does not know its parity yet");
    SctpPeer::connect(talk, session, &options)
}

fn acked(peer: &mut SctpPeer, stream: u16) -> bool {
    let at = peer.messages.iter().position(|message| message.stream == stream);
    let message = at.and_then(|at| peer.messages.remove(at));
    message == Some(Message { stream, ppid: 50, bytes: ACK.to_vec() })
}

/// Anna opens a channel by itself, Bert is offered it by signaling, and Carol in SCTP: they hear
/// the same, also what is said right before the channel closes.
#[test]
fn an_opened_channel_is_acknowledged_and_offered_in_everyones_way() {
    let mut talk = Talk::new();
    let anna = enter(&mut talk, "anna", Automatic);
    let (_, mut anna_sends) = transport(&mut talk, anna, Direction::Send);
    let bert = enter(&mut talk, "bert", Automatic);
    let (_, mut bert_receives) = transport(&mut talk, bert, Direction::Recv);
    let carol = enter(&mut talk, "carol", Automatic);
    let mut carol_receives = plain_receiver(&mut talk, carol);

    anna_sends.open(0, false, None);
    anna_sends.put(0, Ppid::Dcep, &bytes_of(CHAT));
    // Before the answer: it is in order behind the OPEN.
    anna_sends.send(&mut talk, 0, Ppid::String, b"early");
    anna_sends.run(&mut talk);
    assert!(acked(&mut anna_sends, 0));

    let to_bert = offer(&mut talk, bert);
    assert_eq!((&*to_bert.label, &*to_bert.protocol), ("chat", "p1"));
    assert_eq!(to_bert.peer_id.as_deref(), Some("anna"));
    bert_receives.open(to_bert.sctp_stream_parameters.stream_id, false, None);
    talk.ok(bert, ready(&to_bert.id, true));
    bert_receives.run(&mut talk);
    assert_eq!(bert_receives.texts(), ["early"]);

    let to_carol = offer(&mut talk, carol);
    let stream = to_carol.sctp_stream_parameters.stream_id;
    assert_eq!(stream % 2, 1, "the DTLS server's parity");
    carol_receives.run(&mut talk);
    let opened = carol_receives.messages.pop_front().expect("an OPEN");
    assert_eq!((opened.stream, opened.ppid), (stream, 50));
    assert_eq!(Dcep::parse(&opened.bytes), Some(Dcep::Open(CHAT)));
    assert_eq!(carol_receives.texts(), ["early"]);
    carol_receives.send(&mut talk, stream, Ppid::Dcep, &ACK);

    anna_sends.put(0, Ppid::String, b"bye");
    anna_sends.close(&mut talk, 0);
    for _ in 0..40 {
        talk.pass(std::time::Duration::from_millis(100));
        anna_sends.run(&mut talk);
    }
    for receiver in [&mut bert_receives, &mut carol_receives] {
        receiver.run(&mut talk);
        assert_eq!(receiver.texts(), ["bye"], "what was said before the end is heard");
    }
    assert_eq!(talk.news_texts(bert), ["DataConsumerClosed"]);
    assert_eq!(talk.news_texts(carol), ["DataConsumerClosed"]);
    anna_sends.run(&mut talk);
    carol_receives.run(&mut talk);
    assert_eq!((&anna_sends.finished[..], &carol_receives.finished[..]), (&[0][..], &[stream][..]));
    assert_eq!(talk.control.counts().data_producers + talk.control.counts().data_consumers, 0);

    // The number is free again.
    anna_sends.open(0, false, None);
    anna_sends.send(&mut talk, 0, Ppid::Dcep, &bytes_of(Open { label: "next", ..CHAT }));
    anna_sends.run(&mut talk);
    assert!(acked(&mut anna_sends, 0));
    assert_eq!(&*offer(&mut talk, bert).label, "next");
    for session in [anna, bert, carol] {
        talk.leave(session);
    }
    talk.assert_nothing_is_left();
}

#[test]
fn every_kind_of_channel_keeps_its_kind() {
    let mut talk = Talk::new();
    let anna = enter(&mut talk, "anna", Automatic);
    let (_, mut anna_sends) = transport(&mut talk, anna, Direction::Send);
    let bert = enter(&mut talk, "bert", Automatic);
    transport(&mut talk, bert, Direction::Recv);
    let kinds = [
        (true, Effort::Reliable, json!({"ordered": true})),
        (false, Effort::Reliable, json!({"ordered": false})),
        (false, Effort::Retransmits(0), json!({"ordered": false, "maxRetransmits": 0})),
        (false, Effort::Retransmits(3), json!({"ordered": false, "maxRetransmits": 3})),
        (false, Effort::LifetimeMs(100), json!({"ordered": false, "maxPacketLifeTime": 100})),
        // Which mediasoup-client does not know.
        (true, Effort::Retransmits(70_000), json!({"ordered": false, "maxRetransmits": 65_535})),
    ];
    for (n, (ordered, effort, expected)) in kinds.into_iter().enumerate() {
        let stream = n as u16 * 2;
        anna_sends.open(stream, false, None);
        let open = bytes_of(Open { ordered, effort, ..CHAT });
        anna_sends.send(&mut talk, stream, Ppid::Dcep, &open);
        let mut told = json!(offer(&mut talk, bert).sctp_stream_parameters);
        told.as_object_mut().expect("an object").remove("streamId");
        assert_eq!(told, expected);
    }
}

/// One peer connection for both directions, as plain peers have it; on request, too.
#[test]
fn one_transport_does_for_both_directions() {
    let mut talk = Talk::new();
    let anna = enter(&mut talk, "anna", OnRequest);
    let mut anna_talks = plain_receiver(&mut talk, anna);
    let bert = enter(&mut talk, "bert", OnRequest);
    let (send, mut bert_sends) = transport(&mut talk, bert, Direction::Send);
    let (_, mut bert_receives) = transport(&mut talk, bert, Direction::Recv);

    anna_talks.open(4, false, None);
    anna_talks.send(&mut talk, 4, Ppid::Dcep, &bytes_of(CHAT));
    anna_talks.run(&mut talk);
    assert!(acked(&mut anna_talks, 4));
    assert_eq!(talk.news_texts(bert), ["NewDataProducer anna chat"]);

    bert_sends.open(7, true, Some(0));
    let parameters = json!({"streamId": 7, "ordered": false, "maxRetransmits": 0});
    let data_producer_id = produced(talk.ok(bert, produce(&send, parameters)));
    let consume = Request::ConsumeData { data_producer_id, transport_id: None };
    let Response::ConsumedData(options) = talk.ok(anna, consume) else { panic!("consumed") };
    let stream = options.sctp_stream_parameters.stream_id;
    bert_sends.send(&mut talk, 7, Ppid::String, b"hello");
    anna_talks.run(&mut talk);
    let opened = anna_talks.messages.pop_front().expect("an OPEN");
    let lossy = Open { ordered: false, effort: Effort::Retransmits(0), ..CHAT };
    assert_eq!((opened.stream, Dcep::parse(&opened.bytes)), (stream, Some(Dcep::Open(lossy))));
    assert_eq!(anna_talks.texts(), ["hello"]);
    // A client closes a channel of the server's.
    anna_talks.close(&mut talk, stream);
    assert_eq!(talk.news_texts(anna).last().expect("news"), "DataConsumerClosed");
    bert_receives.run(&mut talk);
    talk.leave(anna);
    talk.leave(bert);
    talk.assert_nothing_is_left();
}

/// What may not be opened is reset (RFC 8832 section 6), is counted, and nobody hears of it.
#[test]
fn what_may_not_be_opened_is_reset() {
    let mut talk = Talk::new();
    let silent = Grants { data: false, ..Default::default() };
    let silent = talk.enter_with("silent", Automatic, silent).session;
    let (_, mut silent_sends) = transport(&mut talk, silent, Direction::Send);
    let anna = enter(&mut talk, "anna", Automatic);
    let (_, mut anna_sends) = transport(&mut talk, anna, Direction::Send);
    let (_, mut anna_receives) = transport(&mut talk, anna, Direction::Recv);
    let long = "x".repeat(257);
    let refused = [(&mut silent_sends, 0, bytes_of(CHAT)), (&mut anna_receives, 0, bytes_of(CHAT))];
    let mut count = 0;
    for (peer, stream, bytes) in refused {
        peer.open(stream, false, None);
        peer.send(&mut talk, stream, Ppid::Dcep, &bytes);
        peer.run(&mut talk);
        assert!(peer.messages.is_empty(), "no ACK");
        assert_eq!(peer.finished, [stream]);
        count += 1;
        assert_eq!(talk.control.data_drops().of(DataDrop::DcepRefused), count);
    }
    let wrong: [(u16, Vec<u8>); 4] = [
        (1, bytes_of(CHAT)),
        (2, bytes_of(Open { label: &long, ..CHAT })),
        (4, vec![3, 9, 0, 0]),
        (6, vec![0]),
    ];
    for (stream, bytes) in wrong {
        anna_sends.open(stream, false, None);
        anna_sends.send(&mut talk, stream, Ppid::Dcep, &bytes);
        anna_sends.run(&mut talk);
        assert_eq!(anna_sends.finished.last(), Some(&stream));
        count += 1;
        assert_eq!(talk.control.data_drops().of(DataDrop::DcepRefused), count);
    }
    assert_eq!(talk.control.counts().data_producers, 0);
    // Twice on one stream: the channel goes.
    anna_sends.open(8, false, None);
    anna_sends.send(&mut talk, 8, Ppid::Dcep, &bytes_of(CHAT));
    assert_eq!(talk.control.counts().data_producers, 1);
    anna_sends.send(&mut talk, 8, Ppid::Dcep, &bytes_of(CHAT));
    assert_eq!(talk.control.counts().data_producers, 0);
    // As many as anyone may have.
    for stream in 10..50 {
        anna_sends.open(stream * 2, false, None);
        anna_sends.send(&mut talk, stream * 2, Ppid::Dcep, &bytes_of(CHAT));
    }
    assert_eq!(talk.control.counts().data_producers, 32);
}

/// Where the client is the DTLS server, it opens the odd streams and the server the even ones.
#[test]
fn parity_follows_the_dtls_role() {
    let mut talk = Talk::new();
    let anna = enter(&mut talk, "anna", Automatic);
    let (_, mut anna_sends) = transport(&mut talk, anna, Direction::Send);
    anna_sends.open(2, false, None);
    anna_sends.send(&mut talk, 2, Ppid::Dcep, &bytes_of(CHAT));
    let bert = enter(&mut talk, "bert", Automatic);
    let Response::Transport(options) = talk.ok(bert, in_band(Direction::Recv)) else {
        panic!("a transport")
    };
    let mut bert_talks = SctpPeer::connect_as(DtlsRole::Server, &mut talk, bert, &options);
    let to_bert = offer(&mut talk, bert);
    assert_eq!(to_bert.sctp_stream_parameters.stream_id % 2, 0);
    bert_talks.open(3, false, None);
    bert_talks.send(&mut talk, 3, Ppid::Dcep, &bytes_of(CHAT));
    bert_talks.run(&mut talk);
    bert_talks.messages.pop_front();
    assert!(acked(&mut bert_talks, 3));
}
