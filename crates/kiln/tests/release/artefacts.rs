//! `kiln inspect` and `kiln verify` with each artefact by itself: what they show, name and refuse.

use crate::{RELEASE, desk};
use lifecycle::{OtpImage, Row};
use memory_map::qemu_virt::{FLASH0, OTP};
use serde_json::Value;
use std::fs;

pub(crate) const ROOT: &str = "--root keys/owner-root.pub.pem";

/// The names of the checks of a verdict.
pub(crate) fn checks(verdict: &Value) -> Vec<&str> {
    verdict["checks"].as_object().unwrap().keys().map(String::as_str).collect()
}

pub(crate) fn sorted<const N: usize>(mut names: [&str; N]) -> [&str; N] {
    names.sort_unstable();
    names
}

#[test]
fn images_are_verified_by_themselves_and_opened_with_their_key() {
    let desk = desk();
    desk.good(RELEASE);
    let verdict = desk.good_json(&format!("verify r1/package/stage1.img {ROOT}"));
    assert_eq!(checks(&verdict), sorted(["signatures", "place"]));
    assert_eq!(verdict["not_checked"].as_array().unwrap().len(), 1);
    let line = format!("verify r1/package/stage1.img {ROOT} --key r1/package/provisioning.key");
    let verdict = desk.good_json(&line);
    assert_eq!(checks(&verdict), sorted(["signatures", "place", "payload"]));
    assert_eq!((&verdict["kind"], &verdict["version"]), (&"stage1".into(), &"1.2.3".into()));
    assert!(verdict["not_checked"].as_array().unwrap().is_empty());
    let said = desk.bad(&format!("verify r1/package/stage1.img {ROOT} --key content.key"));
    assert!(said.contains("K0400 key-unwrap"), "{said}");

    let verdict = desk.good_json(&format!("verify r1/package/package.img {ROOT}"));
    assert_eq!(verdict["artefact"], "package");
    assert_eq!(checks(&verdict), ["signatures"]);
    let verdict = desk.good_json(&format!("verify r1/package/package.img {ROOT} --key content.key"));
    assert_eq!(checks(&verdict), sorted(["signatures", "payloads", "package", "places"]));

    for (line, code) in [
        (format!("verify r1/package/stage1.img {ROOT} --floor 3"), "rolled-back"),
        (format!("verify r1/package/stage1.img {ROOT} --as stage2"), "kind-wrong"),
        (format!("verify r1/package/stage1.img {ROOT} --revoked keys/owner-root.pub.pem"), "root-revoked"),
        (format!("verify r1/package/package.img {ROOT} --as kernel"), "kind-wrong"),
    ] {
        let said = desk.bad(&line);
        assert!(said.contains(code), "{line}: {said}");
        assert!(said.contains("\n  cure  "), "{said}");
        let output = desk.run(&format!("{line} --json"));
        let object: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(
            object["code"].as_str().unwrap().starts_with('K') && object["result"] == "failed",
            "{object}"
        );
    }
    let said = desk.bad("verify r1/package/stage1.img");
    assert!(said.contains("nothing can say by itself whose it is"), "{said}");
    let said = desk.bad(&format!("verify r1/package/stage1.img {ROOT} --board another"));
    assert!(said.contains("no device code for the board another"), "{said}");
    let said = desk.bad(&format!("verify r1/RELEASE-NOTES.md {ROOT}"));
    assert!(said.contains("it is nothing that `kiln verify` knows"), "{said}");
    let output = desk.run(&format!("verify r1/package/stage1.img {ROOT} --as something"));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("device-certificate"), "{said}");
}

#[test]
fn bare_manifests_are_shown_and_verified_with_the_delegations_of_an_image() {
    let desk = desk();
    desk.good(RELEASE);
    let mut kinds = 0;
    for entry in fs::read_dir(desk.path("r1/manifests")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let file = format!("r1/manifests/{name}");
        let tree: Value = serde_json::from_str(&desk.good(&format!("inspect {file} --json"))).unwrap();
        assert_eq!(tree["artefact"], "signed manifest");
        assert_eq!(tree["version"], "1.2.3");
        let said = desk.bad(&format!("verify {file} {ROOT}"));
        assert!(said.contains("is a manifest by itself") && said.contains("--delegation"), "{said}");
        let image = if name == "stage1.cose" { "stage1.img" } else { "package.img" };
        let line = format!("verify {file} {ROOT} --delegation r1/package/{image}");
        let verdict = desk.good_json(&line);
        assert_eq!((&verdict["kind"], &verdict["plain_digest"]), (&tree["kind"], &tree["plain digest"]));
        assert!(verdict["not_checked"][0].as_str().unwrap().contains("the payload, which is not there"));
        let bytes = fs::read(desk.path(&file)).unwrap();
        let mut altered = bytes.clone();
        *altered.last_mut().unwrap() ^= 1;
        desk.put("altered", &altered);
        let said = desk.bad(&line.replace(&file, "altered"));
        assert!(said.contains("signature-invalid"), "{said}");
        kinds += 1;
    }
    assert!(kinds >= 6, "{kinds}");
    // The manifest of the release itself.
    let verdict = desk.good_json(&format!("verify r1/release.cose {ROOT}"));
    assert_eq!((&verdict["product"], checks(&verdict)), (&"demo".into(), vec!["signatures"]));
}

