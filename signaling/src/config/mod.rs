//! Configuration: parsed once into values that cannot be wrong, or refused with one line that says
//! what to do.
#![forbid(unsafe_code)]

mod args;
pub mod auth;
mod ice_tcp;
mod push;
mod recordings;
mod taps;
mod web;
mod webhooks;

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use args::{Arguments, MediaArguments};
use opencall_control::dtls::{CertificateSource, DtlsConfig, DtlsVersion};
use opencall_control::limits::MAX_STAGE_SLOTS;
use opencall_control::rtp_parameters::RtpCodecCapability;
use opencall_control::{PlacementPolicy, StageConfig, ortc};
use opencall_dataplane::message::MAX_CORES;
use opencall_io::BackendChoice;
use opencall_wire::srtp::Profile;

pub use self::ice_tcp::IceTcpOnHttp;
pub use self::push::PushesConfig;
pub use self::recordings::RecordingsConfig;
pub use self::taps::TapsConfig;
pub use self::web::WebConfig;

use crate::auth::AuthConfig;
use crate::auth::admin::AdminKeys;
use crate::drain;
use crate::webhooks::WebhookConfig;

/// Cores at most: a core's index travels in one byte, and no host this is meant for has more.
const MAX_WORKERS: usize = MAX_CORES;

/// The smallest budget that holds one lowest simulcast layer.
const MIN_OUTGOING_BITRATE_BPS: u32 = 50_000;

/// The smallest message limit that still takes every browser's capabilities.
const MIN_MESSAGE_SIZE: usize = 16_384;

/// The largest message limit: a message is held and parsed in memory as a whole.
const MAX_MESSAGE_SIZE: usize = 4 << 20;

/// Everything the server needs to know to start. No `Debug`: it holds a private key.
pub struct Config {
    /// Where media is taken.
    pub listen: Vec<ListenAddress>,
    /// Number of data cores at start.
    pub workers: usize,
    /// Number of data cores at most: as many as there are ports.
    pub max_workers: usize,
    /// UDP port of the first data core; each further one has its number above it.
    pub first_port: u16,
    /// Whether the same addresses and ports take ICE over TCP.
    pub ice_tcp: bool,
    /// Whether the port of the web side takes ICE over TCP.
    pub ice_tcp_on_http: Option<IceTcpOnHttp>,
    /// Certificate, versions and profiles.
    pub dtls: DtlsConfig,
    /// Codecs, preferred first; not empty.
    pub codecs: Vec<RtpCodecCapability>,
    /// Video budget of one client.
    pub outgoing_bitrate_bps: u32,
    /// How the kernel is spoken to.
    pub io: BackendChoice,
    /// Where participants go.
    pub placement: PlacementPolicy,
    /// When rooms have a stage.
    pub stage: StageConfig,
    /// Whether each data core is bound to one CPU.
    pub pin: bool,
    /// Whether the server runs as a child that is started again when it dies.
    pub supervised: bool,
    /// Whether SIGUSR1 and SIGUSR2 make data cores die.
    pub debug_faults: bool,
    /// The web side.
    pub web: WebConfig,
    /// The log filter.
    pub log: tracing_subscriber::EnvFilter,
    /// Join tokens.
    pub auth: AuthConfig,
    /// Whether, without tokens, who enters a room first is its host.
    pub dev_hosts: bool,
    /// Keys of administrators.
    pub admin: AdminKeys,
    /// Who is told what happens in rooms.
    pub webhooks: Option<WebhookConfig>,
    /// Limits of connections.
    pub limits: Limits,
    /// What may be recorded, if anything.
    pub recordings: Option<RecordingsConfig>,
    /// Where voices may go, if anywhere.
    pub taps: Option<TapsConfig>,
    /// Where to somebody may be broadcast, if anywhere.
    pub pushes: Option<PushesConfig>,
    /// How long SIGTERM lets those inside go on; zero stops at once.
    pub drain_timeout: Duration,
}

