//! Every derivation label, once. A label never changes and is never used for a second purpose.

/// Silicon secret → die secret.
pub const DIE_SECRET: &[u8] = b"kiln v1 die secret";
/// Silicon secret → die key, which signs stage0's statements.
pub const DIE_KEY: &[u8] = b"kiln v1 die key";
/// Silicon secret, measurement and lifecycle → stage secret.
pub const STAGE_SECRET: &[u8] = b"kiln v1 stage secret";
/// Stage secret → alias key, which signs the provisioning stage's messages.
pub const ALIAS_KEY: &[u8] = b"kiln v1 alias key";
/// Stage secret → key of the journal's sealed entries.
pub const JOURNAL: &[u8] = b"kiln v1 journal";
/// Journal key and an entry's salt → the key of the entry.
pub const JOURNAL_ENTRY: &[u8] = b"kiln v1 sealed journal entry";
/// Journal key, a random draw and the content of an entry → the salt of the entry.
pub const JOURNAL_SALT: &[u8] = b"kiln v1 salt of a journal entry";
/// Stage secret and a journalled seed → ephemeral key of a session.
pub const EPHEMERAL_KEY: &[u8] = b"kiln v1 ephemeral key";
/// Stage secret → the secret that the provisioning stage's random values depend on.
pub const DRBG_SECRET: &[u8] = b"kiln v1 drbg secret";
/// Agreed secret and request → key of a ticket's secrets.
pub const TICKET: &[u8] = b"kiln v1 ticket";
/// What stage0 signs over once a device is closed.
pub const CLOSING: &[u8] = b"kiln v1 closing";
/// Before a secret fuse row in its digest.
pub const FUSE_TAG: &[u8] = b"kiln v1 fuse tag";
/// Die secret and device seed → device root.
pub const DEVICE_ROOT: &[u8] = b"kiln v1 device root";
/// Device root → key of the boot slots' sealings; stage0 alone uses it.
pub const STORAGE_BOOT: &[u8] = b"kiln v1 storage boot";
/// Device root → key of the OS objects' sealings; stage2 uses it.
pub const STORAGE_OS: &[u8] = b"kiln v1 storage os";
/// Device root → key of the secret objects' sealings.
pub const STORAGE_SECRET: &[u8] = b"kiln v1 storage secret";
/// Device root → device identity key.
pub const IDENTITY_KEY: &[u8] = b"kiln v1 device identity";
/// Device root → the secret that stage2's random values depend on.
pub const RNG_SECRET: &[u8] = b"kiln v1 rng secret";
/// Key-encryption key and a sealing's salt → the key that wraps the sealing's data key.
pub const WRAP: &[u8] = b"kiln v1 sealing wrap";
/// A random draw, a manifest and a place → salt and data key of a sealing that the device makes.
pub const FRESH_SEALING: &[u8] = b"kiln v1 fresh sealing";
/// RNG secret and fresh entropy → `rng-seed` of the operating system.
pub const RNG_SEED: &[u8] = b"kiln v1 os rng-seed";
/// RNG secret and fresh entropy → `kaslr-seed` of the operating system.
pub const KASLR_SEED: &[u8] = b"kiln v1 os kaslr-seed";
/// Key-encryption key of an authority, a sealing's salt and its place → the key of the sealing.
pub const AUTHORITY_SEAL: &[u8] = b"kiln v1 authority seal";
/// Key-encryption key of an authority → its public id.
pub const AUTHORITY_KEK_ID: &[u8] = b"kiln v1 authority kek id";
/// What a content key is sealed to an authority for, before what is known of its package (`info` of HPKE).
pub const SEALED_CONTENT_KEY: &[u8] = b"kiln v1 sealed content key";
/// Update key and the name of its product → key of the sealings of that product's updates.
pub const UPDATE_SEALING: &[u8] = b"kiln v1 update sealing";
/// What a token wraps for a product's owner: the update key, in its file.
pub const UPDATE_KEY_FILE: &[u8] = b"kiln v1 update key file";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_is_a_prefix_of_another() {
        let all = [
            DIE_SECRET,
            DIE_KEY,
            STAGE_SECRET,
            ALIAS_KEY,
            JOURNAL,
            JOURNAL_ENTRY,
            JOURNAL_SALT,
            EPHEMERAL_KEY,
            DRBG_SECRET,
            TICKET,
            FUSE_TAG,
            DEVICE_ROOT,
            STORAGE_BOOT,
            STORAGE_OS,
            STORAGE_SECRET,
            IDENTITY_KEY,
            RNG_SECRET,
            WRAP,
            FRESH_SEALING,
            RNG_SEED,
            KASLR_SEED,
            AUTHORITY_SEAL,
            AUTHORITY_KEK_ID,
            SEALED_CONTENT_KEY,
            UPDATE_SEALING,
            UPDATE_KEY_FILE,
        ];
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert!(i == j || !b.starts_with(a), "{i} {j}");
            }
        }
    }
}
