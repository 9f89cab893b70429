//! The 48-bit packet index behind a 16-bit sequence number (RFC 3711 section 3.3.1, appendix A).
#![forbid(unsafe_code)]

use super::MAX_RTP_INDEX;

/// Half the sequence number space: what lies further away is in the next or previous round.
const HALF: u16 = 0x8000;

/// The index that `sequence` most likely stands for, given the highest one authenticated so far.
/// `None` when it would lie before the first or beyond the last index.
///
/// Worked trace: highest = 1·2^16 + 3, so s_l = 3 and ROC = 1.
/// * 4 → 1·2^16 + 4, the usual next packet
/// * 65 534 lies more than half a round above 3, so it is late: 0·2^16 + 65 534
/// * 32 771 lies exactly half a round above 3, and the RFC keeps it in this round
pub(super) fn estimate(highest: u64, sequence: u16) -> Option<u64> {
    let last = (highest & 0xffff) as u16;
    let roc = highest >> 16;
    let roc = if last < HALF {
        if sequence.saturating_sub(last) > HALF { roc.checked_sub(1)? } else { roc }
    } else if last - HALF > sequence {
        roc + 1
    } else {
        roc
    };
    let index = roc << 16 | u64::from(sequence);
    (index <= MAX_RTP_INDEX).then_some(index)
}

/// The indexes that the first packet received of an SSRC may have, the likelier one first.
///
/// RFC 3711 recommends that senders begin in the lower half of the numbers, so that the first
/// packet received is in round zero even if some before it were lost. If a sender begins at 65 534
/// and two packets are lost, the first one received is number 0 of round one. A number in the upper
/// half would mean that half a round was lost, which the estimate does not survive either.
pub(super) fn of_first(sequence: u16) -> (u64, Option<u64>) {
    let first = u64::from(sequence);
    (first, (sequence < HALF).then_some(1 << 16 | first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_packet_of_a_low_number_may_come_after_a_wrap() {
        assert_eq!(of_first(0), (0, Some(0x1_0000)));
        assert_eq!(of_first(0x7fff), (0x7fff, Some(0x1_7fff)));
        assert_eq!(of_first(0x8000), (0x8000, None));
        assert_eq!(of_first(0xffff), (0xffff, None));
    }

    #[test]
    fn estimates_as_in_appendix_a() {
        // (ROC, s_l, SEQ) → (ROC, SEQ), or nothing.
        let table: &[((u64, u16), u16, Option<u64>)] = &[
            ((0, 0), 0, Some(0)),
            ((0, 0), 1, Some(0)),
            ((0, 100), 99, Some(0)),
            ((0, 0x7fff), 0xffff, Some(0)), // exactly half a round ahead
            ((0, 0x7ffe), 0xffff, None),    // more: before the first packet
            ((0, 3), 0xfffe, None),         // late, before the first packet
            ((1, 3), 0xfffe, Some(0)),      // late, round before
            ((1, 0x7fff), 0xffff, Some(1)),
            ((1, 0x7ffe), 0xffff, Some(0)),
            ((0, 0x8000), 0, Some(0)), // exactly half a round behind
            ((0, 0x8001), 0, Some(1)), // more: wrapped
            ((0, 0xffff), 0, Some(1)), // the boundary 2^16
            ((0, 0xffff), 0x7ffe, Some(1)),
            ((0, 0xffff), 0x7fff, Some(0)),
            ((7, 0xfff0), 5, Some(8)),
            ((8, 5), 0xfff0, Some(7)),
            ((0xffff_ffff, 0xffff), 0xfffe, Some(0xffff_ffff)),
            ((0xffff_ffff, 0xffff), 0, None), // past the last index
        ];
        for &((roc, last), sequence, expected) in table {
            let index = estimate(roc << 16 | u64::from(last), sequence);
            let expected = expected.map(|roc| roc << 16 | u64::from(sequence));
            assert_eq!(index, expected, "ROC {roc} s_l {last:#x} SEQ {sequence:#x}");
        }
    }

    #[test]
    fn the_estimate_is_the_nearest_index() {
        for highest in (0x2_0000_u64 - 40_000..0x2_0000 + 70_000).step_by(997) {
            for sequence in (0..=u16::MAX).step_by(13) {
                let index = estimate(highest, sequence).unwrap();
                assert!(index.abs_diff(highest) <= 0x8000, "{highest:#x} {sequence:#x}");
                assert_eq!(index as u16, sequence);
            }
        }
    }
}
