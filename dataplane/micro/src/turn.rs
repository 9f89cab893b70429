//! Whole turns of a core.
#![forbid(unsafe_code)]

use opencall_dataplane::demux::{PacketClass, classify};
use opencall_dataplane::message::Feedback;
use opencall_io::{Train, TxBatch};
use opencall_wire::codec::MediaKind::{self, Audio, Video};
use opencall_wire::rtcp::Writer;
use opencall_wire::srtp::Profile::{self, AeadAes128Gcm, AesCm128HmacSha1_80};

use crate::stage::Stage;
use crate::{Work, Workload};

/// Packets that one NACK asks for.
const ASKED: usize = 16;

/// Checks in one turn.
const CHECKS: usize = 32;

/// Packets of a frame at about 2.3 Mbit/s.
const FRAME: usize = 8;

/// Frames received in one turn where nothing goes out.
const RECEIVED: usize = 64;

pub(crate) fn workloads() -> Vec<Workload> {
    let forwarded = |name, packets: usize, watchers: usize, make| Workload {
        name,
        unit: "forwarded packet",
        units: (packets * watchers) as u64,
        make,
    };
    vec![
        Workload {
            name: "receive-video",
            unit: "received packet",
            units: RECEIVED as u64,
            make: || Box::new(Receive(Stage::new(AeadAes128Gcm, Video, 0))),
        },
        forwarded("fan-out-9-video", 1, 9, || fan_out(AeadAes128Gcm, Video, 1, 9)),
        forwarded("fan-out-9-frame", FRAME, 9, || fan_out(AeadAes128Gcm, Video, FRAME, 9)),
        forwarded("fan-out-9-audio", 1, 9, || fan_out(AeadAes128Gcm, Audio, 1, 9)),
        forwarded("fan-out-9-audio-estimated", 1, 9, || {
            let feedback = Feedback { nack: true, transport_cc: true, ..Feedback::default() };
            let stage = Stage::with_feedback(AeadAes128Gcm, Audio, 9, feedback);
            Box::new(FanOut { stage, packets: 1 })
        }),
        forwarded("fan-out-9-frame-cm128", FRAME, 9, || {
            fan_out(AesCm128HmacSha1_80, Video, FRAME, 9)
        }),
        forwarded("fan-out-200-video", 1, 200, || fan_out(AeadAes128Gcm, Video, 1, 200)),
        forwarded("fan-out-200-frame", FRAME, 200, || fan_out(AeadAes128Gcm, Video, FRAME, 200)),
        Workload {
            name: "nack-answer",
            unit: "packet sent again",
            units: ASKED as u64,
            make: || Box::new(Nack::new()),
        },
        Workload {
            name: "stun-check",
            unit: "check",
            units: CHECKS as u64,
            make: || Box::new(Stun::new()),
        },
    ]
}

/// Receiving alone: what a packet costs before anyone gets it.
struct Receive(Stage);

impl Work for Receive {
    fn prepare(&mut self) {
        self.0.receive_frame(RECEIVED);
    }

    fn run(&mut self) {
        self.0.turn();
    }

    fn done(&self) -> u64 {
        self.0.received()
    }
}

/// One publisher to many: the turn's whole cost, shared by the packets that it forwards.
struct FanOut {
    stage: Stage,
    packets: usize,
}

fn fan_out(profile: Profile, kind: MediaKind, packets: usize, watchers: usize) -> Box<dyn Work> {
    Box::new(FanOut { stage: Stage::new(profile, kind, watchers), packets })
}

impl Work for FanOut {
    fn prepare(&mut self) {
        self.stage.receive_frame(self.packets);
    }

    fn run(&mut self) {
        self.stage.turn();
    }

    fn done(&self) -> u64 {
        self.stage.core.stats().packets_forwarded
    }
}

/// A watcher asks for the packets of the last frame.
struct Nack {
    stage: Stage,
    answered: u64,
}

impl Nack {
    fn new() -> Self {
        let mut stage = Stage::new(AeadAes128Gcm, Video, 1);
        stage.clear();
        Nack { stage, answered: 0 }
    }
}

impl Work for Nack {
    fn prepare(&mut self) {
        self.answered = self.done();
        // One more than is asked for: as much may be sent again as was sent, and RTX is a bit
        // longer.
        self.stage.receive_frame(ASKED + 1);
        self.stage.turn();
        let sent: Vec<u16> = media(&self.stage.tx).map(sequence).take(ASKED).collect();
        let mut message = vec![0; 256];
        let mut writer = Writer::new(&mut message);
        writer.nack(1, Stage::watched_ssrc(0), sent.into_iter()).expect("there is room");
        let len = writer.finish();
        let sealed = self.stage.watcher(0).seal.seal_rtcp(&mut message, len);
        message.truncate(sealed.expect("there is room"));
        self.stage.receive_from_watcher(0, &[message]);
    }

    fn run(&mut self) {
        self.stage.turn();
    }

    fn done(&self) -> u64 {
        self.answered + media(&self.stage.tx).count() as u64
    }
}

/// Consent checks of a client that is connected.
struct Stun {
    stage: Stage,
    answered: u64,
}

impl Stun {
    fn new() -> Self {
        let mut stage = Stage::new(AeadAes128Gcm, Video, 1);
        stage.clear();
        Stun { stage, answered: 0 }
    }
}

impl Work for Stun {
    fn prepare(&mut self) {
        self.answered = self.done();
        let check = self.stage.watcher(0).check.clone();
        self.stage.receive_from_watcher(0, &vec![check; CHECKS]);
    }

    fn run(&mut self) {
        self.stage.turn();
    }

    fn done(&self) -> u64 {
        self.answered + of_class(&self.stage.tx, PacketClass::Stun).count() as u64
    }
}

/// The RTP packets of a send batch.
fn media(tx: &TxBatch) -> impl Iterator<Item = &[u8]> {
    of_class(tx, PacketClass::Rtp)
}

fn of_class(tx: &TxBatch, class: PacketClass) -> impl Iterator<Item = &[u8]> {
    let datagrams = |train: &Train| tx.bytes(train).chunks(usize::from(train.segment_size));
    tx.trains().iter().flat_map(datagrams).filter(move |bytes| classify(bytes) == Ok(class))
}

fn sequence(packet: &[u8]) -> u16 {
    u16::from_be_bytes([packet[2], packet[3]])
}
