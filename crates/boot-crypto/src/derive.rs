//! HKDF-SHA256 (RFC 5869) and the keys of a die.

use crate::{Key, labels, sha256};
use zeroize::Zeroize;

/// Derives `N` bytes, at most 8160, from input key material, a salt and the concatenation of `info`.
#[inline(never)]
pub fn hkdf_sha256<const N: usize>(salt: &[u8], ikm: &[u8], info: &[&[u8]], okm: &mut [u8; N]) {
    const { assert!(N <= 255 * 32, "RFC 5869 section 2.3 bounds the output") };
    okm.zeroize();
    let hkdf = hkdf::Hkdf::<sha2::Sha256>::new(Some(salt), ikm);
    // Fails for a longer output only, which the assertion above excludes.
    let _ = hkdf.expand_multi_info(info, okm);
}

fn derive_key(salt: &[u8], ikm: &Key, info: &[&[u8]]) -> Key {
    let mut key = Key::new([0; 32]);
    hkdf_sha256(salt, ikm.expose(), info, key.expose_mut());
    key
}

/// Derives the die secret, which hides the silicon secret from all that comes after stage0.
pub fn die_secret(silicon_secret: &Key) -> Key {
    derive_key(&[], silicon_secret, &[labels::DIE_SECRET])
}

/// Derives the device root, which needs both the silicon vendor's secret and the seed born on the device.
pub fn device_root(die_secret: &Key, device_seed: &Key) -> Key {
    derive_key(device_seed.expose(), die_secret, &[labels::DEVICE_ROOT])
}

/// Derives a storage key: `label` is [`labels::STORAGE_BOOT`] or [`labels::STORAGE_OS`], `generation` counts
/// the owners that the die has had.
pub fn storage_key(device_root: &Key, label: &[u8], chip_id: &[u8], generation: u32) -> Key {
    derive_key(chip_id, device_root, &[label, &generation.to_le_bytes()])
}

/// Derives the secret that random values depend on beside the entropy source, which an adversary may own.
pub fn rng_secret(device_root: &Key, chip_id: &[u8]) -> Key {
    derive_key(chip_id, device_root, &[labels::RNG_SECRET])
}

/// Derives the key that wraps the data key of one sealing; `salt` is the sealing's own, 256 fresh random
/// bits.
pub fn wrap_key(key_encryption_key: &Key, salt: &[u8; 32]) -> Key {
    derive_key(salt, key_encryption_key, &[labels::WRAP])
}

/// Derives the operating system's random seed from the device's own secret and this boot's entropy. `counter`
/// tells several seeds of one boot apart. Knowing either input alone tells nothing about the seed.
pub fn rng_seed(secret: &Key, entropy: &[u8], counter: u64) -> [u8; 64] {
    let mut seed = [0; 64];
    let info: [&[u8]; 2] = [labels::RNG_SEED, &counter.to_le_bytes()];
    hkdf_sha256(&sha256(entropy), secret.expose(), &info, &mut seed);
    seed
}

/// Derives the operating system's address-space seed from the same inputs as [`rng_seed`], independent of it.
pub fn kaslr_seed(secret: &Key, entropy: &[u8], counter: u64) -> u64 {
    let mut seed = [0; 8];
    let info: [&[u8]; 2] = [labels::KASLR_SEED, &counter.to_le_bytes()];
    hkdf_sha256(&sha256(entropy), secret.expose(), &info, &mut seed);
    u64::from_le_bytes(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_changes_every_key() {
        let silicon = Key::new([1; 32]);
        let seed = Key::new([2; 32]);
        let die = die_secret(&silicon);
        let root = device_root(&die, &seed);
        let chip = [3; 16];
        let keys = [
            *die.expose(),
            *root.expose(),
            *device_root(&die, &Key::new([4; 32])).expose(),
            *device_root(&die_secret(&Key::new([5; 32])), &seed).expose(),
            *storage_key(&root, labels::STORAGE_BOOT, &chip, 0).expose(),
            *storage_key(&root, labels::STORAGE_BOOT, &chip, 1).expose(),
            *storage_key(&root, labels::STORAGE_BOOT, &[6; 16], 0).expose(),
            *storage_key(&root, labels::STORAGE_OS, &chip, 0).expose(),
            *rng_secret(&root, &chip).expose(),
            *wrap_key(&root, &[7; 32]).expose(),
            *wrap_key(&root, &[8; 32]).expose(),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|b| a != b), "{i}");
        }
    }

    #[test]
    fn seeds_depend_on_secret_entropy_and_counter() {
        let (a, b) = (Key::new([1; 32]), Key::new([2; 32]));
        let seeds = [
            rng_seed(&a, b"entropy", 0),
            rng_seed(&b, b"entropy", 0),
            rng_seed(&a, b"entropz", 0),
            rng_seed(&a, b"entropy", 1),
        ];
        for (i, x) in seeds.iter().enumerate() {
            assert!(seeds.iter().skip(i + 1).all(|y| x != y), "{i}");
        }
        assert_ne!(kaslr_seed(&a, b"entropy", 0), kaslr_seed(&b, b"entropy", 0));
        assert!(!seeds[0].windows(8).any(|w| w == kaslr_seed(&a, b"entropy", 0).to_le_bytes()));
    }
}
