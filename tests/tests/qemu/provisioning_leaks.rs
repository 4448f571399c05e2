//! No key and no plaintext of the package lies where it may not, after any step of provisioning and wherever power goes
//! away: both banks of flash, the disk, memory of both worlds, both serial lines.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use emulator::{Machine, Outcome};
use fail_code::FailCode;
use figures::Figure;
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B, DRAM_BASE, DRAM_MIN, OS_SLOT_A, PACKAGE, STAGE0_ROM};
use release::audit::LeakScan;
use serde_json::Value;
use stage1_provision::machine::{Entry, Step};
use station::{Authorise, Event, Patience};
use tests::factory::{LOT, payload};
use tests::leak::{
    Secret, heard, keys_before_birth, keys_from_journal, keys_from_seed, keys_of_package, keys_of_slot,
    normal_ram, secure_ram,
};
use tests::verdict::{assert_closed, story, text};
use tests::{Die, Factory, Firmware, TOKEN, chance, cmdline, expectation};
use xtask::attended::attend;

/// The longest time between two steps.
const WITHIN: Duration = Duration::from_secs(90);
const PAGE: usize = 4096;
const BLOCK: usize = 64 * 1024;

/// A place in which something may lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    SecureRam,
    NormalRam,
    Flash0,
    Flash1,
    Disk,
    Console,
    Link,
}

/// What lay there at one time: pages in which nothing was written are left out.
struct Snapshot {
    after: String,
    /// The journal, by which the device may have gone on since the station heard of a step.
    journal: Vec<Entry>,
    places: Vec<(Place, Vec<u8>)>,
}

impl Snapshot {
    /// Stops the machine and looks everywhere. Secure RAM is what the first of these cores that is at EL3 sees, and is not
    /// among the places if none does.
    fn take(after: &str, die: &Die, machine: &mut Machine, cores: &[usize]) -> Self {
        let secure = cores.iter().find_map(|core| secure_ram(machine, *core));
        let normal = normal_ram(machine, Region::new(DRAM_BASE, DRAM_MIN));
        let mut flash0 = fs::read(die.files.flash0()).unwrap();
        let journal = die.flash().journal().unwrap_or_default();
        // In the clear, and of the same libraries as what comes after it.
        flash0[..STAGE0_ROM.size as usize].fill(0xFF);
        let mut places = vec![
            (Place::NormalRam, compact(&normal)),
            (Place::Flash0, compact(&flash0)),
            (Place::Flash1, compact(&fs::read(die.files.flash1()).unwrap())),
            (Place::Disk, compact(&fs::read(die.files.disk()).unwrap())),
            (Place::Console, machine.console.bytes()),
            (Place::Link, heard(&machine.station().unwrap().bytes())),
        ];
        places.extend(secure.map(|secure| (Place::SecureRam, compact(&secure))));
        Self { after: after.into(), journal: journal.iter().map(|recorded| recorded.entry).collect(), places }
    }

    /// Tells whether the device is between the steps in which it has keys of its store and plaintext.
    fn between(&self, done: Step, next: Step) -> bool {
        self.journal.contains(&Entry::Done(done)) && !self.journal.contains(&Entry::Begun(next))
    }

    fn at(&self, place: Place) -> &[u8] {
        &self.places.iter().find(|(other, _)| *other == place).unwrap().1
    }

    fn has(&self, place: Place) -> bool {
        self.places.iter().any(|(other, bytes)| *other == place && !bytes.is_empty())
    }

    fn holds(&self, place: Place, bytes: &[u8]) -> bool {
        self.at(place).windows(bytes.len()).any(|window| window == bytes)
    }

    /// Looks for what may not be in a place, and whether it would be found there.
    fn look_through(&self, place: Place, scan: &LeakScan, searches: &mut Searches) {
        let bytes = self.at(place);
        let found = scan.scan(bytes);
        searches.found.extend(found.iter().map(|found| format!("{found} in {place:?} after {}", self.after)));
        searches.ran += scan.patterns() as u64;
        if scan.control(bytes) != scan.patterns() {
            searches.found.push(format!("the scan is blind in {place:?} after {}", self.after));
        }
    }
}

