//! Which producer an incoming RTP packet belongs to: by SSRC, else by MID, else by RID
//! (RFC 9143 section 9.2, RFC 8852). Filled only by authenticated packets.
//!
//! An SSRC moves to another stream when a packet's MID, RID or repaired RID names that.
#![forbid(unsafe_code)]

use std::collections::HashMap;

use foldhash::fast::RandomState;
use opencall_wire::codec::Codec;

use crate::drop_reason::DropReason;
use crate::message::{PayloadTypeMapping, ProducerConfig, ShortId};
use crate::store::ProducerKey;

/// SSRCs a transport may have in use at once: 32 producers of 4 encodings, each with RTX. The SRTP
/// context has the same bound.
const MAX_SSRCS: usize = 256;

/// What an SSRC is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamRef {
    /// The producer.
    pub producer: ProducerKey,
    /// Index of the encoding.
    pub encoding: u8,
    /// Whether it is the encoding's retransmission stream.
    pub rtx: bool,
}

/// How a payload type is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadType {
    /// The mapping it belongs to.
    pub mapping: PayloadTypeMapping,
    /// Whether it is the mapping's RTX payload type.
    pub rtx: bool,
}

/// One producer's rules.
#[derive(Debug, Clone)]
struct Rule {
    producer: ProducerKey,
    mid: Option<ShortId>,
    rids: Vec<Option<ShortId>>,
    payload_types: Vec<PayloadTypeMapping>,
}

/// The transport's table.
#[derive(Debug, Clone, Default)]
pub struct StreamTable {
    ssrcs: HashMap<u32, Known, RandomState>,
    rules: Vec<Rule>,
}

/// A known SSRC: its stream, and by which names its packets may call that.
#[derive(Debug, Clone, Copy)]
struct Known {
    stream: StreamRef,
    mid: Name,
    rid: Name,
}

/// A MID or RID in one register, so that the common path compares it without a loop or a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name(u64);

impl Name {
    /// A packet without it.
    const ABSENT: Name = Name(0);
    /// What a packet has and does not fit here; compared where the SSRC may have moved.
    const LONG: Name = Name(u64::MAX - 1);
    /// Equal to no name of a packet.
    const NONE: Name = Name(u64::MAX);

    /// Bytes that fit beside their number. Browsers' names have one or two.
    const MAX_LEN: usize = 7;

    #[inline]
    fn of(id: Option<&[u8]>) -> Name {
        match id {
            None => Name::ABSENT,
            Some(&[only]) => Name(2 << 8 | u64::from(only)),
            Some(id) if id.len() > Name::MAX_LEN => Name::LONG,
            Some(id) => {
                Name(id.iter().fold(1 + id.len() as u64, |name, &byte| name << 8 | u64::from(byte)))
            }
        }
    }

    /// The name of a stream as packets must have it; [`Name::NONE`] if it is not known or too long.
    fn ours(id: Option<&ShortId>) -> Name {
        match Name::of(id.map(|id| id.as_slice())) {
            Name::ABSENT | Name::LONG => Name::NONE,
            name => name,
        }
    }

    /// Whether a packet's name, if it has one, is this.
    #[inline]
    fn agrees(self, ours: Name) -> bool {
        self == Name::ABSENT || self == ours
    }
}

/// The identifying header extensions of a packet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Identity<'a> {
    /// MID.
    pub mid: Option<&'a [u8]>,
    /// RID of a media packet.
    pub rid: Option<&'a [u8]>,
    /// RID that a retransmission repairs.
    pub repaired_rid: Option<&'a [u8]>,
}

impl StreamTable {
    /// Adds a producer's announced SSRCs and its rules.
    pub fn add(&mut self, producer: ProducerKey, config: &ProducerConfig) {
        self.rules.push(Rule {
            producer,
            mid: config.mid.clone(),
            rids: config.encodings.iter().map(|encoding| encoding.rid.clone()).collect(),
            payload_types: config.payload_types.to_vec(),
        });
        for (index, encoding) in config.encodings.iter().enumerate() {
            let stream = StreamRef { producer, encoding: index as u8, rtx: false };
            let rtx = StreamRef { rtx: true, ..stream };
            for (ssrc, stream) in [(encoding.ssrc, stream), (encoding.rtx_ssrc, rtx)] {
                if let Some(ssrc) = ssrc {
                    self.insert(ssrc, stream);
                }
            }
        }
    }

    /// Forgets a producer; `retired` is called with each SSRC it had.
    pub fn remove(&mut self, producer: ProducerKey, mut retired: impl FnMut(u32)) {
        self.ssrcs.retain(|&ssrc, known| {
            let kept = known.stream.producer != producer;
            if !kept {
                retired(ssrc);
            }
            kept
        });
        self.rules.retain(|rule| rule.producer != producer);
    }

