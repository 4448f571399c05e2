//! What the release tools make, a device takes; and only what they make.

use boot_crypto::Key;
use fail_code::FailCode;
use memory_map::qemu_virt;
use release::{
    Compression, Error, FlashLayout, FlatImage, Identity, OsParts, OsRelease, Owner, inspect_slot,
    open_boot_slot, open_os_slot, test_keys, write_disk,
};
use sealed_image::{Kind, Version};

fn identity() -> Identity {
    Identity { board: qemu_virt::BOARD.into(), version: Version::new(1, 2, 3), rollback_index: 4.into() }
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i / 64) as u8 ^ seed).collect()
}

fn stage() -> FlatImage {
    let load = qemu_virt::STAGE_RUN.base;
    FlatImage { bytes: pattern(200_001, 1), load, entry: load + 64 }
}

fn parts(compression: Compression) -> OsParts {
    OsParts {
        kernel: pattern(700_000, 2),
        device_tree: pattern(9_000, 3),
        initramfs: Some(pattern(300_000, 4)),
        cmdline: "console=ttyAMA0 earlycon".into(),
        compression,
        places: release::OsPlaces::default(),
    }
}

fn open_os(owner: &Owner, slot: &[u8], chip_id: [u8; 16]) -> Result<Vec<Vec<u8>>, Error> {
    let key = test_keys::die(chip_id)?.os_key();
    let opened = open_os_slot(slot, qemu_virt::BOARD, owner.root_digest(), &key)?;
    Ok(opened.into_iter().map(|image| image.plain.to_vec()).collect())
}

#[test]
fn a_boot_slot_opens_on_its_own_die_only() {
    let owner = test_keys::owner().unwrap();
    let signed = owner.sign_stage2(&identity(), stage()).unwrap();
    let die = test_keys::die([7; 16]).unwrap();
    let slot = signed.seal(&die.boot_key(), Compression::None).unwrap();
    let open = |key: &Key| open_boot_slot(&slot, qemu_virt::BOARD, owner.root_digest(), key);

    let opened = open(&die.boot_key()).unwrap();
    assert_eq!(*opened.plain, stage().bytes);
    let code = |key: &Key| open(key).unwrap_err().code();
    assert_eq!(code(&test_keys::die([8; 16]).unwrap().boot_key()), Some(FailCode::KeyUnwrap));
    assert_eq!(code(&die.os_key()), Some(FailCode::KeyUnwrap));
    let plain = stage().bytes;
    assert!(!slot.windows(64).any(|window| plain.starts_with(window)), "plaintext in the image");
}

#[test]
fn an_os_slot_opens_with_and_without_compression_and_under_either_algorithm() {
    for owner in [test_keys::owner().unwrap(), test_keys::owner_with_ps256().unwrap()] {
        for compression in [Compression::None, Compression::Lz4] {
            let parts = parts(compression);
            let release = OsRelease::sign(&owner, &identity(), parts.clone()).unwrap();
            let slot = release.seal_slot(&test_keys::die([7; 16]).unwrap().os_key()).unwrap();
            let plain = open_os(&owner, &slot, [7; 16]).unwrap();
            assert_eq!(plain[1..], [parts.kernel, parts.device_tree, parts.initramfs.unwrap()]);
            let infos = inspect_slot(&slot).unwrap();
            let kinds: Vec<_> = infos.iter().map(|info| info.kind).collect();
            assert_eq!(kinds, [Kind::Bundle, Kind::Kernel, Kind::DeviceTree, Kind::Initramfs]);
            assert!(
                infos.iter().all(|info| info.version == Version::new(1, 2, 3) && info.rollback_index == 4)
            );
            assert_eq!(infos[1].plain_bytes, 700_000);
            assert_eq!(infos[1].stored_bytes < 300_000, compression == Compression::Lz4);
        }
    }
}

