//! The software bill of materials: CycloneDX 1.6 in JSON.
//!
//! `cyclonedx-bom`, the library of the field, writes up to 1.5, so the few structures that are needed are here. The
//! serial number follows from the content: the same release has the same bytes. There is no time stamp.

use super::manifest::ReleaseManifest;
use crate::{Error, hex, unhex};
use boot_crypto::{Digest, sha256};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::Path;

/// The file of the bill.
pub(crate) const SBOM: &str = "sbom.cdx.json";

/// A crate that a stage is built from: an entry of the list that `kiln.toml` names.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(deny_unknown_fields)]
pub struct CrateInfo {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its licence as an SPDX expression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// SHA-256 of the archive that the registry serves, in hex; none for what lies in the workspace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// Reads a list of crates.
pub(crate) fn read_crates(path: &Path) -> Result<Vec<CrateInfo>, Error> {
    let text = crate::files::read_text(path)?;
    let refuse = |reason: String| Error::ReleaseFile { path: path.into(), reason };
    let list: Vec<CrateInfo> = serde_json::from_str(&text).map_err(|error| refuse(error.to_string()))?;
    let bad = list.iter().find(|one| one.sha256.as_deref().is_some_and(|text| unhex::<32>(text).is_none()));
    match bad {
        Some(bad) => Err(refuse(format!("the `sha256` of {} is no digest in lower-case hex", bad.name))),
        None => Ok(list),
    }
}

/// A part of the release itself.
#[derive(Clone, Debug)]
pub(crate) struct Part {
    /// What it is called.
    pub(crate) name: String,
    /// The name of its kind, as in manifests.
    pub(crate) kind: &'static str,
    pub(crate) version: Option<String>,
    pub(crate) license: Option<String>,
    /// SHA-256 of it in the clear.
    pub(crate) sha256: Digest,
    /// SHA-256 of the signed manifest of its image.
    pub(crate) manifest: Digest,
}

/// What a bill says of a part.
pub(crate) struct Named {
    pub(crate) kind: String,
    pub(crate) sha256: Digest,
    pub(crate) manifest: Digest,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Bom {
    #[serde(rename = "$schema")]
    schema: String,
    bom_format: String,
    spec_version: String,
    serial_number: String,
    version: u32,
    metadata: Metadata,
    components: Vec<Component>,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize, Serialize)]
struct Metadata {
    tools: Tools,
    component: Component,
}

#[derive(Deserialize, Serialize)]
struct Tools {
    components: Vec<Component>,
}

#[derive(Clone, Deserialize, Serialize)]
struct Component {
    #[serde(rename = "type")]
    class: String,
    #[serde(rename = "bom-ref", default, skip_serializing_if = "Option::is_none")]
    reference: Option<String>,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hashes: Vec<Hash>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    licenses: Vec<License>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    purl: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    properties: Vec<Property>,
}

#[derive(Clone, Deserialize, Serialize)]
struct Hash {
    alg: String,
    content: String,
}

#[derive(Clone, Deserialize, Serialize)]
struct License {
    expression: String,
}

#[derive(Clone, Deserialize, Serialize)]
struct Property {
    name: String,
    value: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency {
    #[serde(rename = "ref")]
    reference: String,
    depends_on: Vec<String>,
}

/// The property that holds the kind of a part.
const KIND: &str = "kiln:kind";
/// The property that holds the SHA-256 of the signed manifest of a part.
const MANIFEST: &str = "kiln:manifest-sha256";

/// Writes the bill of a release: its parts, and the crates of the stages.
pub(crate) fn write(release: &ReleaseManifest, parts: &[Part], crates: &[CrateInfo]) -> String {
    let reference = |part: &Part| format!("payload:{}:{}", part.kind, hex(&part.sha256));
    let of_crate = |one: &CrateInfo| format!("pkg:cargo/{}@{}", one.name, one.version);
    let root = format!("release:{}@{}", release.product, release.version);
    let of_parts = parts.iter().map(|part| Component {
        reference: Some(reference(part)),
        version: part.version.clone(),
        hashes: vec![Hash { alg: "SHA-256".into(), content: hex(&part.sha256) }],
        licenses: licenses(part.license.as_deref()),
        properties: vec![
            Property { name: KIND.into(), value: part.kind.into() },
            Property { name: MANIFEST.into(), value: hex(&part.manifest) },
        ],
        ..plain(class(part.kind), &part.name)
    });
    let of_crates = crates.iter().map(|one| Component {
        reference: Some(of_crate(one)),
        version: Some(one.version.clone()),
        hashes: one.sha256.iter().map(|hash| Hash { alg: "SHA-256".into(), content: hash.clone() }).collect(),
        licenses: licenses(one.license.as_deref()),
        // What lies in the workspace is in no registry.
        purl: one.sha256.is_some().then(|| of_crate(one)),
        ..plain("library", &one.name)
    });
    let mut dependencies =
        vec![Dependency { reference: root.clone(), depends_on: parts.iter().map(reference).collect() }];
    dependencies.extend(parts.iter().filter(|part| part.kind.starts_with("stage")).map(|part| Dependency {
        reference: reference(part),
        depends_on: crates.iter().map(of_crate).collect(),
    }));
    let mut bom = Bom {
        schema: "http://cyclonedx.org/schema/bom-1.6.schema.json".into(),
        bom_format: "CycloneDX".into(),
        spec_version: "1.6".into(),
        serial_number: String::new(),
        version: 1,
        metadata: Metadata {
            tools: Tools {
                components: vec![Component {
                    version: Some(env!("CARGO_PKG_VERSION").into()),
                    ..plain("application", "kiln")
                }],
            },
            component: Component {
                reference: Some(root),
                version: Some(release.version.to_string()),
                ..plain("firmware", &release.product)
            },
        },
        components: of_parts.chain(of_crates).collect(),
        dependencies,
    };
    bom.serial_number = serial_number(&sha256(&to_json(&bom)));
    String::from_utf8(to_json(&bom)).expect("JSON is UTF-8")
}

/// Lists the parts that a bill names.
pub(crate) fn read_parts(text: &str) -> Result<Vec<Named>, String> {
    let bom: Bom = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if (bom.bom_format.as_str(), bom.spec_version.as_str()) != ("CycloneDX", "1.6") {
        return Err("it is not CycloneDX 1.6".into());
    }
    let mut parts = Vec::new();
    for component in &bom.components {
        let property = |name| component.properties.iter().find(|property| property.name == name);
        let Some(kind) = property(KIND) else { continue };
        let sha256 = match component.hashes.as_slice() {
            [Hash { alg, content }] if alg == "SHA-256" => unhex(content),
            _ => None,
        };
        let sha256 = sha256.ok_or_else(|| format!("`{}` has no SHA-256", component.name))?;
        let manifest = property(MANIFEST).and_then(|property| unhex(&property.value));
        let manifest = manifest.ok_or_else(|| format!("`{}` has no {MANIFEST}", component.name))?;
        parts.push(Named { kind: kind.value.clone(), sha256, manifest });
    }
    Ok(parts)
}

#[cfg(test)]
impl Part {
    /// Makes a part of which nothing else is known.
    pub(crate) fn of_test(kind: &'static str, sha256: Digest) -> Self {
        Self { name: "a part".into(), kind, version: None, license: None, sha256, manifest: [0; 32] }
    }
}

/// Tells whether a component is a part of the release, and not a crate of its stages.
fn is_part(component: &&Component) -> bool {
    component.properties.iter().any(|property| property.name == KIND)
}

/// Counts the components of a bill, and those of them that are crates.
pub(crate) fn count(text: &str) -> (usize, usize) {
    serde_json::from_str::<Bom>(text).map_or((0, 0), |bom| {
        let parts = bom.components.iter().filter(is_part).count();
        (bom.components.len(), bom.components.len() - parts)
    })
}

/// Describes a bill; `None` if it is none that Kiln writes.
pub(crate) fn inspect(text: &str) -> Option<Value> {
    let bom: Bom = serde_json::from_str(text).ok()?;
    let named = |component: &Component| {
        let version = component.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        format!("{}{version}", component.name)
    };
    let (parts, crates): (Vec<_>, Vec<_>) = bom.components.iter().partition(is_part);
    Some(json!({
        "artefact": format!("{} {}", bom.bom_format, bom.spec_version),
        "serial number": bom.serial_number,
        "of": named(&bom.metadata.component),
        "parts": parts.into_iter().map(named).collect::<Vec<_>>(),
        "crates": crates.len(),
    }))
}

fn to_json(bom: &Bom) -> Vec<u8> {
    let mut json = serde_json::to_vec_pretty(bom).expect("text has a JSON form");
    json.push(b'\n');
    json
}

fn plain(class: &str, name: &str) -> Component {
    Component {
        class: class.into(),
        reference: None,
        name: name.into(),
        version: None,
        hashes: Vec::new(),
        licenses: Vec::new(),
        purl: None,
        properties: Vec::new(),
    }
}

fn licenses(expression: Option<&str>) -> Vec<License> {
    expression.map(|expression| License { expression: expression.into() }).into_iter().collect()
}

/// Returns the CycloneDX class of a kind.
fn class(kind: &str) -> &'static str {
    match kind {
        "stage1" | "stage2" => "firmware",
        "kernel" => "operating-system",
        "device-tree" => "data",
        _ => "file",
    }
}

/// Makes a UUID of a digest (RFC 9562, version 8).
fn serial_number(digest: &Digest) -> String {
    let mut uuid: [u8; 16] = *digest.first_chunk().expect("a digest has 32 bytes");
    uuid[6] = uuid[6] & 0x0F | 0x80;
    uuid[8] = uuid[8] & 0x3F | 0x80;
    let text = hex(&uuid);
    let (a, b, c, d, e) = (&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]);
    format!("urn:uuid:{a}-{b}-{c}-{d}-{e}")
}