/// What was looked for, and found where it may not be.
#[derive(Default)]
struct Searches {
    ran: u64,
    found: Vec<String>,
}

/// Leaves out pages of one value.
fn compact(bytes: &[u8]) -> Vec<u8> {
    let blank = [[0; BLOCK], [0xFF; BLOCK]];
    let blocks =
        bytes.chunks(BLOCK).filter(|block| blank.iter().all(|blank| *block != &blank[..block.len()]));
    let pages = blocks.flat_map(|block| block.chunks(PAGE));
    pages.filter(|page| page.iter().any(|byte| *byte != page[0])).fold(Vec::new(), |mut all, page| {
        all.extend_from_slice(page);
        all
    })
}

fn scan(plain: &[(&str, &[u8])], secrets: &[Secret]) -> LeakScan {
    let secrets: Vec<(&str, &[u8])> =
        secrets.iter().map(|secret| (secret.name.as_str(), secret.bytes.as_slice())).collect();
    LeakScan::new(plain, &secrets).unwrap()
}

/// Powers a device on, and looks everywhere after each step, and at its end.
fn snapshots(die: &Die, way: &dyn Authorise) -> (Vec<Snapshot>, emulator::Report, station::Record) {
    let (tell, told) = channel::<String>();
    let tell: Mutex<Sender<String>> = Mutex::new(tell);
    let watch = |_: &str, event: &Event| {
        let what = match event {
            Event::Ended(step, _) if step != Step::ProveClosed.name() => step.clone(),
            // The stage that asks this is another: what the one before it knew is to be gone.
            Event::Began(step) if step == Step::ProveClosed.name() => "the reset".into(),
            Event::Done(_) => "all".into(),
            _ => return,
        };
        let _ = tell.lock().unwrap().send(what);
    };
    let look = |machine: &mut Machine| {
        let mut taken = Vec::new();
        loop {
            let after = told.recv_timeout(WITHIN).expect("the device goes on");
            if after == "all" {
                break;
            }
            taken.push(Snapshot::take(&after, die, machine, &[0]));
            machine.qmp.execute("cont", Value::Null).unwrap();
        }
        let report = machine.observe(&expectation().within(WITHIN).through_resets()).unwrap();
        // The payload has turned the second core off, which waits at EL3; a stage that refused runs on the first.
        let core = usize::from(report.result != Outcome::Refused);
        taken.push(Snapshot::take("all", die, machine, &[core]));
        (taken, report)
    };
    let patience = Patience { device: WITHIN, ..Patience::default() };
    let attended = die.watch(|machine| attend(machine, "device", way, patience, &watch, look).unwrap());
    (attended.seen.0, attended.seen.1, attended.record)
}

/// A factory whose devices boot the payload, which stays.
fn factory() -> Factory {
    Factory::booting(payload(&format!("{} kiln.payload=stay", cmdline(TOKEN))))
}

/// Everything that never lies outside of secure RAM, before the system is booted.
fn plaintexts(factory: &Factory) -> Vec<(&str, &[u8])> {
    let plain = factory.package.plaintexts.iter();
    plain
        .filter(|(name, _)| !name.contains("secret"))
        .map(|(name, plain)| (*name, plain.as_slice()))
        .collect()
}

