//! A few secret bytes under a passphrase, as the private keys of PKCS#8 lie: PBES2 (RFC 8018), for secrets that are none.

use pkcs8::der::Encode as _;
use pkcs8::der::asn1::OctetString;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::{EncryptedPrivateKeyInfoOwned, EncryptedPrivateKeyInfoRef};
use std::vec::Vec;
use zeroize::Zeroizing;

/// Encrypts a secret: scrypt (N = 2^14, r = 8, p = 1) and AES-256-CBC with fresh salts, in the DER of PKCS#8 (RFC 5958,
/// section 3). What comes out under a wrong passphrase is caught by the padding or by the secret's own form.
pub fn lock(secret: &[u8], passphrase: &str) -> Vec<u8> {
    let encryption_algorithm = EncryptionScheme::generate();
    let sealed =
        encryption_algorithm.encrypt(passphrase, secret).expect("the scheme is one of this library's");
    let encrypted_data = OctetString::new(sealed).expect("a secret is short");
    EncryptedPrivateKeyInfoOwned { encryption_algorithm, encrypted_data }
        .to_der()
        .expect("it has an encoding")
}

/// Decrypts what [`lock`] wrote; `None` for anything else, and with high probability under another passphrase.
pub fn unlock(untrusted: &[u8], passphrase: &str) -> Option<Zeroizing<Vec<u8>>> {
    let sealed = EncryptedPrivateKeyInfoRef::try_from(untrusted).ok()?;
    let opened = sealed.encryption_algorithm.decrypt(passphrase, sealed.encrypted_data.as_bytes());
    opened.ok().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_with_its_passphrase_and_is_not_seen_without_it() {
        let secret = b"thirty-two bytes of a secret key";
        let locked = lock(secret, "a passphrase");
        assert_eq!(**unlock(&locked, "a passphrase").unwrap(), secret[..]);
        assert!(!locked.windows(4).any(|window| secret.windows(4).any(|part| part == window)));
        for other in ["", "a passphras", "a passphrase ", "A passphrase"] {
            assert_ne!(unlock(&locked, other).as_deref().map(Vec::as_slice), Some(&secret[..]), "{other:?}");
        }
        assert_ne!(lock(secret, "a passphrase"), locked, "two files share a salt");
    }

    #[test]
    fn what_is_cut_off_or_something_else_does_not_open() {
        let locked = lock(b"a secret", "a passphrase");
        for length in 0..locked.len() {
            assert_eq!(unlock(&locked[..length], "a passphrase"), None, "{length}");
        }
        assert_eq!(unlock(&[&locked[..], &[0]].concat(), "a passphrase"), None);
        assert_eq!(unlock(b"a secret", "a passphrase"), None);
    }
}
