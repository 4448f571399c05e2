//! Makes what a device boots and is provisioned with: signed payloads, sealed images, packages, dies, flash and disk.
//!
//! ```text
//!  Owner (roles' keys + certificates) ── sign ──▶ SignedPayload / OsRelease      once for each release
//!  DieSecrets (or another key)        ── seal ──▶ sealed image / OS slot         anew for every place it lies in
//!  PackageRelease::make               ── both ──▶ package + content key          once for each lot
//!  UpdateRelease::make                ── both ──▶ update image                   once for each release
//!  make_release, verify_release       ── all of it, as kiln.toml says ──▶ a release folder
//!  SiliconVendor, fabricate           ── model ─▶ blank die                      what a silicon vendor does
//!  preprovision                       ── burn ──▶ die in Secured, package on its storage
//!  FlashLayout, write_disk            ── place ─▶ flash0, disk
//!  inspect, open_boot_slot, open_os_slot          what a slot holds; what a device would make of it
//!  audit                                          what storage must not show
//! ```
//!
//! A [`Profile`] decides about the published test keys: `Development` uses them, `Production` refuses every
//! one of them by value, whatever it is called. Packages and pre-provisioning are always `Production`.
#![forbid(unsafe_code)]

pub mod audit;
mod check;
mod clear;
mod device_files;
mod die;
mod elf;
mod error;
mod fabricate;
mod files;
mod flash;
mod folder;
mod from_fit;
mod hex;
mod inspect;
mod look;
mod os;
mod otp_file;
mod owner;
mod owner_files;
mod package;
mod package_files;
mod passphrase;
mod pem;
mod preprovision;
mod sealed_key;
pub mod test_keys;
mod token;
mod update;
mod vendor;
mod x509;

pub use check::{OpenedImage, open_boot_slot, open_os_slot};
pub use device_files::DeviceFiles;
pub use die::DieSecrets;
pub use elf::{FlatImage, flatten_elf, read_stage};
pub use error::Error;
pub use fabricate::{FabricatedDie, fabricate, make_die};
pub use files::inside;
pub use flash::{FlashLayout, write_disk};
pub use folder::{
    BundleConfig, Check, CrateInfo, MadeRelease, OpeningKeys, OwnerConfig, PayloadConfig, PayloadKind,
    ReleaseConfig, ReleaseFile, ReleaseManifest, ReleasePlaces, StagesConfig, UpdateConfig, VerifiedRelease,
    is_release_folder, make_release, read_root, verify_release,
};
pub use from_fit::{FitFacts, FitSource};
pub use hex::{hex, unhex};
pub use inspect::{ImageInfo, inspect_slot};
pub use look::look;
pub use os::{OsParts, OsPlaces, OsRelease};
pub use otp_file::{OtpFile, fuse_word_offset};
pub use owner::{Identity, Owner, Profile, RoleKey, STAGE_CHUNK};
pub use owner_files::{KeyPlace, OwnerKey, OwnerKeys, ROOT_PUBLIC, ReleaseProfile};
pub use package::{ContentKey, PackageFacts, PackageParts, PackageRelease};
pub(crate) use package_files::read_key_text;
pub use package_files::read_secret;
pub use passphrase::{PASSPHRASE_VARIABLE, Passphrase, PassphraseFault};
pub use pem::{certificate_pem, read_certificate, read_key};
pub use preprovision::{Preprovisioned, Start, preprovision};
pub use sealed_image::Compression;
pub use sealed_key::{AuthorityKey, SealedContentKey, SealedKeyFault};
pub use token::{PIN_VARIABLE, TokenFault, TokenKey, TokenUri};
pub use update::{UpdateFacts, UpdateKey, UpdateKeyFault, UpdateParts, UpdateRelease};
pub use vendor::SiliconVendor;