#[test]
fn after_every_step_nothing_lies_where_it_may_not() {
    let factory = factory();
    let way = factory.open(1);
    let die = factory.die();
    let (snapshots, report, record) = snapshots(&die, &way);
    assert_eq!(report.result, Outcome::Payload, "{}", story(&report));
    assert_eq!(record.result, station::Outcome::Pass, "{record:?}");
    assert_eq!(factory.counts(LOT), (1, 1));
    let after: Vec<&str> = snapshots.iter().map(|snapshot| snapshot.after.as_str()).collect();
    let mut expected: Vec<&str> = Step::ALL[..8].iter().map(|step| step.name()).collect();
    expected.extend(["the reset", "all"]);
    assert_eq!(after, expected);

    let stage1 = factory.package.release.facts.stage1_measurement;
    let (before_birth, from_seed) = (keys_before_birth(&die, &stage1), keys_from_seed(&die));
    let (boot, of_os_slot) = keys_of_slots(&die);
    let slots: Vec<Secret> = boot.iter().chain(&of_os_slot).map(copy).collect();
    let package = keys_of_package(&factory.package);
    let all = || before_birth.iter().chain(&from_seed).chain(&slots).chain(&package);
    let of = |names: &[&str]| -> Vec<Secret> {
        all().filter(|it| names.contains(&it.name.as_str())).map(copy).collect()
    };
    let everything: Vec<Secret> = all().map(copy).collect();
    assert!(everything.len() > 7 + 7 + 2 + 50, "keys of every image are looked for: {}", everything.len());

    let plain = plaintexts(&factory);
    let everywhere = scan(&plain, &everything);
    let keys = scan(&[], &everything);
    let hidden = scan(&[], &of(&["silicon secret", "die key"]));
    let of_stage1 = scan(
        &[],
        &of(&[
            "silicon secret",
            "die key",
            "content key",
            "stage secret",
            "drbg secret",
            "journal key",
            "alias key",
        ]),
    );
    let content_key = factory.package.content_key.0.expose();
    let noise = factory.package.plaintexts.iter().find(|(name, _)| *name == "initramfs").unwrap();
    let converted = scan(&[("initramfs", &noise.1)], &of(&["customer's secret"]));
    let resealed = scan(&[], &of_os_slot);
    let (mut with_content_key, mut before_re_keying, mut after_re_keying) = (0, 0, 0);
    let mut searches = Searches::default();
    for snapshot in &snapshots {
        let last = snapshot.after == "all";
        for place in [Place::Flash0, Place::Flash1, Place::Disk, Place::Console, Place::Link] {
            snapshot.look_through(place, &everywhere, &mut searches);
        }
        // Once the system runs, its plaintext is in memory: that is what it is for.
        snapshot.look_through(Place::NormalRam, if last { &keys } else { &everywhere }, &mut searches);
        snapshot.look_through(Place::SecureRam, if last { &keys } else { &hidden }, &mut searches);
        match snapshot.after.as_str() {
            "the reset" => snapshot.look_through(Place::SecureRam, &of_stage1, &mut searches),
            _ if last => snapshot.look_through(Place::SecureRam, &converted, &mut searches),
            _ if !snapshot.journal.contains(&Entry::Begun(Step::ReKey)) => {
                snapshot.look_through(Place::SecureRam, &converted, &mut searches);
                before_re_keying += 1;
            }
            // What it sealed its store with is used no more, until it checks all of it.
            _ if snapshot.between(Step::ReKey, Step::CheckAndFuse) => {
                snapshot.look_through(Place::SecureRam, &converted, &mut searches);
                snapshot.look_through(Place::SecureRam, &resealed, &mut searches);
                after_re_keying += 1;
            }
            // By now the device converts or checks, or is between two stages.
            _ => {}
        }
        with_content_key += usize::from(snapshot.holds(Place::SecureRam, content_key));
    }
    assert!(before_re_keying >= 2 && after_re_keying >= 1, "{before_re_keying}, {after_re_keying}");
    // The controls: what is there is found, in each place.
    assert!(with_content_key >= 4, "the content key was in secure RAM after {with_content_key} steps only");
    assert!(!snapshots[0].holds(Place::SecureRam, content_key), "there before it was asked for");
    let first = &snapshots[1];
    assert!(first.holds(Place::SecureRam, &Firmware::get().stage1.bytes[8192..8256]));
    assert!(first.holds(Place::NormalRam, &[0xD0, 0x0D, 0xFE, 0xED]), "the emulator's device tree");
    assert!(first.holds(Place::Flash0, &factory.package.release.stage1[8192..8256]));
    let packaged = &factory.package.release.package;
    assert!(first.holds(Place::Disk, &packaged[packaged.len() - 64..]));
    assert!(first.holds(Place::Console, b"stage1: prove-place"));
    let last = snapshots.last().unwrap();
    assert!(last.holds(Place::Link, &die.chip_id));
    assert!(last.holds(Place::SecureRam, &Firmware::get().stage2.bytes[4096..4160]));
    assert!(last.holds(Place::NormalRam, &noise.1[8192..8256]), "the system's own plaintext");
    Figure::new("device leak scan, every step", "searches", 100_000)
        .ran(searches.ran)
        .violations(&searches.found)
        .note(format!("{} patterns; {} times: 7 places each", everywhere.patterns(), snapshots.len()))
        .report();
}

