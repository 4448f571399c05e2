//! The factory story in QEMU: a blank die becomes a closed device, whose keys nobody else has ever held.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use boot_crypto::{device_root, die_secret, identity_key};
use boot_info::closing::ClosingState;
use emulator::Outcome;
use lifecycle::{Fuses, Lifecycle, OtpImage, WORDS};
use memory_map::Region;
use memory_map::qemu_virt::{
    BOOT_SLOT_A, BOOT_SLOT_B, BOOT_STAGING, CLOSING_STATE, JOURNAL, OTP_WORDS, PACKAGE,
};
use release::audit::LeakScan;
use release::{Compression, OsParts};
use sealed_image::HEADER_BYTES;
use stage1_provision::machine::{Entry, Step};
use station::{Transcript, Way};
use store::Slot;
use tests::factory::{LOT, Package, Run};
use tests::leak::{Secret, heard, keys_before_birth, keys_from_seed, keys_of_package, keys_of_slot};
use tests::verdict::{assert_boots, assert_closed, story};
use tests::{Die, Factory, Firmware, TOKEN};
use xtask::flash::identity;

/// What the journal of a device holds that was never interrupted.
const JOURNALLED: [Entry; 18] = [
    Entry::Begun(Step::ProvePlace),
    Entry::Done(Step::ProvePlace),
    Entry::Begun(Step::Ask),
    Entry::Session,
    Entry::Ticket,
    Entry::Done(Step::Ask),
    Entry::Begun(Step::BeBorn),
    Entry::Seed,
    Entry::Done(Step::BeBorn),
    // Done only once everything was read back and verified.
    Entry::Begun(Step::ReKey),
    Entry::Done(Step::ReKey),
    Entry::Begun(Step::Identity),
    Entry::Receipt,
    Entry::Done(Step::Identity),
    Entry::Begun(Step::Replace),
    Entry::Done(Step::Replace),
    Entry::Begun(Step::CheckAndFuse),
    Entry::Done(Step::CheckAndFuse),
];

fn entries(run: &Run) -> Vec<Entry> {
    run.journal.iter().map(|recorded| recorded.entry).collect()
}

/// Asserts that nothing of the factory is left: journal, package, stage1, the waiting copy of stage2.
fn assert_cleared_away(die: &Die, package: &Package) {
    for (what, region) in [("journal", JOURNAL), ("staging", BOOT_STAGING)] {
        assert!(die.region(region).iter().all(|byte| *byte == 0xFF), "the {what} is not erased");
    }
    let left = die.files.read_disk(PACKAGE).unwrap();
    assert!(left.iter().all(|byte| *byte == 0), "the package is not cleared");
    let stage1 = &package.release.stage1;
    let slots = [BOOT_SLOT_A, BOOT_SLOT_B].map(|slot| die.region(slot.part(0, stage1.len() as u64)));
    for slot in &slots {
        assert!(slot != stage1, "stage1 is still there");
        assert!(slot.iter().any(|byte| *byte != 0xFF), "a boot slot is empty");
    }
    assert_ne!(slots[0], slots[1], "both copies of stage2 are under one data key");
    let state = die.region(CLOSING_STATE.part(0, ClosingState::SIZE as u64));
    assert!(ClosingState::parse(state.first_chunk().unwrap()).unwrap().acknowledged);
}

#[test]
fn a_blank_die_becomes_a_closed_device_that_boots_again() {
    let factory = Factory::new();
    let way = factory.open(1);
    let die = Die::blank(&factory.vendor);
    let preprovisioned = release::preprovision(&die.files, &factory.package.release, Default::default());
    assert_eq!(preprovisioned.unwrap().facts.lifecycle, Lifecycle::Secured);
    let run = die.provision(&way);
    assert_closed(&die, &run);
    assert_boots(&run.boot, Slot::A, Slot::A);
    assert_eq!(run.resets, 1, "one reset, into production");
    assert_eq!(factory.counts(LOT), (1, 1));
    assert_cleared_away(&die, &factory.package);

    let steps: Vec<&str> = run.record.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(steps, Step::ALL.map(Step::name));
    assert!(run.record.steps.iter().all(|step| step.end_ms.is_some()), "{:?}", run.record);
    let [tested, rest @ ..] = &run.record.steps[..] else { panic!("no steps") };
    assert!(tested.bytes >= 1 << 20, "the self-test went through {} bytes of memory", tested.bytes);
    let words =
        ["tested: timer", "6 known answers", "memory", "flash of 67108864 bytes", "1024 samples of entropy"];
    assert!(words.iter().all(|words| run.console.contains(words)), "{}", run.console);
    let converted: u64 = rest.iter().map(|step| step.bytes).sum();
    let plain: u64 = factory.package.plaintexts.iter().map(|(_, plain)| plain.len() as u64).sum();
    assert!(converted > plain, "{converted} bytes re-keyed, of {plain} and a second copy of stage2");
    let held = release::audit::rekeyed_bytes(&die.files, &[&factory.package.release.package]).unwrap();
    assert!(held > plain, "{held} bytes are under keys of its own, of {plain} and a second copy of stage2");

    assert_identity(&factory, &die, &run);
    assert_station_learns_nothing(&factory.package, &die, &run.transcript);

    // Without a station, as for the rest of its life; and the second time it asks nobody anything.
    let again = die.boot();
    assert_boots(&again, Slot::A, Slot::A);
    assert_eq!(again.measurements, run.boot.measurements);
}

