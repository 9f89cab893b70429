//! Frames of a stream that has several spatial layers inside (SVC): to which layers each belongs,
//! what it refers to, and who needs it.
//!
//! Dependency descriptors tell that outside the payload ([`super::dependency_descriptor`]), VP9 in
//! its payload descriptor ([`Vp9Layers`]). Both come to the same here: a number for each frame, the
//! numbers it refers to, and what it is to each pair of layers.
//!
//! Worked trace of VP9, three spatial layers, two temporal; a picture has four numbers:
//!
//! ```text
//! picture         20 (key)           21                      22
//! spatial         0    1    2        0      1       2        0
//! temporal        0    0    0        1      1       1        0
//! number          80   81   82       84     85      86       88
//! refers to       –    80   81       80     81, 84  82, 85   80
//! ```
#![forbid(unsafe_code)]

use super::dependency_descriptor::Indication;
use super::picture_ids::PictureId;
use super::vp9::Vp9Descriptor;

/// Spatial layers told apart: AV1 has no more, and no browser sends more than three.
pub const SPATIAL_MAX: u8 = 4;

/// Temporal layers told apart: browsers send three. Higher ones count as the highest.
pub const TEMPORAL_MAX: u8 = 4;

/// A bit of [`LayerFrame::references`]: a frame so far back, or further.
const FAR: u32 = 1 << 31;

/// Numbers that VP9's pictures take: one for each spatial layer.
const NUMBERS_PER_PICTURE: u16 = SPATIAL_MAX as u16;

/// Pictures back to which a VP9 picture may refer, where it is not told to which.
const PICTURES_BACK: usize = 7;

/// What a frame is to each pair of a spatial and a temporal layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerIndications(u32);

impl LayerIndications {
    /// What it is to who gets these layers and what they need.
    #[inline]
    pub const fn of(self, spatial: u8, temporal: u8) -> Indication {
        match self.0 >> Self::shift(spatial, temporal) & 0b11 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }

    pub(super) const fn set(&mut self, spatial: u8, temporal: u8, indication: Indication) {
        self.0 |= (indication as u32) << Self::shift(spatial, temporal);
    }

    const fn shift(spatial: u8, temporal: u8) -> u32 {
        2 * (spatial % SPATIAL_MAX * TEMPORAL_MAX + temporal % TEMPORAL_MAX) as u32
    }
}

/// One frame of one spatial layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerFrame {
    /// Its number, wrapping at 2^16.
    pub number: u16,
    /// Bit n: it refers to the frame whose number is n + 1 lower. The highest bit stands for all
    /// that are as far or further.
    pub references: u32,
    /// What it is to each pair of layers.
    pub indications: LayerIndications,
    /// Spatial layers that the sender sends at present.
    pub spatial_layers: u8,
    /// Temporal layers of the stream.
    pub temporal_layers: u8,
    /// Spatial layers of the stream, whether or not they are sent at present.
    pub(super) spatial_total: u8,
    /// Where its dependency descriptor has the mask of active decode targets or would have it, in
    /// bits; 0 where that cannot be told.
    pub(super) targets_at: u16,
    /// Whether the mask is there.
    pub(super) has_targets: bool,
}

impl LayerFrame {
    /// Which decode targets who gets these layers can decode, as a descriptor's mask: bit n for the
    /// n-th. `nested`: the lower spatial layers, too. `None` where their order is not known.
    pub fn active_targets(&self, spatial: u8, temporal: u8, nested: bool) -> Option<u32> {
        if self.targets_at == 0 {
            return None;
        }
        let mut mask = 0;
        for target in 0..self.target_count() {
            let (s, t) = (target / self.temporal_layers, target % self.temporal_layers);
            let is_active = t <= temporal && (s == spatial || nested && s < spatial);
            mask |= u32::from(is_active) << target;
        }
        Some(mask)
    }

    /// Decode targets of its structure.
    pub(super) fn target_count(&self) -> u8 {
        self.spatial_total * self.temporal_layers
    }
}

/// A bit mask of references from distances of frames.
pub(super) fn reference(distance: u16) -> u32 {
    match distance {
        0 => 0,
        near @ 1..32 => 1 << (near - 1),
        _ => FAR,
    }
}

/// A picture that none refers to: of no temporal layer.
const NEVER: (u8, bool) = (u8::MAX, false);

/// A picture that has not come: it may be of any layer.
const MISSING: (u8, bool) = (0, false);

/// What is remembered of a VP9 stream to number its frames and to know what they refer to.
#[derive(Debug, Clone)]
pub struct Vp9Layers {
    spatial_layers: u8,
    temporal_layers: u8,
    /// Id and number of the newest picture.
    newest: Option<(PictureId, u16)>,
    /// Temporal layers of the pictures before the newest, newest first, and whether each lets who
    /// gets lower layers switch up.
    past: [(u8, bool); PICTURES_BACK],
    of_newest: (u8, bool),
}