/// Cuts in all: in short and in long runs.
const CUTS: [usize; 2] = [12, 90];
/// Cuts of one device at most.
const LIVES: usize = 3;
/// What a station hears of a device that is not cut off before it is closed, about.
const EVENTS: u64 = 24;
/// About how long a device takes from one of these to the next.
const BETWEEN: Duration = Duration::from_millis(60);

/// Powers a device on and cuts it off so long after the station has heard so much of it: what lay everywhere then, and
/// whether stage0 was over and with it what it alone may know; `None` if the device was closed by that time.
fn cut(die: &Die, way: &dyn Authorise, events: u64, then: Duration) -> Option<(Snapshot, bool)> {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let watch = |_: &str, event: &Event| {
        let _ = tell.lock().unwrap().send(matches!(event, Event::Done(_)));
    };
    let look = |machine: &mut Machine| {
        for _ in 0..events {
            if told.recv_timeout(WITHIN).expect("the device goes on") {
                return None;
            }
        }
        std::thread::sleep(then);
        let when = format!("a cut {} ms after event {events}", then.as_millis());
        // The second core waits at EL3 from the moment it is on, and has mapped nothing: all memory is where it is.
        let taken = Snapshot::take(&when, die, machine, &[0, 1]);
        let in_time = !die.is_acknowledged();
        let started = machine.resets().last().map_or(0, |reset| machine.console.offset_at(*reset));
        let is_over = ["stage1: ", "stage2: "]
            .iter()
            .any(|line| machine.console.find(line.as_bytes(), started).is_some());
        machine.kill();
        in_time.then_some((taken, is_over))
    };
    let patience = Patience { device: WITHIN, ..Patience::default() };
    die.watch(|machine| attend(machine, "device", way, patience, &watch, look).unwrap()).seen
}

/// Keys that are made anew at each start, and plaintext that is being converted, are in secure RAM while they are needed;
/// they are never anywhere else.
#[test]
fn whenever_power_goes_away_nothing_lies_where_it_may_not() {
    let (mut chance, cuts) = (chance(), figures::scaled(CUTS[0], CUTS[1]));
    // What it boots stays: a device that has come to its end is still there to be looked at.
    let factory = factory();
    let way = factory.open(u32::MAX);
    let (plain, package) = (plaintexts(&factory), keys_of_package(&factory.package));
    let content_key = factory.package.content_key.0.expose();
    let mut searches = Searches::default();
    let (mut dies, mut counted, mut secure, mut with_content_key) = (0, 0, 0, 0);
    let mut journals = BTreeSet::new();
    while counted < cuts {
        let die = factory.die();
        dies += 1;
        assert!(dies as usize <= 4 * cuts, "of {dies} dies only {counted} were cut off in time");
        let mut taken = Vec::new();
        for _ in 0..LIVES {
            let then = chance.next() % BETWEEN.as_millis() as u64;
            let Some(seen) = cut(&die, &way, chance.next() % EVENTS, Duration::from_millis(then)) else {
                break;
            };
            taken.push(seen);
        }
        if !die.is_acknowledged() {
            assert_closed(&die, &die.provision(&way));
        }
        let mut secrets = keys_before_birth(&die, &factory.package.release.facts.stage1_measurement);
        secrets.extend(keys_from_seed(&die));
        let (boot, os) = keys_of_slots(&die);
        secrets.extend(boot.into_iter().chain(os));
        secrets.extend(package.iter().map(copy));
        let everywhere = scan(&plain, &secrets);
        secrets.retain(|secret| ["silicon secret", "die key"].contains(&secret.name.as_str()));
        let hidden = scan(&[], &secrets);
        for (snapshot, stage0_is_over) in &taken {
            for place in
                [Place::NormalRam, Place::Flash0, Place::Flash1, Place::Disk, Place::Console, Place::Link]
            {
                snapshot.look_through(place, &everywhere, &mut searches);
            }
            counted += 1;
            if snapshot.has(Place::SecureRam) {
                secure += 1;
                with_content_key += usize::from(snapshot.holds(Place::SecureRam, content_key));
                if *stage0_is_over {
                    snapshot.look_through(Place::SecureRam, &hidden, &mut searches);
                }
            }
            journals.insert(snapshot.journal.len());
        }
    }
    // The controls: the cuts came at different times, and to a device that had what is looked for.
    assert!(2 * secure >= counted, "at {secure} of {counted} cuts secure RAM was seen");
    assert!(with_content_key >= 1, "the content key was in secure RAM at none of {secure} cuts");
    assert!(journals.len() >= 3, "all cuts came at {journals:?} entries");
    let journals = journals.len();
    Figure::new("device leak scan, random cuts", "searches", 1000 * cuts as u64)
        .ran(searches.ran)
        .violations(&searches.found)
        .note(format!(
            "{counted} cuts of {dies} dies, at {journals} lengths of the journal; secure RAM at {secure} of them"
        ))
        .report();
}

