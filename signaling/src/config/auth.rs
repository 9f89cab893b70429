//! The flags of join tokens.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Instant;

use clap::Args;

use super::{ConfigError, wrong};
use crate::auth::AuthConfig;
use crate::auth::admin::AdminKeys;
use crate::auth::jwks::KeySet;
use crate::auth::keys::ApiKeys;
use crate::auth::verifier::Demands;
use crate::auth::watched::Watched;
use crate::outgoing::url::HttpUrl;

/// Join tokens. No `Debug`: there are secrets in it.
#[derive(Args)]
#[command(next_help_heading = "Join tokens (with any of the first four, clients must have one)")]
pub struct AuthArguments {
    /// Where the secrets are.
    #[command(flatten)]
    pub keys: KeyArguments,
    /// File with a JWK Set: tokens signed with RS256, ES256 or EdDSA by one of its keys are taken.
    /// It is read again when it changes.
    #[arg(long, env = "OPENCALL_AUTH_JWKS_FILE", value_name = "FILE")]
    pub auth_jwks_file: Option<PathBuf>,
    /// The same from a URL, fetched every five minutes and when a token names an unknown key.
    #[arg(long, env = "OPENCALL_AUTH_JWKS_URL", value_name = "URL")]
    pub auth_jwks_url: Option<String>,
    /// What the aud of every token must have. Without it, tokens with an aud are refused.
    #[arg(long, env = "OPENCALL_AUTH_AUDIENCE", value_name = "NAME")]
    pub auth_audience: Option<String>,
    /// What the iss of tokens signed by a key of a JWK Set must be.
    #[arg(long, env = "OPENCALL_AUTH_ISSUER", value_name = "NAME")]
    pub auth_issuer: Option<String>,
    /// Without tokens, whoever enters a room first is its host. For development: anyone can come
    /// under that name once its owner has left.
    #[arg(
        long,
        env = "OPENCALL_DEV_HOSTS",
        value_name = "BOOL",
        default_value_t = false,
        num_args = 0..=1,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub dev_hosts: bool,
}

/// Secrets, for the server and for who mints tokens by hand. No `Debug`.
#[derive(Args)]
pub struct KeyArguments {
    /// Name of an API key and its secret, at least 32 bytes: tokens that it signed with HS256 are
    /// taken. Can be given several times, or with commas between. Other users of the host can see
    /// flags: --auth-keys-file keeps secrets to yourself.
    #[arg(
        long,
        env = "OPENCALL_AUTH_KEYS",
        value_name = "KEY=SECRET",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub auth_key: Vec<String>,
    /// File of API keys, one KEY=SECRET or KEY: SECRET on a line. It is read again when it changes.
    #[arg(long, env = "OPENCALL_AUTH_KEYS_FILE", value_name = "FILE")]
    pub auth_keys_file: Option<PathBuf>,
}

impl KeyArguments {
    /// The keys of the flags, and those of the file.
    pub fn read(&self) -> Result<(ApiKeys, Option<Watched<ApiKeys>>), ConfigError> {
        let pairs = self.auth_key.iter().map(String::as_str);
        let keys = ApiKeys::from_pairs(pairs)
            .or_else(|reason| wrong(format!("--auth-key (OPENCALL_AUTH_KEYS): {reason}")))?;
        let parse = ApiKeys::from_file;
        Ok((keys, watched("--auth-keys-file", self.auth_keys_file.as_ref(), parse)?))
    }
}

impl AuthArguments {
    /// Reads all files, so that what is wrong with them is known before anything starts.
    pub fn read(self) -> Result<AuthConfig, ConfigError> {
        let (keys, keys_file) = self.keys.read()?;
        let set_file = watched("--auth-jwks-file", self.auth_jwks_file.as_ref(), KeySet::parse)?;
        let set_url = self.auth_jwks_url.map(|text| {
            HttpUrl::parse(&text).or_else(|reason| {
                wrong(format!("--auth-jwks-url (OPENCALL_AUTH_JWKS_URL): {reason}"))
            })
        });
        let demands = Demands { audience: self.auth_audience, issuer: self.auth_issuer };
        let config =
            AuthConfig { keys, keys_file, set_file, set_url: set_url.transpose()?, demands };
        if config.is_open() && config.demands != Demands::default() {
            return wrong(
                "--auth-audience and --auth-issuer say what tokens must have, but none are asked \
                 for: add --auth-key, --auth-keys-file, --auth-jwks-file or --auth-jwks-url",
            );
        }
        Ok(config)
    }
}

/// Keys of administrators. No `Debug`: there are secrets in it.
#[derive(Args)]
#[command(next_help_heading = "Administration (without a key, the admin API is off)")]
pub struct AdminArguments {
    /// Name of a key of the admin API and its secret, at least 32 bytes. The name is in the log of
    /// what was done with it. Can be given several times, or with commas between; none of them may
    /// be a secret of join tokens.
    #[arg(
        long,
        env = "OPENCALL_ADMIN_KEYS",
        value_name = "KEY=SECRET",
        value_delimiter = ',',
        hide_env_values = true
    )]
    pub admin_key: Vec<String>,
    /// File of such keys, one KEY=SECRET or KEY: SECRET on a line. It is read again when it
    /// changes.
    #[arg(long, env = "OPENCALL_ADMIN_KEYS_FILE", value_name = "FILE")]
    pub admin_keys_file: Option<PathBuf>,
}

impl AdminArguments {
    /// The keys, none of which may be one of `tokens`.
    pub fn read(self, tokens: &AuthConfig) -> Result<AdminKeys, ConfigError> {
        let keys = ApiKeys::from_pairs(self.admin_key.iter().map(String::as_str))
            .or_else(|reason| wrong(format!("--admin-key (OPENCALL_ADMIN_KEYS): {reason}")))?;
        let parse = ApiKeys::from_file;
        let file = watched("--admin-keys-file", self.admin_keys_file.as_ref(), parse)?;
        let now = Instant::now();
        let of_file = file.as_ref().map(|file| file.current(now));
        let token_file = tokens.keys_file.as_ref().map(|file| file.current(now));
        for admin in [Some(&keys), of_file.as_deref()].into_iter().flatten() {
            for tokens in [Some(&tokens.keys), token_file.as_deref()].into_iter().flatten() {
                if let Some(name) = admin.shared_with(tokens) {
                    return wrong(format!(
                        "the admin key \"{name}\" is a secret of join tokens as well: give \
                         administrators one of their own"
                    ));
                }
            }
        }
        Ok(AdminKeys { keys, file })
    }
}

fn watched<T>(
    flag: &str,
    path: Option<&PathBuf>,
    parse: fn(&[u8]) -> Result<T, String>,
) -> Result<Option<Watched<T>>, ConfigError> {
    let open = |path: &PathBuf| {
        Watched::open(path, parse, Instant::now())
            .or_else(|reason| wrong(format!("{flag} {}: {reason}", path.display())))
    };
    path.map(open).transpose()
}
