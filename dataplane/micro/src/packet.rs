//! What is done to a single packet besides cryptography: reading it, renumbering it, writing its
//! header.
#![forbid(unsafe_code)]

use std::hint::black_box;

use opencall_dataplane::demux::classify;
use opencall_dataplane::egress::picture_id::PictureContinuity;
use opencall_dataplane::egress::sent::{Rewrite, SentLog};
use opencall_dataplane::egress::sequence::SequenceTranslator;
use opencall_dataplane::egress::timestamp::TimestampTranslator;
use opencall_wire::rtp::extension::{Extension, ExtensionIds, abs_send_time};
use opencall_wire::rtp::vp8::Vp8Descriptor;
use opencall_wire::rtp::{ExtensionForm, ExtensionSpans, HeaderWriter, OutgoingHeader, RtpHeader};
use opencall_wire::seq::ExtendedSeq;
use opencall_wire::time::Time;

use crate::stage::{ABS_SEND_TIME, MID, TRANSPORT_CC};
use crate::{Work, Workload};

/// Packets of one run.
const PACKETS: u64 = 256;

pub(crate) fn workloads() -> Vec<Workload> {
    let workload = |name, make| Workload { name, unit: "packet", units: PACKETS, make };
    vec![
        workload("demux", || Box::new(Demux::new())),
        workload("parse-header", || Box::new(Parse::new())),
        workload("rewrite-numbers", || Box::new(Renumber::new())),
        workload("write-header", || Box::new(WriteHeader { sequence: 0, out: [0; 64] })),
    ]
}

/// Nearly all datagrams are RTP; here and there one is not.
struct Demux {
    datagrams: Vec<[u8; 40]>,
    known: u64,
}

impl Demux {
    fn new() -> Self {
        let datagrams = (0..PACKETS).map(|n| {
            let mut datagram = [0; 40];
            (datagram[0], datagram[1]) = match n % 32 {
                7 => (0x80, 201),
                19 => (0x00, 0x01),
                23 => (22, 254),
                _ => (0x90, 96),
            };
            datagram
        });
        Demux { datagrams: datagrams.collect(), known: 0 }
    }
}

impl Work for Demux {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for datagram in &self.datagrams {
            self.known += u64::from(black_box(classify(black_box(datagram))).is_ok());
        }
    }

    fn done(&self) -> u64 {
        self.known
    }
}

/// The fixed header and where its extensions lie.
struct Parse {
    packet: Vec<u8>,
    ids: ExtensionIds,
    parsed: u64,
}

impl Parse {
    fn new() -> Self {
        let mut packet = vec![0; 64];
        let fields =
            OutgoingHeader { marker: true, payload_type: 96, sequence: 7, timestamp: 8, ssrc: 9 };
        write_header(&mut packet, fields, 3);
        let mut ids = ExtensionIds::default();
        ids.set(Extension::Mid, MID);
        ids.set(Extension::AbsSendTime, ABS_SEND_TIME);
        ids.set(Extension::TransportCc, TRANSPORT_CC);
        Parse { packet, ids, parsed: 0 }
    }
}

impl Work for Parse {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for _ in 0..PACKETS {
            let packet = black_box(&self.packet);
            let Some(header) = RtpHeader::parse(packet) else { continue };
            let spans = ExtensionSpans::parse(packet, &header, &self.ids);
            self.parsed += u64::from(spans.of(Extension::TransportCc, packet).is_some());
        }
    }

    fn done(&self) -> u64 {
        self.parsed
    }
}

/// Writes what a consumer's header of video usually has.
fn write_header(out: &mut [u8], fields: OutgoingHeader, transport_sequence: u16) -> Option<usize> {
    HeaderWriter::new(out, fields, ExtensionForm::OneByte)?
        .extension(MID, b"12")
        .extension(ABS_SEND_TIME, &abs_send_time(Time::from_millis(1234)))
        .extension(TRANSPORT_CC, &transport_sequence.to_be_bytes())
        .finish()
}

struct WriteHeader {
    sequence: u64,
    out: [u8; 64],
}

impl Work for WriteHeader {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for _ in 0..PACKETS {
            let fields = OutgoingHeader {
                marker: true,
                payload_type: 96,
                sequence: self.sequence as u16,
                timestamp: 8,
                ssrc: 9,
            };
            let written = write_header(black_box(&mut self.out), fields, self.sequence as u16);
            self.sequence += u64::from(written.is_some());
        }
    }

    fn done(&self) -> u64 {
        self.sequence
    }
}

/// All that is continuous in a VP8 stream, and the log of it: what a consumer does with a packet
/// before its header is written. One packet in 50 is left out.
struct Renumber {
    sequence: SequenceTranslator,
    timestamp: TimestampTranslator,
    picture_id: PictureContinuity,
    sent: SentLog,
    source: u64,
    taken: u64,
}

impl Renumber {
    fn new() -> Self {
        Renumber {
            sequence: SequenceTranslator::new(ExtendedSeq(100)),
            timestamp: TimestampTranslator::new(90_000, 7),
            picture_id: PictureContinuity::default(),
            sent: SentLog::for_video(),
            source: 0x1_0000,
            taken: 0,
        }
    }

    fn take(&mut self) {
        self.source += 1;
        self.taken += 1;
        let source = ExtendedSeq(self.source);
        if self.source.is_multiple_of(50) {
            return self.sequence.skip(source);
        }
        let picture = self.source / 8;
        let [high, low] = (picture as u16 | 0x8000).to_be_bytes();
        let vp8 = Vp8Descriptor::parse(&[0x90, 0xc0, high, low, picture as u8, 1]);
        let now = Time::from_millis(self.source);
        let Some(out) = self.sequence.forward(source) else { return };
        let timestamp = self.timestamp.forward(now, picture as u32 * 3000);
        let timestamp_offset = timestamp.wrapping_sub(picture as u32 * 3000);
        let mut rewrite = Rewrite { timestamp_offset, ..Rewrite::default() };
        if let Some(vp8) = &vp8 {
            self.picture_id.forward(&vp8.ids, &mut rewrite);
        }
        self.sent.record(out, source, black_box(rewrite));
    }
}

impl Work for Renumber {
    fn prepare(&mut self) {}

    fn run(&mut self) {
        for _ in 0..PACKETS {
            self.take();
        }
    }

    fn done(&self) -> u64 {
        self.taken
    }
}
