//! Releases whose payloads come from a FIT.

use crate::common::Desk;
use crate::common::kernel;
use crate::product::CONFIG;
use crate::{RELEASE, VERIFY, assert_nothing_left, desk};
use serde_json::Value;
use std::fs;
use std::process::Command;

const FIT: &str = "--fit image.itb --fit-key dev.crt";

const SOURCE: &str = r#"/dts-v1/;
/ {
    description = "from U-Boot";
    #address-cells = <1>;
    images {
        kernel-1 {
            data = /incbin/("fit-kernel.gz"); type = "kernel"; arch = "arm64"; os = "linux"; compression = "gzip";
            load = <0x40400000>; entry = <0x40400000>; hash-1 { algo = "sha256"; };
        };
        fdt-1 { data = /incbin/("fit.dtb"); type = "flat_dt"; compression = "none"; hash-1 { algo = "sha256"; }; };
        ramdisk-1 {
            data = /incbin/("fit-ramdisk"); type = "ramdisk"; os = "linux"; compression = "none";
            hash-1 { algo = "sha256"; };
        };
    };
    configurations {
        default = "all";
        all {
            kernel = "kernel-1"; fdt = "fdt-1"; ramdisk = "ramdisk-1";
            signature { algo = "sha256,rsa2048"; key-name-hint = "dev"; sign-images = "kernel", "fdt", "ramdisk"; };
        };
        bare {
            kernel = "kernel-1";
            signature { algo = "sha256,rsa2048"; key-name-hint = "dev"; sign-images = "kernel"; };
        };
    };
};
"#;

