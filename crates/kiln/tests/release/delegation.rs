//! Who releases has no root: keys are made where they sign, delegated where the root is, and within limits.

use crate::common::Desk;
use crate::product::CONFIG;
use crate::{assert_nothing_left, product, token};
use boot_crypto::host::es256_public_pem;
use release::test_keys;
use serde_json::Value;
use std::fs;

const RELEASE: &str = "release --content-key content.key --out r1";
const VERIFY: &str = "verify r1 --root keys/owner-root.pub.pem --content-key content.key";
const ROLES: [&str; 3] = ["boot", "provision", "os"];

/// Asserts that a release fails for this reason, with this code, and leaves nothing.
#[track_caller]
fn assert_refused(desk: &Desk, words: &[&str]) {
    let said = desk.bad(RELEASE);
    for words in words {
        assert!(said.contains(words) && said.contains("\n  cure  "), "{words}: {said}");
    }
    assert_nothing_left(desk);
}

/// A desk with a root in one folder, and keys of the roles in another, to which nothing is delegated yet.
fn desk() -> Desk {
    let desk = product::desk();
    desk.good("keys create offline --role root");
    desk.good("keys create keys --role boot --role provision --role os");
    fs::copy(desk.path("offline/owner-root.pub.pem"), desk.path("keys/owner-root.pub.pem")).unwrap();
    desk
}

/// Has the root delegate a role, within limits, in place of what it did before.
fn delegate(desk: &Desk, role: &str, limits: &str) {
    let out = format!("keys/owner-{role}.delegation");
    let _ = fs::remove_file(desk.path(&out));
    let key = format!("--role {role} --key keys/owner-{role}.pub.pem --out {out}");
    desk.good(&format!("keys delegate offline {key} {limits}"));
}

