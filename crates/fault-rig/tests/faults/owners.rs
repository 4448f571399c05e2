//! Owners, and who would like to be one.

use boot_crypto::host::Es256Key;
use release::Owner;
use sealed_image::PublicKey;
use sealed_image::host::{Signer, SignerError};
use tests::{Maker, fresh_key};

/// A signer that has somebody's public key, and not the private one.
pub(crate) struct Forger {
    public: [u8; 64],
    own: Es256Key,
}

impl Forger {
    pub(crate) fn of(public: [u8; 64]) -> Self {
        Self { public, own: fresh_key() }
    }
}

impl Signer for Forger {
    fn public_key(&self) -> PublicKey<'_> {
        PublicKey::P256(self.public)
    }

    fn sign(&self, digest: &[u8; 32]) -> Result<Vec<u8>, SignerError> {
        Signer::sign(&self.own, digest)
    }
}

/// The same die, in the hands of somebody who signs as `owner`.
pub(crate) fn die_of(maker: &Maker, owner: Owner) -> Maker {
    let other = Maker::new(owner, maker.lifecycle, maker.die.silicon_secret, maker.die.device_seed);
    other.with_chip_id(maker.die.chip_id)
}
