//! The crates whose code is in the stages, for the bill of materials of a release.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use release::CrateInfo;
use serde::Deserialize;

use crate::exec;
use crate::firmware::{STAGE1, STAGE2};
use crate::workspace::{self, FIRMWARE_TARGET};

/// The file with the list, next to the stages.
pub(crate) const CRATES: &str = "crates.json";

/// Writes the list into a folder, and returns how many there are.
///
/// # Errors
/// If cargo cannot say what the stages are made of, or the file cannot be written.
pub(crate) fn write(folder: &Path) -> Result<usize> {
    let crates = list()?;
    let path = folder.join(CRATES);
    fs::write(&path, serde_json::to_vec_pretty(&crates)?)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(crates.len())
}

/// Lists the crates whose code is in the stages of a package, without those that only run while compiling.
fn list() -> Result<Vec<CrateInfo>> {
    let mut cargo = exec::cargo();
    cargo.args(["tree", "--locked", "--package", STAGE1, "--package", STAGE2, "--target", FIRMWARE_TARGET]);
    cargo.args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe", "--format", "{p}|{l}"]);
    let tree = String::from_utf8(exec::capture(&mut cargo)?).context("cargo tree does not write UTF-8")?;
    let lock = fs::read_to_string(workspace::root().join("Cargo.lock")).context("cannot read Cargo.lock")?;
    listed(&tree, &lock)
}

/// What is read of Cargo.lock.
#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

fn listed(tree: &str, lock: &str) -> Result<Vec<CrateInfo>> {
    let lock: Lock = toml::from_str(lock).context("Cargo.lock cannot be read")?;
    let mut crates = Vec::new();
    for line in tree.lines().filter(|line| !line.is_empty()) {
        let (package, license) = line.split_once('|').context("cargo tree writes another form")?;
        let mut words = package.split(' ');
        let name = words.next().unwrap_or_default();
        let version = words.next().and_then(|version| version.strip_prefix('v'));
        let version = version.with_context(|| format!("cargo tree gives no version in `{line}`"))?;
        let locked = lock.package.iter().find(|locked| locked.name == name && locked.version == version);
        let locked = locked.with_context(|| format!("Cargo.lock has no {name} {version}"))?;
        crates.push(CrateInfo {
            name: name.into(),
            version: version.into(),
            license: (!license.is_empty()).then(|| license.replace('/', " OR ")),
            sha256: locked.checksum.clone(),
        });
    }
    crates.sort();
    crates.dedup();
    Ok(crates)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_listed_once_with_their_licence_and_checksum() {
        let tree = "stage1 v0.1.0 (/x)|Apache-2.0 OR MIT\na v1.2.3|MIT/Apache-2.0\n\nb v0.1.0|\na v1.2.3|MIT/Apache-2.0\n";
        let lock = r#"
            [[package]]
            name = "a"
            version = "1.2.3"
            checksum = "00"
            [[package]]
            name = "a"
            version = "1.0.0"
            checksum = "11"
            [[package]]
            name = "b"
            version = "0.1.0"
            [[package]]
            name = "stage1"
            version = "0.1.0"
        "#;
        let crates = listed(tree, lock).unwrap();
        let names: Vec<_> = crates.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["a", "b", "stage1"]);
        assert_eq!(crates[0].license.as_deref(), Some("MIT OR Apache-2.0"));
        assert_eq!(crates[0].sha256.as_deref(), Some("00"));
        assert_eq!((&crates[1].license, &crates[1].sha256), (&None, &None));
        assert!(listed("c v1.0.0|MIT\n", lock).is_err(), "what is not locked was taken");
    }
}
