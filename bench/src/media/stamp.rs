//! What each payload carries under the encryption: who sent it, which of its packets it is, when it
//! was sent, and a filler that is known in advance. A receiver can tell every fault from it.
//!
//! ```text
//! sender (32) | stream (8) 0 (8) length (16) | index (32) | run (32) | sent (64) | checksum (32)
//! filler …
//! ```
#![forbid(unsafe_code)]

/// Bytes of a stamp.
pub const STAMP_LEN: usize = 28;

/// Bytes that the checksum covers.
const COVERED_LEN: usize = 24;

/// Longest stamped content: a packet of 1200 bytes has less.
pub const MAX_CONTENT_LEN: usize = 1200;

/// Fillers begin at different places, so that parts of two packets in one are seen.
const FILLER_PHASES: usize = 64;

static FILLER: [u8; MAX_CONTENT_LEN + FILLER_PHASES] = filler();

const fn filler() -> [u8; MAX_CONTENT_LEN + FILLER_PHASES] {
    let mut bytes = [0; MAX_CONTENT_LEN + FILLER_PHASES];
    let mut state: u32 = 0x9e37_79b9;
    let mut at = 0;
    while at < bytes.len() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        bytes[at] = (state >> 11) as u8;
        at += 1;
    }
    bytes
}

/// What a packet says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The participant that sent it.
    pub sender: u32,
    /// Which of its streams: 0 the voice, 1 to 3 the layers of the camera.
    pub stream: u8,
    /// The how-manieth packet of this stream, from 0.
    pub index: u32,
    /// Tells runs apart: packets of an earlier run are not ours.
    pub run: u32,
    /// When it was sent, nanoseconds on the generator's clock.
    pub sent_ns: u64,
}

impl Stamp {
    /// Fills `out` with the stamp and its filler; false if `out` cannot be a content.
    pub fn write(&self, out: &mut [u8]) -> bool {
        let len = out.len();
        if !(STAMP_LEN..=MAX_CONTENT_LEN).contains(&len) {
            return false;
        }
        let Some((head, rest)) = out.split_first_chunk_mut::<COVERED_LEN>() else { return false };
        let Some((sum, rest)) = rest.split_first_chunk_mut() else { return false };
        head[..4].copy_from_slice(&self.sender.to_be_bytes());
        head[4] = self.stream;
        head[5] = 0;
        head[6..8].copy_from_slice(&(len as u16).to_be_bytes());
        head[8..12].copy_from_slice(&self.index.to_be_bytes());
        head[12..16].copy_from_slice(&self.run.to_be_bytes());
        head[16..24].copy_from_slice(&self.sent_ns.to_be_bytes());
        *sum = checksum(head).to_be_bytes();
        rest.copy_from_slice(filler_of(self.index, rest.len()));
        true
    }

    /// Reads a content; `None` if a single bit of it is not what was written.
    pub fn read(content: &[u8]) -> Option<Stamp> {
        let (head, rest) = content.split_first_chunk::<COVERED_LEN>()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let word = |at: usize| head.get(at..at + 4)?.try_into().ok().map(u32::from_be_bytes);
        let (sender, index, run) = (word(0)?, word(8)?, word(12)?);
        let len = usize::from(u16::from_be_bytes([head[6], head[7]]));
        let is_whole = len == content.len()
            && len <= MAX_CONTENT_LEN
            && head[5] == 0
            && u32::from_be_bytes(*sum) == checksum(head)
            && rest == filler_of(index, rest.len());
        let sent_ns = u64::from(word(16)?) << 32 | u64::from(word(20)?);
        is_whole.then_some(Stamp { sender, stream: head[4], index, run, sent_ns })
    }
}

fn filler_of(index: u32, len: usize) -> &'static [u8] {
    let phase = index as usize % FILLER_PHASES;
    FILLER.get(phase..phase + len).unwrap_or_default()
}

/// Mixes the words so that each bit of each of them changes half of the sum.
fn checksum(bytes: &[u8; COVERED_LEN]) -> u32 {
    let (words, _) = bytes.as_chunks::<8>();
    let mix = |sum: u64, word: &[u8; 8]| {
        let mixed = (sum ^ u64::from_le_bytes(*word)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    };
    (words.iter().fold(0x811c_9dc5, mix) >> 16) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp =
        Stamp { sender: 7, stream: 2, index: 0x1_0001, run: 99, sent_ns: 0x1234_5678_9abc_def0 };

    #[test]
    fn a_stamp_is_read_as_it_was_written() {
        for len in [STAMP_LEN, STAMP_LEN + 1, 500, MAX_CONTENT_LEN] {
            let mut content = vec![0; len];
            assert!(STAMP.write(&mut content));
            assert_eq!(Stamp::read(&content), Some(STAMP), "{len}");
        }
        assert!(!STAMP.write(&mut [0; STAMP_LEN - 1]));
        assert!(!STAMP.write(&mut [0; MAX_CONTENT_LEN + 1]));
    }

    #[test]
    fn any_changed_byte_and_any_other_length_is_seen() {
        let mut content = vec![0; 200];
        assert!(STAMP.write(&mut content));
        for at in 0..content.len() {
            let mut changed = content.clone();
            changed[at] ^= 0x10;
            assert_eq!(Stamp::read(&changed), None, "byte {at}");
        }
        for len in 0..content.len() {
            assert_eq!(Stamp::read(&content[..len]), None, "{len}");
        }
        content.push(0);
        assert_eq!(Stamp::read(&content), None);
    }
}
