//! What whoever holds the flash, the disk, the package and the entropy source may try, and what comes of it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use emulator::{Entropy, Machine, Outcome, Report};
use fail_code::FailCode;
use lifecycle::{Lifecycle, Row};
use memory_map::Region;
use memory_map::qemu_virt::{
    BOARD, BOOT_SLOT_A, BOOT_SLOT_B, DRAM_BASE, DRAM_MIN, FLASH0, JOURNAL, OS_SLOT_A, OS_SLOT_B, OTP,
    PACKAGE, STAGE0_ROM,
};
use release::audit::{LeakScan, compare_blocks, payloads};
use release::{Compression, Identity, OsRelease};
use sealed_image::Version;
use stage1_provision::machine::{Entry, Step};
use store::Slot;
use tempfile::TempDir;
use tests::factory::{LOT, Moment, Package, lot_of};
use tests::leak::{find, keys_before_birth, keys_from_seed, normal_ram};
use tests::verdict::{assert_boots, assert_closed, assert_not_provisioned, story, text};
use tests::{Die, Factory, Firmware, expectation};

/// Makes a closed device.
fn closed(factory: &Factory, way: &station::Authority) -> Die {
    let die = factory.die();
    assert_closed(&die, &die.provision(way));
    die
}

/// Asserts that stage0 found nothing to boot, and why in the slot that it tried first.
#[track_caller]
fn assert_nothing_boots(boot: &Report, code: FailCode) {
    assert_eq!(boot.result, Outcome::Refused, "{}", story(boot));
    assert_eq!(boot.code, Some(text(FailCode::NoBootableSlot)), "{}", story(boot));
    assert_eq!(boot.fallback_code, Some(text(code)), "{}", story(boot));
    assert!(boot.images.is_empty(), "something was opened: {}", story(boot));
    for word in ["stage1", "stage2", "KILN-PAYLOAD"] {
        assert!(!boot.console.contains(word), "{word} ran: {}", boot.console);
    }
}

#[test]
fn stage1_written_back_on_a_closed_device_does_not_run() {
    let factory = Factory::new();
    let way = factory.open(2);
    let die = closed(&factory, &way);
    let stage1 = &factory.package.release.stage1;
    die.write(BOOT_SLOT_A, stage1);
    let boot = die.boot();
    assert_boots(&boot, Slot::B, Slot::A);
    assert_eq!(boot.fallback_code, Some(text(FailCode::KindWrong)), "{}", story(&boot));
    die.write(BOOT_SLOT_B, stage1);
    assert_nothing_boots(&die.boot(), FailCode::KindWrong);
    // Nor with all that it had when it ran, a station included.
    die.files.write_disk("the package", PACKAGE, &factory.package.release.package).unwrap();
    let before = die.region(OTP);
    let run = die.provision(&way);
    assert_nothing_boots(&run.boot, FailCode::KindWrong);
    assert_eq!(run.record.code, Some(text(FailCode::NoBootableSlot)), "{:?}", run.record);
    assert!(die.region(OTP) == before);
    assert_eq!(factory.counts(LOT), (1, 1));
}

/// Writes the storage of one device over that of another, whose fuses and stage0 stay.
fn copy(from: &Die, to: &Die) {
    let all = Region::new(STAGE0_ROM.end(), OTP.base - STAGE0_ROM.end());
    to.write(all, &from.region(all));
    fs::copy(from.files.disk(), to.files.disk()).unwrap();
    fs::copy(from.files.flash1(), to.files.flash1()).unwrap();
    assert_eq!(all.end() + OTP.size, FLASH0.end());
}

