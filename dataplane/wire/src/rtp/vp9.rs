//! The VP9 payload descriptor (RFC 9628 section 4.2).
//!
//! ```text
//!       0 1 2 3 4 5 6 7
//!      |I|P|L|F|B|E|V|Z|
//! I:   |M| picture id  |  15 bits if M
//! L:   | TID |U| SID |D|
//! L,!F:|   TL0PICIDX   |
//! P,F: |   P_DIFF    |N|  up to three times
//! V:   | N_S |Y|G|-|-|-|  the scalability structure: sizes if Y, a picture group if G
//! ```
//!
//! <https://www.rfc-editor.org/rfc/rfc9628#section-4.2>
#![forbid(unsafe_code)]

use super::picture_ids::{PictureId, PictureIds};

/// Most pictures that one may refer to (P_DIFF).
const REFERENCES_MAX: usize = 3;

/// The descriptor at the head of a VP9 payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vp9Descriptor {
    /// Length of the descriptor, bytes.
    pub len: u16,
    /// The frame refers to earlier pictures.
    pub inter_predicted: bool,
    /// References are told one by one, not by a picture group.
    pub flexible: bool,
    /// First packet of a layer frame.
    pub starts_frame: bool,
    /// Last packet of a layer frame.
    pub ends_frame: bool,
    /// No frame of a higher spatial layer of this picture refers to this frame.
    pub not_for_upper_layers: bool,
    /// Picture id and TL0PICIDX.
    pub ids: PictureIds,
    /// Temporal layer; 0 where none is given.
    pub temporal: u8,
    /// No later frame of this layer refers to what was before: a receiver may switch up here.
    pub switching_up: bool,
    /// Spatial layer; 0 where none is given.
    pub spatial: u8,
    /// The frame refers to the next lower spatial layer of its picture.
    pub inter_layer_predicted: bool,
    /// How far back the oldest picture lies that the frame refers to, in picture ids; told in
    /// flexible mode.
    pub oldest_reference: Option<u8>,
    /// Bit n: the frame refers to the picture n + 1 back, the highest bit to one further; told in
    /// flexible mode.
    pub references: u32,
    /// How many spatial layers there are, where the packet tells.
    pub spatial_layers: Option<u8>,
}

