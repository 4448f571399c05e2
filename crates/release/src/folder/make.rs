//! Making a release folder.

use super::config::{PayloadConfig, PayloadKind, ReleaseConfig};
use super::draft::Draft;
use super::manifest::{self, MANIFEST, ReleaseFile, ReleaseManifest};
use super::provenance::{self, PROVENANCE, Source};
use super::sbom::{self, Part, SBOM};
use super::sums::{self, SUMS};
use super::verify::{OpeningKeys, read_folder, verify_release};
use super::{IMAGES, NOTES, PACKAGE, ROLE_KEY, ROOT_KEY, SEALED_KEY, UPDATE_IMAGE, dsse, signed_manifests};
use crate::files::{self, Readers};
use crate::package::SignedParts;
use crate::{
    AuthorityKey, Check, Compression, ContentKey, ContentKeyPlace, Error, Identity, OsParts, Owner,
    OwnerKeys, PackageParts, PackageRelease, ReleaseProfile, Trusted, UpdateKey, UpdateParts, UpdateRelease,
    hex, inspect_slot, read_secret, read_stage,
};
use boot_crypto::host::{SigningKeyError, es256_public_pem, random};
use boot_crypto::{Digest, Key, sha256};
use memory_map::Region;
use memory_map::qemu_virt::{DTB_ROOM, OS_LOAD};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use sealed_image::host::InspectedMessage;
use sealed_image::{Kind, PublicKey};
use stage2_production::kernel_image;
use std::path::{Path, PathBuf};

/// Where a release goes.
#[derive(Clone, Copy, Debug)]
pub struct ReleasePlaces<'a> {
    /// The folder, which must not be there.
    pub folder: &'a Path,
    /// The file for the content key in the clear, which must not be there, nor lie in the folder. None where the
    /// configuration names the authority that it is sealed to.
    pub content_key: Option<&'a Path>,
    /// The folder of the release before this one, by the same owner.
    pub previous: Option<&'a Path>,
}

/// A release that was made.
#[derive(Clone, Debug)]
pub struct MadeRelease {
    /// What the owner signed about it.
    pub manifest: ReleaseManifest,
    /// The package id.
    pub package_id: Digest,
    /// The owner root.
    pub root_digest: Digest,
    /// The thumbprint of the authority's key that the content key is sealed to, if it is.
    pub sealed_to: Option<Digest>,
    /// What was checked before it was published.
    pub checks: Vec<Check>,
}

/// Makes a release as its configuration says: everything in a folder next to the place first, verified there, and then
/// moved to the place in one step.
///
/// # Errors
/// Whatever stops it; then neither the folder nor the content key is there.
pub fn make_release(config: &ReleaseConfig, places: &ReleasePlaces<'_>) -> Result<MadeRelease, Error> {
    let ReleasePlaces { folder, content_key: key_file, previous } = *places;
    files::refuse_existing(folder)?;
    let key_to = ContentKeyPlace::choose(config.profile, config.authority_key.as_deref(), key_file, folder)?;
    if config.profile == ReleaseProfile::Production {
        let said = [("crates", config.stages.crates.is_some()), ("commit", config.stages.commit.is_some())];
        if let Some((key, _)) = said.into_iter().find(|(_, there)| !there) {
            return Err(Error::SourceUnsaid { key });
        }
    }
    let owner = OwnerKeys::read_with(&config.owner.keys, config.profile, &config.owner.roles)?.owner()?;
    covered(config, &owner)?;
    if let Some(previous) = previous {
        follows(config, &owner, previous)?;
    }
    let update_key = config.update.as_ref().map(|update| update.read_key(&config.product, config.profile));
    let update_key = update_key.transpose()?;
    let inputs = Inputs::read(config, update_key.as_ref())?;

    let drafted = Draft::make_next_to(folder)?;
    let draft = drafted.place();
    let (manifest, package_id, content_key) =
        draft_release(config, &owner, inputs, key_to.authority(), update_key.as_ref(), &draft)?;

    let root_digest = owner.root_digest();
    let mut checks = Vec::new();
    let keys = OpeningKeys { content_key: Some(&content_key), update_key: update_key.as_ref() };
    verify_release(&draft, &Trusted::root(root_digest), &keys, &mut checks)?;
    // The key first: a release whose key was lost is of no use.
    key_to.file().map_or(Ok(()), |file| content_key.write(file))?;
    if let Err(error) = renameat_with(CWD, &draft, CWD, folder, RenameFlags::NOREPLACE) {
        // Nothing opens with it: what it belongs to goes as well.
        let _ = key_to.file().map(std::fs::remove_file);
        return Err(Error::Write { path: folder.into(), error: error.into() });
    }
    let sealed_to = key_to.authority().map(AuthorityKey::thumbprint);
    Ok(MadeRelease { manifest, package_id, root_digest, sealed_to, checks })
}