    /// The SSRCs that are known.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> {
        self.ssrcs.keys().copied()
    }

    /// The stream of a known SSRC.
    pub fn known(&self, ssrc: u32) -> Option<StreamRef> {
        self.ssrcs.get(&ssrc).map(|known| known.stream)
    }

    /// The stream of a packet's SSRC, if that is known and the packet names no other by its MID. It
    /// has no RID: the common path.
    #[inline]
    pub fn settled_by_mid(&self, ssrc: u32, mid: Option<&[u8]>) -> Option<StreamRef> {
        let known = self.ssrcs.get(&ssrc)?;
        Name::of(mid).agrees(known.mid).then_some(known.stream)
    }

    /// The same of any packet.
    #[inline(never)]
    pub fn settled(&self, ssrc: u32, identity: Identity<'_>) -> Option<StreamRef> {
        let known = self.ssrcs.get(&ssrc)?;
        let repaired = identity.repaired_rid.filter(|_| known.stream.rtx);
        let settled = Name::of(identity.mid).agrees(known.mid)
            && Name::of(repaired.or(identity.rid)).agrees(known.rid);
        settled.then_some(known.stream)
    }

    /// The stream that a packet of a new SSRC belongs to. `None`: to no producer (yet), or there is
    /// no room for it.
    pub fn identify(&self, payload_type: u8, identity: Identity<'_>) -> Option<StreamRef> {
        let stream = self.rules.iter().find_map(|rule| rule.matches(payload_type, identity))?;
        (self.ssrcs.len() < MAX_SSRCS).then_some(stream)
    }

    /// The stream to which a packet moves its SSRC from `stream`; `None` if its identity is unknown
    /// here, and the SSRC stays.
    ///
    /// # Errors
    /// [`DropReason::NoProducer`]: the MID is another producer's, but no encoding of it matches.
    pub fn moved(
        &self,
        stream: StreamRef,
        payload_type: u8,
        identity: Identity<'_>,
    ) -> Result<Option<StreamRef>, DropReason> {
        // RIDs are unique within their MID only.
        let rules = self.rules.iter();
        let mut rules =
            rules.filter(|rule| rule.producer == stream.producer || rule.owns(identity));
        let to = rules.clone().find_map(|rule| rule.matches(payload_type, identity));
        match to {
            Some(to) if (to.producer, to.encoding) != (stream.producer, stream.encoding) => {
                Ok(Some(to))
            }
            None if rules.any(|rule| rule.producer != stream.producer) => {
                Err(DropReason::NoProducer)
            }
            _ => Ok(None),
        }
    }

    /// Remembers that a stream goes on under this SSRC. A browser that restarts a track keeps MID
    /// and RID and draws a new SSRC: the old one of the same stream is dead.
    pub fn learn(&mut self, ssrc: u32, stream: StreamRef) {
        self.ssrcs.retain(|_, old| old.stream != stream);
        self.insert(ssrc, stream);
    }

    fn insert(&mut self, ssrc: u32, stream: StreamRef) {
        let rule = self.rule(stream.producer);
        let rid = rule.and_then(|rule| rule.rids.get(usize::from(stream.encoding))?.as_ref());
        let mid = rule.and_then(|rule| rule.mid.as_ref());
        let known = Known { stream, mid: Name::ours(mid), rid: Name::ours(rid) };
        self.ssrcs.insert(ssrc, known);
    }

    /// How `payload_type` is to be read on this producer.
    pub fn payload_type(&self, producer: ProducerKey, payload_type: u8) -> Option<PayloadType> {
        self.rule(producer)?.payload_type(payload_type)
    }

    fn rule(&self, producer: ProducerKey) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.producer == producer)
    }
}

impl Rule {
    fn payload_type(&self, payload_type: u8) -> Option<PayloadType> {
        self.payload_types.iter().find_map(|&mapping| {
            let rtx = mapping.incoming_rtx == Some(payload_type);
            (rtx || mapping.incoming == payload_type).then_some(PayloadType { mapping, rtx })
        })
    }

    /// Whether a packet's MID is this producer's.
    fn owns(&self, identity: Identity<'_>) -> bool {
        identity.mid.is_some() && identity.mid == self.mid.as_deref()
    }

    fn matches(&self, payload_type: u8, identity: Identity<'_>) -> Option<StreamRef> {
        let rtx = self.payload_type(payload_type)?.rtx;
        let mid_agrees = match (identity.mid, &self.mid) {
            (Some(theirs), Some(ours)) => {
                if theirs != ours.as_slice() {
                    return None;
                }
                true
            }
            _ => false,
        };
        let rid = if rtx { identity.repaired_rid.or(identity.rid) } else { identity.rid };
        let encoding = match rid {
            Some(rid) => self.rids.iter().position(|ours| ours.as_deref() == Some(rid))?,
            // Without a RID only a producer of one encoding is certain, and only by its MID.
            None if mid_agrees && self.rids.len() == 1 => 0,
            None => return None,
        };
        // A RID alone identifies only where no MID was given (PROTOCOL: RID without MID).
        if !mid_agrees && identity.mid.is_some() {
            return None;
        }
        Some(StreamRef { producer: self.producer, encoding: encoding as u8, rtx })
    }
}

