//! `opencall-sfu token`: mints a join token by hand.
#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap::Parser;
use jsonwebtoken::{Algorithm, Header};
use opencall_control::api::Source;

use super::claims::{Claims, VideoGrant};
use super::unix_now;
use crate::config::auth::KeyArguments;
use crate::config::{ConfigError, read_command, wrong};

/// The first argument that asks for it.
pub const COMMAND: &str = "token";

/// Longest life of a token that is minted here: a year.
const MAX_TTL: Duration = Duration::from_secs(366 * 24 * 3600);

/// Mints a join token for one participant of one room, and prints it. It is passed to the server as
/// ?access_token=… (or ?token=… of the meeting page), or in an Authorization: Bearer header.
/// Applications mint tokens themselves, with any of LiveKit's server SDKs.
#[derive(Parser)]
#[command(name = "opencall-sfu token", max_term_width = 100)]
struct MintArguments {
    #[command(flatten)]
    keys: KeyArguments,
    /// Which of the keys signs, if there are several.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The room it lets in to.
    #[arg(long)]
    room: String,
    /// Whom it lets in: the id by which the others know the participant.
    #[arg(long)]
    identity: String,
    /// The name to show; its holder cannot change it.
    #[arg(long)]
    name: Option<String>,
    /// How long it can be used to enter: 90s, 30m, 6h, 7d.
    #[arg(long, value_name = "TIME", default_value = "6h")]
    ttl: String,
    /// Its holder sends nothing.
    #[arg(long)]
    no_publish: bool,
    /// What its holder may send: camera, microphone, screen_share, screen_share_audio. Can be given
    /// several times, or with commas between; without it, everything.
    #[arg(long, value_name = "SOURCE", value_delimiter = ',')]
    source: Vec<String>,
    /// Its holder receives nothing.
    #[arg(long)]
    no_subscribe: bool,
    /// Its holder sends no data.
    #[arg(long)]
    no_data: bool,
    /// Its holder administers the room.
    #[arg(long)]
    admin: bool,
    /// The others are told nothing of its holder, who sends nothing.
    #[arg(long)]
    hidden: bool,
}

/// The token that a command line asks for. The first argument of `line` is the program's name.
pub fn mint(
    line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
) -> Result<String, ConfigError> {
    let arguments: MintArguments = read_command(line)?;
    let (flags, file) = arguments.keys.read()?;
    let file = file.map(|file| file.current(Instant::now()));
    let sets = [Some(&flags), file.as_deref()];
    let mut names = sets.iter().flatten().flat_map(|keys| keys.names());
    let name = match (arguments.key.clone(), names.next(), names.next()) {
        (Some(name), ..) => name,
        (None, Some(name), None) => name.to_owned(),
        (None, None, _) => {
            return wrong("give the key to sign with: --auth-key or --auth-keys-file");
        }
        (None, Some(_), Some(_)) => return wrong("there are several keys: say which with --key"),
    };
    let Some(key) = sets.iter().flatten().find_map(|keys| keys.encoding(&name)) else {
        return wrong(format!("--key {name}: there is no such key"));
    };
    let claims = claims(arguments, name)?;
    let header = Header::new(Algorithm::HS256);
    jsonwebtoken::encode(&header, &claims, &key).or_else(|error| wrong(error.to_string()))
}

fn claims(arguments: MintArguments, issuer: String) -> Result<Claims, ConfigError> {
    if let Some(unknown) = arguments.source.iter().find(|name| Source::from_label(name).is_none()) {
        let names = Source::ALL.map(Source::label).join(", ");
        return wrong(format!("--source \"{unknown}\" is unknown; choose from {names}"));
    }
    let refused = |refused: bool| refused.then_some(false);
    let given = |given: bool| given.then_some(true);
    let now = unix_now() as f64;
    let video = VideoGrant {
        room_join: Some(true),
        room: Some(arguments.room),
        room_admin: given(arguments.admin),
        can_publish: refused(arguments.no_publish),
        can_subscribe: refused(arguments.no_subscribe),
        can_publish_data: refused(arguments.no_data),
        can_publish_sources: (!arguments.source.is_empty()).then_some(arguments.source),
        hidden: given(arguments.hidden),
        ..VideoGrant::default()
    };
    Ok(Claims {
        iss: Some(issuer),
        sub: Some(arguments.identity),
        nbf: Some(now),
        exp: Some(now + ttl(&arguments.ttl)?.as_secs_f64()),
        name: arguments.name,
        video: Some(video),
        ..Claims::default()
    })
}

fn ttl(text: &str) -> Result<Duration, ConfigError> {
    let (digits, seconds) = match text.split_at_checked(text.len().saturating_sub(1)) {
        Some((digits, "s")) => (digits, 1),
        Some((digits, "m")) => (digits, 60),
        Some((digits, "h")) => (digits, 3600),
        Some((digits, "d")) => (digits, 24 * 3600),
        _ => (text, 0),
    };
    let ttl = digits.parse::<u64>().ok().and_then(|count| count.checked_mul(seconds));
    match ttl.map(Duration::from_secs) {
        Some(ttl) if !ttl.is_zero() && ttl <= MAX_TTL => Ok(ttl),
        _ => wrong(format!("--ttl \"{text}\": give a time such as 90s, 30m, 6h or 7d")),
    }
}
