//! `release` as a person runs it, with the workspace's payload in Linux's place.

use std::fs;
use std::path::Path;
use std::process::Command;

use release::{
    OpeningKeys, PackageFacts, PackageRelease, ReleaseConfig, ReleasePlaces, ReleaseProfile,
    SealedContentKey, Trusted, UpdateKey, make_release, read_root, verify_release,
};
use serde_json::Value;
use xtask::local_authority::LocalAuthority;

#[test]
fn the_demonstration_is_released_from_source_and_again_from_what_it_was_made_of() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let run = |out: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
        command.args(["release", "--payload", "--out"]).arg(path(out)).env("KILN_DIR", path("kiln"));
        command.output().unwrap()
    };
    let output = run("r1");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    for check in [
        "release manifest",
        "files",
        "content key",
        "images",
        "update",
        "SBOM",
        "provenance",
        "payloads",
        "update payloads",
    ] {
        assert!(said.contains(&format!("ok   {check}: ")), "{check}: {said}");
    }

    // As anybody does with the command that is installed.
    let mut kiln = Command::new(env!("CARGO_BIN_EXE_kiln-at-the-factory"));
    let verified = kiln.args(["verify", "r1", "--root", "kiln/factory/owner/owner-root.pub.pem"]);
    let verified = verified.current_dir(folder.path()).output().unwrap();
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stderr));

    let root = read_root(&path("kiln/factory/owner/owner-root.pub.pem")).unwrap();
    let authority = kiln_authority(&path("kiln/factory"));
    let open = |release: &Path| {
        let sealed = SealedContentKey::read(&release.join("content-key.sealed")).unwrap();
        let facts = PackageFacts::read(&release.join("package")).unwrap();
        authority.open_content_key(&sealed, &facts).unwrap()
    };
    let content_key = open(&path("r1"));
    let update_key = UpdateKey::read(&path("kiln/factory/update.key"), ReleaseProfile::Development).unwrap();
    let keys = OpeningKeys { content_key: Some(&content_key), update_key: Some(&update_key) };
    let verified = verify_release(&path("r1"), &Trusted::root(root), &keys, &mut Vec::new()).unwrap();
    assert_eq!(verified.manifest.product, "demo");
    assert_eq!(verified.update.unwrap().product, "demo");
    let sbom: Value = serde_json::from_slice(&fs::read(path("r1/sbom.cdx.json")).unwrap()).unwrap();
    let components = sbom["components"].as_array().unwrap();
    let of_crates = |name: &str| components.iter().filter(|one| one["name"] == name).count();
    for (name, count) in [("stage1-provision", 2), ("stage2-production", 2), ("p256", 1), ("aes-gcm", 1)] {
        assert_eq!(of_crates(name), count, "{name}");
    }
    // What only hosts and tests use is in no stage.
    for name in ["serde_json", "clap", "proptest", "syn", "minicbor"] {
        assert!(of_crates(name) <= usize::from(name == "minicbor"), "{name}");
    }
    assert!(components.len() > 40, "only {} components", components.len());

    // `kiln release` makes the same of what was laid out.
    let config = ReleaseConfig::read(&path("kiln/release-input/kiln.toml")).unwrap();
    let again = path("r2");
    make_release(&config, &ReleasePlaces { folder: &again, content_key: None, previous: None }).unwrap();
    assert_ne!(open(&again).0.expose(), content_key.0.expose());
    let id = |folder: &Path| PackageRelease::read(&folder.join("package")).unwrap().facts.package_id;
    assert_eq!(id(&path("r1")), id(&again));
    for name in ["manifests/stage1.cose", "manifests/stage2.cose", "manifests/kernel.cose", "sbom.cdx.json"] {
        assert!(fs::read(path("r1").join(name)).unwrap() == fs::read(again.join(name)).unwrap(), "{name}");
    }

    // Nothing is written over, and a release that is refused leaves nothing.
    let output = run("r1");
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("is there already"));
    let mut left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["kiln", "r1", "r2"]);
}

/// An index in which nothing is staged makes every file of the workspace one that was taken away: nothing is built from that.
#[test]
fn what_no_commit_has_is_not_said_to_be_reproducible() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_xtask"));
    command.args(["release", "--check-reproducible", "--payload", "--out"]).arg(folder.path().join("r1"));
    command.env("KILN_DIR", folder.path().join("kiln")).env("GIT_INDEX_FILE", folder.path().join("index"));
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("the workspace is not as a commit has it"), "{said}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "something was built");
}

/// Starts the authority of the demonstration, which the content keys are sealed to.
fn kiln_authority(factory: &Path) -> LocalAuthority {
    LocalAuthority::start(&factory.join("authority"), Some(&factory.join("authority.anchor"))).unwrap()
}
