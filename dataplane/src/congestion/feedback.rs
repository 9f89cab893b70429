//! Feedback as the estimator takes it: which packets arrived and when, whatever format told it.
//!
//! Transport-wide feedback counts arrivals from a reference time of 24 bits, 64 ms each, that wraps
//! every 12 days; RFC 8888 counts back from a report time of 32 bits, 1/65536 s each, that wraps
//! every 18 hours. Both are of the receiver's clock. [`ReceiverClock`] lays them onto ours by the
//! moment at which the first feedback came: only differences mean anything.
#![forbid(unsafe_code)]

use std::time::Duration;

use opencall_wire::rtcp::{CongestionFeedback, TransportCc};
use opencall_wire::time::Time;

/// Nanoseconds in one unit of a transport-wide reference time, and of a delta.
const REFERENCE_NANOS: i64 = 64_000_000;
const DELTA_NANOS: i64 = 250_000;

/// Explicit congestion notification, as the receiver saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ecn {
    /// Not capable, or not told.
    #[default]
    None,
    /// ECT(1): low latency.
    Ect1,
    /// ECT(0).
    Ect0,
    /// Congestion was experienced.
    Ce,
}

/// What feedback says of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status {
    /// Transport-wide sequence number.
    pub sequence: u16,
    /// When it arrived, on our clock but for an unknown offset; `None` if it did not.
    pub arrived: Option<Time>,
    /// Its congestion mark.
    pub ecn: Ecn,
}

/// Lays a receiver's clock onto ours.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReceiverClock {
    /// Newest reference of the wire and what time it is.
    newest: Option<(u32, Time)>,
}

impl ReceiverClock {
    /// What transport-wide feedback says that came at `now`.
    pub fn transport_cc<'a>(
        &mut self,
        now: Time,
        feedback: &TransportCc<'a>,
    ) -> impl Iterator<Item = Status> + use<'a> {
        // The upper 24 bits, so that differences wrap as those of the wire do.
        let reference = (feedback.reference_time as u32) << 8;
        let mut arrived = self.advance(now, reference, |units| (units >> 8) * REFERENCE_NANOS);
        feedback.packets().map(move |(sequence, delta)| {
            let arrived = delta.map(|delta| {
                arrived = shifted(arrived, i64::from(delta) * DELTA_NANOS);
                arrived
            });
            Status { sequence, arrived, ecn: Ecn::None }
        })
    }

    /// What RFC 8888 feedback says that came at `now`. `resolve` finds the transport-wide number of
    /// a packet by SSRC and RTP sequence number; packets it does not know are left out.
    pub fn congestion_feedback<'a>(
        &mut self,
        now: Time,
        feedback: &CongestionFeedback<'a>,
        mut resolve: impl FnMut(u32, u16) -> Option<u16>,
    ) -> impl Iterator<Item = Status> {
        let reported = self.advance(now, feedback.report_time, |units| {
            i64::try_from(i128::from(units) * 1_000_000_000 / 65_536).unwrap_or_default()
        });
        feedback.packets().filter_map(move |packet| {
            let sequence = resolve(packet.ssrc, packet.sequence)?;
            let before = |units: u16| Duration::from_nanos(u64::from(units) * 1_000_000_000 / 1024);
            let arrived = packet.before_report.map(|units| reported - before(units));
            Some(Status { sequence, arrived, ecn: Ecn::from_bits(packet.ecn) })
        })
    }

    /// The time at this reference. One that goes back further than time does begins anew.
    fn advance(&mut self, now: Time, reference: u32, nanos: impl Fn(i64) -> i64) -> Time {
        let time = match self.newest {
            None => now,
            Some((before, time)) => {
                let difference = nanos(i64::from(reference.wrapping_sub(before) as i32));
                if difference < 0 && time.as_nanos() < difference.unsigned_abs() {
                    now
                } else {
                    shifted(time, difference)
                }
            }
        };
        self.newest = Some((reference, time));
        time
    }
}

