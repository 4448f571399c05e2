//! The commands, as an owner types them.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use authority::model::Factory;
use boot_crypto::host::Es256Key;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::hex;

struct Shell {
    folder: TempDir,
}

impl Shell {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kiln-authority"));
        command
            .current_dir(self.path())
            .env_remove("KILN_AUTHORITY")
            .env_remove("KILN_AUTHORITY_ANCHOR")
            .args(line.split_whitespace());
        command.output().unwrap()
    }

    /// Runs a command that must do, and returns its JSON.
    #[track_caller]
    fn good(&self, line: &str) -> Value {
        let output = self.run(&format!("{line} --json"));
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let json: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{line}: {output:?}"));
        assert_eq!((output.status.code(), &json["result"]), (Some(0), &"ok".into()), "{line}: {json}");
        json
    }

    /// Runs a command that must fail, and returns its cause.
    #[track_caller]
    fn bad(&self, line: &str) -> String {
        let output = self.run(&format!("{line} --json"));
        let json: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{line}: {output:?}"));
        assert_eq!((output.status.code(), &json["result"]), (Some(1), &"failed".into()), "{line}: {json}");
        assert!(json["cure"].as_str().is_some_and(|cure| !cure.is_empty()), "{line}: no cure");
        json["cause"].as_str().unwrap().to_owned()
    }

    /// Writes what a release engineer and a vendor hand over: package facts, content key, vendor certificate.
    fn hand_over(&self) -> Es256Key {
        let factory = Factory::found().unwrap();
        let terms = factory.terms();
        let facts = release::PackageFacts {
            board: terms.board,
            version: sealed_image::Version::MIN,
            release: "first".into(),
            package_id: terms.package,
            package_digest: [0x5D; 32],
            stage1_measurement: factory.stage1,
            stage2_measurement: factory.stage2,
            policy: factory.policy(),
        };
        fs::create_dir(self.path().join("package")).unwrap();
        fs::write(self.path().join("package/release.json"), facts.to_json()).unwrap();
        fs::write(self.path().join("content.key"), hex(&factory.content_key)).unwrap();
        fs::write(self.path().join("vendor.pem"), terms.vendors).unwrap();
        fs::write(self.path().join("root.pem"), factory.root.to_pem().as_bytes()).unwrap();
        factory.root
    }
}

const CREATE: &str =
    "lot create first --quota 5 --package package --content-key content.key --vendor vendor.pem";

#[test]
fn an_authority_is_made_delegated_to_and_gets_a_lot() {
    let shell = Shell::new();
    shell.hand_over();
    let made = shell.good("init");
    let key = made["signing_key"].as_str().unwrap();
    assert_eq!(shell.good("key show")["signing_key"], key);
    assert!(shell.bad(CREATE).contains("no delegation"));
    shell.good(&format!(
        "delegation sign --root-key root.pem --key {key} --board qemu-virt --out delegation.json"
    ));
    shell.good("delegation add delegation.json --board qemu-virt");
    let lot = shell.good(CREATE);
    assert_eq!((&lot["name"], &lot["quota"], &lot["issued"]), (&"first".into(), &5.into(), &0.into()));

    assert_eq!(shell.good("lot quota first 7")["quota"], 7);
    let station = shell.good("station add line-2 --out stations");
    let print = station["fingerprint"].as_str().unwrap();
    let admitted = shell.good(&format!("lot admit first {print}"));
    assert!(admitted.to_string().contains(print), "{admitted}");
    assert!(shell.path().join("stations/line-2.key.pem").exists());

    assert!(shell.bad("lot revoke first").contains("cannot be undone"));
    assert_eq!(shell.good("lot revoke first --yes")["revoked"], true);
    let lots = shell.good("lot list");
    assert_eq!(lots["lots"].as_array().unwrap().len(), 1);
    assert_eq!(shell.good("install list")["installs"], Value::Array(Vec::new()));
    let audit = shell.good("audit");
    let events: Vec<_> =
        audit["audit"].as_array().unwrap().iter().rev().map(|row| row["event"].clone()).collect();
    let expected = [
        "init",
        "station-issued",
        "delegated",
        "lot-created",
        "lot-quota",
        "station-issued",
        "station-admitted",
        "lot-revoked",
    ];
    assert_eq!(events, expected);
}

/// Has an owner root delegate to the authority of a data folder.
fn delegate(shell: &Shell, data: &str) {
    let made = shell.good(&format!("init --data {data}"));
    let key = made["signing_key"].as_str().unwrap();
    shell.good(&format!(
        "delegation sign --root-key root.pem --key {key} --board qemu-virt --out {data}.json"
    ));
    shell.good(&format!("delegation add {data}.json --board qemu-virt --data {data}"));
}

