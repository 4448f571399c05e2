//! What is signed and lies by itself: manifests without their image, delegation certificates, release manifests.

use super::{Holding, Means, Verdict};
use crate::artefact::DelegationFile;
use crate::folder::verify_manifest as verify_release;
use crate::keys::{Use, check_use};
use crate::look::grant;
use crate::{Error, files, hex, inspect_slot};
use fail_code::FailCode;
use memory_map::qemu_virt::BOARD;
use sealed_image::host::{
    Inspected, InspectedManifest, InspectedMessage, delegation, verify_certificate, verify_manifest as signed,
};
use sealed_image::{Es256AndPs256, Kind, PublicKey, Role};
use serde_json::json;
use std::path::Path;

/// Verifies a bare manifest: who signed it, and what it says.
pub(super) fn verify_manifest(
    untrusted: &[u8],
    path: &Path,
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let Some(file) = &means.delegation else {
        return Err(Error::DelegationMissing { path: path.into() });
    };
    let said = InspectedManifest::of(untrusted).ok();
    let part = delegation_part(file, said.as_ref().map_or(&[][..], |it| &it.signers), means)?;
    // One that cannot be read is refused, of whatever kind it is.
    let kind = said.as_ref().map_or(Kind::Kernel, |said| said.manifest.kind);
    let manifest = means
        .judge()
        .policy(kind, |policy| signed::<Es256AndPs256>(&part, untrusted, policy))
        .map_err(|error| Error::Signed { what: "manifest", error })?;
    let role = kind.role().map_or("none", Role::name);
    hold.add("signatures", format!("of the role {role}, which {} delegates to", means.by_root()));
    hold.add("manifest", format!("as devices want it of a {}, for the board {BOARD}", kind.name()));
    Ok(Verdict {
        artefact: "manifest",
        facts: vec![
            ("kind", json!(manifest.kind.name())),
            ("board", json!(manifest.board)),
            ("version", json!(manifest.version.to_string())),
            ("rollback index", json!(manifest.rollback_index)),
            ("plain digest", json!(hex(manifest.plain_digest))),
            ("manifest", said.map_or(json!(null), |said| json!(hex(&said.manifest_digest)))),
        ],
        unchecked: vec!["the payload, which is not there: the manifest only says what it has to be".into()],
    })
}

/// Finds the delegations of these signers in a file: an image or several, a signed message, or a certificate.
fn delegation_part(path: &Path, signers: &[boot_crypto::Digest], means: &Means) -> Result<Vec<u8>, Error> {
    let untrusted = files::read(path)?;
    let none = || Error::ReleaseFile { path: path.into(), reason: "it has no delegations in it".into() };
    if let Ok(message) = InspectedMessage::of(&untrusted) {
        return Ok(message.delegation.to_vec());
    }
    if let Ok(infos) = inspect_slot(&untrusted) {
        let info = infos.iter().find(|info| info.signers == signers).or(infos.first()).ok_or_else(none)?;
        let image = untrusted.get(info.offset as usize..).and_then(|image| Inspected::of(image).ok());
        return Ok(image.ok_or_else(none)?.delegation.to_vec());
    }
    let file = DelegationFile::of(&untrusted).ok_or_else(none)?;
    Ok(delegation(&PublicKey::P256(means.root), &[file.certificate]))
}

/// Verifies a delegation certificate.
pub(super) fn verify_delegation(
    untrusted: &[u8],
    path: &Path,
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let file = DelegationFile::of(untrusted);
    let file = file
        .ok_or(Error::ReleaseFile { path: path.into(), reason: "it is no delegation certificate".into() })?;
    let refused = |error| Error::Signed { what: "delegation", error };
    if file.root.is_some_and(|root| root != hex(&means.root)) {
        return Err(refused(sealed_image::Error::RootUnknown));
    }
    let found = verify_certificate(&file.certificate, &means.root, &means.roots(), !means.development);
    let found = found.map_err(refused)?;
    hold.add("signature", format!("of {}", means.by_root()));
    // Development dies are not provisioned: they read nothing that the other roles sign.
    if means.development && !matches!(found.role, Role::Boot | Role::Os) {
        return Err(Error::OptionUnused { option: "--development", what: "delegation of such a role" });
    }
    if !found.boards().any(|board| board == BOARD) {
        return Err(refused(sealed_image::Error::BoardNotDelegated));
    }
    hold.add("board", format!("{BOARD} is among its boards"));
    let mut unchecked = vec!["who holds the key: devices see that in what it signs".into()];
    match check_use(&found).map_err(|fault| Error::Delegation { path: path.into(), fault })? {
        Use::Images(kinds) => {
            let kinds: Vec<_> = kinds.iter().map(|kind| kind.name()).collect();
            hold.add("use", format!("devices take what it signs of these kinds: {}", kinds.join(", ")));
        }
        Use::Messages => hold.add("use", "devices take the authority's answers that it signs"),
        Use::Reserved => {
            unchecked.push(format!("what it may do: no device reads the role {} yet", found.role.name()));
        }
    }
    let facts = grant(&found);
    let facts = ["role", "key", "algorithm", "kinds", "boards", "from version", "to version"]
        .map(|name| (name, facts[name].clone()));
    Ok(Verdict {
        artefact: "delegation",
        facts: facts.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        unchecked,
    })
}

/// Verifies the manifest of a release folder without the folder.
pub(super) fn verify_release_manifest(
    untrusted: &[u8],
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let release = verify_release(untrusted, BOARD, &means.roots())?.manifest;
    hold.add("signatures", format!("of the role provision, which {} delegates to", means.by_root()));
    let below = |(role, index)| index < u32::from(means.floors.of(role));
    if release.rollback_index.each().into_iter().any(below) {
        return Err(Error::Refused {
            what: format!("a release of rollback index {} is not taken", release.rollback_index),
            code: FailCode::RolledBack,
            slots: Vec::new(),
        });
    }
    Ok(Verdict {
        artefact: "release manifest",
        facts: vec![
            ("product", json!(release.product)),
            ("board", json!(release.board)),
            ("version", json!(release.version.to_string())),
            ("rollback index", release.rollback_index.to_json()),
            ("files", json!(release.files.len())),
        ],
        unchecked: vec!["the files that it lists: give `kiln verify` the folder".into()],
    })
}
