//! A receiver that stops reading: everyone else goes on as before, what it costs is bounded, its
//! lossy channels forget what is old, and its reliable ones end, with an event.
//!
//! Anna sends a file as fast as it is taken; Eve sends positions and a chat beside it. Bert reads
//! all of it. Dora does too, and then stops.

use std::time::Duration;

use opencall_control::DataDrop;
use opencall_control::api::ConsumeMode::Automatic;
use opencall_control::api::*;
use opencall_wire::time::Time;
use sctp_proto::PayloadProtocolIdentifier as Ppid;
use serde_json::json;

use crate::data_channels_carry_messages::{enter, produce, produced, ready, transport};
use crate::sctp_peer::{RECEIVE_BUFFER_BYTES, SctpPeer};
use crate::talk::Talk;

const STEP: Duration = Duration::from_millis(20);

/// Of the file, every fifth step: 600 kB/s.
const CHUNK_BYTES: usize = 60_000;

/// Every second step, so that a lossy queue without a bound would be seen.
const POSITION_BYTES: usize = 5_000;

/// What Anna keeps to itself at most: it is in this process, too.
const UNDER_WAY_BYTES: usize = 64 * 1024;

const FILE: u16 = 1;
const POSITIONS: u16 = 3;
const CHAT: u16 = 5;
const NOTES: u16 = 7;

/// A reader, and when what it hears of Eve was said.
struct Reader {
    session: SessionId,
    peer: SctpPeer,
    /// Streams of the file, the positions and the chat, in this order, and the consumers' ids.
    channels: Vec<(u16, String)>,
    file_bytes: usize,
    positions: usize,
    chat: usize,
    worst: Duration,
}

impl Reader {
    fn new(talk: &mut Talk, name: &str) -> Self {
        let session = enter(talk, name, Automatic);
        talk.news(session);
        let (_, mut peer) = transport(talk, session, Direction::Recv);
        let mut channels = Vec::new();
        for news in talk.news(session) {
            let Notification::NewDataConsumer(options) = news else { continue };
            let stream = options.sctp_stream_parameters.stream_id;
            peer.open(stream, false, None);
            talk.ok(session, ready(&options.id, true));
            channels.push((stream, options.id));
        }
        assert_eq!(channels.len(), 3);
        let worst = Duration::ZERO;
        Reader { session, peer, channels, file_bytes: 0, positions: 0, chat: 0, worst }
    }

    fn read(&mut self, talk: &mut Talk) {
        self.peer.run(talk);
        for message in self.peer.messages.drain(..) {
            match self.channels.iter().position(|(stream, _)| *stream == message.stream) {
                Some(0) => {
                    self.file_bytes += message.bytes.len();
                    continue;
                }
                Some(1) => self.positions += 1,
                _ => self.chat += 1,
            }
            let nanos = u64::from_be_bytes(*message.bytes.first_chunk().expect("a time"));
            self.worst = self.worst.max(talk.now.since(Time::ZERO + Duration::from_nanos(nanos)));
        }
    }

    /// Bytes that wait for it in one of its channels.
    fn queued(&self, talk: &mut Talk, channel: usize) -> u64 {
        let of = StatsOf::DataConsumer(self.channels[channel].1.clone());
        match talk.ok(self.session, Request::Stats(of)) {
            Response::Stats(reports) => {
                json!(reports[0].to_object())["bufferedAmount"].as_u64().expect("a number")
            }
            _ => panic!("statistics"),
        }
    }
}

struct Room {
    talk: Talk,
    anna_session: SessionId,
    /// Her transport, and the id of the file's producer.
    anna_send: String,
    file: String,
    anna: SctpPeer,
    eve: SctpPeer,
    bert: Reader,
    dora: Reader,
    steps: u32,
    sent: usize,
    most_queued: [u64; 3],
}

impl Room {
    fn new() -> Self {
        let mut talk = Talk::new();
        let (anna, eve) = (enter(&mut talk, "anna", Automatic), enter(&mut talk, "eve", Automatic));
        let (anna_send, mut anna_sends) = transport(&mut talk, anna, Direction::Send);
        let (eve_send, mut eve_sends) = transport(&mut talk, eve, Direction::Send);
        anna_sends.open(FILE, false, None);
        eve_sends.open(POSITIONS, true, Some(0));
        eve_sends.open(CHAT, false, None);
        let file = produced(talk.ok(anna, produce(&anna_send, json!({"streamId": FILE}))));
        let lossy = json!({"streamId": POSITIONS, "maxRetransmits": 0});
        produced(talk.ok(eve, produce(&eve_send, lossy)));
        produced(talk.ok(eve, produce(&eve_send, json!({"streamId": CHAT}))));
        let (bert, dora) = (Reader::new(&mut talk, "bert"), Reader::new(&mut talk, "dora"));
        let (steps, sent, most_queued) = (0, 0, [0; 3]);
        let (anna_session, anna, eve) = (anna, anna_sends, eve_sends);
        Room {
            talk,
            anna_session,
            anna_send,
            file,
            anna,
            eve,
            bert,
            dora,
            steps,
            sent,
            most_queued,
        }
    }

    fn run(&mut self, time: Duration) {
        let until = self.talk.now + time;
        while self.talk.now < until {
            self.step();
        }
    }

