//! RSA keys on hosts: RSASSA-PSS with SHA-256 (PS256, RFC 8230 section 2), moduli of 3072 or 4096 bits.

use super::{RSA, SigningKeyError, decrypt, refusal};
use crate::Digest;
use pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding,
};
use rsa::signature::hazmat::RandomizedPrehashSigner as _;
use rsa::traits::PublicKeyParts;
use std::string::String;
use std::vec::Vec;
use zeroize::Zeroizing;

/// The one public exponent that is used.
const EXPONENT: u64 = 65537;

/// A PS256 private key in memory, for tests and development: RUSTSEC-2023-0071 concerns private-key
/// operations of this library over a network, so a product signs in a hardware module.
pub struct Ps256Key {
    key: rsa::pss::SigningKey<sha2::Sha256>,
    modulus: Vec<u8>,
}

impl Ps256Key {
    /// Makes a fresh key with a modulus of `bits` bits, which takes seconds.
    ///
    /// # Errors
    /// Another length than 3072 or 4096 bits.
    pub fn generate(bits: u32) -> Result<Self, SigningKeyError> {
        if !matches!(bits, 3072 | 4096) {
            return Err(SigningKeyError::RsaParameters { modulus_bits: bits });
        }
        let mut random = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        let key = rsa::RsaPrivateKey::new(&mut random, bits as usize);
        Self::admit(key.map_err(|_| SigningKeyError::RsaParameters { modulus_bits: bits })?)
    }

    /// Reads a key from PKCS#8 PEM.
    ///
    /// # Errors
    /// Text that is no such key, and keys that verifiers refuse.
    pub fn from_pem(pem: &str) -> Result<Self, SigningKeyError> {
        Self::admit(rsa::RsaPrivateKey::from_pkcs8_pem(pem).map_err(|_| SigningKeyError::NotRsaPem)?)
    }

    /// Reads a key from encrypted PKCS#8 PEM: PBES2 (RFC 8018) with scrypt or PBKDF2.
    ///
    /// # Errors
    /// Text that is none, and a passphrase that does not open it.
    pub fn from_encrypted_pem(pem: &str, passphrase: &str) -> Result<Self, SigningKeyError> {
        let opened = decrypt(pem, passphrase)?;
        let key = rsa::RsaPrivateKey::from_pkcs8_der(opened.as_bytes());
        Self::admit(key.map_err(|_| refusal(&opened, RSA))?)
    }

    fn admit(key: rsa::RsaPrivateKey) -> Result<Self, SigningKeyError> {
        let modulus = modulus(&key)?;
        Ok(Self { key: rsa::pss::SigningKey::new(key), modulus })
    }

    /// Writes the key as PKCS#8 PEM; wiped when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        let key: &rsa::RsaPrivateKey = self.key.as_ref();
        key.to_pkcs8_pem(LineEnding::LF).expect("an RSA key has an encoding")
    }

    /// Writes the key as encrypted PKCS#8 PEM: PBES2 with scrypt (N = 2^14, r = 8, p = 1) and AES-256-CBC.
    pub fn to_encrypted_pem(&self, passphrase: &str) -> Zeroizing<String> {
        let key: &rsa::RsaPrivateKey = self.key.as_ref();
        key.to_pkcs8_encrypted_pem(passphrase, LineEnding::LF).expect("an RSA key has an encoding")
    }

    /// Returns the modulus, big-endian.
    pub fn modulus(&self) -> &[u8] {
        &self.modulus
    }

    /// Signs a digest with a fresh random salt of 32 bytes.
    pub fn sign(&self, digest: &Digest) -> Vec<u8> {
        let mut random = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        let signature = self
            .key
            .sign_prehash_with_rng(&mut random, digest)
            .expect("a 32-byte digest can always be signed under a key of 3072 bits or more");
        rsa::signature::SignatureEncoding::to_vec(&signature)
    }
}

