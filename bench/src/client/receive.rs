//! What a participant receives: every packet is opened, read and accounted for; the server hears of
//! it as from a browser.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use opencall_wire::rtcp::Writer;
use opencall_wire::rtcp::report::ReportBlock;
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::srtp::{OpenContext, OpenError, SealContext};

use super::outlet::{Outlet, Path};
use super::tally::Tally;
use crate::media::codec::{self, VideoCodec};
use crate::media::stamp::Stamp;
use crate::media::window::{Arrival, Window};

/// Sequence numbers asked for again at a time, per stream.
const MAX_MISSING: usize = 64;

/// Times a packet is asked for.
const MAX_TRIES: u8 = 10;

/// By then a stream has begun: a silent voice sends every 400 ms, and a camera needs a key frame.
const FIRST_PACKET_NS: u64 = 1_500_000_000;

/// Transport-wide arrivals kept between two feedbacks.
const MAX_ARRIVALS: usize = 512;

/// The SSRC we speak under where we send nothing.
const OUR_SSRC: u32 = 1;

/// Reports in one packet.
const MAX_BLOCKS: usize = 31;

/// Header extension elements of the one-byte form.
const ONE_BYTE_PROFILE: u16 = 0xbede;

/// Sender of a stream that carries one after the other.
pub const ANYONE: u32 = u32::MAX;

/// What signaling says about a stream to come.
#[derive(Debug, Clone)]
pub struct ConsumerSetup {
    /// What the server calls it when it is over.
    pub id: String,
    /// Its SSRC.
    pub ssrc: u32,
    /// The SSRC of its retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// A camera's; else a voice.
    pub is_video: bool,
    /// Who must be its sender; or [`ANYONE`].
    pub sender: u32,
    /// Id of the transport-wide sequence number.
    pub transport_cc_id: Option<u8>,
}

/// Which figures a stream is part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// All.
    Regular,
    /// All but the latencies: its receiver only passes through.
    Visitor,
    /// Those of bad links: its sender or its receiver has one.
    BadLink,
}

/// Losses of a transport since its beginning.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets lost by now.
    pub lost: u64,
    /// The same of streams that cross bad links.
    pub lost_on_bad_links: u64,
    /// Streams of which nothing has come.
    pub silent: u64,
}

impl Losses {
    /// Adds those of another transport.
    pub fn add(&mut self, other: Losses) {
        self.lost += other.lost;
        self.lost_on_bad_links += other.lost_on_bad_links;
        self.silent += other.silent;
    }
}

struct Consumer {
    setup: ConsumerSetup,
    standing: Standing,
    /// When it was announced.
    since_ns: u64,
    /// The stream it shows now, by the stamps: whose, and which of them.
    stream: Option<(u32, u8)>,
    window: Window,
    highest_sequence: Option<u64>,
    /// Sequence number with which the window began: what is missing before it was counted as lost.
    window_from: u64,
    missing: Vec<(u64, u8)>,
    received: u64,
    /// When its newest packet came, and the longest time without one since it was asked.
    newest_ns: u64,
    standstill_ns: u64,
}

/// A receiving transport.
pub struct Receiver {
    /// Its way to the server.
    pub path: Path,
    run: u32,
    codec: VideoCodec,
    seal: SealContext,
    open: OpenContext,
    consumers: Vec<Consumer>,
    /// What was lost of streams that are over.
    ended: Losses,
    /// SSRC to consumer; and whether it is the SSRC of retransmissions.
    by_ssrc: HashMap<u32, (usize, bool), foldhash::fast::RandomState>,
    transport_cc_id: Option<u8>,
    arrivals: Vec<(u16, u64)>,
    deltas: Vec<Option<i32>>,
    feedback_count: u8,
}

