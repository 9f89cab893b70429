//! Session descriptions (RFC 8866, RFC 8829), as little of them as one server needs: what Janus
//! offers and answers is read, and what participants offer and answer is written.
//!
//! Janus is an ICE-lite agent here and bundles everything on one transport, so there is one
//! address, and we control.
#![forbid(unsafe_code)]

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::client::connect::OUR_PWD;
use crate::client::publish::{MIDS, camera_ssrcs, numbers, voice_ssrc};

/// The extension that numbers packets of a transport.
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";

/// Attributes that an answer takes over from the offer.
const TAKEN_OVER: [&str; 4] = ["rtpmap:", "fmtp:", "rtcp-fb:", "extmap:"];

/// A description of Janus's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// ICE credentials.
    pub ufrag: String,
    /// The password.
    pub pwd: String,
    /// SHA-256 of its certificate, in capitals with colons.
    pub fingerprint: String,
    /// Its candidate.
    pub address: SocketAddrV4,
    /// Its media sections, in order.
    pub media: Vec<Media>,
}

/// A media section.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Media {
    /// `audio` or `video`.
    pub kind: String,
    /// Its name.
    pub mid: String,
    /// Payload types, preferred first.
    pub formats: Vec<String>,
    /// Whether Janus sends here.
    pub is_sent: bool,
    /// What it sends under.
    pub ssrc: Option<u32>,
    /// And its retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// Id of the transport-wide sequence number.
    pub transport_cc_id: Option<u8>,
    /// Attributes that the answer repeats.
    attributes: Vec<String>,
}

impl Description {
    /// Reads a description.
    ///
    /// # Errors
    /// What is missing in it.
    pub fn parse(sdp: &str) -> Result<Self, String> {
        let mut candidate = None;
        let (mut ufrag, mut pwd, mut fingerprint) = (None, None, None);
        let mut media: Vec<Media> = Vec::new();
        for line in sdp.lines() {
            if let Some(section) = line.strip_prefix("m=") {
                media.push(Media::begin(section).ok_or_else(|| format!("SDP: {line}"))?);
                continue;
            }
            let Some(attribute) = line.strip_prefix("a=") else { continue };
            let (name, value) = attribute.split_once(':').unwrap_or((attribute, ""));
            match name {
                // All sections have the same; the first counts.
                "ice-ufrag" => ufrag = ufrag.or(Some(value)),
                "ice-pwd" => pwd = pwd.or(Some(value)),
                "candidate" => candidate = candidate.or_else(|| udp_candidate(value)),
                "fingerprint" => fingerprint = fingerprint.or(sha_256(value)),
                _ => {
                    if let Some(section) = media.last_mut() {
                        section.take(attribute, name, value);
                    }
                }
            }
        }
        let missing = |what: &str| format!("the session description of Janus has no {what}");
        Ok(Description {
            ufrag: ufrag.ok_or_else(|| missing("ICE user name"))?.to_owned(),
            pwd: pwd.ok_or_else(|| missing("ICE password"))?.to_owned(),
            fingerprint: fingerprint.ok_or_else(|| missing("SHA-256 fingerprint"))?,
            address: candidate.ok_or_else(|| missing("IPv4 candidate over UDP"))?,
            media,
        })
    }
}

impl Media {
    /// The line that a section begins with: kind, port, protocol, formats.
    fn begin(section: &str) -> Option<Self> {
        let mut words = section.split(' ');
        let (kind, port, _) = (words.next()?, words.next()?, words.next()?);
        Some(Media {
            kind: kind.to_owned(),
            formats: words.map(str::to_owned).collect(),
            // Until a direction is given, it is sendrecv; a section with port 0 is refused.
            is_sent: port != "0",
            ..Media::default()
        })
    }

