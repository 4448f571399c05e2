//! The command as people and machines use it.

mod common;

use common::Desk;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Makes an owner, a package and a blank device.
fn prepare(desk: &Desk) {
    desk.good("keys create keys");
    desk.good(&format!("{PACKAGE} --content-key content.key package"));
    desk.good(FABRICATE);
}

const PACKAGE: &str = "package --owner keys --stage1 stage1.elf --stage2 stage2.elf --kernel Image \
    --device-tree board.dtb --cmdline quiet --release-version 1.2.3 --name test --rollback-index 2";
const VERIFY: &str = "verify package --root keys/owner-root.pub.pem";
const FABRICATE: &str = "fabricate --stage0 stage0.bin --vendor vendor device";
const STATION: &str = "station --device d1=unix:none --authority https://localhost:1 --lot lot --ca ca.pem \
    --certificate station.pem --key station.key.pem";
const PREPROVISION: &str = "preprovision --package package device";

#[test]
fn a_die_goes_from_blank_to_secured() {
    let desk = Desk::new();
    let owner = desk.good_json("keys create keys");
    let package = desk.good_json(&format!("{PACKAGE} --content-key content.key package"));
    assert_eq!(package["package_id"].as_str().unwrap().len(), 64);
    let verified = desk.good_json(&format!("{VERIFY} --content-key content.key"));
    assert_eq!(verified["package_id"], package["package_id"]);
    assert_eq!(verified["owner_root"], owner["root_digest"]);
    assert_eq!(verified["objects_opened"], 5);
    assert_eq!(verified["objects"][0], "package 1.2.3");

    let die = desk.good_json(FABRICATE);
    assert_eq!(die["lifecycle"], "blank");
    let done = desk.good_json(&format!("{PREPROVISION} --yes"));
    assert_eq!(done["lifecycle"], "secured");
    assert_eq!(done["chip_id"], die["chip_id"]);
    let rows = done["rows_burned"].as_array().unwrap();
    for row in [
        "Lifecycle",
        "DebugLock",
        "OwnerRoot0",
        "OwnerRoot3",
        "ProvisioningKey",
        "FloorProvision",
        "BootPolicy",
    ] {
        assert!(rows.contains(&row.into()), "{row}: {rows:?}");
    }
    assert_eq!(rows.len(), 9, "{rows:?}");
    assert_eq!(done["fuse_digest"].as_str().unwrap().len(), 64);
}

#[test]
fn fuses_are_not_burned_unasked() {
    let desk = Desk::new();
    prepare(&desk);
    let before = fs::read(desk.path("device/flash0.img")).unwrap();
    let said = desk.bad(PREPROVISION);
    assert!(said.contains("lifecycle blank → secured") && said.contains("--yes"), "{said}");
    assert!(fs::read(desk.path("device/flash0.img")).unwrap() == before);
}

#[test]
fn a_refusal_has_its_cause_its_code_and_its_cure() {
    let desk = Desk::new();
    prepare(&desk);
    desk.good(&format!("{PREPROVISION} --yes"));
    let said = desk.bad(PREPROVISION);
    assert!(!said.contains("→"), "nobody is asked about a die that is refused: {said}");
    for words in
        ["error: the die is not blank: it is secured", "  code  K1300 die-not-blank", "  cure  Only a die"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let output = desk.run(&format!("{PREPROVISION} --yes --json"));
    assert_eq!(output.status.code(), Some(1));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&object["result"], &object["code"]), (&"failed".into(), &"K1300".into()));
    assert_eq!(object["name"], "die-not-blank");
    assert!(object["cure"].as_str().unwrap().starts_with("Only a die"));
    desk.good(&format!("{PREPROVISION} --yes --resume"));
}

#[test]
fn a_written_flash_is_refused_with_its_file_and_place() {
    let desk = Desk::new();
    prepare(&desk);
    let mut flash = fs::read(desk.path("device/flash1.img")).unwrap();
    flash[0x1234] = 0;
    desk.put("device/flash1.img", &flash);
    let said = desk.bad(&format!("{PREPROVISION} --yes"));
    assert!(said.contains("flash1.img is not erased: something is written at 0x1234"), "{said}");
    assert!(said.contains("K1301 flash-not-clear"), "{said}");
}

