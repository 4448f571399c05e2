//! The keys that a device is born with.

use boot_crypto::{EcKey, Key, device_root, identity_key, labels, storage_key};

/// Number of owners before the first.
const FIRST_OWNER: u32 = 0;

/// What follows from the device seed. Wiped when dropped.
pub(crate) struct DeviceKeys {
    /// The seed itself, for the fuses.
    pub(crate) seed: Key,
    /// Wraps the data keys of boot slots.
    pub(crate) boot: Key,
    /// Wraps the data keys of OS slots.
    pub(crate) os: Key,
    /// Wraps the data keys of secret objects.
    pub(crate) secret: Key,
    /// The device's identity.
    pub(crate) identity: EcKey,
}

impl DeviceKeys {
    /// Derives them, as stage0 will from the burned seed.
    pub(crate) fn new(die_secret: &Key, seed: Key, chip_id: &[u8; 16]) -> Self {
        let root = device_root(die_secret, &seed);
        let storage = |label| storage_key(&root, label, chip_id, FIRST_OWNER);
        Self {
            boot: storage(labels::STORAGE_BOOT),
            os: storage(labels::STORAGE_OS),
            secret: storage(labels::STORAGE_SECRET),
            identity: identity_key(&root, chip_id),
            seed,
        }
    }
}
