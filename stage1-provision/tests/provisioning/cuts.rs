//! Power cuts, all of them: before, during and after every operation of flash, disk and fuses of a whole provisioning, in
//! every way that the models know, and what comes of the device when power is back.
//!
//! A provisioning runs once and its operations are kept. Then the device is taken through them one by one; before each, a
//! copy of it fails in the middle of that operation, and the shipped stage carries on from what the cut has left. What one
//! cut leaves counts once: states are told apart by the digest of flash, disk and fuses, unstable bits included.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};

use boot_crypto::host::remembering;
use boot_crypto::{Digest, Sha256};
use fail_code::FailCode;
use figures::Figure;
use lifecycle::Lifecycle;
use lifecycle::burn::finish_closing;
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B, BOOT_STAGING};
use release::SiliconVendor;
use release::audit::LeakScan;
use sim::{Noise, Operation, Source, Tear};
use stage1_provision::End;

use crate::device::Device;
use crate::judge::{changed, closed, leaked_since, leaks, nothing_leaked};
use crate::lot::{Lot, small_lot};
use crate::stage0;
use sim::authority::{Book, Desk};

/// The ways in which power fails during an operation.
const DURING: [Tear; 4] = [Tear::Some, Tear::Most, Tear::Disordered, Tear::Unstable];
/// The ways in which one bit of an operation is left between done and not done. There are as many such bits as an operation
/// changes: of these only some are tried.
const ONE_BIT: [Tear; 2] = [Tear::Weak, Tear::Touched];
/// How many of them in each of the two ways.
const BITS: u64 = 3;
/// Distinct cuts at one operation at most.
const AT_ONE: usize = 64;
/// After so many tries without a new state an operation has no more to show.
const TRIES: u64 = 24;
/// Power-ons after a cut: a bit that reads otherwise each time may refuse some of them.
const POWER_ONS: usize = 40;
/// As many power-ons are nothing to tell of.
const FEW: usize = 8;

/// Whoever takes a device through its factory, and what he did.
struct Run {
    lot: Rc<Lot>,
    desk: Desk,
    before: Device,
    operations: Vec<Operation>,
    /// What the authority's book held from an operation on.
    books: Vec<(usize, Book)>,
    end: End,
}

impl Run {
    /// Powers a device on once and keeps what it does.
    fn of(lot: &Rc<Lot>, before: Device, desk: Desk) -> Result<Self, FailCode> {
        let mut device = before.copy();
        let mut books = vec![(0, desk.book())];
        let kept = Rc::new(std::cell::RefCell::new(Vec::new()));
        device.power.record();
        let (power, answering, keeping) = (device.power.clone(), desk.clone(), kept.clone());
        let station = Box::new(move |frame: &_| {
            let answer = answering.answer(frame);
            keeping.borrow_mut().push((power.operations() as usize, answering.book()));
            answer.into_iter().collect()
        });
        let handoff = stage0::try_boot(&mut device)?;
        let end = device.run(handoff, station).end;
        let operations = device.power.recorded();
        books.append(&mut kept.borrow_mut());
        Ok(Self { lot: lot.clone(), desk, before, operations, books, end })
    }

    fn book(&self, operation: usize) -> &Book {
        let book = self.books.iter().rfind(|(from, _)| *from <= operation);
        &book.expect("there is one from the start on").1
    }
}

/// A device after a power cut.
struct Cut {
    device: Device,
    /// What tells it from the device before the operation.
    digest: Digest,
}

/// Lets power fail during an operation.
fn cut(before: &Device, operation: &Operation, tear: Tear, seed: u64) -> Cut {
    let mut device = before.copy();
    device.power.cut_with(0, tear, seed);
    assert!(!device.repeat(operation), "power does not fail");
    device.restart();
    device.devices.entropy = Source::new(seed ^ 0x5EED);
    let digest = difference(before, &device);
    Cut { device, digest }
}

/// Digest of all in which two devices differ.
fn difference(a: &Device, b: &Device) -> Digest {
    let mut digest = Sha256::new();
    for (part, (a, b)) in (0_u8..).zip(a.storage().into_iter().zip(b.storage())) {
        for pages in changed(a, b) {
            digest.update(&[part]);
            digest.update(&(pages.start as u64).to_le_bytes());
            digest.update(&(pages.end as u64).to_le_bytes());
            digest.update(&b[pages]);
        }
    }
    b.otp.0.contents().iter().for_each(|word| digest.update(&word.to_le_bytes()));
    b.otp.0.unstable().for_each(|word| digest.update(&(word as u64).to_le_bytes()));
    b.flash.bank.inner.unstable().for_each(|at| digest.update(&at.to_le_bytes()));
    digest.finish()
}

