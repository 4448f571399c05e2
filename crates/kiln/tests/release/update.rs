//! A release with an update image: what is in it, whom it names, and what stops it.

use crate::artefacts::ROOT;
use crate::common::{Desk, PASSPHRASE};
use crate::product::CONFIG;
use crate::{RELEASE, VERIFY, assert_nothing_left, files};
use boot_crypto::host::unlock;
use release::{PackageFacts, UpdateFacts, hex, inspect_slot, read_root};
use sealed_image::{Kind, Role, UpdateKey, Version};
use serde_json::Value;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

pub(crate) const UPDATE: &str = "[update]\nkey = \"update.key\"\nminimum-version = \"1.1.0\"\n";

/// A desk with an update key, which kiln.toml names.
fn desk() -> Desk {
    let desk = super::desk();
    desk.good("update-key update.key --product demo");
    configure(&desk, UPDATE);
    desk
}

fn configure(desk: &Desk, update: &str) {
    desk.put("kiln.toml", CONFIG.replacen("[stages]", &format!("{update}[stages]"), 1).as_bytes());
}

/// The kinds of the images of an update, and the digests of their manifests.
fn images(desk: &Desk, release: &str) -> Vec<(Kind, String)> {
    let update = fs::read(desk.path(&format!("{release}/update/update.img"))).unwrap();
    inspect_slot(&update).unwrap().iter().map(|image| (image.kind, hex(&image.digest))).collect()
}

#[test]
fn an_update_key_is_made_once_encrypted_and_for_its_owner_alone() {
    let desk = super::desk();
    let made = desk.good_json("update-key update.key --product demo");
    assert_eq!((&made["file"], &made["product"]), (&"update.key".into(), &"demo".into()));
    let first = fs::read(desk.path("update.key")).unwrap();
    assert!(first.starts_with(b"-----BEGIN ENCRYPTED KILN UPDATE KEY-----\n"));
    assert_eq!(fs::metadata(desk.path("update.key")).unwrap().permissions().mode() & 0o777, 0o600);
    let said = desk.bad("update-key update.key --product demo");
    assert!(said.contains("update.key is there already") && said.contains("\n  cure  "), "{said}");
    assert_eq!(fs::read(desk.path("update.key")).unwrap(), first);
    desk.good("update-key other.key --product demo");
    assert_ne!(fs::read(desk.path("other.key")).unwrap(), first);

    let said = desk.bad("update-key x.key --product Demo");
    assert!(said.contains("`Demo` is no name of a product") && said.contains("\n  cure  "), "{said}");
    let mut desk = desk;
    desk.unset("KILN_PASSPHRASE");
    let said = desk.bad("update-key x.key --product demo");
    assert!(said.contains("no passphrase was given") && said.contains("\n  cure  "), "{said}");
    assert!(!desk.path("x.key").exists());
}

