//! `kiln release` and `kiln verify` as people and machines use them: what they refuse, and that other people's tools
//! agree.

mod answers;
mod artefacts;
#[path = "../common/mod.rs"]
mod common;
mod delegation;
mod fit;
mod keys;
mod packages;
mod product;
mod recipe;
mod sealed;
mod token;
mod update;
mod update_key;

use common::{Desk, device_tree, elf, elf_at, kernel};
use memory_map::qemu_virt::STAGE_RUN;
use product::CONFIG;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

const RELEASE: &str = "release --content-key content.key --out r1";
const VERIFY: &str = "verify r1 --root keys/owner-root.pub.pem";

/// A desk with everything that a release is made of.
fn desk() -> Desk {
    let desk = product::desk();
    desk.good("keys create keys");
    desk
}

/// Reads all files of a folder, by their names in it.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            files.extend(
                self::files(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)),
            );
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
    files
}

/// Asserts that nothing but these names lies on the desk, so that no half of a release was left behind.
#[track_caller]
fn assert_nothing_left(desk: &Desk) {
    for entry in fs::read_dir(desk.path("")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with('.') && name != "r1" && name != "content.key", "{name} was left behind");
    }
}

#[test]
fn a_release_is_made_whole_and_verified_by_name() {
    let desk = desk();
    let made = desk.good_json(RELEASE);
    assert_eq!((&made["product"], &made["version"]), (&"demo".into(), &"1.2.3".into()));
    let found = files(&desk.path("r1"));
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "RELEASE-NOTES.md",
            "SHA256SUMS",
            "keys/owner-root.pub.pem",
            "keys/provision.pub.pem",
            "manifests/bundle.cose",
            "manifests/device-tree.cose",
            "manifests/initramfs.cose",
            "manifests/kernel.cose",
            "manifests/package.cose",
            "manifests/secret-1.cose",
            "manifests/stage1.cose",
            "manifests/stage2.cose",
            "package/package.img",
            "package/provisioning.key",
            "package/release.json",
            "package/stage1.img",
            "provenance.intoto.json",
            "release.cose",
            "sbom.cdx.json",
        ]
    );
    assert_eq!(made["files"], names.len());
    let checks = [
        "SBOM",
        "SHA256SUMS",
        "files",
        "images",
        "package",
        "payloads",
        "places",
        "provenance",
        "public keys",
        "release manifest",
    ];
    let mut checked: Vec<_> =
        made["checked"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    checked.sort_unstable();
    assert_eq!(checked, checks);

    let verified = desk.good_json(VERIFY);
    assert_eq!(verified["package_id"], made["package_id"]);
    assert_eq!(verified["checks"].as_object().unwrap().len(), checks.len() - 2);
    let verified = desk.good_json(&format!("{VERIFY} --content-key content.key"));
    assert!(verified["checks"]["payloads"].as_str().unwrap().starts_with("7 opened"), "{verified}");
    // The package in it is one that the other commands take.
    desk.good("verify r1/package --content-key content.key --root keys/owner-root.pub.pem");

    for (name, bytes) in &found {
        let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
        assert!(!holds(b"not-to-be-published") && !holds(b"the key of a customer"), "{name} leaks");
        let key = fs::read(desk.path("content.key")).unwrap();
        assert!(!holds(key.trim_ascii_end()), "{name} holds the content key");
    }
    for (name, mode) in [("content.key", 0o600), ("r1/package/provisioning.key", 0o600)] {
        assert_eq!(fs::metadata(desk.path(name)).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
}

#[test]
fn coreutils_check_the_sums() {
    let desk = desk();
    desk.good(RELEASE);
    let check = || {
        let mut command = Command::new("sha256sum");
        command.args(["--check", "--strict", "--quiet", "SHA256SUMS"]).current_dir(desk.path("r1"));
        command.output().unwrap()
    };
    assert!(check().status.success());
    desk.put("r1/sbom.cdx.json", b"{}");
    assert!(!check().status.success());
}

#[test]
fn whatever_is_done_to_a_folder_it_is_refused_with_its_code() {
    let desk = desk();
    desk.good(RELEASE);
    let before = files(&desk.path("r1"));
    let refused = |what: &str| -> String {
        let said = desk.bad(&format!("{VERIFY} --content-key content.key"));
        let code = said.split("  code  ").nth(1).unwrap_or_else(|| panic!("{what}: no code: {said}"));
        code.split_whitespace().next().unwrap().to_owned()
    };
    let mut altered = 0;
    for (name, bytes) in &before {
        let manifest = name == "release.cose";
        for at in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1;
            desk.put(&format!("r1/{name}"), &bytes);
            let code = refused(name);
            if manifest {
                assert!(
                    code.starts_with("K02") || code.starts_with("K03") || code == "K1403",
                    "{name}, byte {at}: {code}"
                );
            } else {
                assert_eq!(code, "K1401", "{name}, byte {at}");
            }
            altered += 1;
        }
        for other in [&bytes[..bytes.len() - 1], &[], &[&bytes[..], b"\n"].concat()] {
            desk.put(&format!("r1/{name}"), other);
            let code = refused(name);
            assert_eq!(code == "K1401", !manifest, "{name}: {code}");
            altered += 1;
        }
        fs::remove_file(desk.path("r1").join(name)).unwrap();
        assert_eq!(refused(name), "K1400", "{name} removed");
        std::os::unix::fs::symlink("/dev/null", desk.path("r1").join(name)).unwrap();
        assert_eq!(refused(name), "K1402", "{name} a link");
        fs::remove_file(desk.path("r1").join(name)).unwrap();
        desk.put(&format!("r1/{name}"), bytes);
        altered += 2;
    }
    assert_eq!(altered, before.len() * 8);
    for added in ["extra", "package/extra", "keys/.hidden", ".hidden", "name with blanks"] {
        desk.put(&format!("r1/{added}"), b"added");
        assert_eq!(refused(added), "K1402", "{added}");
        fs::remove_file(desk.path("r1").join(added)).unwrap();
    }
    for folder in ["empty", "package/empty", "manifests/deep"] {
        fs::create_dir(desk.path("r1").join(folder)).unwrap();
        assert_eq!(refused(folder), "K1402", "{folder}");
        fs::remove_dir(desk.path("r1").join(folder)).unwrap();
    }
    desk.good(&format!("{VERIFY} --content-key content.key"));
}

#[test]
fn a_folder_does_not_say_by_itself_whose_it_is() {
    let desk = desk();
    desk.good(RELEASE);
    let said = desk.bad("verify r1");
    assert!(said.contains("can say by itself whose it is") && said.contains("--root FILE"), "{said}");
    // Somebody else makes the same release with keys of their own.
    desk.good("keys create others");
    desk.put("theirs.toml", CONFIG.replace("\"keys\"", "\"others\"").as_bytes());
    desk.good("release --config theirs.toml --out theirs --content-key theirs.key");
    let said = desk.bad("verify theirs --root keys/owner-root.pub.pem");
    assert!(said.contains("K0300 root-unknown"), "{said}");
    desk.good("verify theirs --root others/owner-root.pub.pem");
    // A private key, or a certificate, is no public key.
    let said = desk.bad("verify r1 --root keys/owner-root.key.pem");
    assert!(said.contains("no P-256 public key"), "{said}");
    assert!(!said.contains("PRIVATE"), "{said}");
    let said = desk.bad("verify r1/package --root others/owner-root.pub.pem");
    assert!(said.contains("K1404 release-mixed"), "{said}");
}

#[test]
fn parts_of_two_releases_do_not_mix() {
    let desk = desk();
    desk.good(RELEASE);
    desk.put("kiln.toml", CONFIG.replace("1.2.3", "1.2.4").as_bytes());
    desk.good("release --content-key 2.key --out r2");
    let (old, new) = (files(&desk.path("r1")), files(&desk.path("r2")));
    let mut mixed = 0;
    for (name, bytes) in &new {
        if old[name] == *bytes {
            continue;
        }
        desk.put(&format!("r1/{name}"), bytes);
        let said = desk.bad(VERIFY);
        assert!(said.contains("K1401"), "{name}: {said}");
        desk.put(&format!("r1/{name}"), &old[name]);
        mixed += 1;
    }
    assert!(mixed >= 14, "only {mixed} files differ");
    let said = desk.bad(&format!("{VERIFY} --content-key 2.key"));
    assert!(said.contains("K0400 key-unwrap"), "{said}");
}

#[test]
fn a_release_made_twice_differs_in_what_encryption_makes_fresh_and_in_nothing_else() {
    let desk = desk();
    desk.put("provisioning.key", format!("{}\n", "1f".repeat(32)).as_bytes());
    desk.put("kiln.toml", format!("provisioning-key = \"provisioning.key\"\n{CONFIG}").as_bytes());
    desk.good(RELEASE);
    desk.good("release --content-key 2.key --out r2");
    let (first, second) = (files(&desk.path("r1")), files(&desk.path("r2")));
    assert!(first.keys().eq(second.keys()));
    let differ: Vec<_> = first.keys().filter(|name| first[*name] != second[*name]).collect();
    assert_eq!(
        differ,
        [
            // Both images, and whatever holds their SHA-256.
            "SHA256SUMS",
            "package/package.img",
            "package/release.json",
            "package/stage1.img",
            "provenance.intoto.json",
            "release.cose",
        ]
    );
    let facts = |files: &BTreeMap<String, Vec<u8>>| -> Value {
        let mut facts: Value = serde_json::from_slice(&files["package/release.json"]).unwrap();
        facts["package_sha256"].take();
        facts
    };
    assert_eq!(facts(&first), facts(&second));
}

#[test]
fn a_release_comes_after_the_one_before() {
    let desk = desk();
    desk.good(RELEASE);
    let next = |version: &str, index: &str, product: &str| {
        let text = CONFIG.replace("1.2.3", version).replace("index = 2", &format!("index = {index}"));
        desk.put("kiln.toml", text.replace("\"demo\"", &format!("\"{product}\"")).as_bytes());
        desk.run("release --previous r1 --content-key 2.key --out r2")
    };
    for (version, index, product, words) in [
        ("1.2.3", "2", "demo", "K1406 version-not-rising"),
        ("1.2.2", "3", "demo", "K1406 version-not-rising"),
        ("1.2.4", "1", "demo", "K1407 rollback-index-falling"),
        ("1.2.4", "2", "other", "the release before is of demo for qemu-virt, this one of other"),
    ] {
        let output = next(version, index, product);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(words) && said.contains("\n  cure  "), "{said}");
        assert!(!desk.path("r2").exists() && !desk.path("2.key").exists());
    }
    // What somebody else signed, or altered, is no release before.
    let manifest = fs::read(desk.path("r1/release.cose")).unwrap();
    let mut altered = manifest.clone();
    altered[manifest.len() - 1] ^= 1;
    desk.put("r1/release.cose", &altered);
    assert_eq!(next("1.2.4", "2", "demo").status.code(), Some(1));
    desk.put("r1/release.cose", &manifest);
    let output = next("1.2.4", "2", "demo");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_disk_that_takes_no_more_leaves_no_release_behind_whatever_it_was_at() {
    let desk = desk();
    let names = files(&desk.path("")).into_keys().collect::<Vec<_>>();
    let mut stopped_at = BTreeSet::new();
    for blocks in (0..).step_by(3) {
        let output = desk.run_short_of_room(RELEASE, blocks);
        if output.status.success() {
            break;
        }
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && output.stdout.is_empty(), "{blocks}: {said}");
        assert!(said.contains("error: cannot write ") && said.contains("\n  cure  "), "{blocks}: {said}");
        assert_eq!(files(&desk.path("")).into_keys().collect::<Vec<_>>(), names, "{blocks}: {said}");
        assert_nothing_left(&desk);
        let line = said.lines().find(|line| line.starts_with("error: ")).unwrap();
        let name = line.rsplit_once('/').unwrap().1;
        stopped_at.insert(name.split(':').next().unwrap().to_owned());
    }
    assert!(stopped_at.iter().eq(["package.img", "provisioning.key", "stage1.img"]), "{stopped_at:?}");
    desk.good(VERIFY);
}

