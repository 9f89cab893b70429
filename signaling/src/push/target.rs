//! Where pushes may go, and what of an address may be shown.
#![forbid(unsafe_code)]

use std::path::PathBuf;

use axum::http::Uri;
use opencall_control::push::message::PushTarget;
use percent_encoding::percent_decode_str;

/// What an SRT address may ask of the sender. `mode=listener` would open a port here.
const SRT_OPTIONS: [&str; 4] = ["streamid", "passphrase", "pbkeylen", "latency"];

/// The longest error that is shown, characters.
const MAX_ERROR: usize = 200;

/// The longest address, bytes: ffmpeg cuts what it says of a longer one, so that the rest could not
/// be told from other words.
const MAX_ADDRESS: usize = 800;

/// What stands for a stream key.
const HIDDEN: &str = "…";

/// Where pushes may go.
#[derive(Clone, Default)]
pub struct Allowed {
    /// Scheme, host and port of servers.
    pub origins: Vec<Address>,
    /// Certificates that `rtmps` trusts, in place of the system's.
    pub ca: Option<PathBuf>,
}

impl Allowed {
    /// The server at an address, if pushes may go there; the error is one line.
    pub fn target(&self, text: &str) -> Result<PushTarget, String> {
        let address = Address::parse(text)?;
        if !self.origins.iter().any(|origin| address.is_of_same_origin(origin)) {
            return Err(format!("nothing may go to {}: see --push-allow", address.origin()));
        }
        if !address.is_srt() && address.uri.path().trim_matches('/').is_empty() {
            return Err("it names no application: rtmp://HOST/APPLICATION/KEY".to_owned());
        }
        Ok(PushTarget { url: text.into(), shown: address.shown().into() })
    }
}

/// An address with `rtmp`, `rtmps` or `srt`, checked.
#[derive(Clone)]
pub struct Address {
    text: String,
    uri: Uri,
    port: u16,
}

impl Address {
    /// Reads it; the error is one line, without the stream key.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_ADDRESS {
            return Err(format!("{MAX_ADDRESS} bytes are the most"));
        }
        let uri: Uri = text.parse().map_err(|_| "not a URL".to_owned())?;
        let usual = match uri.scheme_str() {
            Some("rtmp") => Some(1_935),
            Some("rtmps") => Some(443),
            Some("srt") => None,
            _ => return Err("it must begin with rtmps://, rtmp:// or srt://".to_owned()),
        };
        // Who reads it next may see another host, or other options.
        if text.contains(['#', '\\', '"']) || text.trim() != text {
            return Err("it has characters that must be percent-encoded".to_owned());
        }
        let Some(authority) = uri.authority() else { return Err("it has no host".to_owned()) };
        if authority.as_str().contains('@') {
            return Err("it must not carry a user or a password".to_owned());
        }
        // What is no port to us may be one to who reads it next.
        let (host, port) = (authority.host(), authority.port_u16());
        let said = &authority.as_str()[host.len()..];
        if said != port.map_or_else(String::new, |port| format!(":{port}")) {
            return Err("its port must be a number from 0 to 65535".to_owned());
        }
        let Some(port) = port.or(usual) else {
            return Err("an SRT address names its port".to_owned());
        };
        let address = Address { text: text.to_owned(), uri, port };
        let is_known = |(name, _): (&str, &str)| SRT_OPTIONS.contains(&name);
        if address.is_srt() && !address.options().all(is_known) {
            return Err(format!("of SRT's options it may have {}", SRT_OPTIONS.join(", ")));
        }
        Ok(address)
    }

    /// One that is allowed: scheme, host and port alone.
    pub fn parse_origin(text: &str) -> Result<Self, String> {
        let address = Self::parse(text.trim())?;
        let is_bare = address.uri.path().trim_matches('/').is_empty();
        match is_bare && address.uri.query().is_none() {
            true => Ok(address),
            false => Err("give scheme, host and port alone".to_owned()),
        }
    }

    fn scheme(&self) -> &str {
        self.uri.scheme_str().unwrap_or_default()
    }

    fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Whether it is SRT's, where a picture need not be H264 in FLV.
    pub fn is_srt(&self) -> bool {
        self.scheme() == "srt"
    }

    /// Whether its connection is TLS.
    pub fn is_tls(&self) -> bool {
        self.scheme() == "rtmps"
    }

    /// Whether anyone on the way sees and hears what is pushed.
    pub fn is_exposed(&self) -> bool {
        self.scheme() == "rtmp"
    }

    fn is_of_same_origin(&self, other: &Address) -> bool {
        let host = |of: &Address| of.uri.host().unwrap_or_default().to_ascii_lowercase();
        self.scheme() == other.scheme() && host(self) == host(other) && self.port == other.port
    }

    fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        let pairs = self.uri.query().unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    /// What follows the application, where the stream key is.
    fn key(&self) -> &str {
        let path = self.uri.path().trim_start_matches('/');
        path.split_once('/').map_or(if self.is_srt() { path } else { "" }, |(_, key)| key)
    }

    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        format!("{}://{}", self.scheme(), self.authority())
    }

    /// Without stream key and options.
    pub fn shown(&self) -> String {
        let (scheme, authority) = (self.scheme(), self.authority());
        let path = self.uri.path().trim_matches('/');
        match path.split_once('/') {
            _ if self.is_srt() => format!("srt://{authority}"),
            Some((application, _)) => format!("{scheme}://{authority}/{application}/{HIDDEN}"),
            None => format!("{scheme}://{authority}/{HIDDEN}"),
        }
    }

    /// All of it, with the key.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the sender says, without what nobody is to read.
    pub fn redact(&self, said: &str) -> String {
        let about = format!("{}: ", self.text);
        let said = said.rsplit_once(&about).map_or(said, |(_, error)| error);
        let mut said = said.replace(&self.text, &self.shown());
        let path = self.uri.path().trim_matches('/');
        let values = self.options().map(|(_, value)| value);
        let segments = self.key().split('/').filter(|segment| segment.len() > 1);
        let bare = (!path.contains('/')).then_some(path);
        let query = self.uri.query();
        let hidden = [Some(self.key()), query, bare].into_iter().flatten();
        for secret in hidden.chain(values).chain(segments).filter(|secret| !secret.is_empty()) {
            let decoded = percent_decode_str(secret).decode_utf8_lossy();
            said = said.replace(secret, HIDDEN).replace(&*decoded, HIDDEN);
        }
        let said = said.chars().filter(|letter| !letter.is_control());
        said.take(MAX_ERROR).collect::<String>().trim().to_owned()
    }
}