/// The keys of every image in the slots of a closed device: of the boot slots, and of the first OS slot.
fn keys_of_slots(die: &Die) -> (Vec<Secret>, Vec<Secret>) {
    let boot_key = die.secrets().boot_key();
    let boot = [BOOT_SLOT_A, BOOT_SLOT_B].map(|slot| keys_of_slot(&die.region(slot), &boot_key));
    let os = die.files.read_disk(OS_SLOT_A.part(0, 1 << 20)).unwrap();
    (boot.into_iter().flatten().collect(), keys_of_slot(&os, &die.secrets().os_key()))
}

fn copy(secret: &Secret) -> Secret {
    Secret { name: secret.name.clone(), bytes: secret.bytes.clone() }
}

#[test]
fn a_device_that_stops_with_the_content_key_in_its_hands_forgets_it() {
    let factory = factory();
    let way = factory.open(1);
    let die = factory.die();
    // The last chunk of the package is the last that re-keying comes to.
    let mut package = factory.package.release.package.clone();
    *package.last_mut().unwrap() ^= 1;
    die.files.write_disk("a damaged package", PACKAGE, &package).unwrap();
    let (snapshots, report, record) = snapshots(&die, &way);
    assert_eq!(report.code, Some(text(FailCode::ChunkTag)), "{}", story(&report));
    assert_eq!(record.code, report.code, "{record:?}");
    let content_key = factory.package.content_key.0.expose();
    let had = snapshots.iter().filter(|snapshot| snapshot.holds(Place::SecureRam, content_key)).count();
    assert!(had >= 1, "the control: it had the key after it had asked");
    let last = snapshots.last().unwrap();
    assert_eq!(last.after, "all");
    let stage1 = factory.package.release.facts.stage1_measurement;
    let mut secrets = keys_before_birth(&die, &stage1);
    secrets.extend(keys_from_journal(&die, &stage1));
    secrets.extend(keys_of_package(&factory.package));
    assert!(secrets.len() > 7 + 6 + 1);
    let mut searches = Searches::default();
    let noise = factory.package.plaintexts.iter().find(|(name, _)| *name == "initramfs").unwrap();
    let scan = scan(&[("initramfs", &noise.1)], &secrets);
    for place in [
        Place::SecureRam,
        Place::NormalRam,
        Place::Flash0,
        Place::Flash1,
        Place::Disk,
        Place::Console,
        Place::Link,
    ] {
        last.look_through(place, &scan, &mut searches);
    }
    assert_eq!(searches.found, Vec::<String>::new());
    assert!(
        last.holds(Place::SecureRam, &Firmware::get().stage1.bytes[8192..8256]),
        "the stage is still there"
    );

    // With the package as it was it goes on.
    die.files.write_disk("the package", PACKAGE, &factory.package.release.package).unwrap();
    let run = die.provision(&way);
    assert_closed(&die, &run);
    assert_eq!(factory.counts(LOT), (1, 1));
}