#[test]
fn nothing_is_ever_written_over() {
    let desk = Desk::new();
    prepare(&desk);
    for line in ["keys create keys", FABRICATE, &format!("{PACKAGE} --content-key other.key package")] {
        let said = desk.bad(line);
        assert!(said.contains("Nothing is ever written over"), "{line}: {said}");
    }
    assert!(desk.bad(&format!("{PACKAGE} --content-key content.key other")).contains("content.key"));
    desk.good(&format!("{VERIFY} --content-key content.key"));
}

#[test]
fn the_content_key_does_not_go_to_the_factory() {
    let desk = Desk::new();
    desk.good("keys create keys");
    for key in ["package/content.key", "./package/../package/k", "package/a/b"] {
        let said = desk.bad(&format!("{PACKAGE} --content-key {key} package"));
        assert!(said.contains("would lie in the folder that goes to the factory"), "{key}: {said}");
        assert!(!desk.path("package").exists());
    }
    desk.good(&format!("{PACKAGE} --content-key content.key package"));
    let key = fs::read_to_string(desk.path("content.key")).unwrap();
    let mut files = 0;
    for file in fs::read_dir(desk.path("package")).unwrap() {
        let bytes = fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(64).any(|window| window == key.trim().as_bytes()));
        files += 1;
    }
    assert_eq!(files, 4);
}

#[test]
fn a_lot_can_have_a_second_package_for_the_same_dies() {
    let desk = Desk::new();
    prepare(&desk);
    let line = format!("{PACKAGE} --content-key 2.key --provisioning-key package/provisioning.key second");
    desk.good(&line);
    let key = |package: &str| fs::read_to_string(desk.path(package).join("provisioning.key")).unwrap();
    assert_eq!(key("package"), key("second"));
    let said = desk.bad(&format!("{VERIFY} --content-key 2.key"));
    assert!(said.contains("K0400 key-unwrap"), "{said}");
}

#[test]
fn mistakes_are_named_with_what_mends_them() {
    let desk = Desk::new();
    prepare(&desk);
    desk.put("text", b"not an executable");
    let stage1 = PACKAGE.replace("stage1.elf", "text");
    for (line, words) in [
        (format!("{stage1} --content-key x p"), "text: "),
        (PACKAGE.replace("Image", "missing") + " --content-key x p", "cannot read missing"),
        (PACKAGE.replace("keys", "nobody") + " --content-key x p", "owner-root.pub.pem"),
        (PACKAGE.replace("index 2", "index 65") + " --content-key x p", "at most 64"),
        ("verify device".into(), "nothing can say by itself whose it is"),
        ("verify keys --root keys/owner-root.pub.pem".into(), "release.json"),
        (format!("{VERIFY} --content-key text"), "text holds no key of 64 hex digits"),
        ("preprovision --yes --package package nowhere".into(), "nowhere/flash0.img"),
        (STATION.into(), "cannot read ca.pem"),
        ("explain K9999".into(), "`kiln explain` lists them all"),
        ("explain die-not-blnk".into(), "Did you mean K1300 die-not-blank"),
    ] {
        let said = desk.bad(&line);
        assert!(said.contains(words) && said.contains("\n  cure  "), "{line}: {said}");
    }
    assert!(!desk.path("p").exists() && !desk.path("x").exists());
}

#[test]
fn a_code_is_explained_in_every_form() {
    let desk = Desk::new();
    for code in ["K1300", "1300", "die-not-blank"] {
        let text = desk.good(&format!("explain {code}"));
        assert!(
            text.starts_with("K1300 die-not-blank\n  cause  the die is not blank\n  cure   Only"),
            "{text}"
        );
    }
    let list: Value = serde_json::from_str(&desk.good("explain --json")).unwrap();
    assert_eq!(list.as_array().unwrap().len(), fail_code::FailCode::ALL.len());
}

#[test]
fn every_shell_gets_completions() {
    let desk = Desk::new();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let text = desk.good(&format!("completions {shell}"));
        for word in ["preprovision", "fabricate", "station", "package", "content-key"] {
            assert!(text.contains(word), "{shell}: {word}");
        }
    }
}

#[test]
fn a_device_folder_is_what_the_emulator_expects() {
    let desk = Desk::new();
    desk.good(FABRICATE);
    for (name, size) in [("flash0.img", 64 << 20), ("flash1.img", 64 << 20), ("disk.img", 320 << 20)] {
        let path = Path::new("device").join(name);
        assert_eq!(fs::metadata(desk.path("").join(path)).unwrap().len(), size, "{name}");
    }
}
