//! Certificates of all sorts that clients have, in both roles.

use opencall_control::dtls::CertificateSource;

use crate::call::{Call, calm};
use crate::openssl_peer::Identity;

const MTU: u32 = 1200;

/// Ours from PEM files, as `DTLS_CERT_FILE` and `DTLS_KEY_FILE` bring it.
fn pem(identity: &Identity) -> CertificateSource {
    CertificateSource::Pem {
        certificate: identity.certificate.to_pem().expect("PEM"),
        key: identity.key.private_key_to_pem_pkcs8().expect("PEM"),
    }
}

#[test]
fn a_client_with_an_rsa_certificate_connects_in_both_roles() {
    for bits in [2048, 4096] {
        let peer = Identity::rsa(bits);
        for peer_is_client in [true, false] {
            let mut call = Call::new(CertificateSource::Generate, &peer, peer_is_client, MTU);
            call.shake_hands(&mut calm);
        }
    }
}

#[test]
fn our_own_certificate_may_be_rsa_in_both_roles() {
    let ours = Identity::rsa(2048);
    for peer in [Identity::ecdsa(), Identity::rsa(2048)] {
        for peer_is_client in [true, false] {
            Call::new(pem(&ours), &peer, peer_is_client, MTU).shake_hands(&mut calm);
        }
    }
}

#[test]
fn an_ecdsa_certificate_connects_in_both_roles_at_any_mtu() {
    let peer = Identity::ecdsa();
    for mtu in [300, 512, 1200] {
        for peer_is_client in [true, false] {
            let mut call = Call::new(CertificateSource::Generate, &peer, peer_is_client, mtu);
            call.shake_hands(&mut calm);
        }
    }
}

/// Longer than any buffer that was made for it beforehand.
#[test]
fn a_large_certificate_connects() {
    let peer = Identity::ecdsa_with_names(5000);
    for peer_is_client in [true, false] {
        let mut call = Call::new(CertificateSource::Generate, &peer, peer_is_client, MTU);
        call.shake_hands(&mut calm);
    }
}

#[test]
fn a_goodbye_is_heard() {
    let peer = Identity::ecdsa();
    for peer_is_client in [true, false] {
        let mut call = Call::new(CertificateSource::Generate, &peer, peer_is_client, MTU);
        call.shake_hands(&mut calm);
        for datagram in call.peer.close() {
            call.ours.handle_datagram(&datagram, std::time::Instant::now());
        }
        call.drain();
        assert!(call.closed);
    }
}
