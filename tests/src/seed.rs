//! Random choices that can be made again.

use sim::Noise;

/// Returns numbers that follow from the environment variable `KILN_SEED`, or else from a random seed, and tells the seed.
pub fn chance() -> Noise {
    let given = std::env::var("KILN_SEED").ok().and_then(|value| value.parse().ok());
    let seed = given.unwrap_or_else(|| u64::from_le_bytes(boot_crypto::host::random()));
    eprintln!("KILN_SEED={seed}");
    Noise(seed)
}
