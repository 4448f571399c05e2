//! Holds the verifier against `mkimage`, which makes FITs, and against U-Boot, which boots them.

mod cases;
mod forge;
mod maker;
mod u_boot;

use cases::Verdict;
use fit::{Key, KeyError, verify};
use forge::Forge;
use maker::{BIG, DEV, Maker, OTHER};
use std::fs;

#[test]
fn what_mkimage_made_comes_out_as_it_went_in() {
    let maker = Maker::new();
    let fit = maker.variant(&[]);
    let system = verify(&fit, &maker.trusted(DEV), None).unwrap();
    assert_eq!((system.configuration.as_str(), system.description.as_str()), ("conf-1", "two systems"));
    assert_eq!(system.signature, "/configurations/conf-1/signature-1");
    assert_eq!(system.algorithm, "sha256,rsa2048");
    assert_eq!(system.kernel.name, "kernel-1");
    assert_eq!(system.kernel.description.as_deref(), Some("the kernel"));
    assert!(system.kernel.data == maker.read("kernel"));
    assert!(system.device_tree.unwrap().data == maker.read("board.dtb"));
    assert!(system.ramdisk.unwrap().data == maker.read("ramdisk"));

    let packed = verify(&fit, &maker.trusted(DEV), Some("conf-2")).unwrap();
    assert!(packed.kernel.data == maker.read("kernel"), "the kernel was not decompressed");
    assert!(packed.ramdisk.is_none());
    // Whoever can write the file chooses among what is signed: `default` is not.
    let other = Forge::of(&fit).set("/configurations", "default", *b"conf-2\0").build();
    assert_eq!(verify(&other, &maker.trusted(DEV), None).unwrap().configuration, "conf-2");
}

#[test]
fn every_case_is_judged_as_it_says() {
    let maker = Maker::new();
    let cases = cases::all(&maker);
    let (mut taken, mut refused, mut wrong) = (0, 0, Vec::new());
    for case in &cases {
        let found = verify(&case.fit, &maker.trusted(case.key), Some(case.configuration));
        match (case.verdict, found) {
            (Verdict::Taken | Verdict::Pss, Ok(system)) => {
                assert_eq!(system.configuration, case.configuration);
                taken += 1;
            }
            (Verdict::Refused(words) | Verdict::Stricter(words) | Verdict::Depends(words), Err(error)) => {
                if !error.to_string().contains(words) {
                    wrong.push(format!("{}: {words}: {error}", case.name));
                }
                assert!(error.cure().ends_with('.'), "{}: {error}", case.name);
                refused += 1;
            }
            (verdict, found) => {
                wrong.push(format!("{}: {verdict:?}: {:?}", case.name, found.map(|one| one.algorithm)));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(taken >= 10 && refused >= 60, "{taken} taken, {refused} refused");
}

#[test]
fn no_altered_file_is_taken_with_other_content_and_none_makes_it_panic() {
    let maker = Maker::new();
    let fit = maker.variant(&[]);
    let key = maker.trusted(DEV);
    let good = verify(&fit, &key, Some("conf-1")).unwrap();
    let mut refused = 0;
    // Every byte outside of the data of images, and some of those.
    let noisy = |at: usize| {
        fit[at.saturating_sub(32)..(at + 32).min(fit.len())].iter().filter(|byte| **byte == 0).count() < 4
    };
    for at in (0..fit.len()).filter(|at| !noisy(*at) || at % 97 == 0) {
        for bit in [0x01, 0x80] {
            let mut altered = fit.clone();
            altered[at] ^= bit;
            match verify(&altered, &key, Some("conf-1")) {
                // What nothing signs may be altered: other images, `default`, hints.
                Ok(system) => assert!(system == good, "byte {at:#x}"),
                Err(_) => refused += 1,
            }
        }
    }
    for length in (0..fit.len()).step_by(61) {
        assert!(verify(&fit[..length], &key, Some("conf-1")).is_err(), "{length} bytes were taken");
        refused += 1;
    }
    assert!(refused > 2000, "only {refused} were refused");
}

#[test]
fn keys_are_taken_from_certificates_and_public_keys_and_nothing_else() {
    let maker = Maker::new();
    assert_eq!(maker.trusted(DEV).bits(), 2048);
    assert_eq!(maker.trusted(BIG).bits(), 4096);
    assert_eq!(maker.trusted(OTHER).bits(), 2048);
    let fit = maker.variant(&[]);
    maker.run("openssl", &["pkey", "-in", "keys/dev.key", "-pubout", "-out", "dev.pem"]);
    let public = Key::from_pem(&maker.read("dev.pem")).unwrap();
    assert!(verify(&fit, &public, None).is_ok());
    assert_eq!(Key::from_pem(&maker.read("keys/dev.key")).unwrap_err(), KeyError::Private);
    assert_eq!(Key::from_pem(b"no key").unwrap_err(), KeyError::Pem);
    let weak =
        ["req", "-batch", "-new", "-x509", "-nodes", "-subj", "/CN=x", "-keyout", "x.key", "-out", "x.crt"];
    let refused = |more: &[&str]| {
        maker.run("openssl", &[&weak[..], more].concat());
        Key::from_pem(&maker.read("x.crt")).unwrap_err()
    };
    assert_eq!(refused(&["-newkey", "rsa:1024"]), KeyError::Length { bits: 1024 });
    assert_eq!(refused(&["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]), KeyError::NoRsa);
    assert_eq!(refused(&["-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"]), KeyError::Exponent);
    fs::write(maker.folder().join("x.pem"), "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
        .unwrap();
    assert_eq!(
        Key::from_pem(&maker.read("x.pem")).unwrap_err(),
        KeyError::Label { label: "X509 CRL".into() }
    );
}

#[test]
fn a_file_that_is_larger_than_u_boot_takes_is_refused() {
    let mut large = vec![0; (256 << 20) + 8];
    large[..4].copy_from_slice(&[0xD0, 0x0D, 0xFE, 0xED]);
    let size = u32::try_from(large.len()).unwrap();
    large[4..8].copy_from_slice(&size.to_be_bytes());
    let error = verify(&large, &Maker::new().trusted(DEV), None).unwrap_err();
    assert!(error.to_string().contains("more than 256 MiB"), "{error}");
}

#[test]
fn images_that_grow_without_end_are_refused() {
    let maker = Maker::new();
    let refused = |name: &str, size: usize, words: &[(&str, &str)], configuration| {
        fs::write(maker.path(name), vec![0; size]).unwrap();
        maker.run("gzip", &["-k1nf", name]);
        let fit = maker.variant(words);
        verify(&fit, &maker.trusted(DEV), Some(configuration)).unwrap_err().to_string()
    };
    let error = refused("bomb", (64 << 20) + 1, &[("kernel.gz", "bomb.gz")], "conf-2");
    assert!(error.contains("more than 67108864 bytes"), "{error}");
    // A device tree may grow to 20 times its size.
    let tree = [(
        "data = /incbin/(\"board.dtb\"); type = \"flat_dt\"; arch = \"arm64\";\n            compression = \"none\";",
        "data = /incbin/(\"tree.gz\"); type = \"flat_dt\"; arch = \"arm64\"; compression = \"gzip\";",
    )];
    let error = refused("tree", 1 << 20, &tree, "conf-1");
    assert!(error.contains("/images/fdt-1 decompresses to more than "), "{error}");
}
