//! The answer to an offer: we receive all of it, over one ICE-lite transport.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use opencall_control::api::{DtlsRole, IceCandidate, IceParameters, TransportOptions};
use opencall_control::rtp_parameters::{Kind, RtpCapabilities, RtpCodecParameters, RtpParameters};
use serde_json::Value;

use super::offer::{Offer, Section};
use super::publication::Publication;

/// Writes the answer.
pub fn answer(
    offer: &Offer,
    publications: &[Publication],
    transport: &TransportOptions,
    router: &RtpCapabilities,
) -> String {
    let mut text = String::new();
    let mids: Vec<&str> =
        offer.sections.iter().filter_map(|section| section.mid.as_deref()).collect();
    text.push_str("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n");
    if !mids.is_empty() {
        line(&mut text, format_args!("a=group:BUNDLE {}", mids.join(" ")));
    }
    line(&mut text, format_args!("a=msid-semantic: WMS *"));
    for (section, publication) in offer.sections.iter().zip(publications) {
        write_section(&mut text, (section, &publication.parameters), offer.role, transport, router);
    }
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{words}\r\n");
}

fn write_section(
    text: &mut String,
    (section, parameters): (&Section, &RtpParameters),
    role: DtlsRole,
    transport: &TransportOptions,
    router: &RtpCapabilities,
) {
    let kind = match section.kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    };
    let types: Vec<String> =
        parameters.codecs.iter().map(|codec| codec.payload_type.to_string()).collect();
    line(text, format_args!("m={kind} 9 {} {}", section.protocol, types.join(" ")));
    line(text, format_args!("c=IN IP4 0.0.0.0"));
    line(text, format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
    if let Some(mid) = &section.mid {
        line(text, format_args!("a=mid:{mid}"));
    }
    line(text, format_args!("a=recvonly"));
    line(text, format_args!("a=rtcp-mux"));
    line(text, format_args!("a=rtcp-rsize"));
    write_ice(text, &transport.ice_parameters);
    for candidate in &transport.ice_candidates {
        write_candidate(text, candidate);
    }
    line(text, format_args!("a=end-of-candidates"));
    for print in &transport.dtls_parameters.fingerprints {
        line(text, format_args!("a=fingerprint:{} {}", print.algorithm, print.value));
    }
    // Whoever leaves it to us begins: its first packet is behind its NAT by then.
    let setup = if role == DtlsRole::Server { "active" } else { "passive" };
    line(text, format_args!("a=setup:{setup}"));
    for codec in &parameters.codecs {
        write_codec(text, codec, router);
    }
    for extension in &parameters.header_extensions {
        line(text, format_args!("a=extmap:{} {}", extension.id, extension.uri));
    }
    for rid in &section.rids {
        line(text, format_args!("a=rid:{rid} recv"));
    }
    if !section.rids.is_empty() {
        line(text, format_args!("a=simulcast:recv {}", section.rids.join(";")));
    }
}

/// Credentials, for an answer or a fragment.
pub fn write_ice(text: &mut String, ice: &IceParameters) {
    line(text, format_args!("a=ice-ufrag:{}", ice.username_fragment));
    line(text, format_args!("a=ice-pwd:{}", ice.password));
}

/// A candidate line (RFC 8839).
pub fn write_candidate(text: &mut String, candidate: &IceCandidate) {
    let IceCandidate { foundation, priority, address, port, kind, .. } = candidate;
    line(
        text,
        format_args!("a=candidate:{foundation} 1 udp {priority} {address} {port} typ {kind}"),
    );
}

fn write_codec(text: &mut String, codec: &RtpCodecParameters, router: &RtpCapabilities) {
    let number = codec.payload_type;
    let name = codec.mime_type.split_once('/').map_or("", |(_, name)| name);
    match codec.channels.filter(|channels| *channels > 1) {
        Some(channels) => {
            line(text, format_args!("a=rtpmap:{number} {name}/{}/{channels}", codec.clock_rate));
        }
        None => line(text, format_args!("a=rtpmap:{number} {name}/{}", codec.clock_rate)),
    }
    let known =
        router.codecs.iter().find(|known| known.mime_type.eq_ignore_ascii_case(&codec.mime_type));
    for feedback in &codec.rtcp_feedback {
        if known.is_some_and(|known| known.rtcp_feedback.contains(feedback)) {
            let words = format!("{} {}", feedback.kind, feedback.parameter);
            line(text, format_args!("a=rtcp-fb:{number} {}", words.trim_end()));
        }
    }
    let parameters: Vec<String> = codec
        .parameters
        .iter()
        .map(|(name, value)| match value {
            Value::String(value) if value.is_empty() => name.clone(),
            Value::String(value) => format!("{name}={value}"),
            value => format!("{name}={value}"),
        })
        .collect();
    if !parameters.is_empty() {
        line(text, format_args!("a=fmtp:{number} {}", parameters.join(";")));
    }
}
