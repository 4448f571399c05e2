//! Every derivation label, once. A label never changes and is never used for a second purpose.

/// Silicon secret → die secret.
pub const DIE_SECRET: &[u8] = b"kiln v1 die secret";
/// Die secret and device seed → device root.
pub const DEVICE_ROOT: &[u8] = b"kiln v1 device root";
/// Device root → key of the boot slots' sealings; stage0 alone uses it.
pub const STORAGE_BOOT: &[u8] = b"kiln v1 storage boot";
/// Device root → key of the OS objects' sealings; stage2 uses it.
pub const STORAGE_OS: &[u8] = b"kiln v1 storage os";
/// Device root → the secret that stage2's random values depend on.
pub const RNG_SECRET: &[u8] = b"kiln v1 rng secret";
/// Key-encryption key and a sealing's salt → the key that wraps the sealing's data key.
pub const WRAP: &[u8] = b"kiln v1 sealing wrap";
/// RNG secret and fresh entropy → `rng-seed` of the operating system.
pub const RNG_SEED: &[u8] = b"kiln v1 os rng-seed";
/// RNG secret and fresh entropy → `kaslr-seed` of the operating system.
pub const KASLR_SEED: &[u8] = b"kiln v1 os kaslr-seed";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_label_is_a_prefix_of_another() {
        let all = [DIE_SECRET, DEVICE_ROOT, STORAGE_BOOT, STORAGE_OS, RNG_SECRET, WRAP, RNG_SEED, KASLR_SEED];
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert!(i == j || !b.starts_with(a), "{i} {j}");
            }
        }
    }
}
