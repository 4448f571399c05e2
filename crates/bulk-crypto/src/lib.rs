//! The part of `boot-crypto` that every byte of a boot goes through: SHA-256, AES-256-GCM, and the keys that they take.
//!
//! Nothing but `boot-crypto` names this crate; it shows everything here under its own name, and its documentation says
//! what is defended. Generic cryptography is compiled in the crate that calls it, and a profile has one level of
//! optimisation for each crate. So what is built for speed lies here, and the rest of `boot-crypto` is built to fit
//! into stage0.
#![no_std]
#![forbid(unsafe_code)]

mod aead;
mod digest;
mod key;

pub use aead::{AES_GCM_TAG_BYTES, GcmKey, TagMismatch};
pub use digest::{DIGEST_BYTES, Digest, Sha256, sha256};
pub use key::Key;
