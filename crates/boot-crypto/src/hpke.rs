//! Sealing to a public key on hosts: HPKE (RFC 9180) in base mode with DHKEM(P-256, HKDF-SHA256), HKDF-SHA256 and
//! AES-256-GCM.
//!
//! Base mode says nothing about who sealed: everybody who has the public key can. What is sealed opens for the same `info`
//! only, to the last byte.

use crate::host::{SigningKeyError, random};
use hpke::aead::AesGcm256;
use hpke::kdf::HkdfSha256;
use hpke::kem::DhP256HkdfSha256;
use hpke::{Deserializable as _, Kem, OpModeR, OpModeS, Serializable as _};
use p256::SecretKey;
use p256::elliptic_curve::sec1::ToSec1Point as _;
use p256::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use std::string::String;
use std::vec::Vec;
use zeroize::Zeroizing;

/// Length of an encapsulated key in bytes: an uncompressed point (SEC 1, 2.3.3).
pub const ENCAPSULATED_KEY_BYTES: usize = 65;

/// A private key that others seal to; wiped when dropped, not printed.
pub struct SealingKey(SecretKey);

impl SealingKey {
    /// Makes a fresh key.
    pub fn generate() -> Self {
        loop {
            // Fewer than one in 2^32 candidates is no scalar.
            if let Ok(key) = SecretKey::from_slice(&*Zeroizing::new(random::<32>())) {
                return Self(key);
            }
        }
    }

    /// Reads a key from PKCS#8 PEM.
    ///
    /// # Errors
    /// Text that is no such key.
    pub fn from_pem(pem: &str) -> Result<Self, SigningKeyError> {
        SecretKey::from_pkcs8_pem(pem).map(Self).map_err(|_| SigningKeyError::NotP256Pem)
    }

    /// Writes the key as PKCS#8 PEM; wiped when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.0.to_pkcs8_pem(LineEnding::LF).expect("a P-256 key has an encoding")
    }

    /// Returns the public key, which others seal to: x followed by y.
    pub fn public(&self) -> [u8; 64] {
        let point = self.0.public_key().to_sec1_point(false);
        let mut public = [0; 64];
        public.copy_from_slice(&point.as_bytes()[1..]);
        public
    }

    /// Opens what was sealed to the public key for this `info`; `None` for anything else.
    pub fn open(
        &self,
        encapsulated: &[u8; ENCAPSULATED_KEY_BYTES],
        info: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        self.open_with(encapsulated, info, sealed, &[])
    }

    fn open_with(
        &self,
        encapsulated: &[u8; ENCAPSULATED_KEY_BYTES],
        info: &[u8],
        sealed: &[u8],
        associated: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        type Private = <DhP256HkdfSha256 as Kem>::PrivateKey;
        type Encapsulated = <DhP256HkdfSha256 as Kem>::EncappedKey;
        let private = Private::from_bytes(&Zeroizing::new(self.0.to_bytes())).ok()?;
        let encapsulated = Encapsulated::from_bytes(encapsulated).ok()?;
        let mode = OpModeR::Base;
        hpke::single_shot_open::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
            &mode,
            &private,
            &encapsulated,
            info,
            sealed,
            associated,
        )
        .ok()
        .map(Zeroizing::new)
    }
}

/// Seals to a public key, x followed by y: returns the encapsulated key, and the ciphertext with its tag of 16 bytes; `None`
/// for a point that is not on the curve.
pub fn seal_to(
    public: &[u8; 64],
    info: &[u8],
    plain: &[u8],
) -> Option<([u8; ENCAPSULATED_KEY_BYTES], Vec<u8>)> {
    type Public = <DhP256HkdfSha256 as Kem>::PublicKey;
    let recipient = Public::from_bytes(&[&[4], &public[..]].concat()).ok()?;
    let (encapsulated, sealed) = hpke::single_shot_seal::<AesGcm256, HkdfSha256, DhP256HkdfSha256>(
        &OpModeS::Base,
        &recipient,
        info,
        plain,
        &[],
    )
    .ok()?;
    Some((encapsulated.to_bytes().as_slice().try_into().ok()?, sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unhex(text: &str) -> Vec<u8> {
        let pairs = text.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
        pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    /// From the vectors that belong to RFC 9180 (`test-vectors.json`): mode 0, KEM 16, KDF 1, AEAD 2, the first message.
    #[test]
    fn the_vector_of_the_standard_opens() {
        let scalar = unhex("317f915db7bc629c48fe765587897e01e282d3e8445f79f27f65d031a88082b2");
        let key = SealingKey(SecretKey::from_slice(&scalar).unwrap());
        let public = unhex(
            "abc7e49a4c6b3566d77d0304addc6ed0e98512ffccf505e6a8e3eb25c685136f853148544876de76c0f2ef99cdc3a05c\
             cf5ded7860c7c021238f9e2073d2356c",
        );
        assert_eq!(key.public().as_slice(), public);
        let encapsulated = unhex(
            "04c06b4f6bebc7bb495cb797ab753f911aff80aefb86fd8b6fcc35525f3ab5f03e0b21bd31a86c6048af3cb2d98e0d3b\
             f01da5cc4c39ff5370d331a4f1f7d5a4e0",
        );
        let sealed = unhex(
            "58c61a45059d0c5704560e9d88b564a8b63f1364b8d1fcb3c4c6ddc1d291742465e902cd216f8908da49f8f96f",
        );
        let encapsulated = encapsulated.try_into().unwrap();
        let plain = key.open_with(&encapsulated, b"Ode on a Grecian Urn", &sealed, b"Count-0").unwrap();
        assert_eq!(plain.as_slice(), b"Beauty is truth, truth beauty");
    }

    #[test]
    fn what_is_sealed_opens_for_its_key_and_its_info_only() {
        let (key, other) = (SealingKey::generate(), SealingKey::generate());
        let (encapsulated, sealed) = seal_to(&key.public(), b"this", b"a secret").unwrap();
        assert_eq!(key.open(&encapsulated, b"this", &sealed).unwrap().as_slice(), b"a secret");
        assert!(other.open(&encapsulated, b"this", &sealed).is_none());
        for info in [&b"that"[..], b"", b"this "] {
            assert!(key.open(&encapsulated, info, &sealed).is_none());
        }
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(key.open(&encapsulated, b"this", &altered).is_none(), "byte {at}");
            assert!(key.open(&encapsulated, b"this", &sealed[..at]).is_none(), "{at} bytes");
        }
        for at in 0..encapsulated.len() {
            let mut altered = encapsulated;
            altered[at] ^= 1;
            assert!(key.open(&altered, b"this", &sealed).is_none(), "byte {at} of the encapsulated key");
        }
        let (again, _) = seal_to(&key.public(), b"this", b"a secret").unwrap();
        assert_ne!(again, encapsulated, "two sealings share a key");
    }

    #[test]
    fn nothing_is_sealed_to_what_is_no_point() {
        for public in [[0; 64], [7; 64], [0xFF; 64]] {
            assert!(seal_to(&public, b"", b"a secret").is_none());
        }
    }

    #[test]
    fn a_key_survives_its_pem() {
        let key = SealingKey::generate();
        assert_eq!(SealingKey::from_pem(&key.to_pem()).unwrap().public(), key.public());
        assert!(SealingKey::from_pem("key").is_err());
    }
}
