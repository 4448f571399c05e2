//! The pipeline for users in `docs/ci`: its script signs, verifies and publishes as it stands there.

use crate::common::{Desk, elf};
use crate::product::CONFIG;
use crate::token;
use boot_crypto::sha256;
use release::hex;
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ci/release.sh");
const PIPELINE: &str = include_str!("../../../../docs/ci/kiln-release.yml");

/// A desk with an owner on a token, an authority that gets the content key, and stages that were built.
fn desk() -> Desk {
    let desk = token::desk();
    desk.good(&token::owner());
    desk.good("authority init");
    desk.good("authority key export authority.pub.pem");
    configure(&desk, "1.2.3");
    fs::create_dir(desk.path("published")).unwrap();
    build(&desk, &[1; 5000], &[]);
    desk
}

/// Writes a `kiln.toml` as the script wants it.
fn configure(desk: &Desk, version: &str) {
    let config = CONFIG.replace("\"stage1.elf\"", "\"stages/stage1-provision.elf\"");
    let config = config.replace("\"stage2.elf\"", "\"stages/stage2-production.elf\"");
    let config = config.replace("\"crates.json\"", "\"stages/crates.json\"");
    let config = config.replace("commit = \"0123456789abcdef\"\n", "").replace("1.2.3", version);
    desk.put("kiln.toml", format!("authority-key = \"authority.pub.pem\"\n{config}").as_bytes());
}

/// Makes a `build.tar` as another machine would, with a stage1 of this code and more files.
fn build(desk: &Desk, stage1: &[u8], more: &[&str]) {
    fs::create_dir_all(desk.path("built/keys")).unwrap();
    desk.put("built/stage1-provision.elf", &elf(stage1));
    desk.put("built/stage2-production.elf", &elf(&[2; 5000]));
    desk.put("built/crates.json", &fs::read(desk.path("crates.json")).unwrap());
    for name in more {
        desk.put(&format!("built/{name}"), b"of somebody else");
    }
    pack_build(desk, more);
}

fn pack_build(desk: &Desk, more: &[&str]) {
    let stages = ["stage1-provision.elf", "stage2-production.elf", "crates.json"];
    tar(desk, &[&["-cf", "build.tar", "-C", "built"], &stages[..], more].concat());
}

