//! Package folders by themselves: whom they are for, and what lies in them besides.

use crate::artefacts::{ROOT, checks, sorted};
use crate::{RELEASE, desk};
use boot_crypto::sha256;
use release::inspect_slot;
use serde_json::Value;
use std::fs;

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
