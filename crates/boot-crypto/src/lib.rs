//! The only crate that names algorithms.
//!
//! Everything else in Kiln says *what* it wants (a digest, a verified signature, an opened chunk, the storage
//! key of a die) and finds here *how*: SHA-256, ECDSA over P-256 (ES256), RSASSA-PSS (PS256, feature `rsa`),
//! ECDH over P-256, AES-256-GCM, HKDF-SHA256 and HMAC_DRBG. No allocation, except in the `rsa` feature.
//!
//! # What it defends against, and what not
//!
//! The adversary writes every byte that a verifier or an opener is given here: keys, signatures, tags,
//! ciphertext. Nothing of that may panic in Kiln's own code, allocate without bound, or come out as verified
//! or decrypted unless it is. A chunk is decrypted only after its tag was checked, so no caller ever sees
//! plaintext of a wrong tag. Comparisons of secrets take the same time for every content. Yes and no of a
//! security decision are codewords that differ in all 32 bits ([`Decision`]) and are looked at twice, which
//! makes a single skipped instruction or flipped bit refuse. Keys are wiped when dropped, and cannot be
//! copied or printed. Not defended: power and electromagnetic analysis of AES (the ARMv8 instructions have
//! constant time, not constant power), whoever reads secure RAM while a stage runs, and copies that the
//! compiler spills to the stack (a stage wipes its whole working memory before it hands over). Signing and
//! key agreement take the same time for every key (verification shares their arithmetic, and need not); a signature's nonce comes from key and digest (RFC 6979), so a bad entropy source cannot betray a key.
//!
//! # Panics
//!
//! Kiln's code has none. `p256` and `crypto-bigint` keep a few bounds checks and `expect`s which no input
//! reaches but which the compiler cannot remove; the public entry points are not inlined, so that whatever
//! reaches `core::panicking` in a linked stage does so through a function of this crate or of `bulk-crypto`, the part
//! of it that is compiled for speed.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "rsa")]
extern crate alloc;
#[cfg(feature = "host")]
extern crate std;

mod decision;
mod derive;
mod drbg;
mod ec;
mod hmac;
#[cfg(feature = "host")]
pub mod host;
#[cfg(feature = "host")]
mod hpke;
pub mod labels;
#[cfg(feature = "host")]
mod locked;
#[cfg(feature = "host")]
mod memo;
#[cfg(feature = "rsa")]
mod ps256;
pub mod test_keys;

pub use bulk_crypto::{AES_GCM_TAG_BYTES, DIGEST_BYTES, Digest, GcmKey, Key, Sha256, TagMismatch, sha256};
pub use decision::{Decision, equal};
pub use derive::{
    alias_key, closing_digest, device_root, die_key, die_secret, drbg_secret, ephemeral_key, fresh_sealing,
    fuse_tag, hkdf_sha256, identity_key, journal_entry_key, journal_entry_salt, journal_key, kaslr_seed,
    rng_secret, rng_seed, stage_secret, storage_key, ticket_key, update_sealing_key, wrap_key,
};
pub use drbg::Drbg;
#[cfg(feature = "fast")]
pub use ec::as_on_a_stage;
pub use ec::{EcKey, es256_low_s, es256_verify};
#[cfg(feature = "rsa")]
pub use ps256::ps256_verify;
