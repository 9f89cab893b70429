//! DTLS whose key exchange draws from a seed, so that a simulated meeting can be had again.
//!
//! Signatures are the system's: ECDSA draws a nonce that nothing but the signature shows. They are
//! made again until they have the usual length, so that datagrams are as long in each run.

use std::cell::RefCell;
use std::sync::{Arc, Once};

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use dimpl::crypto::{
    ActiveKeyExchange, Buf, CryptoProvider, HashAlgorithm, KeyProvider, NamedGroup,
    SignatureAlgorithm, SigningKey, SupportedKxGroup, aws_lc_rs as library,
};
use dimpl::{CryptoError, CryptoOperation};
use opencall_control::dtls::{CertificateSource, DtlsConfig, DtlsVersion};
use opencall_wire::srtp::Profile;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// Bytes of an ECDSA signature on P-256 in DER, where neither number or just one begins with a set
/// bit: half of all. The others have a byte less or more.
const SIGNATURE_LEN: usize = 71;

/// Signatures made at most for one of the usual length: one of 2^40 meetings needs more.
const MAX_SIGNATURES: usize = 40;

thread_local! {
    static DICE: RefCell<StdRng> = RefCell::new(StdRng::seed_from_u64(0));
}

/// Whose certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The server's.
    Server,
    /// The clients'.
    Client,
}

/// Makes all DTLS of this process draw from seeds, from [`reseed`] on in each thread.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let provider = CryptoProvider {
            kx_groups: &[&SeededX25519],
            key_provider: &Keys,
            ..library::default_provider()
        };
        CryptoProvider::install_default(provider);
    });
}

/// Begins this thread's draws anew.
pub fn reseed(seed: u64) {
    DICE.with_borrow_mut(|dice| *dice = StdRng::seed_from_u64(seed));
}

/// Settings with a certificate that is the same in each run.
pub fn config(side: Side, seed: u64, max_version: DtlsVersion, profile: Profile) -> DtlsConfig {
    let (certificate, key): (&[u8], &[u8]) = match side {
        Side::Server => {
            (include_bytes!("../testdata/server.pem"), include_bytes!("../testdata/server.key"))
        }
        Side::Client => {
            (include_bytes!("../testdata/client.pem"), include_bytes!("../testdata/client.key"))
        }
    };
    let certificate =
        CertificateSource::Pem { certificate: certificate.to_vec(), key: key.to_vec() };
    DtlsConfig { certificate, max_version, srtp_profiles: vec![profile], seed: Some(seed) }
}

#[derive(Debug)]
struct SeededX25519;

impl SupportedKxGroup for SeededX25519 {
    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }

    fn start_exchange(&self, mut buf: Buf) -> Result<Box<dyn ActiveKeyExchange>, CryptoError> {
        let failed = || CryptoError::OperationFailed(CryptoOperation::GenerateEphemeralKey);
        let secret: [u8; 32] = DICE.with_borrow_mut(|dice| dice.random());
        let private = PrivateKey::from_private_key(&X25519, &secret).map_err(|_| failed())?;
        let public = private.compute_public_key().map_err(|_| failed())?;
        buf.clear();
        buf.extend_from_slice(public.as_ref());
        Ok(Box::new(Exchange { private: Arc::new(private), public: buf.into_vec() }))
    }
}

struct Exchange {
    private: Arc<PrivateKey>,
    public: Vec<u8>,
}

impl std::fmt::Debug for Exchange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Exchange")
    }
}

impl ActiveKeyExchange for Exchange {
    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn try_clone(&self) -> Option<Box<dyn ActiveKeyExchange>> {
        let (private, public) = (Arc::clone(&self.private), self.public.clone());
        Some(Box::new(Exchange { private, public }))
    }

    fn complete(self: Box<Self>, peer_pub: &[u8], out: &mut Buf) -> Result<(), CryptoError> {
        let peer = UnparsedPublicKey::new(&X25519, peer_pub);
        let agreed = agree(&self.private, peer, (), |secret| {
            out.clear();
            out.extend_from_slice(secret);
            Ok(())
        });
        agreed.map_err(|()| CryptoError::InvalidPublicKey(NamedGroup::X25519))
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[derive(Debug)]
struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, key_der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        let key = library::default_provider().key_provider.load_private_key(key_der)?;
        Ok(Box::new(Steady(key)))
    }
}

/// Signs until the signature has the usual length.
#[derive(Debug)]
struct Steady(Box<dyn SigningKey>);

impl SigningKey for Steady {
    fn sign(&mut self, data: &[u8], hash: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        for _ in 0..MAX_SIGNATURES {
            self.0.sign(data, hash, out)?;
            if out.len() == SIGNATURE_LEN {
                break;
            }
        }
        Ok(())
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        self.0.algorithm()
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.0.hash_algorithm()
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        self.0.supported_hash_algorithms()
    }
}
