//! What a packet is to its stream, whatever the codec.
#![forbid(unsafe_code)]

use super::av1::Av1Payload;
use super::dependency_descriptor::{DependencyDescriptor, DependencyTracker};
use super::h264::H264Payload;
use super::layers::{LayerFrame, Vp9Layers};
use super::picture_ids::PictureIds;
use super::vp8::Vp8Descriptor;
use super::vp9::Vp9Descriptor;
use crate::codec::Codec;

/// Which earlier pictures of its stream a picture refers to, as far as the packet tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Not told.
    #[default]
    Unknown,
    /// The last picture of temporal layer 0 alone.
    LowestLayer {
        /// The picture's number, if it has one.
        number: Option<u16>,
    },
    /// Pictures back to a certain one.
    Back {
        /// The picture's number, wrapping at 2^16.
        number: u16,
        /// How far back the oldest lies, in such numbers; 0 where it refers to none.
        oldest: u16,
    },
}

/// What a packet is to its stream.
///
/// A *picture* is a frame of one spatial layer. Streams without key frames (Opus, opaque ones) can
/// be joined at any packet, and never say `key_frame`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PayloadInfo {
    /// The packet begins a key frame. One of H.264 is not certain yet: see `false_start`.
    pub key_frame: bool,
    /// A picture that refers to others begins here; only H.264 says so.
    pub starts_inter: bool,
    /// What began a key frame did not: the picture refers to others. Known to who follows the
    /// stream.
    pub false_start: bool,
    /// First packet of a picture. H.264 may say so of several packets of one picture.
    pub starts_picture: bool,
    /// Last packet of a picture.
    pub ends_picture: bool,
    /// Spatial layer within the stream (SVC).
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// Which earlier pictures the picture refers to.
    pub reach: Reach,
    /// Pictures of higher temporal layers that come after this one refer to none of these layers
    /// before it.
    pub opens_higher: bool,
    /// The running numbers of VP8 and VP9 pictures, which are rewritten on the way out.
    pub ids: Option<PictureIds>,
    /// What the frame is to the others, in a stream of several spatial layers that is followed.
    pub layers: Option<LayerFrame>,
}

/// Looks at one packet by itself. The layers that a dependency descriptor names are then known
/// for key frames only; [`inspect_tracked`] knows the others too.
#[inline]
pub fn inspect(
    codec: Codec,
    payload: &[u8],
    marker: bool,
    dependency_descriptor: Option<&[u8]>,
) -> PayloadInfo {
    inspect_tracked(codec, payload, marker, dependency_descriptor, &mut LayerTracker::default())
}

/// What is remembered of a stream to know the layers of its frames.
#[derive(Clone, Default)]
pub struct LayerTracker {
    dependencies: DependencyTracker,
    vp9: Vp9Layers,
}

impl LayerTracker {
    /// What dependency descriptors have told.
    pub fn dependencies(&self) -> &DependencyTracker {
        &self.dependencies
    }
}

/// Looks at one packet of a stream. The dependency descriptor, if there is one that can be read,
/// is believed and not the payload, which may be end-to-end encrypted.
#[inline]
pub fn inspect_tracked(
    codec: Codec,
    payload: &[u8],
    marker: bool,
    dependency_descriptor: Option<&[u8]>,
    tracker: &mut LayerTracker,
) -> PayloadInfo {
    // Payload descriptors are never encrypted, and are rewritten whatever else tells of layers.
    let vp8 = if codec == Codec::Vp8 { Vp8Descriptor::parse(payload) } else { None };
    let vp9 = if codec == Codec::Vp9 { Vp9Descriptor::parse(payload) } else { None };
    let dependencies = &mut tracker.dependencies;
    if let Some(descriptor) = dependency_descriptor.and_then(|bytes| dependencies.read(bytes)) {
        let ids = vp8.map(|vp8| vp8.ids).or(vp9.map(|vp9| vp9.ids));
        let layers = dependencies.layer_frame(&descriptor);
        return PayloadInfo { ids, layers, ..of_dependency_descriptor(&descriptor) };
    }
    let unknown = PayloadInfo { ends_picture: marker, ..PayloadInfo::default() };
    match codec {
        Codec::Opus | Codec::Red | Codec::Opaque => PayloadInfo {
            starts_picture: true,
            ends_picture: marker || codec != Codec::Opaque,
            ..unknown
        },
        Codec::Vp8 => vp8.map_or(unknown, |descriptor| of_vp8(descriptor, marker)),
        Codec::Vp9 => vp9.map_or(unknown, |descriptor| PayloadInfo {
            layers: tracker.vp9.follow(&descriptor),
            ..of_vp9(&descriptor, marker)
        }),
        Codec::H264 => {
            let found = H264Payload::parse(payload);
            PayloadInfo {
                key_frame: found.key_frame && !found.starts_inter,
                starts_inter: found.starts_inter,
                starts_picture: found.starts_picture,
                ..unknown
            }
        }
        Codec::Av1 => Av1Payload::parse(payload).map_or(unknown, |found| PayloadInfo {
            key_frame: found.key_frame,
            starts_picture: found.starts_frame,
            spatial: found.spatial,
            temporal: found.temporal,
            ..unknown
        }),
    }
}