impl Ecn {
    fn from_bits(bits: u8) -> Self {
        match bits & 0b11 {
            0b01 => Ecn::Ect1,
            0b10 => Ecn::Ect0,
            0b11 => Ecn::Ce,
            _ => Ecn::None,
        }
    }
}

fn shifted(time: Time, nanos: i64) -> Time {
    let by = Duration::from_nanos(nanos.unsigned_abs());
    if nanos < 0 { time - by } else { time + by }
}

#[cfg(test)]
mod tests {
    use opencall_wire::rtcp::{Packet, Writer, packets};
    use opencall_wire::rtp::test_support::{Random, hex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn feedback(reference: i32, arrivals: &[Option<i32>]) -> Vec<u8> {
        let mut out = vec![0; 4_000];
        let mut writer = Writer::new(&mut out);
        writer.transport_cc(1, 2, 0, 65_535, reference, arrivals).unwrap();
        let len = writer.finish();
        out.truncate(len);
        out
    }

    /// Arrivals in milliseconds.
    fn read(clock: &mut ReceiverClock, now: Time, bytes: &[u8]) -> Vec<Option<f64>> {
        let millis = |status: Status| status.arrived.map(|at| at.as_nanos() as f64 / 1e6);
        match packets(bytes).next() {
            Some(Ok(Packet::TransportCc(feedback))) => {
                clock.transport_cc(now, &feedback).map(millis).collect()
            }
            Some(Ok(Packet::CongestionFeedback(feedback))) => {
                clock.congestion_feedback(now, &feedback, |_, seq| Some(seq)).map(millis).collect()
            }
            _ => Vec::new(),
        }
    }

    #[test]
    fn times_are_laid_onto_ours_and_wrap() {
        let mut clock = ReceiverClock::default();
        let now = Time::from_millis(5_000);
        let last = (1 << 23) - 1;
        let first = feedback(last, &[Some(4), None, Some(400), Some(-8)]);
        let arrivals = [Some(5_001.0), None, Some(5_101.0), Some(5_099.0)];
        assert_eq!(read(&mut clock, now, &first), arrivals);
        // The next reference is the least there is, 64 ms later, whenever it comes.
        let second = feedback(-(1 << 23), &[Some(4)]);
        assert_eq!(read(&mut clock, now + SECOND, &second), [Some(5_065.0)]);
        // One that came late, from 64 ms before.
        assert_eq!(read(&mut clock, now + SECOND, &first), arrivals);
    }

    #[test]
    fn a_clock_that_goes_back_before_time_begins_anew() {
        let mut clock = ReceiverClock::default();
        read(&mut clock, Time::from_millis(100), &feedback(1_000, &[Some(0)]));
        let back = feedback(0, &[Some(0)]);
        assert_eq!(read(&mut clock, Time::from_millis(200), &back), [Some(200.0)]);
    }

    #[test]
    fn report_times_count_back() {
        let mut clock = ReceiverClock::default();
        let now = Time::from_millis(5_000);
        let block = "00000007 0001 0002 8400 0000";
        let first = hex(&format!("8b cd 0005 00000001 {block} ffff8000"));
        assert_eq!(read(&mut clock, now, &first), [Some(4_000.0), None]);
        // A second later, over the wrap.
        let second = hex(&format!("8b cd 0005 00000001 {block} 00008000"));
        assert_eq!(read(&mut clock, now, &second), [Some(5_000.0), None]);
    }

    #[test]
    fn no_garbage_breaks_the_clock() {
        let mut random = Random(4);
        let mut clock = ReceiverClock::default();
        let samples = [
            feedback(-7, &[Some(4), None, Some(400), Some(-8), None, None, Some(1)]),
            hex("8b cd 0005 00000001 00000007 0001 0002 8400 0000 ffff8000"),
        ];
        for round in 0..200_000_u64 {
            let mutant = random.mutate(&samples[(round % 2) as usize]);
            read(&mut clock, Time::from_millis(round), &mutant);
        }
    }
}
