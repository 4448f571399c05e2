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

    /// Decrypts `data` in place, after its tag was found right, and puts the SHA-256 of the plaintext into `digest`.
    ///
    /// This is the hot loop of a boot. Tag, decryption and digest are three passes over what is at most a
    /// chunk, so the second and third find it in the cache. The digest goes to where the caller has it, and not through the result:
    /// a fault that hides a failure does not make the digest of an earlier chunk pass for this one's.
    ///
    /// # Errors
    /// [`TagMismatch`]: nothing was decrypted, and `digest` is as it was.
    #[inline(never)]
    pub fn open_and_digest(
        &self,
        nonce: &[u8; 12],
        aad: &[u8],
        data: &mut [u8],
        tag: &[u8; AES_GCM_TAG_BYTES],
        digest: &mut Digest,
    ) -> Result<(), TagMismatch> {
        self.open(nonce, aad, data, tag)?;
        *digest = sha256(data);
        Ok(())
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

        let mut digest = [0x77; 32];
        let mut open = |nonce: u8, aad: &[u8], data: &mut [u8], tag: &[u8; 16]| {
            let opened = key.open_and_digest(&[nonce; 12], aad, data, tag, &mut digest);
            (opened, digest)
        };
        for wrong in 0..128 {
            let mut bad = tag;
            bad[wrong / 8] ^= 1 << (wrong % 8);
            assert_eq!(open(1, b"aad", &mut data, &bad), (Err(TagMismatch), [0x77; 32]));
            assert_eq!(data, stored);
        }
        assert_eq!(open(2, b"aad", &mut data, &tag).0, Err(TagMismatch));
        assert_eq!(open(1, b"aae", &mut data, &tag).0, Err(TagMismatch));
        assert_eq!(data, stored);

        assert_eq!(open(1, b"aad", &mut data, &tag), (Ok(()), sha256(&plain)));
        assert_eq!(data, plain);
    }
}