impl Receiver {
    /// A transport without streams. Cameras send `codec`.
    pub fn new(
        path: Path,
        run: u32,
        codec: VideoCodec,
        seal: SealContext,
        open: OpenContext,
    ) -> Self {
        Receiver {
            path,
            run,
            codec,
            seal,
            open,
            consumers: Vec::new(),
            ended: Losses::default(),
            by_ssrc: HashMap::default(),
            transport_cc_id: None,
            arrivals: Vec::with_capacity(MAX_ARRIVALS),
            deltas: Vec::with_capacity(2 * MAX_ARRIVALS),
            feedback_count: 0,
        }
    }

    /// A stream will come.
    pub fn add_consumer(&mut self, setup: ConsumerSetup, standing: Standing, now_ns: u64) {
        self.index(&setup, self.consumers.len());
        self.transport_cc_id = self.transport_cc_id.or(setup.transport_cc_id);
        self.consumers.push(Consumer {
            setup,
            standing,
            since_ns: now_ns,
            stream: None,
            window: Window::default(),
            highest_sequence: None,
            window_from: 0,
            missing: Vec::new(),
            received: 0,
            newest_ns: 0,
            standstill_ns: 0,
        });
    }

    fn index(&mut self, setup: &ConsumerSetup, at: usize) {
        self.by_ssrc.insert(setup.ssrc, (at, false));
        if let Some(rtx) = setup.rtx_ssrc {
            self.by_ssrc.insert(rtx, (at, true));
        }
    }

    /// The server will send no more of a stream: it is no longer waited for.
    pub fn remove_consumer(&mut self, id: &str) {
        let Some(at) = self.consumers.iter().position(|consumer| consumer.setup.id == id) else {
            return;
        };
        let gone = self.consumers.swap_remove(at);
        self.ended.add(gone.losses());
        self.by_ssrc.retain(|_, &mut (other, _)| other != at);
        if let Some(moved) = self.consumers.get(at).map(|moved| moved.setup.clone()) {
            self.index(&moved, at);
        }
    }

    /// A sealed RTP packet that arrived at `now_ns`.
    pub fn handle_rtp(&mut self, now_ns: u64, packet: &mut [u8], tally: &mut Tally) {
        let wire_len = packet.len();
        let Some(header) = RtpHeader::parse(packet) else {
            tally.corrupted += 1;
            return;
        };
        let header_len = usize::from(header.header_len);
        let opened = self.open.open_rtp(packet, header.ssrc, header.sequence, header_len);
        let packet = match opened {
            Ok(opened) => packet.get(..opened.len).unwrap_or_default(),
            Err(OpenError::Replay) => {
                tally.duplicated += 1;
                return;
            }
            Err(_) => {
                tally.corrupted += 1;
                return;
            }
        };
        self.note_arrival(now_ns, packet, &header);
        let Some(&(at, is_rtx)) = self.by_ssrc.get(&header.ssrc) else {
            // Padding that probes the link has an SSRC of its own; and media may be faster than the
            // answer that announces it.
            tally.unannounced += 1;
            return;
        };
        let Some(range) = header.payload_range(packet) else {
            tally.corrupted += 1;
            return;
        };
        let payload = packet.get(range).unwrap_or_default();
        if payload.is_empty() {
            return;
        }
        let Some(consumer) = self.consumers.get_mut(at) else { return };
        if consumer.standing == Standing::BadLink {
            tally.bad.received += 1;
        } else {
            tally.received += 1;
            tally.bytes += wire_len as u64;
        }
        let from = From { run: self.run, codec: self.codec, sequence: header.sequence, is_rtx };
        consumer.take(now_ns, from, payload, tally);
    }

    fn note_arrival(&mut self, now_ns: u64, packet: &[u8], header: &RtpHeader) {
        let Some(id) = self.transport_cc_id else { return };
        if let Some(&[high, low]) = element(packet, header, id)
            && self.arrivals.len() < MAX_ARRIVALS
        {
            self.arrivals.push((u16::from_be_bytes([high, low]), now_ns));
        }
    }