#[test]
fn a_content_key_that_is_sealed_to_the_authority_makes_a_lot_and_no_other_does() {
    let shell = Shell::new();
    shell.hand_over();
    delegate(&shell, "ours");
    delegate(&shell, "theirs");
    let exported = shell.good("key export sealing.pub.pem --data ours");
    assert_eq!(shell.good("key show --data ours")["sealing_key_thumbprint"], exported["thumbprint"]);
    assert_eq!(
        fs::read(shell.path().join("sealing.pub.pem")).unwrap(),
        fs::read(shell.path().join("ours/sealing.pub.pem")).unwrap()
    );
    assert!(shell.bad("key export sealing.pub.pem --data ours").contains("sealing.pub.pem"));

    let authority = release::AuthorityKey::read(&shell.path().join("sealing.pub.pem")).unwrap();
    assert_eq!(hex(&authority.thumbprint()), exported["thumbprint"].as_str().unwrap());
    let facts = release::PackageFacts::read(&shell.path().join("package")).unwrap();
    let content_key = release::ContentKey::read(&shell.path().join("content.key")).unwrap();
    let sealed = content_key.seal(&authority, &facts).unwrap().encode();
    let put = |bytes: &[u8]| fs::write(shell.path().join("content-key.sealed"), bytes).unwrap();
    let create = CREATE.replace("--content-key content.key", "--sealed-content-key content-key.sealed");
    let at = |data: &str| format!("{create} --data {data}");

    assert!(shell.bad(&at("ours")).contains("content-key.sealed"), "there is no file yet");
    put(&sealed);
    let said = shell.bad(&at("theirs"));
    assert!(
        said.contains("sealed to the authority") && said.contains(&hex(&authority.thumbprint())),
        "{said}"
    );
    for (bytes, why) in [
        (&sealed[..sealed.len() - 1], "no sealed content key"),
        (&[&sealed[..], &[0]].concat(), "no sealed content key"),
        (&[&sealed[..sealed.len() - 1], &[sealed[sealed.len() - 1] ^ 1]].concat(), "it was altered"),
        (&fs::read(shell.path().join("content.key")).unwrap(), "no sealed content key"),
    ] {
        put(bytes);
        let said = shell.bad(&at("ours"));
        assert!(said.contains(why), "{why}: {said}");
    }
    // A package with other fuses than the owner released.
    put(&sealed);
    let mut other = facts.clone();
    other.policy.production_floors[0] = 0;
    fs::write(shell.path().join("package/release.json"), other.to_json()).unwrap();
    assert!(shell.bad(&at("ours")).contains("not the key of the package"));
    assert_eq!(shell.good("lot list --data ours")["lots"], Value::Array(Vec::new()));

    fs::write(shell.path().join("package/release.json"), facts.to_json()).unwrap();
    fs::remove_file(shell.path().join("content.key")).unwrap();
    assert_eq!(shell.good(&at("ours"))["quota"], 5);
    let both = format!("{} --sealed-content-key content-key.sealed", CREATE.replace("first", "second"));
    assert_eq!(shell.run(&both).status.code(), Some(2));
    assert_eq!(
        shell.run("lot create x --quota 1 --package package --vendor vendor.pem").status.code(),
        Some(2)
    );
}

#[test]
fn what_cannot_be_done_fails_with_cause_and_cure() {
    let shell = Shell::new();
    for line in ["lot list", "key show", "serve --port 0", "audit", "install list"] {
        assert!(shell.bad(line).contains("holds no authority"), "{line}");
    }
    shell.good("init");
    assert!(shell.bad("init").contains("holds an authority already"));
    assert!(shell.bad("lot show none").contains("no lot none"));
    assert!(shell.bad(&format!("install show {}", "00".repeat(32))).contains("no install"));
    assert!(shell.bad(CREATE).contains("package"));
    fs::write(shell.path().join("authority/kek"), "short").unwrap();
    assert!(shell.bad("key show").contains("not 64 hexadecimal digits"));
    fs::remove_file(shell.path().join("authority/kek")).unwrap();
    assert!(shell.bad("key show").contains("kek"));
    assert!(shell.bad("key show --kek-env NOT_SET_ANYWHERE").contains("NOT_SET_ANYWHERE"));
    assert_eq!(shell.run("lot create").status.code(), Some(2));
}

#[test]
fn the_status_says_whether_a_rollback_is_noticed() {
    let shell = Shell::new();
    assert_eq!(shell.good("init --anchor anchor")["rollback"], "rollback-protected");
    let status = shell.good("status --anchor anchor");
    assert_eq!(status["rollback"], "rollback-protected");
    assert!(status["sequence"].as_i64().is_some_and(|sequence| sequence > 0), "{status}");
    assert_eq!(shell.good("status")["rollback"], "rollback-unprotected");
    assert!(shell.bad("status --anchor anchor --anchor-new").contains("already"));
    assert!(shell.bad("status --anchor gone").contains("is gone"));
    assert!(shell.bad("status --anchor authority/anchor --anchor-new").contains("own directory"));
    assert_eq!(shell.run("status --anchor-new").status.code(), Some(2));
    assert!(
        shell.bad("init --anchor anchor --data other").contains("already"),
        "a new authority takes no old anchor"
    );
}

#[test]
fn text_is_for_people() {
    let shell = Shell::new();
    let output = shell.run("init");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("A new authority:\n"), "{text}");
    assert_eq!(String::from_utf8(shell.run("lot list").stdout).unwrap(), "none\n");
    let failed = shell.run("lot show none");
    let text = String::from_utf8(failed.stderr).unwrap();
    assert!(text.starts_with("error: there is no lot none\n  cure  "), "{text}");
}