/// The codec whose packets can be cut anywhere: a switch needs no key frame.
pub fn needs_key_frame(codec: Codec) -> bool {
    !matches!(codec, Codec::Opus | Codec::Red | Codec::Opaque)
}

#[cfg(test)]
mod tests {
    use opencall_wire::codec::MediaKind;
    use opencall_wire::rtp::extension::ExtensionIds;
    use smallvec::{SmallVec, smallvec};

    use super::*;
    use crate::message::*;

    fn key(bits: u32) -> ProducerKey {
        ProducerKey::of_test(bits)
    }

    fn simulcast(mid: &[u8]) -> ProducerConfig {
        let encoding = |rid: &[u8]| EncodingConfig {
            rid: Some(ShortId::from_slice(rid)),
            ssrc: None,
            rtx_ssrc: None,
            max_bitrate_bps: None,
        };
        ProducerConfig {
            id: ProducerId(1),
            origin: Origin::Transport(TransportId(1)),
            home: CoreId(0),
            kind: MediaKind::Video,
            mid: Some(ShortId::from_slice(mid)),
            payload_types: smallvec![PayloadTypeMapping {
                incoming: 96,
                incoming_rtx: Some(97),
                router: 101,
                codec: Codec::Vp8,
                clock_rate_hz: 90_000,
            }],
            encodings: [b"r0", b"r1", b"r2"].iter().map(|rid| encoding(*rid)).collect(),
            extensions: ExtensionIds::default(),
            feedback: Feedback::default(),
            paused: false,
            checkpoint: Default::default(),
        }
    }

    fn single(mid: &[u8], ssrc: Option<u32>) -> ProducerConfig {
        let encodings: SmallVec<[EncodingConfig; 3]> = smallvec![EncodingConfig {
            rid: None,
            ssrc,
            rtx_ssrc: ssrc.map(|ssrc| ssrc + 1),
            max_bitrate_bps: None,
        }];
        ProducerConfig { encodings, ..simulcast(mid) }
    }