    /// What a browser says every 100 ms: transport-wide feedback, and what is missing.
    pub fn send_feedback(&mut self, outlet: &mut Outlet, tally: &mut Tally) {
        let mut buffer = [0; 1500];
        let mut writer = Writer::new(&mut buffer[..1400]);
        for consumer in &mut self.consumers {
            if consumer.missing.is_empty() {
                continue;
            }
            consumer.missing.retain(|&(_, tries)| tries < MAX_TRIES);
            consumer.missing.sort_unstable();
            let sequences = consumer.missing.iter().map(|&(sequence, _)| sequence as u16);
            // What does not fit now is asked for with the next feedback.
            if writer.nack(OUR_SSRC, consumer.setup.ssrc, sequences).is_ok() {
                tally.downstream_nacks += 1;
                consumer.missing.iter_mut().for_each(|(_, tries)| *tries += 1);
            }
        }
        self.feedback_count = self.feedback_count.wrapping_add(1);
        write_transport_cc(&mut writer, &mut self.arrivals, &mut self.deltas, self.feedback_count);
        let len = writer.finish();
        self.send_rtcp(&mut buffer, len, outlet, tally);
    }

    /// Receiver reports of all streams.
    pub fn send_reports(&mut self, outlet: &mut Outlet, tally: &mut Tally) {
        for first in (0..self.consumers.len()).step_by(MAX_BLOCKS) {
            let mut blocks = [ReportBlock::default(); MAX_BLOCKS];
            let mut count = 0;
            for consumer in self.consumers.iter().skip(first).take(MAX_BLOCKS) {
                let Some(highest) = consumer.highest_sequence else { continue };
                blocks[count] = ReportBlock {
                    ssrc: consumer.setup.ssrc,
                    cumulative_lost: consumer.window.lost() as i32,
                    highest_sequence: highest as u32,
                    ..ReportBlock::default()
                };
                count += 1;
            }
            let mut buffer = [0; 1024];
            let mut writer = Writer::new(&mut buffer[..900]);
            if count > 0 && writer.receiver_report(OUR_SSRC, &blocks[..count]).is_ok() {
                let len = writer.finish();
                self.send_rtcp(&mut buffer, len, outlet, tally);
            }
        }
    }

    fn send_rtcp(&mut self, buffer: &mut [u8], len: usize, outlet: &mut Outlet, tally: &mut Tally) {
        if len == 0 {
            return;
        }
        if let Ok(len) = self.seal.seal_rtcp(buffer, len) {
            outlet.send(&self.path, &buffer[..len], len, tally);
        }
    }

    /// A report of the server: only its authenticity is looked at.
    pub fn handle_rtcp(&mut self, packet: &mut [u8], tally: &mut Tally) {
        tally.corrupted += u64::from(self.open.open_rtcp(packet).is_err());
    }

    /// Records for each picture the longest time without a packet since the last call.
    pub fn record_standstills(&mut self, now_ns: u64, tally: &mut Tally) {
        let pictures = self.consumers.iter_mut().filter(|consumer| {
            let counts = consumer.standing == Standing::Regular;
            counts && consumer.setup.is_video && consumer.received > 0
        });
        for picture in pictures {
            let open_ns = now_ns.saturating_sub(picture.newest_ns);
            tally.standstill.record(std::mem::take(&mut picture.standstill_ns).max(open_ns));
        }
    }

    /// What is lost by now.
    pub fn losses(&self, now_ns: u64) -> Losses {
        let mut losses = self.ended;
        for consumer in &self.consumers {
            losses.add(consumer.losses());
            let is_due = now_ns >= consumer.since_ns + FIRST_PACKET_NS;
            // On a stage there may be nobody.
            let is_due = is_due && consumer.setup.sender != ANYONE;
            losses.silent += u64::from(consumer.received == 0 && is_due);
        }
        losses
    }
}

