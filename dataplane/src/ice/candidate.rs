//! Candidate priorities (RFC 8445 section 5.1.2).
#![forbid(unsafe_code)]

/// Type preference of host candidates: the highest (RFC 8445 section 5.1.2.2).
const HOST_TYPE_PREFERENCE: u32 = 126;

/// Priority of a host candidate (RFC 8445 section 5.1.2.1).
///
/// `local_preference` ranks our own addresses, 65535 for the best or only one; `component` is 1 for
/// RTP, and with RTCP multiplexed (RFC 5761) there is no other.
pub const fn host_candidate_priority(local_preference: u16, component: u8) -> u32 {
    (HOST_TYPE_PREFERENCE << 24) | ((local_preference as u32) << 8) | (256 - component as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_the_formula_of_the_rfc_says() {
        // 2^24 · 126 + 2^8 · 65535 + (256 − 1): what every single-homed WebRTC host offers.
        assert_eq!(host_candidate_priority(65_535, 1), 2_130_706_431);
        assert_eq!(host_candidate_priority(0, 1), 126 * (1 << 24) + 255);
        assert!(host_candidate_priority(10, 1) > host_candidate_priority(9, 1));
        assert!(host_candidate_priority(10, 1) > host_candidate_priority(10, 2));
        // RFC 8445: between 1 and 2^31 − 1.
        assert!(host_candidate_priority(u16::MAX, 1) < 1 << 31);
    }
}