/// Checks that the root lets the owner's keys sign all that the release has, before any of it is signed.
fn covered(config: &ReleaseConfig, owner: &Owner) -> Result<(), Error> {
    let always = [Kind::Stage1, Kind::Package, Kind::Stage2, Kind::Bundle];
    let payloads = config.payloads.iter().map(|payload| payload.kind.kind());
    let update = config.update.as_ref().map(|_| Kind::Update);
    let update_key = config.update.as_ref().filter(|update| update.provision).map(|_| Kind::Secret);
    for kind in always.into_iter().chain(payloads).chain(update).chain(update_key) {
        let role = kind.role().ok_or(Error::Reserved { kind })?;
        owner.covers(role, Some(kind), &config.board, config.version)?;
    }
    owner.covers(manifest::ROLE, None, &config.board, config.version)
}

/// Checks that the release comes after the one before.
fn follows(config: &ReleaseConfig, owner: &Owner, previous: &Path) -> Result<(), Error> {
    let untrusted = files::read(&previous.join(MANIFEST))?;
    let before = manifest::verify(&untrusted, &config.board, owner.root_digest())?.manifest;
    let of = |product: &str, board: &str| format!("{product} for {board}");
    let (was, is) = (of(&before.product, &before.board), of(&config.product, &config.board));
    if was != is {
        return Err(Error::OtherProduct { previous: was, found: is });
    }
    if config.version <= before.version {
        return Err(Error::VersionNotRising { previous: before.version, found: config.version });
    }
    for (role, previous) in before.rollback_index.each() {
        let found = config.rollback_index.of(role);
        if found < previous {
            return Err(Error::RollbackIndexFalling { role, previous, found });
        }
    }
    Ok(())
}

/// Everything that a release is made of, read.
struct Inputs {
    parts: PackageParts,
    bill: Vec<(Kind, Part)>,
    crates: Vec<sbom::CrateInfo>,
    notes: Option<String>,
}

impl Inputs {
    fn read(config: &ReleaseConfig, update_key: Option<&UpdateKey>) -> Result<Self, Error> {
        let stages = &config.stages;
        let (stage1, stage2) = (read_stage(&stages.stage1)?, read_stage(&stages.stage2)?);
        let mut bill = Vec::new();
        for (kind, name, stage) in
            [(Kind::Stage1, "stage1-provision", &stage1), (Kind::Stage2, "stage2-production", &stage2)]
        {
            bill.push((kind, Part::new(kind, name, &stage.bytes)));
        }
        let mut take = |kind: PayloadKind| -> Result<Option<Vec<u8>>, Error> {
            let Some(payload) = config.of(kind).next() else { return Ok(None) };
            let bytes = read_payload(config, payload)?;
            let name = payload.name.clone().or_else(|| file_name(&payload.file));
            let mut part = Part::new(kind.kind(), name.as_deref().unwrap_or_default(), &bytes);
            part.version.clone_from(&payload.version);
            part.license.clone_from(&payload.license);
            bill.push((kind.kind(), part));
            Ok(Some(bytes))
        };
        let kernel = take(PayloadKind::Kernel)?.unwrap_or_default();
        let device_tree = take(PayloadKind::DeviceTree)?.unwrap_or_default();
        let initramfs = take(PayloadKind::Initramfs)?;
        let secrets = config.of(PayloadKind::Secret).map(|payload| read_payload(config, payload));
        // Behind all others: devices tell it from them by what it says of itself.
        let provisioned =
            update_key.filter(|_| config.update.as_ref().is_some_and(|update| update.provision));
        let secrets = secrets.chain(provisioned.map(|key| Ok(key.secret().to_vec())));
        let os = OsParts {
            kernel,
            device_tree,
            initramfs,
            cmdline: config.bundle.cmdline.clone(),
            compression: if config.bundle.compress { Compression::Lz4 } else { Compression::None },
            places: config.places(),
        };
        refuse_overlap(config, &os)?;
        let parts = PackageParts {
            release: config.title(),
            stage1,
            stage2,
            os,
            secrets: secrets.collect::<Result<_, _>>()?,
            provisioning_key: match &config.provisioning_key {
                Some(file) => read_secret(file)?,
                None => Key::new(random()),
            },
        };
        let crates = stages.crates.as_deref().map(sbom::read_crates).transpose()?.unwrap_or_default();
        if crates.is_empty() && config.profile == ReleaseProfile::Production {
            return Err(Error::SourceUnsaid { key: "crates" });
        }
        let notes = config.notes.as_deref().map(files::read_text).transpose()?;
        Ok(Self { parts, bill, crates, notes: notes.map(|notes| notes.to_string()) })
    }
}

