//! Which codecs a participant had best send, and how: a pure choice by its device, its network and
//! what the members of its room can decode.
//!
//! Profiles and bounds are OpenCall's: 180p15 30–150 kbit/s, 360p20 150–500, 720p30 500–1500, a
//! screen 500–2000, audio 6–128.
#![forbid(unsafe_code)]

use serde::{Deserialize, Deserializer, Serialize};

/// A video codec of real-time calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum VideoCodec {
    /// VP8.
    #[serde(rename = "video/VP8")]
    Vp8,
    /// VP9.
    #[serde(rename = "video/VP9")]
    Vp9,
    /// H264.
    #[serde(rename = "video/H264")]
    H264,
    /// AV1.
    #[serde(rename = "video/AV1")]
    Av1,
}

impl VideoCodec {
    /// All of them.
    pub const ALL: [VideoCodec; 4] =
        [VideoCodec::Vp8, VideoCodec::Vp9, VideoCodec::H264, VideoCodec::Av1];

    /// Its MIME type.
    pub const fn mime_type(self) -> &'static str {
        match self {
            VideoCodec::Vp8 => "video/VP8",
            VideoCodec::Vp9 => "video/VP9",
            VideoCodec::H264 => "video/H264",
            VideoCodec::Av1 => "video/AV1",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            VideoCodec::Vp8 => "VP8",
            VideoCodec::Vp9 => "VP9",
            VideoCodec::H264 => "H264",
            VideoCodec::Av1 => "AV1",
        }
    }

    /// How browsers send layers of it: simulcast where the codec has no spatial layers.
    const fn has_spatial_layers(self) -> bool {
        matches!(self, VideoCodec::Vp9 | VideoCodec::Av1)
    }
}

/// What a client says of its device; what it does not say is taken for a desktop without encoders
/// in hardware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Device {
    /// A phone or a tablet: its battery counts.
    pub mobile: bool,
    /// Whether its `platform` is `ios`, where every device encodes H264 in hardware.
    #[serde(rename = "platform", deserialize_with = "is_ios")]
    pub ios: bool,
    /// Codecs that it encodes in hardware; names that nobody knows are left out.
    #[serde(deserialize_with = "known_codecs")]
    pub hardware_encoders: Vec<VideoCodec>,
    /// What its uplink carries, bits per second, if it knows.
    pub uplink_bitrate: Option<u32>,
}

impl Device {
    fn encodes_in_hardware(&self, codec: VideoCodec) -> bool {
        self.ios && codec == VideoCodec::H264 || self.hardware_encoders.contains(&codec)
    }
}

/// What a client writes is not kept, but what it means.
fn is_ios<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Ok(String::deserialize(deserializer)?.eq_ignore_ascii_case("ios"))
}

fn known_codecs<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<VideoCodec>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    let is_named =
        |codec: &VideoCodec| names.iter().any(|n| n.eq_ignore_ascii_case(codec.mime_type()));
    Ok(VideoCodec::ALL.into_iter().filter(is_named).collect())
}

/// What is known of a client's path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Network {
    /// Bits per second that it carries.
    pub bandwidth_bps: Option<u32>,
    /// Of a hundred packets so many are lost.
    pub loss_percent: Option<u8>,
    /// Round trip, milliseconds.
    pub round_trip_ms: Option<u32>,
}

/// What a room's members can decode.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audience {
    /// The router's codecs, preferred first, each with how many members cannot decode it.
    pub codecs: Vec<(VideoCodec, usize)>,
}

/// Opus as it had best be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AudioAdvice {
    /// Silence costs nothing.
    pub dtx: bool,
    /// Each packet repeats the one before in few bits.
    pub fec: bool,
    /// Each packet repeats the one before whole (RFC 2198), where that can be sent.
    pub redundancy: bool,
    /// Two channels.
    pub stereo: bool,
    /// Bits per second at most.
    pub max_bitrate: u32,
}

/// How layers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LayerMode {
    /// Streams beside each other.
    Simulcast,
    /// Layers inside one stream.
    Svc,
}

/// A picture size with its rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Profile {
    /// 320 × 180, 15 pictures a second, 30–150 kbit/s.
    #[serde(rename = "180p15")]
    P180,
    /// 640 × 360, 20 pictures a second, 150–500 kbit/s.
    #[serde(rename = "360p20")]
    P360,
    /// 1280 × 720, 30 pictures a second, 500–1500 kbit/s.
    #[serde(rename = "720p30")]
    P720,
}

