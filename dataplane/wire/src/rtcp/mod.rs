//! RTCP: views of what arrived, a writer of what leaves.
//!
//! * [`report`] — sender and receiver reports (RFC 3550).
//! * [`sdes`], [`bye`] — who the sources are, and that they leave (RFC 3550).
//! * [`nack`] — packets that are missing (RFC 4585).
//! * [`key_frame_request`] — picture loss indication and full intra request (RFC 4585, RFC 5104).
//! * [`extended_report`] — how a receiver learns the round trip (RFC 3611).
//! * [`remb`] — receiver estimated maximum bitrate.
//! * [`transport_cc`] — arrival times of everything on a transport.
//! * [`congestion_feedback`] — the same by stream, with congestion marks (RFC 8888).
//! * [`writer`] — puts packets behind one another, compound or reduced-size (RFC 5506).
//!
//! Nothing here allocates, and no input makes anything here panic.
#![forbid(unsafe_code)]

pub mod bye;
pub mod congestion_feedback;
pub mod extended_report;
pub mod key_frame_request;
pub mod nack;
pub mod remb;
pub mod report;
pub mod sdes;
pub mod transport_cc;
pub mod writer;

#[cfg(test)]
mod oracles;

pub use bye::Bye;
pub use congestion_feedback::CongestionFeedback;
pub use extended_report::{DelaySinceLastRr, Dlrr, ExtendedBlock, ExtendedReport};
pub use key_frame_request::{Fir, FirEntry};
pub use nack::Nack;
pub use remb::Remb;
pub use report::{ReceiverReport, ReportBlock, SenderInfo, SenderReport};
pub use sdes::{Sdes, SdesChunk};
pub use transport_cc::TransportCc;
pub use writer::{Full, Writer};

use thiserror::Error;

/// Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1, RFC 3611 section 2).
mod packet_type {
    pub(super) const SENDER_REPORT: u8 = 200;
    pub(super) const RECEIVER_REPORT: u8 = 201;
    pub(super) const SDES: u8 = 202;
    pub(super) const BYE: u8 = 203;
    pub(super) const TRANSPORT_FEEDBACK: u8 = 205;
    pub(super) const PAYLOAD_FEEDBACK: u8 = 206;
    pub(super) const EXTENDED_REPORT: u8 = 207;
}

/// Feedback message types: the count field of transport and payload feedback packets.
mod format {
    pub(super) const NACK: u8 = 1;
    pub(super) const CONGESTION_FEEDBACK: u8 = 11;
    pub(super) const TRANSPORT_CC: u8 = 15;
    pub(super) const PLI: u8 = 1;
    pub(super) const FIR: u8 = 4;
    pub(super) const APPLICATION: u8 = 15;
}

/// Length of the header every packet begins with.
const HEADER_LEN: usize = 4;
/// The only version there is.
const VERSION: u8 = 2;
/// Most sources, report blocks or chunks in one packet: the count field has 5 bits.
const COUNT_MAX: usize = 31;

/// Why reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RtcpError {
    /// The datagram ends before the packet does.
    #[error("the datagram ends inside an RTCP packet")]
    Truncated,
    /// Not version 2.
    #[error("RTCP version {0} instead of 2")]
    Version(u8),
    /// Padding of zero bytes, or of more than there are.
    #[error("RTCP padding does not fit its packet")]
    Padding,
    /// The body is too short for what it claims to hold.
    #[error("the body of an RTCP packet of type {0} does not add up")]
    Malformed(u8),
}