/// Powers the device on until it is closed. Returns how often that took.
fn carry_on(device: &mut Device, desk: &Desk) -> Result<usize, String> {
    let mut last = String::new();
    for power_on in 1..=POWER_ONS {
        if device.lifecycle() == Ok(Lifecycle::Production) {
            return Ok(power_on);
        }
        match stage0::try_boot(device) {
            Err(code) => last = format!("stage0: {code}"),
            Ok(handoff) => {
                let cycle = device.run(handoff, desk.station());
                if cycle.end == End::Closed {
                    return Ok(power_on);
                }
                last = format!("{:?}: {}", cycle.end, cycle.console);
            }
        }
        // Only what reads otherwise each time may end otherwise the next time.
        let unstable = device.flash.bank.inner.unstable().count() + device.otp.0.unstable().count();
        if unstable == 0 {
            return Err(last);
        }
    }
    Err(last)
}

/// Looks for what must not be in the clear.
struct Clear<'a> {
    scan: LeakScan,
    /// The device as it comes to the factory, in which nothing is.
    origin: &'a Device,
}

impl<'a> Clear<'a> {
    fn new(run: &'a Run) -> Self {
        let scan = leaks(&run.lot, &[]);
        nothing_leaked(&run.before, &scan);
        Self { scan, origin: &run.before }
    }

    /// Looks at all that changed since.
    fn of(&self, device: &Device) -> Result<(), String> {
        let found = leaked_since(self.origin, device, &self.scan);
        if found.is_empty() { Ok(()) } else { Err(format!("in the clear: {found:?}")) }
    }
}

/// Carries on after a cut, and holds every promise against the device that comes of it. Returns how many power-ons it took.
fn judge(cut: &mut Device, run: &Run, operation: usize, clear: &Clear<'_>) -> Result<usize, String> {
    let desk = run.desk.with_book(run.book(operation));
    let known = desk.book();
    clear.of(cut)?;
    let burned = cut.otp.0.contents().to_vec();
    let power_ons = carry_on(cut, &desk)?;
    // As stage2 does before it clears anything away.
    finish_closing(&mut cut.otp).map_err(|error| format!("stage2: {error:?}"))?;
    let judged =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| closed(cut, &run.lot, desk.install())));
    judged.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        format!("closed, but not as it should be: {}", text.unwrap_or_default())
    })?;
    clear.of(cut)?;
    let book = desk.book();
    if book.tickets.len() != 1 || book.csrs.len() != 1 {
        return Err(format!("{} tickets, {} certificate requests", book.tickets.len(), book.csrs.len()));
    }
    if known.tickets.iter().any(|(request, ticket)| book.tickets.get(request) != Some(ticket)) {
        return Err("the ticket is another one than before".into());
    }
    if known.csrs.iter().any(|(install, csr)| book.csrs.get(install) != Some(csr)) {
        return Err("the certificate request is another one than before".into());
    }
    if cut.otp.0.contents().iter().zip(&burned).any(|(after, before)| before & !after != 0) {
        return Err("a fuse is not burned any more".into());
    }
    let weak: Vec<usize> = cut.otp.0.unstable().collect();
    if !weak.is_empty() {
        return Err(format!("fuse words {weak:?} are burned in part"));
    }
    Ok(power_ons)
}

/// What a worker has done.
#[derive(Default)]
struct Done {
    cuts: usize,
    by_mode: BTreeMap<String, usize>,
    by_part: BTreeMap<&'static str, usize>,
    most_power_ons: usize,
    /// Cuts that took more power-ons than [`FEW`].
    slow: usize,
    /// First cuts that no second one follows: the die was closed, or its first power-on came to nothing.
    without_second: [usize; 2],
    violations: Vec<String>,
}

impl Done {
    fn count(&mut self, tear: Tear, operation: &Operation) {
        self.cuts += 1;
        *self.by_mode.entry(format!("{tear:?}").to_lowercase()).or_default() += 1;
        *self.by_part.entry(part(operation)).or_default() += 1;
    }

    fn took(&mut self, power_ons: usize) {
        self.most_power_ons = self.most_power_ons.max(power_ons);
        self.slow += usize::from(power_ons > FEW);
    }

