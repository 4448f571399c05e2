//! A release whose content key is sealed to the authority: nobody else gets it, not even a file of whoever makes the release.

use crate::common::Desk;
use crate::product::CONFIG;
use crate::{VERIFY, assert_nothing_left, files, token};
use boot_crypto::host::SealingKey;
use release::{AuthorityKey, PackageFacts, SealedContentKey, hex};
use serde_json::Value;
use std::fs;
use std::process::Command;

const RELEASE: &str = "release --out r1";
const LOT: &str = "authority lot create lot-1 --quota 3 --package r1/package --vendor vendor/vendor-root.pem";

/// A desk with an authority that the owner delegated to, whose key kiln.toml names.
fn desk() -> Desk {
    let desk = super::desk();
    let made = desk.good_json("authority init");
    let key = made["signing_key"].as_str().unwrap();
    desk.good(&format!(
        "authority delegation sign --root-key keys/owner-root.key.pem --key {key} --board qemu-virt --out d.json"
    ));
    desk.good("authority delegation add d.json --board qemu-virt");
    desk.good("authority key export authority.pub.pem");
    configure(&desk, "authority-key = \"authority.pub.pem\"");
    desk
}

fn configure(desk: &Desk, line: &str) {
    desk.put("kiln.toml", format!("{line}\n{CONFIG}").as_bytes());
}

#[test]
fn a_release_whose_key_is_sealed_makes_a_lot_and_leaves_the_key_nowhere_else() {
    let desk = desk();
    let made = desk.good_json(RELEASE);
    let thumbprint = made["content_key_sealed_to"].as_str().unwrap();
    assert_eq!(desk.good_json("authority key show")["sealing_key_thumbprint"], thumbprint);
    assert_eq!(made["content_key"], Value::Null);

    let verified = desk.good_json(VERIFY);
    let check = verified["checks"]["content key"].as_str().unwrap();
    assert!(check.contains(&format!("sealed to the authority {}…", &thumbprint[..8])), "{check}");
    let tree: Value = serde_json::from_str(&desk.good("inspect r1 --json")).unwrap();
    assert_eq!(tree["content key"]["sealed to"], thumbprint);
    let key: Value = serde_json::from_str(&desk.good("inspect authority.pub.pem --json")).unwrap();
    assert_eq!(key["thumbprint"], thumbprint);
    let sums = Command::new("sha256sum").arg("-c").arg("SHA256SUMS").current_dir(desk.path("r1")).output();
    let said = String::from_utf8(sums.unwrap().stdout).unwrap();
    assert!(said.contains("content-key.sealed: OK\n"), "{said}");

    // A key in the clear would be a file of 64 hexadecimal digits.
    let is_key =
        |bytes: &[u8]| bytes.trim_ascii().len() == 64 && bytes.trim_ascii().iter().all(u8::is_ascii_hexdigit);
    let keys: Vec<_> =
        files(&desk.path("")).into_iter().filter(|(_, bytes)| is_key(bytes)).map(|(name, _)| name).collect();
    assert_eq!(keys, ["authority/kek", "r1/package/provisioning.key"]);

    desk.good("fabricate --stage0 stage0.bin --vendor vendor d1");
    let said = desk.bad(&format!("{LOT} --sealed-content-key authority.pub.pem"));
    assert!(said.contains("no sealed content key") && said.contains("\n  cure  "), "{said}");
    desk.good(&format!("{LOT} --sealed-content-key r1/content-key.sealed"));

    // It opens as often as the authority needs it: a second lot of the same release.
    desk.good(&format!("{} --sealed-content-key r1/content-key.sealed", LOT.replace("lot-1", "lot-again")));

    // Another release has another key, which is not passed off as this one's.
    desk.good("release --out r2");
    let other = LOT.replace("lot-1", "lot-2");
    let said = desk.bad(&format!("{other} --sealed-content-key r2/content-key.sealed"));
    assert!(said.contains("not the key of the package") && said.contains("\n  cure  "), "{said}");
    desk.good("authority --data elsewhere init");
    let said = desk.bad(&format!("{other} --sealed-content-key r1/content-key.sealed --data elsewhere"));
    assert!(said.contains("sealed to the authority") && said.contains(thumbprint), "{said}");
}

