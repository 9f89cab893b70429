//! A stream looks like one encoder's output whatever happens at its source: neighbours in the
//! sequence fit together, and no number is left out where a stream goes on with another source.
//! Where a core died, no more numbers are left out than it had reserved.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use opencall_dataplane::checkpoint::RESERVED_PACKETS;
use opencall_dataplane::demux::{PacketClass, classify};
use opencall_testkit::receiver::Arrived;
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::time::Time;

use crate::participant::Sent;

/// Packets that are remembered of each stream.
const WINDOW: usize = 1_024;

/// By how much a timestamp may be off what capture times say, milliseconds: before the first
/// reports of an encoding, arrival times stand in for its clock, and arrivals are late.
const CLOCK_TOLERANCE_MS: i64 = 2_500;

/// Packets that a camera makes in a second at most: ten frames of three.
const MOST_PACKETS_PER_S: u32 = 30;

/// How long after a repair a number that was left out may be one that was repaired.
const REPAIRS: Duration = Duration::from_secs(1);

/// A packet as it arrived, and which of the cores that come one after the other sent it.
#[derive(Clone, Copy)]
struct Seen {
    arrived: Arrived,
    life: u32,
    /// Whether packets of its stream had just left on that of retransmissions.
    was_repaired: bool,
}

/// See the module.
#[derive(Default)]
pub struct Continuity {
    /// What cores sent, by SSRC: extended sequence numbers, and which core it was.
    sent: HashMap<u32, BTreeMap<u64, u32>>,
    /// When they last sent something under an SSRC.
    sent_at: HashMap<u32, Time>,
    /// What arrived, by participant and SSRC: packets by extended sequence number.
    streams: HashMap<(u32, u32), BTreeMap<u64, Seen>>,
}

impl Continuity {
    /// A core has sent a datagram.
    pub fn sent(&mut self, sent: Sent, bytes: &[u8]) {
        if let Some(ssrc) = self.sealed(sent.life, bytes) {
            self.sent_at.insert(ssrc, sent.at);
        }
    }

    /// A core has sealed a datagram, whether it leaves or not. Returns the SSRC of media.
    pub fn sealed(&mut self, life: u32, bytes: &[u8]) -> Option<u32> {
        let Ok(PacketClass::Rtp) = classify(bytes) else { return None };
        let header = RtpHeader::parse(bytes)?;
        let numbers = self.sent.entry(header.ssrc).or_default();
        numbers.insert(unwrap(numbers, header.sequence), life);
        if numbers.len() > WINDOW {
            numbers.pop_first();
        }
        Some(header.ssrc)
    }

    /// A participant has received a packet, which the core of that life sent.
    ///
    /// # Errors
    /// It does not fit what it has received before.
    pub fn check(&mut self, participant: u32, packet: &Arrived, life: u32) -> Result<(), String> {
        let was_repaired = self.may_be_repaired(packet.ssrc);
        let stream = self.streams.entry((participant, packet.ssrc)).or_default();
        if packet.is_repeated {
            return match stream.get(&packet.sequence) {
                Some(first) if first.arrived.stamp != packet.stamp => {
                    Err(differ("one number, two packets", &first.arrived, packet))
                }
                _ => Ok(()),
            };
        }
        let before = stream.range(..packet.sequence).next_back().map(|(_, before)| *before);
        let after = stream.range(packet.sequence..).next().map(|(_, after)| *after);
        let packet = Seen { arrived: *packet, life, was_repaired };
        stream.insert(packet.arrived.sequence, packet);
        if stream.len() > WINDOW {
            stream.pop_first();
        }
        for (a, b) in [(before, Some(packet)), (Some(packet), after)] {
            let (Some(a), Some(b)) = (a, b) else { continue };
            match b.arrived.sequence - a.arrived.sequence {
                _ if a.life != b.life => self.fit_across_deaths(&a, &b)?,
                1 => fit(&a.arrived, &b.arrived)?,
                _ => self.fit_across(&a, &b)?,
            }
        }
        Ok(())
    }

