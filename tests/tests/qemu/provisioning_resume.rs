//! Power goes away in the middle of each step of provisioning. The next power-on carries on to the same end: one closed
//! device, one install.
//!
//! The emulator is killed. A kill counts only if the flash shows afterwards that the step had begun and was not done; one
//! that came too late is made again, with another die.

use std::time::Duration;

use fail_code::FailCode;
use lifecycle::Lifecycle;
use stage1_provision::machine::{Entry, Step};
use store::Slot;
use tests::Factory;
use tests::factory::{Cut, Moment};
use tests::verdict::{assert_boots, assert_closed, story};

/// Most dies that a kill is tried on.
const TRIES: usize = 10;

/// Cuts power at a moment, or `after` it, and lets the device go on.
fn resumes(moment: Moment, after: Duration) {
    let factory = Factory::new();
    for number in 0..TRIES {
        let lot = format!("lot-{number}");
        let way = factory.open_lot(factory.lot(&lot, 1));
        let die = factory.die();
        // The later ones come as early as they can.
        let cut = die.cut(&way, moment, if number < 2 { after } else { Duration::ZERO });
        if !cut.counts {
            let last = cut.record.steps.last().map(|step| (&step.name, step.end_ms));
            eprintln!("{moment:?}: die {number} was cut too late: {last:?}, {:?}", cut.record.cause);
            continue;
        }
        assert_cut_short(&cut, moment);
        let run = die.provision(&way);
        assert_closed(&die, &run);
        assert_eq!(factory.counts(&lot), (1, 1), "one install, however often power went away");
        let journal: Vec<Entry> = run.journal.iter().map(|recorded| recorded.entry).collect();
        assert!(run.journal.starts_with(&cut.journal), "it did not go on where it was: {journal:?}");
        for once in [Entry::Ticket, Entry::Seed, Entry::Receipt] {
            let times = journal.iter().filter(|entry| **entry == once).count();
            assert!(times == 1 || run.journal.is_empty(), "{once:?} is there {times} times: {journal:?}");
        }
        assert_boots(&die.boot(), Slot::A, Slot::A);
        eprintln!("{moment:?}: die {number} was cut after {} entries and went on", cut.journal.len());
        return;
    }
    panic!("no kill came in time: {moment:?}");
}

/// Asserts what journal and station say of a cut.
fn assert_cut_short(cut: &Cut, moment: Moment) {
    assert_eq!(cut.record.fail_code(), Some(FailCode::DeviceSilent), "{:?}", cut.record);
    if let Moment::In(step) = moment {
        let has = |entry| cut.journal.iter().any(|recorded| recorded.entry == entry);
        assert!(has(Entry::Begun(step)) && !has(Entry::Done(step)), "{:?}", cut.journal);
        // The last frame may have been on the wire.
        let before = Step::from_number(step.number() - 1).unwrap();
        let cause = cut.record.cause.as_ref().unwrap();
        assert!([step, before].iter().any(|step| cause.contains(step.name())), "{:?}", cut.record);
    }
    if moment == Moment::ProvesClosed {
        let last = cut.record.steps.last().expect("steps of the device");
        assert_eq!((last.name.as_str(), last.end_ms), (Step::ProveClosed.name(), None), "{:?}", cut.record);
    }
}

#[test]
fn in_step_1_while_it_proves_its_place() {
    resumes(Moment::In(Step::ProvePlace), Duration::from_millis(1));
}

#[test]
fn in_step_2_while_it_asks_for_its_ticket() {
    resumes(Moment::In(Step::Ask), Duration::from_millis(5));
}

#[test]
fn in_step_3_while_it_is_born() {
    resumes(Moment::In(Step::BeBorn), Duration::ZERO);
}

#[test]
fn in_step_4_while_it_re_keys_its_store() {
    resumes(Moment::In(Step::ReKey), Duration::from_millis(30));
}

#[test]
fn in_step_5_while_it_requests_its_certificate() {
    resumes(Moment::In(Step::Identity), Duration::from_millis(5));
}

#[test]
fn in_step_6_while_it_replaces_its_stage() {
    resumes(Moment::In(Step::Replace), Duration::from_millis(20));
}

#[test]
fn in_step_7_while_it_checks() {
    resumes(Moment::In(Step::CheckAndFuse), Duration::from_millis(20));
}

#[test]
fn in_step_7_while_its_seed_burns() {
    resumes(Moment::SeedBurns, Duration::ZERO);
}

#[test]
fn in_step_7_with_its_seed_burned_and_its_lifecycle_not() {
    resumes(Moment::SeedBurned, Duration::ZERO);
}

#[test]
fn in_step_8_while_it_proves_that_it_is_closed() {
    resumes(Moment::ProvesClosed, Duration::ZERO);
}

#[test]
fn in_step_8_while_it_clears_away_what_the_factory_needed() {
    resumes(Moment::ClearsAway, Duration::from_millis(20));
}

#[test]
fn again_and_again_in_one_life() {
    let factory = Factory::new();
    let way = factory.open(1);
    let die = factory.die();
    let steps = [Step::Ask, Step::ReKey, Step::Identity, Step::Replace, Step::CheckAndFuse];
    let mut counted = 0;
    for step in steps {
        let cut = die.cut(&way, Moment::In(step), Duration::from_millis(1));
        assert_ne!(die.lifecycle(), Lifecycle::Production, "{}", cut.console);
        counted += usize::from(cut.counts);
    }
    assert!(counted >= 3, "{counted} of {} kills came in time", steps.len());
    let run = die.provision(&way);
    assert_closed(&die, &run);
    assert_eq!(factory.counts(tests::factory::LOT), (1, 1), "{}", story(&run.boot));
}
