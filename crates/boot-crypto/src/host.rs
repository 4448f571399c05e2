//! Signing, sealing to public keys, and random bytes for hosts. Firmware never signs with these keys and links none of this.

use crate::Digest;
use core::fmt;

pub use crate::hpke::{ENCAPSULATED_KEY_BYTES, SealingKey, seal_to};
pub use crate::locked::{lock, unlock};
pub use crate::memo::remembering;
use p256::ecdsa::signature::hazmat::{PrehashSigner as _, RandomizedPrehashSigner as _};
use p256::elliptic_curve::sec1::{FromSec1Point as _, ToSec1Point as _};
use pkcs8::der::SecretDocument;
use pkcs8::der::pem::{PemLabel as _, decode_label};
use pkcs8::{
    DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, EncryptedPrivateKeyInfoRef, LineEnding,
};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::traits::PublicKeyParts as _;
use std::string::String;
use std::vec::Vec;
use zeroize::Zeroizing;

/// A private key is not one that this release signs with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SigningKeyError {
    /// The bytes are no P-256 private scalar.
    NotAScalar,
    /// The text is no PKCS#8 P-256 private key in PEM.
    NotP256Pem,
    /// An encrypted key does not open.
    Passphrase,
    /// The text is no P-256 public key in PEM.
    NotP256PublicPem,
    /// The text is no PKCS#8 RSA private key in PEM.
    NotRsaPem,
    /// The modulus has another length than 3072 or 4096 bits, or the public exponent is not 65537.
    RsaParameters {
        /// Bits of the modulus.
        modulus_bits: u32,
    },
}

impl fmt::Display for SigningKeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAScalar => f.write_str("the bytes are no P-256 private key"),
            Self::NotP256Pem => f.write_str("the text is no P-256 private key in PKCS#8 PEM"),
            Self::Passphrase => f.write_str(
                "no P-256 private key comes out with this passphrase: it is another one, or the file was altered",
            ),
            Self::NotP256PublicPem => {
                f.write_str("the text is no P-256 public key in PEM (`-----BEGIN PUBLIC KEY-----`)")
            }
            Self::NotRsaPem => f.write_str("the text is no RSA private key in PKCS#8 PEM"),
            Self::RsaParameters { modulus_bits } => write!(
                f,
                "RSA keys have 3072 or 4096 bits and the public exponent 65537; this one has {modulus_bits} bits"
            ),
        }
    }
}

impl core::error::Error for SigningKeyError {}

/// An ES256 private key in memory.
pub struct Es256Key(p256::ecdsa::SigningKey);

impl Es256Key {
    /// Makes a key from its private scalar, 32 bytes big-endian.
    ///
    /// # Errors
    /// Zero, and the order of the curve and above, are no scalars.
    pub fn from_scalar(scalar: &[u8; 32]) -> Result<Self, SigningKeyError> {
        p256::ecdsa::SigningKey::from_slice(scalar).map(Self).map_err(|_| SigningKeyError::NotAScalar)
    }

    /// Makes a fresh key.
    pub fn generate() -> Self {
        loop {
            // Fewer than one in 2^32 candidates is no scalar.
            if let Ok(key) = Self::from_scalar(&Zeroizing::new(random())) {
                return key;
            }
        }
    }

    /// Reads a key from PKCS#8 PEM, as `openssl genpkey -algorithm EC` writes it.
    ///
    /// # Errors
    /// Text that is no such key.
    pub fn from_pem(pem: &str) -> Result<Self, SigningKeyError> {
        p256::ecdsa::SigningKey::from_pkcs8_pem(pem).map(Self).map_err(|_| SigningKeyError::NotP256Pem)
    }

    /// Writes the key as PKCS#8 PEM; wiped when dropped.
    pub fn to_pem(&self) -> Zeroizing<String> {
        self.0.to_pkcs8_pem(LineEnding::LF).expect("a P-256 key has an encoding")
    }

    /// Tells whether a key lies encrypted in a text: PKCS#8 (RFC 5958, section 3) in PEM.
    pub fn is_encrypted(pem: &str) -> bool {
        decode_label(pem.as_bytes()) == Ok(EncryptedPrivateKeyInfoRef::PEM_LABEL)
    }