    /// Whether two packets fit that have numbers in between which have not arrived.
    fn fit_across(&self, a: &Seen, b: &Seen) -> Result<(), String> {
        let was_repaired = a.was_repaired || b.was_repaired;
        let (a, b) = (&a.arrived, &b.arrived);
        let missing = b.sequence - a.sequence - 1;
        if is_same_source(a, b) {
            // Each number is of a packet of the source or, where another layer was sent meanwhile
            // and nothing of it arrived, of a packet that was sent.
            let between = b.stamp.packet.checked_sub(a.stamp.packet + 1);
            let is_restart = b.stamp.key && b.stamp.part == 0;
            return match between {
                Some(between) if self.never_sent(b, missing) <= between.into() => Ok(()),
                Some(_) if is_restart => Ok(()),
                // It began anew meanwhile, with a picture whose first packets were repairs.
                _ if was_repaired => Ok(()),
                _ => Err(differ("more numbers than packets", a, b)),
            };
        }
        let Some(sent) = self.sent.get(&b.ssrc) else { return Ok(()) };
        if was_repaired {
            return Ok(());
        }
        let end = unwrap(sent, b.sequence as u16);
        let was_sent = sent.range(end - missing..end).next().is_some();
        let is_remembered = sent.first_key_value().is_some_and(|(&first, _)| first < end - missing);
        match is_remembered && !was_sent {
            true => Err(differ("numbers left out at a switch", a, b)),
            false => Ok(()),
        }
    }

    /// How many of the numbers before a packet, `missing` ones, no core has sent anything under.
    fn never_sent(&self, b: &Arrived, missing: u64) -> u64 {
        let Some(sent) = self.sent.get(&b.ssrc) else { return missing };
        let end = unwrap(sent, b.sequence as u16);
        missing - sent.range(end - missing..end).count() as u64
    }

    /// Whether packets of this stream have just left on the stream of retransmissions, as the first
    /// ones of a picture may: its SSRC is the next, and its payloads nobody can read here.
    fn may_be_repaired(&self, ssrc: u32) -> bool {
        let last = |ssrc| self.sent_at.get(&ssrc).copied();
        let (media_at, again_at) = (last(ssrc), last(ssrc.wrapping_add(1)));
        again_at.is_some_and(|at| at + REPAIRS >= media_at.unwrap_or(at))
    }

    /// Whether two packets fit that were sent by two cores, of which one came after the other: it
    /// leaves out what the one before may have used, and begins with a whole picture.
    fn fit_across_deaths(&self, a: &Seen, b: &Seen) -> Result<(), String> {
        let was_repaired = a.was_repaired || b.was_repaired;
        let (lives, first_of) = (b.life.checked_sub(a.life), b.life);
        let (a, b) = (&a.arrived, &b.arrived);
        let Some(lives) = lives else { return Err(differ("a number of a later core", a, b)) };
        if b.timestamp.wrapping_sub(a.timestamp) as i32 <= 0 {
            return Err(differ("timestamps of two cores", a, b));
        }
        fit_clock(a, b)?;
        let step = |a: Option<u16>, b: Option<u16>| Some(b?.wrapping_sub(a?));
        let pictures = step(a.picture, b.picture).map(|step| step & 0x7fff);
        let levels = step(a.tl0.map(Into::into), b.tl0.map(Into::into)).map(|step| step as u8);
        if pictures.is_some_and(|step| !(1..0x4000).contains(&step))
            || levels.is_some_and(|step| !(1..0x80).contains(&step))
        {
            return Err(differ("picture ids of two cores", a, b));
        }
        let Some(sent) = self.sent.get(&b.ssrc) else { return Ok(()) };
        let missing = b.sequence - a.sequence - 1;
        let end = unwrap(sent, b.sequence as u16);
        if sent.first_key_value().is_none_or(|(&first, _)| first >= end - missing) {
            return Ok(());
        }
        let between = || sent.range(end - missing..end);
        let left_out = missing - between().count() as u64;
        if left_out > RESERVED_PACKETS * u64::from(lives) + lost_before(a, b) {
            return Err(differ(&format!("{left_out} numbers left out at a death"), a, b));
        }
        let is_first = between().all(|(_, &life)| life != first_of);
        let is_whole = b.stamp.key && b.stamp.part == 0;
        match is_first && !is_whole && !was_repaired {
            true => Err(differ("no whole picture after a death", a, b)),
            false => Ok(()),
        }
    }
}