impl Profile {
    /// From and to how many bits per second.
    pub const fn bitrates(self) -> (u32, u32) {
        match self {
            Profile::P180 => (30_000, 150_000),
            Profile::P360 => (150_000, 500_000),
            Profile::P720 => (500_000, 1_500_000),
        }
    }

    /// Spatial layers up to it: each is a quarter of the next.
    const fn layers(self) -> u8 {
        match self {
            Profile::P180 => 1,
            Profile::P360 => 2,
            Profile::P720 => 3,
        }
    }

    const fn lower(self) -> Self {
        match self {
            Profile::P180 | Profile::P360 => Profile::P180,
            Profile::P720 => Profile::P360,
        }
    }

    /// The highest whose least rate a path carries.
    fn that_fits(bps: u32) -> Self {
        let fits = |profile: &Profile| profile.bitrates().0 <= bps;
        [Profile::P720, Profile::P360].into_iter().find(fits).unwrap_or(Profile::P180)
    }
}

/// Video as it had best be sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VideoAdvice {
    /// The codec.
    #[serde(rename = "mimeType")]
    pub codec: VideoCodec,
    /// How its layers are sent.
    pub mode: LayerMode,
    /// Of each stream, as WebRTC-SVC names it.
    pub scalability_mode: String,
    /// Of the camera.
    pub profile: Profile,
    /// Bits per second at least and at most, of the camera.
    pub min_bitrate: u32,
    /// See there.
    pub max_bitrate: u32,
    /// Of a screen at most.
    pub max_screen_bitrate: u32,
}

/// What a participant had best send, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CodecAdvice {
    /// Voices.
    pub audio: AudioAdvice,
    /// Pictures; nothing where the router has no video codec.
    pub video: Option<VideoAdvice>,
    /// In words.
    pub reason: String,
    /// Of the path.
    #[serde(skip)]
    tier: Option<usize>,
}

impl CodecAdvice {
    /// Whether a client would do the same.
    pub(crate) fn says_the_same(&self, other: &CodecAdvice) -> bool {
        (self.audio, &self.video, &self.reason) == (other.audio, &other.video, &other.reason)
    }
}

/// From so much loss on the path is lossy: pictures give way to what repairs.
const LOSSY_PERCENT: u8 = 10;

/// Beyond it a lost packet comes too late when it is asked for again.
const LONG_ROUND_TRIP_MS: u32 = 250;

/// Below it each bit counts more than the CPU that a better codec takes.
const THIN_BPS: u32 = 300_000;

/// What all choices go by: bandwidths between two of these are alike, bits per second.
const TIERS: [u32; 7] = [60_000, 150_000, THIN_BPS, 500_000, 1_000_000, 1_500_000, 2_000_000];

/// To rise over one of them a path must carry this much of it: else a swing around it is news each
/// time. It falls at once.
const RISE_PERCENT: u64 = 120;

/// The bounds of a screen, bits per second.
const SCREEN_BITRATES: (u32, u32) = (500_000, 2_000_000);

/// The tier of a path, which was `before`.
fn tier(bps: u32, before: Option<usize>) -> usize {
    let reached = |percent: u64| {
        let reaches = |bound: &&u32| u64::from(bps) * 100 >= u64::from(**bound) * percent;
        TIERS.iter().take_while(reaches).count()
    };
    match before {
        Some(before) if reached(100) > before => reached(RISE_PERCENT).max(before),
        _ => reached(100),
    }
}