/// One packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Packet<'a> {
    /// Sender report.
    SenderReport(SenderReport<'a>),
    /// Receiver report.
    ReceiverReport(ReceiverReport<'a>),
    /// Source description.
    Sdes(Sdes<'a>),
    /// Goodbye.
    Bye(Bye<'a>),
    /// Generic NACK.
    Nack(Nack<'a>),
    /// Picture loss indication.
    Pli {
        /// Who asks.
        sender_ssrc: u32,
        /// Whose picture is lost.
        media_ssrc: u32,
    },
    /// Full intra request.
    Fir(Fir<'a>),
    /// Receiver estimated maximum bitrate.
    Remb(Remb<'a>),
    /// Transport-wide congestion control feedback.
    TransportCc(TransportCc<'a>),
    /// Congestion control feedback by stream.
    CongestionFeedback(CongestionFeedback<'a>),
    /// Extended report.
    ExtendedReport(ExtendedReport<'a>),
    /// Anything else.
    Other {
        /// Its packet type.
        packet_type: u8,
        /// The five bits of its count or feedback message type.
        count: u8,
        /// What follows the header, without padding.
        body: &'a [u8],
    },
}

impl<'a> Packet<'a> {
    fn parse(raw: &Raw<'a>) -> Option<Self> {
        let Raw { packet_type, count, body } = *raw;
        match (packet_type, count) {
            (packet_type::SENDER_REPORT, _) => {
                SenderReport::parse(count, body).map(Packet::SenderReport)
            }
            (packet_type::RECEIVER_REPORT, _) => {
                ReceiverReport::parse(count, body).map(Packet::ReceiverReport)
            }
            (packet_type::SDES, _) => Sdes::parse(count, body).map(Packet::Sdes),
            (packet_type::BYE, _) => Bye::parse(count, body).map(Packet::Bye),
            (packet_type::TRANSPORT_FEEDBACK, format::NACK) => Nack::parse(body).map(Packet::Nack),
            (packet_type::TRANSPORT_FEEDBACK, format::TRANSPORT_CC) => {
                TransportCc::parse(body).map(Packet::TransportCc)
            }
            (packet_type::TRANSPORT_FEEDBACK, format::CONGESTION_FEEDBACK) => {
                CongestionFeedback::parse(body).map(Packet::CongestionFeedback)
            }
            (packet_type::PAYLOAD_FEEDBACK, format::PLI) => {
                let (sender_ssrc, media_ssrc, _) = feedback(body)?;
                Some(Packet::Pli { sender_ssrc, media_ssrc })
            }
            (packet_type::PAYLOAD_FEEDBACK, format::FIR) => Fir::parse(body).map(Packet::Fir),
            (packet_type::PAYLOAD_FEEDBACK, format::APPLICATION) if remb::is_remb(body) => {
                Remb::parse(body).map(Packet::Remb)
            }
            (packet_type::EXTENDED_REPORT, _) => {
                ExtendedReport::parse(body).map(Packet::ExtendedReport)
            }
            _ => Some(Packet::Other { packet_type, count, body }),
        }
    }
}

/// The packets of a datagram, compound or reduced-size (RFC 5506). Ends after the first malformed
/// one: what follows it cannot be trusted to begin where it seems to.
pub fn packets(compound: &[u8]) -> Packets<'_> {
    Packets { rest: compound }
}

/// See [`packets`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, RtcpError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let result = Raw::split(self.rest).and_then(|(raw, rest)| {
            self.rest = rest;
            Packet::parse(&raw).ok_or(RtcpError::Malformed(raw.packet_type))
        });
        if result.is_err() {
            self.rest = &[];
        }
        Some(result)
    }
}

/// A packet of which only the header is understood.
struct Raw<'a> {
    packet_type: u8,
    count: u8,
    /// What follows the header, without padding.
    body: &'a [u8],
}

impl<'a> Raw<'a> {
    /// Takes one packet off the front of a datagram. Padding is accepted on any packet and of any
    /// length: browsers pad transport feedback in the midst of a compound and to single bytes.
    fn split(datagram: &'a [u8]) -> Result<(Self, &'a [u8]), RtcpError> {
        let (&[first, packet_type, l0, l1], rest) =
            datagram.split_first_chunk::<HEADER_LEN>().ok_or(RtcpError::Truncated)?;
        let version = first >> 6;
        if version != VERSION {
            return Err(RtcpError::Version(version));
        }
        let body_len = usize::from(u16::from_be_bytes([l0, l1])) * 4;
        let (mut body, rest) = rest.split_at_checked(body_len).ok_or(RtcpError::Truncated)?;
        if first & 0x20 != 0 {
            let padding_len = body.last().copied().map_or(0, usize::from);
            let kept = body.len().checked_sub(padding_len).filter(|_| padding_len > 0);
            body = kept.and_then(|kept| body.get(..kept)).ok_or(RtcpError::Padding)?;
        }
        Ok((Raw { packet_type, count: first & 0x1f, body }, rest))
    }
}

/// The two SSRCs that feedback begins with (RFC 4585 section 6.1), and what follows them.
fn feedback(body: &[u8]) -> Option<(u32, u32, &[u8])> {
    let (sender_ssrc, rest) = split_u32(body)?;
    let (media_ssrc, rest) = split_u32(rest)?;
    Some((sender_ssrc, media_ssrc, rest))
}

/// Takes a big-endian number off the front.
fn split_u32(bytes: &[u8]) -> Option<(u32, &[u8])> {
    bytes.split_first_chunk().map(|(&number, rest)| (u32::from_be_bytes(number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::{Random, hex};
    use crate::time::NtpTime;

    #[test]
    fn compound_and_reduced_size() {
        let compound = hex("80 c9 0001 00000001  81 ce 0002 00000001 00000002");
        let all: Vec<_> = packets(&compound).collect();
        assert_eq!(all.len(), 2);
        assert!(matches!(all[0], Ok(Packet::ReceiverReport(report)) if report.ssrc == 1));
        let pli = Packet::Pli { sender_ssrc: 1, media_ssrc: 2 };
        assert_eq!(all[1], Ok(pli));
        assert_eq!(packets(&compound[8..]).collect::<Vec<_>>(), [Ok(pli)]);
        assert_eq!(packets(&[]).next(), None);
    }

    #[test]
    fn unknown_packets_are_passed_on() {
        for (dump, packet_type, count, body) in [
            ("80 d0 0001 00000001", 208, 0, "00000001"),
            ("84 cc 0000", 204, 4, ""),
            ("8f ce 0003 00000001 00000002 41424344", 206, 15, "00000001 00000002 41424344"),
            ("82 ce 0002 00000001 00000002", 206, 2, "00000001 00000002"),
            ("a5 cd 0001 00000004", 205, 5, ""),
        ] {
            let body = hex(body);
            let other = Packet::Other { packet_type, count, body: &body };
            assert_eq!(packets(&hex(dump)).collect::<Vec<_>>(), [Ok(other)], "{dump}");
        }
    }

    #[test]
    fn reading_stops_at_the_first_malformed_packet() {
        for (dump, error) in [
            ("80 c9 00", RtcpError::Truncated),
            ("80 c9 0002 00000001", RtcpError::Truncated),
            ("40 c9 0001 00000001", RtcpError::Version(1)),
            ("a0 c9 0000", RtcpError::Padding),
            ("a0 c9 0001 00000000", RtcpError::Padding),
            ("a0 c9 0001 00000005", RtcpError::Padding),
            ("81 c9 0001 00000001", RtcpError::Malformed(201)),
            ("80 c8 0005 00000001 00000002 00000003 00000004 00000005", RtcpError::Malformed(200)),
            ("81 ce 0001 00000001", RtcpError::Malformed(206)),
        ] {
            let mut datagram = hex("80 c9 0001 00000001");
            datagram.extend(hex(dump));
            let all: Vec<_> = packets(&datagram).collect();
            assert_eq!(all.len(), 2, "{dump}");
            assert_eq!(all[1], Err(error), "{dump}");
        }
    }

    #[test]
    fn padding_of_single_bytes_in_the_midst_of_a_compound() {
        let datagram = hex("a0 c9 0002 00000001 00000002  80 c9 0001 00000003");
        let all: Vec<_> = packets(&datagram).collect();
        assert!(matches!(all[0], Ok(Packet::ReceiverReport(report)) if report.ssrc == 1));
        assert!(matches!(all[1], Ok(Packet::ReceiverReport(report)) if report.ssrc == 3));
    }

    /// Walks everything that a packet offers; how much there was.
    fn walk(packet: &Packet<'_>) -> usize {
        match packet {
            Packet::SenderReport(report) => report.reports().count(),
            Packet::ReceiverReport(report) => report.reports().count(),
            Packet::Sdes(sdes) => {
                sdes.chunks().map(|c| c.items().count() + c.cname().map_or(0, <[u8]>::len)).sum()
            }
            Packet::Bye(bye) => bye.ssrcs().count() + bye.reason.map_or(0, <[u8]>::len),
            Packet::Nack(nack) => nack.sequences().count(),
            Packet::Fir(fir) => fir.entries().count(),
            Packet::Remb(remb) => remb.ssrcs().count(),
            Packet::TransportCc(feedback) => {
                let count = feedback.packets().count();
                assert_eq!(count, usize::from(feedback.status_count));
                count
            }
            Packet::CongestionFeedback(feedback) => feedback.packets().count(),
            Packet::ExtendedReport(report) => report
                .blocks()
                .map(|block| match block {
                    ExtendedBlock::ReceiverReferenceTime(_) => 1,
                    ExtendedBlock::Dlrr(dlrr) => dlrr.items().count(),
                })
                .sum(),
            Packet::Pli { .. } => 0,
            Packet::Other { body, .. } => body.len(),
        }
    }

    #[test]
    fn garbage_never_panics_and_never_yields_more_than_it_can() {
        let mut out = [0; 1500];
        let mut writer = Writer::new(&mut out);
        let info = SenderInfo::default();
        writer.sender_report(1, &info, &[ReportBlock::default(); 2]).unwrap();
        writer.sdes_cname(1, "someone@somewhere").unwrap();
        writer.receiver_report(2, &[ReportBlock::default()]).unwrap();
        writer.nack(1, 2, [1u16, 2, 9, 40, 41].into_iter()).unwrap();
        writer.pli(1, 2).unwrap();
        writer.fir(1, 2, 3).unwrap();
        writer.remb(1, 123_456, &[2, 3]).unwrap();
        let arrivals = [Some(4), None, None, Some(-5), Some(300), Some(1), None, Some(7)];
        writer.transport_cc(1, 2, 3, 4, 5, &arrivals).unwrap();
        writer.bye(1).unwrap();
        writer.receiver_reference_time(1, NtpTime(2)).unwrap();
        let item = DelaySinceLastRr { ssrc: 1, last_rr: 2, delay_since_last_rr: 3 };
        writer.dlrr(1, &[item; 2]).unwrap();
        let len = writer.finish();
        let compound = &out[..len];
        assert_eq!(packets(compound).filter(Result::is_ok).count(), 11);
        let mut starts = vec![0];
        let mut rest = compound;
        while let Ok((_, next)) = Raw::split(rest) {
            starts.push(len - next.len());
            rest = next;
        }
        let mut random = Random(5);
        for _ in 0..200_000 {
            let from = starts[random.below(starts.len() - 1)];
            let mutant = random.mutate(&compound[from..]);
            let mut total = 0;
            for packet in packets(&mutant) {
                total += packet.map_or(0, |packet| walk(&packet));
            }
            assert!(total <= mutant.len() * 5_000, "{total} from {} bytes", mutant.len());
        }
    }
}