/// Asserts that the certificate request and the certificates are what openssl takes, and of the key that the die
/// derives.
fn assert_identity(factory: &Factory, die: &Die, run: &Run) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str| {
        fs::write(folder.path().join(name), content).unwrap();
    };
    let csr = identity::csr_pem(&run.transcript).unwrap().expect("a certificate request");
    let chain = identity::certificate_chain_pem(&die.files).unwrap().expect("certificates on the device");
    let end = "-----END CERTIFICATE-----\n";
    let (leaf, issuers) = chain.split_at(chain.find(end).unwrap() + end.len());
    assert_eq!(issuers, factory.authority.device_ca_pem());
    for (name, content) in [("csr.pem", csr.as_str()), ("leaf.pem", leaf), ("ca.pem", issuers)] {
        file(name, content);
    }
    let request = ["req", "-verify", "-noout", "-in", "csr.pem"];
    assert!(openssl(folder.path(), &request), "openssl refuses the certificate request");
    let verify = ["verify", "-x509_strict", "-CAfile", "ca.pem", "leaf.pem"];
    assert!(openssl(folder.path(), &verify), "openssl refuses the certificates");

    // What is not right is refused by the same commands.
    let flipped = |pem: &str| {
        let at = pem.len() / 2;
        let other = if pem.as_bytes()[at] == b'A' { "B" } else { "A" };
        format!("{}{other}{}", &pem[..at], &pem[at + 1..])
    };
    file("csr.pem", &flipped(&csr));
    assert!(!openssl(folder.path(), &request), "openssl takes anything for a certificate request");
    file("leaf.pem", &flipped(leaf));
    assert!(!openssl(folder.path(), &verify), "openssl takes anything for a certificate");

    let root = device_root(&die_secret(die.fuses().silicon_secret()), &die.device_seed());
    let public = identity_key(&root, &die.chip_id).public();
    let told = run.transcript.bytes(Way::ToAuthority);
    assert!(told.windows(64).any(|bytes| bytes == public), "the request is for another key");
    let certified = run.transcript.bytes(Way::FromAuthority);
    assert!(certified.windows(64).any(|bytes| bytes == public), "the certificate is for another key");
}

fn openssl(folder: &Path, arguments: &[&str]) -> bool {
    Command::new("openssl").args(arguments).current_dir(folder).output().expect("openssl").status.success()
}

/// Asserts that whoever owns the station has learnt no key and no plaintext.
fn assert_station_learns_nothing(package: &Package, die: &Die, transcript: &Transcript) {
    let mut secrets = keys_of_package(package);
    secrets.extend(keys_before_birth(die, &package.release.facts.stage1_measurement));
    secrets.extend(keys_from_seed(die));
    for slot in [BOOT_SLOT_A, BOOT_SLOT_B] {
        secrets.extend(keys_of_slot(&die.region(slot), &die.secrets().boot_key()));
    }
    assert!(secrets.len() > 2 + 7 + 7, "keys of the slots are among them");
    let scan = scan(package, &secrets);
    let ways = [Way::FromDevice, Way::ToDevice, Way::FromAuthority, Way::ToAuthority];
    for way in ways {
        let bytes = match way {
            Way::FromDevice | Way::ToDevice => heard(&transcript.bytes(way)),
            Way::FromAuthority | Way::ToAuthority => transcript.bytes(way),
        };
        assert!(bytes.len() > 1000, "{way:?} carried {} bytes", bytes.len());
        assert_eq!(scan.scan(&bytes), [], "{way:?}");
        assert_eq!(scan.control(&bytes), scan.patterns(), "the scan is blind in {way:?}");
    }
    assert_eq!(scan.scan(transcript.to_text().as_bytes()), []);
}

fn scan(package: &Package, secrets: &[Secret]) -> LeakScan {
    let payloads: Vec<(&str, &[u8])> =
        package.plaintexts.iter().map(|(name, plain)| (*name, plain.as_slice())).collect();
    let payloads: Vec<_> = payloads.into_iter().filter(|(name, _)| !name.contains("secret")).collect();
    let secrets: Vec<(&str, &[u8])> =
        secrets.iter().map(|secret| (secret.name.as_str(), secret.bytes.as_slice())).collect();
    LeakScan::new(&payloads, &secrets).unwrap()
}

