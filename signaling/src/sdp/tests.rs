//! Offers of real clients, their answers, and what is refused.
#![forbid(unsafe_code)]

use opencall_control::api::{
    DtlsFingerprint, DtlsParameters, DtlsRole, IceCandidate, IceParameters, TransportOptions,
};
use opencall_control::ortc;
use opencall_control::rtp_parameters::{Kind, RtpCapabilities};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::SdpError;
use super::answer::answer;
use super::offer::{MAX_OFFER_BYTES, Offer};
use super::publication::publications;

/// As Chromium writes it, with simulcast, shortened to what matters.
const CHROMIUM: &str = "v=0\r\no=- 4611 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
a=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\na=msid-semantic: WMS s\r\n\
m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n\
a=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=ice-options:trickle\r\n\
a=fingerprint:sha-256 AB:CD\r\na=setup:actpass\r\na=mid:0\r\n\
a=extmap:1 urn:ietf:params:rtp-hdrext:ssrc-audio-level\r\n\
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\na=extmap:9 urn:example:unknown\r\n\
a=sendonly\r\na=msid:s a\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:111 opus/48000/2\r\n\
a=rtcp-fb:111 transport-cc\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n\
a=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\n\
a=ssrc:1001 cname:c\r\na=ssrc:1001 msid:s a\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 96 97 102\r\nc=IN IP4 0.0.0.0\r\n\
a=fingerprint:sha-256 AB:CD\r\na=setup:actpass\r\na=mid:1\r\n\
a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid\r\n\
a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id\r\na=sendonly\r\na=rtcp-mux\r\n\
a=rtpmap:96 VP8/90000\r\na=rtcp-fb:96 goog-remb\r\na=rtcp-fb:96 nack\r\n\
a=rtcp-fb:96 nack pli\r\na=rtcp-fb:96 made-up\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
a=rtpmap:102 H264/90000\r\n\
a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
a=rid:h send\r\na=rid:l send\r\na=simulcast:send l;~h\r\n";

/// As ffmpeg's muxer writes it: no BUNDLE extensions, no MID extension, H264 only, passive.
const FFMPEG: &str = "v=0\r\no=FFmpeg 4489045141692799359 2 IN IP4 127.0.0.1\r\n\
s=FFmpegPublishSession\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=extmap-allow-mixed\r\n\
a=msid-semantic: WMS\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n\
a=ice-ufrag:a\r\na=ice-pwd:b\r\na=fingerprint:sha-256 EF:01\r\na=setup:passive\r\na=mid:0\r\n\
a=sendonly\r\na=msid:FFmpeg audio\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
a=ssrc:7 cname:FFmpeg\r\na=ssrc:7 msid:FFmpeg audio\r\n\
m=video 9 UDP/TLS/RTP/SAVPF 106 105\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:a\r\na=ice-pwd:b\r\n\
a=fingerprint:sha-256 EF:01\r\na=setup:passive\r\na=mid:1\r\na=sendonly\r\n\
a=msid:FFmpeg video\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:106 H264/90000\r\n\
a=fmtp:106 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01e\r\n\
a=rtcp-fb:106 nack\r\na=rtpmap:105 rtx/90000\r\na=fmtp:105 apt=106\r\n\
a=ssrc-group:FID 8 9\r\na=ssrc:8 cname:FFmpeg\r\na=ssrc:9 cname:FFmpeg\r\n";

fn router() -> RtpCapabilities {
    ortc::router_rtp_capabilities(&ortc::default_codecs()).unwrap()
}

fn transport() -> TransportOptions {
    let ice_parameters =
        IceParameters { username_fragment: "uf".into(), password: "pw".into(), ice_lite: true };
    let candidate = IceCandidate {
        foundation: "f".into(),
        priority: 1,
        address: "192.0.2.1".into(),
        ip: "192.0.2.1".into(),
        protocol: "udp".into(),
        port: 40_000,
        kind: "host".into(),
    };
    let print = DtlsFingerprint { algorithm: "sha-256".into(), value: "11:22".into() };
    TransportOptions {
        id: "t".into(),
        ice_parameters,
        ice_candidates: vec![candidate],
        dtls_parameters: DtlsParameters { role: DtlsRole::Auto, fingerprints: vec![print] },
        sctp_parameters: None,
    }
}

fn answered(offer: &str) -> String {
    let offer = Offer::parse(offer).unwrap();
    let publications = publications(&offer, &router()).unwrap();
    answer(&offer, &publications, &transport(), &router())
}

#[test]
fn a_browsers_offer_becomes_two_producers() {
    let offer = Offer::parse(CHROMIUM).unwrap();
    assert_eq!((offer.role, offer.fingerprints.len()), (DtlsRole::Auto, 1));
    let found = publications(&offer, &router()).unwrap();
    let audio = &found[0].parameters;
    assert_eq!((found[0].kind, audio.codecs.len()), (Kind::Audio, 1));
    assert_eq!(
        (audio.codecs[0].mime_type.as_str(), audio.codecs[0].channels),
        ("audio/opus", Some(2))
    );
    assert_eq!((audio.encodings[0].ssrc, audio.rtcp.cname.as_deref()), (Some(1001), Some("c")));
    assert!(audio.header_extensions.iter().all(|extension| extension.id != 9));
    let video = &found[1].parameters;
    let rids: Vec<&str> = video.encodings.iter().filter_map(|e| e.rid.as_deref()).collect();
    assert_eq!((video.mid.as_deref(), rids), (Some("1"), vec!["l", "h"]));
    assert_eq!(video.codecs.iter().map(|codec| codec.payload_type).collect::<Vec<_>>(), [96, 97]);
    for publication in &found {
        ortc::validate_rtp_parameters(publication.kind, &publication.parameters).unwrap();
        ortc::producer_rtp_mapping(&publication.parameters, &router()).unwrap();
    }
}