/// Writes an RSA public key, its modulus big-endian, as PEM (SubjectPublicKeyInfo, RFC 8017 A.1).
///
/// # Errors
/// A modulus that verifiers refuse.
pub fn ps256_public_pem(modulus: &[u8]) -> Result<String, SigningKeyError> {
    let modulus = rsa::BoxedUint::from_be_slice_vartime(modulus);
    let modulus_bits = modulus.bits();
    let key = rsa::RsaPublicKey::new(modulus, rsa::BoxedUint::from(EXPONENT));
    let key = key.map_err(|_| SigningKeyError::RsaParameters { modulus_bits })?;
    self::modulus(&key)?;
    key.to_public_key_pem(LineEnding::LF).map_err(|_| SigningKeyError::NotRsaPublicPem)
}

/// Reads an RSA public key from PEM, as `openssl pkey -pubout` writes it: the modulus, big-endian.
///
/// # Errors
/// Text that is no such key, and keys that verifiers refuse.
pub fn ps256_public_from_pem(pem: &str) -> Result<Vec<u8>, SigningKeyError> {
    modulus(&rsa::RsaPublicKey::from_public_key_pem(pem).map_err(|_| SigningKeyError::NotRsaPublicPem)?)
}

/// Returns the modulus of a key that verifiers take.
fn modulus(key: &impl PublicKeyParts) -> Result<Vec<u8>, SigningKeyError> {
    let modulus_bits = key.n().bits();
    if !matches!(modulus_bits, 3072 | 4096) || *key.e() != rsa::BoxedUint::from(EXPONENT) {
        return Err(SigningKeyError::RsaParameters { modulus_bits });
    }
    Ok(key.n().to_be_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Es256Key, is_encrypted};
    use crate::{ps256_verify, sha256};

    #[test]
    fn a_key_survives_its_files_and_signs_what_verifies() {
        let key = Ps256Key::generate(3072).unwrap();
        let again = Ps256Key::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.modulus(), key.modulus());
        let digest = sha256(b"message");
        assert!(ps256_verify(key.modulus(), &digest, &again.sign(&digest)).accepts());
        assert!(!ps256_verify(key.modulus(), &sha256(b"other"), &again.sign(&digest)).accepts());

        let sealed = key.to_encrypted_pem("a passphrase");
        assert!(is_encrypted(&sealed));
        assert_eq!(Ps256Key::from_encrypted_pem(&sealed, "a passphrase").unwrap().modulus(), key.modulus());
        let refused = Ps256Key::from_encrypted_pem(&sealed, "another").err();
        assert_eq!(refused, Some(SigningKeyError::Passphrase));
        let refused = Es256Key::from_encrypted_pem(&sealed, "a passphrase").err();
        assert_eq!(refused, Some(SigningKeyError::OtherKind));
        let other = Es256Key::generate().to_encrypted_pem("a passphrase");
        let refused = Ps256Key::from_encrypted_pem(&other, "a passphrase").err();
        assert_eq!(refused, Some(SigningKeyError::OtherKind));

        let public = ps256_public_pem(key.modulus()).unwrap();
        assert_eq!(ps256_public_from_pem(&public).unwrap(), key.modulus());
        for text in ["", "key", &public[1..], &public[..100], &key.to_pem()] {
            assert_eq!(ps256_public_from_pem(text), Err(SigningKeyError::NotRsaPublicPem), "{text}");
        }
    }

    #[test]
    fn keys_of_other_lengths_are_refused() {
        for modulus_bits in [0, 1024, 2048, 3071, 8192] {
            let refused = Some(SigningKeyError::RsaParameters { modulus_bits });
            assert_eq!(Ps256Key::generate(modulus_bits).err(), refused);
        }
        let short = [&[0xC1; 255][..], &[1]].concat();
        let refused = Err(SigningKeyError::RsaParameters { modulus_bits: 2048 });
        assert_eq!(ps256_public_pem(&short), refused);
    }
}