#[test]
fn the_store_is_re_keyed_and_read_back_then_the_stage_replaced_then_fuses_burned_the_lifecycle_last() {
    let factory = Factory::new();
    let way = factory.open(1);
    let die = factory.die();
    let over = AtomicBool::new(false);
    let (run, looked) = std::thread::scope(|scope| {
        let looking = scope.spawn(|| look_until(&die, &factory.package, &over));
        let run = {
            let _over = Over(&over);
            die.provision(&way)
        };
        (run, looking.join().unwrap())
    });
    assert_closed(&die, &run);
    assert_eq!(entries(&run), JOURNALLED);
    eprintln!("{looked:?}");
    // Some of it lasts for less than a look.
    assert!(looked.times > 100 && looked.journals.len() > JOURNALLED.len() / 2, "{looked:?}");
    assert!(looked.replaced > 0 && looked.burning > 0 && looked.closed > 0, "{looked:?}");
}

/// Tells that provisioning is over when it is dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// How often what was seen in the flash of a device while it provisioned itself.
#[derive(Debug, Default)]
struct Looked {
    times: usize,
    replaced: usize,
    burning: usize,
    closed: usize,
    journals: BTreeSet<usize>,
}

/// Looks into the flash of a device again and again, and asserts that nothing is there before what has to be there
/// first. What comes later in the order is always read first.
fn look_until(die: &Die, package: &Package, over: &AtomicBool) -> Looked {
    let mut flash = die.flash();
    let fuse_words = OTP_WORDS.part(0, 4 * WORDS as u64);
    let header = |slot: Region| slot.part(0, HEADER_BYTES as u64);
    let stage1 = package.release.stage1[..HEADER_BYTES].to_vec();
    let secured = flash.region(fuse_words);
    let policy = &package.release.facts.policy;
    let mut looked = Looked::default();
    let mut before = OtpImage::from_flash(&secured);
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_micros(20));
        let words = flash.region(fuse_words);
        let (slot_a, slot_b) = (flash.region(header(BOOT_SLOT_A)), flash.region(header(BOOT_SLOT_B)));
        looked.times += 1;
        let otp = OtpImage::from_flash(&words);
        let mut bits = before.words().iter().zip(otp.words());
        assert!(bits.all(|(before, now)| before & !now == 0), "a burned bit is gone");
        before = otp.clone();
        if Fuses::read_lifecycle(&otp) == Ok(Lifecycle::Production) {
            let fuses = Fuses::read(&otp).expect("all other rows are whole by then");
            assert!(fuses.device_seed().is_some());
            assert_eq!(fuses.closing_measurement(), Some(&policy.closing_measurement));
            let floors = fuses.floors()[1..].iter().zip(policy.production_floors);
            assert!(floors.clone().count() > 3 && floors.clone().all(|(is, must)| *is == u32::from(must)));
            looked.closed += 1;
            continue;
        }
        assert_eq!(slot_b, stage1, "the backup slot holds stage1 until the device is closed");
        // An entry that is being written counts as none.
        let Some(journal) = flash.journal() else { continue };
        looked.journals.insert(journal.len());
        let has = |entry| journal.iter().any(|recorded| recorded.entry == entry);
        if slot_a != stage1 {
            assert!(has(Entry::Done(Step::ReKey)) && has(Entry::Receipt) && has(Entry::Begun(Step::Replace)));
            looked.replaced += 1;
        }
        if words != secured {
            assert!(has(Entry::Done(Step::Replace)) && has(Entry::Begun(Step::CheckAndFuse)));
            looked.burning += 1;
        }
    }
    looked
}

#[test]
fn a_device_with_debians_linux_and_two_cores_closes_and_reboots() {
    let fetched = |name| {
        let path =
            std::env::var_os(name).expect("Debian's kernel and busybox: `cargo xtask test` fetches them");
        fs::read(path).unwrap()
    };
    let factory = Factory::booting(OsParts {
        kernel: fetched("KILN_KERNEL"),
        device_tree: Firmware::get().device_tree.clone(),
        initramfs: Some(xtask::initramfs::build(&fetched("KILN_BUSYBOX"), TOKEN).unwrap()),
        cmdline: "earlycon=pl011,0x9000000 console=ttyAMA0 panic=-1".into(),
        compression: Compression::None,
        places: release::OsPlaces::default(),
    });
    let die = factory.die().machine(|config| config.cores(2));
    let run = die.provision(&factory.open(1));
    assert_eq!(run.record.result, station::Outcome::Pass, "{:?}\n{}", run.record, run.console);
    assert_eq!((die.lifecycle(), factory.counts(LOT)), (Lifecycle::Production, (1, 1)));
    let again = die.boot();
    for boot in [&run.boot, &again] {
        assert_eq!(boot.result, Outcome::LinuxUserspace, "{}", story(boot));
        assert_eq!((boot.token_matched, boot.cpus_online), (Some(true), Some(2)), "{}", story(boot));
        let measured: Vec<&str> = boot.measurements.iter().map(|it| it.kind.as_str()).collect();
        assert_eq!(measured, ["stage2", "bundle", "kernel", "device-tree", "initramfs"]);
    }
    assert_eq!(run.boot.measurements, again.measurements);
}
