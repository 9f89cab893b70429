//! The hand-off of packets between two cores.
#![forbid(unsafe_code)]

use std::hint::black_box;

use opencall_dataplane::fanout::links::{self, Links, PipeMessage};
use opencall_dataplane::message::CoreId;

use crate::{VIDEO_PACKET_LEN, Work, Workload};

/// Packets of one run.
const PACKETS: u64 = 64;

pub(crate) fn workloads() -> Vec<Workload> {
    let make: fn() -> Box<dyn Work> = || {
        let mut links = links::connect(2);
        let there = links.pop().expect("two cores");
        let here = links.pop().expect("two cores");
        Box::new(HandOff { here, there, packet: vec![0x5a; VIDEO_PACKET_LEN], read: 0 })
    };
    vec![Workload { name: "ring-hand-off", unit: "packet", units: PACKETS, make }]
}

/// Both ends in turn on one thread: the instructions of both, without the cache lines that travel.
struct HandOff {
    here: Links,
    there: Links,
    packet: Vec<u8>,
    read: u64,
}

impl Work for HandOff {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for _ in 0..PACKETS {
            let sent = self.here.send(CoreId(1), PipeMessage::Empty, &self.packet);
            sent.expect("the other end keeps up");
        }
        black_box(self.here.take_wake().count());
        for slot in 0..self.there.take(0) {
            let Some(slot) = self.there.slot(0, slot) else { break };
            self.read += u64::from(!black_box(&slot.bytes[..usize::from(slot.len)]).is_empty());
        }
        self.there.release();
    }

    fn done(&self) -> u64 {
        self.read
    }
}