fn file_name(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.to_owned())
}

/// Reads a payload, and checks that a device would know it for what it is said to be.
fn read_payload(config: &ReleaseConfig, payload: &PayloadConfig) -> Result<Vec<u8>, Error> {
    let path: PathBuf = payload.file.clone();
    let bytes = payload.verified.clone().map_or_else(|| files::read(&path), Ok)?;
    let refuse = |reason: &str| Err(Error::Payload { path: path.clone(), reason: reason.into() });
    if bytes.is_empty() {
        return refuse("it is empty");
    }
    match payload.kind {
        PayloadKind::Kernel => {
            kernel_image::footprint(&bytes, config.places().kernel, OS_LOAD)
                .map_err(|error| Error::Kernel { path, error })?;
        }
        PayloadKind::DeviceTree => {
            let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..)?.first_chunk()?));
            if word(0) != Some(0xD00D_FEED) {
                return refuse("it is no device tree blob");
            }
            if word(4).is_none_or(|size| size as usize > bytes.len()) {
                return refuse("it is a device tree blob that was cut off");
            }
        }
        PayloadKind::Initramfs | PayloadKind::Secret => {}
    }
    Ok(bytes)
}

/// Refuses objects that a device has no room for where they are to lie.
fn refuse_overlap(config: &ReleaseConfig, os: &OsParts) -> Result<(), Error> {
    let kernel = config.of(PayloadKind::Kernel).next().map_or_else(PathBuf::new, |one| one.file.clone());
    let kernel = kernel_image::footprint(&os.kernel, os.places.kernel, OS_LOAD)
        .map_err(|error| Error::Kernel { path: kernel, error })?;
    let device_tree = (os.device_tree.len() as u64).max(DTB_ROOM);
    let mut places = vec![(Kind::Kernel, kernel.base, kernel.size)];
    places.push((Kind::DeviceTree, os.places.device_tree, device_tree));
    if let Some(initramfs) = &os.initramfs {
        places.push((Kind::Initramfs, os.places.initramfs, initramfs.len() as u64));
    }
    let mut taken: Vec<(Kind, Region)> = Vec::new();
    for (kind, load, size) in places {
        // A device tree grows in its room, and no further.
        let too_large = kind == Kind::DeviceTree && size > DTB_ROOM;
        if too_large || !OS_LOAD.contains(load, size) {
            return Err(Error::Place { kind, load, size, window: OS_LOAD });
        }
        let region = Region::new(load, size);
        if let Some(other) = taken.iter().find(|(_, other)| other.overlaps(&region)) {
            return Err(Error::Overlap(*other, (kind, region)));
        }
        taken.push((kind, region));
    }
    Ok(())
}