/// The choice. `before` is the advice that holds: it changes for the better only with some room.
pub fn choose(
    device: &Device,
    network: Network,
    audience: &Audience,
    before: Option<&CodecAdvice>,
) -> CodecAdvice {
    let tier_before = before.and_then(|advice| advice.tier);
    let tier = network.bandwidth_bps.map(|bps| tier(bps, tier_before));
    // A tier's least is as good as any of it.
    let floor = |tier: usize| tier.checked_sub(1).and_then(|below| TIERS.get(below)).copied();
    let bandwidth_bps = tier.map(|tier| floor(tier).unwrap_or(0));
    let network = Network { bandwidth_bps, ..network };
    let repeated = before.is_some_and(|advice| advice.audio.redundancy);
    let audio = choose_audio(device, network, repeated);
    let Some((codec, why)) = choose_codec(device, network, audience) else {
        let reason = "the server carries no video here".to_owned();
        return CodecAdvice { audio, video: None, reason, tier };
    };
    let (profile, why_profile) = choose_profile(device, network);
    let is_svc = codec.has_spatial_layers() && profile.layers() > 1;
    let (mode, scalability_mode) = match is_svc {
        true => (LayerMode::Svc, format!("L{}T3_KEY", profile.layers())),
        false => (LayerMode::Simulcast, "L1T3".to_owned()),
    };
    let (min_bitrate, max_bitrate) = profile.bitrates();
    let screen = network.bandwidth_bps.unwrap_or(SCREEN_BITRATES.1);
    let video = VideoAdvice {
        codec,
        mode,
        scalability_mode,
        profile,
        min_bitrate,
        max_bitrate,
        max_screen_bitrate: screen.clamp(SCREEN_BITRATES.0, SCREEN_BITRATES.1),
    };
    let reason = format!("{}: {why}; {why_profile}", codec.name());
    CodecAdvice { audio, video: Some(video), reason, tier }
}

fn choose_codec(
    device: &Device,
    network: Network,
    audience: &Audience,
) -> Option<(VideoCodec, String)> {
    let blind = audience.codecs.iter().map(|(_, blind)| *blind).min()?;
    let most = audience.codecs.iter().filter(|(_, cannot)| *cannot == blind);
    let candidates: Vec<VideoCodec> = most.map(|(codec, _)| *codec).collect();
    let (preferred, _) = *audience.codecs.first()?;
    let first = *candidates.first()?;
    if blind > 0 {
        return Some((first, format!("no codec is for all; {blind} cannot decode this one")));
    }
    let hardware = candidates.iter().find(|codec| device.encodes_in_hardware(**codec));
    if let Some(codec) = hardware.filter(|_| device.mobile) {
        return Some((*codec, "encoded in hardware, which spares the battery".to_owned()));
    }
    let is_thin = network.bandwidth_bps.is_some_and(|bps| bps < THIN_BPS);
    let dense = [VideoCodec::Av1, VideoCodec::Vp9].into_iter().find(|codec| {
        // AV1 in software takes more than phones have, and small pictures need no more than VP9.
        let affordable = *codec != VideoCodec::Av1 || device.encodes_in_hardware(*codec);
        candidates.contains(codec) && affordable && !device.mobile
    });
    if let Some(codec) = dense.filter(|_| is_thin) {
        return Some((codec, "more picture in few bits on a thin path".to_owned()));
    }
    let why = match first == preferred {
        true => "everyone can decode it, and the server prefers it".to_owned(),
        false => format!("not everyone can decode {}", preferred.name()),
    };
    Some((first, why))
}

fn choose_profile(device: &Device, network: Network) -> (Profile, &'static str) {
    let is_lossy = network.loss_percent.is_some_and(|loss| loss >= LOSSY_PERCENT);
    let profile = network.bandwidth_bps.map_or(Profile::P720, Profile::that_fits);
    match (is_lossy, profile, device.mobile) {
        (true, _, _) => (profile.lower(), "smaller pictures on a lossy path"),
        (false, Profile::P720, true) => (profile, "a phone's full picture"),
        (false, Profile::P720, false) => (profile, "the full picture"),
        (false, _, _) => (profile, "as much picture as the path carries"),
    }
}

fn choose_audio(device: &Device, network: Network, repeated: bool) -> AudioAdvice {
    let loss = network.loss_percent.unwrap_or(0);
    // Repairs of music by repetition in few bits sound worse than none; voices gain from it.
    let fec = loss > 0
        || network.loss_percent.is_none()
        || network.round_trip_ms.is_some_and(|ms| ms >= LONG_ROUND_TRIP_MS);
    let max_bitrate = match network.bandwidth_bps {
        Some(..60_000) => 12_000,
        Some(60_000..150_000) => 24_000,
        Some(150_000..500_000) => 40_000,
        Some(500_000..1_500_000) => 64_000,
        Some(_) | None if loss >= LOSSY_PERCENT => 64_000,
        Some(_) | None => 128_000,
    };
    // What repetitions repair is no loss any more: they stay until the path is too thin for them.
    let is_thin = network.bandwidth_bps.is_some_and(|bps| bps < THIN_BPS);
    let redundancy = !is_thin && (repeated || loss >= LOSSY_PERCENT);
    let stereo = max_bitrate > 64_000 && !device.mobile;
    AudioAdvice { dtx: true, fec, redundancy, stereo, max_bitrate }
}