    fn add(&mut self, other: Self) {
        self.cuts += other.cuts;
        other.by_mode.into_iter().for_each(|(mode, cuts)| *self.by_mode.entry(mode).or_default() += cuts);
        other.by_part.into_iter().for_each(|(part, cuts)| *self.by_part.entry(part).or_default() += cuts);
        self.most_power_ons = self.most_power_ons.max(other.most_power_ons);
        self.slow += other.slow;
        self.without_second.iter_mut().zip(other.without_second).for_each(|(all, these)| *all += these);
        self.violations.extend(other.violations);
    }

    fn report(&self, rig: &str, due: u64, more: &str) {
        let list = |counts: &mut dyn Iterator<Item = (String, usize)>| {
            counts.map(|(what, cuts)| format!("{cuts} {what}")).collect::<Vec<_>>().join(", ")
        };
        let modes = list(&mut self.by_mode.iter().map(|(mode, cuts)| (mode.clone(), *cuts)));
        let parts = list(&mut self.by_part.iter().map(|(part, cuts)| ((*part).to_owned(), *cuts)));
        Figure::new(rig, "distinct cuts", due)
            .ran(self.cuts as u64)
            .violations(&self.violations)
            .note(format!(
                "{modes}; {parts}; at most {} power-ons to close, more than {FEW} after {} cuts{more}",
                self.most_power_ons, self.slow
            ))
            .report();
    }
}

fn part(operation: &Operation) -> &'static str {
    match operation {
        Operation::Program { .. } => "at a program",
        Operation::Erase { .. } => "at an erase",
        Operation::FlushNor | Operation::FlushDisk => "at a flush",
        Operation::Sector { .. } => "at a sector",
        Operation::Burn { .. } => "at a burn",
    }
}

/// Runs `work` for each worker, on all cores.
fn on_all_cores(work: impl Fn(usize, usize) -> Done + Sync) -> Done {
    let workers = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let mut all = Done::default();
    std::thread::scope(|scope| {
        let work = &work;
        let running: Vec<_> =
            (0..workers).map(|worker| scope.spawn(move || remembering(|| work(worker, workers)))).collect();
        running.into_iter().for_each(|worker| all.add(worker.join().unwrap()));
    });
    all
}

fn first_run() -> Run {
    let lot = Rc::new(small_lot());
    let device = Device::new(&lot, &SiliconVendor::found().unwrap(), 1, 1);
    let desk = lot.desk(&device);
    let run = Run::of(&lot, device, desk).unwrap();
    assert_eq!(run.end, End::Closed);
    run
}

/// Cuts a run at those of its operations that no other worker has come to: `next` is the first of those.
fn cut_all(run: &Run, next: &AtomicUsize) -> Done {
    let clear = Clear::new(run);
    let mut done = Done::default();
    let mut device = run.before.copy();
    device.power.record();
    for (number, operation) in run.operations.iter().enumerate() {
        if next.compare_exchange(number, number + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let mut seen = HashSet::new();
            let (mut seed, mut tries) = (0, 0);
            let one_bit = ONE_BIT.into_iter().flat_map(|tear| (0..BITS).map(move |seed| (tear, seed)));
            let before = std::iter::once((Tear::Nothing, 0)).chain(one_bit);
            let during = std::iter::from_fn(|| {
                seed += 1;
                Some((DURING[seed as usize % DURING.len()], seed))
            });
            for (tear, seed) in before.chain(during) {
                let mut noise = Noise(number as u64);
                let mut left = cut(&device, operation, tear, noise.next() ^ seed);
                if !seen.insert(left.digest) {
                    tries += 1;
                    if tries > TRIES {
                        break;
                    }
                    continue;
                }
                tries = 0;
                match judge(&mut left.device, run, number, &clear) {
                    Ok(power_ons) => done.took(power_ons),
                    Err(why) => done
                        .violations
                        .push(format!("{tear:?} at {number}, seed {seed}, {operation:?}: {why}")),
                }
                done.count(tear, operation);
                if seen.len() >= AT_ONE {
                    break;
                }
            }
        }
        assert!(device.repeat(operation));
    }
    // After the last one nothing is left to do.
    closed(&device, &run.lot, run.desk.install());
    done
}

#[test]
fn whatever_a_power_cut_leaves_the_next_start_makes_good() {
    let next = AtomicUsize::new(0);
    let done = on_all_cores(|_, _| cut_all(&first_run(), &next));
    done.report("power cuts, every operation", 50_000, "");
}

