//! What the external tool burns and writes, and what it refuses.

use crate::common::{Blank, make, owner, poke};
use boot_crypto::Key;
use boot_crypto::host::random;
use fail_code::FailCode;
use hal::OtpBurn as _;
use lifecycle::{FuseFacts, Fuses, Lifecycle, RootSlot, Row, burn};
use memory_map::qemu_virt::{
    BOOT_SLOT_A, BOOT_SLOT_B, BOOT_STAGING, CLOSING_STATE, DISK_MIN, FLASH1, JOURNAL, OS_SLOT_A, OTP,
    PACKAGE, SECRETS, STAGE0_ROM,
};
use release::{Error, PackageRelease, Start, fuse_word_offset, preprovision, test_keys};

#[track_caller]
fn refused(blank: &Blank, release: &PackageRelease, start: Start, code: FailCode) -> Error {
    let error = preprovision(&blank.files, release, start).expect_err("it was refused");
    assert_eq!(error.code(), Some(code), "{error}");
    error
}

/// Whether nothing was burned that fabrication did not burn.
fn is_blank(blank: &Blank) -> bool {
    burn::check_blank(&blank.files.otp().unwrap()).is_ok()
}

#[test]
fn a_pre_provisioned_die_is_secured_with_exactly_the_fuses_of_the_policy() {
    let blank = Blank::new();
    let owner = owner();
    let (release, content_key) = make(&owner).unwrap();
    let done = preprovision(&blank.files, &release, Start::Blank).unwrap();

    let otp = blank.files.otp().unwrap();
    let facts = FuseFacts::read(&otp).unwrap();
    assert_eq!(facts, release.facts.policy.secured());
    assert_eq!((done.chip_id, done.facts), (blank.die.chip_id, facts));
    let fuses = Fuses::read(&otp).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(fuses.lifecycle(), Lifecycle::Secured);
    assert!(fuses.debug_locked());
    assert_eq!(fuses.roots()[0], RootSlot::Active(owner.root_digest()));
    assert_eq!(fuses.roots()[1..], [RootSlot::Empty; 3]);
    assert_eq!(fuses.floors(), &[0, 0, 4, 0, 0, 0, 0, 0]);
    let key = fuses.provisioning_key().unwrap().expose();
    assert_eq!(key, release.provisioning_key.expose());
    for row in Row::OWNER_ROOTS.into_iter().chain([Row::DebugLock, Row::ProvisioningKey]) {
        assert!(facts.locks.contains(row), "{row:?}");
    }
    let burned = [Row::Lifecycle, Row::DebugLock, Row::OwnerRoot0, Row::ProvisioningKey, Row::BootPolicy];
    assert!(burned.into_iter().all(|row| done.rows.contains(row)));
    assert!(!done.rows.contains(Row::DeviceSeed) && !done.rows.contains(Row::ClosingMeasurement));

    for slot in [BOOT_SLOT_A, BOOT_SLOT_B] {
        let stored = blank.files.read_flash0(slot).unwrap();
        assert!(stored.starts_with(&release.stage1));
        assert!(stored[release.stage1.len()..].iter().all(|byte| *byte == 0xFF));
    }
    let stored = blank.files.read_disk(PACKAGE).unwrap();
    assert!(stored.starts_with(&release.package));
    assert_eq!(done.written, (2 * release.stage1.len() + release.package.len()) as u64);
    let on_disk = PackageRelease { package: stored, ..release };
    assert_eq!(on_disk.open(&content_key).unwrap().len(), 7, "index, stage2, bundle, 3 objects, secret");
}

#[test]
fn a_die_in_which_any_row_was_burned_is_refused() {
    let blank = Blank::new();
    let release = make(&owner()).unwrap().0;
    let mut tried = 0;
    for row in Row::ALL.iter().filter(|row| !matches!(row, Row::ChipId | Row::SiliconSecret)) {
        for word in [row.words().start, row.words().end - 1, row.lock_words().end - 1] {
            let (flash0, at) = (blank.files.flash0(), fuse_word_offset(word));
            let old = poke(&flash0, at, &0xFFFF_FFFE_u32.to_le_bytes());
            let error = refused(&blank, &release, Start::Blank, FailCode::DieNotBlank);
            assert!(matches!(error, Error::DieNotBlank { row: found, .. } if found == *row), "{error}");
            poke(&flash0, at, &old);
            tried += 1;
        }
    }
    assert_eq!(tried, 3 * (Row::ALL.len() - 2));
    preprovision(&blank.files, &release, Start::Blank).unwrap();
}

