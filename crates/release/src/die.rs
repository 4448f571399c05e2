//! The keys that a die derives for its own storage.

use crate::{Error, Profile};
use boot_crypto::{Key, device_root, die_secret, labels, sha256, storage_key};

/// A die whose secrets are known: a development die, or one in a test.
pub struct DieSecrets {
    root: Key,
    chip_id: [u8; 16],
    generation: u32,
}

impl DieSecrets {
    /// Derives the device root as stage0 does. `generation` counts the owners that the die has had.
    ///
    /// # Errors
    /// A published secret in the production profile.
    pub fn new(
        profile: Profile,
        silicon_secret: &[u8; 32],
        device_seed: &[u8; 32],
        chip_id: [u8; 16],
        generation: u32,
    ) -> Result<Self, Error> {
        profile.admit(&sha256(silicon_secret), "the silicon secret")?;
        profile.admit(&sha256(device_seed), "the device seed")?;
        let root = device_root(&die_secret(&Key::new(*silicon_secret)), &Key::new(*device_seed));
        Ok(Self { root, chip_id, generation })
    }

    /// Returns the key that the boot slots are sealed under.
    pub fn boot_key(&self) -> Key {
        storage_key(&self.root, labels::STORAGE_BOOT, &self.chip_id, self.generation)
    }

    /// Returns the key that the OS slots are sealed under.
    pub fn os_key(&self) -> Key {
        storage_key(&self.root, labels::STORAGE_OS, &self.chip_id, self.generation)
    }
}
