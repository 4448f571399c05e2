//! Bare manifests, and delegations.

use crate::artefact::DelegationFile;
use crate::{Error, hex};
use sealed_image::host::{InspectedCertificate, InspectedManifest};
use sealed_image::{Grant, Version};
use serde_json::{Value, json};

/// Describes a manifest that lies by itself.
pub(super) fn manifest(untrusted: &[u8]) -> Result<Value, Error> {
    let found =
        InspectedManifest::of(untrusted).map_err(|error| Error::Signed { what: "manifest", error })?;
    let manifest = &found.manifest;
    Ok(json!({
        "artefact": "signed manifest",
        "kind": manifest.kind.name(),
        "version": manifest.version.to_string(),
        "board": manifest.board,
        "rollback index": manifest.rollback_index,
        "bytes in the clear": manifest.plain_size,
        "load address": format!("{:#x}", manifest.load_address),
        "entry": format!("{:#x}", manifest.entry),
        "chunks": manifest.chunk_count(),
        "manifest": hex(&found.manifest_digest),
        "plain digest": hex(manifest.plain_digest),
        "signers": found.signers.iter().map(|signer| hex(signer)).collect::<Vec<_>>(),
    }))
}

/// Describes a delegation certificate.
pub(super) fn delegation(untrusted: &[u8]) -> Result<Value, Error> {
    let refused = |error| Error::Signed { what: "delegation", error };
    let file = DelegationFile::of(untrusted);
    let certificate = file.map(|file| file.certificate).unwrap_or_default();
    let found = InspectedCertificate::of(&certificate).map_err(refused)?;
    let mut tree = json!({ "artefact": "delegation certificate", "owner root": hex(&found.root) });
    if let (Value::Object(tree), Value::Object(grant)) = (&mut tree, grant(&found.grant)) {
        tree.extend(grant);
    }
    Ok(tree)
}

/// Describes what is delegated.
pub(crate) fn grant(grant: &Grant<'_>) -> Value {
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