#[test]
fn whatever_stops_a_release_is_named_and_leaves_nothing_behind() {
    let desk = desk();
    desk.put("text", b"no such thing");
    desk.put("cut.elf", &elf(&[1; 5000])[..3000]);
    let tree = device_tree();
    desk.put("cut.dtb", &tree[..tree.len() - 100]);
    // Its header holds, and what lies behind it is no tree.
    desk.put("none.dtb", &[&tree[..40], &vec![4; tree.len() - 40][..]].concat());
    desk.put("empty", b"");
    desk.put("short", &kernel(64, 0x20_0000)[..60]);
    desk.put("large", &kernel(9000, 250 << 20));
    desk.put("moved.elf", &elf_at(&[1; 5000], STAGE_RUN.base + 0x1000));
    desk.put("secret", &[7; 600 << 10]);
    fs::File::create(desk.path("huge")).unwrap().set_len(64 << 20).unwrap();
    desk.good("keys create without");
    fs::remove_file(desk.path("without/owner-os.key.pem")).unwrap();
    let initramfs = "kind = \"initramfs\"\n";
    for (from, to, words) in [
        ("stage1.elf", "missing.elf", "cannot read missing.elf"),
        ("stage1.elf", "text", "text: "),
        ("stage2.elf", "cut.elf", "cut.elf: "),
        ("stage1.elf", "moved.elf", "load-address"),
        ("board.dtb", "none.dtb", "device-tree-invalid"),
        ("stage2.elf", "moved.elf", "load-address"),
        ("\"customer.key\"", "\"secret\"", "the slot of the secrets"),
        ("\"Image\"", "\"missing\"", "cannot read missing"),
        ("\"Image\"", "\"text\"", "K0704 kernel-invalid"),
        ("\"Image\"", "\"short\"", "TooShort(60)"),
        ("\"Image\"", "\".\"", "cannot read ."),
        ("\"Image\"", "\"large\"", "K0405 load-overlap"),
        ("board.dtb", "text", "text: it is no device tree blob"),
        ("board.dtb", "cut.dtb", "cut.dtb: it is a device tree blob that was cut off"),
        ("initramfs.cpio", "empty", "empty: it is empty"),
        ("initramfs.cpio", "huge", "the package has "),
        (initramfs, "kind = \"initramfs\"\nload-address = 0x4020_1000\n", "would lie over each other"),
        (initramfs, "kind = \"initramfs\"\nload-address = 0x4000_0000\n", "leaves the memory"),
        ("keys = \"keys\"", "keys = \"nobody\"", "owner-root.pub.pem"),
        ("keys = \"keys\"", "keys = \"without\"", "owner-os.key.pem"),
        ("crates.json", "text", "text: "),
        ("rollback-index = 2", "rollback-index = 65", "at most 64"),
        (
            "cmdline",
            "cmdlin",
            "kiln.toml, line 14: unknown field `cmdlin`, expected `cmdline` or `compress`; \
            did you mean `cmdline`?",
        ),
        ("not-to-be-published", "caf\u{e9}", "printable"),
    ] {
        assert!(CONFIG.contains(from), "{from}");
        desk.put("kiln.toml", CONFIG.replacen(from, to, 1).as_bytes());
        let said = desk.bad(RELEASE);
        assert!(said.contains(words) && said.contains("\n  cure  "), "{from} → {to}: {said}");
        assert_nothing_left(&desk);
    }
    desk.put("kiln.toml", CONFIG.as_bytes());
    for (line, words) in [
        ("release --out r1 --content-key r1/content.key", "would lie in the folder that goes to the factory"),
        ("release --out keys --content-key content.key", "keys is there already"),
        ("release --out r1 --content-key text", "text is there already"),
        ("release --out nowhere/r1 --content-key content.key", "nowhere/r1"),
        ("release --out r1 --content-key nowhere/content.key", "nowhere/content.key"),
        ("release --out r1 --content-key content.key --config nothing.toml", "cannot read nothing.toml"),
        ("release --out r1 --content-key content.key --previous keys", "cannot read keys/release.cose"),
    ] {
        let said = desk.bad(line);
        assert!(said.contains(words) && said.contains("\n  cure  "), "{line}: {said}");
        assert_nothing_left(&desk);
    }
    std::os::unix::fs::symlink("nowhere", desk.path("link")).unwrap();
    assert!(desk.bad("release --out link --content-key content.key").contains("is there already"));
    desk.good(RELEASE);
}

