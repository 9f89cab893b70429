//! The dependency descriptor: what a frame is needed for, told outside the payload, so that it can
//! be read where the payload is end-to-end encrypted.
//!
//! ```text
//! |S|E| template id (6) | frame number (16) |          always
//! |T|A|D|F|C|                                          if there are more than three bytes
//! T: template dependency structure (comes with key frames)
//! A: bit mask of the active decode targets
//! D, F: indications and references of this frame instead of those of its template; C: not looked at
//! ```
//!
//! A key frame brings a table of templates; later frames name one of them. So the layers of a
//! frame are known only to who remembers the table: [`DependencyTracker`].
//!
//! <https://aomediacodec.github.io/av1-rtp-spec/#appendix>
#![forbid(unsafe_code)]

use super::layers::{self, LayerFrame, LayerIndications, TEMPORAL_MAX as TEMPORAL_KNOWN};

/// Templates a structure can have: their ids have 6 bits.
const TEMPLATES_MAX: usize = 64;
/// Decode targets a structure can have: their number has 5 bits.
const TARGETS_MAX: usize = 32;
/// Spatial layers of AV1.
const SPATIAL_MAX: u8 = 4;
/// Temporal layers of AV1.
const TEMPORAL_MAX: u8 = 8;

/// What a frame is to a decode target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indication {
    /// Not part of it.
    NotPresent,
    /// Part of it, and nothing else of it depends on the frame.
    Discardable,
    /// Part of it, and whoever decodes it from here on has all it needs.
    Switch,
    /// Part of it.
    Required,
}

/// The indications of a frame for all decode targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Indications(u64);

impl Indications {
    /// What the frame is to a decode target.
    pub const fn of(self, target: u8) -> Indication {
        if target as usize >= TARGETS_MAX {
            return Indication::NotPresent;
        }
        match self.0 >> (2 * target) & 0b11 {
            0 => Indication::NotPresent,
            1 => Indication::Discardable,
            2 => Indication::Switch,
            _ => Indication::Required,
        }
    }

    /// Some decode target can be switched to at this frame.
    pub const fn any_switch(self) -> bool {
        const LOW_BITS: u64 = 0x5555_5555_5555_5555;
        self.0 >> 1 & !self.0 & LOW_BITS != 0
    }

    fn read(bits: &mut Bits<'_>, targets: u8) -> Option<Self> {
        let mut indications = 0;
        for target in 0..targets {
            indications |= u64::from(bits.read(2)?) << (2 * target);
        }
        Some(Indications(indications))
    }
}

/// What is known of a frame by its template.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FrameDependency {
    /// Spatial layer.
    pub spatial: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// What the frame is to each decode target.
    pub indications: Indications,
    /// How far back the oldest frame lies that it refers to, in frame numbers; 0 where it refers to
    /// none.
    pub oldest_reference: u16,
    /// Bit n: it refers to the frame whose number is n + 1 lower; the highest bit: or to one
    /// further back.
    pub references: u32,
    /// The indications by layers.
    by_layers: LayerIndications,
}

/// One descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DependencyDescriptor {
    /// First packet of its frame.
    pub starts_frame: bool,
    /// Last packet of its frame.
    pub ends_frame: bool,
    /// Number of the frame, wrapping at 2^16.
    pub frame_number: u16,
    /// It brings a new template structure: the frame is a key frame.
    pub has_structure: bool,
    /// Which decode targets the sender produces from here on, where it tells.
    pub active_decode_targets: Option<u32>,
    /// Layers and indications; `None` while the structure that the frame refers to is unknown.
    pub frame: Option<FrameDependency>,
    /// Where the mask of active decode targets is or would be, in bits.
    targets_at: u16,
    /// Whether it is there.
    has_targets: bool,
}

/// The templates of a coded video sequence.
#[derive(Clone, PartialEq, Eq)]
pub struct TemplateStructure {
    /// Template id of the first template.
    id_offset: u8,
    template_count: u8,
    target_count: u8,
    /// Spatial and temporal layers.
    layer_counts: (u8, u8),
    /// The decode target of each pair of layers.
    by_layers: TargetsByLayers,
    templates: [FrameDependency; TEMPLATES_MAX],
    /// Width and height of each spatial layer, less one; zero where not told.
    resolutions: Option<[(u16, u16); SPATIAL_MAX as usize]>,
}