#[track_caller]
fn tar(desk: &Desk, arguments: &[&str]) {
    let output = Command::new("tar").args(arguments).current_dir(desk.path("")).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Adds a file of somebody else to `release.tar`, under this name.
#[track_caller]
fn forge(desk: &Desk, name: &str) {
    desk.put("forged", b"of somebody else");
    tar(desk, &["-rf", "release.tar", &format!("--transform=s,^forged$,{name},"), "forged"]);
}

/// Returns the SHA-256 that a release's SBOM has for its stage1 in the clear.
fn stage1(desk: &Desk, release: &str) -> String {
    let sbom = fs::read(desk.path(&format!("{release}/sbom.cdx.json"))).unwrap();
    let sbom: Value = serde_json::from_slice(&sbom).unwrap();
    let components = sbom["components"].as_array().unwrap();
    let stage = components.iter().find(|one| one["name"] == "stage1-provision").unwrap();
    stage["hashes"][0]["content"].as_str().unwrap().to_owned()
}

fn step(desk: &Desk, name: &str) -> Output {
    let mut command = Command::new(SCRIPT);
    command.arg(name).current_dir(desk.path("")).env("KILN", env!("CARGO_BIN_EXE_kiln"));
    command.env("ROOT", "keys/owner-root.pub.pem").env("PUBLISH", "published").env_remove("KILN_PIN");
    command.env("COMMIT", "fedcba9876543210").env("GIT_CEILING_DIRECTORIES", desk.path(".."));
    command.envs(desk.environment()).stdin(std::process::Stdio::null());
    command.output().unwrap()
}

#[track_caller]
fn good(desk: &Desk, name: &str) {
    let output = step(desk, name);
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Runs a step that fails, and returns what it says.
#[track_caller]
fn bad(desk: &Desk, name: &str) -> String {
    let output = step(desk, name);
    assert!(!output.status.success(), "{name}");
    String::from_utf8(output.stderr).unwrap()
}

fn published(desk: &Desk) -> Vec<String> {
    let names = fs::read_dir(desk.path("published")).unwrap();
    let mut names: Vec<_> = names.map(|one| one.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn the_script_says_which_commit_the_stages_are_of() {
    let mut desk = desk();
    let git = |desk: &Desk, words: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=a test", "-c", "user.email=test@example.org"]).args(words);
        let output = git.current_dir(desk.path("")).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let commit_of = |desk: &Desk| {
        let shown: Value = serde_json::from_str(&desk.good("inspect release --json")).unwrap();
        let materials = shown["provenance"]["made of"].as_array().unwrap().clone();
        let digest = materials.last().unwrap()["digest"]["gitCommit"].as_str().unwrap().to_owned();
        fs::remove_dir_all(desk.path("release")).unwrap();
        fs::remove_file(desk.path("release.tar")).unwrap();
        digest
    };
    desk.set("COMMIT", "");
    let said = bad(&desk, "sign");
    assert!(
        said.contains("no commit says what the stages are made of") && said.contains("\n  cure  "),
        "{said}"
    );
    git(&desk, &["init", "--quiet"]);
    git(&desk, &["add", "kiln.toml"]);
    git(&desk, &["commit", "--quiet", "--message=a release"]);
    let commit = git(&desk, &["rev-parse", "HEAD"]);
    good(&desk, "sign");
    assert_eq!(commit_of(&desk), commit);
    // Nothing of it may have changed since; and what kiln.toml says goes before it.
    let config = fs::read_to_string(desk.path("kiln.toml")).unwrap();
    desk.put("kiln.toml", format!("# changed\n{config}").as_bytes());
    assert!(bad(&desk, "sign").contains("no commit says what the stages are made of"));
    let named = config.replacen("[stages]\n", "[stages]\ncommit = \"abcdef0123\"\n", 1);
    desk.put("kiln.toml", named.as_bytes());
    good(&desk, "sign");
    assert_eq!(commit_of(&desk), "abcdef0123");
}

#[test]
fn the_script_signs_with_a_token_verifies_and_publishes_once() {
    let mut desk = desk();
    desk.unset("KILN_PIN");
    let said = bad(&desk, "sign");
    assert!(said.contains("no PIN was given") && !desk.path("release").exists(), "{said}");
    assert!(!desk.path("release.tar").exists());
    desk.set("KILN_PIN", token::PIN);
    good(&desk, "sign");
    assert!(desk.path("release/content-key.sealed").exists());
    // What the stages are made of, and from which commit, is said though kiln.toml cannot know it.
    let shown: Value = serde_json::from_str(&desk.good("inspect release --json")).unwrap();
    assert!(shown["provenance"].to_string().contains("fedcba9876543210"), "{}", shown["provenance"]);
    assert_eq!(shown["sbom"]["crates"], 2, "{}", shown["sbom"]);
    good(&desk, "verify");
    good(&desk, "publish");
    assert_eq!(published(&desk), ["release.tar", "release.tar.sha256"]);
    let sums = Command::new("sha256sum")
        .args(["-c", "release.tar.sha256"])
        .current_dir(desk.path("published"))
        .output();
    assert!(sums.unwrap().status.success());
    let said = bad(&desk, "publish");
    assert!(said.contains("is there already"), "{said}");

    // The archive alone is enough, as on another machine; and it is the archive that counts.
    fs::remove_dir_all(desk.path("release")).unwrap();
    good(&desk, "verify");
    desk.unset("KILN_PIN");
    fs::rename(desk.path("release.tar"), desk.path("elsewhere.tar")).unwrap();
    assert!(bad(&desk, "verify").contains("release.tar is not there"));
}

#[test]
fn one_release_after_the_other_is_published_and_none_that_does_not_rise() {
    let mut desk = desk();
    for (version, published) in [("1.2.3", 2), ("1.10.0", 4), ("1.11.0", 6)] {
        desk.set("OUT", &format!("v{version}"));
        configure(&desk, version);
        good(&desk, "sign");
        good(&desk, "verify");
        good(&desk, "publish");
        assert_eq!(self::published(&desk).len(), published);
    }
    desk.set("OUT", "v1.12.0");
    configure(&desk, "1.10.0");
    let said = bad(&desk, "sign");
    assert!(said.contains("K1406") && !desk.path("v1.12.0").exists(), "{said}");
    configure(&desk, "1.12.0");
    let newest = desk.path("published/v1.11.0.tar");
    fs::write(&newest, b"no archive").unwrap();
    assert!(bad(&desk, "sign").contains("v1.11.0.tar holds no release"));
    fs::remove_file(newest).unwrap();
    good(&desk, "sign");
    fs::rename(desk.path("published"), desk.path("unmounted")).unwrap();
    desk.set("OUT", "v1.13.0");
    assert!(bad(&desk, "sign").contains("published is not there"));
}

#[test]
fn the_stages_that_are_signed_are_those_of_the_build_at_hand() {
    let mut desk = desk();
    good(&desk, "sign");
    let first = stage1(&desk, "release");
    assert_eq!(first, hex(&sha256(&[1; 5000])));
    build(&desk, &[7; 5000], &[]);
    desk.set("OUT", "second");
    let said = step(&desk, "sign");
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    assert_eq!(stage1(&desk, "second"), hex(&sha256(&[7; 5000])));
    // What a person compares with another build.
    let stages = String::from_utf8(said.stdout).unwrap();
    assert!(stages.contains(&hex(&sha256(&elf(&[7; 5000])))), "{stages}");
    desk.set("OUT", "third");
    fs::remove_file(desk.path("build.tar")).unwrap();
    assert!(bad(&desk, "sign").contains("build.tar is not there"));
    desk.put("stages/of-somebody", b"");
    build(&desk, &[7; 5000], &[]);
    assert!(bad(&desk, "sign").contains("stages is not a folder for stages only"));
    assert!(!desk.path("third").exists());
}

#[test]
fn what_a_build_holds_besides_the_stages_changes_nothing() {
    let desk = desk();
    let trusted = ["kiln.toml", "authority.pub.pem", "keys/owner-os.key.uri", "keys/owner-root.pub.pem"];
    let before = trusted.map(|name| fs::read(desk.path(name)).unwrap());
    build(&desk, &[1; 5000], &trusted);
    good(&desk, "sign");
    assert_eq!(trusted.map(|name| fs::read(desk.path(name)).unwrap()), before);
    good(&desk, "verify");

    // A stage that is a link is none: what it leads to is not read.
    fs::remove_file(desk.path("built/stage1-provision.elf")).unwrap();
    std::os::unix::fs::symlink(desk.path("stage1.elf"), desk.path("built/stage1-provision.elf")).unwrap();
    pack_build(&desk, &[]);
    fs::remove_dir_all(desk.path("release")).unwrap();
    fs::remove_file(desk.path("release.tar")).unwrap();
    assert!(bad(&desk, "sign").contains("build.tar holds no stage1-provision.elf"));
}

#[test]
fn without_the_command_a_step_says_where_it_comes_from() {
    let mut desk = desk();
    desk.set("KILN", "no-such-kiln");
    for name in ["sign", "verify", "publish"] {
        let said = bad(&desk, name);
        assert!(
            said.contains("there is no command no-such-kiln") && said.contains("cargo install"),
            "{said}"
        );
    }
    assert!(!desk.path("stages").exists());
}

#[test]
fn the_script_publishes_nothing_that_does_not_verify() {
    let desk = desk();
    good(&desk, "sign");
    let archive = fs::read(desk.path("release.tar")).unwrap();
    let at = archive.windows(9).position(|window| window == b"CycloneDX").unwrap();
    let mut altered = archive.clone();
    altered[at] ^= 1;
    desk.put("release.tar", &altered);
    let said = bad(&desk, "publish");
    assert!(said.contains("K1401 release-file-altered"), "{said}");
    assert_eq!(published(&desk), [""; 0]);
    desk.put("release.tar", &archive);
    good(&desk, "publish");
    assert_eq!(published(&desk).len(), 2);
}

#[test]
fn an_archive_with_more_than_the_release_replaces_nothing_and_is_not_published() {
    let desk = desk();
    good(&desk, "sign");
    let (archive, root) = (desk.path("release.tar"), desk.path("keys/owner-root.pub.pem"));
    let (good_archive, good_root) = (fs::read(&archive).unwrap(), fs::read(&root).unwrap());
    fs::rename(desk.path("release"), desk.path("signed")).unwrap();
    for name in
        ["release.tar", "keys/owner-root.pub.pem", "owner-root.pub.pem", "more.txt", "release-2/more.txt"]
    {
        fs::write(&archive, &good_archive).unwrap();
        forge(&desk, name);
        let forged = fs::read(&archive).unwrap();
        for step in ["verify", "publish"] {
            let said = bad(&desk, step);
            assert!(said.contains("release.tar holds more than a release"), "{name}, {step}: {said}");
        }
        assert_eq!(published(&desk), [""; 0], "{name}");
        assert!(fs::read(&archive).unwrap() == forged && fs::read(&root).unwrap() == good_root, "{name}");
        assert!(!desk.path("more.txt").exists() && !desk.path("release").exists(), "{name}");
    }
    // Within the release it is the release that does not verify.
    fs::write(&archive, &good_archive).unwrap();
    forge(&desk, "release/more.txt");
    assert!(bad(&desk, "publish").contains("K1402"));
    // A link to a release that is sound is none.
    std::os::unix::fs::symlink(desk.path("signed"), desk.path("release")).unwrap();
    tar(&desk, &["-cf", "release.tar", "release"]);
    fs::remove_file(desk.path("release")).unwrap();
    assert!(bad(&desk, "publish").contains("holds no release"));
    fs::write(&archive, &good_archive).unwrap();
    good(&desk, "publish");
    assert_eq!(fs::read(desk.path("published/release.tar")).unwrap(), good_archive);
}

#[test]
fn the_pipeline_has_the_steps_of_the_script_and_no_commands_of_its_own() {
    let script = fs::read_to_string(SCRIPT).unwrap();
    let of_script: BTreeSet<&str> = script
        .lines()
        .filter_map(|line| line.trim().strip_suffix(";;")?.split_once(") "))
        .map(|(name, _)| name)
        .collect();
    let runs: Vec<&str> = PIPELINE
        .lines()
        .filter_map(|line| line.trim().trim_start_matches("- ").strip_prefix("run: "))
        .collect();
    let steps: Vec<&str> = runs.iter().filter_map(|run| run.strip_prefix("docs/ci/release.sh ")).collect();
    assert_eq!(steps.len(), runs.len(), "{runs:?}");
    assert_eq!(steps, ["build", "test", "sign", "verify", "publish"]);
    let known: BTreeSet<&str> = of_script.into_iter().filter(|name| *name != "*").collect();
    assert_eq!(known, steps.iter().copied().collect());
    // The PIN is there for the one step that signs.
    let sign = PIPELINE.find("release.sh sign").unwrap();
    let behind = PIPELINE[sign..].find("KILN_PIN: ${{ secrets.KILN_PIN }}").unwrap();
    assert!(behind < PIPELINE[sign..].find("uses:").unwrap());
    assert_eq!(PIPELINE.matches("KILN_PIN").count(), 2);
    // Each tag is a release of its own, and what is downloaded lies where it replaces nothing.
    assert_eq!(PIPELINE.matches("OUT: ").count(), PIPELINE.matches("${{ github.ref_name }}\n").count());
    assert_eq!(PIPELINE.matches("download-artifact").count(), PIPELINE.matches("path: handed }").count());
    assert_eq!(PIPELINE.matches("upload-artifact").count(), PIPELINE.matches("retention-days: 1").count());
}
