//! How long packets may be: the one ceiling, and what follows from it.
#![forbid(unsafe_code)]

/// Bytes of an RTP packet as it came, header and payload, decrypted: more than an Ethernet frame
/// holds. What is longer is dropped where it comes in, so that whatever is forwarded also fits the
/// history and the rings between cores.
pub const RTP_PACKET_MAX: usize = 1600;

/// Bytes of the longest SRTP tag (RFC 7714 section 12).
const SRTP_TAG_MAX: usize = 16;

/// Bytes of a datagram of SRTP at most.
pub const SRTP_DATAGRAM_MAX: usize = RTP_PACKET_MAX + SRTP_TAG_MAX;

/// Bytes by which a packet may grow on its way out: the consumer's MID, send time and
/// transport-wide number in place of the producer's, an original sequence number (RFC 4588),
/// padding, the tag.
const FORWARDING_GROWTH: usize = 100;

/// Bytes of one outgoing packet at most, tag included.
pub const OUTGOING_PACKET_MAX: usize = RTP_PACKET_MAX + FORWARDING_GROWTH;

/// Bytes of the slot in which a packet goes to another core. Behind the packet is room for padding:
/// what was its tag.
pub const RING_SLOT_BYTES: usize = SRTP_DATAGRAM_MAX;
