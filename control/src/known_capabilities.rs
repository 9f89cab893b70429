//! Peers with the same browser have the same capabilities, some 11 KiB of them: kept once.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use crate::rtp_parameters::RtpCapabilities;

/// Sets of capabilities remembered: a few browsers in a few versions. Who has others keeps them
/// alone.
const MAX_KNOWN: usize = 16;

/// The sets of capabilities that peers have now, the last one seen first.
#[derive(Default)]
pub(crate) struct KnownCapabilities(VecDeque<Weak<RtpCapabilities>>);

impl KnownCapabilities {
    /// The same capabilities, in one place with those of others.
    pub(crate) fn share(&mut self, capabilities: RtpCapabilities) -> Arc<RtpCapabilities> {
        self.0.retain(|known| known.strong_count() > 0);
        let mut alive = self.0.iter().filter_map(Weak::upgrade);
        if let Some(known) = alive.find(|known| **known == capabilities) {
            return known;
        }
        let capabilities = Arc::new(capabilities);
        self.0.truncate(MAX_KNOWN - 1);
        self.0.push_front(Arc::downgrade(&capabilities));
        capabilities
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp_parameters::{Kind, RtpHeaderExtension};

    fn capabilities(extension: u8) -> RtpCapabilities {
        let extension: RtpHeaderExtension = serde_json::from_value(serde_json::json!({
            "kind": Kind::Audio, "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "preferredId": extension,
        }))
        .unwrap();
        RtpCapabilities { header_extensions: vec![extension], ..RtpCapabilities::default() }
    }

    #[test]
    fn equal_capabilities_are_kept_once_and_only_as_long_as_someone_has_them() {
        let mut known = KnownCapabilities::default();
        let first = known.share(capabilities(1));
        let other = known.share(capabilities(2));
        assert!(Arc::ptr_eq(&first, &known.share(capabilities(1))));
        assert!(!Arc::ptr_eq(&first, &other));
        let weak = Arc::downgrade(&first);
        drop(first);
        assert!(weak.upgrade().is_none());
        assert_eq!(*known.share(capabilities(1)), capabilities(1));
        assert_eq!(known.0.len(), 2);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut known = KnownCapabilities::default();
        let kept: Vec<_> = (0..100).map(|id| known.share(capabilities(id))).collect();
        assert_eq!(known.0.len(), MAX_KNOWN);
        assert!(Arc::ptr_eq(&kept[99], &known.share(capabilities(99))));
    }
}
