//! What has to be done, checked or durable before something else happens.

use fail_code::FailCode;
use stage1_provision::machine::{Action, ClosingFuses, Entry, Event, Operation, State, Step};

/// A run from power-on in which everything succeeds, or one thing fails: every action that was asked for, in order.
fn run(fails: Option<Action>) -> Vec<Action> {
    let (mut state, mut event) = (State::new(), Event::PowerOn(ClosingFuses::Untouched));
    let mut asked = Vec::new();
    loop {
        let (next, actions) = state.step(event).expect("the event was asked for");
        asked.extend_from_slice(actions.as_slice());
        let last = *actions.as_slice().last().expect("something is always to be done");
        state = next;
        event = match last {
            failed if Some(failed) == fails => Event::Failed(FailCode::FlashWrite),
            Action::Perform(Operation::ReadJournal) => Event::JournalEnd,
            Action::Perform(operation) => Event::Completed(operation),
            Action::Record(entry) => Event::Recorded(entry),
            _ => return asked,
        };
    }
}

/// Everything that an undisturbed run waits for.
fn waits() -> Vec<Action> {
    run(None).into_iter().filter(|it| matches!(it, Action::Perform(_) | Action::Record(_))).collect()
}

const BURN: Action = Action::Perform(Operation::BurnFuses);

pub(crate) fn no_fuse_before_the_last_check() {
    assert!(run(None).contains(&BURN) && run(None).ends_with(&[Action::Wipe, Action::Reset]));
    let all = waits();
    let burn = all.iter().position(|it| *it == BURN).unwrap();
    // Floors are burned with the rest of the closing plan, and it comes last: whatever fails before, none is.
    for action in &all[..burn] {
        let asked = run(Some(*action));
        assert!(!asked.contains(&BURN), "{action:?} failed, and fuses burn");
        assert!(asked.ends_with(&[Action::Wipe, Action::Stop(FailCode::FlashWrite)]), "{action:?}");
    }
    assert_eq!(all.len() - burn, 2, "all but the burn and its mark are before it");
}

pub(crate) fn nothing_is_told_before_it_is_durable() {
    let steps = [Step::ProvePlace, Step::Ask, Step::BeBorn, Step::ReKey, Step::Identity, Step::Replace];
    let (whole, end) = (run(None), Action::End);
    for step in steps {
        let recorded = whole.iter().position(|it| *it == Action::Record(Entry::Done(step))).unwrap();
        let told = whole.iter().position(|it| *it == end(step)).unwrap();
        assert!(told > recorded, "{step:?}");
        let torn = run(Some(Action::Record(Entry::Done(step))));
        assert!(!torn.contains(&end(step)), "{step:?} was told and is not written down");
    }
}

pub(crate) fn nothing_is_asked_before_its_key_is_durable() {
    for (entry, asks) in [
        (Entry::Session, Operation::AskForTicket),
        (Entry::Ticket, Operation::ReKey),
        (Entry::Seed, Operation::SendCsr),
    ] {
        assert!(run(None).contains(&Action::Perform(asks)));
        let torn = run(Some(Action::Record(entry)));
        assert!(!torn.contains(&Action::Perform(asks)), "{asks:?} without {entry:?}");
    }
}

pub(crate) fn a_refusal_names_no_reason_of_the_device() {
    let mut passed_on = 0;
    for code in 0..=u16::MAX {
        let told = stage1_provision::Error::Refused { code }.code();
        if told != FailCode::AnswerMalformed {
            assert!((1100..1300).contains(&code) && told.number() == code, "{code} is told as {told:?}");
            passed_on += 1;
        }
    }
    assert!(passed_on > 10, "the authority's own reasons are told");
}
