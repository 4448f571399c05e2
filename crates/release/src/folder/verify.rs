//! Verifying a release folder offline, with the device's own code.

use super::manifest::{self, MANIFEST, ReleaseManifest, is_name};
use super::provenance::{self, PROVENANCE};
use super::sbom::{self, SBOM};
use super::sums::{self, SUMS};
use super::{IMAGES, ROLE_KEY, ROOT_KEY, SEALED_KEY, UPDATE_IMAGE, dsse, signed_manifests, update};
use crate::files::{Links, Unreadable};
use crate::package::{SignedImages, floors};
use crate::verify::PLACES;
use crate::{
    ContentKey, Error, ImageInfo, PackageFacts, PackageRelease, SealedContentKey, Trusted, UpdateFacts,
    UpdateKey, files, hex, inspect_slot, read_key_text,
};
use boot_crypto::host::{es256_public_from_pem, es256_public_pem};
use boot_crypto::{Digest, sha256};
use memory_map::qemu_virt::BOARD;
use sealed_image::{Kind, PublicKey, Role};
use std::collections::BTreeMap;
use std::path::Path;

/// Largest release manifest and `SHA256SUMS` that are read, in bytes.
const LONGEST: u64 = 1 << 20;
/// Largest file of a release before its size is known, in bytes: a package and something.
const LARGEST: u64 = 1 << 30;

/// One thing that was checked, and holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub name: &'static str,
    /// What was found.
    pub detail: String,
}

/// The keys that a release is opened with, as far as they are there.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpeningKeys<'a> {
    /// The content key, which opens the package.
    pub content_key: Option<&'a ContentKey>,
    /// The product's update key, which opens the update image.
    pub update_key: Option<&'a UpdateKey>,
}

/// A release that holds.
#[derive(Clone, Debug)]
pub struct VerifiedRelease {
    /// What the owner signed about it.
    pub manifest: ReleaseManifest,
    /// What is known of its package.
    pub facts: PackageFacts,
    /// The images of the package, stage1 first.
    pub images: Vec<ImageInfo>,
    /// What is known of its update image, if it has one.
    pub update: Option<UpdateFacts>,
    /// The thumbprints of all keys that signed something of it, sorted, each once.
    pub signers: Vec<Digest>,
}

/// Reads the public key of an owner root from PEM, and returns its thumbprint.
///
/// # Errors
/// A file that cannot be read, or holds no P-256 public key.
pub fn read_root(path: &Path) -> Result<Digest, Error> {
    Ok(PublicKey::P256(read_root_key(path)?).thumbprint())
}

/// Reads the public key of an owner root from PEM: x followed by y.
///
/// # Errors
/// As [`read_root`].
pub fn read_root_key(path: &Path) -> Result<[u8; 64], Error> {
    let text = files::read_text(path)?;
    es256_public_from_pem(&text).map_err(|error| Error::KeyFile { path: path.into(), error })
}