/// Boots a device that holds another's storage, and asserts that nothing of the other shows.
fn boot_and_scan(die: &Die, scan: &LeakScan) -> Report {
    die.watch(|machine: &mut Machine| {
        let report = machine.observe(&expectation()).unwrap();
        let lines = [machine.console.bytes(), machine.station().unwrap().bytes()];
        for bytes in &lines {
            assert_eq!(scan.scan(bytes), []);
        }
        let memory = normal_ram(machine, Region::new(DRAM_BASE, DRAM_MIN));
        assert_eq!(scan.scan(&memory), []);
        assert_eq!(scan.control(&memory[..1 << 20]), scan.patterns());
        report
    })
}

#[test]
fn storage_of_one_device_on_another_die_does_not_boot_and_shows_nothing() {
    let factory = Factory::new();
    let way = factory.open(2);
    let (a, closed_b, open_b) = (closed(&factory, &way), closed(&factory, &way), factory.die());
    let plain: Vec<(&str, &[u8])> = factory
        .package
        .plaintexts
        .iter()
        .filter(|(name, _)| ["kernel", "device tree", "initramfs"].contains(name))
        .map(|(name, plain)| (*name, plain.as_slice()))
        .collect();
    let mut secrets = keys_before_birth(&a, &factory.package.release.facts.stage1_measurement);
    secrets.extend(keys_from_seed(&a));
    let secrets: Vec<(&str, &[u8])> =
        secrets.iter().map(|secret| (secret.name.as_str(), secret.bytes.as_slice())).collect();
    let scan = LeakScan::new(&plain, &secrets).unwrap();

    // A closed die has another storage key; a die that is not closed boots nothing but stage1.
    for (b, code) in [(&closed_b, FailCode::KeyUnwrap), (&open_b, FailCode::KindWrong)] {
        let (own, own_disk) = (b.region(Region::new(0, FLASH0.size)), fs::read(b.files.disk()).unwrap());
        copy(&a, b);
        let boot = boot_and_scan(b, &scan);
        assert_nothing_boots(&boot, code);
        b.write(FLASH0, &own);
        fs::write(b.files.disk(), own_disk).unwrap();
    }
    // Only the disk: the stage is its own, the system is not.
    assert_boots(&closed_b.boot(), Slot::A, Slot::A);
    fs::copy(a.files.disk(), closed_b.files.disk()).unwrap();
    let boot = boot_and_scan(&closed_b, &scan);
    assert_eq!(boot.code, Some(text(FailCode::NoBootableOs)), "{}", story(&boot));
    assert_eq!(boot.os_fallback_code, Some(text(FailCode::KeyUnwrap)), "{}", story(&boot));
    // The one that was copied is as it was, and the die that was not closed still can be.
    assert_boots(&a.boot(), Slot::A, Slot::A);
    assert_eq!(open_b.lifecycle(), Lifecycle::Secured);
    assert_eq!(factory.counts(LOT), (2, 2));
}

/// Describes a release.
fn identity(rollback_index: u32) -> Identity {
    Identity {
        board: BOARD.into(),
        version: Version::new(1, 0, rollback_index),
        rollback_index: rollback_index.into(),
    }
}

/// Signs and seals stage1 of another release for the dies of a package.
fn stage1_of(factory: &Factory, identity: &Identity, package: &Package) -> Vec<u8> {
    let signed = factory.owner.sign_stage1(identity, Firmware::get().stage1.clone()).unwrap();
    signed.seal(&package.release.provisioning_key, Compression::None).unwrap()
}

