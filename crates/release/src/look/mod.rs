//! What any artefact of Kiln's says about itself, as a tree: without keys, and without trust.
//!
//! # Threats
//! Everything here is untrusted: it is read within its length, by the same strict parsers that devices have, and shown
//! with the word that nothing is verified. No secret is shown, not even where a file holds one.

mod apart;
mod device;
mod image;
mod message;

pub(crate) use apart::grant;

use crate::artefact::Artefact;
use crate::folder::{self, MANIFEST, PROVENANCE, SBOM, SEALED_KEY, inspect_bill, inspect_envelope};
use crate::update::{FACTS_FILE, UPDATE_FILE};
use crate::{
    AuthorityKey, DeviceFiles, Error, FolderKind, PackageFacts, Revocations, SealedContentKey, UpdateFacts,
    UpdateKey, files, hex, package_files,
};
use boot_crypto::host::es256_public_from_pem;
use sealed_image::{PublicKey, Role};
use serde_json::{Value, json};
use std::path::Path;

/// Longest file that is looked at, in bytes.
const LONGEST: u64 = 1 << 30;

/// Describes a file or a folder: a release, a package, an update, a device, and every [`Artefact`]; also an SBOM, a provenance, a
/// public key, a sealed content key, and a list of revoked keys.
///
/// # Errors
/// What cannot be read, or is nothing of Kiln's.
pub fn look(path: &Path) -> Result<Value, Error> {
    let metadata = path.metadata().map_err(|error| Error::Read { path: path.into(), error })?;
    if !metadata.is_dir() {
        return file(path);
    }
    match FolderKind::of(path)? {
        Some(FolderKind::Release) => Ok(release(path)),
        Some(FolderKind::Package) => Ok(package(path)),
        Some(FolderKind::Update) => Ok(update(path)),
        Some(FolderKind::Device) => file(&DeviceFiles::new(path).flash0()),
        None => Err(unknown(path, "it is no folder that Kiln makes")),
    }
}

fn unknown(path: &Path, reason: &str) -> Error {
    Error::ReleaseFile { path: path.into(), reason: reason.into() }
}

/// Describes a release. Its parts are looked for by the names of their files: a folder that leads to itself has no parts.
fn release(path: &Path) -> Value {
    let mut tree = json!({
        "artefact": "release folder",
        "release": said(path, MANIFEST),
        "package": package(&path.join(folder::PACKAGE)),
        "sbom": said(path, SBOM),
        "provenance": said(path, PROVENANCE),
    });
    if files::is_there(&path.join(folder::UPDATE)) {
        tree["update"] = update(&path.join(folder::UPDATE));
    }
    if files::is_there(&path.join(SEALED_KEY)) {
        tree["content key"] = said(path, SEALED_KEY);
    }
    tree
}

fn package(path: &Path) -> Value {
    let parts = package_files::PUBLIC.map(|name| (name.to_owned(), said(path, name)));
    json!({ "artefact": "package", "files": serde_json::Map::from_iter(parts) })
}

fn update(path: &Path) -> Value {
    json!({ "artefact": "update", "facts": said(path, FACTS_FILE), "images": said(path, UPDATE_FILE) })
}

/// Describes a file of a folder, or says why not: an inspector shows what there is.
fn said(folder: &Path, name: &str) -> Value {
    file(&folder.join(name)).unwrap_or_else(|error| failed(&error))
}

fn failed(error: &Error) -> Value {
    json!({ "unreadable": error.to_string(), "code": error.code().map(fail_code::FailCode::name) })
}

/// Reads a file and describes it.
fn file(path: &Path) -> Result<Value, Error> {
    describe(path, &files::read_at_most(path, LONGEST)?)
}

/// Describes what the file at `path` holds.
fn describe(path: &Path, untrusted: &[u8]) -> Result<Value, Error> {
    match Artefact::of(untrusted) {
        Some(Artefact::Images(_)) => {
            return Ok(json!({ "artefact": "images", "images": image::images(untrusted)? }));
        }
        Some(Artefact::Manifest) => return apart::manifest(untrusted),
        Some(Artefact::Delegation) => return apart::delegation(untrusted),
        Some(Artefact::ReleaseManifest) => return message::signed(untrusted),
        Some(Artefact::Message(kind)) => return message::of(kind, untrusted),
        Some(Artefact::Fuses) => return Ok(device::bank(untrusted)),
        Some(Artefact::Flash) => return Ok(device::flash(untrusted)),
        None => {}
    }
    if let Ok(message) = message::signed(untrusted) {
        return Ok(message);
    }
    if let Some(list) = Revocations::claimed(untrusted) {
        let keys: Vec<_> = list.keys().iter().map(|key| hex(key)).collect();
        return Ok(json!({ "artefact": "list of revoked keys", "number": list.number(), "keys": keys }));
    }
    if let Ok(sealed) = SealedContentKey::decode_exact(untrusted) {
        return Ok(sealed.inspect());
    }
    let text = std::str::from_utf8(untrusted).map_err(|_| unknown(path, "it is nothing that Kiln makes"))?;
    if let Some(kept) = UpdateKey::kept_in(text) {
        return Ok(json!({ "artefact": "update key", "kept in": kept }));
    }
    if let Some(authority) = AuthorityKey::parse(text) {
        let thumbprint = hex(&authority.thumbprint());
        return Ok(json!({ "artefact": "sealing key of an authority", "thumbprint": thumbprint }));
    }
    if let Ok(public) = es256_public_from_pem(text) {
        let thumbprint = hex(&PublicKey::P256(public).thumbprint());
        return Ok(json!({ "artefact": "public key", "algorithm": "ES256", "thumbprint": thumbprint }));
    }
    if let Ok(facts) = PackageFacts::from_json(text) {
        return Ok(facts_of(&facts));
    }
    if let Ok(facts) = UpdateFacts::from_json(text) {
        return Ok(facts_of_update(&facts));
    }
    let found = inspect_bill(text).or_else(|| inspect_envelope(text));
    found.ok_or_else(|| unknown(path, "it is nothing that Kiln makes"))
}

fn facts_of(facts: &PackageFacts) -> Value {
    let policy = &facts.policy;
    json!({
        "artefact": "facts of a package",
        "release": facts.release,
        "board": facts.board,
        "version": facts.version.to_string(),
        "package id": hex(&facts.package_id),
        "package sha256": hex(&facts.package_digest),
        "stage1": hex(&facts.stage1_measurement),
        "stage2": hex(&facts.stage2_measurement),
        "owner root": hex(&policy.root_digest),
        "floors in secured": floors(|role| u32::from(policy.secured_floors[usize::from(role.number()) - 1])),
        "floors in production": floors(|role| u32::from(policy.production_floors[usize::from(role.number()) - 1])),
    })
}

fn facts_of_update(facts: &UpdateFacts) -> Value {
    json!({
        "artefact": "facts of an update",
        "product": facts.product,
        "board": facts.board,
        "version": facts.version.to_string(),
        "minimum version": facts.minimum_version.to_string(),
        "rollback indices": floors(|role| facts.indices.of(role).unwrap_or_default()),
        "update id": hex(&facts.update_id),
        "update sha256": hex(&facts.update_digest),
    })
}

/// Lists the rollback floors that are above zero.
fn floors(of: impl Fn(Role) -> u32) -> Value {
    let floors = Role::ALL.into_iter().map(|role| (role.name().to_owned(), of(role)));
    floors
        .filter(|(_, floor)| *floor > 0)
        .map(|(role, floor)| (role, json!(floor)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}