/// Verifies a release folder for devices that trust an owner root, which must come from elsewhere. `checks` gets what holds, one after
/// the other, up to the first thing that does not.
///
/// Without keys: that each file is the one that was signed, each image is signed as a device wants it, and a device of the
/// minimum version takes the update. With them: also every object, to the last byte, as stage1 of a die of the lot would, or a
/// device of the product.
///
/// # Errors
/// The first reason to refuse, with the device's code where it is a device that would refuse.
pub fn verify_release(
    folder: &Path,
    trusted: &Trusted,
    keys: &OpeningKeys<'_>,
    checks: &mut Vec<Check>,
) -> Result<VerifiedRelease, Error> {
    let mut hold = |name, detail: String| checks.push(Check { name, detail });
    let untrusted = read_file(folder, MANIFEST, LONGEST)?;
    let root = trusted.root;
    let signed = manifest::verify_by(&untrusted, BOARD, &trusted.roots())?;
    let release = &signed.manifest;
    hold(
        "release manifest",
        format!("signed by the role {}, which root {}… delegates to", manifest::ROLE.name(), hex(&root[..4])),
    );

    let files = listed_files(folder, release)?;
    hold("files", format!("all {} that are listed, to the last byte, and no others", release.files.len()));
    check_sums(&read_file(folder, SUMS, LONGEST)?, &untrusted, release)?;
    hold("SHA256SUMS", "says the same".into());
    check_keys(&files, &signed)?;
    hold("public keys", "are the owner root's and the role's".into());

    let package = package(&files)?;
    check_facts(&package, release, root)?;
    package.check_for(trusted)?;
    hold("package", "its files belong together, and a die of the lot boots its stage1".into());
    if let Some(untrusted) = files.get(SEALED_KEY) {
        let recipient = check_sealed_key(untrusted, &package.facts)?;
        hold("content key", format!("of this package, sealed to the authority {}…", hex(&recipient[..4])));
    }
    let images = check_images(&package, &files, trusted)?;
    let names: Vec<_> = images.iter().map(|image| image.kind.name()).collect();
    hold("images", format!("signed as a device wants them: {}", names.join(", ")));

    let update = update::of(&files)?;
    if let Some(update) = &update {
        let found = update::check(update, &files, release, &images, trusted, keys.update_key)?;
        hold("update", found);
    }

    let bill = text(&files, SBOM)?;
    let parts = check_bill(bill, &images)?;
    let (components, crates) = sbom::count(bill);
    hold(
        "SBOM",
        format!(
            "{components} components, {crates} of them crates of the stages; every image's part is the one signed"
        ),
    );
    let subjects = check_provenance(&files, &signed, &parts)?;
    hold(
        "provenance",
        format!(
            "DSSE envelope signed by the role, about {subjects} files of this release, made of the parts in the SBOM"
        ),
    );

    if let Some(content_key) = keys.content_key {
        let opened = package.open_for(trusted, &content_key.0)?;
        for (kind, sha256_of_part) in &parts {
            let plain = opened.iter().find(|image| image.info.kind.name() == kind);
            if plain.is_some_and(|image| sha256(&image.plain) != *sha256_of_part) {
                return Err(Error::ReleaseMixed { what: "the SBOM has another SHA-256 than a payload" });
            }
        }
        hold(
            "payloads",
            format!("{} opened and checked as a device does; the SBOM has their SHA-256", opened.len()),
        );
        let opened: Vec<_> = opened.into_iter().map(|image| image.info).collect();
        package.check_places(&opened, trusted, &content_key.0)?;
        hold("places", PLACES.into());
    }
    let updated = update.as_ref().map(|update| inspect_slot(&update.image)).transpose()?;
    if let (Some(update), Some(images), Some(key)) = (&update, &updated, keys.update_key) {
        hold("update payloads", "opened to the last byte, and checked as a device does".into());
        update.check_places(images, trusted, key)?;
        hold("update places", PLACES.into());
    }
    let mut signers: Vec<Digest> = signed.keys.iter().map(|key| PublicKey::P256(*key).thumbprint()).collect();
    let all = images.iter().chain(updated.iter().flatten());
    signers.extend(all.flat_map(|image| image.signers.iter().copied()));
    signers.sort_unstable();
    signers.dedup();
    let update = update.map(|update| update.facts);
    Ok(VerifiedRelease { facts: package.facts, manifest: signed.manifest, images, update, signers })
}

/// Reads a file of the folder, which must be one, and not a link to one.
fn read_file(folder: &Path, name: &str, longest: u64) -> Result<Vec<u8>, Error> {
    let path = folder.join(name);
    files::read_bounded(&path, longest, Links::Refused).map_err(|why| match why {
        Unreadable::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Error::FileMissing { name: name.into() }
        }
        Unreadable::Io(error) => Error::Read { path, error },
        Unreadable::NoFile => Error::FileUnlisted { name: name.into() },
        Unreadable::TooLarge => {
            Error::FileAltered { name: name.into(), listed_in: "the signed release manifest" }
        }
    })
}

/// Lists the names of all files of a folder, in their order; refuses whatever is neither a file nor a folder of files.
fn names(folder: &Path) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    list(folder, "", &mut names)?;
    names.sort();
    Ok(names)
}

fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) -> Result<(), Error> {
    let failed = |error| Error::Read { path: folder.into(), error };
    let mut found = 0;
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        found += 1;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let kind = entry.file_type().map_err(failed)?;
        if !is_name(&name) || !(kind.is_file() || kind.is_dir()) {
            return Err(Error::FileUnlisted { name });
        }
        if kind.is_file() {
            names.push(name);
        } else {
            list(&entry.path(), &format!("{name}/"), names)?;
        }
    }
    if found == 0 {
        return Err(Error::FileUnlisted { name: prefix.into() });
    }
    Ok(())
}

/// Reads a folder that was just made.
pub(super) fn read_folder(folder: &Path) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let read = |name: String| Ok((name.clone(), read_file(folder, &name, LARGEST)?));
    names(folder)?.into_iter().map(read).collect()
}

/// Reads the files that the release manifest lists, and refuses others.
fn listed_files(folder: &Path, release: &ReleaseManifest) -> Result<BTreeMap<String, Vec<u8>>, Error> {
    let known = |name: &String| release.file(name).is_some() || [MANIFEST, SUMS].contains(&name.as_str());
    if let Some(name) = names(folder)?.into_iter().find(|name| !known(name)) {
        return Err(Error::FileUnlisted { name });
    }
    let mut files = BTreeMap::new();
    for file in &release.files {
        let bytes = read_file(folder, &file.name, file.size)?;
        if bytes.len() as u64 != file.size || sha256(&bytes) != file.digest {
            let name = file.name.clone();
            return Err(Error::FileAltered { name, listed_in: "the signed release manifest" });
        }
        files.insert(file.name.clone(), bytes);
    }
    Ok(files)
}

