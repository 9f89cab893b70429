//! What is kept per stream: history, loss detection, transport-wide feedback.
#![forbid(unsafe_code)]

use std::hint::black_box;
use std::time::Duration;

use opencall_dataplane::ingress::history::{History, VIDEO_BYTES, VIDEO_PACKETS};
use opencall_dataplane::ingress::nack::{MAX_MISSING_VIDEO, NackGenerator};
use opencall_dataplane::ingress::receive_stats::ReceiveStats;
use opencall_dataplane::ingress::transport_cc::ArrivalRecorder;
use opencall_wire::rtcp::{self, Packet, Writer};
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;
use smallvec::SmallVec;

use crate::{VIDEO_PACKET_LEN, Work, Workload};

/// Packets of one run: with one in 32 lost, what feedback is built of at once.
const PACKETS: u64 = 64;

/// Packets of a run that did not arrive.
const LOST: u64 = 2;

/// What separates packets in time.
const SPACING: Duration = Duration::from_millis(2);

const RTCP_MAX: usize = 1200;

pub(crate) fn workloads() -> Vec<Workload> {
    let workload = |name, make| Workload { name, unit: "packet", units: PACKETS, make };
    vec![
        workload("history-insert", || Box::new(Insert(Kept::new()))),
        workload("history-answer", || Box::new(Answer(Kept::new()))),
        workload("receive-statistics", || Box::new(Statistics::new())),
        Workload {
            name: "nack-ask",
            unit: "lost packet",
            units: LOST,
            make: || Box::new(Ask::new()),
        },
        workload("twcc-build", || Box::new(Build::new())),
        workload("twcc-parse", || Box::new(Parse { message: feedback(), parsed: 0 })),
    ]
}

/// Whether a packet is lost: two of each run.
fn is_lost(number: u64) -> bool {
    number % (PACKETS / LOST) == 19
}

struct Kept {
    history: History<[u64; 10]>,
    payload: Vec<u8>,
    now: Time,
    next: u64,
    done: u64,
}

impl Kept {
    fn new() -> Self {
        let payload = vec![0x5a; VIDEO_PACKET_LEN - 20];
        let history = History::new(VIDEO_PACKETS, VIDEO_BYTES);
        let mut kept =
            Kept { history, payload, now: Time::from_millis(1), next: 0x1_0000, done: 0 };
        // Until the rings have grown.
        for _ in 0..VIDEO_PACKETS {
            kept.insert();
        }
        kept.done = 0;
        kept
    }

    fn insert(&mut self) {
        self.now = self.now + SPACING;
        self.next += 1;
        let sequence = ExtendedSeq(self.next);
        let kept = self.history.insert(self.now, sequence, [0; 10], &[0x90; 20], &self.payload);
        self.done += u64::from(kept);
    }
}

struct Insert(Kept);

impl Work for Insert {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for _ in 0..PACKETS {
            self.0.insert();
        }
    }

    fn done(&self) -> u64 {
        self.0.done
    }
}

struct Answer(Kept);

impl Work for Answer {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for back in 0..PACKETS {
            let entry = self.0.history.entry(ExtendedSeq(self.0.next - back));
            self.0.done += u64::from(black_box(entry).is_some());
        }
    }

    fn done(&self) -> u64 {
        self.0.done
    }
}

struct Statistics {
    stats: ReceiveStats,
    now: Time,
}

impl Statistics {
    fn new() -> Self {
        Statistics { stats: ReceiveStats::new(90_000), now: Time::from_millis(1) }
    }
}

impl Work for Statistics {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for _ in 0..PACKETS {
            self.now = self.now + SPACING;
            let number = self.stats.packets();
            black_box(self.stats.on_packet(self.now, number as u16, (number / 8 * 3000) as u32));
        }
    }

    fn done(&self) -> u64 {
        self.stats.packets()
    }
}

/// A stream with losses, asked for once each and then repaired.
struct Ask {
    nack: NackGenerator,
    now: Time,
    next: u64,
}

impl Ask {
    fn new() -> Self {
        let nack = NackGenerator::new(MAX_MISSING_VIDEO);
        Ask { nack, now: Time::from_millis(1), next: 0x1_0000 }
    }
}

impl Work for Ask {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        let mut asked = SmallVec::new();
        for _ in 0..PACKETS {
            self.now = self.now + SPACING;
            self.next += 1;
            if !is_lost(self.next) {
                self.nack.on_packet(self.now, ExtendedSeq(self.next));
            }
            if self.nack.next_timeout() > self.now {
                continue;
            }
            self.nack.poll(self.now, Duration::from_millis(50), &mut asked);
            for &wire in &asked {
                let number = ExtendedSeq(self.next).nearest(wire);
                self.nack.on_packet(self.now, number);
            }
        }
    }

    fn done(&self) -> u64 {
        self.nack.counters().repaired
    }
}

/// From arrivals to the message that tells of them.
struct Build {
    arrivals: ArrivalRecorder,
    now: Time,
    next: u64,
    told: u64,
    out: Vec<u8>,
}

impl Build {
    fn new() -> Self {
        Build {
            arrivals: ArrivalRecorder::new(),
            now: Time::from_millis(1),
            next: 0,
            told: 0,
            out: vec![0; RTCP_MAX],
        }
    }

    /// Builds one message; its length.
    fn message(&mut self) -> usize {
        for _ in 0..PACKETS {
            self.now = self.now + SPACING;
            self.next += 1;
            if !is_lost(self.next) {
                self.arrivals.on_packet(self.now, self.next as u16);
            }
        }
        // The last has always arrived, so that each message tells of all of its run.
        let mut writer = Writer::new(&mut self.out);
        while let Some(range) = self.arrivals.poll(self.now + Duration::from_millis(100)) {
            self.told += range.arrivals.len() as u64;
            let (base, time) = (range.base_sequence, range.reference_time_64ms);
            let count = range.feedback_count;
            writer.transport_cc(1, 2, count, base, time, range.arrivals).expect("there is room");
        }
        writer.finish()
    }
}

impl Work for Build {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        black_box(self.message());
    }

    fn done(&self) -> u64 {
        self.told
    }
}

fn feedback() -> Vec<u8> {
    let mut build = Build::new();
    let len = build.message();
    build.out.truncate(len);
    build.out
}

struct Parse {
    message: Vec<u8>,
    parsed: u64,
}

impl Work for Parse {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for packet in rtcp::packets(black_box(&self.message)) {
            let Ok(Packet::TransportCc(feedback)) = packet else { continue };
            for arrival in feedback.packets() {
                black_box(arrival);
                self.parsed += 1;
            }
        }
    }

    fn done(&self) -> u64 {
        self.parsed
    }
}
