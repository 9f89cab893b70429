//! What is asked of broadcasters and answered, in the words of mediasoup's `PlainTransport` and of
//! mediasoup-demo's HTTP API.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opencall_control::api::{
    ConsumerOptions, JsonObject, PlainConnection, PlainKeys, PlainOptions, PlainTransport, Source,
    ViewOf,
};
use opencall_control::rtp_parameters::{Kind, RtpCapabilities, RtpParameters};
use opencall_wire::srtp::Profile;
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::http::wish::problem::Problem;

/// The suites that can be asked for, as SDP names them (RFC 4568, RFC 7714).
const SUITES: [Profile; 3] =
    [Profile::AesCm128HmacSha1_80, Profile::AeadAes128Gcm, Profile::AeadAes256Gcm];

/// Who broadcasts.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Broadcaster {
    pub id: String,
    #[serde(default)]
    pub display_name: Option<String>,
    #[serde(default)]
    pub device: Option<JsonObject>,
    #[serde(default)]
    pub rtp_capabilities: Option<RtpCapabilities>,
}

/// A transport; what is left out is as mediasoup-demo has it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NewTransport {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default = "yes")]
    comedia: bool,
    #[serde(default)]
    rtcp_mux: bool,
    #[serde(default)]
    enable_srtp: bool,
    #[serde(default)]
    srtp_crypto_suite: Option<String>,
}

fn yes() -> bool {
    true
}

impl NewTransport {
    pub fn options(&self) -> Result<PlainOptions, Problem> {
        if self.kind != "plain" {
            let detail = "type is plain: whoever has WebRTC comes by WHIP, WHEP or WebSocket";
            return Err(Problem::body(detail));
        }
        let suite = match (self.enable_srtp, &self.srtp_crypto_suite) {
            (false, None) => None,
            (false, Some(_)) => {
                return Err(Problem::body("srtpCryptoSuite takes enableSrtp: true"));
            }
            (true, None) => Some(Profile::AesCm128HmacSha1_80),
            (true, Some(name)) => Some(profile(name)?),
        };
        Ok(PlainOptions { comedia: self.comedia, rtcp_mux: self.rtcp_mux, srtp: suite })
    }
}

fn profile(name: &str) -> Result<Profile, Problem> {
    let found = SUITES.into_iter().find(|profile| profile.name() == name);
    found.ok_or_else(|| {
        let names = SUITES.map(Profile::name).join(", ");
        Problem::body(&format!("the crypto suites are {names}"))
    })
}

/// Where a pipeline is, and its keys.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Connect {
    #[serde(default)]
    ip: Option<IpAddr>,
    #[serde(default)]
    port: Option<u16>,
    #[serde(default)]
    rtcp_port: Option<u16>,
    #[serde(default)]
    srtp_parameters: Option<SrtpParameters>,
}

/// Keys, as mediasoup names them. No `Debug`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SrtpParameters {
    crypto_suite: String,
    key_base64: String,
}

impl Connect {
    pub fn connection(self) -> Result<PlainConnection, Problem> {
        let address = match (self.ip, self.port) {
            (Some(ip), Some(port)) => Some((ip, port)),
            (None, None) => None,
            _ => return Err(Problem::body("ip and port go together")),
        };
        let keys = self.srtp_parameters.map(SrtpParameters::keys).transpose()?;
        Ok(PlainConnection { address, rtcp_port: self.rtcp_port, keys })
    }
}

impl SrtpParameters {
    fn keys(self) -> Result<PlainKeys, Problem> {
        let profile = profile(&self.crypto_suite)?;
        let key = STANDARD.decode(&*Zeroizing::new(self.key_base64));
        let key = key.map_err(|_| Problem::body("keyBase64 is key and salt in Base64"))?;
        Ok(PlainKeys { profile, key_and_salt: Zeroizing::new(key) })
    }
}

/// A track that is sent to us.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Produce {
    pub kind: Kind,
    pub rtp_parameters: RtpParameters,
    #[serde(default)]
    pub app_data: Option<JsonObject>,
    #[serde(default)]
    pub paused: bool,
}

/// What a pipeline is to be sent: a producer, or what the room or a participant shows.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Consume {
    #[serde(default)]
    pub producer_id: Option<String>,
    #[serde(default)]
    kind: Option<Kind>,
    #[serde(default)]
    participant: Option<String>,
    #[serde(default)]
    source: Option<String>,
    #[serde(default)]
    pub rtp_capabilities: Option<RtpCapabilities>,
    #[serde(default)]
    pub paused: bool,
}

impl Consume {
    /// What is to be watched, where no producer is named.
    pub fn view(&self) -> Result<(ViewOf, Kind), Problem> {
        let kind = self.kind.ok_or_else(|| {
            Problem::body("expected producerId, or kind and, of one participant, participant")
        })?;
        let Some(peer_id) = self.participant.clone() else {
            return Ok((ViewOf::Speaker { rank: 0 }, kind));
        };
        let source = match (self.source.as_deref().map(Source::from_label), kind) {
            (None, Kind::Audio) => Source::Microphone,
            (None, Kind::Video) => Source::Camera,
            (Some(Some(source)), _) => source,
            (Some(None), _) => {
                let names = Source::ALL.map(Source::label).join(", ");
                return Err(Problem::body(&format!("the sources are {names}")));
            }
        };
        Ok((ViewOf::Participant { peer_id, source }, kind))
    }
}

/// A transport as its pipeline must know it.
pub fn transport(transport: &PlainTransport, rtcp_mux: bool) -> Value {
    let port = transport.address.port();
    let mut object = json!({"id": transport.id, "ip": transport.address.ip(), "port": port});
    // One port takes both; who asked for two is told it twice.
    if !rtcp_mux {
        object["rtcpPort"] = port.into();
    }
    if let Some(keys) = &transport.keys {
        let key = STANDARD.encode(&*keys.key_and_salt);
        object["srtpParameters"] = json!({"cryptoSuite": keys.profile.name(), "keyBase64": key});
    }
    object
}

/// A consumer as its pipeline must know it.
pub fn consumer(options: &ConsumerOptions) -> Value {
    json!({
        "id": options.id,
        "producerId": options.producer_id,
        "kind": options.kind,
        "rtpParameters": options.rtp_parameters,
        "type": options.consumer_type,
    })
}
