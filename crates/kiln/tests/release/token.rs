//! An owner whose keys are on a PKCS#11 token: SoftHSM, which keeps it in a folder.

use crate::common::{Desk, PASSPHRASE};
use crate::product;
use std::fs;
use std::process::Command;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(crate) const PIN: &str = "a pin of a test";
const RELEASE: &str = "release --content-key content.key --out r1";
const VERIFY: &str = "verify r1 --root keys/owner-root.pub.pem --content-key content.key";

/// A desk with what a release is made of, and a token without keys.
pub(crate) fn desk() -> Desk {
    let mut desk = product::desk();
    let (tokens, configuration) = (desk.path("tokens"), desk.path("softhsm2.conf"));
    fs::create_dir(&tokens).unwrap();
    let text = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
    fs::write(&configuration, text).unwrap();
    desk.set("SOFTHSM2_CONF", configuration.to_str().unwrap());
    desk.set("KILN_PIN", PIN);
    softhsm(&desk, &["--init-token", "--free", "--label", "an owner", "--so-pin", PIN, "--pin", PIN]);
    desk
}

pub(crate) fn softhsm(desk: &Desk, arguments: &[&str]) -> String {
    let mut command = Command::new("softhsm2-util");
    command.current_dir(desk.path("")).env("SOFTHSM2_CONF", desk.path("softhsm2.conf"));
    let output = command.args(arguments).output();
    let output = output.expect("softhsm2-util is installed: `cargo xtask test` sees to that");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The name of the token.
pub(crate) fn uri() -> String {
    format!("pkcs11:token=an%20owner?module-path={MODULE}")
}

/// The command that makes an owner on the token.
pub(crate) fn owner() -> String {
    format!("keys create keys --pkcs11 {}", uri())
}

/// Asserts that a command fails for this reason, says what to do, and leaves no release.
#[track_caller]
fn assert_refused(desk: &Desk, line: &str, why: &str) {
    let said = desk.bad(line);
    assert!(said.contains(why) && said.contains("\n  cure  "), "{why}: {said}");
    assert!(!said.contains(PIN), "{said}");
    assert!(!desk.path("r1").exists() && !desk.path("content.key").exists(), "{why}");
}

#[test]
fn an_owner_on_a_token_signs_a_release_that_verifies_and_has_no_key_in_a_file() {
    let desk = desk();
    let said = desk.good(&owner());
    assert!(said.contains("pkcs11:token=an%20owner?module-path="), "{said}");
    let mut names: Vec<_> = fs::read_dir(desk.path("keys")).unwrap().map(|one| one.unwrap()).collect();
    names.sort_by_key(fs::DirEntry::file_name);
    let private: Vec<_> = names
        .iter()
        .filter(|file| String::from_utf8_lossy(&fs::read(file.path()).unwrap()).contains("PRIVATE KEY"))
        .map(|file| file.file_name().into_string().unwrap())
        .collect();
    assert_eq!(private, [""; 0]);
    assert_eq!(names.len(), 4 + 4 + 3, "{names:?}");
    let boot = fs::read_to_string(desk.path("keys/owner-boot.key.uri")).unwrap();
    let named = format!("pkcs11:token=an%20owner;object=boot;type=private?module-path={MODULE}\n");
    assert_eq!(boot, named);

    desk.good(RELEASE);
    desk.good(VERIFY);
    // Each signature of a token is another one; what is signed is the same.
    desk.good("release --content-key 2.key --out r2");
    desk.good("verify r2 --root keys/owner-root.pub.pem --content-key 2.key");
}

#[test]
fn a_token_makes_an_owner_once() {
    let desk = desk();
    desk.good(&owner());
    let said = desk.bad(&owner());
    assert!(said.contains("owner-root.pub.pem"), "{said}");
    let said = desk.bad(&owner().replace("create keys", "create others"));
    assert!(said.contains("there is a key of this name on the token already"), "{said}");
    assert!(!desk.path("others").exists());
    desk.good(RELEASE);
}

#[test]
fn whatever_is_wrong_with_a_token_is_named_and_nothing_is_released() {
    let mut desk = desk();
    desk.good(&owner());
    desk.set("KILN_PIN", "another pin");
    assert_refused(&desk, RELEASE, "the PIN is wrong");
    desk.set("KILN_PIN", PIN);

    let uri = desk.path("keys/owner-os.key.uri");
    let good = fs::read_to_string(&uri).unwrap();
    for (from, to, why) in [
        ("object=os", "object=nobody", "there is no such key on the token"),
        ("object=os;", "", "it names no key"),
        ("token=an%20owner", "token=another", "there is no such token"),
        ("token=an%20owner;", "", "it names no token"),
        (MODULE, "/nowhere/module.so", "the PKCS#11 module cannot be loaded"),
        (MODULE, "/bin/sh", "the PKCS#11 module cannot be loaded"),
        ("pkcs11:", "pkcs12:", "it is not a PKCS#11 URI"),
        (MODULE, &format!("{MODULE}&pin-value=1234"), "it says where the PIN is"),
    ] {
        assert!(good.contains(from), "{from}");
        fs::write(&uri, good.replacen(from, to, 1)).unwrap();
        assert_refused(&desk, RELEASE, why);
    }
    fs::write(&uri, &good).unwrap();

    // Another token of the same name, with keys of the same names.
    softhsm(&desk, &["--delete-token", "--token", "an owner"]);
    assert_refused(&desk, RELEASE, "there is no such token");
    softhsm(&desk, &["--init-token", "--free", "--label", "an owner", "--so-pin", PIN, "--pin", PIN]);
    assert_refused(&desk, RELEASE, "there is no such key on the token");
    desk.good(&owner().replace("create keys", "create others"));
    assert_refused(&desk, RELEASE, "and the one next to it is");
    softhsm(&desk, &["--init-token", "--free", "--label", "an owner", "--so-pin", PIN, "--pin", PIN]);
    assert_refused(&desk, RELEASE, "there are 2 such tokens");
}

#[test]
fn a_configuration_names_keys_on_a_token_in_place_of_the_folder() {
    let desk = desk();
    desk.good(&owner());
    let named =
        |role: &str| format!("{role} = \"{}\"\n", uri().replacen('?', &format!(";object={role}?"), 1));
    let roles = ["boot", "provision", "os"];
    let table =
        |keys: &str| product::CONFIG.replacen("[stages]", &format!("[owner.roles]\n{keys}[stages]"), 1);
    // The folder has what the root delegates, and names keys that are not there.
    for role in roles {
        let path = desk.path(&format!("keys/owner-{role}.key.uri"));
        let named = fs::read_to_string(&path).unwrap().replace(&format!("object={role}"), "object=nobody");
        fs::write(path, named).unwrap();
    }
    assert_refused(&desk, RELEASE, "there is no such key on the token");
    desk.put("kiln.toml", table(&roles.map(named).concat()).as_bytes());
    desk.good(RELEASE);
    desk.good(VERIFY);
    // Keys of other roles, or none.
    fs::remove_dir_all(desk.path("r1")).unwrap();
    fs::remove_file(desk.path("content.key")).unwrap();
    let swapped = named("boot").replace("object=boot", "object=os");
    desk.put("kiln.toml", table(&[swapped, named("provision"), named("os")].concat()).as_bytes());
    assert_refused(&desk, RELEASE, "and the one next to it is");
    desk.put("kiln.toml", table("os = \"owner-os.key.pem\"\n").as_bytes());
    assert_refused(&desk, RELEASE, "`os`: ");
}

#[test]
fn a_token_is_told_from_another_of_its_label_by_its_serial_number() {
    let desk = desk();
    let serials = || {
        let shown = softhsm(&desk, &["--show-slots"]);
        let lines = shown.lines().filter_map(|line| line.trim().strip_prefix("Serial number:"));
        lines.map(|serial| serial.trim().to_owned()).filter(|serial| !serial.is_empty()).collect::<Vec<_>>()
    };
    let first = serials().pop().unwrap();
    softhsm(&desk, &["--init-token", "--free", "--label", "an owner", "--so-pin", PIN, "--pin", PIN]);
    assert_eq!(serials().len(), 2);
    assert_refused(&desk, &owner(), "there are 2 such tokens");
    let with = |more: &str| owner().replace("an%20owner", &format!("an%20owner;{more}"));
    for wrong in ["serial=0123456789abcdef", "model=another", "manufacturer="] {
        assert_refused(&desk, &with(wrong), "there is no such token");
    }
    assert_refused(&desk, &with("slot-id=0"), "its `slot-id` is not compared with anything");
    desk.good(&with(&format!("serial={first};manufacturer=SoftHSM%20project;model=SoftHSM%20v2")));
    let boot = fs::read_to_string(desk.path("keys/owner-boot.key.uri")).unwrap();
    assert!(boot.contains(&format!(";serial={first};")), "{boot}");
    desk.good(RELEASE);
    desk.good(VERIFY);
    // What else a tool says of the key has to hold as well.
    let uri = desk.path("keys/owner-boot.key.uri");
    fs::write(&uri, boot.replacen(";type", ";id=boot;type", 1)).unwrap();
    desk.good("release --content-key 2.key --out r2");
    fs::write(&uri, boot.replacen(";type", ";id=os;type", 1)).unwrap();
    let said = desk.bad("release --content-key 3.key --out r3");
    assert!(said.contains("there is no such key on the token"), "{said}");
}

/// Marks the keys on the token otherwise, one mark at a time, has somebody look, and marks them again as they were. SoftHSM keeps an
/// object in a file of attributes: number, kind (1 for a truth value), value.
pub(crate) fn given_out(desk: &Desk, keys: usize, look: impl Fn()) {
    const EXTRACTABLE: [u8; 16] = [0, 0, 0, 0, 0, 0, 1, 0x62, 0, 0, 0, 0, 0, 0, 0, 1];
    const SENSITIVE: [u8; 16] = [0, 0, 0, 0, 0, 0, 1, 3, 0, 0, 0, 0, 0, 0, 0, 1];
    let token = fs::read_dir(desk.path("tokens")).unwrap().next().unwrap().unwrap().path();
    let objects: Vec<_> = fs::read_dir(token).unwrap().map(|one| one.unwrap().path()).collect();
    for (attribute, value) in [(EXTRACTABLE, 0xFF), (SENSITIVE, 0)] {
        let mut altered = Vec::new();
        for path in &objects {
            let good = fs::read(path).unwrap();
            let Some(at) = good.windows(16).position(|window| window == attribute) else { continue };
            let mut bytes = good.clone();
            assert_eq!(bytes[at + 16], !value, "keys are made sensitive and not extractable");
            bytes[at + 16] = value;
            fs::write(path, bytes).unwrap();
            altered.push((path, good));
        }
        assert_eq!(altered.len(), keys);
        look();
        altered.iter().for_each(|(path, good)| fs::write(path, good).unwrap());
    }
}

#[test]
fn a_key_that_the_token_would_give_out_signs_nothing() {
    let desk = desk();
    desk.good(&owner());
    // root, boot, provision, os
    given_out(&desk, 4, || assert_refused(&desk, RELEASE, "the token would give the key out"));
    desk.good(RELEASE);
}

#[test]
fn without_a_pin_and_a_terminal_nobody_is_asked() {
    let mut desk = desk();
    desk.good(&owner());
    desk.unset("KILN_PIN");
    assert_refused(&desk, RELEASE, "no PIN was given");
    // What a build server makes of a secret that it does not have is not tried on the token, which would lock in the end.
    desk.set("KILN_PIN", "");
    assert_refused(&desk, RELEASE, "no PIN was given");
}

/// Counts what lies on the token.
fn objects(desk: &Desk) -> usize {
    let token = fs::read_dir(desk.path("tokens")).unwrap().next().unwrap().unwrap().path();
    let names = fs::read_dir(token).unwrap().map(|one| one.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".object") && name != "token.object").count()
}

#[test]
fn whatever_stops_the_making_of_an_owner_leaves_no_key_on_the_token() {
    let desk = desk();
    // No folder can be made where a file is.
    let said = desk.bad(&owner().replace("create keys", "create Image/keys"));
    assert!(said.contains("cannot write Image/keys"), "{said}");
    assert_eq!(objects(&desk), 0);

    // The last of the keys is there already, and is somebody's.
    desk.good("keys create files");
    let key = desk.path("files/owner-os.key.pem");
    let import = ["--import", key.to_str().unwrap(), "--file-pin", PASSPHRASE, "--token", "an owner"];
    softhsm(&desk, &[&import[..], &["--label", "os", "--id", "01", "--pin", PIN]].concat());
    let before = objects(&desk);
    assert!(before > 0);
    assert_refused(&desk, &owner(), "there is a key of this name on the token already");
    assert_eq!(objects(&desk), before);
    assert!(!desk.path("keys").exists());
}
