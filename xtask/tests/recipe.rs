//! The pipeline for users in `docs/ci`: what its script has `cargo` do is understood by what it calls.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/ci/release.sh");

/// Runs a step with a `cargo` that only writes down what it is asked for, and returns that, a line for each command.
fn asked(folder: &Path, step: &str, flash: &str) -> Vec<String> {
    let (tools, log) = (folder.join("tools"), folder.join("log"));
    fs::create_dir_all(&tools).unwrap();
    fs::create_dir_all(folder.join("target/kiln/build")).unwrap();
    for file in ["stage1-provision.elf", "stage2-production.elf", "crates.json"] {
        fs::write(folder.join("target/kiln/build").join(file), file).unwrap();
    }
    let cargo = tools.join("cargo");
    fs::write(&cargo, format!("#!/bin/sh\necho \"$*\" >> {}\n", log.display())).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    let _ = fs::remove_file(&log);
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(SCRIPT);
    let output =
        command.arg(step).current_dir(folder).env("PATH", path).env("FLASH", flash).output().unwrap();
    assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    fs::read_to_string(log).unwrap().lines().map(str::to_owned).collect()
}

/// Asserts that `xtask` understands a command line: with `--help` at its end it explains itself, and does nothing.
fn assert_understood(line: &str) {
    let words = line.strip_prefix("xtask ").unwrap().split(' ');
    let output = Command::new(env!("CARGO_BIN_EXE_xtask")).args(words).arg("--help").output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_commands_that_build_and_test_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let build = asked(folder.path(), "build", "");
    assert_eq!(build, ["xtask build"]);
    assert_understood(&build[0]);
    assert!(folder.path().join("build.tar").exists());
    let test = asked(folder.path(), "test", "--payload --cores 2");
    assert_eq!(test, ["xtask flash --device ci --new --report test.json --payload --cores 2"]);
    assert_understood(&test[0]);
    let unknown = Command::new(env!("CARGO_BIN_EXE_xtask")).args(["flash", "--unknown", "--help"]).output();
    assert!(!unknown.unwrap().status.success(), "anything would be understood");
}
