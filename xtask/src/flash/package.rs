//! The owner and the package: made once for the same firmware and input, or taken from a release, and kept.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use boot_crypto::Key;
use memory_map::qemu_virt as board;
use release::{
    Compression, ContentKey, Identity, OpeningKeys, OsParts, Owner, OwnerKeys, PACKAGE_FOLDER, PackageFacts,
    PackageParts, PackageRelease, SEALED_KEY, SealedContentKey, Trusted, hex, verify_release,
};
use sealed_image::{Bundle, Kind};
use serde::{Deserialize, Serialize};

use super::random;
use crate::digest;
use crate::firmware::Firmware;
use crate::input::{self, Input, InputArgs, MadeOf, System};
use crate::local_authority::LocalAuthority;
use crate::progress::{self, Step};

/// The rollback index of what this makes, and so the floor that closing burns.
const ROLLBACK_INDEX: u32 = 1;

/// What the package boots, which its files do not say.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Notes {
    /// What a device that is made from it boots.
    pub(crate) made_of: MadeOf,
    /// Where that comes from.
    pub(crate) origin: String,
    /// Why it is not what was to be expected, if it is not.
    pub(crate) remark: Option<String>,
    /// What the system prints to prove that it was reached; in the package it is encrypted.
    pub(crate) token: String,
}

/// A package and what belongs to it.
pub(crate) struct Prepared {
    /// The folder that it lies in.
    pub(crate) name: String,
    /// The package as a factory gets it.
    pub(crate) release: PackageRelease,
    /// What it boots.
    pub(crate) notes: Notes,
    /// The file of its content key, which is the authority's.
    pub(crate) content_key: PathBuf,
}

impl Prepared {
    /// Returns the package id in hex.
    pub(super) fn id(&self) -> String {
        hex(&self.release.facts.package_id)
    }
}

/// Returns the demonstration owner, made the first time.
///
/// # Errors
/// If its files cannot be read or written.
pub(crate) fn owner_keys(factory: &Path) -> Result<OwnerKeys> {
    let folder = factory.join("owner");
    let step = Step::start("finding the owner's keys");
    let fresh = !folder.exists();
    let keys =
        OwnerKeys::read_or_found(&folder, board::BOARD).context("the demonstration owner cannot be used")?;
    step.done(if fresh { "made: an owner root and a key for each role" } else { "there already" });
    Ok(keys)
}

/// Returns the package for this firmware and input, made if there is none yet.
///
/// # Errors
/// If something cannot be gathered, signed, read or written.
pub(super) fn prepare(
    factory: &Path,
    owner: &Owner,
    args: &InputArgs,
    firmware: &Firmware,
) -> Result<Prepared> {
    let token = token(&factory.join("owner/token"))?;
    make(factory, owner, input::gather(args, firmware, &token)?, token, firmware)
}

/// Returns the package for this firmware and what was gathered, which proves itself with `token`; made if there is none
/// yet.
///
/// # Errors
/// If something cannot be signed, read or written.
pub(crate) fn make(
    factory: &Path,
    owner: &Owner,
    input: Input,
    token: String,
    firmware: &Firmware,
) -> Result<Prepared> {
    let name = fingerprint(owner, firmware, &input);
    let step = Step::start("signing and encrypting a package");
    if let Ok(there) = read(factory, &name) {
        step.done(&format!("{}, made before", summary(&there)));
        return Ok(there);
    }
    let identity = Identity {
        board: board::BOARD.into(),
        version: env!("CARGO_PKG_VERSION")
            .parse()
            .ok()
            .context("the workspace's version is no release version")?,
        rollback_index: ROLLBACK_INDEX.into(),
    };
    let made_of = input.made_of();
    let notes = Notes { made_of, origin: input.origin, remark: input.remark, token };
    let parts = PackageParts {
        release: format!("kiln {}", env!("CARGO_PKG_VERSION")),
        stage1: firmware.stage1.flat.clone(),
        stage2: firmware.stage2.flat.clone(),
        os: OsParts {
            kernel: input.kernel,
            device_tree: input.dtb,
            initramfs: input.initramfs,
            cmdline: input.cmdline,
            compression: Compression::None,
            places: release::OsPlaces::default(),
        },
        // Stands for a customer's key.
        secrets: vec![random::<32>()?.to_vec()],
        provisioning_key: Key::new(random()?),
    };
    let (release, key) = PackageRelease::make(owner, &identity, parts)?;
    let (folder, content_key) = places(factory, &name);
    write(&release, &notes, &key, &folder, &content_key)?;
    let made = Prepared { name, release, notes, content_key };
    step.done(&summary(&made));
    Ok(made)
}

