//! Input: one RTCP datagram.
#![forbid(unsafe_code)]

use opencall_wire::rtcp::{
    DelaySinceLastRr, ExtendedBlock, ExtendedReport, Full, Nack, Packet, ReceiverReport, Remb,
    ReportBlock, Sdes, SenderInfo, SenderReport, TransportCc, Writer, packets,
};

/// Least length of a packet: its header.
const HEADER_LEN: usize = 4;

/// Walks every packet to its end, writes those we write too, and reads them again.
pub fn run(data: &[u8]) {
    let mut count = 0;
    let mut failed = false;
    for packet in packets(data) {
        assert!(!failed, "nothing comes after a malformed packet");
        count += 1;
        match packet {
            Ok(packet) => walk(&packet),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                failed = true;
            }
        }
    }
    assert!(count <= data.len().div_ceil(HEADER_LEN));
}

fn walk(packet: &Packet<'_>) {
    match packet {
        Packet::SenderReport(report) => sender_report(report),
        Packet::ReceiverReport(report) => receiver_report(report),
        Packet::Sdes(sdes) => source_description(sdes),
        Packet::Bye(bye) => {
            assert!(bye.ssrcs().len() <= 31);
            assert!(bye.reason.is_none_or(|reason| reason.len() <= 255));
            for ssrc in bye.ssrcs() {
                write(
                    &mut [0; 8],
                    |out| out.bye(ssrc),
                    |again| {
                        assert!(matches!(again, Packet::Bye(bye) if bye.ssrcs().eq([ssrc])));
                    },
                );
            }
        }
        Packet::Nack(nack) => generic_nack(nack),
        Packet::Pli { sender_ssrc, media_ssrc } => {
            write(
                &mut [0; 12],
                |out| out.pli(*sender_ssrc, *media_ssrc),
                |again| {
                    assert_eq!(again, packet);
                },
            );
        }
        Packet::Fir(fir) => {
            for entry in fir.entries() {
                let (sender, number) = (fir.sender_ssrc, entry.request_number);
                write(
                    &mut [0; 20],
                    |out| out.fir(sender, entry.ssrc, number),
                    |again| {
                        let Packet::Fir(again) = again else { panic!("another packet") };
                        assert!(again.sender_ssrc == sender && again.entries().eq([entry]));
                    },
                );
            }
        }
        Packet::Remb(remb) => bitrate(remb),
        Packet::TransportCc(feedback) => transport_cc(feedback),
        Packet::CongestionFeedback(feedback) => {
            assert!(feedback.packets().count() < 1 << 17);
        }
        Packet::ExtendedReport(report) => extended_report(report),
        Packet::Other { count, body, .. } => assert!(*count < 32 && body.len() < 1 << 18),
        _ => {}
    }
}