#[test]
fn an_older_release_is_refused_before_and_after_closing() {
    let factory = Factory::new();
    let (older, newer) = (&factory.package, factory.package_at(2));
    let way = factory.open_lot(lot_of(&newer, &factory.vendor, LOT, 1));
    let die = Die::secured(&factory.vendor, &newer);
    let before = die.region(OTP);

    let stage1 = stage1_of(&factory, &identity(1), &newer);
    for slot in [BOOT_SLOT_A, BOOT_SLOT_B] {
        die.write(slot, &stage1);
    }
    assert_nothing_boots(&die.provision(&way).boot, FailCode::RolledBack);
    for slot in [BOOT_SLOT_A, BOOT_SLOT_B] {
        die.write(slot, &newer.release.stage1);
    }
    die.files.write_disk("an older package", PACKAGE, &older.release.package).unwrap();
    let run = die.provision(&way);
    assert_not_provisioned(&die, &run, &before, "prove-place", FailCode::RolledBack);
    die.files.write_disk("the package", PACKAGE, &newer.release.package).unwrap();
    assert_closed(&die, &die.provision(&way));

    // What only somebody with the keys of this very die could seal.
    let stage2 = factory.owner.sign_stage2(&identity(1), Firmware::get().stage2.clone()).unwrap();
    let stage2 = stage2.seal(&die.secrets().boot_key(), Compression::None).unwrap();
    let own = die.region(BOOT_SLOT_A);
    die.write(BOOT_SLOT_A, &stage2);
    let boot = die.boot();
    assert_boots(&boot, Slot::B, Slot::A);
    assert_eq!(boot.fallback_code, Some(text(FailCode::RolledBack)), "{}", story(&boot));
    die.write(BOOT_SLOT_A, &own);
    let os = OsRelease::sign(&factory.owner, &identity(1), tests::factory::payload("")).unwrap();
    let os = os.seal_slot(&die.secrets().os_key()).unwrap();
    die.files.write_disk("an older system", OS_SLOT_A, &os).unwrap();
    let boot = die.boot();
    assert_boots(&boot, Slot::A, Slot::B);
    assert_eq!(boot.os_fallback_code, Some(text(FailCode::RolledBack)), "{}", story(&boot));
    die.files.write_disk("an older system", OS_SLOT_B, &os).unwrap();
    let boot = die.boot();
    assert_eq!(boot.code, Some(text(FailCode::NoBootableOs)), "{}", story(&boot));
    assert_eq!(boot.os_fallback_code, Some(text(FailCode::RolledBack)), "{}", story(&boot));
}

/// Makes dies until power went away on one at a moment, with the journal that it had before it was born.
fn cut_at(factory: &Factory, way: &station::Authority, moment: Moment) -> (Die, Vec<u8>) {
    for number in 0..10 {
        let die = factory.die();
        let early = die.cut(way, Moment::In(Step::Ask), Duration::ZERO);
        assert!(!early.journal.iter().any(|recorded| recorded.entry == Entry::Seed) || !early.counts);
        let unborn = die.region(JOURNAL);
        let cut = die.cut(way, moment, Duration::ZERO);
        if cut.counts && early.counts {
            return (die, unborn);
        }
        eprintln!("die {number} was not cut then");
    }
    panic!("no kill came in time: {moment:?}");
}

#[test]
fn a_journal_that_is_gone_or_another_while_the_seed_burns_gives_no_second_seed() {
    let factory = Factory::new();
    let way = factory.open(100);
    let (die, unborn) = cut_at(&factory, &way, Moment::SeedBurns);
    let (other, _) = cut_at(&factory, &way, Moment::SeedBurned);
    let (issued, closed) = factory.counts(LOT);
    let (own, foreign) = (die.region(JOURNAL), other.region(JOURNAL));
    let before = die.region(OTP);
    let erased = vec![0xFF; JOURNAL.size as usize];
    for (what, journal, code) in [
        ("erased", &erased, FailCode::FuseForeign),
        ("from before it was born", &unborn, FailCode::FuseForeign),
        ("of another die", &foreign, FailCode::JournalInvalid),
    ] {
        die.write(JOURNAL, journal);
        for _ in 0..2 {
            let run = die.provision(&way);
            assert_eq!(run.boot.code, Some(text(code)), "{what}: {}", run.console);
            assert_eq!(run.record.code, Some(text(code)), "{what}: {:?}", run.record);
            assert!(die.region(OTP) == before, "{what}: a fuse was burned");
        }
    }
    assert_eq!(factory.counts(LOT), (issued, closed));
    // With its own journal it closes, with the seed that had begun to burn.
    die.write(JOURNAL, &own);
    assert_closed(&die, &die.provision(&way));
    let seed =
        |words: &[u8]| words[4 * Row::DeviceSeed.first_word()..][..4 * Row::DeviceSeed.word_count()].to_vec();
    let (then, now) = (seed(&before), seed(&die.region(OTP)));
    assert!(then.iter().zip(&now).all(|(then, now)| now & !then == 0), "fuses are inverted in flash");
    assert_ne!(then, now, "it had not burned whole");
    assert_closed(&other, &other.provision(&way));
    assert_eq!(factory.counts(LOT), (issued, closed + 2));
}

