//! Signing, sealing to public keys, and random bytes for hosts. Firmware never signs with these keys and links none of this.

mod ps256;

use crate::Digest;
use core::fmt;

pub use crate::hpke::{ENCAPSULATED_KEY_BYTES, SealingKey, seal_to};
pub use crate::locked::{lock, unlock};
pub use crate::memo::remembering;
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use p256::elliptic_curve::sec1::{FromSec1Point as _, ToSec1Point as _};
use pkcs8::der::SecretDocument;
use pkcs8::der::pem::{PemLabel as _, decode_label};
use pkcs8::{
    DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _,
    EncryptedPrivateKeyInfoRef, LineEnding, ObjectIdentifier, PrivateKeyInfoRef,
};
pub use ps256::{Ps256Key, ps256_public_from_pem, ps256_public_pem};
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
    /// An encrypted key opens, and is of another kind.
    OtherKind,
    /// The text is no P-256 public key in PEM.
    NotP256PublicPem,
    /// The text is no PKCS#8 RSA private key in PEM.
    NotRsaPem,
    /// The text is no RSA public key in PEM.
    NotRsaPublicPem,
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
                "no private key comes out with this passphrase: it is another one, or the file was altered",
            ),
            Self::OtherKind => f.write_str("the key in the file is none of the kind that is wanted here"),
            Self::NotP256PublicPem => {
                f.write_str("the text is no P-256 public key in PEM (`-----BEGIN PUBLIC KEY-----`)")
            }
            Self::NotRsaPem => f.write_str("the text is no RSA private key in PKCS#8 PEM"),
            Self::NotRsaPublicPem => {
                f.write_str("the text is no RSA public key in PEM (`-----BEGIN PUBLIC KEY-----`)")
            }
            Self::RsaParameters { modulus_bits } => write!(
                f,
                "RSA keys have 3072 or 4096 bits and the public exponent 65537; this one has {modulus_bits} bits"
            ),
        }
    }
}

impl core::error::Error for SigningKeyError {}

/// Tells whether a key lies encrypted in a text: PKCS#8 (RFC 5958, section 3) in PEM.
pub fn is_encrypted(pem: &str) -> bool {
    decode_label(pem.as_bytes()) == Ok(EncryptedPrivateKeyInfoRef::PEM_LABEL)
}

/// Decrypts a private key: PKCS#8 in DER, wiped when dropped.
fn decrypt(pem: &str, passphrase: &str) -> Result<SecretDocument, SigningKeyError> {
    let (label, document) = SecretDocument::from_pem(pem).map_err(|_| SigningKeyError::NotP256Pem)?;
    let sealed = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes());
    let sealed = sealed.ok().filter(|_| label == EncryptedPrivateKeyInfoRef::PEM_LABEL);
    let opened = sealed.ok_or(SigningKeyError::NotP256Pem)?.decrypt(passphrase);
    let opened = opened.ok().filter(|opened| PrivateKeyInfoRef::try_from(opened.as_bytes()).is_ok());
    // What a wrong passphrase leaves may have the padding of AES-CBC by chance, and is no PKCS#8 then.
    opened.ok_or(SigningKeyError::Passphrase)
}

/// Elliptic curve keys (RFC 5480, 2.1.1) and RSA keys (RFC 8017, A.1), as PKCS#8 names them.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");

/// Says why no key of the wanted kind comes out of what was decrypted.
fn refusal(opened: &SecretDocument, wanted: ObjectIdentifier) -> SigningKeyError {
    let kind = PrivateKeyInfoRef::try_from(opened.as_bytes()).ok().map(|key| key.algorithm.oid);
    let other = kind.is_some_and(|kind| kind != wanted && [EC, RSA].contains(&kind));
    if other { SigningKeyError::OtherKind } else { SigningKeyError::Passphrase }
}

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

    /// Reads a key from encrypted PKCS#8 PEM, as `openssl pkcs8 -topk8` writes it: PBES2 (RFC 8018) with scrypt or PBKDF2.
    ///
    /// # Errors
    /// Text that is none, and a passphrase that does not open it.
    pub fn from_encrypted_pem(pem: &str, passphrase: &str) -> Result<Self, SigningKeyError> {
        let opened = decrypt(pem, passphrase)?;
        let key = p256::ecdsa::SigningKey::from_pkcs8_der(opened.as_bytes());
        key.map(Self).map_err(|_| refusal(&opened, EC))
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
        assert!(is_encrypted(&pem) && !is_encrypted(&key.to_pem()));
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
