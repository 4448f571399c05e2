//! HMAC-SHA256 (FIPS 198-1).

use hmac::{KeyInit as _, Mac as _};
use zeroize::Zeroizing;

/// Authenticates a message that comes in pieces; wiped when dropped.
#[derive(Clone)]
pub(crate) struct HmacSha256(hmac::Hmac<sha2::Sha256>);

impl HmacSha256 {
    /// Starts with the empty message.
    #[inline(never)]
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; 64]);
        if key.len() > block.len() {
            block.iter_mut().zip(crate::sha256(key)).for_each(|(to, from)| *to = from);
        } else {
            block.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
        }
        Self(hmac::Hmac::new((&*block).into()))
    }

    /// Appends bytes to the message.
    #[inline(never)]
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// Returns the code of all that was appended.
    #[inline(never)]
    pub(crate) fn finish(self) -> [u8; 32] {
        self.0.finalize().into_bytes().into()
    }
}
