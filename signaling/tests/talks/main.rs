//! Talks between real WebSocket clients and the real server: the binary, its data cores, its HTTP.

mod client;
mod configuration;
mod crowd;
mod hostile;
mod opencall;
mod protoo;
mod server;
mod stop;
mod strangers;
mod tokens;
mod web;
