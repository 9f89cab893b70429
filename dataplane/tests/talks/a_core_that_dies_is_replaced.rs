//! A core dies at any moment, with datagrams received and not looked at, or sealed and not sent;
//! the one that takes its place is told what control's records hold and goes on from what the dead
//! one left in the checkpoints. Clients do nothing for it: media goes on, no SRTP index is used
//! twice, and no stream takes a step back.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use opencall_dataplane::checkpoint::RESERVED_PACKETS;
use opencall_dataplane::demux::{PacketClass, classify};
use opencall_dataplane::drop_reason::DropReason;
use opencall_dataplane::ingress::key_frame::MIN_INTERVAL;
use opencall_dataplane::message::*;
use opencall_io::MAX_RX_BATCH;
use opencall_wire::codec::MediaKind;
use opencall_wire::rtp::header::{OutgoingHeader, RtpHeader};

use crate::world::*;

/// A camera sends a frame of one packet in so many turns.
const FRAME_TURNS: u32 = 33;

/// A voice sends a packet in so many turns.
const VOICE_TURNS: u32 = 20;

/// From a core's death until every stream that was there is there again: a key frame is asked for
/// and comes with the next frame.
const BACK_WITHIN: Duration = Duration::from_millis(50);

/// The same soon after another core's death: an encoder is asked for key frames so often at most.
const BACK_AGAIN_WITHIN: Duration =
    Duration::from_millis(MIN_INTERVAL.as_millis() as u64 + BACK_WITHIN.as_millis() as u64);

/// One encoding of a camera, or a voice.
struct Sender {
    ssrc: u32,
    rid: Option<&'static [u8]>,
    audio: bool,
    sequence: u16,
    timestamp: u32,
    picture_id: u16,
    key_frame_asked: bool,
    frames: u32,
}

impl Sender {
    fn new(ssrc: u32, rid: Option<&'static [u8]>, audio: bool) -> Self {
        let (sequence, timestamp) = ((ssrc * 77) as u16 & 0x7fff, ssrc.wrapping_mul(0x0123_4567));
        let (picture_id, key_frame_asked, frames) = (ssrc as u16 & 0x7fff, false, 0);
        Sender { ssrc, rid, audio, sequence, timestamp, picture_id, key_frame_asked, frames }
    }

    /// Sends what is due at this turn; RIDs go with the first packets only, as browsers have it.
    fn send(&mut self, world: &World, client: &mut Client, turn: u32) {
        let every = if self.audio { VOICE_TURNS } else { FRAME_TURNS };
        if !turn.is_multiple_of(every) {
            return;
        }
        let key = self.frames == 0 || std::mem::take(&mut self.key_frame_asked);
        let video = Video {
            ssrc: self.ssrc,
            rid: self.rid.filter(|_| self.frames < 3),
            sequence: self.sequence,
            timestamp: self.timestamp,
            picture_id: self.picture_id & 0x7fff,
            key: key && !self.audio,
        };
        client.mid = if self.audio { b"1" } else { b"0" };
        client.send_video(world, video);
        self.frames += 1;
        self.sequence = self.sequence.wrapping_add(1);
        self.picture_id = self.picture_id.wrapping_add(1);
        let ticks = if self.audio { 48 } else { 90 };
        self.timestamp = self.timestamp.wrapping_add(ticks * every);
    }
}

/// What a client has received of one stream.
struct Stream {
    index: u64,
    timestamp: u32,
    picture_id: Option<u16>,
    tl0: Option<u8>,
    last: u32,
    /// Its core has died: what comes next must refer to nothing before it.
    breaks_off: bool,
}

struct Participant {
    client: Client,
    senders: Vec<Sender>,
    /// By SSRC.
    streams: HashMap<u32, Stream>,
    consumed: Vec<(u32, MediaKind)>,
}

/// Everyone sends a camera in two encodings and a voice, and receives everyone else's.
struct Meeting {
    world: World,
    everyone: Vec<Participant>,
    turn: u32,
    random: u64,
}

