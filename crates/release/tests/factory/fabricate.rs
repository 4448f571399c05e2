//! What the model of the silicon vendor delivers.

use crate::common::{Blank, STAGE0};
use boot_crypto::{Key, die_key};
use fail_code::FailCode;
use lifecycle::{Fuses, Lifecycle, Row, burn, vendor};
use memory_map::qemu_virt::{DISK_MIN, FLASH0, FLASH1, OTP, STAGE0_ROM, VENDOR_CERTIFICATE};
use release::{DeviceFiles, Error, SiliconVendor, certificate_pem, fabricate, make_die};
use std::fs;
use std::path::Path;
use std::process::Command;

#[test]
fn a_fabricated_die_is_blank_locked_and_tells_itself_from_others() {
    let blank = Blank::new();
    let otp = blank.files.otp().unwrap();
    assert_eq!(Fuses::read_lifecycle(&otp), Ok(Lifecycle::Blank));
    assert_eq!(Fuses::read_chip_id(&otp), Ok(blank.die.chip_id));
    assert_eq!(burn::check_blank(&otp), Ok(()));
    let locks = Fuses::read_locks(&otp).unwrap();
    for row in Row::ALL {
        let vendors = matches!(row, Row::ChipId | Row::SiliconSecret);
        assert_eq!(locks.contains(*row), vendors, "{row:?}");
        assert_eq!(burn::is_begun(&otp, *row), vendors, "{row:?}");
    }
    let other = make_die(&SiliconVendor::found().unwrap(), [7; 16], &Key::new([8; 32])).unwrap().0;
    assert_ne!(other.certificates, blank.die.certificates);
}

#[test]
fn the_bank_behind_the_fuses_holds_the_chain_and_the_rest_of_the_device_is_erased() {
    let blank = Blank::new();
    let stored = blank.files.read_flash0(VENDOR_CERTIFICATE).unwrap();
    assert!(vendor::certificates(&stored).eq(blank.die.certificates.iter().map(Vec::as_slice)));
    assert_eq!(blank.die.certificates.len(), 2);

    let mut flash0 = fs::read(blank.files.flash0()).unwrap();
    assert_eq!(flash0.len() as u64, FLASH0.size);
    assert_eq!(flash0[..STAGE0.len()], *STAGE0);
    flash0[..STAGE0.len()].fill(0xFF);
    flash0.truncate(OTP.base as usize);
    assert!(flash0.iter().all(|byte| *byte == 0xFF));
    assert!(fs::read(blank.files.flash1()).unwrap() == vec![0xFF; FLASH1.size as usize]);
    assert_eq!(fs::metadata(blank.files.disk()).unwrap().len(), DISK_MIN);
}

#[test]
fn a_device_is_never_written_over() {
    let blank = Blank::new();
    let before = fs::read(blank.files.flash0()).unwrap();
    let vendor = SiliconVendor::found().unwrap();
    assert!(matches!(fabricate(&vendor, STAGE0, &blank.files), Err(Error::Write { .. })));
    assert!(fs::read(blank.files.flash0()).unwrap() == before);
}

#[test]
fn a_stage0_that_its_rom_has_no_room_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let files = DeviceFiles::new(folder.path());
    let vendor = SiliconVendor::found().unwrap();
    let stage0 = vec![0; STAGE0_ROM.size as usize + 1];
    assert!(matches!(fabricate(&vendor, &stage0, &files), Err(Error::TooLarge { what: "stage0", .. })));
    assert!(!files.flash0().exists());
}

fn openssl(args: &[&str], files: &[&Path]) -> (bool, String) {
    let output = Command::new("openssl").args(args).args(files).output().expect("openssl is installed");
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// A file with a certificate.
fn pem(folder: &Path, name: &str, der: &[u8]) -> std::path::PathBuf {
    let path = folder.join(name);
    fs::write(&path, certificate_pem(der)).unwrap();
    path
}

#[test]
fn openssl_verifies_the_chain_strictly_and_reads_chip_id_and_key_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let vendor = SiliconVendor::found().unwrap();
    let secret = Key::new([0x5A; 32]);
    let (die, _) = make_die(&vendor, *b"0123456789abcdef", &secret).unwrap();
    let [leaf, issuing] = die.certificates.as_slice() else { panic!("two certificates") };
    assert_eq!(issuing, vendor.issuing());
    let leaf = pem(folder.path(), "leaf", leaf);
    let issuing = pem(folder.path(), "issuing", issuing);
    let root = pem(folder.path(), "root", vendor.root());
    let verify = |root: &Path| {
        let root = root.to_str().unwrap();
        let args = ["verify", "-x509_strict", "-CAfile", root, "-untrusted", issuing.to_str().unwrap()];
        openssl(&args, &[&leaf])
    };
    let (accepted, text) = verify(&root);
    assert!(accepted, "{text}");

    let other = pem(folder.path(), "other", SiliconVendor::found().unwrap().root());
    assert!(!verify(&other).0, "the root of another vendor was taken");

    let (_, text) = openssl(&["x509", "-noout", "-text", "-in"], &[&leaf]);
    let point: Vec<String> = die_key(&secret).public().iter().map(|byte| format!("{byte:02x}")).collect();
    let digits: String = text.split([':', ' ', '\n']).collect();
    for expected in [
        "serialNumber = 30313233343536373839616263646566",
        "CN = Kiln model die",
        "CN = Kiln model silicon vendor issuing CA",
        "CA:FALSE",
        "Digital Signature",
        "Not After : Dec 31 23:59:59 9999 GMT",
    ] {
        assert!(text.contains(expected), "{expected} is missing: {text}");
    }
    assert!(digits.contains(&point.concat()), "the die's key is not in the certificate: {text}");
    let (_, text) = openssl(&["x509", "-noout", "-text", "-in"], &[&issuing]);
    assert!(text.contains("CA:TRUE, pathlen:0") && text.contains("Certificate Sign, CRL Sign"), "{text}");
}

#[test]
fn a_vendor_survives_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let vendor = SiliconVendor::read_or_found(folder.path()).unwrap();
    let again = SiliconVendor::read_or_found(folder.path()).unwrap();
    assert_eq!((again.root(), again.issuing()), (vendor.root(), vendor.issuing()));
    let key = |path: &str| fs::metadata(folder.path().join(path)).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    for name in ["vendor-root.key.pem", "vendor-issuing.key.pem"] {
        assert_eq!(key(name).permissions().mode() & 0o777, 0o600, "{name}");
    }
    assert!(matches!(SiliconVendor::found().unwrap().write(folder.path()), Err(Error::Write { .. })));

    fs::write(folder.path().join("vendor-issuing.pem"), "nothing").unwrap();
    let refused = SiliconVendor::read(folder.path()).err().unwrap();
    assert!(matches!(refused, Error::CertificateFile { .. }), "{refused}");
}

#[test]
fn a_die_that_nobody_fabricated_is_refused() {
    let blank = Blank::new();
    crate::common::poke(&blank.files.flash0(), OTP.base, &vec![0xFF; OTP.size as usize]);
    let release = crate::common::make(&crate::common::owner()).unwrap().0;
    let refused = release::preprovision(&blank.files, &release, release::Start::Blank).unwrap_err();
    assert_eq!(refused.code(), Some(FailCode::FuseRowMissing), "{refused}");
}