#[cfg(test)]
mod tests {
    use super::*;
    use VideoCodec::{Av1, H264, Vp8, Vp9};

    fn audience(codecs: &[(VideoCodec, usize)]) -> Audience {
        Audience { codecs: codecs.to_vec() }
    }

    fn all() -> Audience {
        audience(&[(Vp8, 0), (H264, 0), (Vp9, 0), (Av1, 0)])
    }

    fn path(bandwidth_bps: u32) -> Network {
        Network { bandwidth_bps: Some(bandwidth_bps), ..Network::default() }
    }

    fn phone(platform: &str, hardware: &[VideoCodec]) -> Device {
        Device {
            mobile: true,
            ios: platform == "ios",
            hardware_encoders: hardware.to_vec(),
            ..Device::default()
        }
    }

    #[test]
    fn the_codec_follows_who_decodes_and_what_encodes() {
        let desktop = Device::default;
        let able = Device { hardware_encoders: vec![Av1, H264], ..Device::default() };
        let unknown = Network::default();
        let table = [
            (desktop(), unknown, all(), Vp8, "the server prefers it"),
            (desktop(), unknown, audience(&[(Vp9, 0), (Vp8, 0)]), Vp9, "the server prefers it"),
            (
                desktop(),
                unknown,
                audience(&[(Vp9, 1), (Vp8, 0)]),
                Vp8,
                "not everyone can decode VP9",
            ),
            (desktop(), unknown, audience(&[(Vp8, 2), (H264, 1)]), H264, "1 cannot decode"),
            (able.clone(), unknown, all(), Vp8, "the server prefers it"),
            (phone("android", &[]), unknown, all(), Vp8, "the server prefers it"),
            (phone("android", &[H264]), unknown, all(), H264, "battery"),
            (phone("ios", &[]), unknown, all(), H264, "battery"),
            (phone("ios", &[]), unknown, audience(&[(Vp8, 0), (H264, 1)]), Vp8, "prefers"),
            (desktop(), path(200_000), all(), Vp9, "thin path"),
            (able, path(200_000), all(), Av1, "thin path"),
            (desktop(), path(200_000), audience(&[(Vp8, 0), (Vp9, 1)]), Vp8, "prefers"),
            (phone("android", &[]), path(200_000), all(), Vp8, "prefers"),
        ];
        for (number, (device, network, audience, codec, words)) in table.into_iter().enumerate() {
            let advice = choose(&device, network, &audience, None);
            assert!(advice.reason.contains(words), "{number}: {}", advice.reason);
            assert_eq!(advice.video.map(|video| video.codec), Some(codec), "{number}");
        }
    }

    #[test]
    fn layers_are_sent_as_the_codec_can_and_as_many_as_fit() {
        let table = [
            (Vp8, None, LayerMode::Simulcast, "L1T3", Profile::P720),
            (H264, None, LayerMode::Simulcast, "L1T3", Profile::P720),
            (Vp9, None, LayerMode::Svc, "L3T3_KEY", Profile::P720),
            (Av1, None, LayerMode::Svc, "L3T3_KEY", Profile::P720),
            (Vp9, Some(400_000), LayerMode::Svc, "L2T3_KEY", Profile::P360),
            (Vp9, Some(100_000), LayerMode::Simulcast, "L1T3", Profile::P180),
            (Vp8, Some(149_999), LayerMode::Simulcast, "L1T3", Profile::P180),
            (Vp8, Some(150_000), LayerMode::Simulcast, "L1T3", Profile::P360),
            (Vp8, Some(499_999), LayerMode::Simulcast, "L1T3", Profile::P360),
            (Vp8, Some(500_000), LayerMode::Simulcast, "L1T3", Profile::P720),
            (Vp8, Some(0), LayerMode::Simulcast, "L1T3", Profile::P180),
        ];
        for (codec, bandwidth_bps, mode, scalability, profile) in table {
            let network = Network { bandwidth_bps, ..Network::default() };
            let advice = choose(&Device::default(), network, &audience(&[(codec, 0)]), None);
            let video = advice.video.expect("video");
            let found = (video.mode, video.scalability_mode.as_str(), video.profile);
            assert_eq!(found, (mode, scalability, profile), "{codec:?} {bandwidth_bps:?}");
            assert_eq!((video.min_bitrate, video.max_bitrate), profile.bitrates());
            assert!((500_000..=2_000_000).contains(&video.max_screen_bitrate));
        }
    }

