//! Offers of real clients, their answers, and what is refused.
#![forbid(unsafe_code)]

use opencall_control::api::{
    ConsumerRtpParameters, DtlsFingerprint, DtlsParameters, DtlsRole, IceCandidate, IceParameters,
    Source, TransportOptions, ViewOf,
};
use opencall_control::ortc::{self, Numbers};
use opencall_control::rtp_parameters::{
    Kind, RtpCapabilities, RtpCodecCapability, RtpCodecParameters, RtpParameters,
};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::SdpError;
use super::answer::{answer, watch_answer};
use super::offer::{MAX_OFFER_BYTES, Offer};
use super::publication::publications;
use super::subscription::{Subscription, Wanted, subscriptions};

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
        tcp_type: None,
        port: 40_000,
        kind: "host".into(),
    };
    let by_tcp = IceCandidate {
        foundation: "t".into(),
        protocol: "tcp".into(),
        tcp_type: Some("passive"),
        ..candidate.clone()
    };
    let print = DtlsFingerprint { algorithm: "sha-256".into(), value: "11:22".into() };
    TransportOptions {
        id: "t".into(),
        ice_parameters,
        ice_candidates: vec![candidate, by_tcp],
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
        "a=candidate:t 1 tcp 1 192.0.2.1 40000 typ host tcptype passive",
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

/// RED (RFC 2198) is taken of those who want to send it before Opus.
#[test]
fn who_lists_red_first_sends_it() {
    let first = CHROMIUM.replace("SAVPF 111 63 9", "SAVPF 63 111 9");
    let text = answered(&first);
    for line in
        ["m=audio 9 UDP/TLS/RTP/SAVPF 63 111", "a=rtpmap:63 red/48000/2", "a=fmtp:63 111/111"]
    {
        assert!(text.contains(&format!("{line}\r\n")), "{line} in {text}");
    }
    let offer = Offer::parse(&first).unwrap();
    let parameters = &publications(&offer, &router()).unwrap()[0].parameters;
    ortc::validate_rtp_parameters(Kind::Audio, parameters).unwrap();
    ortc::producer_rtp_mapping(parameters, &router()).unwrap();
    // Of another codec it is none that could be served.
    let other = first.replace("a=fmtp:63 111/111", "a=fmtp:63 9/9");
    assert!(!answered(&other).contains("red/"));
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
    let (router, mut taken, mut watched) = (router(), 0, false);
    for round in 0..20_000 {
        let watching = CHROMIUM.replace("sendonly", "recvonly");
        let mut bytes = [CHROMIUM, FFMPEG, &watching][round % 3].as_bytes().to_vec();
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
        watched |= watch(&offer, &router);
        let Ok(publications) = publications(&offer, &router) else { continue };
        answer(&offer, &publications, &transport(), &router);
        taken += 1;
    }
    assert!((1_000..19_000).contains(&taken) && watched, "{taken}");
}

/// Whether anything is watched by an offer: all that is, as control would take it.
fn watch(offer: &Offer, router: &RtpCapabilities) -> bool {
    let Ok(found) = subscriptions(offer, router, &Wanted::default()) else { return false };
    let mut sent = Vec::new();
    for of in &found {
        sent.push(of.as_ref().and_then(|of| sent_to(of, router)));
    }
    let text = watch_answer(offer, &sent, &transport());
    assert_eq!(text.matches("\r\nm=").count(), offer.sections.len());
    sent.iter().any(Option::is_some)
}

/// What a section is sent, of a room that has every codec.
fn sent_to(of: &Subscription, router: &RtpCapabilities) -> Option<ConsumerRtpParameters> {
    ortc::validate_rtp_capabilities(&of.capabilities).ok()?;
    let codecs = router.codecs.iter().filter(|codec| codec.kind == of.kind);
    let codec = |codec: &RtpCodecCapability| RtpCodecParameters {
        mime_type: codec.mime_type.clone(),
        payload_type: codec.preferred_payload_type.unwrap_or_default(),
        clock_rate: codec.clock_rate,
        channels: codec.channels,
        parameters: codec.parameters.clone(),
        rtcp_feedback: codec.rtcp_feedback.clone(),
    };
    let produced =
        RtpParameters { codecs: codecs.map(codec).collect(), ..RtpParameters::default() };
    let consumable = ortc::consumable_rtp_parameters(of.kind, &produced, router).unwrap();
    let remote = (&of.capabilities, Numbers::Client);
    let stream = ortc::consumer_stream(of.kind, &consumable, remote, "view-1").ok()?;
    let rtx_ssrc = stream.has_rtx.then_some(11);
    Some(ConsumerRtpParameters { stream: stream.into(), mid: of.mid.clone(), ssrc: 10, rtx_ssrc })
}

#[test]
fn who_watches_is_answered_with_every_codec_in_common_by_its_own_numbers() {
    let text = CHROMIUM.replace("sendonly", "recvonly").replace("102", "127");
    let offer = Offer::parse(&text).unwrap();
    let found = subscriptions(&offer, &router(), &Wanted::default()).unwrap();
    let ranks = found.iter().flatten().map(|of| (of.kind, of.of.clone()));
    let speaker = ViewOf::Speaker { rank: 0 };
    let expected = [(Kind::Audio, speaker.clone()), (Kind::Video, speaker)];
    assert_eq!(ranks.collect::<Vec<_>>(), expected);
    let sent: Vec<_> = found.iter().flatten().map(|of| sent_to(of, &router())).collect();
    let answer = watch_answer(&offer, &sent, &transport());
    for line in [
        "a=group:BUNDLE 0 1",
        "m=audio 9 UDP/TLS/RTP/SAVPF 111 63",
        "a=fmtp:111 minptime=10;useinbandfec=1",
        "a=fmtp:63 111/111",
        "a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid",
        // The last is left out: its number is that of probes.
        "m=video 9 UDP/TLS/RTP/SAVPF 96 97",
        "a=sendonly",
        "a=rtcp-fb:96 nack pli",
        "a=fmtp:97 apt=96",
        "a=msid:view-1 view-1-1",
        "a=ssrc-group:FID 10 11",
        "a=ssrc:11 cname:view-1",
    ] {
        assert!(answer.contains(&format!("{line}\r\n")), "{line} in {answer}");
    }
    assert!(!answer.contains("made-up") && !answer.contains("recvonly"));
}

#[test]
fn sections_are_shared_out() {
    let wanted = |participant: Option<&str>, screen| Wanted {
        participant: participant.map(str::to_owned),
        screen,
    };
    let of = |source| ViewOf::Participant { peer_id: "ann".into(), source };
    let rank = |rank| ViewOf::Speaker { rank };
    let table = [
        (wanted(None, false), vec![Some(rank(0)), Some(rank(1)), Some(rank(2))]),
        (
            wanted(Some("ann"), false),
            vec![Some(of(Source::Camera)), Some(of(Source::ScreenShare)), None],
        ),
        (
            wanted(Some("ann"), true),
            vec![Some(of(Source::ScreenShare)), Some(of(Source::Camera)), None],
        ),
    ];
    let text = CHROMIUM.replace("sendonly", "recvonly");
    let (head, video) = text.split_once("m=video").unwrap();
    let (head, _) = head.split_once("m=audio").unwrap();
    let text = format!("{head}m=video{video}m=video{video}m=video{video}");
    let offer = Offer::parse(&text).unwrap();
    for (wanted, expected) in table {
        let found = subscriptions(&offer, &router(), &wanted).unwrap();
        let views: Vec<_> = found.into_iter().map(|of| of.map(|of| of.of)).collect();
        assert_eq!(views, expected, "{wanted:?}");
    }
}
