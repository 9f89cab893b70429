//! The flags of webhooks.
#![forbid(unsafe_code)]

use std::time::Instant;

use clap::Args;

use super::{ConfigError, wrong};
use crate::auth::AuthConfig;
use crate::auth::admin::AdminKeys;
use crate::auth::keys::ApiKeys;
use crate::outgoing::url::HttpUrl;
use crate::webhooks::{WebhookConfig, WebhookKey};

/// Receivers at most: each has a queue of its own, and reads the same.
const MAX_RECEIVERS: usize = 8;

/// Who is told what happens in rooms. No `Debug`: there are secrets in it.
#[derive(Args)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookArguments {
    /// Address that is told what happens in rooms: each start, join, track, leave and end is
    /// posted there as LiveKit does. Can be given several times, or with commas between.
    #[arg(long, env = "OPENCALL_WEBHOOK_URLS", value_name = "URL", value_delimiter = ',')]
    pub webhook_url: Vec<String>,
    /// What signs webhooks: the name of a key of join tokens, or a name and a secret of their own,
    /// at least 32 bytes. Whoever verifies webhooks has the secret: with a key of join tokens it
    /// can make tokens, too. Not needed if there is one --auth-key.
    #[arg(
        long,
        env = "OPENCALL_WEBHOOK_KEY",
        value_name = "KEY | KEY=SECRET",
        hide_env_values = true
    )]
    pub webhook_key: Option<String>,
}

impl WebhookArguments {
    /// The receivers and the key, if there are any. It is none of administrators, and one of
    /// `tokens` if it has no secret of its own.
    pub fn read(
        self,
        tokens: &AuthConfig,
        admin: &AdminKeys,
    ) -> Result<Option<WebhookConfig>, ConfigError> {
        if self.webhook_url.is_empty() {
            return match self.webhook_key {
                None => Ok(None),
                Some(_) => wrong("--webhook-key signs webhooks: say where to with --webhook-url"),
            };
        }
        if self.webhook_url.len() > MAX_RECEIVERS {
            return wrong(format!("--webhook-url: {MAX_RECEIVERS} receivers are the most"));
        }
        let url = |text: &String| {
            HttpUrl::parse(text)
                .or_else(|reason| wrong(format!("--webhook-url (OPENCALL_WEBHOOK_URLS): {reason}")))
        };
        let urls = self.webhook_url.iter().map(url).collect::<Result<_, _>>()?;
        let key = match self.webhook_key {
            Some(pair) if pair.contains('=') => own_key(&pair, admin)?,
            given => WebhookKey::OfTokens(token_key(given, tokens)?),
        };
        Ok(Some(WebhookConfig { urls, key }))
    }
}

fn own_key(pair: &str, admin: &AdminKeys) -> Result<WebhookKey, ConfigError> {
    let keys = ApiKeys::from_pairs([pair])
        .or_else(|reason| wrong(format!("--webhook-key (OPENCALL_WEBHOOK_KEY): {reason}")))?;
    let file = admin.file.as_ref().map(|file| file.current(Instant::now()));
    for admin in [Some(&admin.keys), file.as_deref()].into_iter().flatten() {
        if let Some(name) = keys.shared_with(admin) {
            return wrong(format!(
                "the webhook key \"{name}\" is a secret of administrators as well, and whoever \
                 verifies webhooks has it: give webhooks one of their own"
            ));
        }
    }
    let name = keys.names().next().unwrap_or_default().to_owned();
    Ok(WebhookKey::Own { name, keys })
}

/// The name of the key of join tokens that signs: the given one, or the only one.
fn token_key(given: Option<String>, tokens: &AuthConfig) -> Result<String, ConfigError> {
    let file = tokens.keys_file.as_ref().map(|file| file.current(Instant::now()));
    let sets = [Some(&tokens.keys), file.as_deref()];
    let names: Vec<&str> = sets.into_iter().flatten().flat_map(|keys| keys.names()).collect();
    match (given, names.as_slice()) {
        (Some(name), names) if names.contains(&name.as_str()) => Ok(name),
        (Some(name), _) => wrong(format!(
            "--webhook-key {name}: there is no such key of join tokens; give one, or \
             KEY=SECRET for one of their own"
        )),
        (None, [name]) => Ok((*name).to_owned()),
        (None, _) => wrong("webhooks are signed: say by which key with --webhook-key"),
    }
}