    fn identity<'a>(mid: &'a [u8], rid: &'a [u8], repaired: &'a [u8]) -> Identity<'a> {
        let some = |id: &'a [u8]| (!id.is_empty()).then_some(id);
        Identity { mid: some(mid), rid: some(rid), repaired_rid: some(repaired) }
    }

    impl StreamTable {
        fn recognise(&mut self, ssrc: u32, pt: u8, identity: Identity<'_>) -> Option<StreamRef> {
            let stream = self.identify(pt, identity)?;
            self.learn(ssrc, stream);
            Some(stream)
        }
    }

    #[test]
    fn streams_are_found_by_ssrc_then_mid_and_rid() {
        let mut table = StreamTable::default();
        table.add(key(7), &simulcast(b"0"));
        table.add(key(9), &single(b"1", Some(0x1000)));
        let found = |producer, encoding, rtx| Some(StreamRef { producer, encoding, rtx });

        assert_eq!(table.known(0x1000), found(key(9), 0, false));
        assert_eq!(table.known(0x1001), found(key(9), 0, true));
        // (ssrc, payload type, identity, expected)
        let cases = [
            (1, 96, identity(b"0", b"r1", b""), found(key(7), 1, false)),
            (2, 97, identity(b"0", b"", b"r1"), found(key(7), 1, true)),
            (3, 96, identity(b"", b"r2", b""), found(key(7), 2, false)),
            (4, 96, identity(b"0", b"", b""), None), // which of three?
            (5, 96, identity(b"0", b"r9", b""), None), // no such RID
            (6, 96, identity(b"zz", b"r0", b""), None), // a MID that is not ours
            (7, 99, identity(b"0", b"r0", b""), None), // unknown payload type
            (8, 96, identity(b"1", b"", b""), found(key(9), 0, false)),
            (9, 97, identity(b"1", b"", b""), found(key(9), 0, true)),
        ];
        for (ssrc, payload_type, identity, expected) in cases {
            assert_eq!(table.recognise(ssrc, payload_type, identity), expected, "ssrc {ssrc}");
            assert_eq!(table.known(ssrc), expected, "ssrc {ssrc}");
        }
        let mut retired = Vec::new();
        table.remove(key(7), |ssrc| retired.push(ssrc));
        retired.sort_unstable();
        assert_eq!(retired, [1, 2, 3]);
        assert_eq!(table.known(1), None);
        assert_eq!(table.recognise(1, 96, identity(b"0", b"r1", b"")), None);
    }

    #[test]
    fn what_a_packet_says_of_itself_moves_its_ssrc() {
        let mut table = StreamTable::default();
        table.add(key(7), &simulcast(b"0"));
        table.add(key(8), &simulcast(b"2"));
        table.add(key(9), &single(b"1", Some(0x1000)));
        let nameless = ProducerConfig { mid: None, ..single(b"", Some(0x3000)) };
        table.add(key(5), &nameless);
        let at = |producer, encoding, rtx| StreamRef { producer, encoding, rtx };
        let (layer, repair, camera) =
            (at(key(8), 1, false), at(key(8), 1, true), at(key(9), 0, false));
        let stays = Ok(None);
        // (stream of the SSRC, payload type, identity, where it goes)
        let cases = [
            (camera, 96, identity(b"", b"", b""), stays),
            (camera, 96, identity(b"1", b"", b""), stays),
            (camera, 96, identity(b"2", b"r2", b""), Ok(Some(at(key(8), 2, false)))),
            (camera, 96, identity(b"2", b"", b""), Err(DropReason::NoProducer)),
            (camera, 99, identity(b"2", b"r0", b""), Err(DropReason::NoProducer)),
            (camera, 96, identity(b"zz", b"", b""), stays), // nobody's
            (camera, 96, identity(b"", b"r0", b""), stays), // it has no such encoding
            (layer, 96, identity(b"2", b"r1", b""), stays),
            (layer, 96, identity(b"", b"r1", b""), stays), // of its producer, not of the first
            (layer, 96, identity(b"", b"r0", b""), Ok(Some(at(key(8), 0, false)))),
            (layer, 96, identity(b"1", b"", b""), Ok(Some(camera))),
            (layer, 96, identity(b"2", b"r9", b""), stays),
            (repair, 97, identity(b"2", b"", b"r1"), stays),
            (repair, 97, identity(b"2", b"", b"r2"), Ok(Some(at(key(8), 2, true)))),
            (repair, 97, identity(b"0", b"", b"r1"), Ok(Some(at(key(7), 1, true)))),
            (at(key(5), 0, false), 96, identity(b"1", b"", b""), Ok(Some(camera))),
            (at(key(5), 0, false), 96, identity(b"zz", b"", b""), stays),
        ];
        for (stream, payload_type, identity, to) in cases {
            assert_eq!(table.moved(stream, payload_type, identity), to, "{stream:?} {identity:?}");
            table.insert(0x5000, stream);
            let settled = table.settled(0x5000, identity);
            if identity.rid.or(identity.repaired_rid).is_none() {
                assert_eq!(table.settled_by_mid(0x5000, identity.mid), settled);
            }
            assert!(to == stays || settled.is_none(), "{stream:?} {identity:?}");
            assert!(settled.is_none_or(|settled| settled == stream));
        }
        table.insert(0x5000, layer);
        for identity in
            [identity(b"2", b"r1", b""), identity(b"", b"r1", b""), identity(b"", b"", b"")]
        {
            assert_eq!(table.settled(0x5000, identity), Some(layer));
        }
        table.insert(0x5000, repair);
        assert_eq!(table.settled(0x5000, identity(b"2", b"", b"r1")), Some(repair));
    }

    #[test]
    fn names_differ_in_every_byte_and_in_length() {
        let name = |id: &'static [u8]| Name::of(Some(id));
        let names = [
            Name::ABSENT,
            name(b""),
            name(b"\0"),
            name(b"\0\0"),
            name(b"0"),
            name(b"1"),
            name(b"00"),
        ]
        .into_iter()
        .chain([name(b"\xff\xff\xff\xff\xff\xff\xff"), Name::LONG, Name::NONE]);
        let mut seen = std::collections::HashSet::new();
        assert!(names.into_iter().all(|name| seen.insert(name.0)));
        assert_eq!(name(b"12345678"), Name::LONG);
        assert_eq!(Name::ours(Some(&ShortId::from_slice(b"12345678"))), Name::NONE);
        // Long names take the way of those that may have moved, and stay.
        let mut table = StreamTable::default();
        table.add(key(3), &single(b"a-rather-long", Some(0x1000)));
        let long = identity(b"a-rather-long", b"", b"");
        let stream = table.known(0x1000).unwrap();
        assert_eq!(table.settled(0x1000, long), None);
        assert_eq!(table.moved(stream, 96, long), Ok(None));
    }

    #[test]
    fn a_new_ssrc_of_the_same_stream_replaces_the_old() {
        let mut table = StreamTable::default();
        table.add(key(0), &simulcast(b"0"));
        table.recognise(1, 96, identity(b"0", b"r0", b""));
        table.recognise(2, 96, identity(b"0", b"r0", b""));
        assert_eq!(table.known(1), None);
        assert!(table.known(2).is_some());
    }
}