/// Numbers that may be of packets which no core has received: those in between, or as many as come
/// while time passes.
fn lost_before(a: &Arrived, b: &Arrived) -> u64 {
    let passed_ms = b.stamp.captured_ms.saturating_sub(a.stamp.captured_ms);
    let packets = b.stamp.packet.checked_sub(a.stamp.packet).filter(|_| is_same_source(a, b));
    packets.unwrap_or(passed_ms * MOST_PACKETS_PER_S / 1_000).into()
}

/// The extended number nearest to those sent last.
fn unwrap(sent: &BTreeMap<u64, u32>, sequence: u16) -> u64 {
    let highest = sent.last_key_value().map(|(&last, _)| last);
    let highest = highest.unwrap_or(0x10000 | u64::from(sequence));
    let step = sequence.wrapping_sub(highest as u16) as i16;
    highest.wrapping_add_signed(step.into())
}

fn is_same_source(a: &Arrived, b: &Arrived) -> bool {
    (a.stamp.track, a.stamp.layer) == (b.stamp.track, b.stamp.layer)
}

/// Whether two packets that follow each other fit together.
fn fit(a: &Arrived, b: &Arrived) -> Result<(), String> {
    let goes_on = is_same_source(a, b) && a.stamp.packet + 1 == b.stamp.packet;
    let begins_anew = b.stamp.key && b.stamp.part == 0;
    if !goes_on && !begins_anew {
        return Err(differ("a packet that does not follow", a, b));
    }
    let is_same_frame = goes_on && a.stamp.frame == b.stamp.frame;
    let ticks = b.timestamp.wrapping_sub(a.timestamp) as i32;
    if is_same_frame && ticks != 0 || !is_same_frame && ticks <= 0 {
        return Err(differ("timestamps", a, b));
    }
    let pictures = |arrived: &Arrived| arrived.picture.zip(arrived.tl0);
    let Some(((a_picture, a_tl0), (b_picture, b_tl0))) = pictures(a).zip(pictures(b)) else {
        return Ok(());
    };
    let step = u16::from(!is_same_frame);
    if (a_picture + step) & 0x7fff != b_picture || a_tl0.wrapping_add(step as u8) != b_tl0 {
        return Err(differ("picture ids", a, b));
    }
    fit_clock(a, b)
}

/// Whether timestamps pass as time did between two packets of different pictures, or of one.
fn fit_clock(a: &Arrived, b: &Arrived) -> Result<(), String> {
    let ticks = b.timestamp.wrapping_sub(a.timestamp) as i32;
    let captured_ms = i64::from(b.stamp.captured_ms) - i64::from(a.stamp.captured_ms);
    let told_ms = i64::from(ticks) / if b.picture.is_some() { 90 } else { 48 };
    if (captured_ms - told_ms).abs() > CLOCK_TOLERANCE_MS {
        return Err(differ("the clock", a, b));
    }
    Ok(())
}

fn differ(what: &str, a: &Arrived, b: &Arrived) -> String {
    format!("{what}:\n  {a:?}\n  {b:?}")
}

#[cfg(test)]
mod tests {
    use opencall_testkit::stamp::Stamp;

    use super::*;

    /// A picture of one packet, ten in a second.
    fn picture(sequence: u64, layer: u8, packet: u32) -> Arrived {
        let captured_ms = sequence as u32 * 100;
        let key = packet == 0;
        let (room, peer, track, frame, part, parts) = (0, 1, 1, packet, 0, 1);
        let stamp =
            Stamp { room, peer, track, frame, packet, captured_ms, layer, key, part, parts };
        let (ssrc, timestamp) = (7, sequence as u32 * 9_000);
        let (picture, tl0) = (Some(sequence as u16 & 0x7fff), Some(sequence as u8));
        Arrived { ssrc, sequence, timestamp, picture, tl0, stamp, is_repeated: false }
    }

    fn check(packets: &[Arrived]) -> Result<(), String> {
        let mut continuity = Continuity::default();
        packets.iter().try_for_each(|packet| continuity.check(1, packet, 0))
    }

    #[test]
    fn a_stream_that_goes_on_over_a_switch_is_fine_in_any_order() {
        let all = [picture(70_000, 0, 5), picture(70_001, 0, 6), picture(70_002, 1, 0)];
        assert_eq!(check(&all), Ok(()));
        assert_eq!(check(&[all[2], all[0], all[1]]), Ok(()));
    }

