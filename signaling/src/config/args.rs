//! The command line, as clap reads it: every flag with its variable, default and meaning.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::num::NonZeroU16;
use std::path::PathBuf;

use clap::{Args, CommandFactory, FromArgMatches, Parser, ValueEnum};
use opencall_control::PARTICIPANTS_PER_CORE;

use super::auth::{AdminArguments, AuthArguments};
use super::push::PushArguments;
use super::recordings::RecordingArguments;
use super::taps::TapArguments;
use super::webhooks::WebhookArguments;

/// What stands below the flags.
const AFTER_HELP: &str = "opencall-sfu token --help: mint a join token by hand";

/// A WebRTC SFU for OpenCall meetings. Without any flag it serves meetings on this machine at
/// http://127.0.0.1:8080/. For a server on the network give at least --listen-ip, --announced-ip
/// and --http-listen. Each flag can be given as the environment variable named with it; the flag
/// wins, and an empty variable counts as absent.
#[derive(Parser)]
#[command(name = "opencall-sfu", version, max_term_width = 100, after_help = AFTER_HELP)]
pub struct Arguments {
    /// Media and its transports.
    #[command(flatten)]
    pub media: MediaArguments,
    /// The web side.
    #[command(flatten)]
    pub web: WebArguments,
    /// Join tokens.
    #[command(flatten)]
    pub auth: AuthArguments,
    /// Administration.
    #[command(flatten)]
    pub admin: AdminArguments,
    /// Webhooks.
    #[command(flatten)]
    pub webhooks: WebhookArguments,
    /// Recordings.
    #[command(flatten)]
    pub recordings: RecordingArguments,
    /// Pushes.
    #[command(flatten)]
    pub pushes: PushArguments,
    /// Taps.
    #[command(flatten)]
    pub taps: TapArguments,
    /// Limits.
    #[command(flatten)]
    pub limits: LimitArguments,
}

