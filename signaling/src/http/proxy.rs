//! Trusted proxies: the address a client really has, from `X-Forwarded-For` and from PROXY
//! protocol headers.
#![forbid(unsafe_code)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::http::HeaderMap;
use axum::http::header::HeaderName;
use ipnet::IpNet;
use tokio::io::{AsyncRead, AsyncReadExt};

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Hops looked at in `X-Forwarded-For`; real chains have two or three.
const MAX_HOPS: usize = 32;

/// The longest PROXY header of version 1 with its line end.
const MAX_V1_BYTES: usize = 107;

/// What follows the fixed part of version 2 at most: addresses take up to 216 bytes, and proxies
/// add TLVs of a few hundred (names, identifiers of cloud networks).
const MAX_V2_BYTES: usize = 4096;

/// Begins each header of version 2.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// Whom to believe about addresses.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrustedProxies {
    /// Where they are.
    pub networks: Vec<IpNet>,
    /// Whether each of their connections begins with a PROXY header.
    pub proxy_protocol: bool,
}

/// Why a PROXY header was not understood.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyHeaderError {
    /// The connection ended, or failed.
    #[error("the PROXY header is cut short: {0}")]
    Read(#[from] std::io::Error),
    /// It begins with something else.
    #[error(
        "no PROXY header: let the proxy send one, or start the server without --proxy-protocol"
    )]
    Missing,
    /// It begins like one.
    #[error("malformed PROXY header")]
    Malformed,
}

impl TrustedProxies {
    /// Whether `ip` is one of them.
    pub fn trust(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks.iter().any(|network| network.contains(&ip))
    }

    /// Whether one of them may be on this machine.
    pub fn include_loopback(&self) -> bool {
        let loopback = [
            IpNet::new_assert(Ipv4Addr::new(127, 0, 0, 0).into(), 8),
            IpNet::new_assert(Ipv6Addr::LOCALHOST.into(), 128),
        ];
        self.networks.iter().any(|network| {
            loopback.iter().any(|loopback| network.contains(loopback) || loopback.contains(network))
        })
    }

    /// The client behind `peer`, as the headers of a request say: the last hop that is not a
    /// trusted proxy. What comes before it is the client's own word.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let hops = lines.flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
        let mut client = peer.to_canonical();
        for hop in hops.take(MAX_HOPS) {
            // Behind what cannot be read, nobody is known.
            let (true, Some(ip)) = (self.trust(client), hop_address(hop)) else { break };
            client = ip.to_canonical();
        }
        client
    }
}

/// An address, which some proxies write with its port.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bare = hop.strip_prefix('[').and_then(|rest| rest.split_once(']')).map(|(ip, _)| ip);
    bare.unwrap_or(hop).parse().ok().or_else(|| {
        let (ip, port) = hop.rsplit_once(':')?;
        port.parse::<u16>().ok()?;
        ip.parse::<Ipv4Addr>().ok().map(IpAddr::V4)
    })
}

/// Whether a request has passed a proxy that says so.
pub fn is_forwarded(headers: &HeaderMap) -> bool {
    ["x-forwarded-for", "forwarded", "x-real-ip", "via"]
        .iter()
        .any(|name| headers.contains_key(*name))
}

