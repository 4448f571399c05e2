//! HMAC-SHA256 (FIPS 198-1).

use crate::{DIGEST_BYTES, Digest, Sha256, sha256};
use hkdf::HmacImpl;
use hkdf::hmac::digest::{Output, OutputSizeUser};
use zeroize::Zeroizing;

/// Block length of SHA-256 in bytes.
const BLOCK_BYTES: usize = 64;

/// Authenticates a message that comes in pieces; wiped when dropped.
#[derive(Clone)]
pub(crate) struct HmacSha256 {
    inner: Sha256,
    outer: Sha256,
}

impl HmacSha256 {
    /// Starts with the empty message.
    #[inline(never)]
    pub(crate) fn new(key: &[u8]) -> Self {
        let hashed: Zeroizing<Digest>;
        let key = if key.len() > BLOCK_BYTES {
            hashed = Zeroizing::new(sha256(key));
            &*hashed
        } else {
            key
        };
        Self { inner: keyed(key, 0x36), outer: keyed(key, 0x5C) }
    }

    /// Appends bytes to the message.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.inner.update(bytes);
    }

    /// Returns the code of all that was appended.
    #[inline(never)]
    pub(crate) fn finish(mut self) -> [u8; DIGEST_BYTES] {
        self.outer.update(&self.inner.finish());
        self.outer.finish()
    }
}

impl OutputSizeUser for HmacSha256 {
    type OutputSize = <sha2::Sha256 as OutputSizeUser>::OutputSize;
}

/// What HKDF is built on.
impl HmacImpl for HmacSha256 {
    fn new_from_slice(key: &[u8]) -> Self {
        Self::new(key)
    }

    fn update(&mut self, data: &[u8]) {
        self.update(data);
    }

    fn finalize(self) -> Output<Self> {
        self.finish().into()
    }
}

/// Starts a hash with the key, at most a block long, and the padding.
#[inline(never)]
fn keyed(key: &[u8], padding: u8) -> Sha256 {
    let mut block = Zeroizing::new([padding; BLOCK_BYTES]);
    block.iter_mut().zip(key).for_each(|(to, from)| *to ^= *from);
    let mut hash = Sha256::new();
    hash.update(&*block);
    hash
}
