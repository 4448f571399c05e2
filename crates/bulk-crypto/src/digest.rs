//! SHA-256 (FIPS 180-4).

use sha2::Digest as _;

/// Length of a SHA-256 digest.
pub const DIGEST_BYTES: usize = 32;

/// A SHA-256 digest.
pub type Digest = [u8; DIGEST_BYTES];

/// Hashes a message that comes in pieces.
#[derive(Clone)]
pub struct Sha256(sha2::Sha256);

impl Sha256 {
    /// Starts with the empty message.
    pub fn new() -> Self {
        Self(sha2::Sha256::new())
    }

    /// Appends bytes to the message.
    #[inline(never)]
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the digest of all that was appended.
    #[inline(never)]
    pub fn finish(self) -> Digest {
        self.0.finalize().into()
    }
}

impl Default for Sha256 {
    fn default() -> Self {
        Self::new()
    }
}

/// Hashes one message.
#[inline(never)]
pub fn sha256(bytes: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finish()
}
