//! The web side's configuration: where it listens, whom it believes, which pages may connect.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;

use super::args::WebArguments;
use super::{ConfigError, wrong};
use crate::http::bucket::Rate;
use crate::http::origin::AllowedOrigins;
use crate::http::proxy::TrustedProxies;
use crate::http::tls::{CertificateFiles, Tls};

/// Where the page is looked for.
const PAGE_DIR: &str = "client/dist";

/// Everything the web side needs to know. No `Debug`: it holds a private key.
#[derive(Clone)]
pub struct WebConfig {
    /// Where HTTP listens.
    pub listen: SocketAddr,
    /// Where metrics are served without a key.
    pub metrics_listen: Option<SocketAddr>,
    /// TLS of our own.
    pub tls: Option<Tls>,
    /// Whom to believe about addresses.
    pub proxies: TrustedProxies,
    /// Which pages may open WebSockets.
    pub origins: AllowedOrigins,
    /// The value of `frame-ancestors` in the content security policy.
    pub frame_ancestors: String,
    /// HTTP requests of one address.
    pub requests: Rate,
    /// The meeting page's folder; it may not exist.
    pub page_dir: PathBuf,
}

impl WebConfig {
    pub(super) fn read(web: WebArguments) -> Result<Self, ConfigError> {
        Ok(WebConfig {
            listen: listen("--http-listen", &web.http_listen)?,
            metrics_listen: web
                .metrics_listen
                .map(|text| listen("--metrics-listen", &text))
                .transpose()?,
            tls: tls(web.tls_cert_file, web.tls_key_file)?,
            proxies: proxies(web.trusted_proxy.as_deref(), web.proxy_protocol)?,
            origins: origins(&web.allowed_origins)?,
            frame_ancestors: frame_ancestors(&web.frame_ancestors)?,
            requests: requests(web.http_request_rate, web.http_request_burst)?,
            page_dir: web.page_dir.unwrap_or_else(find_page_dir),
        })
    }

    /// `https` or `http`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }
}

fn listen(flag: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.trim().parse().or_else(|_| {
        wrong(format!(
            "{flag} \"{text}\": give an IP address and a port, such as 0.0.0.0:8080 or \
             [::]:8080"
        ))
    })
}

fn tls(certificate: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<Tls>, ConfigError> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            Tls::read(CertificateFiles { certificate, key }).map(Some).map_err(ConfigError::Wrong)
        }
        (Some(_), None) => {
            wrong("--tls-cert-file needs its key: add --tls-key-file (OPENCALL_TLS_KEY_FILE)")
        }
        (None, Some(_)) => wrong(
            "--tls-key-file needs its certificate: add --tls-cert-file (OPENCALL_TLS_CERT_FILE)",
        ),
    }
}

fn proxies(list: Option<&str>, proxy_protocol: bool) -> Result<TrustedProxies, ConfigError> {
    let Some(list) = list else {
        return match proxy_protocol {
            true => wrong(
                "--proxy-protocol needs to know from whom: add --trusted-proxy \
                 (OPENCALL_TRUSTED_PROXY) with the proxy's address",
            ),
            false => Ok(TrustedProxies::default()),
        };
    };
    let network = |text: &str| {
        let address = || text.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical()));
        text.parse::<IpNet>().ok().or_else(address).map(|network| network.trunc())
    };
    let networks = list.split(',').map(str::trim).map(|text| match network(text) {
        Some(network) => Ok(network),
        None => wrong(format!(
            "--trusted-proxy: \"{text}\" is neither an address nor a network; write one like \
             127.0.0.1 or 10.0.0.0/8, or several separated by commas"
        )),
    });
    Ok(TrustedProxies { networks: networks.collect::<Result<_, _>>()?, proxy_protocol })
}

fn origins(list: &str) -> Result<AllowedOrigins, ConfigError> {
    AllowedOrigins::parse(list).or_else(|item| {
        wrong(format!(
            "--allowed-origins: \"{item}\" is no origin; write self, or one like \
             https://meet.example.org without a path, several separated by commas, or * for all"
        ))
    })
}

/// Sources as in CSP (level 3, section 6.4.2), with or without the quotes of its keywords.
fn frame_ancestors(list: &str) -> Result<String, ConfigError> {
    let mut sources = Vec::new();
    for item in list.split([',', ' ']).filter(|item| !item.is_empty()) {
        match item.trim_matches('\'') {
            "self" => sources.push("'self'"),
            "none" => sources.push("'none'"),
            _ if item == "*" || is_frame_source(item) => sources.push(item),
            _ => {
                return wrong(format!(
                    "--frame-ancestors: \"{item}\" is no source of frames; write self, none, or \
                     one like https://intranet.example.org"
                ));
            }
        }
    }
    match sources.is_empty() {
        true => wrong("--frame-ancestors is empty: write self, none, or the origins of pages"),
        false => Ok(sources.join(" ")),
    }
}

fn is_frame_source(item: &str) -> bool {
    let Some((scheme, host)) = item.split_once("://") else { return false };
    ["http", "https"].contains(&scheme)
        && !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || "-._*:[]".contains(c))
}

fn requests(rate: u32, burst: u32) -> Result<Rate, ConfigError> {
    if rate == 0 {
        return wrong("--http-request-rate is 0: give at least 1");
    }
    if burst == 0 {
        return wrong("--http-request-burst is 0: give at least 1");
    }
    Ok(Rate { per_second: rate.into(), burst: burst.into() })
}

/// The page in the working directory, beside the executable, or above it as in a build tree.
fn find_page_dir() -> PathBuf {
    let here = PathBuf::from(PAGE_DIR);
    if here.is_dir() {
        return here;
    }
    let executable = std::env::current_exe().unwrap_or_default();
    executable
        .ancestors()
        .skip(1)
        .take(3)
        .map(|folder| folder.join(PAGE_DIR))
        .find(|folder| folder.is_dir())
        .unwrap_or(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_addresses_and_networks() {
        let proxies = proxies(Some("127.0.0.1, 10.1.2.3/8,::1,::ffff:192.0.2.1"), true).unwrap();
        let texts: Vec<String> = proxies.networks.iter().map(IpNet::to_string).collect();
        assert_eq!(texts, ["127.0.0.1/32", "10.0.0.0/8", "::1/128", "192.0.2.1/32"]);
        assert!(proxies.proxy_protocol);
    }

    #[test]
    fn frame_ancestors_are_written_as_csp_wants() {
        for (given, written) in [
            ("self", "'self'"),
            ("'self'", "'self'"),
            ("none", "'none'"),
            ("self,https://a.example", "'self' https://a.example"),
            ("'self' https://*.a.example:8443", "'self' https://*.a.example:8443"),
            ("*", "*"),
        ] {
            assert_eq!(frame_ancestors(given).unwrap(), written);
        }
    }
}
