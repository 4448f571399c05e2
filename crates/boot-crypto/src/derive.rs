//! HKDF-SHA256 (RFC 5869) and the keys of a die.

use crate::hmac::HmacSha256;
use crate::{DIGEST_BYTES, Digest, EcKey, Key, Sha256, labels, sha256};
use hkdf::GenericHkdfExtract;
use zeroize::Zeroize;

/// Derives bytes from input key material, a salt and the concatenation of `info`; at most 8160.
pub fn hkdf_sha256<const N: usize>(salt: &[u8], ikm: &[u8], info: &[&[u8]], okm: &mut [u8; N]) {
    const { assert!(N <= 255 * DIGEST_BYTES, "RFC 5869 section 2.3 bounds the output") };
    hkdf(salt, ikm, info, okm);
}

#[inline(never)]
fn hkdf(salt: &[u8], ikm: &[u8], info: &[&[u8]], okm: &mut [u8]) {
    let mut extract = GenericHkdfExtract::<HmacSha256>::new(Some(salt));
    extract.input_ikm(ikm);
    let (mut pseudorandom_key, expand) = extract.finalize();
    pseudorandom_key.as_mut_slice().zeroize();
    okm.zeroize();
    // Fails for a longer output only, which the assertion above excludes.
    let _ = expand.expand_multi_info(info, okm);
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

/// Derives the key of a die, which signs stage0's statements and which nothing after stage0 can reach. The silicon
/// vendor certifies its public half.
pub fn die_key(silicon_secret: &Key) -> EcKey {
    EcKey::derive(silicon_secret, &[], labels::DIE_KEY)
}

/// Derives the secret of a stage (a DICE compound device identifier): another stage, lifecycle or die gets another.
/// `lifecycle` is the codeword; a die that is closing counts as `Secured` still, so that a stage which resumes after
/// a power cut finds the secret it had.
pub fn stage_secret(silicon_secret: &Key, measurement: &Digest, lifecycle: u32) -> Key {
    derive_key(measurement, silicon_secret, &[labels::STAGE_SECRET, &lifecycle.to_le_bytes()])
}

/// Derives the key that the provisioning stage signs with. stage0 certifies its public half in a statement.
pub fn alias_key(stage_secret: &Key) -> EcKey {
    EcKey::derive(stage_secret, &[], labels::ALIAS_KEY)
}

/// Derives the key of the provisioning journal's sealed entries.
pub fn journal_key(stage_secret: &Key) -> Key {
    derive_key(&[], stage_secret, &[labels::JOURNAL])
}

/// Derives the key of one sealed entry of the journal; `salt` is the entry's own, 256 fresh random bits, so that the
/// key is used once.
pub fn journal_entry_key(journal_key: &Key, salt: &[u8; 32]) -> Key {
    derive_key(salt, journal_key, &[labels::JOURNAL_ENTRY])
}

/// Derives the salt of one sealed entry of the journal from a random draw and from what the entry holds. A draw that
/// comes again, because the entropy source is known and power was cut, then gives the same salt for the same content
/// only.
pub fn journal_entry_salt(journal_key: &Key, draw: &Key, content: &Digest) -> [u8; 32] {
    *derive_key(draw.expose(), journal_key, &[labels::JOURNAL_SALT, content]).expose()
}

/// Derives the key that agrees with the authority's on the ticket key. `seed` is in the journal before the public
/// half is sent, so that a power cut strands nobody.
pub fn ephemeral_key(stage_secret: &Key, seed: &[u8; 32]) -> EcKey {
    EcKey::derive(stage_secret, seed, labels::EPHEMERAL_KEY)
}

/// Derives the secret that the provisioning stage's random values depend on, beside the entropy source.
pub fn drbg_secret(stage_secret: &Key) -> Key {
    derive_key(&[], stage_secret, &[labels::DRBG_SECRET])
}

/// Derives the key that encrypts a ticket's secrets, from what both sides agreed on and the request that was answered.
pub fn ticket_key(shared: &Key, request_digest: &Digest) -> Key {
    derive_key(request_digest, shared, &[labels::TICKET])
}

/// Derives the device identity: the key of the certificate request.
pub fn identity_key(device_root: &Key, chip_id: &[u8]) -> EcKey {
    EcKey::derive(device_root, chip_id, labels::IDENTITY_KEY)
}

/// Digests a secret fuse row, so that it can be compared without being told.
pub fn fuse_tag(row: u8, key: &Key) -> Digest {
    let mut hash = Sha256::new();
    hash.update(labels::FUSE_TAG);
    hash.update(&[row]);
    hash.update(key.expose());
    hash.finish()
}

/// Digests what a closed device proves: which install closed it, and the identity (x followed by y) that its fuses give
/// it. A device that was set back to another seed after its certificate request proves another digest.
pub fn closing_digest(install: &[u8; 32], identity: &[u8; 64]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(labels::CLOSING);
    hash.update(install);
    hash.update(identity);
    hash.finish()
}

/// Derives the device root, which needs both the silicon vendor's secret and the seed born on the device.
pub fn device_root(die_secret: &Key, device_seed: &Key) -> Key {
    derive_key(device_seed.expose(), die_secret, &[labels::DEVICE_ROOT])
}

/// Derives a storage key: `label` is [`labels::STORAGE_BOOT`], [`labels::STORAGE_OS`] or
/// [`labels::STORAGE_SECRET`], `generation` counts the owners that the die has had.
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

/// Derives the key of the sealings of a product's updates. It is no key of any other place: an update key that is used as a
/// content key as well, or for two products, gives each its own.
pub fn update_sealing_key(update_key: &Key, product: &str) -> Key {
    derive_key(&[], update_key, &[labels::UPDATE_SEALING, product.as_bytes()])
}

/// Derives salt and data key of a sealing that the device makes itself, from a random draw, the manifest and the place
/// where the copy goes. A draw that comes again, because the entropy source is known and power was cut, then gives the
/// same key for the same plaintext in the same place only: no nonce is ever used for a second one.
pub fn fresh_sealing(draw: &Key, manifest: &Digest, place: u64) -> ([u8; 32], Key) {
    let mut both = [0; 64];
    let info: [&[u8]; 2] = [labels::FRESH_SEALING, &place.to_le_bytes()];
    hkdf_sha256(manifest, draw.expose(), &info, &mut both);
    let (mut salt, mut data_key) = ([0; 32], Key::new([0; 32]));
    salt.iter_mut().chain(data_key.expose_mut()).zip(&both).for_each(|(to, from)| *to = *from);
    both.zeroize();
    (salt, data_key)
}

/// Derives the operating system's random seed from the device's own secret and this boot's entropy. `counter`
/// tells several seeds of one boot apart. Knowing either input alone tells nothing about the seed.
pub fn rng_seed(secret: &Key, entropy: &[u8], counter: u64, seed: &mut [u8; 64]) {
    let info: [&[u8]; 2] = [labels::RNG_SEED, &counter.to_le_bytes()];
    hkdf_sha256(&sha256(entropy), secret.expose(), &info, seed);
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
            *storage_key(&root, labels::STORAGE_SECRET, &chip, 0).expose(),
            *rng_secret(&root, &chip).expose(),
            *stage_secret(&silicon, &[9; 32], 1).expose(),
            *stage_secret(&silicon, &[10; 32], 1).expose(),
            *stage_secret(&silicon, &[9; 32], 2).expose(),
            *stage_secret(&seed, &[9; 32], 1).expose(),
            *journal_key(&root).expose(),
            *journal_entry_key(&root, &[7; 32]).expose(),
            *journal_entry_key(&root, &[8; 32]).expose(),
            journal_entry_salt(&root, &seed, &[7; 32]),
            journal_entry_salt(&root, &seed, &[8; 32]),
            journal_entry_salt(&root, &die, &[7; 32]),
            *drbg_secret(&root).expose(),
            *ticket_key(&root, &[7; 32]).expose(),
            *ticket_key(&root, &[8; 32]).expose(),
            fuse_tag(9, &root),
            fuse_tag(10, &root),
            closing_digest(&[1; 32], &[2; 64]),
            closing_digest(&[2; 32], &[2; 64]),
            closing_digest(&[1; 32], &[3; 64]),
            *wrap_key(&root, &[7; 32]).expose(),
            *wrap_key(&root, &[8; 32]).expose(),
            *update_sealing_key(&root, "demo").expose(),
            *update_sealing_key(&root, "demo-2").expose(),
            *update_sealing_key(&seed, "demo").expose(),
        ];
        for (i, a) in keys.iter().enumerate() {
            assert!(keys.iter().skip(i + 1).all(|b| a != b), "{i}");
        }
    }

    #[test]
    fn a_sealing_of_the_device_depends_on_draw_manifest_and_place() {
        let (a, b) = (Key::new([1; 32]), Key::new([2; 32]));
        let sealings = [
            fresh_sealing(&a, &[3; 32], 0),
            fresh_sealing(&b, &[3; 32], 0),
            fresh_sealing(&a, &[4; 32], 0),
            fresh_sealing(&a, &[3; 32], 1),
        ];
        let values: [[u8; 32]; 8] =
            core::array::from_fn(|i| if i < 4 { sealings[i].0 } else { *sealings[i - 4].1.expose() });
        for (i, x) in values.iter().enumerate() {
            assert!(values.iter().skip(i + 1).all(|y| x != y), "{i}");
        }
        assert_eq!(fresh_sealing(&a, &[3; 32], 0).0, values[0]);
    }

    #[test]
    fn every_input_changes_every_key_pair() {
        let (a, b) = (Key::new([1; 32]), Key::new([2; 32]));
        let pairs = [
            die_key(&a),
            die_key(&b),
            alias_key(&a),
            alias_key(&b),
            ephemeral_key(&a, &[3; 32]),
            ephemeral_key(&a, &[4; 32]),
            ephemeral_key(&b, &[3; 32]),
            identity_key(&a, &[3; 16]),
            identity_key(&a, &[4; 16]),
            identity_key(&b, &[3; 16]),
        ];
        let public: [[u8; 64]; 10] = pairs.map(|pair| pair.public());
        for (i, x) in public.iter().enumerate() {
            assert!(public.iter().skip(i + 1).all(|y| x != y), "{i}");
        }
    }

    #[test]
    fn seeds_depend_on_secret_entropy_and_counter() {
        let (a, b) = (Key::new([1; 32]), Key::new([2; 32]));
        let seeds = [(&a, b"entropy", 0), (&b, b"entropy", 0), (&a, b"entropz", 0), (&a, b"entropy", 1)].map(
            |(secret, entropy, counter)| {
                let mut seed = [0; 64];
                rng_seed(secret, entropy, counter, &mut seed);
                seed
            },
        );
        for (i, x) in seeds.iter().enumerate() {
            assert!(seeds.iter().skip(i + 1).all(|y| x != y), "{i}");
        }
        assert_ne!(kaslr_seed(&a, b"entropy", 0), kaslr_seed(&b, b"entropy", 0));
        assert!(!seeds[0].windows(8).any(|w| w == kaslr_seed(&a, b"entropy", 0).to_le_bytes()));
    }
}