/// A desk with a signed FIT on it as well.
fn desk_with_fit() -> Desk {
    let desk = desk();
    desk.put("fit-kernel", &kernel(7000, 0x20_0000));
    desk.put("fit-ramdisk", &[6; 900]);
    desk.put("image.its", SOURCE.as_bytes());
    let tree = r#"/dts-v1/;
/ {
    compatible = "linux,dummy-virt";
    #address-cells = <2>;
    #size-cells = <2>;
    memory@40000000 { device_type = "memory"; reg = <0 0x40000000 0 0x10000000>; };
    cpus { #address-cells = <1>; #size-cells = <0>; cpu@0 { device_type = "cpu"; reg = <0>; }; };
};
"#;
    desk.put("fit.dts", tree.as_bytes());
    run(&desk, "dtc -O dtb -o fit.dtb fit.dts");
    run(&desk, "gzip -kn fit-kernel");
    for name in ["dev", "other"] {
        run(
            &desk,
            &format!(
                "openssl req -batch -new -x509 -nodes -newkey rsa:2048 -subj /CN=x -keyout {name}.key -out {name}.crt"
            ),
        );
    }
    run(&desk, "mkimage -f image.its -k . -r image.itb");
    desk
}

#[track_caller]
fn run(desk: &Desk, line: &str) {
    let mut words = line.split_whitespace();
    let program = words.next().unwrap();
    let output = Command::new(program).args(words).current_dir(desk.path("")).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}: `cargo xtask test` installs it"));
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the name and the SHA-256 of a part in the SBOM.
fn part(desk: &Desk, kind: &str) -> (String, String) {
    let bill: Value = serde_json::from_slice(&fs::read(desk.path("r1/sbom.cdx.json")).unwrap()).unwrap();
    let is_kind = |part: &&Value| {
        let properties = part["properties"].as_array();
        properties.is_some_and(|list| list.iter().any(|one| one["value"] == kind))
    };
    let found = bill["components"].as_array().unwrap().iter().find(is_kind).unwrap();
    (found["name"].as_str().unwrap().into(), found["hashes"][0]["content"].as_str().unwrap().into())
}

fn sha256(bytes: &[u8]) -> String {
    release::hex(&boot_crypto::sha256(bytes))
}

#[test]
fn what_a_fit_has_takes_the_place_of_files() {
    let desk = desk_with_fit();
    let made = desk.good_json(&format!("{RELEASE} {FIT} --fit-config all"));
    assert_eq!(made["fit_configuration"], "all");
    assert_eq!(made["fit_signature"], "/configurations/all/signature (sha256,rsa2048)");
    let from = ["kernel (kernel-1)", "device-tree (fdt-1)", "initramfs (ramdisk-1)"];
    assert_eq!(made["from_the_fit"], serde_json::json!(from));
    let verified = desk.good_json(&format!("{VERIFY} --content-key content.key"));
    assert!(verified["checks"]["payloads"].as_str().unwrap().starts_with("7 opened"), "{verified}");
    let read = |name: &str| fs::read(desk.path(name)).unwrap();
    // kiln.toml names the kernel, and not the others.
    assert_eq!(part(&desk, "kernel"), ("linux".into(), sha256(&read("fit-kernel"))));
    assert_eq!(part(&desk, "device-tree"), ("image.itb#fdt-1".into(), sha256(&read("fit.dtb"))));
    assert_eq!(part(&desk, "initramfs"), ("image.itb#ramdisk-1".into(), sha256(&read("fit-ramdisk"))));
}

#[test]
fn what_a_fit_does_not_have_comes_from_files() {
    let desk = desk_with_fit();
    let made = desk.good_json(&format!("{RELEASE} {FIT} --fit-config bare"));
    assert_eq!(made["from_the_fit"], serde_json::json!(["kernel (kernel-1)"]));
    assert_eq!(part(&desk, "initramfs").1, sha256(&[5; 700]));
}

#[test]
fn a_kiln_toml_needs_no_payload_that_the_fit_has() {
    let desk = desk_with_fit();
    let without = CONFIG.split("[[payload]]").next().unwrap();
    desk.put("kiln.toml", without.as_bytes());
    let said = desk.run(&format!("{RELEASE} {FIT}"));
    assert_eq!(said.status.code(), Some(0), "{}", String::from_utf8_lossy(&said.stderr));
    assert!(
        String::from_utf8_lossy(&said.stderr).contains("its signature does not cover"),
        "nobody was warned"
    );
    desk.good(VERIFY);

    let desk = desk_with_fit();
    desk.put("kiln.toml", without.as_bytes());
    let said = desk.bad(&format!("{RELEASE} {FIT} --fit-config bare"));
    assert!(said.contains("one payload of the kind `device-tree`, this one has 0"), "{said}");
    assert_nothing_left(&desk);
}

#[test]
fn a_fit_that_does_not_hold_leaves_no_release() {
    let desk = desk_with_fit();
    let refused = |line: &str, words: &[&str]| {
        let said = desk.bad(&format!("{RELEASE} {line}"));
        for words in words.iter().chain(&["  cure  "]) {
            assert!(said.contains(words), "{line}: {words}: {said}");
        }
        assert_nothing_left(&desk);
    };
    refused(
        "--fit image.itb --fit-key other.crt",
        &["image.itb: /configurations/all/signature does not hold"],
    );
    refused("--fit image.itb --fit-key dev.key", &["dev.key: it holds a private key"]);
    refused("--fit image.itb --fit-key image.itb", &["no certificate or public key in PEM"]);
    refused("--fit Image --fit-key dev.crt", &["Image: it is no FIT"]);
    refused("--fit none.itb --fit-key dev.crt", &["cannot read none.itb"]);
    refused(&format!("{FIT} --fit-config al"), &["no configuration `al`", "all, bare"]);
    let mut fit = fs::read(desk.path("image.itb")).unwrap();
    let at = fit.windows(64).position(|window| window == [6; 64]).unwrap();
    fit[at] ^= 1;
    desk.put("altered.itb", &fit);
    refused(
        "--fit altered.itb --fit-key dev.crt",
        &["altered.itb: /images/ramdisk-1/hash-1 does not hold: the data of the image was altered"],
    );
    desk.put("half.itb", &fit[..fit.len() / 2]);
    refused("--fit half.itb --fit-key dev.crt", &["half.itb: its header says ", "it was cut off"]);
    for line in ["--fit image.itb", "--fit-key dev.crt", "--fit-config all"] {
        assert_eq!(desk.run(&format!("{RELEASE} {line}")).status.code(), Some(2), "{line}");
    }
}

#[test]
fn a_fit_whose_parts_no_device_has_room_for_leaves_no_release() {
    let desk = desk_with_fit();
    let refused = |words: &[&str]| {
        run(&desk, "gzip -kfn1 fit-kernel");
        run(&desk, "mkimage -f image.its -k . -r image.itb");
        let said = desk.bad(&format!("{RELEASE} {FIT} --fit-config all"));
        for words in words.iter().chain(&["  cure  "]) {
            assert!(said.contains(words), "{words}: {said}");
        }
        assert_nothing_left(&desk);
    };
    desk.put("fit-kernel", &[7; 5000]);
    refused(&["image.itb#kernel-1", "K0704 kernel-invalid"]);
    desk.put("fit-kernel", &kernel(5000, 200 << 20));
    refused(&["K0405 load-overlap"]);
    desk.put("fit-kernel", &kernel((64 << 20) + 1, 65 << 20));
    refused(&["/images/kernel-1 decompresses to more than 67108864 bytes", "no room for it"]);
    desk.put("fit-kernel", &kernel(5000, 0x20_0000));
    fs::File::create(desk.path("fit-ramdisk")).unwrap().set_len(64 << 20).unwrap();
    refused(&["the package has "]);
    fs::File::create(desk.path("fit-ramdisk")).unwrap().set_len(130 << 20).unwrap();
    refused(&["leaves the memory"]);
}