/// An address to listen on, and how clients reach it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListenAddress {
    /// What to bind.
    pub ip: IpAddr,
    /// What to put into candidates.
    pub announced: IpAddr,
}

/// Limits of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest WebSocket message, bytes.
    pub max_message_size: usize,
    /// Units of work per second of one connection.
    pub request_rate: NonZeroU32,
    /// Units of work at once.
    pub request_burst: NonZeroU32,
    /// Connections from one address.
    pub sessions_per_address: u32,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// `--help` or `--version`: not an error, print it.
    #[error("{0}")]
    Display(String),
    /// One line that says what is wrong and what to do.
    #[error("{0}")]
    Wrong(String),
}

pub(crate) fn wrong<T>(text: impl Into<String>) -> Result<T, ConfigError> {
    Err(ConfigError::Wrong(text.into()))
}

impl Config {
    /// From the command line and the environment.
    pub fn read(
        line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, ConfigError> {
        Self::from_arguments(Arguments::read(line).map_err(|error| refused(&error))?)
    }

    fn from_arguments(arguments: Arguments) -> Result<Self, ConfigError> {
        let Arguments { media, web, auth, admin, webhooks, recordings, taps, pushes, limits } =
            arguments;
        let workers = workers(media.workers)?;
        let (first_port, ports) = ports(&media, workers)?;
        let dev_hosts = auth.dev_hosts;
        let auth = auth.read()?;
        let admin = admin.read(&auth)?;
        let webhooks = webhooks.read(&auth, &admin)?;
        let log = log_filter(&web.log)?;
        let web = WebConfig::read(web)?;
        let listen = listen(&media.listen_ip, media.announced_ip.as_deref())?;
        Ok(Config {
            ice_tcp_on_http: ice_tcp::on_http(&media, &listen, web.listen.ip())?,
            listen,
            workers,
            max_workers: ports.min(MAX_WORKERS),
            first_port,
            ice_tcp: media.ice_tcp,
            dtls: DtlsConfig {
                certificate: certificate(&media)?,
                max_version: match media.dtls_max_version {
                    args::DtlsVersion::V1_2 => DtlsVersion::Dtls12,
                    args::DtlsVersion::V1_3 => DtlsVersion::Dtls13,
                },
                srtp_profiles: srtp_profiles(&media.srtp_profiles)?,
                seed: None,
            },
            codecs: codecs(&media.codecs)?,
            outgoing_bitrate_bps: outgoing_bitrate(&media.outgoing_bitrate)?,
            io: match media.io {
                args::IoChoice::Uring => BackendChoice::Uring,
                args::IoChoice::Mmsg => BackendChoice::Mmsg,
                args::IoChoice::Auto => BackendChoice::Auto,
            },
            placement: placement(&media)?,
            stage: stage(&media)?,
            pin: media.pin,
            supervised: media.supervised,
            debug_faults: media.debug_faults,
            log,
            admin,
            webhooks,
            auth,
            dev_hosts,
            web,
            recordings: recordings.read()?,
            taps: taps.read()?,
            pushes: pushes.read()?,
            drain_timeout: drain_timeout(limits.drain_timeout)?,
            limits: limits_of(&limits)?,
        })
    }
}

/// Reads the command line of a command of its own; the first argument is the program's name.
pub(crate) fn read_command<T: clap::CommandFactory + clap::FromArgMatches>(
    line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<T, ConfigError> {
    args::read(line).map_err(|error| refused(&error))
}

/// One line, or the help that was asked for.
fn refused(error: &clap::Error) -> ConfigError {
    if error.use_stderr() {
        return ConfigError::Wrong(format!("{}; --help lists all flags", first_paragraph(error)));
    }
    ConfigError::Display(error.render().to_string())
}

/// clap's error without its usage and hints.
fn first_paragraph(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

fn listen(listen: &str, announced: Option<&str>) -> Result<Vec<ListenAddress>, ConfigError> {
    let ips = addresses("--listen-ip (MEDIASOUP_LISTEN_IP)", listen)?;
    let announced = match announced {
        Some(list) => addresses("--announced-ip (MEDIASOUP_ANNOUNCED_IP)", list)?,
        None => ips.clone(),
    };
    if ips.len() != announced.len() {
        return wrong(format!(
            "--listen-ip has {} addresses and --announced-ip {}: give one announced address for \
             each in the same order",
            ips.len(),
            announced.len()
        ));
    }
    for (index, ip) in ips.iter().enumerate() {
        if ips.iter().take(index).any(|earlier| earlier == ip) {
            return wrong(format!("--listen-ip has {ip} twice: remove one"));
        }
    }
    ips.into_iter()
        .zip(announced)
        .map(|(ip, announced)| {
            if announced.is_unspecified() {
                return wrong(format!(
                    "clients cannot reach {announced}: set --announced-ip \
                     (MEDIASOUP_ANNOUNCED_IP) to the address at which they reach this server"
                ));
            }
            if ip.is_ipv4() && announced.is_ipv6() {
                return wrong(format!(
                    "{announced} cannot be announced for {ip}: announce an IPv4 address for an \
                     IPv4 address"
                ));
            }
            Ok(ListenAddress { ip, announced })
        })
        .collect()
}

fn addresses(flag: &str, list: &str) -> Result<Vec<IpAddr>, ConfigError> {
    list.split(',')
        .map(str::trim)
        .map(|text| {
            text.parse().or_else(|_| {
                wrong(format!(
                    "{flag}: \"{text}\" is not an IP address; write one like 192.0.2.1 or \
                     2001:db8::1, or several separated by commas"
                ))
            })
        })
        .collect()
}

fn workers(given: Option<usize>) -> Result<usize, ConfigError> {
    match given {
        None => {
            let cpus = std::thread::available_parallelism().map_or(1, usize::from);
            Ok(cpus.saturating_sub(1).clamp(1, MAX_WORKERS))
        }
        Some(count) if (1..=MAX_WORKERS).contains(&count) => Ok(count),
        Some(count) => wrong(format!(
            "--workers (MEDIASOUP_NUM_WORKERS) is {count}: give a number from 1 to {MAX_WORKERS}, \
             or leave it out for one per CPU but one"
        )),
    }
}

/// The first port, and how many there are.
fn ports(media: &MediaArguments, workers: usize) -> Result<(u16, usize), ConfigError> {
    let (min, max) = (media.rtc_min_port, media.rtc_max_port);
    if min == 0 {
        return wrong("--rtc-min-port (RTC_MIN_PORT) is 0: give a port from 1 to 65535");
    }
    if min > max {
        return wrong(format!(
            "--rtc-min-port (RTC_MIN_PORT) {min} is above --rtc-max-port (RTC_MAX_PORT) {max}: \
             raise the one or lower the other"
        ));
    }
    let ports = usize::from(max - min) + 1;
    if ports < workers {
        return wrong(format!(
            "ports {min} to {max} are {ports}, but {workers} workers need one each: raise \
             --rtc-max-port (RTC_MAX_PORT) or lower --workers (MEDIASOUP_NUM_WORKERS)"
        ));
    }
    Ok((min, ports))
}

fn certificate(media: &MediaArguments) -> Result<CertificateSource, ConfigError> {
    match (&media.dtls_cert_file, &media.dtls_key_file) {
        (None, None) => Ok(CertificateSource::Generate),
        (Some(certificate), Some(key)) => Ok(CertificateSource::Pem {
            certificate: read_pem("--dtls-cert-file", certificate)?,
            key: read_pem("--dtls-key-file", key)?,
        }),
        (Some(_), None) => {
            wrong("--dtls-cert-file needs its key: add --dtls-key-file (DTLS_KEY_FILE)")
        }
        (None, Some(_)) => {
            wrong("--dtls-key-file needs its certificate: add --dtls-cert-file (DTLS_CERT_FILE)")
        }
    }
}

fn read_pem(flag: &str, file: &Path) -> Result<Vec<u8>, ConfigError> {
    std::fs::read(file).or_else(|error| {
        wrong(format!(
            "{flag} {}: {error}; check the path and that this user may read it",
            file.display()
        ))
    })
}

const SRTP_PROFILES: [(&str, Profile); 3] = [
    ("aes128-gcm", Profile::AeadAes128Gcm),
    ("aes256-gcm", Profile::AeadAes256Gcm),
    ("aes128-cm-sha1", Profile::AesCm128HmacSha1_80),
];

/// A list of names, each at most once.
fn srtp_profiles(list: &str) -> Result<Vec<Profile>, ConfigError> {
    let mut profiles = Vec::new();
    for name in list.split(',').map(str::trim) {
        let Some(&(_, profile)) = SRTP_PROFILES.iter().find(|(known, _)| *known == name) else {
            let names: Vec<&str> = SRTP_PROFILES.iter().map(|&(name, _)| name).collect();
            let names = names.join(", ");
            return wrong(format!("--srtp-profiles: \"{name}\" is unknown; choose from {names}"));
        };
        if profiles.contains(&profile) {
            return wrong(format!("--srtp-profiles has {name} twice: remove one"));
        }
        profiles.push(profile);
    }
    Ok(profiles)
}

/// The router is tried out here, so that what it refuses is known before anything starts.
fn codecs(list: &str) -> Result<Vec<RtpCodecCapability>, ConfigError> {
    let names: Vec<&str> = list.split(',').map(str::trim).collect();
    for (index, name) in names.iter().enumerate() {
        if names.iter().take(index).any(|earlier| earlier.eq_ignore_ascii_case(name)) {
            return wrong(format!("--codecs has {name} twice: remove one"));
        }
    }
    let codecs = ortc::codec_list(list).and_then(|codecs| {
        ortc::router_rtp_capabilities(&codecs)?;
        Ok(codecs)
    });
    codecs.or_else(|error| wrong(format!("--codecs \"{list}\": {error}")))
}

fn placement(media: &MediaArguments) -> Result<PlacementPolicy, ConfigError> {
    match media.placement {
        args::PlacementChoice::Spread => Ok(PlacementPolicy::Spread),
        args::PlacementChoice::Pack if media.participants_per_core == 0 => {
            wrong("--participants-per-core is 0: give at least 1")
        }
        args::PlacementChoice::Pack => {
            Ok(PlacementPolicy::Pack { participants_per_core: media.participants_per_core })
        }
    }
}

fn stage(media: &MediaArguments) -> Result<StageConfig, ConfigError> {
    let (voices, videos) = (media.stage_voices, media.stage_videos);
    if voices > MAX_STAGE_SLOTS || videos > MAX_STAGE_SLOTS {
        return wrong(format!(
            "--stage-voices {voices} --stage-videos {videos}: {MAX_STAGE_SLOTS} are the most"
        ));
    }
    if media.stage_from > 0 && voices + videos == 0 {
        return wrong("a stage without voices and pictures: give --stage-from 0 for none at all");
    }
    Ok(StageConfig { from: media.stage_from, voices, videos })
}

fn outgoing_bitrate(text: &str) -> Result<u32, ConfigError> {
    let (digits, unit) = match text.trim().split_at_checked(text.trim().len().saturating_sub(1)) {
        Some((digits, "k" | "K")) => (digits, 1e3),
        Some((digits, "m" | "M")) => (digits, 1e6),
        _ => (text.trim(), 1.0),
    };
    let rate = digits.parse::<f64>().ok().map(|number| number * unit);
    match rate {
        Some(rate)
            if (f64::from(MIN_OUTGOING_BITRATE_BPS)..=f64::from(u32::MAX)).contains(&rate) =>
        {
            Ok(rate as u32)
        }
        _ => wrong(format!(
            "--outgoing-bitrate \"{text}\": give bits per second, such as 1500k or 3M, at least \
             {MIN_OUTGOING_BITRATE_BPS}"
        )),
    }
}

fn log_filter(text: &str) -> Result<tracing_subscriber::EnvFilter, ConfigError> {
    tracing_subscriber::EnvFilter::try_new(text).or_else(|error| {
        wrong(format!(
            "--log (RUST_LOG) \"{text}\": {error}; give a level such as info, or a list such as \
             info,opencall_dataplane=debug"
        ))
    })
}

fn limits_of(limits: &args::LimitArguments) -> Result<Limits, ConfigError> {
    if !(MIN_MESSAGE_SIZE..=MAX_MESSAGE_SIZE).contains(&limits.max_message_size) {
        return wrong(format!(
            "--max-message-size is {}: give a number from {MIN_MESSAGE_SIZE} to {MAX_MESSAGE_SIZE}",
            limits.max_message_size
        ));
    }
    let positive = |flag, value| {
        NonZeroU32::new(value)
            .ok_or_else(|| ConfigError::Wrong(format!("{flag} is 0: give at least 1")))
    };
    Ok(Limits {
        max_message_size: limits.max_message_size,
        request_rate: positive("--request-rate", limits.request_rate)?,
        request_burst: positive("--request-burst", limits.request_burst)?,
        sessions_per_address: positive("--sessions-per-address", limits.sessions_per_address)?
            .get(),
    })
}

fn drain_timeout(seconds: u64) -> Result<Duration, ConfigError> {
    let timeout = Duration::from_secs(seconds);
    if timeout > drain::MAX_DEADLINE {
        let most = drain::MAX_DEADLINE.as_secs();
        return wrong(format!("--drain-timeout is {seconds}: give {most} seconds at most"));
    }
    Ok(timeout)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::WebhookKey;

    fn read(flags: &str) -> Result<Config, ConfigError> {
        Config::read(std::iter::once("opencall-sfu").chain(flags.split_whitespace()))
    }

    #[test]
    fn without_flags_it_serves_this_machine() {
        let config = read("").unwrap_or_else(|error| panic!("{error}"));
        let loopback: IpAddr = [127, 0, 0, 1].into();
        assert_eq!(config.listen, [ListenAddress { ip: loopback, announced: loopback }]);
        assert_eq!((config.first_port, config.web.listen.port()), (40_000, 8080));
        assert!(config.workers >= 1);
        assert_eq!(config.outgoing_bitrate_bps, 6_000_000);
        assert_eq!(config.dtls.srtp_profiles[0], Profile::AeadAes128Gcm);
        assert_eq!(config.codecs[0].mime_type, "audio/opus");
        assert_eq!(config.codecs[1].mime_type, "video/VP8");
        assert!(matches!(config.dtls.certificate, CertificateSource::Generate));
    }

    #[test]
    fn lists_are_parallel() {
        let config = read("--listen-ip 0.0.0.0,::1 --announced-ip 192.0.2.1,2001:db8::1")
            .unwrap_or_else(|error| panic!("{error}"));
        let announced: Vec<String> =
            config.listen.iter().map(|listen| listen.announced.to_string()).collect();
        assert_eq!(announced, ["192.0.2.1", "2001:db8::1"]);
    }

    #[test]
    fn rates_have_units() {
        for (text, bps) in [("1500k", 1_500_000), ("2.5M", 2_500_000), ("800000", 800_000)] {
            assert_eq!(outgoing_bitrate(text).unwrap(), bps);
        }
        for text in ["", "M", "-1M", "10", "1e12", "NaN", "fast", "3µ"] {
            assert!(outgoing_bitrate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn webhooks_are_signed_by_the_key_that_is_named_or_the_only_one() {
        const URL: &str = "--webhook-url https://a.example/hook";
        const KEY: &str = "0123456789abcdefghijklmnopqrstuv";
        let key = |flags: &str| {
            let config = read(&format!("{URL} {flags}")).unwrap_or_else(|error| panic!("{error}"));
            let webhooks = config.webhooks.unwrap_or_else(|| panic!("{flags}: none"));
            match webhooks.key {
                WebhookKey::OfTokens(name) => format!("{name} of tokens"),
                WebhookKey::Own { name, .. } => name,
            }
        };
        assert_eq!(key(&format!("--auth-key a={KEY}")), "a of tokens");
        let two = format!("--auth-key a={KEY} --auth-key b=1{KEY}");
        assert_eq!(key(&format!("{two} --webhook-key b")), "b of tokens");
        assert_eq!(key(&format!("{two} --webhook-key hooks=2{KEY}=")), "hooks");
        assert!(read("").unwrap_or_else(|error| panic!("{error}")).webhooks.is_none());
    }

    /// What is wrong, and a word of the cure that the line must have.
    #[test]
    fn every_wrong_configuration_has_one_line_with_a_cure() {
        let table = [
            ("--listen-ip 0.0.0.0", "set --announced-ip"),
            ("--listen-ip ::", "set --announced-ip"),
            ("--listen-ip 0.0.0.0 --announced-ip ::", "set --announced-ip"),
            ("--listen-ip localhost", "is not an IP address; write one like"),
            ("--listen-ip 10.0.0.1,", "is not an IP address"),
            ("--listen-ip 10.0.0.1,10.0.0.1", "twice"),
            ("--listen-ip 10.0.0.1,10.0.0.2 --announced-ip 10.0.0.3", "in the same order"),
            ("--listen-ip 10.0.0.1 --announced-ip 2001:db8::1", "announce an IPv4 address"),
            ("--workers 0", "from 1 to 128"),
            ("--workers many", "--help lists all flags"),
            ("--rtc-min-port 0", "from 1 to 65535"),
            ("--rtc-min-port 70000", "--help lists all flags"),
            ("--rtc-min-port 50000", "raise the one or lower the other"),
            ("--workers 3 --rtc-max-port 40001", "raise --rtc-max-port"),
            ("--ice-tcp-http-port 443", "add it"),
            ("--ice-tcp-on-http --ice-tcp-http-port 0", "--help lists all flags"),
            ("--ice-tcp-on-http --listen-ip ::1", "make both IPv4 or both IPv6"),
            ("--dtls-cert-file /nowhere/cert.pem", "add --dtls-key-file"),
            ("--dtls-key-file /nowhere/key.pem", "add --dtls-cert-file"),
            ("--dtls-cert-file /nowhere/c --dtls-key-file /nowhere/k", "check the path"),
            ("--dtls-max-version 1.1", "[possible values: 1.2, 1.3]"),
            ("--srtp-profiles null", "choose from aes128-gcm"),
            ("--srtp-profiles aes128-gcm,aes128-gcm", "twice"),
            ("--codecs opus,h265", "h265"),
            ("--codecs vp8,VP8", "twice"),
            ("--participants-per-core 0", "at least 1"),
            ("--outgoing-bitrate 1", "such as 1500k or 3M"),
            ("--io epoll", "[possible values: uring, mmsg, auto]"),
            ("--placement random", "[possible values: pack, spread]"),
            ("--http-listen 8080", "such as 0.0.0.0:8080"),
            ("--metrics-listen 9100", "such as 0.0.0.0:8080"),
            ("--trusted-proxy proxy.example", "like 127.0.0.1 or 10.0.0.0/8"),
            ("--trusted-proxy 10.0.0.0/33", "like 127.0.0.1 or 10.0.0.0/8"),
            ("--proxy-protocol", "add --trusted-proxy"),
            ("--tls-cert-file /nowhere/cert.pem", "add --tls-key-file"),
            ("--tls-key-file /nowhere/key.pem", "add --tls-cert-file"),
            ("--tls-cert-file /nowhere/c --tls-key-file /nowhere/k", "check the path"),
            ("--tls-cert-file /dev/zero --tls-key-file /dev/zero", "no PEM file"),
            ("--allowed-origins meet.example.org", "like https://meet.example.org"),
            ("--frame-ancestors intranet", "like https://intranet.example.org"),
            ("--frame-ancestors https://a.example;script-src", "no source of frames"),
            ("--http-request-rate 0", "give at least 1"),
            ("--http-request-burst 0", "give at least 1"),
            ("--admin-key ops", "expected KEY=SECRET"),
            ("--admin-key ops=short", "32 are the least"),
            ("--admin-keys-file /nowhere/keys", "--admin-keys-file /nowhere/keys"),
            (
                "--admin-key a=0123456789abcdefghijklmnopqrstuv \
                 --auth-key b=0123456789abcdefghijklmnopqrstuv",
                "one of their own",
            ),
            ("--recording-dir /dev/null/here", "that this user may write to"),
            ("--recording-dir /tmp --recording-limit 0", "leave --recording-dir out"),
            ("--push-allow https://live.example.org", "it must begin with rtmps://"),
            ("--push-allow rtmp://live.example.org/app", "host and port alone"),
            ("--push-allow srt://live.example.org", "names its port"),
            ("--push-allow rtmp://a.example --push-limit 0", "leave --push-allow out"),
            ("--push-allow rtmp://a.example --push-ca /nowhere", "cannot be read"),
            ("--tap-allow captions.example.org", "it must begin with wss://"),
            ("--tap-allow wss://captions.example.org/room", "host and port alone"),
            ("--tap-allow wss://a.example --tap-limit 0", "leave --tap-allow out"),
            ("--log info,=,", "give a level such as info"),
            ("--max-message-size 10", "from 16384"),
            ("--request-rate 0", "give at least 1"),
            ("--sessions-per-address 0", "give at least 1"),
            ("--drain-timeout 100000", "86400 seconds at most"),
            ("--listn-ip 10.0.0.1", "--help lists all flags"),
        ];
        check_cures(&table);
    }

    /// The same of webhooks.
    #[test]
    fn wrong_webhooks_have_one_line_with_a_cure() {
        check_cures(&[
            ("--webhook-key a", "say where to with --webhook-url"),
            ("--webhook-url http://127.0.0.1/", "say by which key with --webhook-key"),
            ("--webhook-url hooks.example --webhook-key a", "begin with https://"),
            ("--webhook-url http://127.0.0.1/ --webhook-key a", "no such key of join tokens"),
            ("--webhook-url http://127.0.0.1/ --webhook-key a=short", "32 are the least"),
            (
                "--webhook-url http://a.example,,http://b.example --webhook-key a",
                "OPENCALL_WEBHOOK_URLS): not a URL",
            ),
            (
                "--webhook-url http://127.0.0.1/ \
                 --admin-key a=0123456789abcdefghijklmnopqrstuv \
                 --webhook-key b=0123456789abcdefghijklmnopqrstuv",
                "give webhooks one of their own",
            ),
            (
                "--webhook-url http://127.0.0.1/ \
                 --auth-key a=0123456789abcdefghijklmnopqrstuv \
                 --auth-key b=1123456789abcdefghijklmnopqrstuv",
                "say by which key",
            ),
        ]);
    }

    fn check_cures(table: &[(&str, &str)]) {
        for &(flags, cure) in table {
            match read(flags) {
                Err(ConfigError::Wrong(line)) => {
                    assert!(line.contains(cure), "{flags}: {line}");
                    assert!(!line.contains('\n'), "{flags}: {line}");
                }
                Err(ConfigError::Display(_)) => panic!("{flags}: help"),
                Ok(_) => panic!("{flags}: accepted"),
            }
        }
    }

    #[test]
    fn help_names_every_flag_with_its_variable() {
        let Err(ConfigError::Display(help)) = read("--help") else { panic!("no help") };
        for name in ["MEDIASOUP_LISTEN_IP", "RTC_MAX_PORT", "DTLS_KEY_FILE", "OPENCALL_IO"] {
            assert!(help.contains(name), "{name}");
        }
        assert_eq!(help.matches("[env: ").count(), help.matches("\n      --").count());
    }
}