/// The control: without a whole stage1 in either slot a device is not carried on.
#[test]
fn a_device_that_has_lost_its_stage_is_seen() {
    let run = first_run();
    let mut device = run.before.copy();
    for (slot, is_lost) in [(BOOT_SLOT_A, false), (BOOT_SLOT_B, true)] {
        device.change_flash(slot, |bytes| bytes[5000] ^= 1);
        let carried_on = carry_on(&mut device.copy(), &run.desk);
        assert_eq!(carried_on.is_err(), is_lost, "{carried_on:?}");
        assert!(!is_lost || carried_on.unwrap_err().starts_with("stage0: K0100 no-bootable-slot"));
    }
}

/// The control: what is in the clear after a cut is seen, wherever it lies, and across the edge of what changed.
#[test]
fn plaintext_that_a_cut_leaves_is_seen() {
    let run = first_run();
    let clear = Clear::new(&run);
    clear.of(&run.before).unwrap();
    let plain = &run.lot.plaintexts[0].1[..64];
    for at in [0, 100, 4096 - 1, 4096 - 32, 8192 - 64] {
        let mut device = run.before.copy();
        device.change_flash(BOOT_STAGING, |bytes| bytes[at..at + plain.len()].copy_from_slice(plain));
        let found = clear.of(&device).unwrap_err();
        assert!(found.starts_with("in the clear"), "at {at}: {found}");
    }
}

/// First cuts of the second rig, in short and in long runs, and second cuts after each.
const FIRST: [usize; 2] = [60, 2_000];
const SECOND: usize = 10;

/// Cuts at random operations, and again at random operations of the run that makes the first cut good.
fn cut_twice(run: &Run, worker: usize, workers: usize) -> Done {
    let clear = Clear::new(run);
    let mut done = Done::default();
    let mut seen = HashSet::new();
    let first_cuts = figures::scaled(FIRST[0], FIRST[1]);
    for number in (worker..first_cuts).step_by(workers) {
        let mut noise = Noise(0xC0FFEE + number as u64);
        let mut chance = move |below: usize| (noise.next() % below as u64) as usize;
        let at = chance(run.operations.len());
        let mut device = run.before.copy();
        device.power.record();
        assert!(run.operations[..at].iter().all(|operation| device.repeat(operation)));
        let (tear, seed) = (Tear::ALL[chance(Tear::ALL.len())], chance(1 << 30) as u64);
        let first = cut(&device, &run.operations[at], tear, seed);
        let story = format!("{tear:?} at {at}, seed {seed}, {:?}", run.operations[at]);
        if first.device.lifecycle() == Ok(Lifecycle::Production) {
            done.without_second[0] += 1;
            continue;
        }
        let desk = run.desk.with_book(run.book(at));
        let mut alone = first.device.copy();
        let Ok(second) = Run::of(&run.lot, first.device, desk.clone()) else {
            done.without_second[1] += 1;
            if let Err(why) = carry_on(&mut alone, &desk) {
                done.violations.push(format!("{story}: {why}"));
            }
            continue;
        };
        let mut places: Vec<usize> = (0..SECOND).map(|_| chance(second.operations.len())).collect();
        places.sort_unstable();
        places.dedup();
        let (mut device, mut reached) = (second.before.copy(), 0);
        device.power.record();
        for at in places {
            assert!(second.operations[reached..at].iter().all(|operation| device.repeat(operation)));
            reached = at;
            let (tear, seed) = (Tear::ALL[chance(Tear::ALL.len())], chance(1 << 30) as u64);
            let mut left = cut(&device, &second.operations[at], tear, seed);
            if !seen.insert((number, at, left.digest)) {
                continue;
            }
            match judge(&mut left.device, &second, at, &clear) {
                Ok(power_ons) => done.took(power_ons),
                Err(why) => {
                    done.violations.push(format!("{story}, then {tear:?} at {at}, seed {seed}: {why}"))
                }
            }
            done.count(tear, &second.operations[at]);
        }
    }
    done
}

#[test]
fn a_second_cut_while_the_first_is_made_good_is_no_worse() {
    let done = on_all_cores(|worker, workers| cut_twice(&first_run(), worker, workers));
    let [closed, refused] = done.without_second;
    let more = format!(
        "; no second cut after {closed} first ones that left a closed die, and {refused} at which the next boot came to nothing"
    );
    done.report("power cuts, two in a row", figures::scaled(500, 15_000), &more);
}