/// What is known of a packet before its payload is looked at.
#[derive(Clone, Copy)]
struct From {
    run: u32,
    codec: VideoCodec,
    sequence: u16,
    is_rtx: bool,
}

/// How a packet came.
#[derive(Clone, Copy)]
struct Passage {
    jump: Jump,
    is_rtx: bool,
    is_key: bool,
}

impl Consumer {
    /// What has not come of it.
    fn losses(&self) -> Losses {
        let lost = self.window.lost() + self.window.missing();
        match self.standing {
            Standing::BadLink => Losses { lost_on_bad_links: lost, ..Losses::default() },
            Standing::Regular | Standing::Visitor => Losses { lost, ..Losses::default() },
        }
    }

    fn take(&mut self, now_ns: u64, from: From, payload: &[u8], tally: &mut Tally) {
        let From { sequence, is_rtx, .. } = from;
        let (sequence, payload) = match (is_rtx, payload) {
            (false, payload) => (sequence, payload),
            (true, &[high, low, ref rest @ ..]) => (u16::from_be_bytes([high, low]), rest),
            (true, _) => {
                tally.corrupted += 1;
                return;
            }
        };
        let Some((stamp, is_key)) = self.read(&from, payload) else {
            tally.corrupted += 1;
            return;
        };
        if self.received > 0 {
            let still_ns = now_ns.saturating_sub(self.newest_ns);
            self.standstill_ns = self.standstill_ns.max(still_ns);
        }
        self.newest_ns = self.newest_ns.max(now_ns);
        self.received += 1;
        if is_rtx {
            match self.standing {
                Standing::BadLink => tally.bad.retransmitted += 1,
                Standing::Regular | Standing::Visitor => tally.retransmitted += 1,
            }
        }
        let jump = self.note_sequence(sequence);
        self.place(now_ns, &stamp, Passage { jump, is_rtx, is_key }, tally);
    }

    /// Accounts for a packet that is what was sent.
    fn place(&mut self, now_ns: u64, stamp: &Stamp, passage: Passage, tally: &mut Tally) {
        let Passage { jump, is_rtx, is_key } = passage;
        if jump == Jump::Repair {
            self.window.take_back_lost();
        }
        let index = u64::from(stamp.index);
        let stream = Some((stamp.sender, stamp.stream));
        if self.stream != stream {
            // A late packet of the layer before the switch is not a switch back.
            if is_rtx || matches!(jump, Jump::Back | Jump::Repair) {
                return;
            }
            self.stream = stream;
            self.restart(index, jump);
        } else if is_key && jump == Jump::Next {
            // The server paused the stream and goes on: what it skipped was not lost.
            self.restart(index, jump);
        }
        let arrival = self.window.insert(index);
        // A bad link duplicates and reorders by itself.
        if self.standing != Standing::BadLink {
            match arrival {
                Arrival::Duplicate if !is_rtx => tally.duplicated += 1,
                Arrival::Late if !is_rtx => tally.reordered += 1,
                // Asked for again, and then it came by itself.
                Arrival::Duplicate | Arrival::Late | Arrival::InOrder | Arrival::TooLate => {}
            }
        }
        if !is_rtx {
            self.record_latency(now_ns.saturating_sub(stamp.sent_ns), tally);
        }
    }

    /// The stamp of a payload, and whether a key frame begins; `None` if it is not what was sent.
    fn read(&self, from: &From, payload: &[u8]) -> Option<(Stamp, bool)> {
        let (content, is_key) = match self.setup.is_video {
            true => codec::read(from.codec, payload)?,
            false => (payload.split_first()?.1, false),
        };
        let stamp = Stamp::read(content)?;
        let is_ours = stamp.run == from.run
            && [stamp.sender, ANYONE].contains(&self.setup.sender)
            && self.setup.is_video == (stamp.stream > 0);
        is_ours.then_some((stamp, is_key))
    }