#[test]
fn no_two_sealings_share_a_block_of_ciphertext() {
    let owner = test_keys::owner().unwrap();
    let release = OsRelease::sign(&owner, &identity(), parts(Compression::None)).unwrap();
    let key = test_keys::die([7; 16]).unwrap().os_key();
    let (a, b) = (release.seal_slot(&key).unwrap(), release.seal_slot(&key).unwrap());
    assert_eq!(a.len(), b.len());
    let kernel = inspect_slot(&a).unwrap()[1].offset as usize + 4096;
    let blocks: std::collections::HashSet<_> = a[kernel..kernel + 700_000].chunks_exact(16).collect();
    let shared = b[kernel..kernel + 700_000].windows(16).filter(|block| blocks.contains(block)).count();
    assert_eq!((blocks.len(), shared), (700_000 / 16, 0));
}

#[test]
fn an_object_of_another_release_is_not_in_the_bundle() {
    let owner = test_keys::owner().unwrap();
    let key = test_keys::die([7; 16]).unwrap().os_key();
    let mut first = OsRelease::sign(&owner, &identity(), parts(Compression::None)).unwrap();
    let newer = Identity { version: Version::new(1, 2, 4), ..identity() };
    let second = OsRelease::sign(&owner, &newer, parts(Compression::None)).unwrap();
    first.objects[0] = second.objects[0].clone();
    let error = open_os(&owner, &first.seal_slot(&key).unwrap(), [7; 16]).unwrap_err();
    assert_eq!(error.code(), Some(FailCode::ObjectNotInBundle), "{error}");
    assert!(matches!(error, Error::NotInBundle { kind: Kind::Kernel, .. }), "{error}");
}

#[test]
fn what_lies_in_a_slot_instead_of_an_image_is_reported() {
    let code = |slot: &[u8]| inspect_slot(slot).unwrap_err().code();
    assert_eq!(code(&[]), Some(FailCode::SlotEmpty));
    assert_eq!(code(&[0xFF; 8192]), Some(FailCode::SlotEmpty));
    assert_eq!(code(&[0; 8192]), Some(FailCode::SlotEmpty));
    assert_eq!(code(&[0x55; 8192]), Some(FailCode::HeaderMagic));
    let owner = test_keys::owner().unwrap();
    let key = test_keys::die([7; 16]).unwrap().boot_key();
    let slot = owner.sign_stage2(&identity(), stage()).unwrap().seal(&key, Compression::None).unwrap();
    assert_eq!(code(&slot[..slot.len() - 1]), Some(FailCode::ImageTruncated));
    assert_eq!(code(&slot[..4095]), Some(FailCode::ImageTruncated));
    assert_eq!(inspect_slot(&slot).unwrap().len(), 1);
}

#[test]
fn flash_and_disk_hold_each_part_at_its_place() {
    let (stage0, otp) = (pattern(60_000, 9), pattern(4_096, 10));
    let layout = FlashLayout { stage0: &stage0, slot_a: Some(b"slot A"), slot_b: Some(b"slot B"), otp: &otp };
    let flash = layout.image().unwrap();
    assert_eq!(flash.len(), 64 << 20);
    let at = |bytes: &[u8], base: u64, expected: &[u8]| bytes[base as usize..].starts_with(expected);
    assert!(at(&flash, 0, &stage0) && at(&flash, qemu_virt::OTP.base, &otp));
    assert!(at(&flash, qemu_virt::BOOT_SLOT_A.base, b"slot A\xFF"));
    assert!(at(&flash, qemu_virt::BOOT_SLOT_B.base, b"slot B\xFF"));
    let big = vec![0; qemu_virt::STAGE0_ROM.size as usize + 1];
    assert!(matches!(
        FlashLayout { stage0: &big, ..layout }.image(),
        Err(Error::TooLarge { what: "stage0", .. })
    ));

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.img");
    write_disk(&path, Some(b"first"), Some(b"second")).unwrap();
    let disk = std::fs::read(&path).unwrap();
    assert_eq!(disk.len() as u64, qemu_virt::DISK_MIN);
    assert!(at(&disk, qemu_virt::OS_SLOT_A.base, b"first\0"));
    assert!(at(&disk, qemu_virt::OS_SLOT_B.base, b"second\0"));
    write_disk(&path, None, None).unwrap();
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0), "an old slot was left");
    let missing = folder.path().join("no such folder/disk.img");
    assert!(matches!(write_disk(&missing, None, None), Err(Error::Write { .. })));
}