    fn take(&mut self, attribute: &str, name: &str, value: &str) {
        match name {
            "mid" => value.clone_into(&mut self.mid),
            "recvonly" | "inactive" => self.is_sent = false,
            "ssrc" => {
                let ssrc = value.split(' ').next().and_then(|ssrc| ssrc.parse().ok());
                self.ssrc = self.ssrc.or(ssrc);
            }
            "ssrc-group" => {
                let mut words = value.split(' ');
                if words.next() == Some("FID") {
                    self.ssrc = words.next().and_then(|ssrc| ssrc.parse().ok());
                    self.rtx_ssrc = words.next().and_then(|ssrc| ssrc.parse().ok());
                }
            }
            "extmap" if value.ends_with(TRANSPORT_CC) => {
                let id = value.split([' ', '/']).next().and_then(|id| id.parse().ok());
                self.transport_cc_id = id;
            }
            _ => {}
        }
        if TAKEN_OVER.iter().any(|taken| attribute.starts_with(taken)) {
            self.attributes.push(attribute.to_owned());
        }
    }
}

/// `foundation component protocol priority address port typ …` (RFC 8839 section 5.1).
fn udp_candidate(value: &str) -> Option<SocketAddrV4> {
    let words: Vec<&str> = value.split(' ').collect();
    let [_, _, protocol, _, address, port, ..] = words[..] else { return None };
    if !protocol.eq_ignore_ascii_case("udp") {
        return None;
    }
    Some(SocketAddrV4::new(address.parse::<Ipv4Addr>().ok()?, port.parse().ok()?))
}

fn sha_256(value: &str) -> Option<String> {
    let (algorithm, digest) = value.split_once(' ')?;
    algorithm.eq_ignore_ascii_case("sha-256").then(|| digest.to_ascii_uppercase())
}

/// What our descriptions say of a transport of ours.
#[derive(Debug, Clone, Copy)]
pub struct Local<'a> {
    /// Its address.
    pub address: SocketAddrV4,
    /// Its ICE user name.
    pub ufrag: &'a str,
    /// SHA-256 of our certificate.
    pub fingerprint: &'a str,
}

/// Priority of a host candidate (RFC 8445 section 5.1.2.1).
const HOST_PRIORITY: u32 = 0x7eff_ffff;

/// Offers what a participant sends.
pub fn offer(local: Local<'_>, participant: u32, audio: bool, video: bool) -> String {
    let mut sections = Vec::new();
    if audio {
        sections.push((
            format!("m=audio 9 UDP/TLS/RTP/SAVPF {}", numbers::OPUS),
            MIDS[0],
            microphone(participant),
        ));
    }
    if video {
        sections.push((
            format!("m=video 9 UDP/TLS/RTP/SAVPF {} {}", numbers::VIDEO, numbers::RTX),
            MIDS[1],
            camera(participant),
        ));
    }
    let mut sdp = session(sections.iter().map(|&(_, mid, _)| mid));
    for (line, mid, attributes) in &sections {
        section(&mut sdp, local, line, mid, "sendonly", attributes);
    }
    sdp
}

fn microphone(participant: u32) -> Vec<String> {
    let opus = numbers::OPUS;
    vec![
        format!("rtpmap:{opus} opus/48000/2"),
        format!("fmtp:{opus} minptime=10;useinbandfec=1;usedtx=1"),
        format!("extmap:{} urn:ietf:params:rtp-hdrext:ssrc-audio-level", numbers::LEVEL_ID),
        format!("extmap:{} urn:ietf:params:rtp-hdrext:sdes:mid", numbers::MID_ID),
        format!("ssrc:{} cname:voice", voice_ssrc(participant)),
    ]
}

fn camera(participant: u32) -> Vec<String> {
    let (vp8, rtx) = (numbers::VIDEO, numbers::RTX);
    let [ssrc, rtx_ssrc] = camera_ssrcs(participant);
    vec![
        format!("rtpmap:{vp8} VP8/90000"),
        format!("rtcp-fb:{vp8} nack"),
        format!("rtcp-fb:{vp8} nack pli"),
        format!("rtcp-fb:{vp8} ccm fir"),
        format!("rtcp-fb:{vp8} transport-cc"),
        format!("rtpmap:{rtx} rtx/90000"),
        format!("fmtp:{rtx} apt={vp8}"),
        format!("extmap:{} {TRANSPORT_CC}", numbers::TRANSPORT_CC_ID),
        format!("extmap:{} urn:ietf:params:rtp-hdrext:sdes:mid", numbers::MID_ID),
        format!("ssrc-group:FID {ssrc} {rtx_ssrc}"),
        format!("ssrc:{ssrc} cname:camera"),
        format!("ssrc:{rtx_ssrc} cname:camera"),
    ]
}