#[test]
fn an_older_stage1_does_not_run_on_a_die_whose_seed_is_burned() {
    let factory = Factory::new();
    let way = factory.open(100);
    let (die, _) = cut_at(&factory, &way, Moment::SeedBurned);
    let before = die.region(OTP);
    let own = [BOOT_SLOT_A, BOOT_SLOT_B].map(|slot| die.region(slot));
    // Signed by the owner, sealed under the right key, at the floor: only not the one that began.
    let older = Identity { version: Version::new(0, 9, 0), ..identity(1) };
    let stage1 = stage1_of(&factory, &older, &factory.package);
    for slot in [BOOT_SLOT_A, BOOT_SLOT_B] {
        die.write(slot, &stage1);
    }
    let run = die.provision(&way);
    assert_nothing_boots(&run.boot, FailCode::NotClosingImage);
    assert_eq!(run.record.code, Some(text(FailCode::NoBootableSlot)), "{:?}", run.record);
    assert!(die.region(OTP) == before, "a fuse was burned");
    for (slot, bytes) in [BOOT_SLOT_A, BOOT_SLOT_B].into_iter().zip(&own) {
        die.write(slot, bytes);
    }
    assert_closed(&die, &die.provision(&way));
}

/// Puts an entropy source that says what a file holds into dies.
fn with_source(die: Die, file: PathBuf) -> Die {
    die.machine(move |config| config.entropy(Entropy::File(file.clone())))
}

#[test]
fn an_entropy_source_that_is_stuck_is_refused() {
    let factory = Factory::new();
    let way = factory.open(1);
    let die = with_source(factory.die(), "/dev/zero".into());
    let before = die.region(OTP);
    for _ in 0..2 {
        let run = die.provision(&way);
        assert_not_provisioned(&die, &run, &before, "self-test", FailCode::EntropyHealth);
    }
    assert_eq!(factory.counts(LOT), (0, 0), "it asked nobody");
    let die = die.machine(|config| config);
    assert_closed(&die, &die.provision(&way));
}

#[test]
fn two_devices_with_one_predictable_entropy_source_have_no_key_in_common() {
    let factory = Factory::new();
    let way = factory.open(2);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("counter");
    // Every test of health passes a counter, and everybody knows what comes next.
    fs::write(&file, (0..1 << 20).map(|n: u32| (n.wrapping_mul(167) >> 3) as u8).collect::<Vec<u8>>())
        .unwrap();
    let dies = [(); 2].map(|()| with_source(factory.die(), file.clone()));
    for die in &dies {
        assert_closed(die, &die.provision(&way));
    }
    let [a, b] = &dies;
    assert_ne!(a.device_seed().expose(), b.device_seed().expose());
    let (ours, theirs) = (payloads(&a.files).unwrap(), payloads(&b.files).unwrap());
    let compared = compare_blocks(&ours, &theirs);
    assert!(compared.compared.iter().all(|count| *count > 20_000), "{compared:?}");
    assert_eq!(compared.shared, 0, "{compared:?}");
    // Nor does either seed come from the source as it is.
    let source = fs::read(&file).unwrap();
    let seeds: Vec<_> = dies.iter().flat_map(keys_from_seed).collect();
    assert_eq!(find(&source, &seeds), Vec::<String>::new());
}