/// Writes one packet, which must fit, and hands over what it reads as.
fn write(
    out: &mut [u8],
    write: impl FnOnce(&mut Writer<'_>) -> Result<(), Full>,
    check: impl FnOnce(&Packet<'_>),
) {
    let mut writer = Writer::new(out);
    write(&mut writer).expect("there is room");
    let len = writer.finish();
    assert_eq!(len % 4, 0);
    let mut written = packets(&out[..len]);
    check(&written.next().expect("one packet").expect("what we write we can read"));
    assert!(written.next().is_none());
}

fn sender_report(report: &SenderReport<'_>) {
    let info = SenderInfo {
        ntp: report.ntp,
        rtp_timestamp: report.rtp_timestamp,
        packets: report.packets,
        octets: report.octets,
    };
    let blocks: Vec<ReportBlock> = report.reports().collect();
    let mut out = [0; 1024];
    write(
        &mut out,
        |out| out.sender_report(report.ssrc, &info, &blocks),
        |again| {
            assert!(matches!(again, Packet::SenderReport(again) if again == report));
        },
    );
}

fn receiver_report(report: &ReceiverReport<'_>) {
    let blocks: Vec<ReportBlock> = report.reports().collect();
    assert!(blocks.len() <= 31);
    let mut out = [0; 1024];
    write(
        &mut out,
        |out| out.receiver_report(report.ssrc, &blocks),
        |again| {
            assert!(matches!(again, Packet::ReceiverReport(again) if again == report));
        },
    );
}

fn extended_report(report: &ExtendedReport<'_>) {
    for block in report.blocks() {
        let items: Vec<DelaySinceLastRr> = match block {
            ExtendedBlock::ReceiverReferenceTime(_) => Vec::new(),
            ExtendedBlock::Dlrr(dlrr) => dlrr.items().collect(),
            _ => continue,
        };
        let mut out = vec![0; 24 + 12 * items.len()];
        write(
            &mut out,
            |out| match block {
                ExtendedBlock::ReceiverReferenceTime(ntp) => {
                    out.receiver_reference_time(report.ssrc, ntp)
                }
                _ => out.dlrr(report.ssrc, &items),
            },
            |again| {
                let Packet::ExtendedReport(again) = again else { panic!("another packet") };
                assert_eq!(again.ssrc, report.ssrc);
                match again.blocks().next() {
                    Some(ExtendedBlock::Dlrr(again)) => {
                        assert!(again.items().eq(items.iter().copied()));
                    }
                    again => assert_eq!(again, Some(block)),
                }
            },
        );
    }
}

fn source_description(sdes: &Sdes<'_>) {
    assert!(sdes.chunks().count() <= 31);
    for chunk in sdes.chunks() {
        assert!(chunk.items().all(|(kind, text)| kind != 0 && text.len() <= 255));
        let Some(cname) = chunk.cname().and_then(|name| str::from_utf8(name).ok()) else {
            continue;
        };
        write(
            &mut [0; 300],
            |out| out.sdes_cname(chunk.ssrc, cname),
            |again| {
                let Packet::Sdes(again) = again else { panic!("another packet") };
                let again: Vec<_> = again.chunks().map(|c| (c.ssrc, c.cname())).collect();
                assert_eq!(again, [(chunk.ssrc, Some(cname.as_bytes()))]);
            },
        );
    }
}

fn generic_nack(nack: &Nack<'_>) {
    let mut named: Vec<u16> = nack.sequences().collect();
    if named.is_empty() {
        return;
    }
    // The writer wants them to rise.
    named.sort_unstable();
    named.dedup();
    // At worst each takes an entry of its own.
    let mut out = vec![0; 12 + 4 * named.len()];
    let (sender, media) = (nack.sender_ssrc, nack.media_ssrc);
    write(
        &mut out,
        |out| out.nack(sender, media, named.iter().copied()),
        |again| {
            let Packet::Nack(again) = again else { panic!("another packet") };
            assert!(again.sender_ssrc == sender && again.media_ssrc == media);
            assert!(again.sequences().eq(named.iter().copied()));
        },
    );
}

fn bitrate(remb: &Remb<'_>) {
    let ssrcs: Vec<u32> = remb.ssrcs().collect();
    let mut out = [0; 1100];
    write(
        &mut out,
        |out| out.remb(remb.sender_ssrc, remb.bitrate_bps, &ssrcs),
        |again| {
            let Packet::Remb(again) = again else { panic!("another packet") };
            assert!(
                again.sender_ssrc == remb.sender_ssrc && again.ssrcs().eq(ssrcs.iter().copied())
            );
            // What did not fit 64 bits was cut to the greatest number, which 18 bits round down.
            assert!(again.bitrate_bps == remb.bitrate_bps || remb.bitrate_bps == u64::MAX);
            assert!(again.bitrate_bps <= remb.bitrate_bps);
        },
    );
}

fn transport_cc(feedback: &TransportCc<'_>) {
    assert!((-0x80_0000..0x80_0000).contains(&feedback.reference_time));
    let mut sequence = feedback.base_sequence;
    let mut arrivals = Vec::with_capacity(usize::from(feedback.status_count));
    for (of, delta) in feedback.packets() {
        assert_eq!(of, sequence);
        sequence = sequence.wrapping_add(1);
        arrivals.push(delta);
    }
    assert_eq!(arrivals.len(), usize::from(feedback.status_count));
    // At worst each takes a chunk of its own, and two bytes for the time.
    let mut out = vec![0; 24 + 4 * arrivals.len()];
    let write_it = |out: &mut Writer<'_>| {
        out.transport_cc(
            feedback.sender_ssrc,
            feedback.media_ssrc,
            feedback.feedback_count,
            feedback.base_sequence,
            feedback.reference_time,
            &arrivals,
        )
    };
    write(&mut out, write_it, |again| {
        let Packet::TransportCc(again) = again else { panic!("another packet") };
        assert_eq!(
            (again.sender_ssrc, again.media_ssrc, again.base_sequence, again.status_count),
            (
                feedback.sender_ssrc,
                feedback.media_ssrc,
                feedback.base_sequence,
                feedback.status_count
            )
        );
        assert_eq!(again.reference_time, feedback.reference_time);
        assert_eq!(again.feedback_count, feedback.feedback_count);
        assert!(again.packets().eq(feedback.packets()));
    });
}
