//! The key that a FIT is signed with, as `mkimage -k` finds it: an RSA key in a certificate.

use crate::KeyError;
use der::{Decode as _, Encode as _};
use rsa::pkcs8::DecodePublicKey as _;
use rsa::traits::PublicKeyParts as _;
use rsa::{BoxedUint, Pkcs1v15Sign, Pss, RsaPublicKey};
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;

/// The beginning of a DigestInfo of SHA-256 (RFC 8017 section 9.2, note 1).
const SHA256_INFO: [u8; 19] = [
    0x30, 0x31, 0x30, 0x0D, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00,
    0x04, 0x20,
];

/// How a digest becomes a number to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Padding {
    /// EMSA-PKCS1-v1_5, which `mkimage` takes where nothing is said.
    Pkcs15,
    /// EMSA-PSS with MGF1 over the same hash, and a salt of any length.
    Pss,
}

/// A public RSA key.
#[derive(Clone, Debug)]
pub struct Key(RsaPublicKey);

impl Key {
    /// Reads a key from a file: one certificate, or one public key, in PEM.
    ///
    /// Of a certificate only the key counts, as for `mkimage`: who issued it and how long it is valid says nothing about
    /// a FIT.
    ///
    /// # Errors
    /// A file that holds anything else; a key that is not RSA with 2048, 3072 or 4096 bits and the exponent 65537.
    pub fn from_pem(text: &[u8]) -> Result<Self, KeyError> {
        let (label, der) = pem_rfc7468::decode_vec(text).map_err(|_| KeyError::Pem)?;
        let public = match label {
            "CERTIFICATE" => Certificate::from_der(&der)
                .and_then(|certificate| certificate.tbs_certificate().subject_public_key_info().to_der())
                .map_err(|_| KeyError::Certificate)?,
            "PUBLIC KEY" => der,
            private if private.contains("PRIVATE") => return Err(KeyError::Private),
            label => return Err(KeyError::Label { label: label.into() }),
        };
        let key = RsaPublicKey::from_public_key_der(&public).map_err(|_| KeyError::NoRsa)?;
        let bits = key.n().bits() as usize;
        if !matches!(bits, 2048 | 3072 | 4096) {
            return Err(KeyError::Length { bits });
        }
        if *key.e() != BoxedUint::from(65537_u64) {
            return Err(KeyError::Exponent);
        }
        Ok(Self(key))
    }

    /// Returns its length in bits.
    pub fn bits(&self) -> usize {
        self.0.n().bits() as usize
    }

    /// Tells whether a signature over a SHA-256 digest is of this key.
    pub(crate) fn verifies(&self, padding: Padding, digest: &[u8; 32], signature: &[u8]) -> bool {
        match padding {
            Padding::Pkcs15 => {
                let scheme = Pkcs1v15Sign { hash_len: Some(digest.len()), prefix: SHA256_INFO.into() };
                self.0.verify(scheme, digest, signature).is_ok()
            }
            Padding::Pss => {
                let scheme = Pss { blinded: false, digest: Sha256::new(), salt_len: None };
                self.0.verify(scheme, digest, signature).is_ok()
            }
        }
    }
}