impl TemplateStructure {
    /// How many decode targets there are.
    pub fn decode_targets(&self) -> u8 {
        self.target_count
    }

    /// The decode target of these layers: its frames reach up to them and no further.
    pub fn decode_target(&self, spatial: u8, temporal: u8) -> Option<u8> {
        (0..self.target_count).find(|&target| self.layers(target) == Some((spatial, temporal)))
    }

    /// Greatest spatial and temporal layer of a decode target; `None` if nothing is part of it.
    pub fn layers(&self, target: u8) -> Option<(u8, u8)> {
        self.templates()
            .iter()
            .filter(|template| template.indications.of(target) != Indication::NotPresent)
            .map(|template| (template.spatial, template.temporal))
            .reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
    }

    /// Width and height of a spatial layer, pixels, if the sender told.
    pub fn resolution(&self, spatial: u8) -> Option<(u32, u32)> {
        let (width, height) = *self.resolutions.as_ref()?.get(usize::from(spatial))?;
        let known = self.templates().iter().any(|template| template.spatial == spatial);
        known.then_some((u32::from(width) + 1, u32::from(height) + 1))
    }

    fn templates(&self) -> &[FrameDependency] {
        self.templates.get(..usize::from(self.template_count)).unwrap_or_default()
    }

    fn template(&self, id: u8) -> Option<&FrameDependency> {
        let index = id.wrapping_sub(self.id_offset) % TEMPLATES_MAX as u8;
        self.templates().get(usize::from(index))
    }

    fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let mut structure = TemplateStructure {
            id_offset: bits.read(6)? as u8,
            template_count: 0,
            target_count: bits.read(5)? as u8 + 1,
            layer_counts: (0, 0),
            by_layers: TargetsByLayers([None; LAYER_PAIRS]),
            templates: [FrameDependency::default(); TEMPLATES_MAX],
            resolutions: None,
        };
        structure.read_layers(bits)?;
        for template in structure.templates.iter_mut().take(usize::from(structure.template_count)) {
            template.indications = Indications::read(bits, structure.target_count)?;
        }
        structure.read_frame_differences(bits)?;
        structure.skip_chains(bits)?;
        if bits.flag()? {
            structure.read_resolutions(bits)?;
        }
        structure.arrange_by_layers();
        Some(structure)
    }

    /// Notes which decode target each pair of layers has, and in each template what it is to them.
    fn arrange_by_layers(&mut self) {
        let counts = self.templates().iter().fold((0, 0), |(spatial, temporal), template| {
            (template.spatial.max(spatial), template.temporal.max(temporal))
        });
        self.layer_counts = (counts.0 + 1, counts.1 + 1);
        for spatial in 0..SPATIAL_MAX {
            let mut target = None;
            for temporal in 0..TEMPORAL_KNOWN {
                // Whoever wants more temporal layers than there are wants all there are.
                target = self.decode_target(spatial, temporal).or(target);
                self.by_layers.0[usize::from(spatial * TEMPORAL_KNOWN + temporal)] = target;
            }
        }
        for template in self.templates.iter_mut().take(usize::from(self.template_count)) {
            template.by_layers = self.by_layers.arrange(template.indications);
        }
    }

    /// Whether there is a decode target for each pair of layers, spatial by spatial: then a mask of
    /// them can be made.
    fn is_in_order(&self) -> bool {
        let (spatial, temporal) = self.layer_counts;
        let mut targets = 0..self.target_count;
        spatial * temporal == self.target_count
            && targets.all(|n| self.layers(n) == Some((n / temporal, n % temporal)))
    }

    /// How many spatial layers a mask of decode targets reaches up to.
    fn spatial_layers(&self, active: u32) -> u8 {
        let active = (0..self.target_count).filter(|target| active >> target & 1 == 1);
        active.filter_map(|target| self.layers(target)).map(|(s, _)| s + 1).max().unwrap_or(0)
    }

    fn read_layers(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let (mut spatial, mut temporal) = (0, 0);
        for template in &mut self.templates {
            (template.spatial, template.temporal) = (spatial, temporal);
            self.template_count += 1;
            match bits.read(2)? {
                0 => {}
                1 => temporal += 1,
                2 => (spatial, temporal) = (spatial + 1, 0),
                _ => return Some(()),
            }
            if spatial >= SPATIAL_MAX || temporal >= TEMPORAL_MAX {
                return None;
            }
        }
        None
    }

    fn read_frame_differences(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        for template in self.templates.iter_mut().take(usize::from(self.template_count)) {
            while bits.flag()? {
                let difference = bits.read(4)? as u16 + 1;
                template.oldest_reference = template.oldest_reference.max(difference);
                template.references |= layers::reference(difference);
            }
        }
        Some(())
    }

    fn skip_chains(&self, bits: &mut Bits<'_>) -> Option<()> {
        let chain_count = bits.non_symmetric(u32::from(self.target_count) + 1)?;
        if chain_count == 0 {
            return Some(());
        }
        for _ in 0..self.target_count {
            bits.non_symmetric(chain_count)?;
        }
        bits.skip(4 * chain_count as usize * usize::from(self.template_count))
    }

    fn read_resolutions(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        let highest = self.templates().last()?.spatial;
        let mut resolutions = [(0, 0); SPATIAL_MAX as usize];
        for resolution in resolutions.iter_mut().take(usize::from(highest) + 1) {
            *resolution = (bits.read(16)? as u16, bits.read(16)? as u16);
        }
        self.resolutions = Some(resolutions);
        Some(())
    }
}