#[test]
fn a_die_that_was_pre_provisioned_before_is_refused() {
    let blank = Blank::new();
    let release = make(&owner()).unwrap().0;
    preprovision(&blank.files, &release, Start::Blank).unwrap();
    let error = refused(&blank, &release, Start::Blank, FailCode::DieNotBlank);
    assert!(matches!(error, Error::DieNotBlank { lifecycle: Some(Lifecycle::Secured), .. }), "{error}");
    assert!(error.to_string().contains("it is secured"), "{error}");
}

#[test]
fn a_die_whose_vendor_rows_are_open_is_refused() {
    let release = make(&owner()).unwrap().0;
    for row in [Row::ChipId, Row::SiliconSecret] {
        let blank = Blank::new();
        poke(&blank.files.flash0(), fuse_word_offset(row.lock_words().start), &[0xFF; 12]);
        let error = preprovision(&blank.files, &release, Start::Blank).unwrap_err();
        assert!(matches!(error, Error::DieUnlocked { row: found } if found == row), "{error}");
        assert!(is_blank(&blank));
    }
}

#[test]
fn storage_in_which_one_byte_is_written_is_refused_and_nothing_is_burned() {
    let blank = Blank::new();
    let release = make(&owner()).unwrap().0;
    let (flash0, flash1, disk) = (blank.files.flash0(), blank.files.flash1(), blank.files.disk());
    let places = [
        (&flash0, STAGE0_ROM.end()),
        (&flash0, BOOT_SLOT_A.base),
        (&flash0, BOOT_SLOT_B.end() - 1),
        (&flash0, JOURNAL.base + 4711),
        (&flash0, CLOSING_STATE.base),
        (&flash0, SECRETS.end() - 1),
        (&flash0, BOOT_STAGING.base),
        (&flash0, OTP.base - 1),
        (&flash1, 0),
        (&flash1, FLASH1.size - 1),
        (&disk, 0),
        (&disk, OS_SLOT_A.base + 12_345),
        (&disk, PACKAGE.base),
        (&disk, DISK_MIN - 1),
    ];
    for (file, at) in places {
        let old = poke(file, at, &[0x7F]);
        let error = refused(&blank, &release, Start::Blank, FailCode::FlashNotClear);
        let found = matches!(&error, Error::FlashNotClear { path, offset } if path == file && *offset == at);
        assert!(found, "{at:#x}: {error}");
        assert!(is_blank(&blank));
        poke(file, at, &old);
    }
    preprovision(&blank.files, &release, Start::Blank).unwrap();
}

#[test]
fn a_disk_that_reads_ones_is_erased_too() {
    let blank = Blank::new();
    poke(&blank.files.disk(), 0, &vec![0xFF; 3 << 20]);
    preprovision(&blank.files, &make(&owner()).unwrap().0, Start::Blank).unwrap();
}

/// Takes a device back to where a cut may have left it: the lifecycle not burned, a boot slot half written.
fn cut_off(blank: &Blank, release: &PackageRelease) {
    preprovision(&blank.files, release, Start::Blank).unwrap();
    let words = Row::Lifecycle.words();
    poke(&blank.files.flash0(), fuse_word_offset(words.start), &[0xFF; 12]);
    poke(&blank.files.flash0(), BOOT_SLOT_B.base + 8192, &[0xFF; 4096]);
}

#[test]
fn a_cut_off_pre_provisioning_is_carried_on_with_the_same_release_only_when_asked_to() {
    let blank = Blank::new();
    let release = make(&owner()).unwrap().0;
    cut_off(&blank, &release);
    refused(&blank, &release, Start::Blank, FailCode::DieNotBlank);
    preprovision(&blank.files, &release, Start::Interrupted).unwrap();
    preprovision(&blank.files, &release, Start::Interrupted).unwrap();
    let facts = FuseFacts::read(&blank.files.otp().unwrap()).unwrap();
    assert_eq!(facts, release.facts.policy.secured());
    assert!(blank.files.read_flash0(BOOT_SLOT_B).unwrap().starts_with(&release.stage1));
}

