//! Input: codec (1), which extension ids (1), then packets of one stream, each with its length (2).
#![forbid(unsafe_code)]

use opencall_wire::codec::Codec;
use opencall_wire::rtp::dependency_descriptor::{
    DependencyTracker, Indication, write_active_targets,
};
use opencall_wire::rtp::extension::{
    AbsCaptureTime, Extension, ExtensionIds, parse_audio_level, transport_sequence,
};
use opencall_wire::rtp::payload::{LayerTracker, PayloadInfo, inspect, inspect_tracked};
use opencall_wire::rtp::picture_ids::{PictureId, PictureIds};
use opencall_wire::rtp::red::RedPayload;
use opencall_wire::rtp::vp8::Vp8Descriptor;
use opencall_wire::rtp::vp9::Vp9Descriptor;
use opencall_wire::rtp::{ExtensionForm, ExtensionSpans, HeaderWriter, OutgoingHeader, RtpHeader};

use crate::input::Input;

/// All codecs.
const CODECS: [Codec; 6] =
    [Codec::Opus, Codec::Vp8, Codec::Vp9, Codec::H264, Codec::Av1, Codec::Opaque];

/// Room for a header as the forwarding path has it.
const HEADER_ROOM: usize = 2048;

/// Reads each packet as ingress does and writes its header as egress does.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let codec = CODECS[usize::from(input.below(CODECS.len() as u8))];
    let ids = extension_ids(input.byte());
    let mut tracker = LayerTracker::default();
    while !input.is_empty() {
        read_packet(input.bytes(), codec, &ids, &mut tracker);
    }
}

/// Ids of one-byte headers, or, bit by bit, of two-byte headers.
fn extension_ids(wide: u8) -> ExtensionIds {
    let mut ids = ExtensionIds::default();
    for (index, extension) in (1u8..).zip(Extension::ALL) {
        let id = if wide >> (index % 8) & 1 == 1 { index + 100 } else { index };
        ids.set(extension, id);
    }
    ids
}

fn read_packet(packet: &[u8], codec: Codec, ids: &ExtensionIds, tracker: &mut LayerTracker) {
    let Some(header) = RtpHeader::parse(packet) else { return };
    let header_len = usize::from(header.header_len);
    assert!(header_len <= packet.len());
    assert_eq!(header.extension_offset + header.extension_len, header.header_len);
    let spans = ExtensionSpans::parse(packet, &header, ids);
    read_values(packet, &header, &spans);
    write_header(packet, &header, &spans, ids);
    let Some(range) = header.payload_range(packet) else { return };
    assert!(range.start == header_len && range.end <= packet.len());
    let payload = &packet[range];
    let descriptor = spans.of(Extension::DependencyDescriptor, packet);
    for any in CODECS {
        check_info(&inspect(any, payload, header.marker, descriptor), any, payload);
        check_info(&inspect(any, payload, header.marker, None), any, payload);
    }
    if let Some(descriptor) = descriptor {
        read_descriptor(descriptor, &mut tracker.dependencies().clone());
    }
    if let Some(red) = RedPayload::parse(payload) {
        let blocks = red.repetitions().iter().chain([&red.own]);
        let len: usize = blocks.map(|block| payload[block.range()].len()).sum();
        assert_eq!(len + 4 * red.repetitions().len() + 1, payload.len());
    }
    let info = inspect_tracked(codec, payload, header.marker, descriptor, tracker);
    check_info(&info, codec, payload);
    if let Some(vp9) = Vp9Descriptor::parse(payload) {
        assert!((1..=payload.len()).contains(&usize::from(vp9.len)));
    }
}

/// Every value lies inside the extension block, and reading it is harmless.
fn read_values(packet: &[u8], header: &RtpHeader, spans: &ExtensionSpans) {
    let block = packet[..usize::from(header.header_len)].as_ptr_range();
    for extension in Extension::ALL {
        let Some(value) = spans.of(extension, packet) else { continue };
        assert!(block.contains(&value.as_ptr()) || value.is_empty());
        assert!(value.as_ptr_range().end <= block.end);
        assert_eq!(spans.of_mut(extension, &mut packet.to_vec()), Some(&mut *value.to_vec()));
        assert_eq!(parse_audio_level(value).is_some(), !value.is_empty());
        assert_eq!(transport_sequence(value).is_some(), value.len() >= 2);
        if let Some(time) = AbsCaptureTime::parse(value) {
            let mut out = [0; AbsCaptureTime::MAX_LEN];
            let len = time.encode(&mut out);
            assert_eq!(AbsCaptureTime::parse(&out[..len]), Some(time));
        }
    }
}