/// Pairs of layers told apart.
const LAYER_PAIRS: usize = (SPATIAL_MAX * TEMPORAL_KNOWN) as usize;

/// The decode target of each pair of layers.
#[derive(Clone, PartialEq, Eq)]
struct TargetsByLayers([Option<u8>; LAYER_PAIRS]);

impl TargetsByLayers {
    fn arrange(&self, indications: Indications) -> LayerIndications {
        let mut arranged = LayerIndications::default();
        for (pair, target) in (0..).zip(self.0) {
            let Some(target) = target else { continue };
            let (spatial, temporal) = (pair / TEMPORAL_KNOWN, pair % TEMPORAL_KNOWN);
            arranged.set(spatial, temporal, indications.of(target));
        }
        arranged
    }
}

/// Reads the descriptors of one stream and remembers what later ones refer to.
#[derive(Clone, Default)]
pub struct DependencyTracker {
    structure: Option<TemplateStructure>,
    /// Spatial layers that the sender sends at present.
    spatial_layers: u8,
    /// Whether masks of decode targets can be made.
    is_in_order: bool,
}

impl DependencyTracker {
    /// The newest structure.
    pub fn structure(&self) -> Option<&TemplateStructure> {
        self.structure.as_ref()
    }

    /// Reads one descriptor; `None` if it is truncated or nonsense, which leaves what is
    /// remembered as it was.
    pub fn read(&mut self, descriptor: &[u8]) -> Option<DependencyDescriptor> {
        let (&[first, n0, n1], extended) = descriptor.split_first_chunk()?;
        let template_id = first & 0x3f;
        let mut found = DependencyDescriptor {
            starts_frame: first & 0x80 != 0,
            ends_frame: first & 0x40 != 0,
            frame_number: u16::from_be_bytes([n0, n1]),
            has_structure: false,
            active_decode_targets: None,
            frame: None,
            targets_at: TARGETS_AT,
            has_targets: false,
        };
        let (mut own_indications, mut own_references) = (false, false);
        // Remembered only once the whole descriptor has been read.
        let mut brought = None;
        let mut bits = Bits { bytes: extended, at: 0 };
        if !extended.is_empty() {
            found.has_structure = bits.flag()?;
            let has_active_targets = bits.flag()?;
            own_indications = bits.flag()?;
            own_references = bits.flag()?;
            bits.skip(1)?;
            if found.has_structure {
                let structure = TemplateStructure::read(&mut bits)?;
                structure.template(template_id)?;
                let targets = u32::from(structure.target_count);
                found.active_decode_targets = Some(u32::MAX >> (u32::BITS - targets));
                found.targets_at = (8 * MANDATORY_LEN + bits.at) as u16;
                brought = Some(structure);
            }
            if has_active_targets {
                let known = brought.as_ref().or(self.structure.as_ref());
                let Some(structure) = known else { return Some(found) };
                found.active_decode_targets = Some(bits.read(u32::from(structure.target_count))?);
                found.has_targets = true;
            }
        }
        let known = brought.as_ref().or(self.structure.as_ref());
        let Some(structure) = known else { return Some(found) };
        let Some(&template) = structure.template(template_id) else { return Some(found) };
        let mut frame = template;
        if own_indications {
            frame.indications = Indications::read(&mut bits, structure.target_count)?;
            frame.by_layers = structure.by_layers.arrange(frame.indications);
        }
        if own_references {
            (frame.oldest_reference, frame.references) = bits.references()?;
        }
        found.frame = Some(frame);
        if let Some(active) = found.active_decode_targets {
            self.spatial_layers = structure.spatial_layers(active);
        }
        if let Some(brought) = brought {
            self.is_in_order = brought.is_in_order();
            self.structure = Some(brought);
        }
        Some(found)
    }