#[test]
fn a_die_is_verified_by_its_fuses_and_by_what_it_boots() {
    let desk = desk();
    desk.good(RELEASE);
    desk.good("fabricate --stage0 stage0.bin --vendor vendor device");
    let said = desk.bad(&format!("verify device {ROOT}"));
    assert!(said.contains("lifecycle-forbids"), "{said}");
    desk.good("preprovision --package r1/package device --yes");
    let verdict = desk.good_json(&format!("verify device {ROOT}"));
    assert_eq!(checks(&verdict), sorted(["fuses", "owner root", "stage0"]));
    assert_eq!((&verdict["boot_slot"], &verdict["stage"]), (&"A".into(), &"stage1 1.2.3".into()));
    assert_eq!(verdict["lifecycle"], "secured");
    let flash0 = fs::read(desk.path("device/flash0.img")).unwrap();
    assert_eq!(flash0.len() as u64, FLASH0.size);
    let verdict = desk.good_json(&format!("verify device/flash0.img {ROOT}"));
    assert_eq!(verdict["boot_slot"], "A");

    // The bank by itself.
    let bank = &flash0[OTP.base as usize..][..OTP.size as usize];
    desk.put("otp.img", bank);
    let tree: Value = serde_json::from_str(&desk.good("inspect otp.img --json")).unwrap();
    assert_eq!(
        (&tree["artefact"], &tree["fuses"]["lifecycle"]),
        (&"fuses of a die".into(), &"secured".into())
    );
    let line = format!("verify otp.img {ROOT} --package r1/package");
    let verdict = desk.good_json(&line);
    assert_eq!(checks(&verdict), sorted(["fuses", "owner root", "boots", "fuse policy"]));
    // Drift is corrected, and said; a root that another burned is not passed over where the policy is known.
    let mut drifted = bank.to_vec();
    drifted[0] ^= 1;
    desk.put("drifted.img", &drifted);
    let said = String::from_utf8(desk.run(&format!("verify drifted.img {ROOT}")).stderr).unwrap();
    assert!(said.contains("redundancy corrected ChipId"), "{said}");
    let mut foreign = OtpImage::from_flash(bank);
    foreign.root(1, &[7; 32]);
    desk.put("foreign.img", &foreign.to_flash(OTP.size as usize));
    desk.good(&format!("verify foreign.img {ROOT}"));
    let said = desk.bad(&line.replace("otp.img", "foreign.img"));
    assert!(said.contains("second-owner-root"), "{said}");
    let mut torn = bank.to_vec();
    torn[..64].fill(0x0F);
    desk.put("torn.img", &torn);
    let said = desk.bad(&format!("verify torn.img {ROOT}"));
    assert!(said.contains("otp-unreadable"), "{said}");

    // Nothing that a stage derives its keys from is shown.
    let key = fs::read_to_string(desk.path("r1/package/provisioning.key")).unwrap();
    let secret = OTP.base as usize + 4 * Row::SiliconSecret.first_word();
    let silicon: String = flash0[secret..secret + 32].iter().map(|byte| format!("{:02x}", !byte)).collect();
    for line in [
        "inspect device",
        "inspect otp.img",
        &format!("verify device {ROOT}"),
        &format!("verify otp.img {ROOT}"),
    ] {
        for form in ["", " --json"] {
            let output = desk.run(&format!("{line}{form}"));
            let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
            assert!(!said.contains(key.trim()) && !said.contains(&silicon), "{line}: {said}");
        }
    }

    // Neither slot: both are named with their codes.
    let mut altered = flash0.clone();
    for slot in [memory_map::qemu_virt::BOOT_SLOT_A, memory_map::qemu_virt::BOOT_SLOT_B] {
        altered[slot.base as usize] ^= 1;
    }
    desk.put("device/flash0.img", &altered);
    let said = desk.bad(&format!("verify device {ROOT}"));
    for words in
        ["stage0 boots nothing", "boot slot A refused: K0", "boot slot B refused: K0", "no-bootable-slot"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let output = desk.run(&format!("verify device {ROOT} --json"));
    let object: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (checks(&object), &object["name"]),
        (sorted(["fuses", "owner root"]).to_vec(), &"no-bootable-slot".into())
    );
    desk.good("keys create others");
    let said = desk.bad("verify device --root others/owner-root.pub.pem");
    assert!(said.contains("root-unknown"), "{said}");
}

