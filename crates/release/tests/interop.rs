//! An independent COSE library verifies what Kiln signed.

use memory_map::qemu_virt;
use release::{Compression, Identity, OsParts, OsRelease, Owner, test_keys};
use sealed_image::Version;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Output};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sealed-image/tests/interop/verify_cose.py");

/// Makes a kernel image under the test owner.
fn kernel_image(owner: &Owner) -> Vec<u8> {
    let identity =
        Identity { board: qemu_virt::BOARD.into(), version: Version::new(1, 2, 3), rollback_index: 0.into() };
    let parts = OsParts {
        kernel: b"a kernel".repeat(20_000),
        device_tree: b"a device tree".to_vec(),
        initramfs: None,
        cmdline: "quiet".into(),
        compression: Compression::None,
        places: release::OsPlaces::default(),
    };
    let release = OsRelease::sign(owner, &identity, parts).unwrap();
    release.objects[0].1.seal(&test_keys::die([0; 16]).unwrap().os_key(), Compression::None).unwrap()
}

fn verify(python: &str, image: &Path, root: [u8; 32]) -> Output {
    let digest = root.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    Command::new(python).arg(SCRIPT).arg(image).arg(digest).output().unwrap()
}

/// Runs with the interpreter that `KILN_PYTHON` names, which has `pycose`; `cargo xtask test` provides one.
#[test]
fn pycose_verifies_images_of_either_algorithm_and_refuses_altered_ones() {
    let python = std::env::var("KILN_PYTHON");
    let python = python
        .expect("KILN_PYTHON names an interpreter with pycose: run `cargo xtask test`, which sets it up");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    for (owner, algorithm) in
        [(test_keys::owner().unwrap(), "ES256"), (test_keys::owner_with_ps256().unwrap(), "PS256")]
    {
        let image = kernel_image(&owner);
        std::fs::write(&path, &image).unwrap();
        let output = verify(&python, &path, owner.root_digest());
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        let expected = format!(
            r#"{{"kind": "kernel", "board": "qemu-virt", "version": "1.2.3", "algorithms": ["{algorithm}"], "flips_refused": "#
        );
        let flips = text.trim().strip_prefix(&expected).and_then(|rest| rest.strip_suffix('}'));
        assert!(flips.unwrap_or_default().parse::<u32>().unwrap() > 500, "{text}");

        assert!(!verify(&python, &path, [0; 32]).status.success(), "another root was taken");
        for byte in [70, 300, 600] {
            let mut altered = image.clone();
            altered[byte] ^= 4;
            std::fs::write(&path, &altered).unwrap();
            assert!(!verify(&python, &path, owner.root_digest()).status.success(), "byte {byte}");
        }
    }
}
