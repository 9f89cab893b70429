//! Our SRTP and libsrtp (the C library that browsers use) seal to the same bytes, open each
//! other's packets, and refuse the same ones.
#![forbid(unsafe_code)]

mod srtp_support;

use opencall_wire::srtp::Profile;
use srtp::{CryptoPolicy, Session, StreamPolicy};
use srtp_support::Oracle;

struct LibSrtp {
    seal: Session,
    open: Session,
}

impl Oracle for LibSrtp {
    const JUDGES: bool = true;

    fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Self {
        let crypto = match profile {
            Profile::AeadAes128Gcm => CryptoPolicy::aes_gcm_128_16_auth(),
            Profile::AeadAes256Gcm => CryptoPolicy::aes_gcm_256_16_auth(),
            Profile::AesCm128HmacSha1_80 => CryptoPolicy::aes_cm_128_hmac_sha1_80(),
        };
        let key = [key, salt].concat();
        let policy = StreamPolicy {
            rtp: crypto,
            rtcp: crypto,
            key: &key,
            // As long as ours, so that both draw the line at the same packet.
            window_size: 1024,
            ..Default::default()
        };
        LibSrtp {
            seal: Session::with_outbound_template(policy).unwrap(),
            open: Session::with_inbound_template(policy).unwrap(),
        }
    }

    fn seal_rtp(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        self.seal.protect(&mut packet).unwrap();
        packet
    }

    fn open_rtp(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut packet = packet.to_vec();
        self.open.unprotect(&mut packet).ok().map(|()| packet)
    }

    fn seal_rtcp(&mut self, packet: &[u8]) -> Vec<u8> {
        let mut packet = packet.to_vec();
        self.seal.protect_rtcp(&mut packet).unwrap();
        packet
    }

    fn open_rtcp(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        let mut packet = packet.to_vec();
        self.open.unprotect_rtcp(&mut packet).ok().map(|()| packet)
    }
}

#[test]
fn rtp() {
    (1..=3).for_each(srtp_support::agree_on_rtp::<LibSrtp>);
}

#[test]
fn rtcp() {
    (1..=3).for_each(srtp_support::agree_on_rtcp::<LibSrtp>);
}

#[test]
fn a_beginning_lost_across_a_wrap() {
    srtp_support::first_packets_are_opened_on_either_side_of_a_wrap::<LibSrtp>();
}
