//! Which web pages may open WebSockets, by the `Origin` that browsers send with them (RFC 6454).
#![forbid(unsafe_code)]

use axum::http::HeaderMap;
use axum::http::header::{HOST, HeaderName, ORIGIN};

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// How much of a refused origin is said in answers and in the log, characters.
const MAX_SHOWN: usize = 200;

/// The pages that may. Clients that are no pages send no origin, and may always.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AllowedOrigins {
    /// Every page on the web.
    Any,
    /// Those of a list.
    Listed {
        /// Pages of this server itself, under whatever name it is reached.
        own: bool,
        /// Others: `scheme://host` or `scheme://host:port`, in lower case, without a default port.
        others: Vec<String>,
    },
}

impl AllowedOrigins {
    /// From a list such as `self,https://meet.example.org`; says which item is wrong.
    pub fn parse(list: &str) -> Result<Self, String> {
        let (mut own, mut others) = (false, Vec::new());
        for item in list.split(',').map(str::trim) {
            match item {
                "*" => return Ok(AllowedOrigins::Any),
                "self" | "'self'" => own = true,
                item => others.push(normal(item).ok_or_else(|| item.to_owned())?),
            }
        }
        Ok(AllowedOrigins::Listed { own, others })
    }

    /// Whether a request may open a WebSocket; otherwise why not, in one line. `X-Forwarded-Host`
    /// counts where `proxied`, that is, when it comes from a trusted proxy.
    pub fn check(&self, headers: &HeaderMap, proxied: bool) -> Result<(), String> {
        let AllowedOrigins::Listed { own, others } = self else { return Ok(()) };
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(value) = origins.next() else { return Ok(()) };
        let text = String::from_utf8_lossy(value.as_bytes());
        let origin = normal(&text).filter(|_| origins.next().is_none());
        let may = |origin| others.contains(origin) || *own && is_own(origin, headers, proxied);
        if origin.as_ref().is_some_and(may) {
            return Ok(());
        }
        let shown: String = text.chars().take(MAX_SHOWN).collect();
        Err(format!(
            "pages of {shown} may not connect to this server; start it with --allowed-origins \
             {}{shown}",
            if *own { "self," } else { "" }
        ))
    }
}

/// Whether `origin` names the host that the request was sent to.
fn is_own(origin: &str, headers: &HeaderMap, proxied: bool) -> bool {
    let Some((scheme, authority)) = origin.split_once("://") else { return false };
    let forwarded = headers.get(X_FORWARDED_HOST).filter(|_| proxied);
    [headers.get(HOST), forwarded].into_iter().flatten().any(|host| {
        // Of several proxies, the first wrote what the client asked for.
        let host = host.to_str().ok().and_then(|hosts| hosts.split(',').next());
        host.and_then(|host| normal(&format!("{scheme}://{}", host.trim())))
            .is_some_and(|host| host.split_once("://").is_some_and(|(_, host)| host == authority))
    })
}

/// An origin in lower case and without a default port; `None` when it is not one.
fn normal(text: &str) -> Option<String> {
    let text = text.to_ascii_lowercase();
    let (scheme, authority) = text.split_once("://")?;
    let default_port = match scheme {
        "http" => Some(":80"),
        "https" => Some(":443"),
        _ => None,
    };
    let named = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-._~[]:+".contains(c))
    };
    if !named(scheme) || !named(authority) {
        return None;
    }
    let authority = default_port.and_then(|port| authority.strip_suffix(port)).unwrap_or(authority);
    Some(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let pair = |&(name, value): &(&str, &str)| {
            (name.parse::<HeaderName>().unwrap(), value.parse().unwrap())
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn only_listed_pages_connect() {
        // Origin, Host, X-Forwarded-Host of a trusted proxy.
        type Row = (&'static str, &'static str, &'static str, &'static str, bool);
        let table: [Row; 18] = [
            ("self", "http://a.example:8080", "a.example:8080", "", true),
            ("self", "http://a.example:8080", "a.example:8081", "", false),
            ("self", "https://a.example", "a.example", "", true),
            ("self", "https://a.example", "A.Example:443", "", true),
            ("self", "http://a.example", "a.example:80", "", true),
            ("self", "http://a.example", "a.example:443", "", false),
            ("self", "https://[2001:db8::1]:8443", "[2001:db8::1]:8443", "", true),
            ("self", "https://evil.example", "a.example", "", false),
            ("self", "null", "a.example", "", false),
            ("self", "", "a.example", "", false),
            ("self", "https://a.example", "127.0.0.1:8080", "a.example", true),
            ("self", "https://a.example", "127.0.0.1:8080", "a.example, b.example", true),
            ("self", "https://b.example", "127.0.0.1:8080", "a.example", false),
            ("https://b.example", "https://b.example", "a.example", "", true),
            ("https://b.example:443", "https://b.example", "a.example", "", true),
            ("https://b.example", "http://b.example", "a.example", "", false),
            ("https://b.example", "https://a.example", "a.example", "", false),
            ("*", "null", "a.example", "", true),
        ];
        for (list, origin, host, forwarded, expected) in table {
            let mut given = headers(&[("origin", origin), ("host", host)]);
            if !forwarded.is_empty() {
                given.insert(X_FORWARDED_HOST, forwarded.parse().unwrap());
            }
            let check = AllowedOrigins::parse(list).unwrap().check(&given, true);
            assert_eq!(check.is_ok(), expected, "{list} {origin} {host} {forwarded}: {check:?}");
        }
    }

    #[test]
    fn no_origin_is_no_page_and_two_are_none() {
        let own = AllowedOrigins::parse("self").unwrap();
        assert!(own.check(&headers(&[("host", "a.example")]), false).is_ok());
        let mut two = headers(&[("host", "a.example"), ("origin", "https://a.example")]);
        assert!(own.check(&two, false).is_ok());
        two.append(ORIGIN, "https://evil.example".parse().unwrap());
        assert!(own.check(&two, false).is_err());
    }

    #[test]
    fn a_client_cannot_forward_a_host_itself() {
        let own = AllowedOrigins::parse("self").unwrap();
        let pairs = [
            ("host", "a.example"),
            ("origin", "https://evil.example"),
            ("x-forwarded-host", "evil.example"),
        ];
        let refused = own.check(&headers(&pairs), false).unwrap_err();
        assert!(refused.contains("--allowed-origins self,https://evil.example"), "{refused}");
    }

    #[test]
    fn wrong_items_are_named() {
        for item in ["b.example", "https://b.example/", "https://", "", "https://*.example"] {
            assert_eq!(AllowedOrigins::parse(&format!("self,{item}")), Err(item.to_owned()));
        }
    }
}
