//! Where an owner's keys lie: in encrypted files, which production refuses, or on a token.

use crate::common::{Desk, PASSPHRASE};
use crate::product::CONFIG;
use crate::{assert_nothing_left, product, token};
use boot_crypto::host::{Es256Key, es256_public_pem};
use memory_map::qemu_virt::BOARD;
use release::{Delegation, Limits, PublicPart, test_keys};
use sealed_image::Role;
use std::fs;
use std::process::Command;

const RELEASE: &str = "release --content-key content.key --out r1";
const SEALED: &str = "release --out r1";

/// Makes a product of what is released, with an authority that gets the content key, and returns the configuration.
fn production(desk: &Desk) -> String {
    if !desk.path("authority.pub.pem").exists() {
        desk.good("authority init");
        desk.good("authority key export authority.pub.pem");
    }
    let config = format!("profile = \"production\"\nauthority-key = \"authority.pub.pem\"\n{CONFIG}");
    desk.put("kiln.toml", config.as_bytes());
    config
}

/// Asserts that a command fails for this reason, says what to do, shows no secret, and leaves no release.
#[track_caller]
fn assert_refused(desk: &Desk, line: &str, why: &str) {
    let said = desk.bad(line);
    assert!(said.contains(why) && said.contains("\n  cure  "), "{why}: {said}");
    assert!(!said.contains(PASSPHRASE) && !said.contains(token::PIN), "{said}");
    assert_nothing_left(desk);
}

/// Runs openssl with the passphrase in its environment, and tells whether it succeeds.
fn openssl(desk: &Desk, passphrase: &str, line: &str) -> bool {
    let mut command = Command::new("openssl");
    command.args(line.split(' ')).current_dir(desk.path("")).env("PASSPHRASE", passphrase);
    command.output().expect("openssl is installed: `cargo xtask test` sees to that").status.success()
}

#[test]
fn keys_in_files_are_encrypted_and_open_with_their_passphrase_only() {
    let mut desk = super::desk();
    for name in ["root", "boot", "provision", "os"] {
        let text = fs::read_to_string(desk.path(&format!("keys/owner-{name}.key.pem"))).unwrap();
        assert!(text.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"), "{name}");
    }
    let key = "pkey -in keys/owner-os.key.pem -passin env:PASSPHRASE -noout";
    assert!(openssl(&desk, PASSPHRASE, key), "another program opens it");
    assert!(!openssl(&desk, "another", key));

    desk.unset("KILN_PASSPHRASE");
    assert_refused(&desk, RELEASE, "keys/owner-boot.key.pem: no passphrase was given");
    desk.set("KILN_PASSPHRASE", "");
    assert_refused(&desk, RELEASE, "keys/owner-boot.key.pem: no passphrase was given");
    desk.set("KILN_PASSPHRASE", "another");
    assert_refused(&desk, RELEASE, "it is another one, or the file was altered");
    desk.set("KILN_PASSPHRASE", PASSPHRASE);
    let path = desk.path("keys/owner-boot.key.pem");
    let good = fs::read_to_string(&path).unwrap();
    fs::write(&path, &good[..good.len() / 2]).unwrap();
    assert_refused(&desk, RELEASE, "owner-boot.key.pem");
    // What openssl writes, with the passphrase of the others.
    let convert = "pkcs8 -topk8 -in keys/owner-os.key.pem -passin env:PASSPHRASE -passout env:PASSPHRASE -out again.pem";
    assert!(openssl(&desk, PASSPHRASE, convert));
    fs::write(&path, &good).unwrap();
    fs::rename(desk.path("again.pem"), desk.path("keys/owner-os.key.pem")).unwrap();
    desk.good(RELEASE);
}

#[test]
fn without_a_passphrase_no_owner_is_made_in_files() {
    let mut desk = product::desk();
    desk.set("KILN_PASSPHRASE", "");
    assert_refused(&desk, "keys create keys", "no passphrase was given");
    desk.unset("KILN_PASSPHRASE");
    assert_refused(&desk, "keys create keys", "no passphrase was given");
    assert!(!desk.path("keys").exists());
}

#[test]
fn production_refuses_every_key_in_a_file_and_takes_those_on_a_token() {
    let desk = super::desk();
    let production = production(&desk);
    assert_refused(
        &desk,
        SEALED,
        "keys/owner-root.key.pem: the production profile takes keys on a token only",
    );
    desk.put("kiln.toml", production.replace("\"production\"", "\"prodction\"").as_bytes());
    assert_refused(&desk, SEALED, "did you mean `production`?");

    let desk = token::desk();
    desk.good(&token::owner());
    self::production(&desk);
    // Three are on the token, one is in a file.
    desk.good("keys create files");
    let uri = fs::read(desk.path("keys/owner-os.key.uri")).unwrap();
    fs::remove_file(desk.path("keys/owner-os.key.uri")).unwrap();
    fs::copy(desk.path("files/owner-os.key.pem"), desk.path("keys/owner-os.key.pem")).unwrap();
    assert_refused(&desk, SEALED, "keys/owner-os.key.pem: the production profile takes keys on a token only");
    desk.put("keys/owner-os.key.uri", &uri);
    fs::remove_file(desk.path("keys/owner-os.key.pem")).unwrap();
    // The one key that is not the owner's goes to the authority alone, whether or not there is one to seal it to.
    assert_refused(&desk, RELEASE, "in the clear, which the production profile never does");
    desk.put("kiln.toml", format!("profile = \"production\"\n{CONFIG}").as_bytes());
    assert_refused(&desk, RELEASE, "in the clear, which the production profile never does");
    self::production(&desk);
    desk.good(SEALED);
    assert!(desk.path("r1/content-key.sealed").exists());
}

#[test]
fn a_published_test_key_is_refused_on_a_token_too() {
    let desk = token::desk();
    desk.good(&token::owner());
    production(&desk);
    desk.put("test.pem", test_keys::es256(test_keys::OS).to_pem().as_bytes());
    let import = ["--import", "test.pem", "--token", "an owner", "--label", "test", "--id", "02"];
    token::softhsm(&desk, &[&import[..], &["--pin", token::PIN]].concat());
    let uri = fs::read_to_string(desk.path("keys/owner-os.key.uri")).unwrap();
    desk.put("keys/owner-os.key.uri", uri.replace("object=os", "object=test").as_bytes());
    // A root that delegates to such a key, with a program of its own.
    let root = Es256Key::generate();
    desk.put("keys/owner-root.pub.pem", es256_public_pem(&root.public()).unwrap().as_bytes());
    desk.put(
        "keys/owner-os.pub.pem",
        es256_public_pem(&test_keys::es256(test_keys::OS).public()).unwrap().as_bytes(),
    );
    for role in [Role::Boot, Role::Provision, Role::Os] {
        let file = |end: &str| desk.path(&format!("keys/owner-{}{end}", role.name()));
        let key = PublicPart::read(&file(".pub.pem")).unwrap();
        let made = Delegation::sign(&root, role, &key.key(), &Limits::of_role(role, BOARD)).unwrap();
        fs::remove_file(file(".delegation")).unwrap();
        made.write(&file(".delegation")).unwrap();
    }
    assert_refused(&desk, SEALED, "is a published test value");
}