/// Takes all that is offered.
pub fn answer(local: Local<'_>, offered: &Description) -> String {
    let mut sdp = session(offered.media.iter().map(|media| media.mid.as_str()));
    for media in &offered.media {
        let direction = if media.is_sent { "recvonly" } else { "inactive" };
        let line = format!("m={} 9 UDP/TLS/RTP/SAVPF {}", media.kind, media.formats.join(" "));
        section(&mut sdp, local, &line, &media.mid, direction, &media.attributes);
    }
    sdp
}

fn session<'a>(mids: impl Iterator<Item = &'a str>) -> String {
    let mut sdp = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=group:BUNDLE".to_owned();
    for mid in mids {
        sdp.push(' ');
        sdp.push_str(mid);
    }
    sdp.push_str("\r\n");
    sdp
}

fn section(
    sdp: &mut String,
    local: Local<'_>,
    line: &str,
    mid: &str,
    direction: &str,
    attributes: &[String],
) {
    let Local { address, ufrag, fingerprint } = local;
    let (ip, port) = (address.ip(), address.port());
    // Active in an offer, too (RFC 4145 section 4.1), so that the handshake is always begun by us.
    let transport = [
        format!("mid:{mid}"),
        direction.to_owned(),
        "rtcp-mux".to_owned(),
        format!("ice-ufrag:{ufrag}"),
        format!("ice-pwd:{OUR_PWD}"),
        format!("fingerprint:sha-256 {fingerprint}"),
        "setup:active".to_owned(),
    ];
    let ends = [
        format!("candidate:1 1 udp {HOST_PRIORITY} {ip} {port} typ host"),
        "end-of-candidates".to_owned(),
    ];
    // Writing to a string cannot fail.
    let _ = write!(sdp, "{line}\r\nc=IN IP4 0.0.0.0\r\n");
    for attribute in transport.iter().chain(attributes).chain(&ends) {
        let _ = write!(sdp, "a={attribute}\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Janus 1.1.2 said in a room of two: to one who sends, and to one who listens.
    const ANSWER: &str = include_str!("testdata/answer.sdp");
    const OFFER: &str = include_str!("testdata/offer.sdp");

    const FINGERPRINT: &str = "9F:98:3F:81:8A:B7:56:DD:11:3C:9F:36:D6:B4:D1:96:A9:B8:7C:5B:D9:EC:4F:88:\
                               55:A5:96:E8:A7:F8:A6:D3";

    fn local() -> Local<'static> {
        let address = SocketAddrV4::new([198, 19, 0, 1].into(), 4000);
        Local { address, ufrag: "bench0", fingerprint: "AA:BB" }
    }

    #[test]
    fn what_janus_says_is_read() {
        for (sdp, ufrag, pwd, port) in [
            (ANSWER, "VGPo", "jp/Q8UVx1VCB/U6OBaJhqx", 51486),
            (OFFER, "3Xje", "lipkgdrFbf2yvfCT0JZS16", 35754),
        ] {
            let read = Description::parse(sdp).expect("readable");
            assert_eq!((read.ufrag.as_str(), read.pwd.as_str()), (ufrag, pwd));
            assert_eq!(read.fingerprint, FINGERPRINT);
            assert_eq!(read.address, SocketAddrV4::new([198, 18, 0, 1].into(), port));
            assert_eq!(Description::parse(&sdp.replace('\n', "\r\n")), Ok(read));
        }
    }

    #[test]
    fn streams_of_an_offer_have_their_numbers() {
        let offer = Description::parse(OFFER).expect("readable");
        let [voice, camera] = &offer.media[..] else { panic!("{:?}", offer.media) };
        assert_eq!((voice.kind.as_str(), voice.mid.as_str(), voice.is_sent), ("audio", "0", true));
        assert_eq!((voice.ssrc, voice.rtx_ssrc), (Some(3_061_742_079), None));
        assert_eq!((camera.kind.as_str(), camera.mid.as_str()), ("video", "1"));
        assert_eq!((camera.ssrc, camera.rtx_ssrc), (Some(1_704_893_702), Some(1_947_089_818)));
        assert_eq!((voice.transport_cc_id, camera.transport_cc_id), (None, Some(3)));
        assert_eq!(camera.formats, ["96", "97"]);
        let answer = Description::parse(ANSWER).expect("readable");
        assert!(answer.media.iter().all(|media| !media.is_sent), "it only listens to us");
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = |prefix: &str| {
            let lines = OFFER.lines().filter(|line| !line.starts_with(prefix));
            Description::parse(&lines.collect::<Vec<_>>().join("\n")).unwrap_err()
        };
        for (line, name) in [
            ("a=ice-ufrag", "ICE user name"),
            ("a=ice-pwd", "ICE password"),
            ("a=fingerprint", "SHA-256 fingerprint"),
            ("a=candidate", "IPv4 candidate over UDP"),
        ] {
            assert!(without(line).contains(name), "{line}: {}", without(line));
        }
        for broken in
            ["", "m=", "m=audio", "a=candidate:1 1 udp", "a=candidate:1 1 udp 1 ::1 5 typ host"]
        {
            assert!(Description::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn only_udp_on_ipv4_is_a_candidate() {
        let address = Some(SocketAddrV4::new([10, 0, 0, 1].into(), 5));
        let table = [
            ("1 1 udp 9 10.0.0.1 5 typ host", address),
            ("1 1 UDP 9 10.0.0.1 5 typ srflx raddr 1.1.1.1 rport 9", address),
            ("1 1 tcp 9 10.0.0.1 5 typ host tcptype passive", None),
            ("1 1 udp 9 fe80::1 5 typ host", None),
            ("1 1 udp 9 10.0.0.1 70000 typ host", None),
            ("1 1 udp 9", None),
        ];
        for (value, expected) in table {
            assert_eq!(udp_candidate(value), expected, "{value}");
        }
    }

    #[test]
    fn an_offer_has_what_its_sender_sends() {
        let sdp = offer(local(), 7, true, true);
        assert!(sdp.lines().all(|line| line.as_bytes().get(1) == Some(&b'=')), "{sdp}");
        assert_eq!(sdp.matches("\r\n").count(), sdp.matches('\n').count());
        let read = Description::parse(&sdp).expect("readable");
        assert_eq!((read.address, read.ufrag.as_str()), (local().address, "bench0"));
        let ssrcs: Vec<_> = read.media.iter().map(|media| (media.ssrc, media.rtx_ssrc)).collect();
        let [camera, rtx] = camera_ssrcs(7).map(Some);
        assert_eq!(ssrcs, [(Some(voice_ssrc(7)), None), (camera, rtx)]);
        assert!(sdp.contains("a=group:BUNDLE 0 1\r\n"));
        let voice = offer(local(), 7, true, false);
        assert!(voice.contains("m=audio") && !voice.contains("m=video"));
    }

    #[test]
    fn an_answer_takes_all_that_is_sent_and_refuses_nothing_else() {
        // A sender has left: Janus keeps its section.
        let left = OFFER.replacen("a=sendonly", "a=inactive", 1);
        let sdp = answer(local(), &Description::parse(&left).expect("readable"));
        let sections: Vec<&str> = sdp.split("m=").skip(1).collect();
        let [voice, camera] = sections[..] else { panic!("{sdp}") };
        assert!(voice.starts_with("audio 9 UDP/TLS/RTP/SAVPF 111\r\n"));
        assert!(voice.contains("a=inactive\r\n") && !voice.contains("recvonly"));
        assert!(camera.starts_with("video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"));
        for line in ["recvonly", "mid:1", "rtcp-fb:96 nack pli", "fmtp:97 apt=96", "setup:active"] {
            assert!(camera.contains(&format!("a={line}\r\n")), "{line}: {camera}");
        }
        for line in ["ssrc", "msid", "ice-ufrag:3Xje", "setup:actpass"] {
            assert!(!camera.contains(line), "{line}: {camera}");
        }
    }
}
