//! Where a release comes from: an in-toto statement (v1) with an SLSA provenance (v1), in a DSSE envelope.
//!
//! It says what the release was made of and which files came out. It is what the signer says: nothing here proves on
//! which machine the stages were compiled. The command line of the kernel and the secrets are left out: they are
//! encrypted in the package. There is no time stamp, so that the same release has the same bytes.

use super::manifest::{ReleaseFile, ReleaseManifest};
use super::sbom::Part;
use crate::{hex, unhex};
use boot_crypto::Digest;
use serde_json::{Value, json};

/// The file of the envelope.
pub(crate) const PROVENANCE: &str = "provenance.intoto.json";

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://slsa.dev/provenance/v1";
/// How releases are made: the version rises when these fields change their meaning.
const BUILD_TYPE: &str = "urn:kiln:release:1";
/// Who makes them: whoever holds the role's key and runs the command.
const BUILDER: &str = "urn:kiln:command";

/// Where the stages come from, as `kiln.toml` says it.
pub(crate) struct Source<'a> {
    pub(crate) uri: Option<&'a str>,
    pub(crate) commit: Option<&'a str>,
}

/// Writes the statement.
pub(crate) fn statement(
    release: &ReleaseManifest,
    subjects: &[&ReleaseFile],
    parts: &[Part],
    source: &Source<'_>,
) -> Vec<u8> {
    let digest = |digest: &Digest| json!({ "sha256": hex(digest) });
    let subject: Vec<_> =
        subjects.iter().map(|file| json!({ "name": file.name, "digest": digest(&file.digest) })).collect();
    let mut materials: Vec<_> = parts
        .iter()
        .map(|part| {
            json!({
                "name": part.name,
                "digest": digest(&part.sha256),
                "annotations": { "kind": part.kind },
            })
        })
        .collect();
    if let Some(commit) = source.commit {
        let mut material = json!({ "name": "kiln", "digest": { "gitCommit": commit } });
        if let Some(uri) = source.uri {
            material["uri"] = uri.into();
        }
        materials.push(material);
    }
    let statement = json!({
        "_type": STATEMENT,
        "subject": subject,
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "product": release.product,
                    "board": release.board,
                    "version": release.version.to_string(),
                    "rollbackIndex": release.rollback_index,
                },
                "resolvedDependencies": materials,
            },
            "runDetails": {
                "builder": { "id": BUILDER, "version": { "kiln": env!("CARGO_PKG_VERSION") } },
            },
        },
    });
    serde_json::to_vec(&statement).expect("text has a JSON form")
}

/// Reads the subjects of a statement about this release, whose signature holds; says what is wrong otherwise.
pub(crate) fn read_subjects(
    statement: &[u8],
    release: &ReleaseManifest,
) -> Result<Vec<(String, Digest)>, &'static str> {
    let statement: Value = serde_json::from_slice(statement).map_err(|_| "it holds no JSON")?;
    if statement["_type"] != STATEMENT || statement["predicateType"] != PREDICATE {
        return Err("it holds no SLSA provenance v1");
    }
    let parameters = &statement["predicate"]["buildDefinition"]["externalParameters"];
    let same = parameters["product"] == release.product.as_str()
        && parameters["board"] == release.board.as_str()
        && parameters["version"] == release.version.to_string()
        && parameters["rollbackIndex"] == release.rollback_index;
    if !same {
        return Err("it is about another release");
    }
    let subjects = statement["subject"].as_array().ok_or("it has no subjects")?;
    let read = |subject: &Value| {
        let digest = subject["digest"]["sha256"].as_str().and_then(unhex)?;
        Some((subject["name"].as_str()?.to_owned(), digest))
    };
    subjects.iter().map(read).collect::<Option<_>>().ok_or("a subject has no name or no SHA-256")
}
