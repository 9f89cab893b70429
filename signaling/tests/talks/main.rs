//! Talks between real WebSocket clients and the real server: the binary, its data cores, its HTTP.

mod administration;
mod client;
mod configuration;
mod crowd;
mod faults;
mod floods;
mod hostile;
mod hosts;
mod log_lines;
mod metrics;
mod opencall;
mod protoo;
mod proxies;
mod recordings;
mod resume;
mod server;
mod slow_peers;
mod stage;
mod stop;
mod strangers;
mod tls;
mod tokens;
mod web;
mod webhooks;
mod whep;
mod whip;