#[test]
fn the_content_key_lies_nowhere_in_the_clear_not_even_in_what_was_temporary_or_printed() {
    let mut desk = super::desk();
    let authority = SealingKey::generate();
    desk.put("authority.pub.pem", AuthorityKey::new(authority.public()).to_text().unwrap().as_bytes());
    configure(&desk, "authority-key = \"authority.pub.pem\"");
    fs::create_dir(desk.path("tmp")).unwrap();
    desk.set("TMPDIR", desk.path("tmp").to_str().unwrap());
    let output = desk.run(RELEASE);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let sealed = SealedContentKey::read(&desk.path("r1/content-key.sealed")).unwrap();
    let facts = PackageFacts::read(&desk.path("r1/package")).unwrap();
    let content_key = sealed.open(&authority, &facts).unwrap();
    let key = content_key.0.expose();
    let holds =
        |bytes: &[u8], key: &[u8]| bytes.windows(key.len()).any(|window| window.eq_ignore_ascii_case(key));
    let mut written = files(&desk.path(""));
    assert!(written.len() > 20 && written.contains_key("r1/package/package.img"), "{}", written.len());
    written.insert("what it printed".into(), [output.stdout, output.stderr].concat());
    for (name, bytes) in written {
        assert!(!holds(&bytes, key) && !holds(&bytes, hex(key).as_bytes()), "{name} holds the content key");
    }
    assert_eq!(fs::read_dir(desk.path("tmp")).unwrap().count(), 0);
    // It is the key: the payloads open with it.
    content_key.write(&desk.path("content.key")).unwrap();
    desk.good(&format!("{VERIFY} --content-key content.key"));
}

#[test]
fn a_sealed_key_that_was_swapped_or_altered_makes_the_release_another() {
    let desk = desk();
    desk.good(RELEASE);
    desk.good("release --out r2");
    let good = fs::read(desk.path("r1/content-key.sealed")).unwrap();
    let mut altered = good.clone();
    altered[100] ^= 1;
    for bytes in [altered, fs::read(desk.path("r2/content-key.sealed")).unwrap(), Vec::new()] {
        desk.put("r1/content-key.sealed", &bytes);
        let said = desk.bad(VERIFY);
        assert!(said.contains("K1401 release-file-altered") && said.contains("content-key.sealed"), "{said}");
    }
    fs::remove_file(desk.path("r1/content-key.sealed")).unwrap();
    assert!(desk.bad(VERIFY).contains("K1400 release-file-missing"));
    desk.put("r1/content-key.sealed", &good);
    desk.good(VERIFY);
}

#[test]
fn a_key_that_would_go_to_nobody_or_to_more_than_the_authority_stops_the_release() {
    let desk = desk();
    let refused = |line: &str, why: &str| {
        let said = desk.bad(line);
        assert!(said.contains(why) && said.contains("\n  cure  "), "{line}: {said}");
        assert_nothing_left(&desk);
    };
    refused("release --out r1 --content-key content.key", "would be written to content.key as well");
    for (file, why) in [
        ("keys/owner-root.pub.pem", "is not the public sealing key of an authority"),
        ("authority/device-ca.pem", "is not the public sealing key of an authority"),
        ("nobody.pem", "cannot read nobody.pem"),
    ] {
        configure(&desk, &format!("authority-key = \"{file}\""));
        refused(RELEASE, why);
    }
    configure(&desk, "");
    refused(RELEASE, "nobody would get the content key");
}

#[test]
fn a_package_by_itself_is_for_production_with_keys_on_a_token_and_its_own_key_sealed() {
    let desk = token::desk();
    desk.good("keys create files");
    desk.good(&token::owner());
    let key = desk.good_json("authority init")["signing_key"].as_str().unwrap().to_owned();
    desk.good(&format!(
        "authority delegation sign --root-key keys/owner-root.key.uri --key {key} --board qemu-virt --out d.json"
    ));
    desk.good("authority delegation add d.json --board qemu-virt");
    desk.good("authority key export authority.pub.pem");
    let package = "package --stage1 stage1.elf --stage2 stage2.elf --kernel Image --device-tree board.dtb \
        --release-version 1.2.3 --profile production p --owner";
    let sealed = "--authority-key authority.pub.pem --sealed-content-key";
    for (line, why) in [
        (format!("{package} files {sealed} key.sealed"), "files/owner-root.key.pem"),
        (
            format!("{package} keys --content-key key.open"),
            "in the clear, which the production profile never does",
        ),
        (format!("{package} keys"), "nobody would get the content key"),
        (format!("{package} keys {sealed} p/key.sealed"), "would lie in the folder that goes to the factory"),
        (format!("{package} keys {sealed} d.json"), "d.json is there already"),
        (
            format!(
                "{} keys --content-key key.open {sealed} key.sealed",
                package.replace("production", "development")
            ),
            "would be written to key.open as well",
        ),
        (
            format!("{package} keys --authority-key keys/owner-root.pub.pem --sealed-content-key key.sealed"),
            "is not the public sealing key of an authority",
        ),
    ] {
        let said = desk.bad(&line);
        assert!(said.contains(why), "{line}: {said}");
        let left = ["p", "key.sealed", "key.open"].map(|name| desk.path(name).exists());
        assert_eq!(left, [false; 3], "{line}");
    }
    let made = desk.good_json(&format!("{package} keys {sealed} key.sealed"));
    let thumbprint = &desk.good_json("authority key show")["sealing_key_thumbprint"];
    assert_eq!(&made["content_key_sealed_to"], thumbprint);
    desk.good("fabricate --stage0 stage0.bin --vendor vendor d1");
    let lot = LOT.replace("r1/package", "p");
    desk.good(&format!("{lot} --sealed-content-key key.sealed"));
}