#[test]
fn a_cut_off_pre_provisioning_is_not_carried_on_with_another_release() {
    let blank = Blank::new();
    let owner = owner();
    cut_off(&blank, &make(&owner).unwrap().0);
    let before = blank.files.read_flash0(OTP).unwrap();
    refused(&blank, &make(&owner).unwrap().0, Start::Interrupted, FailCode::FuseForeign);
    assert!(blank.files.read_flash0(OTP).unwrap() == before);
}

#[test]
fn bits_that_somebody_burned_meanwhile_are_not_taken_for_a_cut() {
    let release = make(&owner()).unwrap().0;
    let spare = Row::OwnerRoot1.first_word();
    for (word, bits) in
        [(spare, 1), (Row::FloorProvision.first_word(), 0x1F), (Row::DeviceSeed.first_word(), 1)]
    {
        let blank = Blank::new();
        blank.files.otp().unwrap().burn(word, bits).unwrap();
        refused(&blank, &release, Start::Interrupted, FailCode::FuseForeign);
    }
}

#[test]
fn a_written_journal_is_not_taken_for_a_cut() {
    let blank = Blank::new();
    let release = make(&owner()).unwrap().0;
    cut_off(&blank, &release);
    poke(&blank.files.flash0(), JOURNAL.base, b"entry");
    refused(&blank, &release, Start::Interrupted, FailCode::FlashNotClear);
}

#[test]
fn a_release_whose_parts_do_not_belong_together_burns_nothing() {
    let blank = Blank::new();
    let owner = owner();
    let fresh = || make(&owner).unwrap().0;
    let other = fresh();
    type Mix<'a> = &'a dyn Fn(&mut PackageRelease);
    let mixes: [(&str, Mix<'_>); 7] = [
        ("provisioning key", &|release| release.provisioning_key = Key::new(random())),
        ("closing measurement", &|release| release.facts.policy.closing_measurement[0] ^= 1),
        ("stage1's measurement", &|release| {
            release.facts.stage1_measurement[0] ^= 1;
            release.facts.policy.closing_measurement[0] ^= 1;
        }),
        ("package", &|release| release.package = other.package.clone()),
        ("package id", &|release| release.facts.package_id[31] ^= 1),
        ("stage1 as package", &|release| release.package = release.stage1.clone()),
        ("tag", &|release| release.facts.policy.provisioning_key_tag[5] ^= 1),
    ];
    for (what, mix) in mixes {
        let mut release = fresh();
        mix(&mut release);
        let error = preprovision(&blank.files, &release, Start::Blank).expect_err(what);
        assert!(matches!(error, Error::ReleaseMixed { .. }), "{what}: {error}");
        assert!(is_blank(&blank), "{what}");
    }
}

#[test]
fn a_stage1_that_the_die_would_not_boot_burns_nothing() {
    let blank = Blank::new();
    let owner = owner();
    let fresh = || make(&owner).unwrap().0;
    let other = fresh();
    type Spoil<'a> = &'a dyn Fn(&mut PackageRelease);
    let cases: [(FailCode, Spoil<'_>); 5] = [
        (FailCode::KeyUnwrap, &|release| release.stage1 = other.stage1.clone()),
        (FailCode::RootUnknown, &|release| release.facts.policy.root_digest[0] ^= 1),
        (FailCode::RolledBack, &|release| release.facts.policy.secured_floors[1] = 5),
        (FailCode::SlotEmpty, &|release| release.stage1 = vec![0xFF; 4096]),
        (FailCode::BoardWrong, &|release| release.facts.board = "another".into()),
    ];
    for (code, spoil) in cases {
        let mut release = fresh();
        spoil(&mut release);
        refused(&blank, &release, Start::Blank, code);
        assert!(is_blank(&blank), "{code}");
    }
}

#[test]
fn published_test_values_burn_nothing() {
    let blank = Blank::new();
    let mut release = make(&owner()).unwrap().0;
    release.facts.policy.root_digest = test_keys::owner().unwrap().root_digest();
    refused(&blank, &release, Start::Blank, FailCode::TestKey);
    let mut release = make(&owner()).unwrap().0;
    release.provisioning_key = Key::new(test_keys::silicon_secret());
    refused(&blank, &release, Start::Blank, FailCode::TestKey);
    assert!(is_blank(&blank));
}