fn check_sums(untrusted: &[u8], signed: &[u8], release: &ReleaseManifest) -> Result<(), Error> {
    let altered = || Error::FileAltered { name: SUMS.into(), listed_in: "the signed release manifest" };
    let text = std::str::from_utf8(untrusted).map_err(|_| altered())?;
    let mut found: BTreeMap<_, _> = sums::read(text).ok_or_else(altered)?.into_iter().collect();
    let complete = text.lines().count() == release.files.len() + 1
        && found.remove(MANIFEST) == Some(sha256(signed))
        && release.files.iter().all(|file| found.get(file.name.as_str()) == Some(&file.digest));
    if complete { Ok(()) } else { Err(altered()) }
}

fn get<'a>(files: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Result<&'a [u8], Error> {
    files.get(name).map(Vec::as_slice).ok_or_else(|| Error::FileMissing { name: name.into() })
}

fn text<'a>(files: &'a BTreeMap<String, Vec<u8>>, name: &str) -> Result<&'a str, Error> {
    std::str::from_utf8(get(files, name)?)
        .map_err(|_| Error::ReleaseFile { path: name.into(), reason: "it is no text in UTF-8".into() })
}

fn check_keys(files: &BTreeMap<String, Vec<u8>>, signed: &manifest::SignedBy) -> Result<(), Error> {
    let pem = |public: &[u8; 64]| es256_public_pem(public).unwrap_or_default();
    let role: String = signed.keys.iter().map(pem).collect();
    if text(files, ROOT_KEY)? != pem(&signed.root) || text(files, ROLE_KEY)? != role {
        return Err(Error::ReleaseMixed { what: "the public keys are not those that signed it" });
    }
    Ok(())
}

/// Puts the package together from files that were read already.
fn package(files: &BTreeMap<String, Vec<u8>>) -> Result<PackageRelease, Error> {
    let facts = "package/release.json";
    let key = "package/provisioning.key";
    Ok(PackageRelease {
        facts: PackageFacts::from_json(text(files, facts)?)
            .map_err(|reason| Error::ReleaseFile { path: facts.into(), reason })?,
        stage1: get(files, IMAGES[0].0)?.to_vec(),
        package: get(files, IMAGES[1].0)?.to_vec(),
        provisioning_key: read_key_text(text(files, key)?, Path::new(key))?,
    })
}

fn check_facts(package: &PackageRelease, release: &ReleaseManifest, root: Digest) -> Result<(), Error> {
    let facts = &package.facts;
    let mixed = |what| Err(Error::ReleaseMixed { what });
    if facts.policy.root_digest != root {
        return mixed("the package is for dies of another owner root");
    }
    if facts.board != release.board || facts.version != release.version {
        return mixed("the package is of another board or version than the release manifest says");
    }
    let indices = &release.rollback_index;
    let brought = [
        (facts.policy.secured_floors, &[Role::Provision][..]),
        (facts.policy.production_floors, &[Role::Boot, Role::Provision, Role::Os]),
    ];
    if brought.iter().any(|(found, roles)| floors(indices, roles).ok() != Some(*found)) {
        return mixed("the package has another rollback index than the release manifest says");
    }
    Ok(())
}

/// Checks what a sealed content key says of itself, and returns the thumbprint of the key that it is sealed to.
fn check_sealed_key(untrusted: &[u8], facts: &PackageFacts) -> Result<Digest, Error> {
    let sealed = SealedContentKey::decode_exact(untrusted)
        .map_err(|fault| Error::SealedKey { path: SEALED_KEY.into(), fault })?;
    if !sealed.is_of(facts) {
        return Err(Error::ReleaseMixed { what: "the sealed content key is that of another package" });
    }
    Ok(sealed.recipient())
}

/// Verifies the signatures of all images, and that the manifests that lie next to the package are theirs.
fn check_images(
    package: &PackageRelease,
    files: &BTreeMap<String, Vec<u8>>,
    trusted: &Trusted,
) -> Result<Vec<ImageInfo>, Error> {
    let SignedImages { stage1, objects } = package.verify_signatures(trusted)?;
    let mut manifests = 0;
    for slot in [&package.stage1, &package.package] {
        for (name, manifest) in signed_manifests(slot)? {
            if get(files, &name)? != manifest {
                return Err(Error::ReleaseMixed { what: "a manifest is not that of its image" });
            }
            manifests += 1;
        }
    }
    manifests += update::manifests(files);
    if files.keys().filter(|name| name.starts_with("manifests/")).count() != manifests {
        return Err(Error::ReleaseMixed { what: "there is a manifest of no image" });
    }
    Ok([stage1, objects].concat())
}