    #[test]
    fn a_profile_falls_at_once_and_rises_with_room() {
        let (device, audience) = (Device::default(), all());
        let mut advice = None;
        let profiles = [520_000, 499_000, 510_000, 599_000, 601_000, 140_000, 170_000, 185_000]
            .map(|bps| {
                let next = choose(&device, path(bps), &audience, advice.as_ref());
                let profile = next.video.as_ref().map(|video| video.profile);
                advice = Some(next);
                profile.expect("video")
            });
        use Profile::{P180, P360, P720};
        assert_eq!(profiles, [P720, P360, P360, P360, P720, P180, P180, P360]);
    }

    #[test]
    fn audio_is_tuned_within_its_bounds() {
        let lossy = |percent| Network { loss_percent: Some(percent), ..Network::default() };
        let far = Network { round_trip_ms: Some(300), ..lossy(0) };
        let table = [
            (false, Network::default(), (true, true, 128_000)),
            (true, Network::default(), (true, false, 128_000)),
            (false, lossy(0), (false, true, 128_000)),
            (false, far, (true, true, 128_000)),
            (false, lossy(20), (true, false, 64_000)),
            (false, path(1_000_000), (true, false, 64_000)),
            (false, path(200_000), (true, false, 40_000)),
            (false, path(100_000), (true, false, 24_000)),
            (false, path(30_000), (true, false, 12_000)),
        ];
        for (mobile, network, (fec, stereo, bps)) in table {
            let device = Device { mobile, ..Device::default() };
            let AudioAdvice { dtx, fec: found_fec, stereo: found_stereo, max_bitrate, .. } =
                choose(&device, network, &all(), None).audio;
            let found = (found_fec, found_stereo, max_bitrate);
            assert_eq!(found, (fec, stereo, bps), "{mobile} {network:?}");
            assert!(dtx && (6_000..=128_000).contains(&max_bitrate));
        }
    }

    #[test]
    fn voices_are_repeated_once_losses_were_seen_and_while_the_path_carries_it() {
        let lossy = |percent| Network { loss_percent: Some(percent), ..path(2_500_000) };
        let thin = Network { loss_percent: Some(20), ..path(200_000) };
        let mut before = None;
        let repeated = [lossy(0), lossy(10), lossy(0), thin, lossy(0), lossy(20)].map(|network| {
            let next = choose(&Device::default(), network, &all(), before.as_ref());
            let redundancy = next.audio.redundancy;
            before = Some(next);
            redundancy
        });
        assert_eq!(repeated, [false, true, true, false, false, true]);
    }

    #[test]
    fn without_a_video_codec_there_is_no_video() {
        let advice = choose(&Device::default(), Network::default(), &Audience::default(), None);
        assert_eq!(advice.video, None);
    }

    #[test]
    fn it_is_written_as_clients_read_it() {
        let advice = choose(&Device::default(), Network::default(), &all(), None);
        let json = serde_json::to_value(&advice).expect("JSON");
        let expected = serde_json::json!({
            "audio": {"dtx": true, "fec": true, "redundancy": false, "stereo": true,
                      "maxBitrate": 128_000},
            "video": {"mimeType": "video/VP8", "mode": "simulcast", "scalabilityMode": "L1T3",
                      "profile": "720p30", "minBitrate": 500_000, "maxBitrate": 1_500_000,
                      "maxScreenBitrate": 2_000_000},
            "reason": "VP8: everyone can decode it, and the server prefers it; the full picture",
        });
        assert_eq!(json, expected);
        let device: Device = serde_json::from_value(serde_json::json!({
            "mobile": true, "platform": "iOS", "hardwareEncoders": ["video/h264", "video/H266"],
            "uplinkBitrate": 5,
        }))
        .expect("a device");
        assert!(device.mobile && device.ios && device.uplink_bitrate == Some(5));
        assert_eq!(device.hardware_encoders, [H264]);
    }
}