/// Reads a PROXY header, version 1 or 2, and nothing after it. `None` when the proxy speaks for
/// itself (a health check) or does not know the client.
///
/// The format is that of HAProxy's doc/proxy-protocol.txt.
pub async fn read_proxy_header(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<IpAddr>, ProxyHeaderError> {
    // Both versions are longer than this.
    let mut start = [0; V2_SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == V2_SIGNATURE {
        return read_v2(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(ProxyHeaderError::Missing);
    }
    let mut line = start.to_vec();
    // Byte by byte: what follows the line is not ours to take.
    while !line.ends_with(b"\r\n") {
        if line.len() >= MAX_V1_BYTES {
            return Err(ProxyHeaderError::Malformed);
        }
        line.push(stream.read_u8().await?);
    }
    parse_v1(&line).ok_or(ProxyHeaderError::Malformed)
}

/// `PROXY TCP4 source destination port port`, or `PROXY UNKNOWN` and anything.
fn parse_v1(line: &[u8]) -> Option<Option<IpAddr>> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let mut words = line.split(' ').skip(1);
    let family = words.next()?;
    if family == "UNKNOWN" {
        return Some(None);
    }
    let source: IpAddr = words.next()?.parse().ok()?;
    let destination: IpAddr = words.next()?.parse().ok()?;
    let ports = [words.next()?.parse::<u16>().ok()?, words.next()?.parse().ok()?];
    let fits = match family {
        "TCP4" => source.is_ipv4() && destination.is_ipv4(),
        "TCP6" => source.is_ipv6() && destination.is_ipv6(),
        _ => false,
    };
    (fits && words.next().is_none() && ports.len() == 2).then(|| Some(source.to_canonical()))
}

/// What follows the signature.
async fn read_v2(
    stream: &mut (impl AsyncRead + Unpin),
) -> Result<Option<IpAddr>, ProxyHeaderError> {
    let command = stream.read_u8().await?;
    let family = stream.read_u8().await?;
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_V2_BYTES {
        return Err(ProxyHeaderError::Malformed);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    match command {
        // LOCAL: the proxy itself.
        0x20 => Ok(None),
        0x21 => v2_source(family, &body).ok_or(ProxyHeaderError::Malformed),
        _ => Err(ProxyHeaderError::Malformed),
    }
}

fn v2_source(family: u8, body: &[u8]) -> Option<Option<IpAddr>> {
    match family >> 4 {
        // AF_INET: source, destination, ports.
        0x1 if body.len() >= 12 => {
            let source: [u8; 4] = body.first_chunk().copied()?;
            Some(Some(source.into()))
        }
        0x2 if body.len() >= 36 => {
            let source: [u8; 16] = body.first_chunk().copied()?;
            Some(Some(IpAddr::from(source).to_canonical()))
        }
        // AF_UNSPEC and AF_UNIX have no address that we could count.
        0x0 | 0x3 => Some(None),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(networks: &[&str]) -> TrustedProxies {
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        TrustedProxies { networks, proxy_protocol: false }
    }

    fn client(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, line.parse().unwrap());
        }
        let proxies = trusted(&["10.0.0.0/8", "127.0.0.1/32", "2001:db8:1::/48"]);
        proxies.client(peer.parse().unwrap(), &headers).to_string()
    }

    #[test]
    fn the_last_untrusted_hop_is_the_client() {
        let table: [(&str, &[&str], &str); 15] = [
            // A client says what it likes.
            ("198.51.100.7", &["203.0.113.9"], "198.51.100.7"),
            ("127.0.0.1", &[], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("::ffff:127.0.0.1", &["203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["1.1.1.1", "203.0.113.9"], "203.0.113.9"),
            ("127.0.0.1", &["1.1.1.1, 203.0.113.9,10.1.2.3 "], "203.0.113.9"),
            ("2001:db8:1::5", &["2001:db8:2::9, 10.0.0.1"], "2001:db8:2::9"),
            ("127.0.0.1", &["203.0.113.9:4711"], "203.0.113.9"),
            ("127.0.0.1", &["[2001:db8:2::9]:4711"], "2001:db8:2::9"),
            ("127.0.0.1", &["::ffff:203.0.113.9"], "203.0.113.9"),
            // Behind what cannot be read, nobody is known.
            ("127.0.0.1", &["203.0.113.9, unknown"], "127.0.0.1"),
            ("127.0.0.1", &["203.0.113.9, 10.0.0.1, "], "127.0.0.1"),
            ("127.0.0.1", &["1.1.1.1, evil\u{e9}"], "127.0.0.1"),
            ("127.0.0.1", &["10.0.0.1, 10.0.0.2"], "10.0.0.1"),
        ];
        for (peer, lines, expected) in table {
            assert_eq!(client(peer, lines), expected, "{peer} {lines:?}");
        }
        let long = "10.0.0.1,".repeat(100_000);
        assert_eq!(client("127.0.0.1", &[&format!("203.0.113.9,{long}10.0.0.1")]), "10.0.0.1");
    }

    #[test]
    fn loopback_is_recognized_in_any_network() {
        for (network, expected) in [
            ("127.0.0.1/32", true),
            ("127.0.0.0/8", true),
            ("0.0.0.0/0", true),
            ("::1/128", true),
            ("::/0", true),
            ("10.0.0.0/8", false),
            ("2001:db8::/32", false),
        ] {
            assert_eq!(trusted(&[network]).include_loopback(), expected, "{network}");
        }
    }

    /// The source, or the error, and what is left in the stream.
    async fn read(bytes: &[u8]) -> (Result<Option<IpAddr>, ProxyHeaderError>, Vec<u8>) {
        let mut stream = bytes;
        let result = read_proxy_header(&mut stream).await;
        (result, stream.to_vec())
    }

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&V2_SIGNATURE[..], &[command, family], &length, body].concat()
    }

    #[tokio::test]
    async fn both_versions_are_read_to_their_end_and_no_further() {
        let v6: IpAddr = "2001:db8::9".parse().unwrap();
        let IpAddr::V6(octets) = v6 else { unreachable!() };
        let mut body4 = vec![203, 0, 113, 9, 192, 0, 2, 1, 0, 80, 1, 187];
        let body6 = [octets.octets().as_slice(), &[0; 20]].concat();
        let v4: IpAddr = [203, 0, 113, 9].into();
        let table: Vec<(Vec<u8>, Option<IpAddr>)> = vec![
            (b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n".to_vec(), Some(v4)),
            (b"PROXY TCP6 2001:db8::9 2001:db8::1 1 2\r\n".to_vec(), Some(v6)),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff:f...f:ffff 65535\r\n".to_vec(), None),
            (v2(0x21, 0x11, &body4), Some(v4)),
            (v2(0x21, 0x21, &body6), Some(v6)),
            (v2(0x20, 0x00, b""), None),
            (v2(0x21, 0x31, &[0; 216]), None),
            (v2(0x21, 0x00, b""), None),
            (
                {
                    // With a TLV.
                    body4.extend([4, 0, 3, 1, 2, 3]);
                    v2(0x21, 0x11, &body4)
                },
                Some(v4),
            ),
        ];
        for (header, expected) in table {
            let (source, rest) = read(&[header.as_slice(), b"GET /"].concat()).await;
            assert_eq!(source.unwrap(), expected, "{header:?}");
            assert_eq!(rest, b"GET /", "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let missing = read(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.0;
        assert!(matches!(missing, Err(ProxyHeaderError::Missing)));
        let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200], b"\r\n"].concat();
        let malformed: Vec<Vec<u8>> = vec![
            b"PROXY TCP4 203.0.113.9 192.0.2.1 56324\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443 1\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::9 2001:db8::1 1 2\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 192.0.2.1 70000 443\r\n".to_vec(),
            b"PROXY UDP4 203.0.113.9 192.0.2.1 1 2\r\n".to_vec(),
            long,
            v2(0x22, 0x11, &[0; 12]),
            v2(0x11, 0x11, &[0; 12]),
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x21, 0x41, &[0; 36]),
            v2(0x21, 0x11, &vec![0; MAX_V2_BYTES + 1]),
        ];
        for header in malformed {
            let result = read(&header).await.0;
            assert!(matches!(result, Err(ProxyHeaderError::Malformed)), "{header:?}");
        }
        for cut in [b"PROXY TCP4 203.0".as_slice(), b"", &v2(0x21, 0x11, &[0; 12])[..20]] {
            assert!(matches!(read(cut).await.0, Err(ProxyHeaderError::Read(_))));
        }
    }
}