    /// Reads a key from encrypted PKCS#8 PEM, as `openssl pkcs8 -topk8` writes it: PBES2 (RFC 8018) with scrypt or PBKDF2.
    ///
    /// # Errors
    /// Text that is none, and a passphrase that does not open it.
    pub fn from_encrypted_pem(pem: &str, passphrase: &str) -> Result<Self, SigningKeyError> {
        let (label, document) = SecretDocument::from_pem(pem).map_err(|_| SigningKeyError::NotP256Pem)?;
        let sealed = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes());
        let sealed = sealed.ok().filter(|_| label == EncryptedPrivateKeyInfoRef::PEM_LABEL);
        let opened = sealed.ok_or(SigningKeyError::NotP256Pem)?.decrypt(passphrase);
        let opened = opened.map_err(|_| SigningKeyError::Passphrase)?;
        let key = p256::ecdsa::SigningKey::from_pkcs8_der(opened.as_bytes());
        key.map(Self).map_err(|_| SigningKeyError::Passphrase)
    }

    /// Writes the key as encrypted PKCS#8 PEM: PBES2 with scrypt (N = 2^14, r = 8, p = 1) and AES-256-CBC.
    pub fn to_encrypted_pem(&self, passphrase: &str) -> Zeroizing<String> {
        self.0.to_pkcs8_encrypted_pem(passphrase, LineEnding::LF).expect("a P-256 key has an encoding")
    }

    /// Returns x followed by y.
    pub fn public(&self) -> [u8; 64] {
        let point = self.0.verifying_key().to_sec1_point(false);
        let mut public = [0; 64];
        public.copy_from_slice(&point.as_bytes()[1..]);
        public
    }

    /// Signs a digest (deterministic nonce, RFC 6979): r followed by s.
    pub fn sign(&self, digest: &Digest) -> [u8; 64] {
        let signature: p256::ecdsa::Signature =
            self.0.sign_prehash(digest).expect("a 32-byte digest can always be signed");
        signature.to_bytes().into()
    }

    /// Signs a digest as [`sign`](Self::sign) does, in the DER that X.509 holds (RFC 3279 section 2.2.3).
    pub fn sign_der(&self, digest: &Digest) -> Vec<u8> {
        let signature: p256::ecdsa::Signature =
            self.0.sign_prehash(digest).expect("a 32-byte digest can always be signed");
        signature.to_der().as_bytes().to_vec()
    }
}

/// Writes a P-256 public key, x followed by y, as PEM (SubjectPublicKeyInfo, RFC 5480).
///
/// # Errors
/// A point that is not on the curve.
pub fn es256_public_pem(public: &[u8; 64]) -> Result<String, SigningKeyError> {
    let point = p256::Sec1Point::from_untagged_bytes(public.into());
    let key = p256::PublicKey::from_sec1_point(&point).into_option();
    let pem = key.and_then(|key| key.to_public_key_pem(LineEnding::LF).ok());
    pem.ok_or(SigningKeyError::NotP256PublicPem)
}

/// Reads a P-256 public key from PEM, as `openssl pkey -pubout` writes it: x followed by y.
///
/// # Errors
/// Text that is no such key.
pub fn es256_public_from_pem(pem: &str) -> Result<[u8; 64], SigningKeyError> {
    let key = p256::PublicKey::from_public_key_pem(pem).map_err(|_| SigningKeyError::NotP256PublicPem)?;
    let mut public = [0; 64];
    public.copy_from_slice(&key.to_sec1_point(false).as_bytes()[1..]);
    Ok(public)
}

/// Writes an ES256 signature, r followed by s, in the DER of X.509 (RFC 3279 section 2.2.3); `None` if it is none.
pub fn es256_signature_to_der(signature: &[u8]) -> Option<Vec<u8>> {
    Some(p256::ecdsa::Signature::from_slice(signature).ok()?.to_der().as_bytes().to_vec())
}

/// Reads an ES256 signature from DER: r followed by s; `None` if it is none.
pub fn es256_signature_from_der(der: &[u8]) -> Option<[u8; 64]> {
    Some(p256::ecdsa::Signature::from_der(der).ok()?.to_bytes().into())
}

/// A PS256 private key in memory, for tests and development: RUSTSEC-2023-0071 concerns private-key
/// operations of this library over a network, so a product signs in a hardware module.
pub struct Ps256Key(rsa::pss::SigningKey<sha2::Sha256>, Vec<u8>);

impl Ps256Key {
    /// Reads a key from PKCS#8 PEM.
    ///
    /// # Errors
    /// Text that is no such key, and keys that verifiers refuse.
    pub fn from_pem(pem: &str) -> Result<Self, SigningKeyError> {
        let key = rsa::RsaPrivateKey::from_pkcs8_pem(pem).map_err(|_| SigningKeyError::NotRsaPem)?;
        let modulus_bits = key.n().bits();
        if !matches!(modulus_bits, 3072 | 4096) || *key.e() != rsa::BoxedUint::from(65537_u64) {
            return Err(SigningKeyError::RsaParameters { modulus_bits });
        }
        let modulus = key.n().to_be_bytes().to_vec();
        Ok(Self(rsa::pss::SigningKey::new(key), modulus))
    }

    /// Returns the modulus, big-endian.
    pub fn modulus(&self) -> &[u8] {
        &self.1
    }