    fn record_latency(&self, latency_ns: u64, tally: &mut Tally) {
        match self.standing {
            Standing::Regular => tally.latency.record(latency_ns),
            Standing::BadLink => tally.bad.latency.record(latency_ns),
            Standing::Visitor => {}
        }
    }

    fn restart(&mut self, index: u64, jump: Jump) {
        self.window.restart(index);
        self.window_from = self.highest_sequence.unwrap_or(0);
        if let Jump::Gap(missing) = jump {
            self.window.add_lost(missing);
        }
    }

    /// Places a sequence number, and remembers which are missing.
    fn note_sequence(&mut self, sequence: u16) -> Jump {
        let Some(highest) = self.highest_sequence else {
            self.highest_sequence = Some(u64::from(sequence));
            return Jump::Next;
        };
        let ahead = sequence.wrapping_sub(highest as u16);
        if ahead == 0 || ahead >= 0x8000 {
            let behind = u64::from((highest as u16).wrapping_sub(sequence));
            let full = highest.saturating_sub(behind);
            let before = self.missing.len();
            self.missing.retain(|&(missing, _)| missing != full);
            let was_missing = self.missing.len() < before;
            return match was_missing && full < self.window_from {
                true => Jump::Repair,
                false => Jump::Back,
            };
        }
        let full = highest + u64::from(ahead);
        for missing in highest + 1..full {
            if self.missing.len() < MAX_MISSING {
                self.missing.push((missing, 0));
            }
        }
        self.highest_sequence = Some(full);
        if ahead == 1 { Jump::Next } else { Jump::Gap(u64::from(ahead) - 1) }
    }
}

/// Where a sequence number lies.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Jump {
    /// Right after the highest.
    Next,
    /// So many are missing before it.
    Gap(u64),
    /// It is not the highest.
    Back,
    /// It was missing when a switch or a key frame began the window anew, and counted as lost then.
    Repair,
}

/// The value of a one-byte header extension.
fn element<'a>(packet: &'a [u8], header: &RtpHeader, id: u8) -> Option<&'a [u8]> {
    if header.extension_profile? != ONE_BYTE_PROFILE {
        return None;
    }
    let start = usize::from(header.extension_offset);
    let mut rest = packet.get(start..start + usize::from(header.extension_len))?;
    while let Some((&head, after)) = rest.split_first() {
        if head == 0 {
            rest = after;
            continue;
        }
        let (value, after) = after.split_at_checked(usize::from(head & 0x0f) + 1)?;
        if head >> 4 == id {
            return Some(value);
        }
        rest = after;
    }
    None
}

/// Nanoseconds of a delta's unit and of the reference time's.
const DELTA_NS: u64 = 250_000;
const REFERENCE_NS: u64 = 64_000_000;

/// Tells of all arrivals, and forgets them.
fn write_transport_cc(
    writer: &mut Writer<'_>,
    arrivals: &mut Vec<(u16, u64)>,
    deltas: &mut Vec<Option<i32>>,
    count: u8,
) {
    let Some(&(first, _)) = arrivals.first() else { return };
    // In the order of sending, relative to the first that came.
    arrivals.sort_unstable_by_key(|&(sequence, _)| sequence.wrapping_sub(first).cast_signed());
    let Some(&(base, base_ns)) = arrivals.first() else { return };
    let reference = base_ns / REFERENCE_NS;
    let mut last = reference * (REFERENCE_NS / DELTA_NS);
    deltas.clear();
    for &(sequence, at_ns) in arrivals.iter() {
        let position = usize::from(sequence.wrapping_sub(base));
        if position < deltas.len() || position >= 2 * MAX_ARRIVALS {
            continue;
        }
        deltas.resize(position, None);
        let at = at_ns / DELTA_NS;
        deltas.push(Some(at.wrapping_sub(last).cast_signed() as i32));
        last = at;
    }
    let reference = (reference & 0x00ff_ffff) as i32;
    // Arrivals that span more than a feedback can say are left out, as if the feedback was lost.
    let _ = writer.transport_cc(OUR_SSRC, 0, count, base, reference, deltas);
    arrivals.clear();
}