#[test]
fn a_release_brings_an_update_that_is_verified_by_name_with_and_without_its_key() {
    let desk = desk();
    let made = desk.good_json(RELEASE);
    assert_eq!(made["update_from"], "1.1.0");
    let checked: Vec<_> = made["checked"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(checked.contains(&"update") && checked.contains(&"update payloads"), "{checked:?}");
    let found = files(&desk.path("r1"));
    for name in
        ["update/update.img", "update/update.json", "manifests/update.cose", "manifests/secret-2.cose"]
    {
        assert!(found.contains_key(name), "{name}");
    }
    assert_eq!(made["files"], found.len());

    let verified = desk.good_json(VERIFY);
    let check = verified["checks"]["update"].as_str().unwrap();
    assert_eq!(
        check,
        "a device of 1.1.0 takes it; rollback indices boot 2, os 2; signed as a device wants them: update, stage2, \
         bundle, kernel, device-tree, initramfs"
    );
    assert_eq!(verified["checks"]["update payloads"], Value::Null);
    let verified = desk.good_json(&format!("{VERIFY} --update-key update.key --content-key content.key"));
    assert!(verified["checks"]["update payloads"].as_str().unwrap().starts_with("opened"), "{verified}");
    assert!(verified["checks"]["payloads"].as_str().unwrap().starts_with("8 opened"), "{verified}");
    for places in ["places", "update places"] {
        assert!(verified["checks"][places].as_str().unwrap().contains("once it is installed"), "{verified}");
    }

    // The same images as in the package, each sealed for its place.
    let package = inspect_slot(&found["package/package.img"]).unwrap();
    for (kind, digest) in &images(&desk, "r1")[1..] {
        assert!(package.iter().any(|image| image.kind == *kind && hex(&image.digest) == *digest), "{kind:?}");
    }
    let facts = UpdateFacts::from_json(str::from_utf8(&found["update/update.json"]).unwrap()).unwrap();
    assert_eq!((facts.product.as_str(), facts.minimum_version), ("demo", Version::new(1, 1, 0)));
    assert_eq!(facts.indices.iter().collect::<Vec<_>>(), [(Role::Boot, 2), (Role::Os, 2)]);
    assert_eq!(hex(&facts.update_id), images(&desk, "r1")[0].1);
    let provenance = desk.good("inspect r1/provenance.intoto.json --json");
    assert!(provenance.contains("update/update.img"), "{provenance}");
}

#[test]
fn an_update_is_shown_and_verified_by_itself_with_what_is_said_of_it() {
    let desk = desk();
    desk.good(RELEASE);
    let names = |verdict: &Value| verdict["checks"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    for path in ["r1/update", "r1/update/update.img"] {
        let verdict = desk.good_json(&format!("verify {path} {ROOT}"));
        assert_eq!(names(&verdict), ["admission", "index", "signatures"]);
        assert_eq!((&verdict["artefact"], &verdict["minimum_version"]), (&"update".into(), &"1.1.0".into()));
        assert_eq!(verdict["rollback_indices"], serde_json::json!({ "boot": 2, "os": 2 }));
        assert_eq!(verdict["not_checked"].as_array().unwrap().len(), 2);
        let verdict = desk.good_json(&format!("verify {path} {ROOT} --update-key update.key"));
        assert_eq!(names(&verdict), ["admission", "bundle", "index", "payloads", "places", "signatures"]);
        assert_eq!(verdict["not_checked"].as_array().unwrap().len(), 2);
        assert!(verdict["not_checked"].to_string().contains("device tree"), "{verdict}");
        let tree: Value = serde_json::from_str(&desk.good("inspect r1/update --json")).unwrap();
        assert_eq!(tree["facts"]["minimum version"], "1.1.0");
        assert_eq!(tree["images"]["images"].as_array().unwrap().len(), 6);
    }
    let tree: Value = serde_json::from_str(&desk.good("inspect r1/update/update.json --json")).unwrap();
    assert_eq!((&tree["artefact"], &tree["product"]), (&"facts of an update".into(), &"demo".into()));
    let tree: Value = serde_json::from_str(&desk.good("inspect r1 --json")).unwrap();
    assert_eq!(tree["update"]["facts"]["version"], "1.2.3");

    desk.good("update-key other.key --product demo");
    for (options, words) in [
        ("--floor 3", "rolled-back"),
        ("--revoked keys/owner-root.pub.pem", "root-revoked"),
        ("--as package", "kind-wrong"),
        ("--key content.key", "--key"),
        ("--update-key other.key", "key-unwrap"),
    ] {
        let said = desk.bad(&format!("verify r1/update/update.img {ROOT} {options}"));
        assert!(said.contains(words) && said.contains("\n  cure  "), "{options}: {said}");
    }
    let said = desk.bad(&format!("verify r1/package {ROOT} --update-key update.key"));
    assert!(said.contains("--update-key"), "{said}");

    // Other words beside it, and none.
    let image = fs::read(desk.path("r1/update/update.img")).unwrap();
    let facts = fs::read_to_string(desk.path("r1/update/update.json")).unwrap();
    for folder in ["other", "alone"] {
        fs::create_dir(desk.path(folder)).unwrap();
    }
    for (from, to) in [("\"1.1.0\"", "\"1.0.0\""), ("\"os\": 2", "\"os\": 1"), ("\"demo\"", "\"dem\"")] {
        assert!(facts.contains(from), "{from}");
        desk.put("other/update.img", &image);
        desk.put("other/update.json", facts.replacen(from, to, 1).as_bytes());
        let said = desk.bad(&format!("verify other {ROOT}"));
        assert!(said.contains("update.json says something else than the signed index"), "{from}: {said}");
    }
    // Whoever serves updates names the board; the device code is that of one.
    desk.put("other/update.json", facts.replacen("\"qemu-virt\"", "\"other\"", 1).as_bytes());
    let said = desk.bad(&format!("verify other {ROOT}"));
    assert!(said.contains("board-wrong"), "{said}");
    for file in ["", "/update.img"] {
        let said = desk.bad(&format!("verify r1/update{file} {ROOT} --development"));
        assert!(said.contains("--development says nothing about a") && said.contains("update"), "{said}");
    }
    desk.put("alone/update.img", &image);
    let verdict = desk.good_json(&format!("verify alone/update.img {ROOT}"));
    assert_eq!(names(&verdict), ["signatures"]);
    assert!(
        verdict["not_checked"][0].as_str().unwrap().contains("that takes update.json beside it"),
        "{verdict}"
    );
    let said = desk.bad(&format!("verify alone/update.img {ROOT} --update-key update.key"));
    assert!(said.contains("update.json") && said.contains("\n  cure  "), "{said}");
    // A folder is to have both files, each of them a file of some length.
    let said = desk.bad(&format!("verify alone {ROOT}"));
    assert!(said.contains("release-file-missing") && said.contains("update.json"), "{said}");
    desk.put("alone/update.json", &[b' '; (1 << 16) + 1]);
    let said = desk.bad(&format!("verify alone {ROOT}"));
    assert!(said.contains("update.json: it is larger than anything"), "{said}");
    fs::remove_file(desk.path("alone/update.json")).unwrap();
    fs::create_dir(desk.path("alone/update.json")).unwrap();
    for path in ["alone", "alone/update.img"] {
        let said = desk.bad(&format!("verify {path} {ROOT}"));
        assert!(said.contains("update.json: it is no file"), "{path}: {said}");
    }
    fs::remove_dir(desk.path("alone/update.json")).unwrap();
    desk.put("alone/update.json", facts.as_bytes());
    fs::remove_file(desk.path("alone/update.img")).unwrap();
    let said = desk.bad(&format!("verify alone {ROOT}"));
    assert!(said.contains("release-file-missing") && said.contains("update.img"), "{said}");
}

#[test]
fn each_role_has_a_rollback_index_of_its_own() {
    let desk = desk();
    let config = fs::read_to_string(desk.path("kiln.toml")).unwrap();
    let release = |name: &str, version: &str, indices: &str| {
        let config = config.replacen("rollback-index = 2", &format!("rollback-index = {indices}"), 1);
        desk.put("kiln.toml", config.replacen("1.2.3", version, 1).as_bytes());
        format!("release --out {name} --content-key {name}.key")
    };
    let made = desk.good_json(&release("r1", "1.2.3", "{ boot = 1, provision = 2, os = 3 }"));
    let indices = serde_json::json!({ "boot": 1, "provision": 2, "os": 3 });
    assert_eq!(made["rollback_index"], indices);
    let keys = "--content-key r1.key --update-key update.key";
    assert_eq!(desk.good_json(&format!("{VERIFY} {keys}"))["rollback_index"], indices);
    let shown: Value = serde_json::from_str(&desk.good("inspect r1 --json")).unwrap();
    let images = |of: &str| shown.pointer(of).unwrap().as_array().unwrap().clone();
    let package = images("/package/files/package.img/images");
    let update = images("/update/images/images");
    let of = |images: &[Value], kind: &str| {
        let image = images.iter().find(|image| image["kind"] == kind).unwrap();
        image["rollback index"].as_u64().unwrap()
    };
    for (kind, index) in [("package", 2), ("stage2", 1), ("bundle", 3), ("kernel", 3), ("secret", 2)] {
        assert_eq!(of(&package, kind), index, "{kind}");
    }
    assert_eq!(["update", "stage2", "kernel"].map(|kind| of(&update, kind)), [3, 1, 3]);
    let facts = UpdateFacts::read(&desk.path("r1/update/update.json")).unwrap();
    let roles = [Role::Boot, Role::Provision, Role::Os];
    assert_eq!(roles.map(|role| facts.indices.of(role)), [Some(1), None, Some(3)]);
    let policy = PackageFacts::read(&desk.path("r1/package")).unwrap().policy;
    assert_eq!(policy.production_floors[..3], [1, 2, 3]);
    assert_eq!(policy.secured_floors.iter().filter(|floor| **floor == 2).count(), 1);

    // The floors of a device are of roles too.
    for (floors, refused) in [
        ("--floor 1", false),
        ("--floor 2", true),
        ("--floor boot=1 --floor provision=2 --floor os=3", false),
        ("--floor 9 --floor 0 --floor os=3", false),
        ("--floor boot=2", true),
        ("--floor provision=3", true),
        ("--floor os=4", true),
    ] {
        for what in ["r1", "r1/package", "r1/update"] {
            // An update brings nothing of the role provision.
            let line = format!("verify {what} {ROOT} {floors}");
            if refused && !(what == "r1/update" && floors.contains("provision")) {
                let said = desk.bad(&line);
                assert!(said.contains("rolled-back"), "{line}: {said}");
            } else {
                desk.good(&line);
            }
        }
        let line = format!("verify r1/release.cose {ROOT} {floors}");
        if refused { drop(desk.bad(&line)) } else { drop(desk.good(&line)) }
    }
    for wrong in ["65", "os", "os=65", "=1", "owner=1", "-1"] {
        assert_eq!(desk.run(&format!("verify r1 {ROOT} --floor {wrong}")).status.code(), Some(2), "{wrong}");
    }

    // None of them may fall, whatever the others do.
    for (indices, role) in [
        ("{ boot = 0, provision = 9, os = 9 }", "boot"),
        ("{ boot = 9, provision = 1, os = 9 }", "provision"),
        ("{ boot = 9, provision = 9, os = 2 }", "os"),
        ("2", "os"),
    ] {
        let said = desk.bad(&format!("{} --previous r1", release("r2", "1.2.4", indices)));
        assert!(said.contains(&format!("of the role {role} is lower than")), "{indices}: {said}");
        assert!(!desk.path("r2").exists());
    }
    desk.good(&format!("{} --previous r1", release("r2", "1.2.4", "3")));
    let said = desk.bad(&release("r3", "1.2.5", "{ boot = 1, provision = 1, os = 65 }"));
    assert!(said.contains("higher than fuses can count"), "{said}");
}

#[test]
fn an_update_beside_something_else_is_neither() {
    let desk = desk();
    desk.good(RELEASE);
    for (folder, also) in [("r1/package", "a package"), ("device", "a device")] {
        if folder == "device" {
            desk.good("fabricate --stage0 stage0.bin --vendor vendor device");
        }
        for name in ["update.img", "update.json"] {
            fs::copy(desk.path(&format!("r1/update/{name}")), desk.path(&format!("{folder}/{name}")))
                .unwrap();
            for verb in [format!("verify {folder} {ROOT}"), format!("inspect {folder}")] {
                let said = desk.bad(&verb);
                assert!(said.contains("it has files of") && said.contains(also), "{verb}: {said}");
                assert!(said.contains("an update") && said.contains("\n  cure  "), "{verb}: {said}");
            }
            fs::remove_file(desk.path(&format!("{folder}/{name}"))).unwrap();
        }
    }
    desk.good(&format!("verify r1/package {ROOT}"));
    for (from, to) in
        [("r1/update/update.img", "r1/update.img"), ("r1/release.cose", "r1/package/release.cose")]
    {
        fs::copy(desk.path(from), desk.path(to)).unwrap();
        let folder = to.rsplit_once('/').unwrap().0;
        for verb in [format!("verify {folder} {ROOT}"), format!("inspect {folder}")] {
            let said = desk.bad(&verb);
            assert!(said.contains("it has files of a release and of"), "{verb}: {said}");
        }
        fs::remove_file(desk.path(to)).unwrap();
    }
}

#[test]
fn no_passphrase_is_asked_for_where_an_update_key_says_nothing() {
    let mut desk = desk();
    desk.good(RELEASE);
    desk.unset("KILN_PASSPHRASE");
    for what in ["r1/package", "r1/package/stage1.img", "r1/release.cose"] {
        let said = desk.bad(&format!("verify {what} {ROOT} --update-key update.key"));
        assert!(said.contains("--update-key says nothing about a"), "{what}: {said}");
    }
    let said = desk.bad(&format!("verify r1/update {ROOT} --update-key update.key"));
    assert!(said.contains("no passphrase was given"), "{said}");
    let said = desk.bad(&format!("{VERIFY} --update-key update.key"));
    assert!(said.contains("no passphrase was given"), "{said}");
    fs::remove_dir_all(desk.path("r1/update")).unwrap();
    let said = desk.bad(&format!("{VERIFY} --update-key update.key"));
    assert!(said.contains("has no update image that --update-key could open"), "{said}");
}

#[test]
fn the_update_key_is_nowhere_in_a_release_but_sealed_in_its_package() {
    let desk = desk();
    desk.good(RELEASE);
    let text = fs::read(desk.path("update.key")).unwrap();
    let (_, locked) = pem_rfc7468::decode_vec(&text).unwrap();
    let secret = unlock(&locked, PASSPHRASE).unwrap();
    let key = *UpdateKey::parse(&secret).unwrap().key().expose();
    for (name, bytes) in files(&desk.path("r1")) {
        let holds = |part: &[u8]| bytes.windows(part.len()).any(|window| window.eq_ignore_ascii_case(part));
        assert!(!holds(&key) && !holds(hex(&key).as_bytes()), "{name} holds the update key");
        assert!(!holds(b"kiln update key") && !holds(b"not-to-be-published"), "{name} leaks");
    }
    // Who wants none in the package gets none: the last secret is gone.
    configure(&desk, &format!("{UPDATE}provision = false\n"));
    desk.good("release --content-key 2.key --out r2");
    assert!(
        !desk.path("r2/manifests/secret-2.cose").exists() && desk.path("r2/manifests/secret-1.cose").exists()
    );
    assert!(desk.path("r2/update/update.img").exists());
}

#[test]
fn a_release_without_the_table_has_no_update_and_one_without_stage2_leaves_it_as_it_is() {
    let desk = desk();
    configure(&desk, "");
    desk.good(RELEASE);
    assert!(!desk.path("r1/update").exists() && !desk.path("r1/manifests/update.cose").exists());
    assert_eq!(desk.good_json(VERIFY)["checks"]["update"], Value::Null);
    let said = desk.bad(&format!("{VERIFY} --update-key update.key"));
    assert!(said.contains("has no update image that --update-key could open"), "{said}");

    configure(&desk, &format!("{UPDATE}stage2 = false\n"));
    desk.good("release --content-key 2.key --out r2");
    let kinds: Vec<_> = images(&desk, "r2").into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, [Kind::Update, Kind::Bundle, Kind::Kernel, Kind::DeviceTree, Kind::Initramfs]);
    let verified = desk.good_json(&VERIFY.replace("r1", "r2"));
    assert!(verified["checks"]["update"].as_str().unwrap().contains("rollback indices os 2;"), "{verified}");
}

#[test]
fn an_update_that_was_altered_or_swapped_makes_the_release_another() {
    let desk = desk();
    desk.good(RELEASE);
    desk.good("release --content-key 2.key --out r2");
    for name in ["update/update.img", "update/update.json", "manifests/update.cose"] {
        let path = format!("r1/{name}");
        let good = fs::read(desk.path(&path)).unwrap();
        let other = fs::read(desk.path(&path.replace("r1", "r2"))).unwrap();
        let mut altered = good.clone();
        altered[good.len() / 2] ^= 1;
        for bytes in [&altered, &other, &good[..good.len() - 1].to_vec(), &Vec::new()] {
            if *bytes == good {
                continue;
            }
            desk.put(&path, bytes);
            assert!(desk.bad(VERIFY).contains("K1401 release-file-altered"), "{name}");
        }
        fs::remove_file(desk.path(&path)).unwrap();
        assert!(desk.bad(VERIFY).contains("K1400 release-file-missing"), "{name}");
        desk.put(&path, &good);
    }
    desk.good(VERIFY);
    desk.good("update-key other.key --product demo");
    let said = desk.bad(&format!("{VERIFY} --update-key other.key"));
    assert!(said.contains("K0400 key-unwrap"), "{said}");
    let said = desk.bad(&format!("{VERIFY} --update-key content.key"));
    assert!(said.contains("it holds no update key") && said.contains("\n  cure  "), "{said}");
}

#[test]
fn whatever_is_wrong_with_an_update_stops_the_release_and_leaves_nothing_behind() {
    let mut desk = desk();
    desk.good("update-key theirs.key --product other");
    desk.put("hex.key", format!("{}\n", "1f".repeat(32)).as_bytes());
    let key = fs::read(desk.path("update.key")).unwrap();
    desk.put("cut.key", &key[..key.len() / 2]);
    for (from, to, words) in [
        ("update.key", "missing.key", "cannot read missing.key"),
        ("update.key", "hex.key", "hex.key: it holds no update key"),
        ("update.key", "cut.key", "cut.key: it holds no update key"),
        ("update.key", "keys/owner-os.key.pem", "owner-os.key.pem: it holds no update key"),
        ("update.key", "theirs.key", "it is the update key of the product `other`, and this one is `demo`"),
        (
            "1.1.0",
            "1.2.3",
            "kiln.toml, line 10: `minimum-version` is that of devices which are older than 1.2.3",
        ),
        ("1.1.0", "1.3.0", "kiln.toml, line 10: "),
        ("1.1.0", "1.1", "MAJOR.MINOR.PATCH"),
        ("minimum-version", "minimum_version", "did you mean `minimum-version`?"),
        ("key = \"update.key\"\n", "", "missing field `key`"),
    ] {
        configure(&desk, &UPDATE.replacen(from, to, 1));
        let said = desk.bad(RELEASE);
        assert!(said.contains(words) && said.contains("\n  cure  "), "{from} → {to}: {said}");
        assert_nothing_left(&desk);
    }
    configure(&desk, UPDATE);
    desk.set("KILN_PASSPHRASE", "another");
    desk.good("keys create others");
    desk.put(
        "kiln.toml",
        fs::read_to_string(desk.path("kiln.toml")).unwrap().replace("\"keys\"", "\"others\"").as_bytes(),
    );
    let said = desk.bad(RELEASE);
    assert!(said.contains("update.key: no update key comes out with this passphrase"), "{said}");
    assert!(said.contains("\n  cure  ") && !said.contains(PASSPHRASE), "{said}");
    assert_nothing_left(&desk);
}

/// Runs with the interpreter that `KILN_PYTHON` names, which has `pycose`; `cargo xtask test` provides one.
#[test]
fn an_independent_library_verifies_the_release_manifest_and_the_index_of_the_update() {
    let python = std::env::var("KILN_PYTHON")
        .expect("KILN_PYTHON names an interpreter with pycose: run `cargo xtask test`, which sets it up");
    let desk = desk();
    desk.good(RELEASE);
    let root = read_root(&desk.path("keys/owner-root.pub.pem")).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../sealed-image/tests/interop/verify_cose.py");
    let verify = |file: &str, root: &str, more: &[&str]| {
        let mut command = Command::new(&python);
        command.arg(script).arg(desk.path(file)).arg(root).args(more).output().unwrap()
    };
    for (file, more, role) in [
        ("r1/release.cose", &["application/kiln-release-manifest+cbor"][..], Role::Provision),
        ("r1/update/update.img", &[], Role::Os),
    ] {
        let output = verify(file, &hex(&root), more);
        assert!(output.status.success(), "{file}: {}", String::from_utf8_lossy(&output.stderr));
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["algorithms"], Value::from(vec!["ES256"]), "{said}");
        assert!(said["flips_refused"].as_u64().unwrap() > 500, "{said}");
        match said["roles"].as_array() {
            Some(roles) => assert_eq!(roles, &[Value::from(role.number())]),
            None => assert_eq!((&said["kind"], &said["version"]), (&"update".into(), &"1.2.3".into())),
        }
        assert!(!verify(file, &hex(&[0; 32]), more).status.success(), "{file}: another root was taken");
    }
    assert!(!verify("r1/release.cose", &hex(&root), &["application/kiln-ticket+cbor"]).status.success());
}