impl Vp9Descriptor {
    /// Reads the descriptor; `None` if it is longer than the payload.
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let mut reader = Reader { payload, at: 0 };
        let first = reader.byte()?;
        let mut descriptor = Vp9Descriptor {
            inter_predicted: first & 0x40 != 0,
            flexible: first & 0x10 != 0,
            starts_frame: first & 0x08 != 0,
            ends_frame: first & 0x04 != 0,
            not_for_upper_layers: first & 0x01 != 0,
            ids: PictureIds { by_distance: true, ..PictureIds::default() },
            ..Vp9Descriptor::default()
        };
        if first & 0x80 != 0 {
            descriptor.ids.picture_id_at = u8::try_from(reader.at).ok()?;
            descriptor.ids.picture_id = Some(reader.picture_id()?);
        }
        if first & 0x20 != 0 {
            descriptor.parse_layers(&mut reader)?;
        }
        if descriptor.flexible && descriptor.inter_predicted {
            let (oldest, references) = reader.references()?;
            descriptor.oldest_reference = Some(oldest);
            descriptor.references = references;
        }
        if first & 0x02 != 0 {
            descriptor.spatial_layers = Some(reader.scalability_structure()?);
        }
        descriptor.len = u16::try_from(reader.at).ok()?;
        Some(descriptor)
    }

    /// The packet begins a key picture: the lowest spatial layer refers to nothing.
    pub const fn key_frame(&self) -> bool {
        self.starts_frame && !self.inter_predicted && self.spatial == 0
    }

    fn parse_layers(&mut self, reader: &mut Reader<'_>) -> Option<()> {
        let layers = reader.byte()?;
        self.temporal = layers >> 5;
        self.switching_up = layers & 0x10 != 0;
        self.spatial = layers >> 1 & 0x07;
        self.inter_layer_predicted = layers & 0x01 != 0;
        if !self.flexible {
            self.ids.tl0_pic_idx_at = u8::try_from(reader.at).ok()?;
            self.ids.tl0_pic_idx = Some(reader.byte()?);
        }
        Some(())
    }
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let &byte = self.payload.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn skip(&mut self, len: usize) -> Option<()> {
        self.at += len;
        (self.at <= self.payload.len()).then_some(())
    }

    fn picture_id(&mut self) -> Option<PictureId> {
        let first = self.byte()?;
        let wide = first & 0x80 != 0;
        let high = u16::from(first & 0x7f);
        let value = if wide { high << 8 | u16::from(self.byte()?) } else { high };
        Some(PictureId { value, wide })
    }

    /// How far back the oldest reference lies, and all of them.
    fn references(&mut self) -> Option<(u8, u32)> {
        let (mut oldest, mut references) = (0, 0);
        for _ in 0..REFERENCES_MAX {
            let reference = self.byte()?;
            oldest = oldest.max(reference >> 1);
            references |= super::layers::reference((reference >> 1).into());
            if reference & 0x01 == 0 {
                return Some((oldest, references));
            }
        }
        // A fourth one is announced, and forbidden.
        None
    }

    /// How many spatial layers it tells of.
    fn scalability_structure(&mut self) -> Option<u8> {
        let head = self.byte()?;
        let spatial_layers = (head >> 5) + 1;
        if head & 0x10 != 0 {
            self.skip(usize::from(spatial_layers) * 4)?;
        }
        if head & 0x08 != 0 {
            for _ in 0..self.byte()? {
                let references = self.byte()? >> 2 & 0x03;
                self.skip(usize::from(references))?;
            }
        }
        Some(spatial_layers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::{Random, hex};

    #[test]
    fn key_picture_with_scalability_structure() {
        // I L B V, picture id 0x1234, TID 0 U SID 0, TL0PICIDX 7, two layers with sizes, a group
        // of two pictures with one reference each.
        let payload = hex("aa 9234 10 07 38 014000b4 02800168 02 1401 2401 ff");
        let descriptor = Vp9Descriptor::parse(&payload).unwrap();
        assert_eq!(
            descriptor,
            Vp9Descriptor {
                len: 19,
                starts_frame: true,
                ids: PictureIds {
                    picture_id: Some(PictureId { value: 0x1234, wide: true }),
                    tl0_pic_idx: Some(7),
                    by_distance: true,
                    picture_id_at: 1,
                    tl0_pic_idx_at: 4,
                },
                switching_up: true,
                spatial_layers: Some(2),
                ..Vp9Descriptor::default()
            }
        );
        assert!(descriptor.key_frame());
    }

    #[test]
    fn flexible_inter_frame_of_upper_layers() {
        // I P L F E Z, 7-bit id, TID 2 SID 1 D, two references.
        let descriptor = Vp9Descriptor::parse(&hex("f5 11 43 0302 ff")).unwrap();
        assert_eq!(
            descriptor,
            Vp9Descriptor {
                len: 5,
                inter_predicted: true,
                flexible: true,
                ends_frame: true,
                not_for_upper_layers: true,
                ids: PictureIds {
                    picture_id: Some(PictureId { value: 17, wide: false }),
                    by_distance: true,
                    picture_id_at: 1,
                    ..PictureIds::default()
                },
                temporal: 2,
                spatial: 1,
                inter_layer_predicted: true,
                oldest_reference: Some(1),
                references: 0b1,
                ..Vp9Descriptor::default()
            }
        );
    }

    #[test]
    fn what_begins_a_key_picture() {
        for (dump, key) in [
            ("08", true),
            ("00", false),
            ("48", false),
            ("28 00 00", true),
            ("28 03 00", false),
            ("68 00 00", false),
        ] {
            assert_eq!(Vp9Descriptor::parse(&hex(dump)).unwrap().key_frame(), key, "{dump}");
        }
    }

    #[test]
    fn truncated_descriptors_are_refused() {
        for dump in [
            "",
            "80",
            "80 80",
            "20",
            "20 00",
            "50",
            "50 01",
            "50 01 01",
            "50 010101 00",
            "02",
            "02 10 000000",
            "02 08",
            "02 08 01",
            "02 08 01 04",
            "02 08 02 04 00",
        ] {
            assert_eq!(Vp9Descriptor::parse(&hex(dump)), None, "{dump}");
        }
    }

    #[test]
    fn garbage_stays_inside_the_payload() {
        let mut random = Random(10);
        for _ in 0..200_000 {
            let len = random.below(24);
            let payload = random.bytes(len);
            if let Some(descriptor) = Vp9Descriptor::parse(&payload) {
                assert!(usize::from(descriptor.len) <= payload.len());
                assert!(Vp9Descriptor::parse(&payload[..usize::from(descriptor.len)]).is_some());
            }
        }
    }
}