/// Writes all of a release into a folder of its own.
fn draft_release(
    config: &ReleaseConfig,
    owner: &Owner,
    inputs: Inputs,
    authority: Option<&AuthorityKey>,
    update_key: Option<&UpdateKey>,
    draft: &Path,
) -> Result<(ReleaseManifest, Digest, ContentKey), Error> {
    let Inputs { parts, bill, crates, notes } = inputs;
    let identity = Identity {
        board: config.board.clone(),
        version: config.version,
        rollback_index: config.rollback_index,
    };
    let signed = SignedParts::sign(owner, &identity, parts)?;
    let update = match (&config.update, update_key) {
        (Some(update), Some(key)) => {
            let stage2 = update.stage2.then_some(&signed.stage2);
            let parts = UpdateParts { minimum_version: update.minimum_version, stage2, os: &signed.os };
            Some(UpdateRelease::make(owner, &identity, &parts, key)?)
        }
        _ => None,
    };
    let (package, content_key) = PackageRelease::seal(owner, &identity, signed)?;
    let facts = &package.facts;
    package.write(&draft.join(PACKAGE))?;
    for folder in ["manifests", "keys"] {
        files::make_folder(&draft.join(folder))?;
    }
    let put = |name: &str, bytes: &[u8]| files::write_new(&draft.join(name), bytes, Readers::Anyone);
    let mut digests: Vec<(Kind, Digest)> = Vec::new();
    for slot in [&package.stage1, &package.package] {
        digests.extend(inspect_slot(slot)?.iter().map(|image| (image.kind, image.digest)));
        for (name, manifest) in signed_manifests(slot)? {
            put(&name, &manifest)?;
        }
    }
    update.as_ref().map_or(Ok(()), |update| super::update::put(draft, update))?;
    if let Some(authority) = authority {
        put(SEALED_KEY, &content_key.seal(authority, facts)?.encode())?;
    }
    put(ROOT_KEY, public_pem(owner.root())?.as_bytes())?;
    put(ROLE_KEY, role_pem(owner)?.as_bytes())?;

    let mut release = ReleaseManifest {
        product: config.product.clone(),
        board: config.board.clone(),
        version: config.version,
        rollback_index: config.rollback_index,
        files: Vec::new(),
    };
    let bill: Vec<Part> = bill
        .into_iter()
        .map(|(kind, part)| {
            let digest = digests.iter().find(|(found, _)| *found == kind).map(|(_, digest)| *digest);
            Part { manifest: digest.unwrap_or_default(), ..part }
        })
        .collect();
    put(SBOM, sbom::write(&release, &bill, &crates).as_bytes())?;
    let notes = notes.unwrap_or_else(|| stub(&release, &hex(&facts.package_id), &bill));
    put(NOTES, notes.as_bytes())?;

    // What lies there is read back: what is signed is what was written.
    release.files = read_folder(draft)?.iter().map(|(name, bytes)| ReleaseFile::new(name, bytes)).collect();
    let subjects: Vec<&ReleaseFile> = IMAGES
        .iter()
        .map(|(name, _)| *name)
        .chain([UPDATE_IMAGE, SBOM])
        .filter_map(|name| release.file(name))
        .collect();
    let source = Source { uri: config.stages.source.as_deref(), commit: config.stages.commit.as_deref() };
    let statement = provenance::statement(&release, &subjects, &bill, &source);
    let envelope = dsse::sign(owner, manifest::ROLE, dsse::IN_TOTO, &statement)?;
    put(PROVENANCE, envelope.as_bytes())?;
    release.files.push(ReleaseFile::new(PROVENANCE, envelope.as_bytes()));
    release.files.sort_by(|a, b| a.name.cmp(&b.name));

    let signed = release.sign(owner)?;
    put(MANIFEST, &signed)?;
    let listed = release.files.iter().cloned().chain([ReleaseFile::new(MANIFEST, &signed)]);
    put(SUMS, sums::write(&listed.collect::<Vec<_>>()).as_bytes())?;
    Ok((release, facts.package_id, content_key))
}

fn public_pem(public: &[u8; 64]) -> Result<String, Error> {
    es256_public_pem(public).map_err(|error: SigningKeyError| Error::KeyFile { path: ROOT_KEY.into(), error })
}

/// Returns the public keys of the role that signs the release, in PEM.
fn role_pem(owner: &Owner) -> Result<String, Error> {
    // A message says who signs it.
    let message = owner.sign_message(manifest::ROLE, "application/kiln-none", b"")?;
    let said = InspectedMessage::of(&message).map_err(|error| Error::Image { offset: 0, error })?;
    said.grants
        .iter()
        .map(|grant| match grant.key {
            PublicKey::P256(point) => public_pem(&point),
            PublicKey::Rsa(_) => Err(Error::RoleMissing { role: manifest::ROLE }),
        })
        .collect()
}

/// Writes notes for somebody to write the rest of.
fn stub(release: &ReleaseManifest, package_id: &str, parts: &[Part]) -> String {
    let parts: String = parts
        .iter()
        .map(|part| {
            let version = part.version.as_deref().unwrap_or("-");
            format!("| {} | {} | {version} | `{}` |\n", part.kind, part.name, hex(&part.sha256))
        })
        .collect();
    format!(
        "# {} {}\n\nNo notes were written for this release: name a file as `notes` in `kiln.toml`.\n\n\
         | | |\n|---|---|\n| board | {} |\n| rollback index | {} |\n| package id | `{package_id}` |\n\n\
         | kind | name | version | SHA-256 in the clear |\n|---|---|---|---|\n{parts}",
        release.product, release.version, release.board, release.rollback_index,
    )
}

impl Part {
    fn new(kind: Kind, name: &str, plain: &[u8]) -> Self {
        Self {
            name: name.into(),
            kind: kind.name(),
            version: None,
            license: None,
            sha256: sha256(plain),
            manifest: [0; 32],
        }
    }
}
