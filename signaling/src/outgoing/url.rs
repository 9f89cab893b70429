//! An address of the configuration: of a JWK Set, or of a receiver of webhooks; or one that the
//! configuration allows: of a program that voices go to.
#![forbid(unsafe_code)]

use axum::http::Uri;
use axum::http::uri::Scheme;

/// An address with `http` or `https`, or of a WebSocket with `ws` or `wss`, checked.
#[derive(Clone, PartialEq, Eq)]
pub struct HttpUrl {
    uri: Uri,
    host: String,
    port: u16,
}

impl HttpUrl {
    /// Reads it; the error is one line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let uri: Uri = text.trim().parse().map_err(|_| "not a URL".to_owned())?;
        let port = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => 443,
            Some(scheme) if *scheme == Scheme::HTTP => 80,
            _ => return Err("it must begin with https:// (or http://)".into()),
        };
        Self::checked(uri, port)
    }

    /// The same for a WebSocket.
    pub fn parse_websocket(text: &str) -> Result<Self, String> {
        let uri: Uri = text.trim().parse().map_err(|_| "not a URL".to_owned())?;
        let port = match uri.scheme_str() {
            Some("wss") => 443,
            Some("ws") => 80,
            _ => return Err("it must begin with wss:// (or ws://)".into()),
        };
        Self::checked(uri, port)
    }

    fn checked(uri: Uri, port: u16) -> Result<Self, String> {
        let Some(authority) = uri.authority() else { return Err("it has no host".into()) };
        if authority.as_str().contains('@') {
            return Err("it must not carry a user or a password".into());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let port = authority.port_u16().unwrap_or(port);
        Ok(HttpUrl { uri, host, port })
    }

    /// Whether it is fetched over TLS.
    pub fn is_https(&self) -> bool {
        matches!(self.uri.scheme_str(), Some("https" | "wss"))
    }

    /// Whether it is of the same scheme, host and port.
    pub fn is_of_same_origin(&self, other: &HttpUrl) -> bool {
        let same_host = self.host.eq_ignore_ascii_case(&other.host);
        self.uri.scheme() == other.uri.scheme() && same_host && self.port == other.port
    }

    /// All of it.
    pub fn uri(&self) -> &Uri {
        &self.uri
    }

    /// Name or address, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Host, and port if it is not the scheme's own, as the `Host` header has it.
    pub fn authority(&self) -> &str {
        self.uri.authority().map_or("", |authority| authority.as_str())
    }

    /// Path and query.
    pub fn target(&self) -> &str {
        self.uri.path_and_query().map_or("/", |target| target.as_str())
    }

    /// Whether anyone on the way could read and change what is exchanged.
    pub fn is_exposed(&self) -> bool {
        let loopback = match self.host.parse::<std::net::IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => self.host == "localhost",
        };
        !self.is_https() && !loopback
    }
}

impl std::fmt::Display for HttpUrl {
    /// Without its query, which may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(f, "{scheme}://{}{}", self.authority(), self.uri.path())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let table = [
            ("https://id.example/keys?x=1", "id.example", 443, "id.example", "/keys?x=1", false),
            ("http://127.0.0.1:8000", "127.0.0.1", 8000, "127.0.0.1:8000", "/", false),
            ("http://[::1]:81/a/b", "::1", 81, "[::1]:81", "/a/b", false),
            ("http://id.example/keys", "id.example", 80, "id.example", "/keys", true),
        ];
        for (text, host, port, authority, target, exposed) in table {
            let url = HttpUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((url.host(), url.port(), url.authority()), (host, port, authority));
            assert_eq!((url.target(), url.is_exposed()), (target, exposed));
        }
        let shown = HttpUrl::parse("https://id.example/keys?secret=1").unwrap().to_string();
        assert_eq!(shown, "https://id.example/keys");
    }

    #[test]
    fn an_origin_is_scheme_host_and_port() {
        let allowed = HttpUrl::parse_websocket("wss://Captions.example").unwrap();
        let table = [
            ("wss://captions.example/room?key=1", true),
            ("wss://captions.example:443/", true),
            ("wss://captions.example:444/", false),
            ("ws://captions.example/", false),
            ("wss://captions.example.org/", false),
            ("wss://a.captions.example/", false),
        ];
        for (text, is_same) in table {
            let url = HttpUrl::parse_websocket(text).unwrap();
            assert_eq!(url.is_of_same_origin(&allowed), is_same, "{text}");
        }
        assert!(HttpUrl::parse_websocket("https://captions.example/").is_err());
        assert!(HttpUrl::parse_websocket("wss://captions.example@evil.example/").is_err());
        assert_eq!(allowed.to_string(), "wss://Captions.example/");
    }

    #[test]
    fn other_addresses_are_refused() {
        for text in ["", "id.example", "/keys", "ftp://id.example/", "file:///etc/passwd"] {
            assert!(HttpUrl::parse(text).is_err(), "{text}");
        }
        assert!(
            HttpUrl::parse("https://me:secret@id.example/")
                .is_err_and(|error| { !error.contains("secret") && error.contains("password") })
        );
    }
}
