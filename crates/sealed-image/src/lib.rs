#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(feature = "host")]
extern crate std;

mod bundle;
pub mod cbor;
mod chain;
pub mod cose;
mod delegation;
mod error;
mod header;
#[cfg(feature = "host")]
pub mod host;
mod image;
mod kind;
mod manifest;
mod message;
mod opener;
mod package;
mod reseal;
mod sealing;
mod table;
mod update;

pub use bundle::{Bundle, BundleObject, MAX_CMDLINE, MAX_OBJECTS};
#[cfg(feature = "rsa")]
pub use chain::Es256AndPs256;
pub use chain::{Es256, Root, Verifier};
pub use cose::{Algorithm, MAX_SIGNATURES, PublicKey};
pub use delegation::{Grant, KindSet, MAX_BOARDS};
pub use error::{Error, Part};
pub use header::{HEADER_BYTES, Header, MAGIC, MAJOR, MAX_METADATA, MINOR, PAYLOAD_ALIGN};
pub use image::{Policy, UntrustedImage, VerifiedImage};
pub use kind::{Kind, Role, Version};
pub use manifest::{MAX_CHUNK, MAX_NAME, MIN_CHUNK, Manifest, plain_digest};
pub use message::{MessagePolicy, verify_message};
pub use opener::{Chunk, Opened, Opener, Tally};
pub use package::{MAX_PACKAGE_OBJECTS, MAX_RELEASE, Package, PackageObject};
pub use reseal::{Fresh, OpenChunk, Resealed, Resealer};
pub use sealing::Compression;
pub use table::ENTRY_BYTES;
pub use update::{Admission, Installed, MAX_UPDATE_OBJECTS, RoleIndices, Update, UpdateError, UpdateKey};
