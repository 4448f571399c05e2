//! What any artefact of Kiln's says about itself, as a tree: without keys, and without trust.
//!
//! # Threats
//! Everything here is untrusted: it is read within its length, by the same strict parsers that devices have, and shown
//! with the word that nothing is verified. No secret is shown, not even where a file holds one.

use crate::folder::{
    self, MANIFEST, PROVENANCE, SBOM, SEALED_KEY, inspect_bill, inspect_envelope, inspect_manifest,
    is_release_folder,
};
use crate::{AuthorityKey, DeviceFiles, Error, PackageFacts, SealedContentKey, files, hex, inspect_slot};
use boot_crypto::host::es256_public_from_pem;
use lifecycle::{Fuses, OtpImage, RootSlot, Row};
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B, FLASH0, OTP};
use sealed_image::host::{Inspected, InspectedMessage};
use sealed_image::{Compression, Grant, MAGIC, PublicKey, Role, Version};
use serde_json::{Value, json};
use std::path::Path;

/// Longest file that is looked at, in bytes.
const LONGEST: u64 = 1 << 30;

/// Describes a file or a folder: an image or several, a release, a package, a signed message, an SBOM, a provenance, a
/// public key, a sealed content key, the flash of a device.
///
/// # Errors
/// What cannot be read, or is nothing of Kiln's.
pub fn look(path: &Path) -> Result<Value, Error> {
    let metadata = path.metadata().map_err(|error| Error::Read { path: path.into(), error })?;
    if metadata.is_dir() {
        return folder_of(path);
    }
    if metadata.len() > LONGEST {
        return Err(unknown(path, "it is larger than anything that Kiln makes"));
    }
    file(path, &files::read(path)?)
}

fn unknown(path: &Path, reason: &str) -> Error {
    Error::ReleaseFile { path: path.into(), reason: reason.into() }
}

fn folder_of(path: &Path) -> Result<Value, Error> {
    if is_release_folder(path) {
        let mut tree = json!({
            "artefact": "release folder",
            "release": said(path, MANIFEST),
            "package": look(&path.join(folder::PACKAGE)).unwrap_or_else(|error| failed(&error)),
            "sbom": said(path, SBOM),
            "provenance": said(path, PROVENANCE),
        });
        if path.join(SEALED_KEY).exists() {
            tree["content key"] = said(path, SEALED_KEY);
        }
        return Ok(tree);
    }
    if path.join("release.json").exists() {
        let names = ["release.json", "stage1.img", "package.img"];
        let parts = names.map(|name| (name.to_owned(), said(path, name)));
        return Ok(json!({ "artefact": "package", "files": serde_json::Map::from_iter(parts) }));
    }
    let device = DeviceFiles::new(path);
    if device.flash0().exists() {
        return look(&device.flash0());
    }
    Err(unknown(path, "it is no folder that Kiln makes"))
}

/// Describes a file of a folder, or says why not: an inspector shows what there is.
fn said(folder: &Path, name: &str) -> Value {
    look(&folder.join(name)).unwrap_or_else(|error| failed(&error))
}

fn failed(error: &Error) -> Value {
    json!({ "unreadable": error.to_string(), "code": error.code().map(fail_code::FailCode::name) })
}

fn file(path: &Path, untrusted: &[u8]) -> Result<Value, Error> {
    if untrusted.starts_with(&MAGIC) {
        return Ok(json!({ "artefact": "images", "images": images(untrusted)? }));
    }
    if untrusted.len() as u64 == FLASH0.size {
        return Ok(flash(untrusted));
    }
    if let Ok(message) = InspectedMessage::of(untrusted) {
        return Ok(signed_message(&message));
    }
    if let Ok(sealed) = SealedContentKey::decode_exact(untrusted) {
        return Ok(sealed.inspect());
    }
    let text = std::str::from_utf8(untrusted).map_err(|_| unknown(path, "it is nothing that Kiln makes"))?;
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
        "floors in secured": floors(|role| u32::from(policy.secured_floors[usize::from(role) - 1])),
        "floors in production": floors(|role| u32::from(policy.production_floors[usize::from(role) - 1])),
    })
}

