//! DCEP, by which a client opens a data channel on a stream without signaling (RFC 8832).
//!
//! ```text
//! OPEN  3 (8) | channel type (8) | priority (16) | reliability parameter (32)
//!       | length of label (16) | length of protocol (16) | label … | protocol …
//! ACK   2 (8)
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc8832#section-5>
#![forbid(unsafe_code)]

/// SCTP's payload protocol identifier of these messages (RFC 8832 section 8.1).
pub const DCEP_PPID: u32 = 50;

/// A whole `DATA_CHANNEL_ACK`.
pub const ACK: [u8; 1] = [message_type::ACK];

/// Bytes of an OPEN before its label.
const OPEN_HEADER_BYTES: usize = 12;

mod message_type {
    pub const ACK: u8 = 2;
    pub const OPEN: u8 = 3;
}

/// Of the channel type: messages come in no order.
const UNORDERED: u8 = 0x80;

/// The order of the channel types (RFC 8832 section 8.2.2), without [`UNORDERED`].
mod channel_type {
    pub const RELIABLE: u8 = 0;
    pub const RETRANSMITS: u8 = 1;
    pub const LIFETIME: u8 = 2;
}

/// A message of DCEP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dcep<'a> {
    /// The sender of this has opened a channel on the stream it came on.
    Open(Open<'a>),
    /// The channel is taken.
    Ack,
}

/// What a channel is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open<'a> {
    /// Whether messages come in the order in which they were sent.
    pub ordered: bool,
    /// When a message is given up.
    pub effort: Effort,
    /// RFC 8831 section 6.4: 256 is normal.
    pub priority: u16,
    /// The channel's name.
    pub label: &'a str,
    /// Its sub-protocol.
    pub protocol: &'a str,
}

/// When a message is given up (RFC 3758, RFC 7496).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Never.
    Reliable,
    /// After so many retransmissions.
    Retransmits(u32),
    /// After so many milliseconds.
    LifetimeMs(u32),
}

impl<'a> Dcep<'a> {
    /// Reads a message; nothing if it is none, or its texts are not UTF-8. More behind it than it
    /// says is an error, for lengths that lie are.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        match *bytes.first()? {
            message_type::ACK => (bytes.len() == ACK.len()).then_some(Dcep::Ack),
            message_type::OPEN => Open::parse(bytes).map(Dcep::Open),
            _ => None,
        }
    }
}

impl<'a> Open<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (header, texts) = bytes.split_first_chunk::<OPEN_HEADER_BYTES>()?;
        let [_, kind, p0, p1, r0, r1, r2, r3, l0, l1, n0, n1] = *header;
        let limit = u32::from_be_bytes([r0, r1, r2, r3]);
        let effort = match kind & !UNORDERED {
            channel_type::RELIABLE => Effort::Reliable,
            channel_type::RETRANSMITS => Effort::Retransmits(limit),
            channel_type::LIFETIME => Effort::LifetimeMs(limit),
            _ => return None,
        };
        let label_len = usize::from(u16::from_be_bytes([l0, l1]));
        let protocol_len = usize::from(u16::from_be_bytes([n0, n1]));
        let (label, protocol) = texts.split_at_checked(label_len)?;
        if protocol.len() != protocol_len {
            return None;
        }
        Some(Open {
            ordered: kind & UNORDERED == 0,
            effort,
            priority: u16::from_be_bytes([p0, p1]),
            label: str::from_utf8(label).ok()?,
            protocol: str::from_utf8(protocol).ok()?,
        })
    }

    /// The message, as it is sent. Nothing if a text is longer than its length can say.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let (kind, limit) = match self.effort {
            Effort::Reliable => (channel_type::RELIABLE, 0),
            Effort::Retransmits(times) => (channel_type::RETRANSMITS, times),
            Effort::LifetimeMs(ms) => (channel_type::LIFETIME, ms),
        };
        let order = if self.ordered { 0 } else { UNORDERED };
        let mut bytes = vec![message_type::OPEN, kind | order];
        bytes.extend(self.priority.to_be_bytes());
        bytes.extend(limit.to_be_bytes());
        bytes.extend(u16::try_from(self.label.len()).ok()?.to_be_bytes());
        bytes.extend(u16::try_from(self.protocol.len()).ok()?.to_be_bytes());
        bytes.extend(self.label.bytes().chain(self.protocol.bytes()));
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::hex;

    const CHAT: Open<'static> = Open {
        ordered: true,
        effort: Effort::Reliable,
        priority: 256,
        label: "chat",
        protocol: "p1",
    };

    #[test]
    fn channels_of_all_kinds_are_read_and_written() {
        let lossy = Open { ordered: false, effort: Effort::Retransmits(3), ..CHAT };
        let brief = Open { ordered: true, effort: Effort::LifetimeMs(100), ..CHAT };
        let nameless = Open { ordered: false, label: "", protocol: "", ..CHAT };
        for (dump, open) in [
            // As Chromium opens them.
            ("03 00 0100 00000000 0004 0002 63686174 7031", CHAT),
            ("03 81 0100 00000003 0004 0002 63686174 7031", lossy),
            ("03 02 0100 00000064 0004 0002 63686174 7031", brief),
            ("03 80 0100 00000000 0000 0000", nameless),
        ] {
            assert_eq!(Dcep::parse(&hex(dump)), Some(Dcep::Open(open)), "{dump}");
            assert_eq!(open.to_bytes(), Some(hex(dump)));
        }
        assert_eq!(Dcep::parse(&ACK), Some(Dcep::Ack));
    }

    #[test]
    fn what_is_none_is_not_read() {
        for dump in [
            "",
            "02 00",
            "01",
            "03",
            "03 00 0100 00000000 0004 0002 63686174 70",
            "03 00 0100 00000000 0004 0002 63686174 703100",
            "03 03 0100 00000000 0000 0000",
            "03 7f 0100 00000000 0000 0000",
            "03 00 0100 00000000 ffff 0000",
            // Not UTF-8.
            "03 00 0100 00000000 0001 0000 ff",
        ] {
            assert_eq!(Dcep::parse(&hex(dump)), None, "{dump}");
        }
        let long = "x".repeat(65_536);
        assert_eq!(Open { label: &long, ..CHAT }.to_bytes(), None);
    }
}