/// Checks that the bill names the part behind each signed manifest, and returns what it says of each.
fn check_bill(bill: &str, images: &[ImageInfo]) -> Result<Vec<(String, Digest)>, Error> {
    let parts = sbom::read_parts(bill).map_err(|reason| Error::ReleaseFile { path: SBOM.into(), reason })?;
    let named: Vec<_> = parts.iter().map(|part| (part.kind.as_str(), part.manifest)).collect();
    let in_bill = |image: &&ImageInfo| !matches!(image.kind, Kind::Package | Kind::Bundle | Kind::Secret);
    let expected: Vec<_> =
        images.iter().filter(in_bill).map(|image| (image.kind.name(), image.digest)).collect();
    if named != expected {
        return Err(Error::ReleaseMixed { what: "the SBOM names other parts than the package holds" });
    }
    Ok(parts.into_iter().map(|part| (part.kind, part.sha256)).collect())
}

/// Checks who signed the provenance, that it is about files of this release, and made of these parts; returns about how many.
fn check_provenance(
    files: &BTreeMap<String, Vec<u8>>,
    signed: &manifest::SignedBy,
    parts: &[(String, Digest)],
) -> Result<usize, Error> {
    let envelope = text(files, PROVENANCE)?;
    let read = || {
        let statement = dsse::verify(envelope, dsse::IN_TOTO, &signed.keys)?;
        provenance::read(&statement, &signed.manifest)
    };
    let provenance::Said { subjects, parts: made_of } =
        read().map_err(|reason| Error::Provenance { reason })?;
    let ours = |(name, digest): &(String, Digest)| {
        signed.manifest.file(name).is_some_and(|file| file.digest == *digest)
    };
    let images = IMAGES.iter().map(|(name, _)| *name).chain([UPDATE_IMAGE]);
    let all = images
        .filter(|name| files.contains_key(*name))
        .all(|name| subjects.iter().any(|(subject, _)| subject == name));
    if !all || !subjects.iter().all(ours) {
        return Err(Error::Provenance { reason: "it is about other files" });
    }
    if made_of != parts {
        return Err(Error::Provenance { reason: "it names other parts than the SBOM" });
    }
    Ok(subjects.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OwnerKeys, ReleaseFile};
    use sealed_image::Version;

    #[test]
    fn a_signed_provenance_has_to_name_the_files_and_parts_of_the_release() {
        let owner = OwnerKeys::found(BOARD).owner().unwrap();
        let file = |name: &str| ReleaseFile::new(name, name.as_bytes());
        let mut release = ReleaseManifest {
            product: "demo".into(),
            board: BOARD.into(),
            version: Version::new(1, 2, 3),
            rollback_index: 4.into(),
            files: IMAGES.iter().map(|(name, _)| file(name)).collect(),
        };
        release.files.sort_by(|a, b| a.name.cmp(&b.name));
        let signed = manifest::verify(&release.sign(&owner).unwrap(), BOARD, owner.root_digest()).unwrap();
        let part = sbom::Part::of_test;
        let found = [("stage2".to_owned(), [1; 32]), ("kernel".to_owned(), [2; 32])];
        let judge = |subjects: &[&ReleaseFile], parts: &[sbom::Part]| {
            let source = provenance::Source { uri: None, commit: Some("0123456") };
            let statement = provenance::statement(&release, subjects, parts, &source);
            let envelope = dsse::sign(&owner, manifest::ROLE, dsse::IN_TOTO, &statement).unwrap();
            let mut files: BTreeMap<_, _> = release
                .files
                .iter()
                .map(|file| (file.name.clone(), file.name.clone().into_bytes()))
                .collect();
            files.insert(PROVENANCE.into(), envelope.into_bytes());
            check_provenance(&files, &signed, &found).map_err(|error| error.to_string())
        };
        let subjects: Vec<_> = release.files.iter().collect();
        let sound = || [part("stage2", [1; 32]), part("kernel", [2; 32])];
        assert_eq!(judge(&subjects, &sound()), Ok(subjects.len()));
        let other = file("package/other");
        for subjects in [&subjects[1..], &[&subjects[..], &[&other]].concat()] {
            assert!(judge(subjects, &sound()).unwrap_err().contains("about other files"));
        }
        let [stage2, kernel] = sound();
        for parts in [
            vec![],
            vec![part("stage2", [1; 32])],
            vec![part("stage2", [1; 32]), part("kernel", [3; 32])],
            vec![part("stage1", [1; 32]), part("kernel", [2; 32])],
            vec![kernel, stage2],
        ] {
            assert!(judge(&subjects, &parts).unwrap_err().contains("other parts than the SBOM"));
        }
    }
}
