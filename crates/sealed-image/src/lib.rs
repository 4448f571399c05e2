#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "host")]
extern crate std;

mod bundle;
mod cbor;
mod cose;
mod delegation;
mod error;
mod header;
#[cfg(feature = "host")]
pub mod host;
mod image;
mod kind;
mod manifest;
mod opener;
mod sealing;
mod table;

pub use bundle::{Bundle, BundleObject, MAX_CMDLINE, MAX_OBJECTS};
pub use cose::{Algorithm, MAX_SIGNATURES, PublicKey};
pub use delegation::{Grant, KindSet, MAX_BOARDS};
pub use error::{Error, Part};
pub use header::{HEADER_BYTES, Header, MAGIC, MAJOR, MAX_METADATA, MINOR, PAYLOAD_ALIGN};
#[cfg(feature = "rsa")]
pub use image::Es256AndPs256;
pub use image::{Es256, Policy, Root, UntrustedImage, VerifiedImage, Verifier};
pub use kind::{Kind, Role, Version};
pub use manifest::{MAX_CHUNK, MAX_NAME, MIN_CHUNK, Manifest};
pub use opener::{Chunk, Opened, Opener, Tally};
pub use sealing::Compression;
pub use table::ENTRY_BYTES;