    /// What a descriptor read just now says of its frame, if the stream has several spatial layers
    /// and no more layers than are told apart.
    pub fn layer_frame(&self, descriptor: &DependencyDescriptor) -> Option<LayerFrame> {
        let (spatial_total, temporal_layers) = self.structure.as_ref()?.layer_counts;
        let frame = descriptor.frame?;
        if spatial_total < 2 || temporal_layers > TEMPORAL_KNOWN {
            return None;
        }
        Some(LayerFrame {
            number: descriptor.frame_number,
            references: frame.references,
            indications: frame.by_layers,
            spatial_layers: self.spatial_layers,
            temporal_layers,
            spatial_total,
            targets_at: if self.is_in_order { descriptor.targets_at } else { 0 },
            has_targets: descriptor.has_targets,
        })
    }
}

/// Bytes that every descriptor has.
const MANDATORY_LEN: usize = 3;

/// Where the mask of active decode targets is where no structure comes before it, in bits: behind
/// five flags.
const TARGETS_AT: u16 = 8 * MANDATORY_LEN as u16 + 5;

/// The flag that tells of the mask, in bits.
const HAS_TARGETS_AT: usize = 8 * MANDATORY_LEN + 1;

/// Copies the descriptor of a frame with this mask of active decode targets in place of its own;
/// its length. `None` where it does not fit, or is not of that frame.
pub fn write_active_targets(
    descriptor: &[u8],
    frame: &LayerFrame,
    mask: u32,
    out: &mut [u8],
) -> Option<usize> {
    let (at, count) = (usize::from(frame.targets_at), usize::from(frame.target_count()));
    let bit = |n: usize| descriptor.get(n / 8).is_some_and(|byte| byte >> (7 - n % 8) & 1 == 1);
    let rest_at = if frame.has_targets { at + count } else { at };
    let rest = (8 * descriptor.len()).saturating_sub(rest_at);
    let len = (at + count + rest).div_ceil(8);
    if at == 0 || descriptor.len() < MANDATORY_LEN {
        return None;
    }
    let out = out.get_mut(..len)?;
    out.fill(0);
    for n in 0..at + count + rest {
        let is_set = match n {
            HAS_TARGETS_AT => true,
            _ if n < at => bit(n),
            _ if n < at + count => mask >> (count - 1 - (n - at)) & 1 == 1,
            _ => bit(rest_at + n - at - count),
        };
        if let Some(byte) = out.get_mut(n / 8) {
            *byte |= u8::from(is_set) << (7 - n % 8);
        }
    }
    Some(len)
}

/// Reads bits, highest first.
struct Bits<'a> {
    bytes: &'a [u8],
    /// Bits that are behind us.
    at: usize,
}