impl Default for Vp9Layers {
    fn default() -> Self {
        Vp9Layers {
            spatial_layers: 0,
            temporal_layers: 0,
            newest: None,
            past: [NEVER; PICTURES_BACK],
            of_newest: NEVER,
        }
    }
}

impl Vp9Layers {
    /// Follows one packet; what it says of its frame, if the stream has several spatial layers.
    #[inline]
    pub fn follow(&mut self, descriptor: &Vp9Descriptor) -> Option<LayerFrame> {
        if let Some(layers) = descriptor.spatial_layers {
            self.begin(layers);
        }
        if self.spatial_layers < 2 {
            return None;
        }
        self.frame(descriptor)
    }

    #[cold]
    fn begin(&mut self, told: u8) {
        let spatial_layers = if told <= SPATIAL_MAX { told } else { 0 };
        if spatial_layers != self.spatial_layers {
            (self.spatial_layers, self.temporal_layers) = (spatial_layers, 0);
        }
    }

    fn frame(&mut self, descriptor: &Vp9Descriptor) -> Option<LayerFrame> {
        let id = descriptor.ids.picture_id?;
        let (spatial, temporal) = (descriptor.spatial, descriptor.temporal.min(TEMPORAL_MAX - 1));
        if spatial >= SPATIAL_MAX {
            return None;
        }
        self.temporal_layers = self.temporal_layers.max(temporal + 1);
        let (picture, back) = self.number(id, temporal, descriptor.switching_up);
        if descriptor.key_frame() && back == 0 {
            self.past = [NEVER; PICTURES_BACK];
        }
        let mut references = u32::from(descriptor.inter_layer_predicted && spatial > 0);
        if descriptor.inter_predicted && descriptor.flexible {
            references |= in_numbers(descriptor.references);
        } else if descriptor.inter_predicted {
            references |= in_numbers(self.possible_references(temporal, back));
        }
        Some(LayerFrame {
            number: picture.wrapping_mul(NUMBERS_PER_PICTURE).wrapping_add(spatial.into()),
            references,
            indications: indications(descriptor, temporal),
            spatial_layers: self.spatial_layers,
            temporal_layers: self.temporal_layers,
            spatial_total: self.spatial_layers,
            targets_at: 0,
            has_targets: false,
        })
    }

    /// Numbers a picture; how far it lies behind the newest.
    fn number(&mut self, id: PictureId, temporal: u8, up: bool) -> (u16, usize) {
        let Some((last, picture)) = self.newest else {
            self.newest = Some((id, 0));
            self.of_newest = (temporal, up);
            return (0, 0);
        };
        let unused_bits = if id.wide { 1 } else { 9 };
        let step = ((id.value.wrapping_sub(last.value) << unused_bits) as i16) >> unused_bits;
        let number = picture.wrapping_add_signed(step);
        if step <= 0 {
            return (number, usize::from(step.unsigned_abs()));
        }
        for missing in 0..usize::from(step.unsigned_abs()).min(PICTURES_BACK) {
            self.past.rotate_right(1);
            self.past[0] = if missing == 0 { self.of_newest } else { MISSING };
        }
        self.newest = Some((id, number));
        self.of_newest = (temporal, up);
        (number, 0)
    }

    /// Bit n: a picture n + 1 back, to which one of this temporal layer may refer that lies so far
    /// `back`: of its own layer or below, and not before one that lets switch up.
    fn possible_references(&self, temporal: u8, back: usize) -> u32 {
        let mut references = 0;
        for (distance, &(layer, up)) in self.past.iter().skip(back).enumerate() {
            if layer <= temporal {
                references |= 1 << distance;
            }
            if up && layer < temporal {
                break;
            }
        }
        references
    }
}

/// Distances of pictures as distances of frames of one spatial layer.
fn in_numbers(mut pictures: u32) -> u32 {
    let mut references = 0;
    while pictures != 0 {
        let distance = pictures.trailing_zeros() as u16 + 1;
        references |= reference(distance * NUMBERS_PER_PICTURE);
        pictures &= pictures - 1;
    }
    references
}