#[test]
fn an_offer_without_rids_and_extensions_goes_by_its_ssrcs() {
    let offer = Offer::parse(FFMPEG).unwrap();
    let found = publications(&offer, &router()).unwrap();
    let encoding = &found[1].parameters.encodings[0];
    assert_eq!((encoding.ssrc, encoding.rtx.map(|rtx| rtx.ssrc)), (Some(8), Some(9)));
    assert_eq!(found[1].parameters.codecs[0].mime_type, "video/H264");
    // It waits for a ClientHello, which is ours then.
    assert!(answered(FFMPEG).contains("a=setup:active\r\n"));
}

#[test]
fn the_answer_takes_all_that_is_offered_and_no_more() {
    let text = answered(CHROMIUM);
    for line in [
        "a=ice-lite",
        "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111",
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "a=recvonly",
        "a=rtcp-mux",
        "a=ice-ufrag:uf",
        "a=ice-pwd:pw",
        "a=candidate:f 1 udp 1 192.0.2.1 40000 typ host",
        "a=fingerprint:sha-256 11:22",
        "a=setup:passive",
        "a=rtpmap:111 opus/48000/2",
        "a=rtcp-fb:96 nack pli",
        "a=fmtp:97 apt=96",
        "a=extmap:10 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
        "a=rid:h recv",
        "a=simulcast:recv l;h",
    ] {
        assert!(text.contains(&format!("{line}\r\n")), "{line} in {text}");
    }
    assert!(!text.contains("made-up") && !text.contains("urn:example") && !text.contains("red"));
    assert!(text.lines().all(|line| line.len() < 200 && line.as_bytes().get(1) == Some(&b'=')));
}

#[test]
fn what_is_not_served_is_refused_as_a_whole_with_a_reason() {
    let changed = |from: &str, to: &str| CHROMIUM.replace(from, to);
    let table = [
        (String::new(), true, "v=0"),
        ("v=0\r\nnonsense".into(), true, "no type"),
        (changed("a=setup:actpass\r\n", ""), true, "setup"),
        (changed("a=fingerprint:sha-256 AB:CD\r\n", ""), true, "fingerprint"),
        (changed("a=rtcp-mux\r\n", ""), false, "rtcp-mux"),
        (changed("UDP/TLS/RTP/SAVPF", "RTP/AVP"), false, "SAVPF"),
        (changed("a=sendonly", "a=recvonly"), false, "only sends"),
        (changed("opus/48000", "speex/48000").replace("G722", "x"), false, "none of its codecs"),
        (changed("m=video 9", "m=text 9"), false, "text"),
        (changed("m=audio 9 ", "m=audio x "), true, "port"),
        (changed(" 111 63 9", " 111 63 900"), true, "payload type"),
        ("v=0\r\na=setup:actpass\r\na=fingerprint:sha-256 A\r\n".into(), false, "no media"),
        (changed("a=mid:0", &format!("a=mid:{}", "x".repeat(300))), true, "too long"),
        (format!("{CHROMIUM}{}", "x".repeat(MAX_OFFER_BYTES)), true, "longer"),
        (format!("{CHROMIUM}{}", ssrcs()), true, "more than"),
    ];
    for (text, is_malformed, word) in table {
        let result = Offer::parse(&text).and_then(|offer| publications(&offer, &router()));
        let Err(error) = result else { panic!("{word}: taken") };
        assert!(error.to_string().contains(word), "{word}: {error}");
        assert_eq!(matches!(error, SdpError::Malformed(_)), is_malformed, "{error}");
    }
}

fn ssrcs() -> String {
    (2..100).map(|ssrc| format!("a=ssrc:{ssrc} cname:c\r\n")).collect()
}

/// Whatever strangers write: no panic, and an answer only to what control would take.
#[test]
fn changed_offers_are_survived() {
    let mut rng = StdRng::seed_from_u64(7);
    let (router, mut taken) = (router(), 0);
    for round in 0..20_000 {
        let mut bytes = [CHROMIUM, FFMPEG][round % 2].as_bytes().to_vec();
        for _ in 0..rng.random_range(1..4) {
            let at = rng.random_range(0..bytes.len());
            match rng.random_range(0..4) {
                0 => bytes[at] = rng.random(),
                1 => drop(bytes.drain(at..(at + rng.random_range(0..40)).min(bytes.len()))),
                2 => bytes.insert(at, b"\r\n=: /;0"[rng.random_range(0..8)]),
                _ => {
                    let piece = bytes[at..(at + 60).min(bytes.len())].to_vec();
                    let to = rng.random_range(0..bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
            if bytes.is_empty() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        let Ok(offer) = Offer::parse(&text) else { continue };
        let Ok(publications) = publications(&offer, &router) else { continue };
        answer(&offer, &publications, &transport(), &router);
        taken += 1;
    }
    assert!((1_000..19_000).contains(&taken), "{taken}");
}
