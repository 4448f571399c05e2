//! `kiln inspect` and `kiln verify` with each artefact by itself: what they show, name and refuse.

use crate::{RELEASE, desk};
use boot_crypto::host::{Es256Key, Ps256Key, es256_public_pem, random};
use boot_crypto::{EcKey, Key, sha256};
use factory_proto::authority::Authority;
use factory_proto::device::{Device, Session, VerifiedTicket};
use factory_proto::{ClosingProof, Message, Ticket, content_type};
use lifecycle::{Die, FuseFacts, Lifecycle, OtpImage, Row};
use memory_map::qemu_virt::{BOARD, FLASH0, OTP};
use release::inspect_slot;
use sealed_image::host::{Signer, certify, delegation, encode_grant, sign_message};
use sealed_image::{Grant, Kind, KindSet, MAX_BOARDS, PublicKey, Role, Version};
use serde_json::Value;
use std::fs;

const ROOT: &str = "--root keys/owner-root.pub.pem";

/// The names of the checks of a verdict.
fn checks(verdict: &Value) -> Vec<&str> {
    verdict["checks"].as_object().unwrap().keys().map(String::as_str).collect()
}

fn sorted<const N: usize>(mut names: [&str; N]) -> [&str; N] {
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
fn a_package_is_judged_by_the_root_that_is_given_and_never_by_its_own() {
    let desk = desk();
    desk.good(RELEASE);
    let said = desk.bad("verify r1/package");
    assert!(said.contains("nothing can say by itself whose it is") && said.contains("--root FILE"), "{said}");
    let line = format!("verify r1/package {ROOT}");
    let verdict = desk.good_json(&line);
    assert_eq!(checks(&verdict), sorted(["owner root", "package", "signatures"]));
    let not_checked = verdict["not_checked"].to_string();
    for words in ["--content-key", "its index and its bundle name these objects", "the release folder"] {
        assert!(not_checked.contains(words), "{words}: {not_checked}");
    }
    let text = String::from_utf8(desk.run(&line).stderr).unwrap();
    assert!(
        text.contains("  ok   signatures: ") && text.contains("  --   not checked: the payloads"),
        "{text}"
    );
    let verdict = desk.good_json(&format!("{line} --content-key content.key"));
    assert_eq!(
        checks(&verdict),
        sorted(["owner root", "package", "signatures", "payloads", "index", "places"])
    );
    assert_eq!(verdict["not_checked"].as_array().unwrap().len(), 2);

    // Another owner's package, which is sound in itself, and one that only says that it is this owner's.
    desk.good("keys create others");
    let said = desk.bad("verify r1/package --root others/owner-root.pub.pem");
    assert!(said.contains("another owner root"), "{said}");
    let facts = fs::read_to_string(desk.path("r1/package/release.json")).unwrap();
    let root = |name: &str| {
        let shown = desk.good(&format!("inspect {name}/owner-root.pub.pem --json"));
        let shown: Value = serde_json::from_str(&shown).unwrap();
        shown["thumbprint"].as_str().unwrap().to_owned()
    };
    let theirs = facts.replace(&root("keys"), &root("others"));
    assert_ne!(theirs, facts);
    desk.put("r1/package/release.json", theirs.as_bytes());
    let said = desk.bad("verify r1/package --root others/owner-root.pub.pem");
    assert!(said.contains("root-unknown"), "{said}");
    desk.put("r1/package/release.json", facts.as_bytes());

    // A signature of an object, which stage1 looks at once it has the content key.
    let package = fs::read(desk.path("r1/package/package.img")).unwrap();
    let mut altered = package.clone();
    let second = altered.windows(8).skip(8).position(|window| window == &package[..8]).unwrap() + 8;
    altered[second + 200] ^= 1;
    desk.put("r1/package/package.img", &altered);
    let sum = |bytes: &[u8]| sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    desk.put("r1/package/release.json", facts.replace(&sum(&package), &sum(&altered)).as_bytes());
    let said = desk.bad(&line);
    assert!(said.contains("  code  K0"), "{said}");
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

/// A root, an authority that it delegates to, and the delegation.
fn authority() -> (Es256Key, Es256Key, Vec<u8>) {
    let key = || Es256Key::from_scalar(&random()).unwrap();
    let (root, signing) = (key(), key());
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let grant = Grant {
        role: Role::Authority,
        key: PublicKey::P256(signing.public()),
        kinds: KindSet::default(),
        boards,
        min_version: Version::MIN,
        max_version: Version::MAX,
    };
    let certificate = certify(&root, &encode_grant(&grant)).unwrap();
    (root, signing, certificate)
}

/// What a root signed without thinking: a device refuses everything that such a key signs.
#[test]
fn a_delegation_that_no_device_can_use_is_refused() {
    let desk = desk();
    let (root, key) = (Es256Key::generate(), Es256Key::generate());
    let rsa = Ps256Key::generate(3072).unwrap();
    desk.put("root.pem", es256_public_pem(&root.public()).unwrap().as_bytes());
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let good = Grant {
        role: Role::Boot,
        key: PublicKey::P256(key.public()),
        kinds: KindSet::new(&[Kind::Stage2]),
        boards,
        min_version: Version::MIN,
        max_version: Version::MAX,
    };
    let high = Version::new(2, 0, 0);
    let provision = Grant { role: Role::Provision, key: rsa.public_key(), ..good };
    for (grant, words) in [
        (good, None),
        // Devices pass over what the role does not sign, and take RSA for what is no stage.
        (Grant { kinds: KindSet::new(&[Kind::Stage2, Kind::Kernel]), ..good }, None),
        (Grant { kinds: KindSet::new(&[Kind::Package, Kind::Secret]), ..provision }, None),
        (Grant { kinds: KindSet::new(&[Kind::Stage1, Kind::Package]), ..provision }, None),
        (
            Grant { kinds: KindSet::new(&[Kind::Stage1]), ..provision },
            Some("devices take ES256 only from the key provision"),
        ),
        (
            Grant { role: Role::Authority, kinds: KindSet::default(), ..provision },
            Some("devices take ES256 only from the key authority"),
        ),
        // Messages have no kind, so none counts; nor a version, so each has to.
        (Grant { role: Role::Authority, ..good }, None),
        (
            Grant { role: Role::Authority, kinds: KindSet::default(), min_version: high, ..good },
            Some("messages, which have no version"),
        ),
        (Grant { key: rsa.public_key(), ..good }, Some("devices take ES256 only from the key boot")),
        (Grant { kinds: KindSet::new(&[Kind::Kernel]), ..good }, Some("the role boot does not sign kernel")),
        (Grant { kinds: KindSet::default(), ..good }, Some("may sign nothing")),
        (Grant { role: Role::Os, ..good }, Some("the role os does not sign stage2")),
        (
            Grant { min_version: high, max_version: Version::new(1, 9, 9), ..good },
            Some("the lowest version, 2.0.0, is higher than the highest, 1.9.9"),
        ),
    ] {
        desk.put("one.delegation", &certify(&root, &encode_grant(&grant)).unwrap());
        let line = "verify one.delegation --root root.pem";
        match words {
            None => assert!(checks(&desk.good_json(line)).contains(&"use")),
            Some(words) => {
                let said = desk.bad(line);
                assert!(said.contains(words) && said.contains("\n  cure  "), "{words}: {said}");
            }
        }
    }
    for role in [Role::Debug, Role::Transfer] {
        let grant = Grant { role, kinds: KindSet::default(), ..good };
        desk.put("one.delegation", &certify(&root, &encode_grant(&grant)).unwrap());
        let verdict = desk.good_json("verify one.delegation --root root.pem");
        assert!(!checks(&verdict).contains(&"use"), "{verdict}");
        let said = desk.bad("verify one.delegation --root root.pem --development");
        assert!(said.contains("--development says nothing about a delegation of such a role"), "{said}");
        let words = format!("no device reads the role {} yet", role.name());
        assert!(verdict["not_checked"].to_string().contains(&words), "{verdict}");
    }
}

#[test]
fn what_lies_behind_a_package_is_named_and_counts_for_nothing() {
    let desk = desk();
    desk.good(RELEASE);
    let read = |name: &str| fs::read(desk.path(&format!("r1/package/{name}"))).unwrap();
    let mut longer = read("package.img");
    longer.resize(longer.len().next_multiple_of(4096), 0);
    let end = longer.len();
    longer.extend(read("stage1.img"));
    desk.put("longer.img", &longer);
    let verdict = desk.good_json(&format!("verify longer.img {ROOT} --key content.key"));
    let not_checked = verdict["not_checked"].as_array().unwrap();
    assert_eq!(
        not_checked[1..],
        [format!("what lies behind, from byte {end:#x} on, which no device reads: stage1").as_str()]
    );
    let kinds = verdict["images"].as_array().unwrap();
    assert!(kinds.len() > 3 && !kinds.contains(&"stage1".into()), "{kinds:?}");
    let verdict = desk.good_json(&format!("verify r1/package/package.img {ROOT} --key content.key"));
    let always = verdict["not_checked"].as_array().unwrap().clone();
    assert!(always.len() == 1 && always[0].to_string().contains("device tree"), "{always:?}");

    // What is no image, alone and behind one that is; what flash holds by itself is nothing.
    let behind = |name: &str, bytes: &[u8]| {
        desk.put("longer.img", &[&read(name), bytes].concat());
        let (first, key) = match name {
            "stage1.img" => ("stage1", "r1/package/provisioning.key"),
            _ => ("package", "content.key"),
        };
        let verdict = desk.good_json(&format!("verify longer.img {ROOT} --as {first} --key {key}"));
        let not_checked = verdict["not_checked"].as_array().unwrap().iter();
        not_checked.filter(|what| !always.contains(what)).map(ToString::to_string).collect::<Vec<_>>()
    };
    for name in ["stage1.img", "package.img"] {
        let end = read(name).len();
        let aligned = end.next_multiple_of(4096);
        let from = |at: usize| format!("from byte {at:#x} on, which no device reads");
        for rest in [vec![0; 9000], vec![0xFF; 9000], [vec![0; aligned - end], vec![0xFF; 9000]].concat()] {
            assert!(behind(name, &rest).is_empty(), "{name}");
        }
        // What is written in the two bytes of erased flash is written all the same.
        let said = behind(name, &[[0; 5000], [0xFF; 5000]].concat());
        assert!(said.len() == 1 && said[0].contains(&from(end + 5000)), "{name}: {said:?}");
        for at in [0, 1, 8999] {
            let mut rest = vec![0xFF; 9000];
            rest[at] = 1;
            let said = behind(name, &rest);
            assert!(
                said.len() == 1 && said[0].ends_with(&format!("{}\"", from(end + at))),
                "{name}: {said:?}"
            );
        }
        let mut rest = vec![0; aligned - end];
        rest.extend(read("stage1.img"));
        rest.extend(b"no image");
        let said = behind(name, &rest);
        assert!(
            said.len() == 1 && said[0].contains(&format!("{}: stage1", from(aligned))),
            "{name}: {said:?}"
        );
    }
    // Between two images as well.
    let mut between = read("package.img");
    let first = inspect_slot(&between).unwrap()[0].stored_bytes as usize;
    assert!(!first.is_multiple_of(4096) && between[first] == 0);
    between[first + 1] = 1;
    desk.put("longer.img", &between);
    for key in ["", "--key content.key"] {
        let said = desk.good_json(&format!("verify longer.img {ROOT} {key}"))["not_checked"].to_string();
        let words = format!("what lies between the images, from byte {:#x} on", first + 1);
        assert!(said.contains(&words), "{said}");
    }
    // Without the key that says what is read, all has to be images that somebody signed.
    let mut rest = read("package.img");
    rest.resize(rest.len().next_multiple_of(4096), 0);
    desk.put("longer.img", &[&rest[..], b"no image"].concat());
    desk.bad(&format!("verify longer.img {ROOT}"));
    desk.good(&format!("verify longer.img {ROOT} --key content.key"));

    // In the folder of a package too, once its facts say that it is this file.
    let facts = fs::read_to_string(desk.path("r1/package/release.json")).unwrap();
    let sum = |bytes: &[u8]| sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let package = [&read("package.img"), &[0; 5][..], b"more"].concat();
    let facts = facts.replace(&sum(&read("package.img")), &sum(&package));
    desk.put("r1/package/release.json", facts.as_bytes());
    desk.put("r1/package/package.img", &package);
    desk.put("r1/package/stage1.img", &[&read("stage1.img"), &b"more"[..]].concat());
    for key in ["", "--content-key content.key"] {
        let said = desk.good_json(&format!("verify r1/package {ROOT} {key}"))["not_checked"].to_string();
        for name in ["package.img: what lies behind", "stage1.img: what lies behind"] {
            assert!(said.contains(name), "{key}: {said}");
        }
    }
    // A second stage1, which no device reads, is none of the package's objects.
    let mut twice = read("stage1.img");
    twice.truncate(inspect_slot(&twice).unwrap()[0].stored_bytes as usize);
    let one = twice.clone();
    twice.resize(twice.len().next_multiple_of(4096), 0);
    twice.extend(one);
    desk.put("r1/package/stage1.img", &twice);
    let verdict = desk.good_json(&format!("verify r1/package {ROOT} --content-key content.key"));
    let said = verdict["not_checked"].to_string();
    assert!(said.contains("stage1.img: what lies behind") && said.contains(": stage1"), "{said}");
    let objects = verdict["objects"].to_string();
    assert!(objects.contains("package 1.2.3") && !objects.contains("stage1"), "{objects}");
}

#[test]
fn a_package_for_another_board_is_refused_whatever_it_names() {
    let desk = desk();
    desk.good(RELEASE);
    let facts = fs::read_to_string(desk.path("r1/package/release.json")).unwrap();
    desk.put("r1/package/release.json", facts.replacen("\"qemu-virt\"", "\"other\"", 1).as_bytes());
    let said = desk.bad(&format!("verify r1/package {ROOT}"));
    assert!(said.contains("board-wrong") && said.contains("\n  cure  "), "{said}");
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

#[test]
fn answers_of_the_authority_and_its_delegation_are_shown_and_verified() {
    let desk = desk();
    let (root, signing, certificate) = authority();
    desk.put("root.pem", es256_public_pem(&root.public()).unwrap().as_bytes());
    let secrets = [0x5E; 80];
    let ticket = Ticket {
        request_digest: &[1; 32],
        chip_id: &[2; 16],
        nonce: &[3; 32],
        package_id: &[4; 32],
        install: &[5; 32],
        serial: "KILN-000042",
        ephemeral: &[6; 64],
        secrets: &secrets,
    };
    let part = delegation(&root.public_key(), std::slice::from_ref(&certificate));
    let signed =
        |message, payload: &[u8]| sign_message(content_type(message), payload, &part, &[&signing]).unwrap();
    desk.put("ticket", &signed(Message::Ticket, &ticket.encode()));
    desk.put("junk", &signed(Message::Ticket, b"junk"));
    let tree: Value = serde_json::from_str(&desk.good("inspect ticket --json")).unwrap();
    assert_eq!((&tree["artefact"], &tree["says"]["serial"]), (&"ticket".into(), &"KILN-000042".into()));
    assert_eq!(tree["says"]["secrets"], "80 bytes, encrypted to the device");
    assert!(!tree.to_string().contains("5e5e5e5e"));
    let verdict = desk.good_json("verify ticket --root root.pem");
    assert_eq!(checks(&verdict), sorted(["signatures", "content type", "form"]));
    assert_eq!(verdict["not_checked"].as_array().unwrap().len(), 2);
    for (line, code) in [
        ("verify ticket --root keys/owner-root.pub.pem", "ticket-invalid"),
        ("verify ticket --root root.pem --as receipt", "receipt-invalid"),
        ("verify junk --root root.pem", "answer-malformed"),
        ("verify ticket --root root.pem --request ticket", "request"),
    ] {
        let said = desk.bad(line);
        assert!(said.contains(code), "{line}: {said}");
    }

    let certified = certificate.clone();
    let answers = Authority::new(&root.public_key(), certificate.clone(), Box::new(signing));
    desk.put("receipt", &answers.receipt(&[5; 32], &sha256(b"csr")).unwrap());
    desk.put("certificate", &answers.release(&[5; 32], &[2; 16], &[b"leaf", b"issuer"]).unwrap());
    for (file, name) in [("receipt", "receipt"), ("certificate", "device-certificate")] {
        let tree: Value = serde_json::from_str(&desk.good(&format!("inspect {file} --json"))).unwrap();
        assert_eq!(
            (&tree["artefact"], tree["delegations"][0]["role"].as_str()),
            (&name.into(), Some("authority"))
        );
        let verdict = desk.good_json(&format!("verify {file} --root root.pem"));
        assert_eq!(verdict["install"], "05".repeat(32));
    }

    let text = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let json = serde_json::json!({ "root": text(&root.public()), "certificate": text(&certified) });
    desk.put("delegation.json", json.to_string().as_bytes());
    desk.put("delegation.cose", &certified);
    for file in ["delegation.json", "delegation.cose"] {
        let tree: Value = serde_json::from_str(&desk.good(&format!("inspect {file} --json"))).unwrap();
        assert_eq!(
            (&tree["artefact"], &tree["role"]),
            (&"delegation certificate".into(), &"authority".into())
        );
        let verdict = desk.good_json(&format!("verify {file} --root root.pem"));
        assert_eq!(
            (&verdict["role"], checks(&verdict)),
            (&"authority".into(), sorted(["signature", "board", "use"]).to_vec())
        );
        assert!(desk.bad(&format!("verify {file} --root keys/owner-root.pub.pem")).contains("K0"));
    }
}

#[test]
fn what_devices_send_is_shown_and_another_keys_to_verify() {
    let desk = desk();
    let facts = FuseFacts::read(&OtpImage::for_die(
        Lifecycle::Secured,
        &Die {
            chip_id: [2; 16],
            silicon_secret: [0x51; 32],
            root_digest: [7; 32],
            provisioning_key: [0x52; 32],
            device_seed: [0x53; 32],
            closing_measurement: [8; 32],
            floors: [0; 6],
            owner_generation: 0,
        },
    ));
    let facts = facts.unwrap().encode();
    let device = Device {
        board: BOARD,
        chip_id: &[2; 16],
        package_id: &[4; 32],
        die_chain: &[b"a certificate of the vendor's"],
        statement: b"a statement",
        fuse_facts: &facts,
    };
    let key = |seed: u8| EcKey::from_scalar(&[seed; 32]).unwrap();
    let stage_key = key(3);
    let session = Session::new(device, &stage_key, key(4), [9; 32]).unwrap();
    let ticket = VerifiedTicket {
        install: [5; 32],
        serial: "KILN-1".into(),
        content_key: Key::new([0x54; 32]),
        entropy: Key::new([0x55; 32]),
    };
    desk.put("request", session.request());
    desk.put("csr", &session.csr(&ticket, b"a certificate request").unwrap());
    let proof = ClosingProof {
        install: &[5; 32],
        chip_id: &[2; 16],
        statement: b"a statement",
        fuse_facts: b"fuses",
    };
    desk.put("proof", &proof.encode());

    let shown = |file: &str| -> Value {
        serde_json::from_str(&desk.good(&format!("inspect {file} --json"))).unwrap()
    };
    let request = shown("request");
    assert_eq!((&request["artefact"], &request["says"]["board"]), (&"request".into(), &BOARD.into()));
    assert_eq!(request["says"]["fuses"]["lifecycle"], "secured");
    assert_eq!(request["says"]["fuses"]["owner roots"][0], "07".repeat(32));
    assert_eq!(request["says"]["die certificates"].as_array().unwrap().len(), 1);
    let csr = shown("csr");
    assert_eq!((&csr["artefact"], &csr["says"]["request"]), (&"csr".into(), &request["sha256"]));
    let proof = shown("proof");
    assert_eq!((&proof["artefact"], &proof["fuses"]), (&"closing-proof".into(), &"unreadable".into()));
    for (file, name) in [("request", "request"), ("csr", "csr"), ("proof", "closing-proof")] {
        let said = desk.bad(&format!("verify {file} {ROOT}"));
        assert!(said.contains(&format!("{name} of a device")), "{said}");
        assert!(said.contains("the authority verifies it"), "{said}");
    }
}
