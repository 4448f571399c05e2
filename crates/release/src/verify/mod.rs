//! Verifying any artefact offline, by what a person knows of the device that is to take it: with the code that runs on
//! devices, and with their codes.
//!
//! | what | whose code judges |
//! |---|---|
//! | stages | `boot-select`: what stage0 boots, on a model of a die with this root and floor |
//! | other images | `sealed-image`; a bundle that can be opened is loaded by stage2's own loader |
//! | updates | `sealed-image`, for the oldest device that takes it |
//! | bare manifests, delegations | `sealed-image` |
//! | tickets, receipts, device certificates | `factory-proto`: what a device takes from the authority |
//! | fuses | `lifecycle` and `boot-select` |
//! | flash and disk of a device | stage0's own boot, then stage2's own |
//!
//! # Threats
//! The file is the adversary's, and whoever verifies believes the answer. So nothing is taken from it before the chain from
//! the given root holds; what cannot be checked offline is said with the answer and not passed over; and published test keys
//! are refused unless it is said that a development die is meant. Keys that are read on the way are wiped and never shown.

mod answer;
mod apart;
mod device;
mod fuses;
mod host;
mod image;
mod installed;
mod package;
mod stages;
mod unused;
mod update;

pub use image::DEVICE_TREE;
pub(crate) use image::PLACES;
pub(crate) use installed::check_places;
pub use package::verify_package;
pub(crate) use stages::boot_stage;
pub use update::verify_update;

use crate::artefact::Artefact;
use crate::check::Judge;
use crate::{Check, Error, Floors, ReleaseProfile, Trusted, UpdateKey, files, hex};
use boot_crypto::{Digest, Key};
use factory_proto::Message;
use lifecycle::ROLES;
use memory_map::qemu_virt::BOARD;
use sealed_image::{Kind, PublicKey, Root};
use serde_json::Value;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Largest file that is verified, in bytes.
const LARGEST: u64 = 1 << 30;

/// What is known of the device that is to take the artefact, and what helps to verify it: none of this comes from it.
pub struct Means {
    /// The owner root's public key: x followed by y.
    pub root: [u8; 64],
    /// Roots that the fuses hold and that were revoked since, at most three.
    pub revoked: Vec<[u8; 64]>,
    /// The rollback floor of each role.
    pub floors: Floors,
    /// The device is a development die, which takes published test keys.
    pub development: bool,
    /// What the file should be; without it, what it says itself.
    pub expected: Option<Artefact>,
    /// The key that opens it.
    pub key: Option<Key>,
    /// The file with the product's update key, which opens an update. It is read only where it counts: a passphrase may be
    /// asked for.
    pub update_key: Option<PathBuf>,
    /// A file with the delegations that a bare manifest lacks: an image or a message of the same signers.
    pub delegation: Option<PathBuf>,
    /// The request that a ticket has to answer.
    pub request: Option<PathBuf>,
    /// The package whose fuse policy the fuses have to follow.
    pub package: Option<PathBuf>,
}

impl Means {
    /// Knows the owner root, and nothing else.
    pub fn new(root: [u8; 64]) -> Self {
        Self {
            root,
            revoked: Vec::new(),
            floors: Floors::default(),
            development: false,
            expected: None,
            key: None,
            update_key: None,
            delegation: None,
            request: None,
            package: None,
        }
    }

    fn root_digest(&self) -> Digest {
        PublicKey::P256(self.root).thumbprint()
    }

    /// Returns the roots as fuses hold them.
    fn roots(&self) -> Vec<Root> {
        self.trusted().roots()
    }

    /// Returns what the fuses of the device say of whom to trust.
    pub fn trusted(&self) -> Trusted {
        let revoked = self.revoked.iter().map(|key| PublicKey::P256(*key).thumbprint()).collect();
        Trusted { root: self.root_digest(), revoked, floors: self.floors }
    }

    fn update_key(&self) -> Result<Option<UpdateKey>, Error> {
        let key = |path: &PathBuf| UpdateKey::read(path, ReleaseProfile::Development);
        self.update_key.as_ref().map(key).transpose()
    }

    fn judge(&self) -> Judge<'static> {
        Judge {
            board: BOARD,
            roots: self.roots(),
            floors: self.floors.raised_to([0; ROLES as usize]),
            refuse_test_keys: !self.development,
        }
    }

    /// Says by which root something holds.
    fn by_root(&self) -> String {
        format!("root {}…", hex(&self.root_digest()[..4]))
    }
}

/// An artefact that holds, as far as it can be told.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What it is.
    pub artefact: &'static str,
    /// What is known of it now.
    pub facts: Vec<(&'static str, Value)>,
    /// What was not checked, and what would.
    pub unchecked: Vec<String>,
}

/// Verifies a file, or the folder of a device. `checks` gets what holds, one after the other, up to the first thing that
/// does not.
///
/// # Errors
/// The first reason to refuse, with the device's code where it is a device that would refuse.
pub fn verify_artefact(path: &Path, means: &Means, checks: &mut Vec<Check>) -> Result<Verdict, Error> {
    let failed = |error| Error::Read { path: path.into(), error };
    let metadata = path.metadata().map_err(failed)?;
    if metadata.is_dir() {
        if means.expected.is_some_and(|expected| expected != Artefact::Flash) {
            return Err(Error::OptionUnused { option: "--as", what: "folder of a device" });
        }
        means.refuse_unused(Artefact::Flash)?;
        return device::verify_folder(path, means, checks);
    }
    let unknown = |reason: &str| Error::ReleaseFile { path: path.into(), reason: reason.into() };
    let untrusted = read_artefact(path)?;
    let artefact = means.expected.or_else(|| Artefact::of(&untrusted));
    let mut hold = Holding { checks };
    let hold = &mut hold;
    let artefact = artefact.ok_or_else(|| unknown("it is nothing that `kiln verify` knows by itself"))?;
    means.refuse_unused(artefact)?;
    match artefact {
        Artefact::Images(kind @ (Kind::Stage1 | Kind::Stage2)) => {
            image::verify_stage(&untrusted, kind, means, hold)
        }
        Artefact::Images(Kind::Update) => update::verify_image(&untrusted, path, means, hold),
        Artefact::Images(first) => image::verify_images(&untrusted, first, means, hold),
        Artefact::Manifest => apart::verify_manifest(&untrusted, path, means, hold),
        Artefact::Delegation => apart::verify_delegation(&untrusted, path, means, hold),
        Artefact::ReleaseManifest => apart::verify_release_manifest(&untrusted, means, hold),
        Artefact::Message(message @ (Message::Ticket | Message::Receipt | Message::Release)) => {
            answer::verify(message, &untrusted, means, hold)
        }
        Artefact::Message(message) => Err(Error::Unprovable { path: path.into(), message }),
        Artefact::Fuses => fuses::verify(&untrusted, means, hold),
        Artefact::Flash => device::verify(&untrusted, None, means, hold),
    }
}

/// Reads a file that may be an artefact; it is wiped when dropped, since a flash has the secrets of its die in it.
fn read_artefact(path: &Path) -> Result<Zeroizing<Vec<u8>>, Error> {
    files::read_at_most(path, LARGEST).map(Zeroizing::new)
}

/// What was found to hold so far.
struct Holding<'a> {
    checks: &'a mut Vec<Check>,
}

impl Holding<'_> {
    fn add(&mut self, name: &'static str, detail: impl Into<String>) {
        self.checks.push(Check { name, detail: detail.into() });
    }
}
