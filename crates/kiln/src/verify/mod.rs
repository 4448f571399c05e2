//! `kiln verify`: what a device would make of an artefact.

mod artefact;
mod folder;

use crate::Failure;
use clap::Args;
use release::{Artefact, Check, Floors, FolderKind};
use sealed_image::Role;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

/// Verifies any artefact offline, as a device would: with the device's code, and its refusal codes.
///
/// A release folder, a package, an update, an image or several, a bare manifest, a delegation, an answer of the authority (ticket, receipt,
/// device certificate), fuses, flash0, or the folder of a device. Each check is listed, and what could not be checked. Without
/// the key that opens it nothing is decrypted.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// A file, or a folder
    path: PathBuf,
    /// The owner root's public key (PEM), from somewhere else than what is verified
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// A root key that the owner has revoked; may be given up to three times
    #[arg(long, value_name = "FILE")]
    revoked: Vec<PathBuf>,
    /// The list of the keys that the root took back, owner-revoked: no such key may have signed the release
    #[arg(long, value_name = "FILE")]
    revoked_keys: Option<PathBuf>,
    /// The board of the device
    #[arg(long, value_name = "NAME", default_value = memory_map::qemu_virt::BOARD)]
    board: String,
    /// The rollback floor in the device's fuses: of every role, or of one (boot=3); may be given several times; a flash brings its own
    #[arg(long = "floor", value_name = "[ROLE=]N", value_parser = floor)]
    floor: Vec<(Option<Role>, u8)>,
    /// The device is a development die, which takes published test keys
    #[arg(long)]
    development: bool,
    /// What the file should be: a kind of image, manifest, delegation, ticket, receipt, device-certificate, fuses, flash [default: what it says itself]
    #[arg(long = "as", value_name = "WHAT", value_parser = artefact_named)]
    expected: Option<Artefact>,
    /// The file with the key that opens it: a package's content key, or the provisioning key for stage1
    #[arg(long, value_name = "FILE", visible_alias = "content-key")]
    key: Option<PathBuf>,
    /// The file with the product's update key, which opens an update
    #[arg(long, value_name = "FILE")]
    update_key: Option<PathBuf>,
    /// The delegations that a bare manifest lacks: an image, or several, of the same signers
    #[arg(long, value_name = "FILE")]
    delegation: Option<PathBuf>,
    /// The device's request, which a ticket has to answer
    #[arg(long, value_name = "FILE")]
    request: Option<PathBuf>,
    /// The package whose fuse policy the fuses have to follow
    #[arg(long, value_name = "FOLDER")]
    package: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Verify {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let board = memory_map::qemu_virt::BOARD;
        if self.board != board {
            return Err(Failure::new(
                format!("this release has no device code for the board {}", self.board),
                format!("Give --board {board}, which is the one that there is, or leave it out."),
            ));
        }
        if self.revoked.len() > 3 {
            return Err(Failure::new(
                "the fuses of a device hold four roots, one of which is that of --root",
                "Give --revoked three times at most.",
            ));
        }
        let is_folder = self.path.is_dir();
        let folder = if is_folder { FolderKind::of(&self.path)? } else { None };
        if self.revoked_keys.is_some() && folder != Some(FolderKind::Release) {
            return Err(Failure::new(
                "the list of revoked keys is for releases, and this is none",
                "Give the folder of the release, or leave --revoked-keys out: `kiln inspect` shows who signed what.",
            ));
        }
        match folder {
            Some(FolderKind::Release) => self.release(),
            Some(FolderKind::Update) => self.update(),
            Some(FolderKind::Package) => self.package(),
            // What has no file of Kiln's lacks those of a package first of all.
            None if is_folder => self.package(),
            Some(FolderKind::Device) | None => self.artefact(),
        }
    }

    /// Returns the floors that the fuses are said to hold.
    fn floors(&self) -> Floors {
        let mut floors = Floors::default();
        for (role, floor) in &self.floor {
            match role {
                Some(role) => floors.set(*role, *floor),
                None => floors = Floors::from(*floor),
            }
        }
        floors
    }

    /// Tells a person what holds.
    fn say(&self, checks: &[Check]) {
        if !self.json {
            checks.iter().for_each(|check| eprintln!("  ok   {}: {}", check.name, check.detail));
        }
    }
}

/// Returns checks as JSON: what was found, by the name of the check.
fn as_json(checks: &[Check]) -> Value {
    let checks = checks.iter().map(|check| (check.name.to_owned(), json!(check.detail)));
    checks.collect::<Map<_, _>>().into()
}

fn root_missing() -> Failure {
    Failure::new(
        "nothing can say by itself whose it is",
        "Give the owner root's public key with --root FILE, as you have it from the owner.",
    )
}

/// Reads the floor of every role, or of one.
fn floor(text: &str) -> Result<(Option<Role>, u8), String> {
    let (role, floor) = match text.split_once('=') {
        Some((name, floor)) => {
            let role = Role::ALL.into_iter().find(|role| role.name() == name);
            (Some(role.ok_or_else(|| format!("there is no role `{name}`"))?), floor)
        }
        None => (None, text),
    };
    let floor = floor.parse().ok().filter(|floor| *floor <= lifecycle::MAX_LEVEL);
    Ok((role, floor.ok_or_else(|| format!("a floor is 0 to {}", lifecycle::MAX_LEVEL))?))
}

fn artefact_named(name: &str) -> Result<Artefact, String> {
    Artefact::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Artefact::all().map(Artefact::name).collect();
        format!("it is one of {}", names.join(", "))
    })
}