#[cfg(test)]
mod tests {
    use opencall_wire::rtcp::{Packet, packets};
    use opencall_wire::srtp::Profile;

    use super::*;

    #[test]
    fn arrivals_are_told_in_the_order_of_sending_with_what_is_missing() {
        let ms = 1_000_000;
        let mut arrivals = vec![(0xffff, 1000 * ms), (2, 1003 * ms), (1, 1004 * ms)];
        let mut buffer = [0; 200];
        let mut writer = Writer::new(&mut buffer);
        write_transport_cc(&mut writer, &mut arrivals, &mut Vec::new(), 9);
        let len = writer.finish();
        let packet = packets(&buffer[..len]).next().unwrap().unwrap();
        let Packet::TransportCc(feedback) = packet else { panic!("{packet:?}") };
        let came: Vec<bool> = feedback.packets().map(|p| p.1.is_some()).collect();
        assert_eq!(came, [true, false, true, true]);
        assert!(arrivals.is_empty());
    }

    fn setup(id: &str, ssrc: u32) -> ConsumerSetup {
        ConsumerSetup {
            id: id.to_owned(),
            ssrc,
            rtx_ssrc: Some(ssrc + 1),
            is_video: false,
            sender: 7,
            transport_cc_id: None,
        }
    }

    fn consumer() -> Consumer {
        Consumer {
            setup: setup("c", 1),
            standing: Standing::Regular,
            since_ns: 0,
            stream: None,
            window: Window::default(),
            highest_sequence: None,
            window_from: 0,
            missing: Vec::new(),
            received: 0,
            newest_ns: 0,
            standstill_ns: 0,
        }
    }

    #[test]
    fn what_is_over_is_neither_waited_for_nor_forgotten() {
        let (profile, key, salt) = (Profile::AeadAes128Gcm, [7; 16], [7; 12]);
        let seal = SealContext::new(profile, &key, &salt).expect("keys that fit");
        let open = OpenContext::new(profile, &key, &salt).expect("keys that fit");
        let remote = "127.0.0.1:9".parse().expect("an address");
        let path = Path { transport: 1, remote, is_bad: false };
        let mut receiver = Receiver::new(path, 5, VideoCodec::Vp8, seal, open);
        for (id, ssrc) in [("a", 10), ("b", 20), ("c", 30)] {
            receiver.add_consumer(setup(id, ssrc), Standing::Regular, 0);
        }
        assert_eq!(receiver.losses(FIRST_PACKET_NS).silent, 3);
        // Sequence numbers 1 and 3 of the first: one is missing.
        for (sequence, index) in [(1, 10), (3, 12)] {
            let from = From { run: 5, codec: VideoCodec::Vp8, sequence, is_rtx: false };
            receiver.consumers[0].take(3000, from, &voice(7, index), &mut Tally::default());
        }
        receiver.remove_consumer("a");
        receiver.remove_consumer("unknown");
        let losses = receiver.losses(FIRST_PACKET_NS);
        assert_eq!((losses.silent, losses.lost), (2, 1));
        // The last one has taken the first one's place.
        let places = [10, 11, 20, 21, 30, 31].map(|ssrc| receiver.by_ssrc.get(&ssrc).copied());
        let (b, c) = (|is_rtx| Some((1, is_rtx)), |is_rtx| Some((0, is_rtx)));
        assert_eq!(places, [None, None, b(false), b(true), c(false), c(true)]);
    }

    fn voice(sender: u32, index: u32) -> [u8; 61] {
        let mut payload = [0x78; 61];
        let stamp = Stamp { sender, stream: 0, index, run: 5, sent_ns: 1000 };
        assert!(stamp.write(&mut payload[1..]));
        payload
    }

