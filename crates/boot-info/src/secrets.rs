//! Secrets that a stage hands to the next.

use zeroize::{Zeroize, ZeroizeOnDrop};

const MAGIC: [u8; 8] = *b"KILNSECR";

/// Secrets for stage2, derived by stage0 from the die's root. Wiped when dropped; no `Debug`.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Secrets {
    /// The key under which the data keys of OS objects are wrapped.
    pub os_storage_key: [u8; 32],
    /// A secret that joins every random value made later, since the entropy source may be another's.
    pub rng_secret: [u8; 32],
}

impl Secrets {
    /// Length of the encoded form in bytes.
    pub const SIZE: usize = 72;

    /// Writes the encoded form to the start of `page`; false if it does not fit.
    #[must_use]
    pub fn write(&self, page: &mut [u8]) -> bool {
        let Some((place, _)) = page.split_first_chunk_mut::<{ Self::SIZE }>() else { return false };
        let all = MAGIC.iter().chain(&self.os_storage_key).chain(&self.rng_secret);
        place.iter_mut().zip(all).for_each(|(to, from)| *to = *from);
        true
    }

    /// Reads the encoded form from the start of `page` and wipes the whole page; `None` if the page holds none.
    pub fn take(page: &mut [u8]) -> Option<Self> {
        let mut secrets = Self { os_storage_key: [0; 32], rng_secret: [0; 32] };
        let found = page.starts_with(&MAGIC);
        let from = page.iter().skip(MAGIC.len());
        let into = secrets.os_storage_key.iter_mut().chain(&mut secrets.rng_secret);
        into.zip(from).for_each(|(to, from)| *to = *from);
        page.zeroize();
        found.then_some(secrets)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_taken_once_and_the_page_is_wiped() {
        let mut page = [0xAA; 128];
        assert!(Secrets { os_storage_key: [1; 32], rng_secret: [2; 32] }.write(&mut page));
        let taken = Secrets::take(&mut page).unwrap();
        assert_eq!((taken.os_storage_key, taken.rng_secret), ([1; 32], [2; 32]));
        assert_eq!(page, [0; 128]);
        assert!(Secrets::take(&mut page).is_none());
    }

    #[test]
    fn a_page_that_is_too_small_is_refused() {
        assert!(!Secrets { os_storage_key: [1; 32], rng_secret: [2; 32] }.write(&mut [0; 71]));
    }
}
