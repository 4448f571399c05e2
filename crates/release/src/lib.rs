//! Makes what a device boots: signed payloads, sealed images, OS slots, flash and disk images.
//!
//! ```text
//!  Owner (roles' keys + certificates) ── sign ──▶ SignedPayload / OsRelease      once for each release
//!  DieSecrets (or another key)        ── seal ──▶ sealed image / OS slot         anew for every place it lies in
//!  FlashLayout, write_disk            ── place ─▶ flash0, disk
//!  inspect, open_boot_slot, open_os_slot          what a slot holds; what a device would make of it
//! ```
//!
//! A [`Profile`] decides about the published test keys: `Development` uses them, `Production` refuses every
//! one of them by value, whatever it is called.
#![forbid(unsafe_code)]

mod check;
mod die;
mod elf;
mod error;
mod flash;
mod inspect;
mod os;
mod owner;
pub mod test_keys;

pub use check::{OpenedImage, open_boot_slot, open_os_slot};
pub use die::DieSecrets;
pub use elf::{FlatImage, flatten_elf};
pub use error::Error;
pub use flash::{FlashLayout, write_disk};
pub use inspect::{ImageInfo, inspect_slot};
pub use os::{OsParts, OsRelease};
pub use owner::{Identity, Owner, Profile, RoleKey, STAGE_CHUNK};
pub use sealed_image::Compression;
