//! The answer to an offer: all of it over one ICE-lite transport.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use opencall_control::api::{
    ConsumerRtpParameters, DtlsRole, IceCandidate, IceParameters, TransportOptions,
};
use opencall_control::rtp_parameters::{
    Kind, RtcpFeedback, RtpCapabilities, RtpCodecParameters, RtpHeaderExtensionParameters,
};
use serde_json::Value;

use super::offer::{Format, Offer, Section};
use super::publication::Publication;

/// The answer to one who sends: we receive all of it.
pub fn answer(
    offer: &Offer,
    publications: &[Publication],
    transport: &TransportOptions,
    router: &RtpCapabilities,
) -> String {
    let mids = offer.sections.iter().filter_map(|section| section.mid.as_deref());
    let mut text = begin(mids);
    for (section, publication) in offer.sections.iter().zip(publications) {
        let parameters = &publication.parameters;
        begin_section(&mut text, section, &parameters.codecs);
        line(&mut text, format_args!("a=recvonly"));
        write_transport(&mut text, offer.role, transport);
        for codec in &parameters.codecs {
            write_codec(&mut text, codec, router);
        }
        write_extensions(&mut text, &parameters.header_extensions);
        for rid in &section.rids {
            line(&mut text, format_args!("a=rid:{rid} recv"));
        }
        if !section.rids.is_empty() {
            line(&mut text, format_args!("a=simulcast:recv {}", section.rids.join(";")));
        }
    }
    text
}

/// The answer to one who watches: what each section is sent; those that get nothing are rejected.
pub fn watch_answer(
    offer: &Offer,
    sent: &[Option<ConsumerRtpParameters>],
    transport: &TransportOptions,
) -> String {
    let sections = || offer.sections.iter().zip(sent);
    let served = sections().filter(|(_, sent)| sent.is_some());
    let mut text = begin(served.filter_map(|(section, _)| section.mid.as_deref()));
    for (index, (section, sent)) in sections().enumerate() {
        let Some(sent) = sent else {
            reject_section(&mut text, section);
            continue;
        };
        begin_section(&mut text, section, &sent.stream.codecs);
        line(&mut text, format_args!("a=sendonly"));
        write_transport(&mut text, offer.role, transport);
        for codec in &sent.stream.codecs {
            // In the client's own words, for the numbers are its own.
            let of = |format: &&Format| format.payload_type == codec.payload_type;
            if let Some(format) = section.formats.iter().find(of) {
                write_format(&mut text, format, &codec.rtcp_feedback);
            }
        }
        write_extensions(&mut text, &sent.stream.header_extensions);
        write_streams(&mut text, index, sent);
    }
    text
}

fn begin<'a>(mids: impl Iterator<Item = &'a str>) -> String {
    let mids: Vec<&str> = mids.collect();
    let mut text =
        String::from("v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n");
    if !mids.is_empty() {
        line(&mut text, format_args!("a=group:BUNDLE {}", mids.join(" ")));
    }
    line(&mut text, format_args!("a=msid-semantic: WMS *"));
    text
}

fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = write!(text, "{words}\r\n");
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Audio => "audio",
        Kind::Video => "video",
    }
}

fn begin_section(text: &mut String, section: &Section, codecs: &[RtpCodecParameters]) {
    let types: Vec<String> = codecs.iter().map(|codec| codec.payload_type.to_string()).collect();
    let (kind, protocol) = (name(section.kind), &section.protocol);
    line(text, format_args!("m={kind} 9 {protocol} {}", types.join(" ")));
    line(text, format_args!("c=IN IP4 0.0.0.0"));
    line(text, format_args!("a=rtcp:9 IN IP4 0.0.0.0"));
    if let Some(mid) = &section.mid {
        line(text, format_args!("a=mid:{mid}"));
    }
}

/// A section that gets nothing (RFC 3264 section 6).
fn reject_section(text: &mut String, section: &Section) {
    let (kind, protocol) = (name(section.kind), &section.protocol);
    let payload_type = section.formats.first().map_or(0, |format| format.payload_type);
    line(text, format_args!("m={kind} 0 {protocol} {payload_type}"));
    line(text, format_args!("c=IN IP4 0.0.0.0"));
    if let Some(mid) = &section.mid {
        line(text, format_args!("a=mid:{mid}"));
    }
    line(text, format_args!("a=inactive"));
}

fn write_transport(text: &mut String, role: DtlsRole, transport: &TransportOptions) {
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
}

fn write_extensions(text: &mut String, extensions: &[RtpHeaderExtensionParameters]) {
    for extension in extensions {
        line(text, format_args!("a=extmap:{} {}", extension.id, extension.uri));
    }
}

/// The SSRCs that a section is sent, all of one media stream: players show what comes with it
/// together.
fn write_streams(text: &mut String, index: usize, sent: &ConsumerRtpParameters) {
    let cname = sent.stream.rtcp.cname.as_deref().unwrap_or_default();
    line(text, format_args!("a=msid:{cname} {cname}-{index}"));
    if let Some(rtx) = sent.rtx_ssrc {
        line(text, format_args!("a=ssrc-group:FID {} {rtx}", sent.ssrc));
    }
    for ssrc in [Some(sent.ssrc), sent.rtx_ssrc].into_iter().flatten() {
        line(text, format_args!("a=ssrc:{ssrc} cname:{cname}"));
    }
}

/// A payload type as the client wrote it.
fn write_format(text: &mut String, format: &Format, feedback: &[RtcpFeedback]) {
    let Format { payload_type, name, clock_rate, .. } = format;
    match format.channels {
        Some(channels) => {
            line(text, format_args!("a=rtpmap:{payload_type} {name}/{clock_rate}/{channels}"));
        }
        None => line(text, format_args!("a=rtpmap:{payload_type} {name}/{clock_rate}")),
    }
    for feedback in feedback {
        let words = format!("{} {}", feedback.kind, feedback.parameter);
        line(text, format_args!("a=rtcp-fb:{payload_type} {}", words.trim_end()));
    }
    let parameters: Vec<String> = format
        .parameters
        .iter()
        .map(|(name, value)| match value.is_empty() {
            true => name.clone(),
            false => format!("{name}={value}"),
        })
        .collect();
    if !parameters.is_empty() {
        line(text, format_args!("a=fmtp:{payload_type} {}", parameters.join(";")));
    }
}

/// Credentials, for an answer or a fragment.
pub fn write_ice(text: &mut String, ice: &IceParameters) {
    line(text, format_args!("a=ice-ufrag:{}", ice.username_fragment));
    line(text, format_args!("a=ice-pwd:{}", ice.password));
}

/// A candidate line (RFC 8839; RFC 6544 section 4.5 where it is TCP).
pub fn write_candidate(text: &mut String, candidate: &IceCandidate) {
    let IceCandidate { foundation, protocol, priority, address, port, kind, .. } = candidate;
    let mut attribute =
        format!("a=candidate:{foundation} 1 {protocol} {priority} {address} {port} typ {kind}");
    if let Some(tcp_type) = candidate.tcp_type {
        let _ = write!(attribute, " tcptype {tcp_type}");
    }
    line(text, format_args!("{attribute}"));
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
            Value::String(value) if name.is_empty() => value.clone(),
            Value::String(value) => format!("{name}={value}"),
            value => format!("{name}={value}"),
        })
        .collect();
    if !parameters.is_empty() {
        line(text, format_args!("a=fmtp:{number} {}", parameters.join(";")));
    }
}
