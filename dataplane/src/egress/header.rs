//! The header of outgoing packets: made once for each consumer, then copied and filled in.
//!
//! ```text
//! made once   90 …  SSRC  BEDE 0003 │ MID │ abs-send-time │ transport-cc │ padding
//! filled in      marker, type, sequence, timestamp    time       number
//! ```
//!
//! What is copied from the producer's packet (an audio level, say) comes behind, where its header
//! has any; its CSRC list (RFC 3550 section 5.1) comes between SSRC and extensions.
#![forbid(unsafe_code)]

use std::num::NonZeroU32;

use opencall_wire::rtp::dependency_descriptor::write_active_targets;
use opencall_wire::rtp::extension::{
    Extension, ExtensionForm, ExtensionIds, ExtensionSpans, HeaderWriter, abs_send_time,
};
use opencall_wire::rtp::header::{FIXED_LEN, OutgoingHeader, csrcs, has_csrcs, insert_csrcs};
use opencall_wire::time::Time;

use crate::egress::consumer::Consumer;
use crate::ingress::packet::MediaPacket;

/// Bytes of a template at most: fixed header, head of the block, and in the two-byte form a MID of
/// 16 bytes, abs-send-time and transport-cc; to a multiple of four.
const CAPACITY: usize = (FIXED_LEN + 4 + (2 + 16) + (2 + 3) + (2 + 2)).next_multiple_of(4);

/// Extensions that are copied from the producer's packet as they are.
const COPIED: [Extension; 5] = [
    Extension::AudioLevel,
    Extension::VideoOrientation,
    Extension::PlayoutDelay,
    Extension::DependencyDescriptor,
    Extension::AbsCaptureTime,
];

/// Values longer than this need the two-byte form (RFC 8285 section 4.2).
const ONE_BYTE_MAX_LEN: usize = 16;

/// What all headers of one consumer have in common.
#[derive(Debug, Clone)]
pub struct HeaderTemplate {
    bytes: [u8; CAPACITY],
    /// Length with padding: that of a header to which nothing is added.
    len: u8,
    /// Where elements that are added begin.
    end: u8,
    /// Where the time of sending is filled in; 0 where it is not sent.
    send_time_at: u8,
    /// Where the transport-wide number is filled in; 0 where it is not sent.
    transport_sequence_at: u8,
    form: ExtensionForm,
    /// The id under which each of [`COPIED`] goes out; 0 where it does not.
    copied: [u8; COPIED.len()],
}

impl HeaderTemplate {
    /// A template in the form that the ids need; `None` where the MID is too long for any. Without
    /// `tells_sending`, nothing in it differs between two transmissions of a packet.
    pub fn new(ids: &ExtensionIds, mid: &[u8], tells_sending: bool) -> Option<Self> {
        let two_byte = ids.needs_two_byte();
        let form = if two_byte { ExtensionForm::TwoByte } else { ExtensionForm::OneByte };
        HeaderTemplate::in_form(form, ids, mid, tells_sending)
    }

    fn in_form(
        form: ExtensionForm,
        ids: &ExtensionIds,
        mid: &[u8],
        tells_sending: bool,
    ) -> Option<Self> {
        let mut bytes = [0; CAPACITY];
        let mut writer = HeaderWriter::new(&mut bytes, OutgoingHeader::default(), form)?;
        if let Some(id) = ids.id(Extension::Mid) {
            writer = writer.extension(id, mid);
        }
        let (mut send_time_at, mut transport_sequence_at) = (0, 0);
        if let (true, Some(id)) = (tells_sending, ids.id(Extension::AbsSendTime)) {
            writer = writer.extension(id, &[0; 3]);
            send_time_at = writer.end() - 3;
        }
        if let (true, Some(id)) = (tells_sending, ids.id(Extension::TransportCc)) {
            writer = writer.extension(id, &[0; 2]);
            transport_sequence_at = writer.end() - 2;
        }
        let end = writer.end() as u8;
        let len = writer.finish()? as u8;
        let copied = COPIED.map(|extension| ids.id(extension).unwrap_or(0));
        Some(HeaderTemplate {
            bytes,
            len,
            end,
            send_time_at: send_time_at as u8,
            transport_sequence_at: transport_sequence_at as u8,
            form,
            copied,
        })
    }

    /// Whether packets carry a transport-wide number.
    #[inline]
    pub fn numbers_transport(&self) -> bool {
        self.transport_sequence_at != 0
    }

    /// Writes a header to which nothing of any source is added; its length.
    pub(crate) fn write_plain(
        &self,
        buffer: &mut [u8],
        fields: OutgoingHeader,
        sending: (Time, u16),
    ) -> Option<usize> {
        self.write(buffer, fields, (&ExtensionSpans::default(), &[]), sending)
    }