    /// Signs a digest with a fresh random salt of 32 bytes.
    pub fn sign(&self, digest: &Digest) -> Vec<u8> {
        let mut random = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        let signature = self
            .0
            .sign_prehash_with_rng(&mut random, digest)
            .expect("a 32-byte digest can always be signed under a key of 3072 bits or more");
        rsa::signature::SignatureEncoding::to_vec(&signature)
    }
}

/// Returns `N` bytes from the operating system's generator.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system's random generator answers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{es256_verify, sha256};

    #[test]
    fn a_key_survives_its_pem() {
        let key = Es256Key::generate();
        let again = Es256Key::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.public(), key.public());
        let digest = sha256(b"message");
        assert!(es256_verify(&key.public(), &digest, &again.sign(&digest)).accepts());
        assert_ne!(Es256Key::generate().public(), key.public());
    }

    #[test]
    fn text_that_is_no_key_is_refused() {
        let pem = Es256Key::generate().to_pem();
        for text in ["", "key", &pem[1..], &pem[..100], &pem.replacen('M', "N", 1)] {
            assert_eq!(Es256Key::from_pem(text).err(), Some(SigningKeyError::NotP256Pem), "{text}");
        }
    }

    #[test]
    fn an_encrypted_key_opens_with_its_passphrase_only() {
        let key = Es256Key::generate();
        let pem = key.to_encrypted_pem("a passphrase");
        assert!(Es256Key::is_encrypted(&pem) && !Es256Key::is_encrypted(&key.to_pem()));
        assert_eq!(Es256Key::from_encrypted_pem(&pem, "a passphrase").unwrap().public(), key.public());
        for other in ["", "a passphras", "a passphrase ", "A passphrase"] {
            let refused = Es256Key::from_encrypted_pem(&pem, other).err();
            assert_eq!(refused, Some(SigningKeyError::Passphrase), "{other:?}");
        }
        assert_eq!(Es256Key::from_pem(&pem).err(), Some(SigningKeyError::NotP256Pem));
        assert_ne!(*key.to_encrypted_pem("a passphrase"), *pem, "two files share a salt");
        let scalar = key.0.to_bytes();
        let (_, document) = SecretDocument::from_pem(&pem).unwrap();
        assert!(!document.as_bytes().windows(8).any(|window| window == &scalar[..8]));
    }

    #[test]
    fn an_encrypted_key_that_was_altered_or_is_none_is_refused() {
        let key = Es256Key::generate();
        let pem = key.to_encrypted_pem("a passphrase");
        for text in ["", "key", &key.to_pem(), &pem[1..], &pem[..100], &pem.replace("ENCRYPTED ", "")] {
            let refused = Es256Key::from_encrypted_pem(text, "a passphrase").err();
            assert_eq!(refused, Some(SigningKeyError::NotP256Pem), "{text}");
        }
        let (_, document) = SecretDocument::from_pem(&pem).unwrap();
        let whole = document.as_bytes().len();
        // The salt, the start of the ciphertext, its middle, and its last block.
        for at in [40, whole - 140, whole - 80, whole - 20, whole - 1] {
            let mut altered = document.as_bytes().to_vec();
            altered[at] ^= 0x10;
            let altered = SecretDocument::try_from(altered.as_slice()).unwrap();
            let altered = altered.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF).unwrap();
            let refused = Es256Key::from_encrypted_pem(&altered, "a passphrase").err();
            assert_eq!(refused, Some(SigningKeyError::Passphrase), "byte {at}");
        }
    }

    #[test]
    fn a_public_key_survives_its_pem_and_a_private_one_is_no_public_one() {
        let key = Es256Key::generate();
        let pem = es256_public_pem(&key.public()).unwrap();
        assert_eq!(es256_public_from_pem(&pem), Ok(key.public()));
        for text in ["", "key", &pem[1..], &pem[..100], &key.to_pem()] {
            assert_eq!(es256_public_from_pem(text), Err(SigningKeyError::NotP256PublicPem), "{text}");
        }
        assert_eq!(es256_public_pem(&[7; 64]), Err(SigningKeyError::NotP256PublicPem));
    }

    #[test]
    fn a_signature_survives_its_der_and_nothing_else_is_one() {
        let signature = Es256Key::generate().sign(&sha256(b"message"));
        let der = es256_signature_to_der(&signature).unwrap();
        assert_eq!(es256_signature_from_der(&der), Some(signature));
        assert_eq!(es256_signature_from_der(&signature), None);
        assert_eq!(es256_signature_from_der(&[&der[..], &[0]].concat()), None);
        assert_eq!(es256_signature_to_der(&[0; 64]), None);
        assert_eq!(es256_signature_to_der(&signature[1..]), None);
    }

    #[test]
    fn the_der_of_a_signature_holds_the_same_numbers() {
        let key = Es256Key::generate();
        let digest = sha256(b"message");
        let der = p256::ecdsa::Signature::from_der(&key.sign_der(&digest)).unwrap();
        assert_eq!(der.to_bytes().as_slice(), key.sign(&digest));
    }
}