/// Media and its transports.
#[derive(Debug, Args)]
#[command(next_help_heading = "Media")]
pub struct MediaArguments {
    /// Addresses to take media on, separated by commas: 0.0.0.0 is every IPv4 address, :: every
    /// IPv6 address.
    #[arg(long, env = "MEDIASOUP_LISTEN_IP", value_name = "IP,…", default_value = "127.0.0.1")]
    pub listen_ip: String,
    /// Addresses to tell clients, one for each of --listen-ip in the same order. Needed where the
    /// server is reached at another address than it listens on (0.0.0.0, ::, NAT); the default is
    /// --listen-ip.
    #[arg(long, env = "MEDIASOUP_ANNOUNCED_IP", value_name = "IP,…")]
    pub announced_ip: Option<String>,
    /// Data cores: threads that forward media. The default is all CPUs but one, and at least 1.
    #[arg(long, env = "MEDIASOUP_NUM_WORKERS", value_name = "COUNT")]
    pub workers: Option<usize>,
    /// UDP port of the first data core; each further core takes the next one.
    #[arg(long, env = "RTC_MIN_PORT", value_name = "PORT", default_value_t = 40_000)]
    pub rtc_min_port: u16,
    /// Highest UDP port that data cores may take.
    #[arg(long, env = "RTC_MAX_PORT", value_name = "PORT", default_value_t = 49_999)]
    pub rtc_max_port: u16,
    /// Whether data cores are reached by TCP, too, at the same addresses and ports: for clients
    /// whose network lets no UDP through. UDP is preferred.
    #[arg(
        long,
        env = "OPENCALL_ICE_TCP",
        value_name = "BOOL",
        default_value_t = false,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub ice_tcp: bool,
    /// Whether the port of --http-listen takes ICE over TCP, too, for all data cores: who comes is
    /// told by its first byte. For networks that let nothing but web traffic through; clients come
    /// so where nothing else does.
    #[arg(
        long,
        env = "OPENCALL_ICE_TCP_ON_HTTP",
        value_name = "BOOL",
        default_value_t = false,
        default_missing_value = "true",
        num_args = 0..=1,
        require_equals = true,
        action = clap::ArgAction::Set
    )]
    pub ice_tcp_on_http: bool,
    /// The port to tell clients for that, where it is another than that of --http-listen (443 that
    /// is forwarded).
    #[arg(long, env = "OPENCALL_ICE_TCP_HTTP_PORT", value_name = "PORT")]
    pub ice_tcp_http_port: Option<NonZeroU16>,
    /// Certificate for DTLS, PEM; needs --dtls-key-file. Without both, a new one is made at each
    /// start, which clients never notice.
    #[arg(long, env = "DTLS_CERT_FILE", value_name = "FILE")]
    pub dtls_cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, env = "DTLS_KEY_FILE", value_name = "FILE")]
    pub dtls_key_file: Option<PathBuf>,
    /// Highest DTLS version to negotiate.
    #[arg(long, env = "OPENCALL_DTLS_MAX_VERSION", value_enum, default_value = "1.3")]
    pub dtls_max_version: DtlsVersion,
    /// SRTP profiles to negotiate, best first: aes128-gcm, aes256-gcm, aes128-cm-sha1.
    #[arg(
        long,
        env = "OPENCALL_SRTP_PROFILES",
        value_name = "NAME,…",
        default_value = "aes128-gcm,aes256-gcm,aes128-cm-sha1"
    )]
    pub srtp_profiles: String,
    /// Codecs offered to clients, preferred first: opus, pcmu, pcma, g722, vp8, vp9, h264, av1.
    #[arg(
        long,
        env = "OPENCALL_CODECS",
        value_name = "NAME,…",
        default_value = "opus,vp8,h264,vp9,av1"
    )]
    pub codecs: String,
    /// Most that is sent to one client, bits per second: voices first, then the best layers of the
    /// videos that fit. Less where its feedback tells that its path carries less. k and M are
    /// understood.
    #[arg(long, env = "OPENCALL_OUTGOING_BITRATE", value_name = "RATE", default_value = "6M")]
    pub outgoing_bitrate: String,
    /// How the kernel is spoken to; auto takes io_uring where it works, and says why.
    #[arg(long, env = "OPENCALL_IO", value_enum, default_value = "auto")]
    pub io: IoChoice,
    /// Where participants go: pack fills one core with a room before it takes the next one, spread
    /// sends everyone to the least loaded core.
    #[arg(long, env = "OPENCALL_PLACEMENT", value_enum, default_value = "pack")]
    pub placement: PlacementChoice,
    /// Participants of one room on one core, with --placement pack.
    #[arg(
        long,
        env = "OPENCALL_PARTICIPANTS_PER_CORE",
        value_name = "COUNT",
        default_value_t = PARTICIPANTS_PER_CORE
    )]
    pub participants_per_core: usize,
    /// Participants who send from which on a room has a stage: everyone gets the loudest voices,
    /// and the pictures of screens and last speakers, instead of everybody's; 30 is a good number.
    /// 0: no room has one.
    #[arg(long, env = "OPENCALL_STAGE_FROM", value_name = "COUNT", default_value_t = 0)]
    pub stage_from: usize,
    /// Voices on a stage.
    #[arg(long, env = "OPENCALL_STAGE_VOICES", value_name = "COUNT", default_value_t = 3)]
    pub stage_voices: usize,
    /// Pictures on a stage.
    #[arg(long, env = "OPENCALL_STAGE_VIDEOS", value_name = "COUNT", default_value_t = 9)]
    pub stage_videos: usize,
    /// Whether each data core is bound to one CPU.
    #[arg(
        long,
        env = "OPENCALL_PIN",
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set
    )]
    pub pin: bool,
    /// Runs the server as a child of a small process that starts another when it dies. That one
    /// goes on with the media of all calls; their clients connect anew meanwhile.
    #[arg(
        long,
        env = "OPENCALL_SUPERVISED",
        value_name = "BOOL",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub supervised: bool,
    /// For tests: SIGUSR1 makes a data core panic, SIGUSR2 makes one stall, each in turn.
    #[arg(
        long,
        env = "OPENCALL_DEBUG_FAULTS",
        value_name = "BOOL",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set,
        hide = true
    )]
    pub debug_faults: bool,
}