    /// Writes a header: `sending` is the time and the transport-wide number.
    #[inline]
    fn write(
        &self,
        buffer: &mut [u8],
        fields: OutgoingHeader,
        source: (&ExtensionSpans, &[u8]),
        sending: (Time, u16),
    ) -> Option<usize> {
        let header: &mut [u8; CAPACITY] = buffer.first_chunk_mut()?;
        *header = self.bytes;
        fields.fill_in(header.first_chunk_mut()?);
        if self.send_time_at != 0 {
            let place = header.get_mut(usize::from(self.send_time_at)..)?;
            *place.first_chunk_mut()? = abs_send_time(sending.0);
        }
        if self.transport_sequence_at != 0 {
            let place = header.get_mut(usize::from(self.transport_sequence_at)..)?;
            *place.first_chunk_mut()? = sending.1.to_be_bytes();
        }
        let mut copied = self.copied_from(source);
        let Some((id, value)) = copied.next() else { return Some(usize::from(self.len)) };
        let writer = HeaderWriter::resume(buffer, usize::from(self.end), self.form);
        let writer = writer.extension(id, value);
        copied.fold(writer, |writer, (id, value)| writer.extension(id, value)).finish()
    }

    /// Whether a value in the packet needs the two-byte form, as a dependency descriptor with a
    /// structure does.
    #[inline]
    fn is_too_narrow_for(&self, source: (&ExtensionSpans, &[u8])) -> bool {
        self.form == ExtensionForm::OneByte
            && self.copied_from(source).any(|(_, value)| value.len() > ONE_BYTE_MAX_LEN)
    }

    /// The ids under which a packet's extensions go out, and their values.
    #[inline]
    fn copied_from<'a>(
        &self,
        (spans, original): (&'a ExtensionSpans, &'a [u8]),
    ) -> impl Iterator<Item = (u8, &'a [u8])> {
        self.copied.into_iter().zip(COPIED).filter(|(id, _)| *id != 0).filter_map(
            move |(id, extension)| {
                let value = spans.of(extension, original)?;
                (!value.is_empty()).then_some((id, value))
            },
        )
    }
}

/// Writes the consumer's header for a packet: `fields`, the packet's CSRC list, its MID and
/// extensions under the router's ids. `source` is where extensions lie in the packet as it came.
/// Returns the header's length; `None` if it does not fit.
#[inline]
pub(crate) fn write_header(
    buffer: &mut [u8],
    consumer: &Consumer,
    fields: OutgoingHeader,
    source: (&ExtensionSpans, &[u8]),
    sending: (Time, u16),
) -> Option<usize> {
    let template = consumer.header.as_ref()?;
    let len = if template.is_too_narrow_for(source) {
        let (ids, mid) = (&consumer.extensions, &consumer.mid);
        let form = ExtensionForm::TwoByte;
        let wide = HeaderTemplate::in_form(form, ids, mid, !consumer.is_repeatable())?;
        wide.write(buffer, fields, source, sending)
    } else {
        template.write(buffer, fields, source, sending)
    };
    if has_csrcs(source.1) {
        return insert_csrcs(buffer, len?, csrcs(source.1));
    }
    len
}

/// The same for a packet whose dependency descriptor tells the client which decode targets it gets.
/// `source` is the packet and its bytes.
#[cold]
pub(crate) fn write_header_with_targets(
    buffer: &mut [u8],
    consumer: &Consumer,
    fields: OutgoingHeader,
    (packet, bytes): (&MediaPacket, &[u8]),
    targets: NonZeroU32,
    sending: (Time, u16),
) -> Option<usize> {
    let plain = (&packet.extensions, bytes);
    let mut changed = [0; CHANGED_MAX];
    let header_len = usize::from(packet.payload_start);
    let descriptor = packet.extensions.of(Extension::DependencyDescriptor, bytes);
    let header = bytes.get(..header_len).zip(changed.split_at_mut_checked(header_len));
    let written = descriptor.zip(header).and_then(|(descriptor, (header, (head, tail)))| {
        head.copy_from_slice(header);
        let frame = packet.info.layers.as_ref()?;
        let room = tail.len().min(usize::from(u8::MAX));
        write_active_targets(descriptor, frame, targets.get(), &mut tail[..room])
    });
    let Some(len) = written else {
        return write_header(buffer, consumer, fields, plain, sending);
    };
    let at = packet.payload_start;
    let spans = packet.extensions.with(Extension::DependencyDescriptor, at, len as u8);
    write_header(buffer, consumer, fields, (&spans, &changed), sending)
}

/// Room for the header of a packet as it came, with another dependency descriptor behind it.
const CHANGED_MAX: usize = 640;

#[cfg(test)]
mod tests {
    use opencall_wire::rtp::header::RtpHeader;
    use opencall_wire::rtp::test_support::hex;