fn of_dependency_descriptor(descriptor: &DependencyDescriptor) -> PayloadInfo {
    let starts_picture = descriptor.starts_frame;
    let info = PayloadInfo {
        key_frame: starts_picture && descriptor.has_structure,
        starts_picture,
        ends_picture: descriptor.ends_frame,
        ..PayloadInfo::default()
    };
    let Some(frame) = descriptor.frame else { return info };
    PayloadInfo {
        spatial: frame.spatial,
        temporal: frame.temporal,
        reach: Reach::Back { number: descriptor.frame_number, oldest: frame.oldest_reference },
        ..info
    }
}

fn of_vp8(descriptor: Vp8Descriptor, marker: bool) -> PayloadInfo {
    let number = descriptor.ids.picture_id.map(|id| id.widened(0).0);
    PayloadInfo {
        key_frame: descriptor.key_frame,
        starts_picture: descriptor.starts_picture(),
        ends_picture: marker,
        temporal: descriptor.temporal,
        reach: match descriptor.layer_sync {
            true => Reach::LowestLayer { number },
            false => Reach::Unknown,
        },
        ids: Some(descriptor.ids),
        ..PayloadInfo::default()
    }
}

fn of_vp9(descriptor: &Vp9Descriptor, marker: bool) -> PayloadInfo {
    // Without P the frame refers to no other picture; with it, flexible mode tells to which.
    let oldest = if descriptor.inter_predicted { descriptor.oldest_reference } else { Some(0) };
    let reach = descriptor.ids.picture_id.zip(oldest).map(|(id, oldest)| id.widened(oldest));
    PayloadInfo {
        key_frame: descriptor.key_frame(),
        starts_picture: descriptor.starts_frame,
        ends_picture: descriptor.ends_frame || marker,
        spatial: descriptor.spatial,
        temporal: descriptor.temporal,
        reach: reach.map_or(Reach::Unknown, |(number, oldest)| Reach::Back { number, oldest }),
        opens_higher: descriptor.switching_up,
        ids: Some(descriptor.ids),
        ..PayloadInfo::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::{Random, hex};

    /// Flags as letters: key frame, starts, ends, opens higher layers.
    fn letters(info: &PayloadInfo) -> String {
        [
            (info.key_frame, 'k'),
            (info.starts_picture, 's'),
            (info.ends_picture, 'e'),
            (info.opens_higher, 'o'),
        ]
        .iter()
        .filter_map(|&(flag, letter)| flag.then_some(letter))
        .collect()
    }

    #[test]
    fn payloads_of_every_codec() {
        let unknown = Reach::Unknown;
        let back = |number, oldest| Reach::Back { number, oldest };
        let lowest = |number| Reach::LowestLayer { number: Some(number) };
        for (codec, dump, marker, flags, layers, reach) in [
            (Codec::Opus, "f8ff", false, "se", (0, 0), unknown),
            (Codec::Opaque, "", false, "s", (0, 0), unknown),
            (Codec::Opaque, "", true, "se", (0, 0), unknown),
            (Codec::Vp8, "90 e0 8001 05 00 00", false, "ks", (0, 0), unknown),
            (Codec::Vp8, "90 e0 8001 05 80 01", true, "se", (0, 2), unknown),
            (Codec::Vp8, "90 e0 8001 05 a0 01", true, "se", (0, 2), lowest(2)),
            (Codec::Vp8, "00 aa", true, "e", (0, 0), unknown),
            (Codec::Vp8, "80", true, "e", (0, 0), unknown),
            (Codec::Vp9, "08", false, "ks", (0, 0), unknown),
            (Codec::Vp9, "2c 13 07", false, "seo", (1, 0), unknown),
            (Codec::Vp9, "68 20 07", false, "s", (0, 1), unknown),
            (Codec::Vp9, "e8 8003 30 07", false, "so", (0, 1), unknown),
            (Codec::Vp9, "a8 8003 00 07", false, "ks", (0, 0), back(6, 0)),
            (Codec::Vp9, "f8 8009 20 0302", false, "s", (0, 1), back(18, 2)),
            (Codec::Vp9, "f8 09 20 04", false, "s", (0, 1), back(9 << 9, 2 << 9)),
            (Codec::Vp9, "80", true, "e", (0, 0), unknown),
            (Codec::H264, "67 42c01f", false, "ks", (0, 0), unknown),
            (Codec::H264, "65 b800", false, "s", (0, 0), unknown),
            (Codec::H264, "78 0002 6742 0002 419a", false, "s", (0, 0), unknown),
            (Codec::H264, "41 9a", true, "se", (0, 0), unknown),
            (Codec::H264, "7c 45 b8", true, "e", (0, 0), unknown),
            (Codec::Av1, "18 0a", false, "ks", (0, 0), unknown),
            (Codec::Av1, "10 34 28", true, "se", (1, 1), unknown),
            (Codec::Av1, "", true, "e", (0, 0), unknown),
        ] {
            let info = inspect(codec, &hex(dump), marker, None);
            assert_eq!(letters(&info), flags, "{codec:?} {dump}");
            assert_eq!((info.spatial, info.temporal), layers, "{codec:?} {dump}");
            assert_eq!(info.reach, reach, "{codec:?} {dump}");
        }
    }

    #[test]
    fn the_dependency_descriptor_is_believed_and_not_the_payload() {
        // Starts a frame, brings no structure: no key frame, though the payload claims one.
        let descriptor = hex("80 0001");
        let info = inspect(Codec::Vp8, &hex("10 00"), true, Some(&descriptor));
        assert_eq!(letters(&info), "s");
        assert!(info.ids.is_some(), "the numbers are there to be rewritten");

        // One template, one target with a switch indication, no chain, no resolution.
        let key = hex("c0 0001 80 00 e0 00");
        for codec in [Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Opaque] {
            let info = inspect(codec, &[0xff; 4], false, Some(&key));
            assert_eq!(letters(&info), "kse", "{codec:?}");
        }

        let truncated = inspect(Codec::Vp8, &hex("10 00"), true, Some(&[0x80]));
        assert_eq!(letters(&truncated), "kse", "what cannot be read is not believed");
    }

    #[test]
    fn layers_are_known_where_the_stream_is_followed() {
        // Two templates, of temporal layers 0 and 1; two targets.
        let mut tracker = LayerTracker::default();
        // Flags 10000, offset 000000, targets 00001, layers 01 11, indications 10 10 00 01, no
        // differences 0 0, no chain 0, no resolutions 0.
        let key = hex("c0 0001 80 01 7a 10");
        let key = inspect_tracked(Codec::Av1, &[], true, Some(&key), &mut tracker);
        assert_eq!(letters(&key), "kse");
        let next = inspect_tracked(Codec::Av1, &[], true, Some(&hex("c1 0002")), &mut tracker);
        assert_eq!((letters(&next).as_str(), next.temporal), ("se", 1));
        let alone = inspect(Codec::Av1, &[], true, Some(&hex("c1 0002")));
        assert_eq!(alone.temporal, 0);
    }

    #[test]
    fn garbage_never_panics() {
        let mut random = Random(15);
        let codecs = [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Opaque];
        for round in 0..200_000 {
            let (payload_len, descriptor_len) = (random.below(16), random.below(12));
            let payload = random.bytes(payload_len);
            let descriptor = random.bytes(descriptor_len);
            let descriptor = random.one_in(2).then_some(descriptor.as_slice());
            let codec = codecs[round % codecs.len()];
            let info = inspect(codec, &payload, random.one_in(2), descriptor);
            assert!(info.starts_picture || !info.key_frame);
        }
    }
}