    #[test]
    fn every_fault_has_its_counter() {
        let (mut consumer, mut tally) = (consumer(), Tally::default());
        let mut take = |sequence: u16, payload: &[u8]| {
            let from = From { run: 5, codec: VideoCodec::Vp8, sequence, is_rtx: false };
            consumer.take(3000, from, payload, &mut tally);
        };
        take(0xfffe, &voice(7, 10));
        take(1, &voice(7, 13));
        take(0xffff, &voice(7, 11));
        take(1, &voice(7, 13));
        take(2, &voice(8, 14));
        take(3, &voice(7, 15)[..60]);
        let counted = (tally.reordered, tally.duplicated, tally.corrupted);
        assert_eq!(counted, (1, 1, 2));
        assert_eq!(consumer.missing, [(0x10000, 0)]);
        assert_eq!(consumer.window.missing(), 1);
        assert!((2.0..2.05).contains(&tally.latency.percentiles_us().max));
    }

    #[test]
    fn on_a_stage_one_comes_after_the_other_and_nothing_is_lost() {
        let (mut consumer, mut tally) = (consumer(), Tally::default());
        consumer.setup.sender = ANYONE;
        for (sequence, sender, index) in [(10, 7, 500), (11, 7, 501), (12, 9, 3), (13, 9, 4)] {
            let from = From { run: 5, codec: VideoCodec::Vp8, sequence, is_rtx: false };
            consumer.take(3000, from, &voice(sender, index), &mut tally);
        }
        assert_eq!((tally.corrupted, tally.reordered, tally.duplicated), (0, 0, 0));
        assert_eq!(consumer.window.lost() + consumer.window.missing(), 0);
        let from = From { run: 5, codec: VideoCodec::Vp8, sequence: 15, is_rtx: false };
        consumer.take(3000, from, &voice(7, 520), &mut tally);
        assert_eq!(consumer.window.lost(), 1, "a number left out at a switch is a loss");
    }

    #[test]
    fn what_is_repaired_after_a_switch_or_a_key_frame_is_not_lost() {
        // Stream, index and sequence number; 11 and 12 are missing when the layer changes at 13.
        let before = [(1, 100, 10), (2, 501, 13)];
        let table = [
            ("nothing comes", &[][..], 2),
            ("the old layer's", &[(1, 101, 11)][..], 1),
            ("both layers'", &[(1, 101, 11), (2, 500, 12)], 0),
            ("one twice", &[(1, 101, 11), (1, 101, 11)], 1),
            ("one of the new window, too", &[(2, 503, 15), (2, 502, 14), (2, 500, 12)], 1),
        ];
        for (name, repairs, expected) in table {
            let (mut consumer, mut tally) = (consumer(), Tally::default());
            consumer.setup.is_video = true;
            for (is_rtx, &(stream, index, sequence)) in
                before.iter().map(|p| (false, p)).chain(repairs.iter().map(|p| (p.2 < 15, p)))
            {
                let jump = consumer.note_sequence(sequence);
                let stamp = Stamp { sender: 7, stream, index, run: 5, sent_ns: 1000 };
                consumer.place(3000, &stamp, Passage { jump, is_rtx, is_key: false }, &mut tally);
            }
            assert_eq!(consumer.window.lost() + consumer.window.missing(), expected, "{name}");
        }
    }

    #[test]
    fn a_stream_is_part_of_the_figures_of_its_standing_only() {
        for (standing, expected) in
            [(Standing::Regular, (1, 0)), (Standing::Visitor, (0, 0)), (Standing::BadLink, (0, 1))]
        {
            let (mut consumer, mut tally) = (consumer(), Tally::default());
            consumer.standing = standing;
            let from = From { run: 5, codec: VideoCodec::Vp8, sequence: 1, is_rtx: false };
            consumer.take(3000, from, &voice(7, 10), &mut tally);
            let counted = (tally.latency.count(), tally.bad.latency.count());
            assert_eq!(counted, expected, "{standing:?}");
        }
    }
}