/// What a VP9 frame is to each pair of layers. Whether a lower layer's frame is needed above is
/// told by its Z bit.
fn indications(descriptor: &Vp9Descriptor, temporal: u8) -> LayerIndications {
    let mut indications = LayerIndications::default();
    for spatial in descriptor.spatial..SPATIAL_MAX {
        let is_own = spatial == descriptor.spatial;
        for target in temporal..TEMPORAL_MAX {
            let indication = match (is_own, descriptor.inter_predicted) {
                (false, _) if descriptor.not_for_upper_layers => Indication::NotPresent,
                (_, false) => Indication::Switch,
                (false, true) => Indication::Required,
                (true, true) if target == temporal && temporal > 0 => Indication::Discardable,
                (true, true) => Indication::Switch,
            };
            indications.set(spatial, target, indication);
        }
    }
    indications
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a descriptor tells it: picture, P, spatial, temporal, D, Z.
    fn frame(
        layers: &mut Vp9Layers,
        (picture, inter): (u16, bool),
        (spatial, temporal): (u8, u8),
        (inter_layer, alone): (bool, bool),
    ) -> LayerFrame {
        let descriptor = Vp9Descriptor {
            inter_predicted: inter,
            spatial,
            temporal,
            inter_layer_predicted: inter_layer,
            not_for_upper_layers: alone,
            switching_up: true,
            starts_frame: true,
            spatial_layers: (!inter && spatial == 0).then_some(3),
            ids: super::super::picture_ids::PictureIds {
                picture_id: Some(PictureId { value: picture & 0x7fff, wide: true }),
                ..Default::default()
            },
            ..Vp9Descriptor::default()
        };
        layers.follow(&descriptor).unwrap()
    }

    fn distances(frame: LayerFrame) -> Vec<u32> {
        (1..=32).filter(|distance| frame.references >> (distance - 1) & 1 == 1).collect()
    }

    #[test]
    fn follows_the_worked_trace() {
        let mut layers = Vp9Layers::default();
        let mut begin = None;
        for (picture, spatial, temporal, number, refers) in [
            (20, 0, 0, 80, vec![]),
            (20, 1, 0, 81, vec![80]),
            (20, 2, 0, 82, vec![81]),
            (21, 0, 1, 84, vec![80]),
            (21, 1, 1, 85, vec![81, 84]),
            (21, 2, 1, 86, vec![82, 85]),
            (22, 0, 0, 88, vec![80]),
        ] {
            let inter = picture > 20;
            let found =
                frame(&mut layers, (picture, inter), (spatial, temporal), (spatial > 0, false));
            let base = *begin.get_or_insert(found.number.wrapping_sub(80));
            assert_eq!(found.number.wrapping_sub(base), number);
            let mut told: Vec<_> =
                distances(found).iter().map(|back| u32::from(number) - back).collect();
            told.sort_unstable();
            assert_eq!(told, refers, "{number}");
        }
    }

    #[test]
    fn numbers_rise_by_four_over_wraps() {
        let mut layers = Vp9Layers::default();
        let first = frame(&mut layers, (0x7ff0, false), (0, 0), (false, false)).number;
        for picture in 1..70_000_u32 {
            let id = (0x7ff0 + picture) as u16;
            let found = frame(&mut layers, (id, true), (1, 0), (true, false));
            assert_eq!(found.number, first.wrapping_add((picture * 4 + 1) as u16));
        }
    }

    #[test]
    fn what_a_frame_is_to_each_pair_of_layers() {
        use Indication::*;
        let mut layers = Vp9Layers::default();
        frame(&mut layers, (1, false), (0, 0), (false, false));
        for (inter, (spatial, temporal), alone, expected) in [
            (false, (0, 0), false, [(0, 0, Switch), (1, 2, Switch), (2, 0, Switch)]),
            (false, (0, 0), true, [(0, 0, Switch), (1, 2, NotPresent), (2, 0, NotPresent)]),
            (true, (0, 0), false, [(0, 2, Switch), (1, 0, Required), (2, 2, Required)]),
            (true, (0, 0), true, [(0, 2, Switch), (1, 0, NotPresent), (2, 2, NotPresent)]),
            (true, (1, 1), true, [(0, 1, NotPresent), (1, 0, NotPresent), (1, 1, Discardable)]),
            (true, (1, 1), false, [(1, 2, Switch), (2, 0, NotPresent), (2, 1, Required)]),
        ] {
            let found = frame(&mut layers, (2, inter), (spatial, temporal), (false, alone));
            for (s, t, indication) in expected {
                assert_eq!(found.indications.of(s, t), indication, "{spatial} {temporal}: {s} {t}");
            }
        }
    }

    #[test]
    fn one_spatial_layer_or_too_many_are_none() {
        for layers in [1, 5, 8] {
            let descriptor = Vp9Descriptor {
                spatial_layers: Some(layers),
                ids: super::super::picture_ids::PictureIds {
                    picture_id: Some(PictureId { value: 1, wide: true }),
                    ..Default::default()
                },
                ..Vp9Descriptor::default()
            };
            assert_eq!(Vp9Layers::default().follow(&descriptor), None, "{layers}");
        }
    }

    #[test]
    fn masks_name_what_can_be_decoded() {
        let frame = LayerFrame {
            number: 0,
            references: 0,
            indications: LayerIndications::default(),
            spatial_layers: 3,
            temporal_layers: 3,
            spatial_total: 3,
            targets_at: 29,
            has_targets: false,
        };
        assert_eq!(frame.active_targets(2, 2, true), Some(0b111_111_111));
        assert_eq!(frame.active_targets(1, 0, true), Some(0b000_001_001));
        assert_eq!(frame.active_targets(1, 1, false), Some(0b000_011_000));
        assert_eq!(LayerFrame { targets_at: 0, ..frame }.active_targets(1, 1, false), None);
    }
}