/// Lists the rollback floors that are above zero.
fn floors(of: impl Fn(u8) -> u32) -> Value {
    let floors = Role::ALL.iter().map(|role| (role.name().to_owned(), of(role.number())));
    floors
        .filter(|(_, floor)| *floor > 0)
        .map(|(role, floor)| (role, json!(floor)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn signed_message(message: &InspectedMessage<'_>) -> Value {
    let release = inspect_manifest(message.payload);
    json!({
        "artefact": if release.is_some() { "release manifest" } else { "signed message" },
        "release": release,
        "payload bytes": message.payload.len(),
        "owner root": hex(&message.root.thumbprint()),
        "delegations": message.grants.iter().map(grant).collect::<Vec<_>>(),
    })
}

fn grant(grant: &Grant<'_>) -> Value {
    let kinds: Vec<_> = grant.kinds.iter().map(sealed_image::Kind::name).collect();
    let limit = |version: Version, none: Version| (version != none).then(|| version.to_string());
    json!({
        "role": grant.role.name(),
        "key": hex(&grant.key.thumbprint()),
        "algorithm": format!("{:?}", grant.key.algorithm()).to_uppercase(),
        "kinds": kinds,
        "boards": grant.boards().collect::<Vec<_>>(),
        "from version": limit(grant.min_version, Version::MIN),
        "to version": limit(grant.max_version, Version::MAX),
    })
}

fn images(untrusted: &[u8]) -> Result<Vec<Value>, Error> {
    let described = |info: &crate::ImageInfo| {
        let offset = info.offset;
        let bytes = untrusted.get(offset as usize..).ok_or(Error::SlotTruncated { offset })?;
        let image = Inspected::of(bytes).map_err(|error| Error::Image { offset, error })?;
        let manifest = &image.manifest;
        Ok(json!({
            "kind": manifest.kind.name(),
            "version": manifest.version.to_string(),
            "board": manifest.board,
            "rollback index": manifest.rollback_index,
            "offset": format!("{offset:#x}"),
            "bytes stored": image.image_len,
            "bytes in the clear": manifest.plain_size,
            "load address": format!("{:#x}", manifest.load_address),
            "entry": format!("{:#x}", manifest.entry),
            "chunks": manifest.chunk_count(),
            "compression": if image.compression == Compression::None { "none" } else { "lz4" },
            "manifest": hex(&image.manifest_digest),
            "plain digest": hex(manifest.plain_digest),
            "owner root": hex(&image.root),
            "delegations": image.grants.iter().map(grant).collect::<Vec<_>>(),
        }))
    };
    inspect_slot(untrusted)?.iter().map(described).collect()
}

fn flash(untrusted: &[u8]) -> Value {
    let part = |region: Region| {
        let start = (region.base - FLASH0.base) as usize;
        untrusted.get(start..start + region.size as usize).unwrap_or_default()
    };
    let slot = |region| match images(part(region)) {
        Ok(images) => json!(images),
        Err(Error::SlotEmpty) => json!("empty"),
        Err(error) => failed(&error),
    };
    json!({
        "artefact": "flash of a device",
        "slot a": slot(BOOT_SLOT_A),
        "slot b": slot(BOOT_SLOT_B),
        "fuses": fuses(&OtpImage::from_flash(part(OTP))),
    })
}

/// Describes fuses; of secret rows, whether they are burned.
fn fuses(otp: &OtpImage) -> Value {
    let fuses = match Fuses::read(otp) {
        Ok(fuses) => fuses,
        Err(error) => {
            return json!({ "unreadable": error.code().cause(), "code": error.code().name() });
        }
    };
    let root = |slot: &RootSlot| match slot {
        RootSlot::Active(digest) => Some(hex(digest)),
        _ => None,
    };
    let locks = Fuses::read_locks(otp).unwrap_or_default();
    let locked: Vec<_> =
        Row::ALL.iter().filter(|row| locks.contains(**row)).map(|row| format!("{row:?}")).collect();
    json!({
        "lifecycle": fuses.lifecycle().name(),
        "chip id": hex(fuses.chip_id()),
        "debug locked": fuses.debug_locked(),
        "owner roots": fuses.roots().iter().filter_map(root).collect::<Vec<_>>(),
        "provisioning key burned": fuses.provisioning_key().is_some(),
        "device seed burned": fuses.device_seed().is_some(),
        "closing measurement": fuses.closing_measurement().map(|digest| hex(digest)),
        "floors": floors(|role| fuses.floor(role).unwrap_or_default()),
        "owner generation": fuses.owner_generation(),
        "locked rows": locked,
    })
}