/// What was read can be written, and reads as before.
fn write_header(packet: &[u8], header: &RtpHeader, spans: &ExtensionSpans, ids: &ExtensionIds) {
    let values = || {
        Extension::ALL.into_iter().filter_map(|extension| {
            Some((extension, ids.id(extension)?, spans.of(extension, packet)?))
        })
    };
    let form = values()
        .map(|(_, id, value)| ExtensionForm::needed(id, value.len()))
        .max()
        .unwrap_or_default();
    let fields = OutgoingHeader {
        marker: header.marker,
        payload_type: header.payload_type,
        sequence: header.sequence,
        timestamp: header.timestamp,
        ssrc: header.ssrc,
    };
    let write = |out: &mut [u8]| {
        let writer = HeaderWriter::new(out, fields, form)?;
        values().fold(writer, |writer, (_, id, value)| writer.extension(id, value)).finish()
    };
    let mut out = [0xa5; HEADER_ROOM];
    let Some(len) = write(&mut out) else {
        // Eleven values of up to 255 bytes do not fit.
        assert!(values().map(|(_, _, value)| value.len() + 2).sum::<usize>() > HEADER_ROOM - 20);
        return;
    };
    let written = RtpHeader::parse(&out[..len]).expect("what we write we can read");
    assert_eq!(usize::from(written.header_len), len);
    assert_eq!(
        (written.marker, written.payload_type, written.sequence, written.timestamp, written.ssrc),
        (header.marker, header.payload_type, header.sequence, header.timestamp, header.ssrc)
    );
    let again = ExtensionSpans::parse(&out[..len], &written, ids);
    for extension in Extension::ALL {
        assert_eq!(again.of(extension, &out), spans.of(extension, packet));
    }
    assert_eq!(write(&mut out[..len]), Some(len), "it needs no more room than it takes");
    assert_eq!(write(&mut out[..len - 1]), None);
}

/// A descriptor that cannot be read leaves what is remembered as it was.
fn read_descriptor(descriptor: &[u8], tracker: &mut DependencyTracker) {
    let before = tracker.structure().cloned();
    let Some(found) = tracker.read(descriptor) else {
        assert!(tracker.structure() == before.as_ref(), "nonsense must not be remembered");
        return;
    };
    if !found.has_structure {
        assert!(tracker.structure() == before.as_ref());
    }
    let Some(structure) = tracker.structure() else {
        assert_eq!(found.frame, None);
        return;
    };
    let targets = structure.decode_targets();
    assert!((1..=32).contains(&targets));
    if let Some(active) = found.active_decode_targets {
        assert_eq!(u64::from(active) >> targets, 0, "no target beyond those there are");
    }
    for target in 0..=targets {
        let layers = structure.layers(target);
        assert!(layers.is_none_or(|(spatial, temporal)| spatial < 4 && temporal < 8));
        if let Some((spatial, temporal)) = layers {
            assert!(structure.decode_target(spatial, temporal).is_some_and(|t| t <= target));
        }
    }
    assert_eq!(structure.resolution(4), None);
    if let Some(frame) = found.frame {
        assert!(frame.spatial < 4 && frame.temporal < 8);
        let indications = frame.indications;
        let switches = (0..targets).any(|t| indications.of(t) == Indication::Switch);
        assert_eq!(indications.any_switch(), switches);
        assert_eq!(indications.of(targets), Indication::NotPresent);
    }
    if let Some(frame) = tracker.layer_frame(&found)
        && let Some(mask) = frame.active_targets(1, 1, true)
    {
        let mut out = [0; 300];
        let len = write_active_targets(descriptor, &frame, mask, &mut out);
        let len = len.expect("there is room for any descriptor");
        let again = tracker.clone().read(&out[..len]).expect("only the mask is another");
        assert_eq!(again.active_decode_targets, Some(mask));
        assert_eq!(again.frame, found.frame);
    }
}

fn check_info(info: &PayloadInfo, codec: Codec, payload: &[u8]) {
    assert!(info.spatial < 8 && info.temporal < 8);
    match info.ids {
        Some(ids) => {
            assert!(matches!(codec, Codec::Vp8 | Codec::Vp9));
            patch_ids(codec, &ids, payload);
        }
        None => assert!(ids_of(codec, payload).is_none()),
    }
    if matches!(codec, Codec::Opus | Codec::Opaque) && info.ids.is_none() {
        // Only a dependency descriptor can say so of these.
        assert!(!info.key_frame || info.starts_picture);
    }
}

/// The length of the payload descriptor and the numbers in it.
fn ids_of(codec: Codec, payload: &[u8]) -> Option<(usize, PictureIds)> {
    match codec {
        Codec::Vp8 => Vp8Descriptor::parse(payload).map(|vp8| (usize::from(vp8.len), vp8.ids)),
        Codec::Vp9 => Vp9Descriptor::parse(payload).map(|vp9| (usize::from(vp9.len), vp9.ids)),
        _ => None,
    }
}

/// Rewriting changes the two ids, each where it is and as wide as it is, and nothing else.
fn patch_ids(codec: Codec, ids: &PictureIds, payload: &[u8]) {
    const PICTURE_ID: u16 = 0x1234;
    const TL0_PIC_IDX: u8 = 0x56;
    let mut patched = payload.to_vec();
    ids.patch(&mut patched, PICTURE_ID, TL0_PIC_IDX);
    let (len, again) = ids_of(codec, &patched).expect("it is as long as before");
    let mut want = *ids;
    want.picture_id = want.picture_id.map(|id| PictureId {
        value: if id.wide { PICTURE_ID } else { PICTURE_ID & 0x7f },
        wide: id.wide,
    });
    want.tl0_pic_idx = want.tl0_pic_idx.map(|_| TL0_PIC_IDX);
    assert_eq!(again, want);
    assert_eq!(patched[len..], payload[len..]);
    let (picture_id, tl0_pic_idx) =
        (ids.picture_id.map_or(0, |id| id.value), ids.tl0_pic_idx.unwrap_or_default());
    ids.patch(&mut patched, picture_id, tl0_pic_idx);
    assert_eq!(patched, payload, "the old ids make it what it was");
}