impl Bits<'_> {
    fn flag(&mut self) -> Option<bool> {
        self.read(1).map(|bit| bit == 1)
    }

    /// A number of `count` bits, at most 32.
    fn read(&mut self, count: u32) -> Option<u32> {
        let mut number = 0u64;
        let mut missing = count;
        while missing > 0 {
            let byte = u64::from(*self.bytes.get(self.at / 8)?);
            let unread = 8 - (self.at % 8) as u32;
            let taken = unread.min(missing);
            let part = byte >> (unread - taken) & ((1 << taken) - 1);
            number = number << taken | part;
            self.at += taken as usize;
            missing -= taken;
        }
        u32::try_from(number).ok()
    }

    fn skip(&mut self, count: usize) -> Option<()> {
        self.at += count;
        (self.at <= self.bytes.len() * 8).then_some(())
    }

    /// A frame's own references, each with its size in units of four bits, and 0 at the end: how
    /// far back the oldest lies, and all of them.
    fn references(&mut self) -> Option<(u16, u32)> {
        let (mut oldest, mut references) = (0, 0);
        loop {
            match self.read(2)? {
                0 => return Some((oldest, references)),
                size => {
                    let difference = self.read(4 * size)? as u16 + 1;
                    oldest = oldest.max(difference);
                    references |= layers::reference(difference);
                }
            }
        }
    }

    /// A number below `n`, in as few bits as it needs (`ns(n)`, AV1 specification section 4.10.7).
    fn non_symmetric(&mut self, n: u32) -> Option<u32> {
        let width = u32::BITS - n.leading_zeros();
        let short = (1u32 << width) - n;
        let value = self.read(width - 1)?;
        if value < short {
            return Some(value);
        }
        Some((value << 1) - short + self.read(1)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::test_support::{Random, hex};

    /// Writes bits, highest first.
    #[derive(Default)]
    struct Written {
        bytes: Vec<u8>,
        len: usize,
    }

    impl Written {
        fn put(&mut self, number: u32, count: u32) -> &mut Self {
            for bit in (0..count).rev() {
                if self.len.is_multiple_of(8) {
                    self.bytes.push(0);
                }
                let last = self.bytes.last_mut().unwrap();
                *last |= ((number >> bit & 1) as u8) << (7 - self.len % 8);
                self.len += 1;
            }
            self
        }

        fn put_non_symmetric(&mut self, number: u32, n: u32) -> &mut Self {
            let width = u32::BITS - n.leading_zeros();
            let short = (1 << width) - n;
            if number < short {
                self.put(number, width - 1)
            } else {
                self.put(number + short, width)
            }
        }
    }

    /// A structure as a test wants it.
    struct Wanted {
        id_offset: u32,
        targets: u32,
        /// Layers of each template, and its indications.
        templates: Vec<(u8, u8, Vec<u32>)>,
        /// How many frames each template refers to.
        differences: Vec<u32>,
        chains: u32,
        resolutions: Vec<(u32, u32)>,
    }

    impl Wanted {
        fn write(&self, out: &mut Written) {
            out.put(self.id_offset, 6).put(self.targets - 1, 5);
            for pair in self.templates.windows(2) {
                let next =
                    match (pair[1].0 - pair[0].0, i16::from(pair[1].1) - i16::from(pair[0].1)) {
                        (0, 0) => 0,
                        (0, 1) => 1,
                        _ => 2,
                    };
                out.put(next, 2);
            }
            out.put(3, 2);
            for indication in self.templates.iter().flat_map(|template| &template.2) {
                out.put(*indication, 2);
            }
            for &count in &self.differences {
                for difference in 0..count {
                    out.put(1, 1).put(difference % 16, 4);
                }
                out.put(0, 1);
            }
            out.put_non_symmetric(self.chains, self.targets + 1);
            if self.chains > 0 {
                for target in 0..self.targets {
                    out.put_non_symmetric(target % self.chains, self.chains);
                }
                for index in 0..self.templates.len() as u32 * self.chains {
                    out.put(index % 16, 4);
                }
            }
            out.put(u32::from(!self.resolutions.is_empty()), 1);
            for &(width, height) in &self.resolutions {
                out.put(width - 1, 16).put(height - 1, 16);
            }
        }
    }

    /// Two spatial and two temporal layers, a decode target for each pair of them.
    fn l2t2() -> Wanted {
        Wanted {
            id_offset: 60,
            targets: 4,
            templates: vec![
                (0, 0, vec![2, 2, 2, 2]),
                (0, 0, vec![3, 3, 3, 3]),
                (0, 1, vec![0, 1, 0, 3]),
                (1, 0, vec![0, 0, 2, 2]),
                (1, 0, vec![0, 0, 3, 3]),
                (1, 1, vec![0, 0, 0, 1]),
            ],
            differences: vec![0, 1, 1, 1, 2, 2],
            chains: 2,
            resolutions: vec![(320, 180), (640, 360)],
        }
    }

    fn key_frame(structure: &Wanted, template_id: u32, frame_number: u32) -> Vec<u8> {
        let mut out = Written::default();
        out.put(0b10, 2).put(template_id, 6).put(frame_number, 16).put(0b10000, 5);
        structure.write(&mut out);
        out.bytes
    }

    #[test]
    fn mandatory_fields_need_no_structure() {
        let mut tracker = DependencyTracker::default();
        let found = tracker.read(&hex("c5 1234")).unwrap();
        assert!(found.starts_frame && found.ends_frame && !found.has_structure);
        assert_eq!(found.frame_number, 0x1234);
        assert_eq!((found.frame, found.active_decode_targets), (None, None));
        let middle = tracker.read(&hex("05 1234")).unwrap();
        assert!(!middle.starts_frame && !middle.ends_frame);
        for dump in ["", "c5", "c5 12"] {
            assert_eq!(tracker.read(&hex(dump)), None, "{dump}");
        }
        assert!(tracker.structure().is_none());
    }

    #[test]
    fn layers_come_from_the_remembered_structure() {
        let mut tracker = DependencyTracker::default();
        let key = tracker.read(&key_frame(&l2t2(), 60, 7)).unwrap();
        assert!(key.has_structure && key.starts_frame);
        assert_eq!(key.active_decode_targets, Some(0b1111));
        let frame = key.frame.unwrap();
        assert_eq!((frame.spatial, frame.temporal), (0, 0));
        assert!(frame.indications.any_switch());

        // Template ids wrap at 64: 60 + 5 is 1.
        for (first, spatial, temporal, switch) in [
            (61, 0, 0, false),
            (62, 0, 1, false),
            (63, 1, 0, true),
            (0, 1, 0, false),
            (1, 1, 1, false),
        ] {
            let frame = tracker.read(&[first, 0, 8]).unwrap().frame.unwrap();
            assert_eq!((frame.spatial, frame.temporal), (spatial, temporal), "{first}");
            assert_eq!(frame.indications.any_switch(), switch, "{first}");
        }
        assert_eq!(tracker.read(&[2, 0, 8]).unwrap().frame, None, "no such template");

        let structure = tracker.structure().unwrap();
        assert_eq!(structure.decode_targets(), 4);
        assert_eq!(structure.resolution(0), Some((320, 180)));
        assert_eq!(structure.resolution(1), Some((640, 360)));
        assert_eq!(structure.resolution(2), None);
        for (target, layers) in [(0, (0, 0)), (1, (0, 1)), (2, (1, 0)), (3, (1, 1))] {
            assert_eq!(structure.layers(target), Some(layers));
            assert_eq!(structure.decode_target(layers.0, layers.1), Some(target));
        }
        assert_eq!(structure.decode_target(2, 0), None);
        assert_eq!(structure.layers(4), None);
    }

    #[test]
    fn active_targets_and_indications_of_the_frame_itself() {
        let mut tracker = DependencyTracker::default();
        tracker.read(&key_frame(&l2t2(), 60, 7)).unwrap();
        let mut out = Written::default();
        out.put(61, 8).put(9, 16).put(0b01100, 5).put(0b0011, 4);
        for indication in [2, 1, 0, 3] {
            out.put(indication, 2);
        }
        let found = tracker.read(&out.bytes).unwrap();
        assert_eq!(found.active_decode_targets, Some(0b0011));
        let indications = found.frame.unwrap().indications;
        assert_eq!(indications.of(0), Indication::Switch);
        assert_eq!(indications.of(1), Indication::Discardable);
        assert_eq!(indications.of(2), Indication::NotPresent);
        assert_eq!(indications.of(3), Indication::Required);
        assert_eq!(indications.of(4), Indication::NotPresent);
        assert_eq!(indications.of(255), Indication::NotPresent);
        assert_eq!(tracker.read(&out.bytes[..4]), None, "truncated");
    }

    #[test]
    fn a_structure_cut_anywhere_is_refused_and_the_old_one_kept() {
        let mut tracker = DependencyTracker::default();
        tracker.read(&key_frame(&l2t2(), 60, 7)).unwrap();
        let bytes = key_frame(&Wanted { id_offset: 10, ..l2t2() }, 10, 8);
        for len in 4..bytes.len() {
            assert_eq!(tracker.read(&bytes[..len]), None, "{len}");
        }
        assert!(tracker.read(&[61, 0, 9]).unwrap().frame.is_some());
        assert_eq!(tracker.read(&key_frame(&l2t2(), 30, 7)), None, "its own template missing");
    }

    #[test]
    fn a_structure_is_kept_only_if_what_follows_it_can_be_read() {
        let mut tracker = DependencyTracker::default();
        tracker.read(&key_frame(&l2t2(), 60, 7)).unwrap();
        let before = tracker.structure().cloned();
        let mut out = Written::default();
        out.put(0b10, 2).put(10, 6).put(8, 16).put(0b11100, 5);
        Wanted { id_offset: 10, ..l2t2() }.write(&mut out);
        // Twelve bits of active decode targets and indications are announced, and missing.
        assert_eq!(tracker.read(&out.bytes), None);
        assert!(tracker.structure() == before.as_ref());
        out.put(0, 12);
        assert!(tracker.read(&out.bytes).is_some());
        assert!(tracker.structure() != before.as_ref());
    }

    #[test]
    fn frames_by_layers_and_what_they_refer_to() {
        use Indication::*;
        let mut tracker = DependencyTracker::default();
        let key = tracker.read(&key_frame(&l2t2(), 60, 7)).unwrap();
        let key = tracker.layer_frame(&key).unwrap();
        assert_eq!((key.number, key.references), (7, 0));
        assert_eq!((key.spatial_layers, key.temporal_layers), (2, 2));
        for (first, references, indications) in [
            (61, 0b1, [Required, Required, Required, Required]),
            (62, 0b1, [NotPresent, Discardable, NotPresent, Required]),
            (0, 0b11, [NotPresent, NotPresent, Required, Required]),
            (1, 0b11, [NotPresent, NotPresent, NotPresent, Discardable]),
        ] {
            let found = tracker.read(&[first, 0, 8]).unwrap();
            let frame = tracker.layer_frame(&found).unwrap();
            assert_eq!(frame.references, references, "{first}");
            let pairs = [(0, 0), (0, 1), (1, 0), (1, 1)];
            assert_eq!(pairs.map(|(s, t)| frame.indications.of(s, t)), indications, "{first}");
            assert_eq!(frame.indications.of(1, 3), indications[3], "as all there are");
        }
        let mut out = Written::default();
        out.put(61, 8).put(9, 16).put(0b01010, 5).put(0b0011, 4);
        out.put(1, 2).put(4, 4).put(3, 2).put(99, 12).put(0, 2);
        let found = tracker.read(&out.bytes).unwrap();
        let frame = tracker.layer_frame(&found).unwrap();
        assert_eq!(frame.spatial_layers, 1, "the upper one is not sent");
        assert_eq!(frame.references, 1 << 31 | 1 << 4);
        assert_eq!(found.frame.unwrap().oldest_reference, 100);
    }

    #[test]
    fn a_mask_is_put_in_or_replaced_and_all_else_stays() {
        let mut tracker = DependencyTracker::default();
        let key = key_frame(&l2t2(), 60, 7);
        let mut own = Written::default();
        own.put(61, 8).put(9, 16).put(0b01100, 5).put(0b0110, 4);
        for indication in [2, 1, 0, 3] {
            own.put(indication, 2);
        }
        let mut bare = Written::default();
        bare.put(61, 8).put(9, 16).put(0b00100, 5);
        for indication in [2, 1, 0, 3] {
            bare.put(indication, 2);
        }
        for descriptor in [key, vec![61, 0, 9], own.bytes, bare.bytes] {
            let before = tracker.read(&descriptor).unwrap();
            let frame = tracker.layer_frame(&before).unwrap();
            let mut out = [0xff; 255];
            let len = write_active_targets(&descriptor, &frame, 0b0101, &mut out).unwrap();
            let after = tracker.read(&out[..len]).unwrap();
            assert_eq!(after.active_decode_targets, Some(0b0101));
            let same = |found: DependencyDescriptor| {
                (found.frame, found.frame_number, found.has_structure, found.starts_frame)
            };
            assert_eq!(same(after), same(before));
            assert!(write_active_targets(&descriptor, &frame, 1, &mut out[..len - 1]).is_none());
        }
    }

    #[test]
    fn limits_of_the_template_table() {
        let table = |count: usize| Wanted {
            id_offset: 0,
            targets: 32,
            templates: vec![(0, 0, vec![3; 32]); count],
            differences: vec![0; count],
            chains: 32,
            resolutions: vec![],
        };
        let mut tracker = DependencyTracker::default();
        let full = tracker.read(&key_frame(&table(64), 63, 1)).unwrap();
        assert_eq!(full.active_decode_targets, Some(u32::MAX));
        assert_eq!(full.frame.unwrap().indications, Indications(u64::MAX));
        assert_eq!(tracker.read(&key_frame(&table(65), 0, 1)), None);

        for (layers, fits) in [((3, 7), true), ((4, 0), false), ((0, 8), false)] {
            let (spatial, temporal) = layers;
            let mut templates: Vec<_> = (0..=spatial).map(|s| (s, 0, vec![2])).collect();
            templates.extend((1..=temporal).map(|t| (spatial, t, vec![2])));
            let differences = vec![0; templates.len()];
            let wanted = Wanted { targets: 1, chains: 0, templates, differences, ..table(0) };
            assert_eq!(tracker.read(&key_frame(&wanted, 0, 1)).is_some(), fits, "{layers:?}");
        }
    }

    #[test]
    fn non_symmetric_numbers() {
        for n in 1..=33 {
            for number in 0..n {
                let mut out = Written::default();
                out.put_non_symmetric(number, n).put(1, 1);
                let mut bits = Bits { bytes: &out.bytes, at: 0 };
                assert_eq!(bits.non_symmetric(n), Some(number), "{number} of {n}");
                assert_eq!(bits.flag(), Some(true), "{number} of {n}");
            }
        }
    }

    #[test]
    fn random_structures_read_back() {
        let mut random = Random(13);
        for _ in 0..5_000 {
            let targets = 1 + random.below(32) as u32;
            let mut layers = (0u8, 0u8);
            let mut templates = Vec::new();
            for _ in 0..1 + random.below(20) {
                let indications = (0..targets).map(|_| random.below(4) as u32).collect();
                templates.push((layers.0, layers.1, indications));
                match random.below(6) {
                    0 if layers.0 < 3 => layers = (layers.0 + 1, 0),
                    1 if layers.1 < 7 => layers.1 += 1,
                    _ => {}
                }
            }
            let wanted = Wanted {
                id_offset: random.below(64) as u32,
                targets,
                differences: templates.iter().map(|_| random.below(4) as u32).collect(),
                templates,
                chains: random.below(targets as usize + 1) as u32,
                resolutions: Vec::new(),
            };
            let mut tracker = DependencyTracker::default();
            for (index, template) in wanted.templates.iter().enumerate() {
                let id = (wanted.id_offset + index as u32) % 64;
                let frame = tracker.read(&key_frame(&wanted, id, 1)).unwrap().frame.unwrap();
                assert_eq!((frame.spatial, frame.temporal), (template.0, template.1));
                for (target, &indication) in template.2.iter().enumerate() {
                    let found = frame.indications.of(target as u8);
                    assert_eq!(found as u32, indication);
                }
                assert_eq!(frame.indications.any_switch(), template.2.contains(&2));
            }
        }
    }

    #[test]
    fn garbage_never_panics() {
        let mut random = Random(14);
        let mut tracker = DependencyTracker::default();
        let mut understood = 0;
        let seed = key_frame(&l2t2(), 60, 7);
        for _ in 0..200_000 {
            let mutant = random.mutate(&seed);
            let Some(found) = tracker.read(&mutant) else { continue };
            understood += usize::from(found.frame.is_some());
            if let Some(structure) = tracker.structure() {
                structure.decode_target(random.bits() as u8, random.bits() as u8);
                structure.resolution(random.bits() as u8);
            }
        }
        assert!(understood > 1_000, "the mutants are too far from anything real");
    }
}
