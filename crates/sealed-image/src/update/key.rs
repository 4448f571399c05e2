//! The update key: what updates of one product are sealed under.

#[cfg(feature = "host")]
use crate::cbor;
use crate::cbor::{Decode, Reader, parse_exact};
use boot_crypto::{Key, update_sealing_key};

/// What a secret object begins with that holds an update key: an array of three, the first of which says what it is for.
const PURPOSE: &[u8] = b"\x83\x6Fkiln update key";

/// A product's update key, with the name of the product: the payload of a secret object, by which a device knows both.
pub struct UpdateKey<'a> {
    /// The product.
    pub product: &'a str,
    key: &'a [u8; 32],
}

impl<'a> UpdateKey<'a> {
    /// Reads an update key from the payload of a secret object; `None` if it is another secret.
    pub fn parse(secret: &'a [u8]) -> Option<Self> {
        parse_exact(secret).ok()
    }

    /// Makes a key the update key of a product; `None` if no product has such a name: 1 to 32 of `a-z`, `0-9`, `-`.
    #[cfg(feature = "host")]
    pub fn new(product: &'a str, key: &'a Key) -> Option<Self> {
        cbor::is_name(product).then(|| Self { product, key: key.expose() })
    }

    /// Writes it as the payload of a secret object; wiped when dropped.
    #[cfg(feature = "host")]
    pub fn encode(&self) -> zeroize::Zeroizing<std::vec::Vec<u8>> {
        let product = cbor::encode(|e| e.str(self.product)?.ok());
        let parts: [&[u8]; 4] = [PURPOSE, &product, &[0x58, 32], self.key];
        // As long as it gets, so that no copy is left behind where it grew.
        let mut secret = std::vec::Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        parts.into_iter().for_each(|part| secret.extend_from_slice(part));
        zeroize::Zeroizing::new(secret)
    }

    /// Returns the key that the images of an update are sealed under.
    pub fn sealing_key(&self) -> Key {
        update_sealing_key(&Key::new(*self.key), self.product)
    }

    /// Copies the key itself.
    #[cfg(feature = "host")]
    pub fn key(&self) -> Key {
        Key::new(*self.key)
    }
}

impl core::fmt::Debug for UpdateKey<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("UpdateKey").field("product", &self.product).finish_non_exhaustive()
    }
}

impl<'b> Decode<'b> for UpdateKey<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.literal(PURPOSE)?;
        Some(Self { product: r.name()?, key: r.fixed()? })
    }
}
