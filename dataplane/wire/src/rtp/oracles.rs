//! What we write, an independent implementation reads; what it writes, we read.
#![forbid(unsafe_code)]

use bytes::Bytes;
use rtp::codecs::{vp8::Vp8Packet, vp9::Vp9Packet};
use rtp::header as webrtc;
use rtp::packetizer::Depacketizer;
use webrtc_util::marshal::{Marshal, Unmarshal};

use super::picture_ids::PictureId;
use super::test_support::Random;
use super::vp8::Vp8Descriptor;
use super::vp9::Vp9Descriptor;
use super::{ExtensionForm, ExtensionSpans, HeaderWriter, OutgoingHeader, RtpHeader};
use crate::rtp::extension::{Extension, ExtensionIds};

fn random_header(random: &mut Random) -> OutgoingHeader {
    OutgoingHeader {
        marker: random.one_in(2),
        payload_type: random.below(128) as u8,
        sequence: random.bits() as u16,
        timestamp: random.bits() as u32,
        ssrc: random.bits() as u32,
    }
}

/// A few extensions; all fit the form.
fn random_extensions(random: &mut Random, form: ExtensionForm) -> Vec<(Extension, u8, Vec<u8>)> {
    let mut all = Vec::new();
    for extension in Extension::ALL {
        if random.one_in(3) {
            let (id, len) = match form {
                ExtensionForm::OneByte => (extension as u8 + 1, 1 + random.below(16)),
                ExtensionForm::TwoByte => (extension as u8 + 20, 17 + random.below(40)),
            };
            all.push((extension, id, random.bytes(len)));
        }
    }
    all
}

#[test]
fn webrtc_reads_the_headers_we_write() {
    let mut random = Random(30);
    for _ in 0..5_000 {
        let fields = random_header(&mut random);
        let form = [ExtensionForm::OneByte, ExtensionForm::TwoByte][random.below(2)];
        let extensions = random_extensions(&mut random, form);
        let mut out = [0xa5; 1500];
        let writer = HeaderWriter::new(&mut out, fields, form).unwrap();
        let writer = extensions.iter().fold(writer, |w, (_, id, data)| w.extension(*id, data));
        let len = writer.finish().unwrap();

        let mut bytes = Bytes::copy_from_slice(&out[..len]);
        let theirs = webrtc::Header::unmarshal(&mut bytes).unwrap();
        assert!(bytes.is_empty());
        assert_eq!(theirs.marker, fields.marker);
        assert_eq!(theirs.payload_type, fields.payload_type);
        assert_eq!(theirs.sequence_number, fields.sequence);
        assert_eq!((theirs.timestamp, theirs.ssrc), (fields.timestamp, fields.ssrc));
        assert_eq!(theirs.extensions.len(), extensions.len());
        for (_, id, data) in &extensions {
            assert_eq!(theirs.get_extension(*id).as_deref(), Some(data.as_slice()));
        }
    }
}

#[test]
fn we_read_the_headers_webrtc_writes() {
    let mut random = Random(31);
    for _ in 0..5_000 {
        let fields = random_header(&mut random);
        let form = [ExtensionForm::OneByte, ExtensionForm::TwoByte][random.below(2)];
        let extensions = random_extensions(&mut random, form);
        let mut theirs = webrtc::Header {
            version: 2,
            marker: fields.marker,
            payload_type: fields.payload_type,
            sequence_number: fields.sequence,
            timestamp: fields.timestamp,
            ssrc: fields.ssrc,
            csrc: (0..random.below(16)).map(|_| random.bits() as u32).collect(),
            ..webrtc::Header::default()
        };
        let mut ids = ExtensionIds::default();
        for (extension, id, data) in &extensions {
            ids.set(*extension, *id);
            theirs.set_extension(*id, Bytes::from(data.clone())).unwrap();
        }
        let packet = theirs.marshal().unwrap();
        let header = RtpHeader::parse(&packet).unwrap();
        assert_eq!(usize::from(header.header_len), packet.len());
        assert_eq!(header.marker, fields.marker);
        assert_eq!(header.payload_type, fields.payload_type);
        assert_eq!(header.sequence, fields.sequence);
        assert_eq!((header.timestamp, header.ssrc), (fields.timestamp, fields.ssrc));
        let spans = ExtensionSpans::parse(&packet, &header, &ids);
        for extension in Extension::ALL {
            let want = extensions.iter().find(|e| e.0 == extension).map(|e| e.2.as_slice());
            assert_eq!(spans.of(extension, &packet), want);
        }
    }
}

#[test]
fn webrtc_reads_vp8_descriptors_as_we_do() {
    let mut random = Random(32);
    for _ in 0..50_000 {
        // Long enough for any descriptor: the other reader panics on some short ones.
        let payload = random.bytes(12);
        let ours = Vp8Descriptor::parse(&payload).unwrap();
        let mut theirs = Vp8Packet::default();
        let rest = theirs.depacketize(&Bytes::from(payload.clone())).unwrap();
        assert_eq!(usize::from(ours.len), payload.len() - rest.len());
        assert_eq!(ours.non_reference, theirs.n == 1);
        assert_eq!(ours.starts_partition, theirs.s == 1);
        assert_eq!(ours.partition, theirs.pid);
        let picture_id = ours.ids.picture_id.unwrap_or(PictureId { value: 0, wide: false });
        assert_eq!(picture_id.value, theirs.picture_id);
        assert_eq!(ours.ids.tl0_pic_idx, (theirs.l == 1).then_some(theirs.tl0_pic_idx));
        let (temporal, sync) = if theirs.t == 1 { (theirs.tid, theirs.y == 1) } else { (0, false) };
        assert_eq!((ours.temporal, ours.layer_sync), (temporal, sync));
        assert_eq!(ours.key_idx, (theirs.k == 1).then_some(theirs.key_idx));
    }
}

#[test]
fn webrtc_reads_vp9_descriptors_as_we_do() {
    let mut random = Random(33);
    let mut compared = 0;
    for _ in 0..50_000 {
        let mut payload = random.bytes(40);
        if random.one_in(2) {
            payload[0] &= !0x02;
        } else {
            // The other reader takes reserved bits of the scalability structure for its G bit, so
            // it comes first here, where they can be cleared.
            payload[0] &= 0x0f;
            payload[0] |= 0x02;
            payload[1] &= 0xf8;
        }
        // Enough for the longest picture group.
        payload.extend([0; 2000]);
        let mut theirs = Vp9Packet::default();
        let rest = theirs.depacketize(&Bytes::from(payload.clone()));
        let (Some(ours), Ok(rest)) = (Vp9Descriptor::parse(&payload), rest) else { continue };
        compared += 1;
        assert_eq!(usize::from(ours.len), payload.len() - rest.len());
        assert_eq!(ours.inter_predicted, theirs.p);
        assert_eq!(ours.flexible, theirs.f);
        assert_eq!((ours.starts_frame, ours.ends_frame), (theirs.b, theirs.e));
        assert_eq!(ours.not_for_upper_layers, theirs.z);
        assert_eq!(ours.ids.picture_id.map_or(0, |id| id.value), theirs.picture_id);
        assert_eq!((ours.spatial, ours.temporal), (theirs.sid, theirs.tid));
        assert_eq!((ours.switching_up, ours.inter_layer_predicted), (theirs.u, theirs.d));
        assert_eq!(ours.ids.tl0_pic_idx.unwrap_or(0), theirs.tl0picidx);
        assert_eq!(ours.spatial_layers, theirs.v.then_some(theirs.ns + 1));
    }
    assert!(compared > 20_000, "only {compared} compared");
}
