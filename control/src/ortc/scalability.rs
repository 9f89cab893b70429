//! Scalability modes (W3C webrtc-svc): `L1T3`, `S3T3`, `L3T3_KEY`, `L3T3_KEY_SHIFT`…
#![forbid(unsafe_code)]

use std::fmt;

/// Most spatial or temporal layers that any mode of the W3C table has, with room to spare; a larger
/// number is nonsense and reads as no mode at all.
const MAX_LAYERS: u8 = 8;

/// How many layers one stream carries inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScalabilityMode {
    /// Spatial layers (or simulcast streams within one SSRC, for `S` modes); 1 or more.
    pub spatial: u8,
    /// Temporal layers, 1 or more.
    pub temporal: u8,
    /// Upper spatial layers refer to lower ones only at key frames (`_KEY`).
    pub key_only: bool,
}

impl ScalabilityMode {
    /// One layer of each.
    pub const NONE: ScalabilityMode = ScalabilityMode { spatial: 1, temporal: 1, key_only: false };

    /// Reads a mode; what cannot be read is one layer.
    pub fn parse(text: &str) -> Self {
        Self::try_parse(text).unwrap_or(Self::NONE)
    }

    fn try_parse(text: &str) -> Option<Self> {
        let rest = text.strip_prefix(['L', 'S'])?;
        let (spatial, rest) = rest.split_once('T')?;
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (temporal, suffix) = rest.split_at_checked(digits)?;
        let layers = |text: &str| text.parse().ok().filter(|n| (1..=MAX_LAYERS).contains(n));
        Some(ScalabilityMode {
            spatial: layers(spatial)?,
            temporal: layers(temporal)?,
            key_only: suffix.starts_with("_KEY"),
        })
    }

    /// Whether there is more than one layer of either kind.
    pub fn is_layered(self) -> bool {
        self.spatial > 1 || self.temporal > 1
    }
}

impl fmt::Display for ScalabilityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = if self.key_only { "_KEY" } else { "" };
        write!(f, "L{}T{}{key}", self.spatial, self.temporal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_read_as_layer_counts_and_nonsense_as_one_layer() {
        let table = [
            ("L1T3", (1, 3, false)),
            ("S3T3", (3, 3, false)),
            ("L3T3_KEY", (3, 3, true)),
            ("L3T2_KEY_SHIFT", (3, 2, true)),
            ("L2T1h", (2, 1, false)),
            ("L8T8", (8, 8, false)),
            ("", (1, 1, false)),
            ("L0T3", (1, 1, false)),
            ("L3T0", (1, 1, false)),
            ("L256T1", (1, 1, false)),
            ("L9T1", (1, 1, false)),
            ("L+3T3", (3, 3, false)),
            ("X3T3", (1, 1, false)),
            ("L3", (1, 1, false)),
            ("LéT3", (1, 1, false)),
            ("L3Té", (1, 1, false)),
        ];
        for (text, (spatial, temporal, key_only)) in table {
            let expected = ScalabilityMode { spatial, temporal, key_only };
            assert_eq!(ScalabilityMode::parse(text), expected, "{text}");
        }
    }

    #[test]
    fn a_mode_is_written_as_it_is_read() {
        for text in ["L1T1", "L3T3", "L3T3_KEY"] {
            assert_eq!(ScalabilityMode::parse(text).to_string(), text);
        }
    }
}
