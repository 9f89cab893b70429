//! How the web side's port is announced for ICE over TCP.
#![forbid(unsafe_code)]

use std::net::IpAddr;
use std::num::NonZeroU16;

use super::args::MediaArguments;
use super::{ConfigError, ListenAddress, wrong};

/// How clients reach the port of the web side for ICE over TCP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceTcpOnHttp {
    /// At which addresses; not empty.
    pub announced: Vec<IpAddr>,
    /// By which port; `None`: by that of the web side.
    pub port: Option<NonZeroU16>,
}

/// As the flags have it, for a web side that listens at `web`.
pub(super) fn on_http(
    media: &MediaArguments,
    listen: &[ListenAddress],
    web: IpAddr,
) -> Result<Option<IceTcpOnHttp>, ConfigError> {
    let port = media.ice_tcp_http_port;
    if !media.ice_tcp_on_http {
        return match port {
            None => Ok(None),
            Some(_) => wrong("--ice-tcp-http-port is for --ice-tcp-on-http: add it"),
        };
    }
    match announced(listen, web) {
        announced if announced.is_empty() => wrong(format!(
            "--ice-tcp-on-http: no address of --announced-ip is reached at {web} of --http-listen: \
             make both IPv4 or both IPv6"
        )),
        announced => Ok(Some(IceTcpOnHttp { announced, port })),
    }
}

/// The one that is announced for `web` itself, else all that may lead there.
fn announced(listen: &[ListenAddress], web: IpAddr) -> Vec<IpAddr> {
    let itself = listen.iter().find(|address| address.ip == web && !web.is_unspecified());
    if let Some(address) = itself {
        return vec![address.announced];
    }
    // A socket at :: takes IPv4 as well.
    let takes_both = web.is_ipv6() && web.is_unspecified();
    let announced = listen.iter().map(|address| address.announced);
    announced.filter(|ip| takes_both || ip.is_ipv4() == web.is_ipv4()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_web_side_is_announced_as_media_at_its_address_is() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let listen = [("10.0.0.1", "192.0.2.1"), ("10.0.0.2", "192.0.2.2"), ("::1", "2001:db8::1")];
        let listen = listen.map(|(at, as_)| ListenAddress { ip: ip(at), announced: ip(as_) });
        for (web, expected) in [
            ("10.0.0.2", &["192.0.2.2"][..]),
            ("::1", &["2001:db8::1"]),
            ("0.0.0.0", &["192.0.2.1", "192.0.2.2"]),
            ("127.0.0.1", &["192.0.2.1", "192.0.2.2"]),
            ("::", &["192.0.2.1", "192.0.2.2", "2001:db8::1"]),
        ] {
            let expected: Vec<IpAddr> = expected.iter().copied().map(ip).collect();
            assert_eq!(announced(&listen, ip(web)), expected, "{web}");
        }
        assert_eq!(announced(&listen[2..], ip("0.0.0.0")), Vec::<IpAddr>::new());
    }
}
