//! A stream looks like one encoder's output whatever happens at its source: neighbours in the
//! sequence fit together, and no number is left out where a stream goes on with another source.
#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use opencall_dataplane::demux::{PacketClass, classify};
use opencall_testkit::receiver::Arrived;
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::time::Time;

/// Packets that are remembered of each stream.
const WINDOW: usize = 1_024;

/// By how much a timestamp may be off what capture times say, milliseconds: before the first
/// reports of an encoding, arrival times stand in for its clock, and arrivals are late.
const CLOCK_TOLERANCE_MS: i64 = 2_500;

/// How long after a repair a number that was left out may be one that was repaired.
const REPAIRS: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Default)]
pub struct Continuity {
    /// What cores sent, by SSRC: extended sequence numbers.
    sent: HashMap<u32, BTreeSet<u64>>,
    /// When they last sent something under an SSRC.
    sent_at: HashMap<u32, Time>,
    /// What arrived, by participant and SSRC: packets by extended sequence number.
    streams: HashMap<(u32, u32), BTreeMap<u64, Arrived>>,
}

impl Continuity {
    /// A core has sent a datagram.
    pub fn sent(&mut self, now: Time, bytes: &[u8]) {
        let Ok(PacketClass::Rtp) = classify(bytes) else { return };
        let Some(header) = RtpHeader::parse(bytes) else { return };
        self.sent_at.insert(header.ssrc, now);
        let numbers = self.sent.entry(header.ssrc).or_default();
        numbers.insert(unwrap(numbers, header.sequence));
        if numbers.len() > WINDOW {
            numbers.pop_first();
        }
    }

    /// A participant has received a packet.
    ///
    /// # Errors
    /// It does not fit what it has received before.
    pub fn check(&mut self, participant: u32, packet: &Arrived) -> Result<(), String> {
        let stream = self.streams.entry((participant, packet.ssrc)).or_default();
        if packet.is_repeated {
            return match stream.get(&packet.sequence) {
                Some(first) if first.stamp != packet.stamp => {
                    Err(differ("one number, two packets", first, packet))
                }
                _ => Ok(()),
            };
        }
        let before = stream.range(..packet.sequence).next_back().map(|(_, before)| *before);
        let after = stream.range(packet.sequence..).next().map(|(_, after)| *after);
        stream.insert(packet.sequence, *packet);
        if stream.len() > WINDOW {
            stream.pop_first();
        }
        for (a, b) in [(before, Some(*packet)), (Some(*packet), after)] {
            let (Some(a), Some(b)) = (a, b) else { continue };
            match b.sequence - a.sequence {
                1 => fit(&a, &b)?,
                _ => self.fit_across(&a, &b)?,
            }
        }
        Ok(())
    }

    /// Whether two packets fit that have numbers in between which have not arrived.
    fn fit_across(&self, a: &Arrived, b: &Arrived) -> Result<(), String> {
        let missing = b.sequence - a.sequence - 1;
        if is_same_source(a, b) {
            // Each number is of a packet of the source.
            let between = b.stamp.packet.checked_sub(a.stamp.packet + 1);
            let is_restart = b.stamp.key && b.stamp.part == 0;
            return match between {
                Some(between) if missing <= between.into() => Ok(()),
                Some(_) if is_restart => Ok(()),
                _ => Err(differ("more numbers than packets", a, b)),
            };
        }
        let Some(sent) = self.sent.get(&b.ssrc) else { return Ok(()) };
        // The first packets of a picture may leave on the stream of retransmissions, whose SSRC is
        // the next and whose payloads nobody can read here.
        let repaired = |ssrc| self.sent_at.get(&ssrc).copied();
        let (media_at, again_at) = (repaired(b.ssrc), repaired(b.ssrc.wrapping_add(1)));
        if again_at.is_some_and(|at| at + REPAIRS >= media_at.unwrap_or(at)) {
            return Ok(());
        }
        let end = unwrap(sent, b.sequence as u16);
        let was_sent = (end - missing..end).any(|number| sent.contains(&number));
        let is_remembered = sent.first().is_some_and(|first| *first < end - missing);
        match is_remembered && !was_sent {
            true => Err(differ("numbers left out at a switch", a, b)),
            false => Ok(()),
        }
    }
}

/// The extended number nearest to those sent last.
fn unwrap(sent: &BTreeSet<u64>, sequence: u16) -> u64 {
    let highest = sent.last().copied().unwrap_or(0x10000 | u64::from(sequence));
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
    let captured_ms = i64::from(b.stamp.captured_ms) - i64::from(a.stamp.captured_ms);
    let told_ms = i64::from(ticks) / 90;
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
        packets.iter().try_for_each(|packet| continuity.check(1, packet))
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

    #[test]
    fn a_number_left_out_at_a_switch_is_found() {
        let mut continuity = Continuity::default();
        let sent = |sequence: u16| {
            let [high, low] = sequence.to_be_bytes();
            [0x80, 96, high, low, 0, 0, 0, 1, 0, 0, 0, 7]
        };
        let (before, after) = (picture(70_000, 0, 5), picture(70_002, 1, 0));
        for packet in [picture(69_999, 0, 4), before, after] {
            continuity.sent(Time::ZERO, &sent(packet.sequence as u16));
        }
        assert_eq!(continuity.check(1, &before), Ok(()));
        assert!(continuity.check(1, &after).is_err());
    }
}
