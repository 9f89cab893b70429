//! Once a stream has warmed up, nothing that is done per packet takes anything from the heap: not
//! statistics, NACK, history and feedback on the way in, nor renumbering, its log and
//! retransmission on the way out. Loss, overtaking, drops and switches included.

use std::time::Duration;

use opencall_dataplane::egress::send_stats::SendStats;
use opencall_dataplane::egress::sent::{Rewrite, SentLog};
use opencall_dataplane::egress::sequence::SequenceTranslator;
use opencall_dataplane::egress::timestamp::TimestampTranslator;
use opencall_dataplane::ingress::history::{History, VIDEO_BYTES, VIDEO_PACKETS};
use opencall_dataplane::ingress::key_frame::KeyFrameLimiter;
use opencall_dataplane::ingress::nack::{MAX_MISSING_VIDEO, NackGenerator};
use opencall_dataplane::ingress::receive_stats::{ArrivalKind, ReceiveStats};
use opencall_dataplane::ingress::transport_cc::ArrivalRecorder;
use opencall_dataplane::rate::RateMeter;
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;
use smallvec::SmallVec;

const CLOCK_RATE_HZ: u32 = 90_000;
const ROUND_TRIP: Duration = Duration::from_millis(50);
const PACKETS_PER_SECOND: u64 = 250;

/// One encoding on its way in.
struct Ingress {
    receive: ReceiveStats,
    nack: NackGenerator,
    history: History<u32>,
    arrivals: ArrivalRecorder,
    key_frame: KeyFrameLimiter,
    rate: RateMeter,
    feedback_messages: u64,
}

/// One consumer on its way out.
struct Egress {
    sequence: SequenceTranslator,
    timestamp: TimestampTranslator,
    sent: SentLog,
    stats: SendStats,
    resent: u64,
}

impl Ingress {
    fn new() -> Self {
        Ingress {
            receive: ReceiveStats::new(CLOCK_RATE_HZ),
            nack: NackGenerator::new(MAX_MISSING_VIDEO),
            history: History::new(VIDEO_PACKETS, VIDEO_BYTES),
            arrivals: ArrivalRecorder::new(),
            key_frame: KeyFrameLimiter::new(),
            rate: RateMeter::new(Duration::from_secs(1)),
            feedback_messages: 0,
        }
    }

    fn take(&mut self, now: Time, number: u64, repaired: bool) -> Option<ExtendedSeq> {
        let timestamp = (number / 8 * 3000) as u32;
        let arrival = match repaired {
            true => self.receive.on_repaired(number as u16),
            false => self.receive.on_packet(now, number as u16, timestamp),
        };
        self.arrivals.on_packet(now, number as u16);
        if arrival.kind == ArrivalKind::Duplicate {
            return None;
        }
        self.rate.add(now, 1000);
        self.nack.on_packet(now, arrival.extended);
        let payload = [number as u8; 1000];
        self.history.insert(now, arrival.extended, timestamp, &[0x90; 20], &payload);
        Some(arrival.extended)
    }

    fn serve(&mut self, now: Time, asked: &mut SmallVec<[u16; 64]>) {
        asked.clear();
        if self.nack.next_timeout() <= now && self.nack.poll(now, ROUND_TRIP, asked).is_some() {
            self.key_frame.request(now);
        }
        self.key_frame.poll(now);
        while let Some(range) = self.arrivals.poll(now) {
            self.feedback_messages += u64::from(!range.arrivals.is_empty());
        }
        self.receive.report_block(now);
    }
}

impl Egress {
    fn new(first: u64) -> Self {
        Egress {
            sequence: SequenceTranslator::new(ExtendedSeq(first)),
            timestamp: TimestampTranslator::new(CLOCK_RATE_HZ, first as u32),
            sent: SentLog::for_video(),
            stats: SendStats::new(Time::ZERO),
            resent: 0,
        }
    }

    fn forward(&mut self, now: Time, source: ExtendedSeq, timestamp: u32) {
        if source.0.is_multiple_of(500) {
            self.sequence.switch(source);
            self.timestamp.switch(now, timestamp, None, None);
        }
        let Some(out) = self.sequence.forward(source) else { return };
        let out_timestamp = self.timestamp.forward(now, timestamp);
        let timestamp_offset = out_timestamp.wrapping_sub(timestamp);
        self.sent.record(out, source, Rewrite { timestamp_offset, ..Rewrite::default() });
        self.stats.on_sent(1000, 1030);
    }

    fn resend(&mut self, now: Time, history: &mut History<u32>) {
        let wire = self.sequence.next_out().wire().wrapping_sub(20);
        let Some(sent) = self.sent.lookup(wire) else { return };
        if !self.sent.may_resend(wire, now, self.stats.round_trip()) {
            return;
        }
        if let Some(stored) = history.entry(sent.source) {
            stored.rtx_payload[..2].copy_from_slice(&wire.to_be_bytes());
            self.resent += 1;
            self.stats.on_retransmitted(stored.rtx_payload.len());
        }
    }
}

/// Runs the packets of one stretch of time.
fn run(packets: std::ops::Range<u64>, ingress: &mut Ingress, egress: &mut [Egress]) {
    let mut asked = SmallVec::new();
    for number in packets {
        let now = Time::from_millis(number * 1000 / PACKETS_PER_SECOND);
        // One in twenty is lost, one in thirty is overtaken by the next.
        let lost = number % 20 == 7;
        let swapped = if number % 30 < 2 { number ^ 1 } else { number };
        if !lost && let Some(source) = ingress.take(now, swapped, false) {
            let timestamp = (swapped / 8 * 3000) as u32;
            for (index, consumer) in egress.iter_mut().enumerate() {
                // The second and third consumer get fewer temporal layers.
                match swapped / 8 % 4 < index as u64 {
                    true => consumer.sequence.skip(source),
                    false => consumer.forward(now, source, timestamp),
                }
            }
        }
        ingress.serve(now, &mut asked);
        for &wire in &asked {
            // Half of what is asked for comes.
            if wire % 40 == 7 {
                let number = (number & !0xffff) | u64::from(wire);
                ingress.take(now, number, true);
            }
        }
        for consumer in egress.iter_mut().filter(|_| number % 10 == 0) {
            consumer.resend(now, &mut ingress.history);
        }
    }
}

#[test]
fn not_after_the_first_seconds() {
    let mut ingress = Ingress::new();
    let mut egress = [Egress::new(100), Egress::new(65_500), Egress::new(7)];
    let at_first = allocation_counter::measure(|| {
        run(0..PACKETS_PER_SECOND * 10, &mut ingress, &mut egress);
    });
    let later = allocation_counter::measure(|| {
        run(PACKETS_PER_SECOND * 10..PACKETS_PER_SECOND * 60, &mut ingress, &mut egress);
    });
    assert_eq!(later.count_total, 0);

    assert!(at_first.count_total > 0, "what was allocated at first was counted");
    let nack = ingress.nack.counters();
    assert!(nack.repaired > 100 && nack.abandoned > 100 && nack.late > 100, "{nack:?}");
    assert!(ingress.feedback_messages > 400);
    assert!(egress.iter().all(|consumer| consumer.resent > 1000));
    assert!(egress.iter().all(|consumer| consumer.stats.sent().is_some()));
}
