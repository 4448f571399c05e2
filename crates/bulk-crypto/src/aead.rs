//! AES-256-GCM (NIST SP 800-38D) with 96-bit nonces and full tags, in place.

use crate::{Digest, Key, sha256};
use aes_gcm::aead::AeadInOut;
use aes_gcm::{Aes256Gcm, KeyInit};

/// Length of an authentication tag.
pub const AES_GCM_TAG_BYTES: usize = 16;

/// A tag does not authenticate its ciphertext, associated data and nonce; the data was left as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagMismatch;

/// A prepared AES-256-GCM key: its schedule is made once, used from any core, and wiped when dropped.
pub struct GcmKey(Aes256Gcm);

impl GcmKey {
    /// Prepares a key.
    #[inline(never)]
    pub fn new(key: &Key) -> Self {
        Self(Aes256Gcm::new(key.expose().into()))
    }

    /// Decrypts `data` in place, after its tag was found right.
    ///
    /// # Errors
    /// [`TagMismatch`]: nothing was decrypted.
    #[inline(never)]
    pub fn open(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8; AES_GCM_TAG_BYTES],
    ) -> Result<(), TagMismatch> {
        self.0.decrypt_inout_detached(nonce.into(), aad, data.into(), tag.into()).map_err(|_| TagMismatch)
    }

    /// Decrypts `data` in place, after its tag was found right, and returns the SHA-256 of the plaintext.
    ///
    /// This is the hot loop of a boot. Tag, decryption and digest are three passes over what is at most a
    /// chunk, so the second and third find it in the cache.
    ///
    /// # Errors
    /// [`TagMismatch`]: nothing was decrypted.
    #[inline(never)]
    pub fn open_and_digest(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8; AES_GCM_TAG_BYTES],
    ) -> Result<Digest, TagMismatch> {
        self.open(nonce, aad, data, tag)?;
        Ok(sha256(data))
    }

    /// Encrypts `data` in place and returns its tag; `None` beyond 64 GiB, where nothing was encrypted. A
    /// nonce is used once for each key.
    #[inline(never)]
    pub fn seal(&self, nonce: &[u8; 12], aad: &[u8], data: &mut [u8]) -> Option<[u8; AES_GCM_TAG_BYTES]> {
        self.0.encrypt_inout_detached(nonce.into(), aad, data.into()).ok().map(Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_and_digest_returns_the_plaintexts_digest_or_touches_nothing() {
        let key = GcmKey::new(&Key::new([7; 32]));
        let plain = [0xA5; 1000];
        let mut data = plain;
        let tag = key.seal(&[1; 12], b"aad", &mut data).unwrap();
        let stored = data;
        assert_ne!(stored, plain);

        for wrong in 0..128 {
            let mut bad = tag;
            bad[wrong / 8] ^= 1 << (wrong % 8);
            assert_eq!(key.open_and_digest(&[1; 12], b"aad", &mut data, &bad), Err(TagMismatch));
            assert_eq!(data, stored);
        }
        assert_eq!(key.open_and_digest(&[2; 12], b"aad", &mut data, &tag), Err(TagMismatch));
        assert_eq!(key.open_and_digest(&[1; 12], b"aae", &mut data, &tag), Err(TagMismatch));
        assert_eq!(data, stored);

        assert_eq!(key.open_and_digest(&[1; 12], b"aad", &mut data, &tag), Ok(sha256(&plain)));
        assert_eq!(data, plain);
    }
}