/// The web side.
#[derive(Debug, Args)]
#[command(next_help_heading = "Web")]
pub struct WebArguments {
    /// Address and port of the WebSocket, the meeting page and /healthz.
    #[arg(
        long,
        env = "OPENCALL_HTTP_LISTEN",
        value_name = "IP:PORT",
        default_value = "127.0.0.1:8080"
    )]
    pub http_listen: String,
    /// Certificate for HTTPS with its chain, PEM; needs --tls-key-file. Without both it is plain
    /// HTTP. New files are taken while the server runs.
    #[arg(long, env = "OPENCALL_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, env = "OPENCALL_TLS_KEY_FILE", value_name = "FILE")]
    pub tls_key_file: Option<PathBuf>,
    /// Addresses or networks of reverse proxies, separated by commas. What they say about their
    /// clients' addresses (X-Forwarded-For) is believed, and limits count those.
    #[arg(long, env = "OPENCALL_TRUSTED_PROXY", value_name = "IP/BITS,…")]
    pub trusted_proxy: Option<String>,
    /// Connections of trusted proxies begin with a PROXY protocol header, version 1 or 2.
    #[arg(
        long,
        env = "OPENCALL_PROXY_PROTOCOL",
        value_name = "BOOL",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub proxy_protocol: bool,
    /// Web pages that may open WebSockets: self (pages of this server) and origins such as
    /// https://meet.example.org, separated by commas; * is every page. Programs that are no pages
    /// always may.
    #[arg(long, env = "OPENCALL_ALLOWED_ORIGINS", value_name = "ORIGIN,…", default_value = "self")]
    pub allowed_origins: String,
    /// Pages that may show the meeting page in a frame: self, none, or origins separated by commas.
    #[arg(long, env = "OPENCALL_FRAME_ANCESTORS", value_name = "ORIGIN,…", default_value = "self")]
    pub frame_ancestors: String,
    /// HTTP requests per second that one address may make in the long run. Loopback is not limited
    /// unless it is a trusted proxy.
    #[arg(long, env = "OPENCALL_HTTP_REQUEST_RATE", value_name = "COUNT", default_value_t = 100)]
    pub http_request_rate: u32,
    /// HTTP requests it may make at once: an office that opens the meeting page.
    #[arg(
        long,
        env = "OPENCALL_HTTP_REQUEST_BURST",
        value_name = "COUNT",
        default_value_t = 2_000
    )]
    pub http_request_burst: u32,
    /// Address and port of a listener of its own that serves /metrics, without TLS and without a
    /// key: for a network that strangers do not reach. On --http-listen it wants an admin key.
    #[arg(long, env = "OPENCALL_METRICS_LISTEN", value_name = "IP:PORT")]
    pub metrics_listen: Option<String>,
    /// Folder of the built meeting page. The default is client/dist, in the working directory or
    /// beside the executable.
    #[arg(long, env = "OPENCALL_PAGE_DIR", value_name = "DIR")]
    pub page_dir: Option<PathBuf>,
    /// What is logged: error, warn, info, debug, trace, or a list such as
    /// info,opencall_dataplane=debug.
    #[arg(long, env = "RUST_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,
}

/// Limits.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArguments {
    /// Largest WebSocket message taken, bytes. The largest honest one, capabilities of a browser
    /// with every codec, has under 20000.
    #[arg(long, env = "OPENCALL_MAX_MESSAGE_SIZE", value_name = "BYTES", default_value_t = 65_536)]
    pub max_message_size: usize,
    /// Work per second that one connection may make in the long run. A request is one unit, and
    /// each message that it causes to others another: beyond that, the client is read from later.
    #[arg(long, env = "OPENCALL_REQUEST_RATE", value_name = "UNITS", default_value_t = 2_000)]
    pub request_rate: u32,
    /// Work it may make at once: a client that enters a meeting of 500 asks for every track.
    #[arg(long, env = "OPENCALL_REQUEST_BURST", value_name = "UNITS", default_value_t = 20_000)]
    pub request_burst: u32,
    /// WebSockets of one address at the same time. Loopback, where load generators live, is not
    /// limited unless it is a trusted proxy.
    #[arg(
        long,
        env = "OPENCALL_SESSIONS_PER_ADDRESS",
        value_name = "COUNT",
        default_value_t = 1_000
    )]
    pub sessions_per_address: u32,
    /// How long SIGTERM lets those inside go on, seconds: nobody new is let in, and the server
    /// stops when everyone has gone or time is up. 0 stops at once, as SIGINT does.
    #[arg(long, env = "OPENCALL_DRAIN_TIMEOUT", value_name = "SECONDS", default_value_t = 0)]
    pub drain_timeout: u64,
}

/// Backend choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum IoChoice {
    /// io_uring or nothing.
    Uring,
    /// recvmmsg and sendmmsg.
    Mmsg,
    /// io_uring where it works.
    Auto,
}

/// Placement choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlacementChoice {
    /// A room stays on one core.
    Pack,
    /// Participants are dealt out.
    Spread,
}

/// DTLS version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DtlsVersion {
    /// RFC 6347.
    #[value(name = "1.2")]
    V1_2,
    /// RFC 9147.
    #[value(name = "1.3")]
    V1_3,
}

impl Arguments {
    /// Reads a command line; variables that are set but empty count as absent, as compose files
    /// and unit files often leave them.
    pub fn read(
        line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, clap::Error> {
        read(line)
    }
}

/// Reads any command line in that way.
pub fn read<T: CommandFactory + FromArgMatches>(
    line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<T, clap::Error> {
    let command = T::command().mut_args(|argument| {
        let empty =
            argument.get_env().and_then(std::env::var_os).is_some_and(|value| value.is_empty());
        let argument = argument.hide_env_values(true);
        if empty { argument.env(None::<&'static str>) } else { argument }
    });
    T::from_arg_matches(&command.try_get_matches_from(line)?)
}
