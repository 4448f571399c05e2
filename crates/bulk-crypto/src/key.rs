//! Secret keys.

use zeroize::Zeroize;

/// A 256-bit secret: wiped when dropped; not copied, compared or printed.
pub struct Key([u8; 32]);

impl Key {
    /// Takes over a secret. The caller wipes its own copy.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Copies a secret from a slice of 32 bytes; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Shows the secret, for the handoff to the next stage and for derivations outside this crate.
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// Shows the place of the secret, for derivations.
    pub const fn expose_mut(&mut self) -> &mut [u8; 32] {
        &mut self.0
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl core::fmt::Debug for Key {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Key(..)")
    }
}