#[test]
fn keys_that_the_root_delegated_to_elsewhere_release_without_it() {
    let desk = desk();
    assert_refused(&desk, &["keys/owner-boot.delegation: there is none", "kiln keys delegate"]);
    for role in ROLES {
        delegate(&desk, role, "--from-version 1.0.0 --to-version 1.2.3");
    }
    let listed = desk.good_json("keys list keys");
    let keys = listed["keys"].as_array().unwrap();
    let names: Vec<_> = keys.iter().map(|key| key["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["root", "boot", "provision", "os"]);
    assert_eq!(
        (&keys[0]["kept_in"], &keys[1]["kept_in"]),
        (&"another place".into(), &"an encrypted file".into())
    );
    assert_eq!(keys[1]["delegation"]["kinds"], serde_json::json!(["stage2"]));
    assert_eq!(keys[3]["delegation"]["to_version"], "1.2.3");
    assert!(keys.iter().all(|key| key["revoked"] == false));
    let said = desk.good("keys list keys");
    assert!(said.contains("may sign  stage2 for qemu-virt, versions 1.0.0 to 1.2.3"), "{said}");

    // The root is nowhere near.
    fs::rename(desk.path("offline"), desk.path("vault")).unwrap();
    desk.good(RELEASE);
    desk.good(VERIFY);
}

#[test]
fn what_a_delegation_does_not_cover_is_not_released() {
    let desk = desk();
    for role in ROLES {
        delegate(&desk, role, "");
    }
    let versions = "--from-version 1.0.0 --to-version 1.2.2";
    for (role, limits, words) in [
        ("boot", versions, &["K0307", "role boot", "versions 1.0.0 to 1.2.2: not version 1.2.3"]),
        ("provision", versions, &["K0307", "role provision", "not version 1.2.3"]),
        ("os", "--from-version 2.0.0", &["K0307", "role os", "versions from 2.0.0 on: not version 1.2.3"]),
        (
            "os",
            "--kind kernel --kind bundle",
            &["K0305", "kernel, bundle for qemu-virt", "not a device-tree"],
        ),
        ("provision", "--kind stage1", &["K0305", "role provision", "not a "]),
        ("boot", "--board another-board", &["K0306", "role boot", "not something for qemu-virt"]),
    ] {
        delegate(&desk, role, limits);
        assert_refused(&desk, words);
        delegate(&desk, role, "");
    }
    desk.good(RELEASE);
    // Of one role, in the place of another; of another owner.
    fs::copy(desk.path("keys/owner-os.delegation"), desk.path("os.delegation")).unwrap();
    fs::copy(desk.path("keys/owner-boot.delegation"), desk.path("keys/owner-os.delegation")).unwrap();
    let line = RELEASE.replace("r1", "r2").replace("content.key", "2.key");
    let said = desk.bad(&line);
    assert!(said.contains("owner-os.delegation: it delegates the role boot"), "{said}");
    desk.good("keys create others");
    fs::copy(desk.path("others/owner-os.delegation"), desk.path("keys/owner-os.delegation")).unwrap();
    let said = desk.bad(&line);
    assert!(said.contains("owner-os.delegation") && said.contains("K0301 delegation-signature"), "{said}");
    fs::copy(desk.path("os.delegation"), desk.path("keys/owner-os.delegation")).unwrap();
    desk.good(&line);
}

#[test]
fn limits_that_make_no_sense_are_refused_before_the_root_signs() {
    let desk = desk();
    let delegate = |role: &str, limits: &str| {
        let key = format!("--role {role} --key keys/owner-{role}.pub.pem --out d");
        let said = desk.bad(&format!("keys delegate offline {key} {limits}"));
        assert!(!desk.path("d").exists() && said.contains("\n  cure  "), "{said}");
        said
    };
    for (role, limits, words) in [
        ("boot", "--kind kernel", "the role boot does not sign kernel"),
        ("os", "--from-version 2.0.0 --to-version 1.0.0", "is higher than the highest"),
        ("os", "--board Not_A_Board", "delegation"),
    ] {
        let said = delegate(role, limits);
        assert!(said.contains(words), "{words}: {said}");
    }
    let said = desk.bad("keys delegate offline --role os --key keys/owner-os.key.pem --out d");
    assert!(said.contains("no P-256 public key") && !said.contains("PRIVATE KEY"), "{said}");
    let said = desk.bad("keys delegate keys --role os --key keys/owner-os.pub.pem --out d");
    assert!(said.contains("keys/owner-root.key.pem"), "{said}");
    desk.put("test.pub.pem", es256_public_pem(&test_keys::es256(test_keys::OS).public()).unwrap().as_bytes());
    let said = desk.bad("keys delegate offline --role os --key test.pub.pem --out d");
    assert!(said.contains("K0311") && !desk.path("d").exists(), "{said}");
    let said = desk.bad("keys delegate offline --role os --key offline/owner-root.pub.pem --out d");
    assert!(said.contains("the root delegates, and acts in no role itself"), "{said}");
    // A key that was put where its name belongs is not shown, whoever asks.
    fs::copy(desk.path("keys/owner-os.key.pem"), desk.path("keys/owner-os.key.uri")).unwrap();
    let listed = desk.good("keys list keys");
    assert!(listed.contains("holds no URI") && !listed.contains("PRIVATE KEY"), "{listed}");
    fs::remove_file(desk.path("keys/owner-os.key.uri")).unwrap();
    // The authority's key, and kinds that nobody signs, are not for this command.
    for line in ["--role authority --key k --out d", "--role os --kind tee --key k --out d"] {
        assert_eq!(desk.run(&format!("keys delegate offline {line}")).status.code(), Some(2), "{line}");
    }
    let said = desk.bad("keys create more --role boot --algorithm ps256-3072");
    assert!(
        said.contains("devices take ES256 only from the key boot") && !desk.path("more").exists(),
        "{said}"
    );
    let said = desk.bad("keys create keys --role os");
    assert!(said.contains("keys/owner-os.pub.pem is there already"), "{said}");
    let said = desk.bad("keys list nowhere");
    assert!(said.contains("nowhere"), "{said}");
}

#[test]
fn a_revoked_key_releases_nothing_and_another_takes_its_place() {
    let desk = desk();
    for role in ROLES {
        delegate(&desk, role, "");
    }
    let said = desk.bad("keys revoke offline --key keys/owner-os.pub.pem");
    assert!(
        said.contains("nobody is there to ask") && !desk.path("offline/owner-revoked").exists(),
        "{said}"
    );
    let revoked = desk.good_json("keys revoke offline --key keys/owner-os.pub.pem --yes");
    assert_eq!((&revoked["number"], &revoked["revoked_keys"]), (&1.into(), &1.into()));
    let list: Value = serde_json::from_str(&desk.good("inspect offline/owner-revoked --json")).unwrap();
    assert_eq!((&list["number"], list["keys"].as_array().unwrap().len()), (&1.into(), 1));
    // Who releases is told, and so is who verifies: the release of before is not what it was.
    desk.good(RELEASE);
    desk.good(VERIFY);
    let said = desk.bad(&format!("{VERIFY} --revoked-keys offline/owner-revoked"));
    assert!(said.contains("the root has revoked that key") && said.contains("\n  cure  "), "{said}");
    for other in ["r1/package", "r1/release.cose", "r1/package/stage1.img"] {
        let line =
            format!("verify {other} --root keys/owner-root.pub.pem --revoked-keys offline/owner-revoked");
        let said = desk.bad(&line);
        assert!(said.contains("is for releases, and this is none"), "{said}");
    }
    let said = desk.bad("keys revoke offline --key offline/owner-root.pub.pem --yes");
    assert!(said.contains("this is the root") && said.contains("\n  cure  "), "{said}");
    desk.good("keys create unused --role os");
    desk.good("keys create elsewhere");
    desk.good("keys revoke elsewhere --key unused/owner-os.pub.pem --yes");
    let said = desk.bad(&format!("{VERIFY} --revoked-keys elsewhere/owner-revoked"));
    assert!(said.contains("it is not signed by the owner root"), "{said}");
    fs::copy(desk.path("offline/owner-revoked"), desk.path("keys/owner-revoked")).unwrap();
    let again = RELEASE.replace("r1", "r2").replace("content.key", "2.key");
    let said = desk.bad(&again);
    assert!(said.contains("the root has revoked its key") && said.contains("\n  cure  "), "{said}");
    assert_eq!(desk.good_json("keys list keys")["keys"][3]["revoked"], true);

    // By its thumbprint; the list has both now.
    let boot = desk.good_json("keys list keys")["keys"][1]["thumbprint"].as_str().unwrap().to_owned();
    let revoked = desk.good_json(&format!("keys revoke offline --key {boot} --yes"));
    assert_eq!((&revoked["number"], &revoked["revoked_keys"]), (&2.into(), &2.into()));
    fs::copy(desk.path("offline/owner-revoked"), desk.path("keys/owner-revoked")).unwrap();
    // A new key takes the place of the one in the folder.
    for file in ["owner-os.key.pem", "owner-os.pub.pem", "owner-os.delegation"] {
        fs::remove_file(desk.path("keys").join(file)).unwrap();
    }
    desk.good("keys create keys --role os");
    delegate(&desk, "os", "");
    fs::remove_file(desk.path("keys/owner-boot.pub.pem")).unwrap();
    let said = desk.bad(&again);
    assert!(said.contains("owner-boot.delegation: the root has revoked its key"), "{said}");
    for file in ["owner-boot.key.pem", "owner-boot.delegation"] {
        fs::remove_file(desk.path("keys").join(file)).unwrap();
    }
    desk.good("keys create keys --role boot");
    delegate(&desk, "boot", "");
    desk.good(&again);
    let verify = VERIFY.replace("r1", "r2").replace("content.key", "2.key");
    let said = desk.good_json(&format!("{verify} --revoked-keys offline/owner-revoked"));
    assert!(
        said["checks"]["revoked keys"].as_str().unwrap().contains("of the 2 that list 2 names"),
        "{said}"
    );
    // A list that another root signed is none.
    desk.good("keys create others");
    desk.good("keys revoke others --key others/owner-os.pub.pem --yes");
    fs::copy(desk.path("others/owner-revoked"), desk.path("keys/owner-revoked")).unwrap();
    let said = desk.bad(&RELEASE.replace("r1", "r3").replace("content.key", "3.key"));
    assert!(said.contains("keys/owner-revoked: it is not signed by the owner root"), "{said}");
}

#[test]
fn rsa_keys_of_the_role_os_sign_in_a_file_and_on_a_token() {
    let desk = token::desk();
    let token = token::uri();
    desk.good(&format!("keys create keys --role boot --role provision --pkcs11 {token}"));
    desk.good(&format!("keys create keys --role os --algorithm ps256-3072 --pkcs11 {token}"));
    desk.good("keys create offline --role root");
    fs::copy(desk.path("offline/owner-root.pub.pem"), desk.path("keys/owner-root.pub.pem")).unwrap();
    for role in ROLES {
        delegate(&desk, role, "");
    }
    assert_eq!(desk.good_json("keys list keys")["keys"][3]["algorithm"], "ps256-3072");
    desk.good(RELEASE);
    desk.good(VERIFY);
    // What is delegated to is the key on the token, and no other of its name.
    let uri = fs::read_to_string(desk.path("keys/owner-os.key.uri")).unwrap();
    desk.put("keys/owner-os.key.uri", uri.replace("object=os", "object=boot").as_bytes());
    let again = RELEASE.replace("r1", "r2").replace("content.key", "2.key");
    let said = desk.bad(&again);
    assert!(said.contains("and the one next to it is"), "{said}");

    // The longest keys that devices take, on a token of their own and in files.
    token::softhsm(
        &desk,
        &["--init-token", "--free", "--label", "long", "--so-pin", token::PIN, "--pin", token::PIN],
    );
    desk.put("kiln.toml", CONFIG.replace("\"keys\"", "\"long\"").as_bytes());
    let long = token.replace("an%20owner", "long");
    desk.good(&format!("keys create long --role boot --role provision --pkcs11 {long}"));
    desk.good(&format!("keys create long --role os --algorithm ps256-4096 --pkcs11 {long}"));
    delegate_in(&desk, "long");
    desk.good(&again);
    desk.good("verify r2 --root long/owner-root.pub.pem --content-key 2.key");

    let again = again.replace("r2", "r3").replace("2.key", "3.key");
    desk.put("kiln.toml", CONFIG.replace("\"keys\"", "\"files\"").as_bytes());
    desk.good("keys create files --role boot --role provision");
    desk.good("keys create files --role os --algorithm ps256-4096");
    delegate_in(&desk, "files");
    desk.good(&again);
    desk.good("verify r3 --root files/owner-root.pub.pem --content-key 3.key");
}

/// Has the root that is offline delegate every role to the keys of a folder.
fn delegate_in(desk: &Desk, folder: &str) {
    fs::copy(desk.path("offline/owner-root.pub.pem"), desk.path(&format!("{folder}/owner-root.pub.pem")))
        .unwrap();
    for role in ROLES {
        let key = format!(
            "--role {role} --key {folder}/owner-{role}.pub.pem --out {folder}/owner-{role}.delegation"
        );
        desk.good(&format!("keys delegate offline {key}"));
    }
}
