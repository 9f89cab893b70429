//! Streams with layers inside, as the modes of browsers (W3C webrtc-svc) describe them.

use crate::bits::Bits;

/// How the spatial layers depend on each other: in every picture (`L`), at key pictures (`_KEY`),
/// never (`S`).
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Between {
    Always,
    AtKeys,
    Never,
}

/// A mode.
#[derive(Debug, Clone, Copy)]
pub struct Mode {
    pub spatial: u8,
    pub temporal: u8,
    pub between: Between,
}

/// Modes of two and three spatial layers.
pub fn modes() -> impl Iterator<Item = Mode> {
    [Between::Always, Between::AtKeys, Between::Never].into_iter().flat_map(|between| {
        (2..=3).flat_map(move |spatial| {
            (1..=3).map(move |temporal| Mode { spatial, temporal, between })
        })
    })
}

/// One frame of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Layer {
    pub spatial: u8,
    pub temporal: u8,
    pub is_key: bool,
    /// How many pictures back the one of its own layer lies that it refers to.
    pub back: Option<u16>,
    /// It refers to the lower spatial layer of its picture.
    pub needs_lower: bool,
}

impl Mode {
    /// The frames of a picture, so many after a key picture.
    pub fn picture(&self, after_key: usize) -> Vec<Layer> {
        let pattern: &[(u8, u16)] = match self.temporal {
            1 => &[(0, 1)],
            2 => &[(0, 2), (1, 1)],
            _ => &[(0, 4), (2, 1), (1, 2), (2, 1)],
        };
        let (temporal, back) = pattern[after_key % pattern.len()];
        let is_key = after_key == 0;
        let layer = |spatial| Layer {
            spatial,
            temporal,
            is_key,
            back: (!is_key).then_some(back),
            needs_lower: spatial > 0 && self.is_needed_above(is_key),
        };
        (0..self.spatial).map(layer).collect()
    }

    /// Whether frames of lower layers are needed for the layers above.
    fn is_needed_above(&self, is_key: bool) -> bool {
        self.between == Between::Always || self.between == Between::AtKeys && is_key
    }

    /// What a frame is to a decode target: as the descriptor counts.
    fn indication(&self, layer: &Layer, target: (u8, u8)) -> u32 {
        let (spatial, temporal) = target;
        if spatial < layer.spatial || temporal < layer.temporal {
            return 0;
        }
        let is_own = spatial == layer.spatial;
        match (is_own, layer.is_key) {
            (false, is_key) if !self.is_needed_above(is_key) => 0,
            (_, true) => 2,
            (false, false) => 3,
            (true, false) if layer.temporal > 0 && layer.temporal == temporal => 1,
            (true, false) => 2,
        }
    }

    /// Frames of all kinds, spatial layer by spatial layer: those of key pictures, then one for
    /// each temporal layer.
    fn templates(&self) -> Vec<Layer> {
        let pictures = [0, 4, 2, 1];
        let kinds = |spatial: u8| {
            let kinds = if self.temporal == 2 { &pictures[..2] } else { &pictures[..] };
            let kinds = if self.temporal == 2 { [kinds, &[1]].concat() } else { kinds.to_vec() };
            let kinds = kinds.into_iter().take(1 + usize::from(self.temporal));
            kinds.map(move |after| self.picture(after)[usize::from(spatial)]).collect::<Vec<_>>()
        };
        (0..self.spatial).flat_map(kinds).collect()
    }

    fn references(&self, layer: &Layer) -> Vec<u16> {
        let own = layer.back.map(|back| back * u16::from(self.spatial));
        own.into_iter().chain(layer.needs_lower.then_some(1)).collect()
    }

    /// The numbers that a frame refers to.
    pub fn refers(&self, layer: &Layer, frame: u16) -> Vec<u16> {
        self.references(layer).into_iter().map(|back| frame.wrapping_sub(back)).collect()
    }

    /// The descriptor of a packet of a frame, its first or last or both; the first of a key picture
    /// brings the structure.
    pub fn descriptor(&self, layer: &Layer, frame: u16, first: bool, last: bool) -> Vec<u8> {
        let template = usize::from(layer.spatial) * (1 + usize::from(self.temporal))
            + if layer.is_key { 0 } else { 1 + usize::from(layer.temporal) };
        let mut bits = Bits::default();
        bits.put(first.into(), 1).put(last.into(), 1);
        bits.put(template as u32, 6).put(frame.into(), 16);
        if layer.is_key && layer.spatial == 0 && first {
            self.write_structure(&mut bits);
        }
        bits.bytes()
    }

    fn write_structure(&self, bits: &mut Bits) {
        let targets: Vec<(u8, u8)> =
            (0..self.spatial).flat_map(|s| (0..self.temporal).map(move |t| (s, t))).collect();
        let templates = self.templates();
        let count = targets.len() as u32;
        bits.put(0b10000, 5).put(0, 6).put(count - 1, 5);
        for pair in templates.windows(2) {
            let next =
                match (pair[1].spatial > pair[0].spatial, pair[1].temporal > pair[0].temporal) {
                    (true, _) => 2,
                    (false, true) => 1,
                    (false, false) => 0,
                };
            bits.put(next, 2);
        }
        bits.put(3, 2);
        for template in &templates {
            for &target in &targets {
                bits.put(self.indication(template, target), 2);
            }
        }
        for template in &templates {
            for back in self.references(template) {
                bits.put(1, 1).put(u32::from(back) - 1, 4);
            }
            bits.put(0, 1);
        }
        // No chains: ns(count + 1) of zero has as few bits as that takes; no resolutions.
        bits.put(0, (count + 1).ilog2()).put(0, 1);
    }

    /// The VP9 payload of a packet of a frame (RFC 9628): in flexible mode, or with picture groups
    /// that are not told.
    pub fn vp9(&self, layer: &Layer, picture: u16, flexible: bool, ends: (bool, bool)) -> Vec<u8> {
        let brings = layer.is_key && layer.spatial == 0 && ends.0;
        let is_alone = layer.spatial + 1 == self.spatial || !self.is_needed_above(layer.is_key);
        let flags = [true, !layer.is_key, true, flexible, ends.0, ends.1, brings, is_alone];
        let first = flags.iter().fold(0, |byte, &flag| byte << 1 | u8::from(flag));
        let [high, low] = (picture | 0x8000).to_be_bytes();
        let up = u8::from(true);
        let of = layer.temporal << 5 | up << 4 | layer.spatial << 1 | u8::from(layer.needs_lower);
        let mut payload = vec![first, high, low, of];
        if !flexible {
            // TL0PICIDX, which here no two pictures need to share.
            payload.push(picture as u8);
        } else if let Some(back) = layer.back {
            payload.push((back as u8) << 1);
        }
        if brings {
            payload.push((self.spatial - 1) << 5);
        }
        payload
    }
}