    fn step(&mut self) {
        self.steps += 1;
        if self.steps.is_multiple_of(5) && self.anna.buffered(FILE) < UNDER_WAY_BYTES {
            self.anna.put(FILE, Ppid::Binary, &[7; CHUNK_BYTES]);
            self.sent += CHUNK_BYTES;
        }
        let mut now = self.talk.now.as_nanos().to_be_bytes().to_vec();
        if self.steps.is_multiple_of(2) {
            now.resize(POSITION_BYTES, 0);
            self.eve.put(POSITIONS, Ppid::Binary, &now);
        }
        if self.steps.is_multiple_of(15) {
            self.eve.put(CHAT, Ppid::Binary, &now[..64.min(now.len())]);
        }
        for _ in 0..3 {
            self.anna.run(&mut self.talk);
            self.eve.run(&mut self.talk);
            self.bert.read(&mut self.talk);
            self.dora.read(&mut self.talk);
        }
        let is_cut = self.talk.control.data_drops().of(DataDrop::Laggard) > 0;
        for channel in usize::from(is_cut)..3 {
            let queued = self.dora.queued(&mut self.talk, channel);
            self.most_queued[channel] = self.most_queued[channel].max(queued);
        }
        self.talk.pass(STEP);
    }
}

#[test]
fn others_go_on_as_before_and_the_laggard_is_bounded_and_cut() {
    let mut room = Room::new();
    room.run(Duration::from_secs(2));
    let (before, heard) = (room.bert.worst, room.bert.positions);
    assert!(heard >= 45 && room.dora.positions >= 45, "{heard} positions");
    assert!(room.bert.file_bytes > 1_000_000, "{} bytes", room.bert.file_bytes);
    room.talk.news(room.dora.session);

    room.dora.peer.reads = false;
    (room.bert.worst, room.bert.positions, room.bert.chat) = (Duration::ZERO, 0, 0);
    room.run(Duration::from_secs(9));
    assert!(
        room.bert.positions >= 220 && room.bert.chat >= 29,
        "{} positions",
        room.bert.positions
    );
    assert!(room.bert.worst <= before + Duration::from_millis(1), "{:?}", room.bert.worst);

    // Anna was slowed, and then the one that held her up was cut, with an event.
    assert_eq!(room.talk.control.data_drops().of(DataDrop::Laggard), 1);
    assert_eq!(room.talk.news_texts(room.dora.session), ["DataConsumerClosed"]);
    let after_cut = room.bert.file_bytes;
    room.run(Duration::from_secs(2));
    let went_on = room.bert.file_bytes - after_cut;
    assert!(went_on > 400_000, "{went_on} bytes, of {} after {after_cut}", room.sent);

    let [file, positions, chat] = room.most_queued;
    assert!((256 * 1024..512 * 1024).contains(&file), "{file} bytes of the file");
    // 100 ms of them, and the entry of each.
    assert!(positions <= 5 * (POSITION_BYTES as u64 + 128), "{positions} bytes of positions");
    assert!(chat < 8 * 1024, "{chat} bytes of the chat");
    assert!(room.talk.control.data_drops().of(DataDrop::Stale) > 50);

    // What was said in the chat meanwhile is not lost: it is reliable, and never filled its queue.
    let (chat, said) = (room.dora.chat, room.bert.chat);
    room.dora.peer.reads = true;
    room.run(Duration::from_secs(3));
    assert!(room.dora.chat >= chat + said, "{} of {said}", room.dora.chat - chat);
}

#[test]
fn a_file_that_is_given_up_while_somebody_is_full_of_it_holds_up_nothing_else() {
    let mut room = Room::new();
    room.run(Duration::from_secs(1));
    room.dora.peer.reads = false;
    while room.dora.queued(&mut room.talk, 0) < 256 * 1024 {
        room.step();
    }
    let (talk, anna) = (&mut room.talk, room.anna_session);
    talk.ok(anna, Request::CloseDataProducer { data_producer_id: room.file.clone() });
    room.dora.peer.reads = true;
    room.anna.open(NOTES, false, None);
    produced(talk.ok(anna, produce(&room.anna_send, json!({"streamId": NOTES}))));
    talk.news(room.bert.session).into_iter().for_each(|news| {
        if let Notification::NewDataConsumer(options) = news {
            room.bert.peer.open(options.sctp_stream_parameters.stream_id, false, None);
            talk.ok(room.bert.session, ready(&options.id, true));
        }
    });
    room.anna.put(NOTES, Ppid::Binary, b"are you there?");
    let until = talk.now + Duration::from_secs(6);
    while talk.now < until {
        room.anna.run(talk);
        room.bert.peer.run(talk);
        room.dora.peer.run(talk);
        talk.pass(STEP);
    }
    let heard = room.bert.peer.messages.iter().any(|message| message.bytes == *b"are you there?");
    assert!(heard, "she is not read any more");
}

/// What a laggard costs the server: its own receive buffer, which is in this process too, apart.
#[test]
fn a_laggard_costs_less_than_a_megabyte() {
    let peak = |stops: bool| {
        let mut room = Room::new();
        room.run(Duration::from_secs(1));
        room.dora.peer.reads = !stops;
        let used = allocation_counter::measure(|| room.run(Duration::from_secs(9)));
        assert_eq!(room.talk.control.data_drops().of(DataDrop::Laggard), u64::from(stops));
        used.bytes_max
    };
    let (with, without) = (peak(true), peak(false));
    let cost = with.saturating_sub(without + u64::from(RECEIVE_BUFFER_BYTES));
    println!("at most {without} bytes, with a laggard {with}: {cost} besides its own buffer");
    assert!(cost <= 1024 * 1024, "{cost} bytes");
}
