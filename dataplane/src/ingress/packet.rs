//! What ingress knows of an RTP packet when it hands it on: everything a consumer needs, so that
//! nothing is parsed twice, not even on another core.
#![forbid(unsafe_code)]

use std::ops::Range;

use opencall_wire::rtp::extension::ExtensionSpans;
use opencall_wire::rtp::header::RtpHeader;
use opencall_wire::rtp::payload::PayloadInfo;
use opencall_wire::seq::ExtendedSeq;

use crate::ingress::source::SourceId;

/// One media packet in plain text, its bytes elsewhere. A retransmission (RFC 4588) has become its
/// original here.
#[derive(Debug, Clone, Copy)]
pub struct MediaPacket {
    /// The original header, with the router's payload type.
    pub header: RtpHeader,
    /// Where the header extensions lie in the packet's bytes.
    pub extensions: ExtensionSpans,
    /// Where the payload begins in the packet's bytes, without padding.
    pub payload_start: u16,
    /// Where it ends.
    pub payload_end: u16,
    /// What the payload says of itself.
    pub info: PayloadInfo,
    /// Sequence number, unwrapped; rising over the sources of an encoding too.
    pub sequence: ExtendedSeq,
    /// Index of the encoding.
    pub encoding: u8,
    /// The source of the encoding that it is of.
    pub source: SourceId,
}

impl MediaPacket {
    /// Range of the payload in the packet's bytes.
    pub fn payload(&self) -> Range<usize> {
        usize::from(self.payload_start)..usize::from(self.payload_end)
    }
}
