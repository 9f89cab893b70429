//! Our SRTP and `webrtc-srtp` seal to the same bytes and open each other's packets.
#![forbid(unsafe_code)]

mod srtp_support;

use opencall_wire::srtp::Profile;
use srtp_support::Oracle;
use webrtc_srtp::context::Context;
use webrtc_srtp::protection_profile::ProtectionProfile;

struct WebrtcSrtp {
    seal: Context,
    open: Context,
}

impl Oracle for WebrtcSrtp {
    // Its replay detector knows sequence numbers, not indexes, and damaged headers make it panic.
    const JUDGES: bool = false;

    fn new(profile: Profile, key: &[u8], salt: &[u8]) -> Self {
        let profile = match profile {
            Profile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Profile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            Profile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        };
        let context = || Context::new(key, salt, profile, None, None).unwrap();
        WebrtcSrtp { seal: context(), open: context() }
    }

    fn seal_rtp(&mut self, packet: &[u8]) -> Vec<u8> {
        self.seal.encrypt_rtp(packet).unwrap().to_vec()
    }

    fn open_rtp(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        self.open.decrypt_rtp(packet).ok().map(|packet| packet.to_vec())
    }

    fn seal_rtcp(&mut self, packet: &[u8]) -> Vec<u8> {
        self.seal.encrypt_rtcp(packet).unwrap().to_vec()
    }

    fn open_rtcp(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        self.open.decrypt_rtcp(packet).ok().map(|packet| packet.to_vec())
    }
}

#[test]
fn rtp() {
    (1..=3).for_each(srtp_support::agree_on_rtp::<WebrtcSrtp>);
}

#[test]
fn rtcp() {
    (1..=3).for_each(srtp_support::agree_on_rtcp::<WebrtcSrtp>);
}

#[test]
fn a_beginning_lost_across_a_wrap() {
    srtp_support::first_packets_are_opened_on_either_side_of_a_wrap::<WebrtcSrtp>();
}
