//! What is produced of an offer: one codec of each section, with its retransmission.
#![forbid(unsafe_code)]

use opencall_control::ortc;
use opencall_control::rtp_parameters::{
    Kind, RtcpParameters, RtpCapabilities, RtpCodecParameters, RtpEncodingParameters,
    RtpParameters, RtxParameters,
};
use serde_json::{Map, Value};

use super::offer::{Format, Offer, Section};
use super::{SdpError, unsupported};

/// What is taken of a section.
#[derive(Debug, Clone, PartialEq)]
pub struct Publication {
    /// Audio or video.
    pub kind: Kind,
    /// As it is produced.
    pub parameters: RtpParameters,
}

/// What to produce, one for each section. An offer of which a part cannot be served is refused as a
/// whole (RFC 9725 section 4.4.1 wants no section rejected).
pub fn publications(offer: &Offer, router: &RtpCapabilities) -> Result<Vec<Publication>, SdpError> {
    offer.sections.iter().map(|section| publication(section, router)).collect()
}

fn publication(section: &Section, router: &RtpCapabilities) -> Result<Publication, SdpError> {
    if !section.sends {
        return unsupported("a section that sends nothing: WHIP only sends");
    }
    let codecs = section.formats.iter().map(|format| codec(section.kind, format));
    let is_served = |codec: &RtpCodecParameters| {
        !ortc::is_rtx(&codec.mime_type)
            && router.codecs.iter().any(|known| ortc::codecs_match(codec, known))
    };
    // Who lists it first wants to send what repeats itself (RFC 2198).
    let red = codecs
        .clone()
        .take_while(|codec| !is_served(codec))
        .find(|codec| ortc::is_red(&codec.mime_type));
    let Some(media) = codecs.clone().find(is_served) else {
        let names: Vec<&str> = section.formats.iter().map(|format| format.name.as_str()).collect();
        return unsupported(format!("none of its codecs is known here: {}", names.join(", ")));
    };
    let red = red.filter(|red| ortc::is_red_of(red, &media, media.payload_type));
    let apt = Value::from(media.payload_type);
    let rtx = codecs
        .clone()
        .find(|codec| ortc::is_rtx(&codec.mime_type) && codec.parameters.get("apt") == Some(&apt));
    let has_rtx = rtx.is_some();
    let extensions = section.extensions.iter().filter(|extension| {
        let known = |known: &&opencall_control::rtp_parameters::RtpHeaderExtension| {
            known.uri == extension.uri && known.kind == section.kind
        };
        router.header_extensions.iter().any(|extension| known(&extension))
    });
    let parameters = RtpParameters {
        mid: section.mid.clone(),
        codecs: red.into_iter().chain([media]).chain(rtx).collect(),
        header_extensions: extensions.cloned().collect(),
        encodings: encodings(section, has_rtx),
        rtcp: RtcpParameters { cname: section.cname.clone(), reduced_size: Some(true) },
    };
    Ok(Publication { kind: section.kind, parameters })
}

/// A payload type of an offer as rooms know codecs.
pub(super) fn codec(kind: Kind, format: &Format) -> RtpCodecParameters {
    let prefix = match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    };
    let parameters: Map<String, Value> = format
        .parameters
        .iter()
        .map(|(name, value)| {
            let number = value.parse::<u32>().map(Value::from);
            // A profile of digits alone is a text all the same.
            let is_text = name == "profile-level-id";
            let value = number.ok().filter(|_| !is_text).unwrap_or_else(|| value.clone().into());
            (name.clone(), value)
        })
        .collect();
    RtpCodecParameters {
        mime_type: format!("{prefix}/{}", format.name),
        payload_type: format.payload_type,
        clock_rate: format.clock_rate,
        channels: format.channels,
        parameters,
        rtcp_feedback: format.feedback.clone(),
    }
}

/// By RID where there are any, else by SSRC: simulcast by SSRCs alone is not WebRTC's way.
fn encodings(section: &Section, has_rtx: bool) -> Vec<RtpEncodingParameters> {
    if !section.rids.is_empty() {
        let layer = |rid: &String| RtpEncodingParameters {
            rid: Some(rid.clone()),
            ..RtpEncodingParameters::default()
        };
        return section.rids.iter().map(layer).collect();
    }
    let repair: Vec<u32> = section.pairs.iter().map(|(_, rtx)| *rtx).collect();
    let media = section.ssrcs.iter().copied().find(|ssrc| !repair.contains(ssrc));
    let rtx = section.pairs.iter().find(|(of, _)| Some(*of) == media).map(|(_, rtx)| *rtx);
    vec![RtpEncodingParameters {
        ssrc: media,
        rtx: rtx.filter(|_| has_rtx).map(|ssrc| RtxParameters { ssrc }),
        ..RtpEncodingParameters::default()
    }]
}
