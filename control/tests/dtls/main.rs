//! DTLS with OpenSSL as the peer, which shares no line with ours: its certificates, what strangers
//! write into its handshake, and what the network does to its fragments.

mod call;
mod certificates;
mod forgeries;
mod fragments;
mod openssl_peer;
mod wire;
