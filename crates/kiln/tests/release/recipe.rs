//! The pipeline for users in `docs/ci`: its script signs, verifies and publishes as it stands there.

use crate::common::Desk;
use crate::product::CONFIG;
use crate::token;
use std::collections::BTreeSet;
use std::fs;
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/ci/release.sh");
const PIPELINE: &str = include_str!("../../../../docs/ci/kiln-release.yml");

/// A desk with an owner on a token, and an authority that gets the content key.
fn desk() -> Desk {
    let desk = token::desk();
    desk.good(&token::owner());
    desk.good("authority init");
    desk.good("authority key export authority.pub.pem");
    desk.put("kiln.toml", format!("authority-key = \"authority.pub.pem\"\n{CONFIG}").as_bytes());
    fs::create_dir(desk.path("published")).unwrap();
    desk
}

fn step(desk: &Desk, name: &str) -> Output {
    let mut command = Command::new(SCRIPT);
    command.arg(name).current_dir(desk.path("")).env("KILN", env!("CARGO_BIN_EXE_kiln"));
    command.env("ROOT", "keys/owner-root.pub.pem").env("PUBLISH", "published").env_remove("KILN_PIN");
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
fn the_script_signs_with_a_token_verifies_and_publishes_once() {
    let mut desk = desk();
    desk.unset("KILN_PIN");
    let said = bad(&desk, "sign");
    assert!(said.contains("no PIN was given") && !desk.path("release").exists(), "{said}");
    assert!(!desk.path("release.tar").exists());
    desk.set("KILN_PIN", token::PIN);
    good(&desk, "sign");
    assert!(desk.path("release/content-key.sealed").exists());
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

    // The archive alone is enough, as on another machine.
    fs::remove_dir_all(desk.path("release")).unwrap();
    good(&desk, "verify");
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
}
