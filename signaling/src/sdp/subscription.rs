//! What is watched by an offer: what each section can receive, by the client's own numbers, and
//! what of the room it is to get.
#![forbid(unsafe_code)]

use opencall_control::api::{Source, ViewOf};
use opencall_control::ortc;
use opencall_control::rtp_parameters::{
    ExtensionDirection, Kind, RtpCapabilities, RtpCodecCapability, RtpCodecParameters,
    RtpHeaderExtension,
};

use super::offer::{Offer, Section};
use super::publication::codec;
use super::{SdpError, unsupported};

/// Sections of one kind that get whoever speaks, or spoke before: one more would show nobody in
/// most rooms.
const MAX_SPEAKERS: usize = 4;

/// Longest MID that goes into packets: those of browsers have one or two bytes.
const MAX_MID_BYTES: usize = 16;

/// What of a room is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of whom; of whoever speaks, if of nobody.
    pub participant: Option<String>,
    /// The screen before the camera.
    pub screen: bool,
}

/// What a section gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscription {
    /// Audio or video.
    pub kind: Kind,
    /// What of the room.
    pub of: ViewOf,
    /// The MID in its packets.
    pub mid: String,
    /// What the client can receive in it.
    pub capabilities: RtpCapabilities,
}

/// What each section gets: nothing where the client wants nothing, has no codec in common, or asks
/// for more of a kind than there is.
///
/// # Errors
/// A section would only send, or all of them get nothing.
pub fn subscriptions(
    offer: &Offer,
    router: &RtpCapabilities,
    wanted: &Wanted,
) -> Result<Vec<Option<Subscription>>, SdpError> {
    let mut seen = (0, 0);
    let mut found = Vec::with_capacity(offer.sections.len());
    for (index, section) in offer.sections.iter().enumerate() {
        if section.sends && !section.receives {
            return unsupported("a section that only sends: WHEP only receives");
        }
        let capabilities = capabilities(section, router);
        if !section.receives || capabilities.codecs.is_empty() {
            found.push(None);
            continue;
        }
        let number = match section.kind {
            Kind::Audio => &mut seen.0,
            Kind::Video => &mut seen.1,
        };
        let of = view(section.kind, *number, wanted);
        *number += 1;
        let mid = section.mid.clone().filter(|mid| mid.len() <= MAX_MID_BYTES);
        let mid = mid.unwrap_or_else(|| format!("#{index}"));
        found.push(of.map(|of| Subscription { kind: section.kind, of, mid, capabilities }));
    }
    if found.iter().all(Option::is_none) {
        return unsupported("no section receives audio or video with a codec that is known here");
    }
    Ok(found)
}

/// What of the room the `number`th section of a kind gets.
fn view(kind: Kind, number: usize, wanted: &Wanted) -> Option<ViewOf> {
    let Some(peer_id) = wanted.participant.clone() else {
        let rank = u8::try_from(number).ok().filter(|_| number < MAX_SPEAKERS)?;
        return Some(ViewOf::Speaker { rank });
    };
    let both = match kind {
        Kind::Audio => [Source::Microphone, Source::ScreenShareAudio],
        Kind::Video => [Source::Camera, Source::ScreenShare],
    };
    let index = if wanted.screen { 1_usize.checked_sub(number)? } else { number };
    Some(ViewOf::Participant { peer_id, source: *both.get(index)? })
}

/// Codecs that the router has, with their retransmissions, and extensions that it knows.
fn capabilities(section: &Section, router: &RtpCapabilities) -> RtpCapabilities {
    let codecs = || section.formats.iter().map(|format| codec(section.kind, format));
    let known = |codec: &RtpCodecParameters| {
        router.codecs.iter().find(|known| ortc::codecs_match(codec, *known))
    };
    let is_media = |codec: &RtpCodecParameters| !ortc::is_rtx(&codec.mime_type);
    let mut media: Vec<u8> = codecs()
        .filter(|codec| is_media(codec) && known(codec).is_some())
        .map(|codec| codec.payload_type)
        .collect();
    let repeats = |red: &RtpCodecParameters| {
        let is_of = |of: &RtpCodecParameters| ortc::is_red_of(red, of, of.payload_type);
        codecs().any(|of| media.contains(&of.payload_type) && is_of(&of))
    };
    let red: Vec<u8> = codecs().filter(repeats).map(|red| red.payload_type).collect();
    media.extend(red);
    let repairs = |codec: &RtpCodecParameters| {
        let apt = codec.parameters.get("apt").and_then(serde_json::Value::as_u64);
        apt.is_some_and(|apt| media.iter().any(|of| u64::from(*of) == apt))
    };
    let taken = codecs().filter(|codec| match is_media(codec) {
        true => media.contains(&codec.payload_type),
        false => repairs(codec),
    });
    let capability = |codec: RtpCodecParameters| {
        let feedback = known(&codec).map_or(&[][..], |known| &known.rtcp_feedback);
        RtpCodecCapability {
            kind: section.kind,
            rtcp_feedback: feedback
                .iter()
                .filter(|feedback| codec.rtcp_feedback.contains(feedback))
                .cloned()
                .collect(),
            mime_type: codec.mime_type,
            preferred_payload_type: Some(codec.payload_type),
            clock_rate: codec.clock_rate,
            channels: codec.channels,
            parameters: codec.parameters,
        }
    };
    let names_mid = section.mid.as_ref().is_some_and(|mid| mid.len() <= MAX_MID_BYTES);
    let extensions = section.received_extensions.iter().filter(|extension| {
        let is_known =
            |known: &RtpHeaderExtension| known.uri == extension.uri && known.kind == section.kind;
        let is_mid = extension.uri.ends_with(":mid");
        (names_mid || !is_mid) && router.header_extensions.iter().any(is_known)
    });
    RtpCapabilities {
        codecs: taken.map(capability).collect(),
        header_extensions: extensions
            .map(|extension| RtpHeaderExtension {
                kind: section.kind,
                uri: extension.uri.clone(),
                preferred_id: extension.id,
                preferred_encrypt: false,
                direction: ExtensionDirection::Sendrecv,
            })
            .collect(),
    }
}
