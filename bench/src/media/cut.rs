//! How a frame is cut into packets: in about equal parts, as browsers do.
//!
//! libwebrtc takes as few packets as hold the frame and gives each the same share; what does not
//! divide evenly goes to the last ones, a byte each. To a server this is not the same as full
//! packets and a short rest: lengths rise within a frame, and of a train only the last segment may
//! differ, by being shorter.
#![forbid(unsafe_code)]

/// A browser's longest RTP packet before it is encrypted.
const MAX_PACKET_LEN: usize = 1200;

/// The fixed header and one extension, the transport-wide sequence number.
const HEADER_LEN: usize = 20;

/// The original sequence number in front of a payload that is sent again.
const RTX_LEN: usize = 2;

/// The longest payload.
pub const MAX_PAYLOAD_LEN: usize = MAX_PACKET_LEN - HEADER_LEN - RTX_LEN;

/// The lengths of the payloads of a frame, in order; an empty frame is a packet all the same.
pub fn payload_lens(frame_len: usize) -> impl ExactSizeIterator<Item = usize> {
    let frame_len = frame_len.max(1);
    let count = frame_len.div_ceil(MAX_PAYLOAD_LEN);
    let (share, rest) = (frame_len / count, frame_len % count);
    (0..count).map(move |n| share + usize::from(n + rest >= count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_cut_in_equal_parts_and_the_last_ones_take_what_is_left() {
        let table: [(usize, &[usize]); 9] = [
            (0, &[1]),
            (1, &[1]),
            (625, &[625]),
            (1178, &[1178]),
            (1179, &[589, 590]),
            (2356, &[1178, 1178]),
            (2357, &[785, 786, 786]),
            (6250, &[1041, 1041, 1042, 1042, 1042, 1042]),
            (6251, &[1041, 1042, 1042, 1042, 1042, 1042]),
        ];
        for (frame_len, expected) in table {
            assert_eq!(payload_lens(frame_len).collect::<Vec<_>>(), expected, "{frame_len}");
        }
    }

    #[test]
    fn nothing_is_lost_no_packet_is_too_long_and_none_could_be_spared() {
        for frame_len in 1..60_000 {
            let lens: Vec<usize> = payload_lens(frame_len).collect();
            let (first, last) = (lens[0], lens[lens.len() - 1]);
            assert_eq!(lens.iter().sum::<usize>(), frame_len);
            assert!(lens.is_sorted() && last - first <= 1, "{frame_len}: {lens:?}");
            assert!(last <= MAX_PAYLOAD_LEN && (lens.len() - 1) * MAX_PAYLOAD_LEN < frame_len);
        }
    }
}