#[test]
fn what_is_known_of_the_device_counts_for_folders_too_or_is_refused() {
    let desk = desk();
    desk.good("update-key update.key --product demo");
    desk.good(RELEASE);
    desk.good("fabricate --stage0 stage0.bin --vendor vendor device");
    desk.good("preprovision --package r1/package device --yes");
    desk.put(
        "bank",
        &fs::read(desk.path("device/flash0.img")).unwrap()[OTP.base as usize..][..OTP.size as usize],
    );
    for what in ["r1", "r1/package", "r1/release.cose", "r1/package/package.img"] {
        desk.good(&format!("verify {what} {ROOT} --floor 2"));
        let said = desk.bad(&format!("verify {what} {ROOT} --floor 3"));
        assert!(said.contains("rolled-back"), "{what}: {said}");
        let said = desk.bad(&format!("verify {what} {ROOT} --revoked keys/owner-root.pub.pem"));
        assert!(said.contains("root-revoked"), "{what}: {said}");
    }
    for (what, options) in [
        (
            "r1",
            "--development,--as kernel,--delegation r1/release.cose,--request r1/release.cose,--package r1/package",
        ),
        (
            "r1/package",
            "--development,--as kernel,--delegation r1/release.cose,--request r1/release.cose,--package r1/package,--update-key update.key",
        ),
        (
            "device",
            "--revoked keys/owner-root.pub.pem,--floor 1,--as kernel,--key content.key,--request bank,--package r1/package,--update-key update.key",
        ),
        (
            "bank",
            "--revoked keys/owner-root.pub.pem,--floor 1,--key content.key,--request bank,--delegation bank",
        ),
        (
            "r1/package/stage1.img",
            "--development,--request bank,--package r1/package,--delegation r1/release.cose",
        ),
        ("r1/release.cose", "--development,--key content.key"),
        ("keys/owner-os.delegation", "--floor 1,--key content.key"),
    ] {
        for option in options.split(',') {
            let said = desk.bad(&format!("verify {what} {ROOT} {option}"));
            let name = option.split(' ').next().unwrap();
            assert!(said.contains(&format!("{name} says nothing about a ")), "{what} {option}: {said}");
            assert!(said.contains("would be ignored") && said.contains("\n  cure  Leave it out"), "{said}");
        }
    }
}

#[test]
fn a_device_without_its_disk_or_its_flash_is_refused() {
    let desk = desk();
    desk.good(RELEASE);
    desk.good("fabricate --stage0 stage0.bin --vendor vendor device");
    desk.good("preprovision --package r1/package device --yes");
    let line = format!("verify device {ROOT}");
    desk.good(&line);
    fs::rename(desk.path("device/disk.img"), desk.path("disk")).unwrap();
    let said = desk.bad(&line);
    assert!(said.contains("device/disk.img is not there") && said.contains("flash0.img alone"), "{said}");
    desk.good(&format!("verify device/flash0.img {ROOT}"));
    fs::rename(desk.path("disk"), desk.path("device/disk.img")).unwrap();
    fs::remove_file(desk.path("device/flash0.img")).unwrap();
    let said = desk.bad(&line);
    assert!(said.contains("flash0.img") && said.contains("\n  cure  "), "{said}");
}

#[test]
fn a_release_folder_that_leads_to_itself_is_shown_once() {
    let desk = desk();
    desk.good(RELEASE);
    for part in ["package", "update"] {
        let _ = fs::remove_dir_all(desk.path(&format!("r1/{part}")));
        std::os::unix::fs::symlink(".", desk.path(&format!("r1/{part}"))).unwrap();
    }
    let tree: Value = serde_json::from_str(&desk.good("inspect r1 --json")).unwrap();
    assert_eq!(tree["artefact"], "release folder");
    for (part, file) in [("/package/files", "package.img"), ("/update", "images")] {
        let said = &tree.pointer(part).unwrap()[file]["unreadable"];
        assert!(said.as_str().is_some_and(|said| said.contains("cannot read")), "{part}: {said}");
    }
    // Nor is a folder in the place of a file looked into.
    fs::remove_file(desk.path("r1/release.cose")).unwrap();
    std::os::unix::fs::symlink(".", desk.path("r1/release.cose")).unwrap();
    let tree: Value = serde_json::from_str(&desk.good("inspect r1 --json")).unwrap();
    assert!(tree["release"]["unreadable"].as_str().unwrap().contains("it is no file"), "{tree}");
}
