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
                    "rollbackIndex": release.rollback_index.to_json(),
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

/// What a statement says.
#[derive(Debug)]
pub(crate) struct Said {
    /// The files that it is about: name and SHA-256.
    pub(crate) subjects: Vec<(String, Digest)>,
    /// The parts that they were made of: kind and SHA-256 in the clear.
    pub(crate) parts: Vec<(String, Digest)>,
}

/// Reads a statement about this release, whose signature holds; says what is wrong otherwise.
pub(crate) fn read(statement: &[u8], release: &ReleaseManifest) -> Result<Said, &'static str> {
    let statement: Value = serde_json::from_slice(statement).map_err(|_| "it holds no JSON")?;
    if statement["_type"] != STATEMENT || statement["predicateType"] != PREDICATE {
        return Err("it holds no SLSA provenance v1");
    }
    let definition = &statement["predicate"]["buildDefinition"];
    let parameters = &definition["externalParameters"];
    let same = parameters["product"] == release.product.as_str()
        && parameters["board"] == release.board.as_str()
        && parameters["version"] == release.version.to_string()
        && parameters["rollbackIndex"] == release.rollback_index.to_json();
    if !same {
        return Err("it is about another release");
    }
    let named = |of: &Value, name: &Value| {
        let digest = of["digest"]["sha256"].as_str().and_then(unhex)?;
        Some((name.as_str()?.to_owned(), digest))
    };
    let subjects = statement["subject"].as_array().ok_or("it has no subjects")?;
    let subjects = subjects.iter().map(|subject| named(subject, &subject["name"])).collect::<Option<_>>();
    let materials =
        definition["resolvedDependencies"].as_array().ok_or("it names nothing that it was made of")?;
    // The commit has no kind: nobody can tell from the release alone whether it is the one.
    let parts = materials.iter().filter(|material| !material["annotations"]["kind"].is_null());
    let parts = parts.map(|part| named(part, &part["annotations"]["kind"])).collect::<Option<_>>();
    Ok(Said {
        subjects: subjects.ok_or("a subject has no name or no SHA-256")?,
        parts: parts.ok_or("a part has no kind or no SHA-256")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealed_image::Version;

    #[test]
    fn a_statement_says_what_it_is_about_and_of_what_it_was_made() {
        let release = ReleaseManifest {
            product: "demo".into(),
            board: "qemu-virt".into(),
            version: Version::new(1, 2, 3),
            rollback_index: 4.into(),
            files: Vec::new(),
        };
        let file = ReleaseFile::new("package/package.img", b"a package");
        let part = Part::of_test;
        let parts = [part("stage2", [1; 32]), part("kernel", [2; 32])];
        let source = Source { uri: Some("https://git.example/kiln"), commit: Some("0123456789abcdef") };
        let written = statement(&release, &[&file], &parts, &source);
        let said = read(&written, &release).unwrap();
        assert_eq!(said.subjects, [("package/package.img".into(), file.digest)]);
        assert_eq!(said.parts, [("stage2".into(), [1; 32]), ("kernel".into(), [2; 32])]);
        let tree: Value = serde_json::from_slice(&written).unwrap();
        let materials = tree["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
        let commit = json!({
            "name": "kiln",
            "digest": { "gitCommit": "0123456789abcdef" },
            "uri": "https://git.example/kiln",
        });
        assert_eq!(materials.last(), Some(&commit));

        let refused = |change: &dyn Fn(&mut Value)| {
            let mut tree = tree.clone();
            change(&mut tree);
            read(&serde_json::to_vec(&tree).unwrap(), &release).unwrap_err()
        };
        let definition = "/predicate/buildDefinition";
        let at = |path: &str| format!("{definition}{path}");
        let set = |path: String, value: Value| {
            move |tree: &mut Value| *tree.pointer_mut(&path).unwrap() = value.clone()
        };
        assert_eq!(
            refused(&set(at("/externalParameters/version"), json!("1.2.4"))),
            "it is about another release"
        );
        assert_eq!(
            refused(&set(at("/resolvedDependencies"), json!("none"))),
            "it names nothing that it was made of"
        );
        assert_eq!(
            refused(&set(at("/resolvedDependencies/0/digest"), json!({}))),
            "a part has no kind or no SHA-256"
        );
        assert_eq!(refused(&set("/subject/0/name".into(), json!(1))), "a subject has no name or no SHA-256");
        assert_eq!(refused(&set("/predicateType".into(), json!("other"))), "it holds no SLSA provenance v1");
    }
}