    #[test]
    fn what_no_encoder_would_send_is_found() {
        let first = picture(70_000, 0, 5);
        let second = picture(70_001, 0, 6);
        let wrong = [
            Arrived { timestamp: first.timestamp, ..second },
            Arrived { timestamp: second.timestamp + 90 * 3_000, ..second },
            Arrived { picture: first.picture, ..second },
            Arrived { tl0: Some(3), ..second },
            picture(70_001, 0, 8),
            picture(70_001, 1, 6),
            // Two numbers for the one packet in between.
            picture(70_003, 0, 7),
            Arrived { is_repeated: true, ..picture(70_000, 0, 6) },
        ];
        for (number, packet) in wrong.into_iter().enumerate() {
            assert!(check(&[first, packet]).is_err(), "{number}");
        }
    }

    /// A stream of which the first packet is of one core, and the others of the next.
    fn check_over_death(first: Arrived, others: &[Arrived]) -> Result<(), String> {
        let mut continuity = Continuity::default();
        let mut carry = |packet: &Arrived, life| {
            let [high, low] = (packet.sequence as u16).to_be_bytes();
            let bytes = [0x80, 96, high, low, 0, 0, 0, 1, 0, 0, 0, 7];
            continuity.sent(Sent { at: Time::ZERO, life }, &bytes);
            continuity.check(1, packet, life)
        };
        carry(&picture(first.sequence - 1, 0, first.stamp.packet - 1), 0)?;
        carry(&first, 0)?;
        others.iter().try_for_each(|packet| carry(packet, 1))
    }

    #[test]
    fn a_later_core_leaves_out_what_was_reserved_and_begins_with_a_whole_picture() {
        let first = picture(70_000, 0, 5);
        let after = |left_out: u64, layer, packet| Arrived {
            timestamp: first.timestamp.wrapping_add(9_000),
            stamp: Stamp {
                captured_ms: first.stamp.captured_ms + 100,
                ..picture(0, layer, packet).stamp
            },
            ..picture(70_001 + left_out, layer, packet)
        };
        assert_eq!(check_over_death(first, &[after(31, 1, 0)]), Ok(()));
        assert_eq!(check_over_death(first, &[after(0, 1, 0)]), Ok(()));
        for wrong in [
            after(31, 0, 6),
            after(60, 1, 0),
            Arrived { picture: Some(4), ..after(31, 1, 0) },
            Arrived { tl0: first.tl0, ..after(31, 1, 0) },
            Arrived { timestamp: first.timestamp.wrapping_sub(1), ..after(31, 1, 0) },
        ] {
            assert!(check_over_death(first, &[wrong]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn numbers_under_which_another_layer_was_sent_and_lost_are_none_left_out() {
        let (before, after) = (picture(70_000, 1, 5), picture(70_006, 1, 7));
        for sent in [&[1, 2, 3, 4, 5][..], &[1, 2, 4, 5], &[2, 4, 5]] {
            let mut continuity = Continuity::default();
            let numbers = sent.iter().map(|number| 70_000 + number);
            for number in [69_999, 70_000].into_iter().chain(numbers).chain([70_006]) {
                let [high, low] = (number as u16).to_be_bytes();
                let bytes = [0x80, 96, high, low, 0, 0, 0, 1, 0, 0, 0, 7];
                continuity.sent(Sent { at: Time::ZERO, life: 0 }, &bytes);
            }
            assert_eq!(continuity.check(1, &before, 0), Ok(()));
            // One packet in between may have been lost on its way to the core.
            assert_eq!(continuity.check(1, &after, 0).is_ok(), sent.len() >= 4, "{sent:?}");
        }
    }

    #[test]
    fn a_number_left_out_at_a_switch_is_found() {
        let mut continuity = Continuity::default();
        let sent = |sequence: u16| {
            let [high, low] = sequence.to_be_bytes();
            [0x80, 96, high, low, 0, 0, 0, 1, 0, 0, 0, 7]
        };
        let (before, after) = (picture(70_000, 0, 5), picture(70_002, 1, 0));
        for packet in [picture(69_999, 0, 4), before, after] {
            continuity.sent(Sent { at: Time::ZERO, life: 0 }, &sent(packet.sequence as u16));
        }
        assert_eq!(continuity.check(1, &before, 0), Ok(()));
        assert!(continuity.check(1, &after, 0).is_err());
    }
}