/// Takes over the package of a release folder, which is verified by the root of this factory's owner first. The content key is in
/// `content_key`, or sealed to the authority of this factory.
///
/// # Errors
/// Why the release is not sound; a content key that is not there, or is another's.
pub(super) fn take(
    factory: &Path,
    folder: &Path,
    content_key: Option<&Path>,
    firmware: &Firmware,
) -> Result<Prepared> {
    let step = Step::start("verifying the release");
    let refused = |error: release::Error| anyhow!("{}", kiln::Failure::from(error));
    let root = factory.join("owner").join(release::ROOT_PUBLIC);
    let root =
        release::read_root(&root).map_err(refused).context("a release is verified by its owner's root")?;
    let package = folder.join(PACKAGE_FOLDER);
    let key = match content_key {
        Some(file) => ContentKey::read(file).map_err(refused)?,
        None => {
            let sealed = SealedContentKey::read(&folder.join(SEALED_KEY)).map_err(refused).context(
                "the release has no content key for the authority of this machine: give --content-key FILE",
            )?;
            let facts = PackageFacts::read(&package).map_err(refused)?;
            let authority =
                LocalAuthority::start(&factory.join("authority"), Some(&factory.join("authority.anchor")))?;
            authority.open_content_key(&sealed, &facts)?
        }
    };
    let keys = OpeningKeys { content_key: Some(&key), update_key: None };
    let mut checks = Vec::new();
    let verified = verify_release(folder, &Trusted::root(root), &keys, &mut checks).map_err(refused)?;
    let release = PackageRelease::read(&package)?;
    release.check().map_err(refused)?;
    if release.facts != verified.facts {
        bail!("{} was changed while it was verified: try again", package.display());
    }
    // Two releases of the same parts have one package id, and other keys.
    let mut name = hex(&release.facts.package_digest);
    name.truncate(32);
    if let Ok(there) = read(factory, &name) {
        step.done(&format!("{} checks hold; {}, taken before", checks.len(), summary(&there)));
        return Ok(there);
    }
    let images = release.open(&key)?;
    let plain =
        |kind| images.iter().find(|image| image.info.kind == kind).map_or(&[][..], |image| &image.plain);
    let kernel = plain(Kind::Kernel);
    let own = kernel == firmware.payload.flat.bytes;
    let made_of = MadeOf {
        system: if own { System::Payload } else { System::Linux },
        kernel: digest::sha256_hex(kernel),
        initramfs: digest::sha256_hex(plain(Kind::Initramfs)),
        dtb: digest::sha256_hex(plain(Kind::DeviceTree)),
        cmdline: Bundle::parse(plain(Kind::Bundle))
            .map(|bundle| bundle.cmdline.to_owned())
            .unwrap_or_default(),
    };
    let notes = Notes {
        made_of,
        origin: format!("release {}", folder.display()),
        remark: None,
        token: token(&factory.join("owner/token"))?,
    };
    let (folder, content_key) = places(factory, &name);
    write(&release, &notes, &key, &folder, &content_key)?;
    let taken = Prepared { name, release, notes, content_key };
    step.done(&format!("{} checks hold; {}", checks.len(), summary(&taken)));
    Ok(taken)
}

/// Returns the token that systems of this factory prove themselves with: random, and made once, so that the same input
/// gives the same package.
///
/// # Errors
/// If its file cannot be read or written.
pub(crate) fn token(file: &Path) -> Result<String> {
    if !file.exists() {
        fs::write(file, digest::hex(&random::<16>()?))
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn summary(package: &Prepared) -> String {
    let size = progress::bytes(package.release.package.len() as u64);
    format!("{size}, package {}…", package.id().get(..16).unwrap_or_default())
}

fn fingerprint(owner: &Owner, firmware: &Firmware, input: &Input) -> String {
    let mut digest = digest::of_parts(&[
        &owner.root_digest(),
        &firmware.stage1.flat.bytes,
        &firmware.stage2.flat.bytes,
        &input.kernel,
        input.initramfs.as_deref().unwrap_or_default(),
        &input.dtb,
        input.cmdline.as_bytes(),
        env!("CARGO_PKG_VERSION").as_bytes(),
    ]);
    digest.truncate(16);
    digest
}

/// Reads a package that was made before.
///
/// # Errors
/// If it is not there, or not whole.
pub(super) fn read(factory: &Path, name: &str) -> Result<Prepared> {
    let (folder, content_key) = places(factory, name);
    let release = PackageRelease::read(&folder)?;
    release.check()?;
    let notes = serde_json::from_slice(&fs::read(folder.join("notes.json"))?)?;
    release.open(&ContentKey::read(&content_key)?)?;
    Ok(Prepared { name: name.into(), release, notes, content_key })
}

/// Returns the folder of a package, and the file of its content key.
fn places(factory: &Path, name: &str) -> (PathBuf, PathBuf) {
    (factory.join("packages").join(name), factory.join("content-keys").join(format!("{name}.key")))
}

/// Writes the package as a whole, and its content key elsewhere.
fn write(
    release: &PackageRelease,
    notes: &Notes,
    key: &ContentKey,
    folder: &Path,
    content_key: &Path,
) -> Result<()> {
    for parent in [folder, content_key].iter().filter_map(|path| path.parent()) {
        fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
    }
    // What is there is of no use: it was not whole.
    for old in [folder, content_key] {
        let removed = if old.is_dir() { fs::remove_dir_all(old) } else { fs::remove_file(old) };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", old.display()));
            }
            _ => {}
        }
    }
    key.write(content_key)?;
    release.write(folder)?;
    fs::write(folder.join("notes.json"), serde_json::to_vec_pretty(notes)?)?;
    Ok(())
}