/// Runs with the interpreter that `KILN_PYTHON` names; `cargo xtask test` provides one.
#[test]
fn independent_libraries_accept_provenance_and_bill_and_refuse_altered_ones() {
    let python = std::env::var("KILN_PYTHON").expect(
        "KILN_PYTHON names an interpreter with securesystemslib and cyclonedx-python-lib: run `cargo xtask test`",
    );
    let desk = desk();
    desk.good(RELEASE);
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/verify_release.py");
    let output = Command::new(&python).arg(script).arg(desk.path("r1")).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["subjects"], 3, "{found}");
    assert_eq!(found["components"], 7, "{found}");
    assert!(found["envelopes_refused"].as_u64().unwrap() > 50, "{found}");
    assert!(found["bills_refused"].as_u64().unwrap() >= 5, "{found}");
}

#[test]
fn everything_is_shown_and_no_secret_with_it() {
    let desk = desk();
    desk.good(RELEASE);
    let tree: Value = serde_json::from_str(&desk.good("inspect r1 --json")).unwrap();
    assert_eq!(tree["artefact"], "release folder");
    let release = &tree["release"]["release"];
    assert_eq!((&release["product"], &release["version"]), (&"demo".into(), &"1.2.3".into()));
    assert_eq!(release["files"].as_array().unwrap().len(), 17);
    assert_eq!(tree["release"]["delegations"][0]["role"], "provision");
    let images = &tree["package"]["files"]["package.img"]["images"];
    let kernel = images.as_array().unwrap().iter().find(|image| image["kind"] == "kernel").unwrap();
    assert_eq!(
        (&kernel["load address"], &kernel["bytes in the clear"]),
        (&"0x40200000".into(), &9000.into())
    );
    assert_eq!(kernel["delegations"][0]["role"], "os");
    assert_eq!((&tree["sbom"]["artefact"], &tree["sbom"]["crates"]), (&"CycloneDX 1.6".into(), &2.into()));
    assert_eq!(tree["provenance"]["parameters"]["version"], "1.2.3");
    let text = desk.good("inspect r1");
    for words in ["nothing of it is verified", "kernel", "rollback index  2", "DSSE envelope"] {
        assert!(text.contains(words), "{words}: {text}");
    }

    let key = fs::read_to_string(desk.path("r1/package/provisioning.key")).unwrap();
    desk.good("fabricate --stage0 stage0.bin --vendor vendor device");
    desk.good("preprovision --package r1/package device --yes");
    let flash: Value = serde_json::from_str(&desk.good("inspect device --json")).unwrap();
    assert_eq!(flash["fuses"]["lifecycle"], "secured");
    assert_eq!(flash["fuses"]["provisioning key burned"], true);
    assert_eq!(flash["fuses"]["floors"]["provision"], 2);
    assert_eq!(flash["slot a"][0]["kind"], "stage1");
    assert_eq!(flash["fuses"]["owner roots"][0], tree["release"]["owner root"]);
    assert!(!flash.to_string().contains(key.trim()));

    // A device, a file that was cut off, and what is no artefact: an answer each time.
    let mut shown = 0;
    for (name, bytes) in files(&desk.path("r1")) {
        for length in [bytes.len(), bytes.len() / 2, 70, 1, 0] {
            desk.put("cut", &bytes[..length.min(bytes.len())]);
            let output = desk.run("inspect cut");
            let said = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
            assert!(matches!(output.status.code(), Some(0 | 1)), "{name}, {length} bytes: {said}");
            assert!(said.contains("cut") && !said.contains("panicked"), "{name}: {said}");
            assert!(!said.contains(key.trim()), "{name}: {said}");
            shown += usize::from(output.status.success());
        }
    }
    // Images, their eight manifests, facts, keys, bill, provenance and release manifest; notes and sums are not.
    assert_eq!(shown, 16);
    assert!(desk.bad("inspect nowhere").contains("cannot read nowhere"));
    assert!(desk.bad("inspect vendor").contains("it is no folder that Kiln makes"));
}
