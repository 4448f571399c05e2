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
//!  look, verify_artefact                          any artefact by itself: what it says; what a device would make of it
//!  audit                                          what storage must not show
//! ```
//!
//! A [`Profile`] decides about the published test keys: `Development` uses them, `Production` refuses every
//! one of them by value, whatever it is called. Packages and pre-provisioning are always `Production`.
#![forbid(unsafe_code)]

mod artefact;
pub mod audit;
mod check;
mod clear;
mod content_key;
mod device_files;
mod die;
mod elf;
mod error;
mod fabricate;
mod files;
mod flash;
mod folder;
mod folder_kind;
mod from_fit;
mod hex;
mod inspect;
mod keys;
mod look;
mod os;
mod otp_file;
mod owner;
mod package;
mod package_files;
mod pem;
mod preprovision;
mod rollback;
mod sealed_key;
mod slot;
pub mod test_keys;
mod update;
mod vendor;
mod verify;
mod x509;

pub use artefact::Artefact;
pub use check::{OpenedImage, Trusted, open_boot_slot, open_os_slot};
pub use content_key::ContentKeyPlace;
pub use device_files::DeviceFiles;
pub use die::DieSecrets;
pub use elf::{FlatImage, flatten_elf, read_stage};
pub use error::Error;
pub use fabricate::{FabricatedDie, fabricate, make_die};
pub use files::{inside, refuse_existing};
pub use flash::{FlashLayout, write_disk};
pub use folder::{
    BundleConfig, Check, CrateInfo, MadeRelease, OpeningKeys, OwnerConfig, PACKAGE as PACKAGE_FOLDER,
    PayloadConfig, PayloadKind, ReleaseConfig, ReleaseFile, ReleaseManifest, ReleasePlaces, SEALED_KEY,
    StagesConfig, UPDATE as UPDATE_FOLDER, UpdateConfig, VerifiedRelease, make_release, read_root,
    read_root_key, verify_release,
};
pub use folder_kind::FolderKind;
pub use from_fit::{FitFacts, FitSource};
pub use hex::{hex, unhex};
pub use inspect::{ImageInfo, inspect_slot};
pub use keys::{
    Beyond, Delegation, DelegationFault, KeptIn, KeyAlgorithm, KeyName, KeyPlace, KeyState, Limits, OwnerKey,
    OwnerKeys, PASSPHRASE_VARIABLE, PIN_VARIABLE, Passphrase, PassphraseFault, PublicPart, ROOT_PUBLIC,
    ReleaseProfile, Revocations, RoleKeys, TokenFault, TokenKey, TokenUri, create_keys, list_keys,
    open_root_key, revoked_file,
};
pub use look::look;
pub use os::{OsParts, OsPlaces, OsRelease};
pub use otp_file::{OtpFile, fuse_word_offset};
pub use owner::{Identity, Owner, Profile, RoleKey, STAGE_CHUNK};
pub use package::{ContentKey, PackageFacts, PackageParts, PackageRelease};
pub(crate) use package_files::read_key_text;
pub use package_files::read_secret;
pub use pem::{certificate_pem, read_certificate, read_key};
pub use preprovision::{Preprovisioned, Start, preprovision};
pub use rollback::{Floors, RollbackIndices};
pub use sealed_image::Compression;
pub use sealed_key::{AuthorityKey, SealedContentKey, SealedKeyFault};
pub use update::{UpdateFacts, UpdateKey, UpdateKeyFault, UpdateParts, UpdateRelease};
pub use vendor::SiliconVendor;
pub use verify::{DEVICE_TREE, Means, Verdict, verify_artefact, verify_package, verify_update};