impl Meeting {
    fn new(cores: u8, participants: u8, seed: u64) -> Self {
        let mut world = World::new(cores.into());
        let mut everyone = Vec::new();
        let mut sources = Vec::new();
        for number in 0..participants {
            let client = world.join(CoreId(number % cores));
            let ssrc = 1_000 * (u32::from(number) + 1);
            let camera = world.produce_as(b"0", &client, MediaKind::Video, &[ssrc, ssrc + 2]);
            let voice = world.produce_as(b"1", &client, MediaKind::Audio, &[ssrc + 10]);
            let senders = vec![
                Sender::new(ssrc, Some(b"r0"), false),
                Sender::new(ssrc + 2, Some(b"r1"), false),
                Sender::new(ssrc + 10, None, true),
            ];
            sources.push([camera, voice]);
            let (streams, consumed) = (HashMap::new(), Vec::new());
            everyone.push(Participant { client, senders, streams, consumed });
        }
        let mut far = Vec::new();
        for (viewer, participant) in everyone.iter_mut().enumerate() {
            for source in sources.iter().enumerate().filter(|(of, _)| *of != viewer) {
                for source in source.1 {
                    let core = participant.client.core;
                    let consumer = match far.contains(&(source.id, core)) {
                        true => world.consume_here(&participant.client, source),
                        false => world.consume(&participant.client, source),
                    };
                    far.push((source.id, core));
                    participant.consumed.push((consumer.ssrc, source.kind));
                }
            }
        }
        Meeting { world, everyone, turn: 0, random: seed | 1 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn send(&mut self) {
        for participant in &mut self.everyone {
            for sender in &mut participant.senders {
                sender.send(&self.world, &mut participant.client, self.turn);
            }
        }
        self.turn += 1;
    }

    fn turn(&mut self) {
        self.send();
        let asker = self.below(8) as usize;
        if let Some(asker) = self.everyone.get_mut(asker) {
            asker.ask_again(&self.world);
        }
        self.world.turn();
        self.receive();
    }

    fn receive(&mut self) {
        for participant in &mut self.everyone {
            for bytes in participant.client.raw(&mut self.world) {
                participant.witness(&bytes);
                match participant.client.opened(bytes) {
                    (Some(packet), _) => participant.take(self.turn, &packet),
                    (_, Some(compound)) => participant.heed(&compound),
                    _ => {}
                }
            }
        }
    }

    fn run(&mut self, duration: Duration) {
        for _ in 0..duration.as_millis() {
            self.turn();
        }
    }

    /// A core dies in one of the ways that a thread can; another takes its place.
    fn kill(&mut self, core: CoreId) {
        self.send();
        match self.below(3) {
            // With what has arrived still in the socket.
            0 => {}
            // All that it did in its last turn is lost on the way out.
            1 => self.world.turn_unsent(core),
            // Between two turns.
            _ => self.world.turn_only(core),
        }
        let seed = self.random;
        let (_, unsent) = self.world.kill(core, seed);
        for participant in &mut self.everyone {
            let address = participant.client.address;
            for (_, bytes) in unsent.iter().filter(|(to, _)| *to == address) {
                participant.witness(bytes);
            }
        }
        self.receive();
        for participant in &mut self.everyone {
            let has_died = participant.client.core == core;
            participant.streams.values_mut().for_each(|stream| stream.breaks_off |= has_died);
        }
    }

    /// Every stream of everyone has come since that turn, those of cameras from a key frame where
    /// the viewer's core is the one that died.
    fn assert_all_is_back(&self, since: u32, seed: u64) {
        for (number, participant) in self.everyone.iter().enumerate() {
            for (ssrc, kind) in &participant.consumed {
                let stream = participant.streams.get(ssrc);
                let last = stream.map(|stream| stream.last);
                let what = format!("seed {seed}: {number} {kind:?}");
                assert!(last > Some(since), "{what} came last at {last:?}, not since {since}");
            }
        }
    }
}

impl Participant {
    /// Each packet is sealed under an index of its own, whether it leaves or not.
    fn witness(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        match classify(&bytes).unwrap() {
            PacketClass::Rtp => {
                let header = RtpHeader::parse(&bytes).unwrap();
                let len = usize::from(header.header_len);
                let opened =
                    self.client.witness.open_rtp(&mut bytes, header.ssrc, header.sequence, len);
                opened.expect("an RTP index of its own");
            }
            PacketClass::Rtcp => {
                self.client.witness.open_rtcp(&mut bytes).expect("an SRTCP index of its own");
            }
            _ => {}
        }
    }

    fn take(&mut self, turn: u32, packet: &Received) {
        let Some((_, kind)) = self.consumed.iter().find(|(ssrc, _)| *ssrc == packet.header.ssrc)
        else {
            return;
        };
        let (sequence, timestamp) = (packet.header.sequence, packet.header.timestamp);
        let video = *kind == MediaKind::Video;
        let picture_id = u16::from_be_bytes([packet.payload[2], packet.payload[3]]) & 0x7fff;
        let (picture_id, tl0) = (video.then_some(picture_id), video.then_some(packet.payload[4]));
        let Some(stream) = self.streams.get_mut(&packet.header.ssrc) else {
            assert!(!video || packet.payload[5] & 1 == 0, "it begins with a key frame");
            let breaks_off = false;
            let (index, last) = (u64::from(sequence), turn);
            let stream = Stream { index, timestamp, picture_id, tl0, last, breaks_off };
            self.streams.insert(packet.header.ssrc, stream);
            return;
        };
        let step = sequence.wrapping_sub(stream.index as u16);
        // Elsewhere, what the dead core had in hand is missing, and can be asked for.
        let most = if stream.breaks_off { RESERVED_PACKETS as u16 + 1 } else { 2 };
        assert!((1..=most).contains(&step), "{sequence} after {}, {most}", stream.index as u16);
        let is_key = packet.payload[5] & 1 == 0;
        assert!(!std::mem::take(&mut stream.breaks_off) || !video || is_key, "a whole picture");
        let later = timestamp.wrapping_sub(stream.timestamp) as i32;
        assert!(later > 0, "{timestamp} after {}, {later}", stream.timestamp);
        let rate = if video { 90 } else { 48 };
        let elapsed = (turn - stream.last) as i32 * rate;
        assert!((later - elapsed).abs() <= 40 * rate, "{later} ticks in {elapsed}");
        if let (Some(new), Some(old)) = (picture_id, stream.picture_id) {
            let step = new.wrapping_sub(old) & 0x7fff;
            assert!((1..0x4000).contains(&step), "picture {new:x} after {old:x}");
        }
        if let (Some(new), Some(old)) = (tl0, stream.tl0) {
            assert!((1..0x80).contains(&new.wrapping_sub(old)), "TL0PICIDX {new} after {old}");
        }
        stream.index += u64::from(step);
        (stream.timestamp, stream.picture_id, stream.tl0) = (timestamp, picture_id, tl0);
        stream.last = turn;
    }

    /// Asks for the newest packet of each stream once more: it comes on the stream of
    /// retransmissions, which has indexes of its own.
    fn ask_again(&mut self, world: &World) {
        for (&ssrc, stream) in &self.streams {
            let missing = std::iter::once(stream.index as u16);
            self.client.send_rtcp(world, |writer| writer.nack(9, ssrc, missing).unwrap());
        }
    }

    /// Sends a key frame where one is asked for.
    fn heed(&mut self, compound: &[u8]) {
        let mut rest = compound;
        while rest.len() >= 12 {
            let len = 4 * (usize::from(u16::from_be_bytes([rest[2], rest[3]])) + 1);
            let ssrc = u32::from_be_bytes([rest[8], rest[9], rest[10], rest[11]]);
            if rest[..2] == [0x81, 206] {
                let asked = self.senders.iter_mut().find(|sender| sender.ssrc == ssrc);
                asked.expect("a key frame of a stream that is sent").key_frame_asked = true;
            }
            rest = &rest[len.min(rest.len())..];
        }
    }
}

#[test]
fn everyone_goes_on_after_deaths_at_any_moment() {
    for seed in 1..=40 {
        let mut meeting = Meeting::new(2, 4, seed * 0x9e37_79b9);
        meeting.run(Duration::from_secs(1));
        meeting.assert_all_is_back(0, seed);
        let mut calm = Duration::from_secs(1);
        for _ in 0..4 {
            let core = CoreId(meeting.below(2) as u8);
            meeting.kill(core);
            let since = meeting.turn;
            let patience = if calm > 2 * MIN_INTERVAL { BACK_WITHIN } else { BACK_AGAIN_WITHIN };
            meeting.run(patience);
            meeting.assert_all_is_back(since, seed);
            calm = Duration::from_millis(meeting.below(1_500));
            meeting.run(calm);
        }
        for core in 0..2 {
            let drops = &meeting.world.core(CoreId(core)).stats().drops;
            for reason in [DropReason::Internal, DropReason::SrtpAuthFailed] {
                assert_eq!(drops.of(reason), 0, "{reason:?}");
            }
        }
    }
}

/// Control hears of changes only, and the dead core may not have got round to saying the last one.
#[test]
fn a_new_core_says_where_clients_are_and_how_well_they_send() {
    let mut meeting = Meeting::new(1, 2, 7);
    meeting.run(Duration::from_secs(2));
    meeting.world.events.clear();
    meeting.kill(CoreId(0));
    meeting.run(Duration::from_secs(2));
    let events = &meeting.world.events;
    for participant in &meeting.everyone {
        let transport = participant.client.transport;
        let is_there = |event: &Event| matches!(event, Event::Ice { transport: of, state: IceState::Completed, .. } if *of == transport);
        assert!(events.iter().any(is_there), "of {transport:?}");
    }
    let scored = events.iter().filter_map(|event| match event {
        Event::ProducerScore { producer, .. } => Some(*producer),
        _ => None,
    });
    assert_eq!(scored.collect::<BTreeSet<_>>().len(), 4, "each producer");
}

#[test]
fn what_waited_while_no_core_ran_is_not_forwarded() {
    let mut world = World::new(1);
    let mut speaker = world.join(CoreId(0));
    let source = world.produce(&speaker, MediaKind::Audio, &[1000]);
    let mut hearer = world.join(CoreId(0));
    world.consume(&hearer, &source);
    let waited = 2 * MAX_RX_BATCH as u16 + 40;
    let mut say = |world: &mut World, sequence: u16| {
        let timestamp = u32::from(sequence) * 960;
        let fields = OutgoingHeader {
            marker: false,
            payload_type: SENT_PT,
            sequence,
            timestamp,
            ssrc: 1000,
        };
        let packet = speaker.sealed(fields, None, &[0x78; 80]);
        world.push(speaker.address, CoreId(0), &packet);
    };
    (0..10).for_each(|sequence| say(&mut world, sequence));
    world.turn();
    assert_eq!(hearer.media(&mut world).len(), 10);
    (10..10 + waited).for_each(|sequence| say(&mut world, sequence));
    world.kill(CoreId(0), 5);
    world.run(Duration::from_millis(20));
    assert_eq!(hearer.media(&mut world).len(), 40, "the last batch may have just come");
    let late = world.core(CoreId(0)).stats().drops.of(DropReason::Late);
    assert_eq!(late, 2 * MAX_RX_BATCH as u64);
    say(&mut world, 10 + waited);
    world.turn();
    assert_eq!(hearer.media(&mut world).len(), 1);
}