    use super::*;

    const FIELDS: OutgoingHeader = OutgoingHeader {
        marker: true,
        payload_type: 96,
        sequence: 0x1234,
        timestamp: 0x89ab_cdef,
        ssrc: 0xdead_beef,
    };

    /// The id of each extension, on both sides.
    fn ids(of: &[(Extension, u8)]) -> ExtensionIds {
        let mut ids = ExtensionIds::default();
        for &(extension, id) in of {
            ids.set(extension, id);
        }
        ids
    }

    /// What a template writes for a packet that came with `block` as its extensions.
    fn write(template: &HeaderTemplate, ids: &ExtensionIds, block: &str) -> Option<Vec<u8>> {
        let original = hex(&format!("90 00 0001 00000002 00000003 {block}"));
        let header = RtpHeader::parse(&original).unwrap();
        let spans = ExtensionSpans::parse(&original, &header, ids);
        let source = (&spans, &original[..]);
        assert!(!template.is_too_narrow_for(source));
        let mut out = [0xff; 200];
        let sending = (Time::from_millis(1_500), 0xabcd);
        let len = template.write(&mut out, FIELDS, source, sending)?;
        Some(out[..len].to_vec())
    }

    #[test]
    fn what_is_filled_in_and_what_is_added() {
        let ids = ids(&[
            (Extension::Mid, 1),
            (Extension::AbsSendTime, 4),
            (Extension::TransportCc, 5),
            (Extension::AudioLevel, 6),
            (Extension::VideoOrientation, 7),
        ]);
        let abs: String =
            abs_send_time(Time::from_millis(1_500)).map(|b| format!("{b:02x}")).concat();
        let template = HeaderTemplate::new(&ids, b"0", true).unwrap();
        assert!(template.numbers_transport());
        let fixed = "90 e0 1234 89abcdef deadbeef";
        let plain = hex(&format!("{fixed} bede 0003 10 30 42 {abs} 51 abcd 000000"));
        assert_eq!(write(&template, &ids, "bede 0000").unwrap(), plain);
        let both = hex(&format!("{fixed} bede 0004 10 30 42 {abs} 51 abcd 60 9e 70 01 000000"));
        assert_eq!(write(&template, &ids, "bede 0001 70 01 60 9e").unwrap(), both);
        let repeatable = HeaderTemplate::new(&ids, b"0", false).unwrap();
        assert!(!repeatable.numbers_transport());
        let untimed = hex(&format!("{fixed} bede 0001 10 30 0000"));
        assert_eq!(write(&repeatable, &ids, "bede 0000").unwrap(), untimed);
    }

    #[test]
    fn without_extensions_there_is_no_block() {
        let none = ids(&[]);
        let template = HeaderTemplate::new(&none, b"0", true).unwrap();
        let bare = hex("80 e0 1234 89abcdef deadbeef");
        assert_eq!(write(&template, &none, "bede 0001 70 01 60 9e").unwrap(), bare);
        let level = ids(&[(Extension::AudioLevel, 6)]);
        let template = HeaderTemplate::new(&level, b"0", true).unwrap();
        let first = hex("90 e0 1234 89abcdef deadbeef bede 0001 60 9e 0000");
        assert_eq!(write(&template, &level, "bede 0001 60 9e 0000").unwrap(), first);
    }

    #[test]
    fn long_values_and_high_ids_take_the_two_byte_form() {
        let low = ids(&[(Extension::Mid, 1), (Extension::DependencyDescriptor, 2)]);
        let block = format!("1000 0005 02 11 {} 00", "aa".repeat(17));
        let original = hex(&format!("90 00 0001 00000002 00000003 {block}"));
        let header = RtpHeader::parse(&original).unwrap();
        let spans = ExtensionSpans::parse(&original, &header, &low);
        let template = HeaderTemplate::new(&low, b"0", true).unwrap();
        assert!(template.is_too_narrow_for((&spans, &original)));
        let wide = HeaderTemplate::in_form(ExtensionForm::TwoByte, &low, b"0", true).unwrap();
        let written = write(&wide, &low, &block).unwrap();
        let value = "aa".repeat(17);
        let wanted = format!("90 e0 1234 89abcdef deadbeef 1000 0006 01 01 30 02 11 {value} 0000");
        assert_eq!(written, hex(&wanted));

        let high = ids(&[(Extension::Mid, 200)]);
        let longest = HeaderTemplate::new(&high, &[b'm'; 16], true).unwrap();
        assert_eq!(longest.form, ExtensionForm::TwoByte);
        assert_eq!(usize::from(longest.len), FIXED_LEN + 4 + 20);
        assert!(HeaderTemplate::new(&high, &[b'm'; 30], true).is_none(), "no room");
    }
}
