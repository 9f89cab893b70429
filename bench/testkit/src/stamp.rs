//! What a test packet's payload says of itself, so that whoever receives it can judge it alone.

/// Where a packet comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// The meeting.
    pub room: u32,
    /// The producing participant.
    pub peer: u32,
    /// The track, unique among all.
    pub track: u32,
    /// Number of the frame within its encoding, from 0.
    pub frame: u32,
    /// Number of the packet within its encoding, from 0.
    pub packet: u32,
    /// When it was captured, milliseconds.
    pub captured_ms: u32,
    /// Which encoding, from the lowest.
    pub layer: u8,
    /// Whether it is of a key frame.
    pub key: bool,
    /// Which packet of the frame.
    pub part: u8,
    /// How many packets the frame has.
    pub parts: u8,
}

/// Bytes of a stamp.
pub const LEN: usize = 32;

const MAGIC: u32 = 0x6f63_7374;

impl Stamp {
    /// As bytes.
    pub fn write(&self) -> [u8; LEN] {
        let numbers = [
            MAGIC,
            self.room,
            self.peer,
            self.track,
            self.frame,
            self.packet,
            self.captured_ms,
            u32::from_be_bytes([self.layer, self.key.into(), self.part, self.parts]),
        ];
        let mut bytes = [0; LEN];
        for (out, number) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *out = number.to_be_bytes();
        }
        bytes
    }

    /// Reads what [`Stamp::write`] wrote at the beginning of `bytes`.
    pub fn read(bytes: &[u8]) -> Option<Stamp> {
        let mut words = bytes.get(..LEN)?.as_chunks::<4>().0.iter().map(|&w| u32::from_be_bytes(w));
        let mut word = || words.next().unwrap_or_default();
        if word() != MAGIC {
            return None;
        }
        let (room, peer, track, frame) = (word(), word(), word(), word());
        let (packet, captured_ms) = (word(), word());
        let [layer, key, part, parts] = word().to_be_bytes();
        let key = key == 1;
        Some(Stamp { room, peer, track, frame, packet, captured_ms, layer, key, part, parts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let stamp = Stamp {
            room: 1,
            peer: 2,
            track: 3,
            frame: 4,
            packet: 5,
            captured_ms: 6,
            layer: 7,
            key: true,
            part: 8,
            parts: 9,
        };
        assert_eq!(Stamp::read(&stamp.write()), Some(stamp));
        assert_eq!(Stamp::read(&[0; LEN]), None);
    }
}
