//! Signatures of DTLS 1.2, checked before the library sees what they sign.
#![forbid(unsafe_code)]

use super::Settings;
use super::message::Signed;

/// Whether the key of a certificate signed the data.
pub(super) fn verify(
    settings: &Settings,
    certificate: &[u8],
    data: &[u8],
    signed: &Signed,
) -> bool {
    let verifier = settings.library.crypto_provider().signature_verification;
    let Signed { hash, algorithm, signature } = *signed;
    verifier.verify_signature(certificate, data, signature, hash, algorithm).is_ok()
}
