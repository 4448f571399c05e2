#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

pub mod closing;
mod crc;
mod handoff;
mod list;
pub mod record;
mod secrets;
mod statement;
mod step;
mod timeline;

pub use handoff::{BootInfo, Error, RootSlots};
pub use list::List;
pub use secrets::{Evidence, SecretPage, Secrets};
pub use statement::{SignedStatement, Statement, StatementError, Subject};
pub use step::{Stage, Step};
pub use timeline::Timeline;

/// One image that a stage verified, and what it measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageRecord {
    /// The kind of image, as in its manifest.
    pub kind: u8,
    /// Its version, as in its manifest.
    pub version: u64,
    /// Bytes of the sealed image in storage, metadata included.
    pub stored_bytes: u64,
    /// Bytes of its payload once opened.
    pub plain_bytes: u64,
    /// The signed digest of the payload.
    pub plain_digest: [u8; 32],
    /// The measurement: the digest of the manifest, which covers the payload's digest, size and addresses.
    pub measurement: [u8; 32],
}

/// When a step of a stage started and ended, in ticks of the system counter since reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timestamp {
    /// The stage, a [`Stage`] number.
    pub stage: u8,
    /// The step, a [`Step`] number.
    pub step: u8,
    /// Counter when the step started.
    pub start: u64,
    /// Counter when it ended.
    pub end: u64,
}

/// Length of the fuse facts, as the `lifecycle` crate encodes them.
pub const FUSE_FACTS_BYTES: usize = 227;
/// Most images that one boot can record.
pub const MAX_IMAGES: usize = 8;
/// Most timestamps that one boot can record; later ones are left out.
pub const MAX_TIMESTAMPS: usize = 32;