impl std::fmt::Debug for Address {
    /// Without the stream key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(origin: &str) -> Allowed {
        Allowed { origins: vec![Address::parse_origin(origin).unwrap()], ca: None }
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let table = [
            ("rtmp://live.example", "rtmp://Live.example:1935/app/key", true),
            ("rtmp://live.example", "rtmps://live.example/app/key", false),
            ("rtmp://live.example", "rtmp://live.example:1936/app/key", false),
            ("rtmp://live.example", "rtmp://a.live.example/app/key", false),
            ("rtmp://live.example", "rtmp://live.example@evil.example/app/key", false),
            ("rtmp://live.example", "rtmp://evil.example/live.example/key", false),
            ("rtmp://live.example", "rtmp://live.example:22x/app/key", false),
            ("rtmp://live.example", "rtmp://live.example:4294967318/app/key", false),
            ("rtmp://live.example", "rtmp://live.example:+1935/app/key", false),
            ("rtmp://live.example", "rtmp://live.example:/app/key", false),
            ("rtmp://[::1]", "rtmp://[::1]/app/key", true),
            ("rtmp://[::1]", "rtmp://[::1]x:1935/app/key", false),
            ("rtmps://live.example", "rtmps://live.example:443/app/key?x=1", true),
            ("srt://live.example:9000", "srt://live.example:9000?streamid=a&latency=1", true),
            ("srt://live.example:9000", "srt://live.example:9000?mode=listener", false),
            ("srt://live.example:9000", "srt://live.example?streamid=a", false),
            ("rtmp://live.example", "rtmp://live.example/", false),
            ("rtmp://live.example", "rtmp://live.example/app/key#x", false),
            ("rtmp://live.example", "rtmp://live.example/app/a key", false),
            ("rtmp://live.example", "file:///etc/passwd", false),
            ("rtmp://live.example", "tee:rtmp://live.example/app/key", false),
        ];
        for (origin, text, may) in table {
            let target = allowed(origin).target(text);
            assert_eq!(target.is_ok(), may, "{text}: {target:?}");
            assert!(target.is_ok_and(|of| &*of.url == text) || !may, "{text}");
        }
        for text in ["rtmp://a.example/live", "live.example", "https://a.example", "srt://a"] {
            assert!(Address::parse_origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn stream_keys_are_not_shown() {
        let table = [
            ("rtmp://a.example/live/s3cret?token=t0k", "rtmp://a.example/live/…"),
            ("rtmp://a.example/s3cret", "rtmp://a.example/…"),
            ("rtmp://a.example/s3cret/", "rtmp://a.example/…"),
            ("srt://a.example:9000?streamid=s3cret&passphrase=t0k%21", "srt://a.example:9000"),
        ];
        for (text, shown) in table {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.shown(), shown);
            assert_eq!(format!("{address:?}"), shown);
            let refused = address.redact(&format!("{text}: Connection refused"));
            assert_eq!(refused, "Connection refused");
            for said in [format!("\u{7}bad {text}"), "no s3cret, t0k! or t0k here".to_owned()] {
                let shown = address.redact(&said);
                let hides = |secret: &str| !text.contains(secret) || !shown.contains(secret);
                assert!(hides("s3cret") && hides("token=t0k"), "{shown}");
                assert!(!shown.contains("t0k!") || !text.contains("%21"), "{shown}");
                assert!(!shown.contains('\u{7}'));
            }
        }
    }
}
