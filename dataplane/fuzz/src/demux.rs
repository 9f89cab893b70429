//! Input: one datagram.
#![forbid(unsafe_code)]

use opencall_dataplane::demux::{PacketClass, classify};
use opencall_dataplane::drop_reason::DropReason;
use opencall_wire::rtp::RtpHeader;

/// What a class promises to the parser behind it.
pub fn run(data: &[u8]) {
    match classify(data) {
        Ok(PacketClass::Stun) => assert!(data.len() >= 20 && data[0] < 4),
        Ok(PacketClass::Dtls) => assert!(data.len() >= 13 && (20..64).contains(&data[0])),
        Ok(PacketClass::Rtp) => {
            assert!(data.len() >= 12 && data[0] >> 6 == 2);
            if data[0] & 0x1f == 0 {
                assert!(RtpHeader::parse(data).is_some(), "nothing but the fixed header is there");
            }
        }
        Ok(PacketClass::Rtcp) => {
            assert!(data.len() >= 8 && data[0] >> 6 == 2 && data[1] >> 5 == 0b110);
        }
        Err(DropReason::TooShort) => assert!(data.len() < 20),
        Err(reason) => assert_eq!(reason, DropReason::UnknownClass),
    }
}
