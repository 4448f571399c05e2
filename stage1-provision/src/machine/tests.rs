//! Every prefix of the journal, every illegal event, every failure.

use std::collections::HashSet;

use super::script::{SCRIPT, Task, position};
use super::*;

/// The entries of the script, in order.
fn entries() -> Vec<Entry> {
    let records = SCRIPT.iter().filter_map(|task| match task {
        Task::Record(entry) => Some(*entry),
        Task::Perform(_) => None,
    });
    records.collect()
}

fn drive(state: State, event: Event) -> (State, Vec<Action>) {
    let (state, actions) = state.step(event).unwrap_or_else(|_| panic!("{state:?} refuses {event:?}"));
    (state, actions.as_slice().to_vec())
}

/// Starts a device whose journal holds `journal`, up to the end of the journal.
fn start(journal: &[Entry], fuses: ClosingFuses) -> (State, Vec<Action>) {
    let (state, _) = drive(State::new(), Event::PowerOn(fuses));
    let (mut state, actions) = drive(state, Event::Completed(Operation::SelfTest));
    assert_eq!(actions.last(), Some(&Action::Perform(Operation::ReadJournal)));
    for entry in journal {
        let (next, actions) = drive(state, Event::Found(*entry));
        assert_eq!(actions, [Action::Wait], "{entry:?} in {journal:?}");
        state = next;
    }
    drive(state, Event::JournalEnd)
}

/// Answers every action with success until the end, and returns the operations and entries in their order.
fn finish(mut state: State, mut actions: Vec<Action>) -> (Vec<Operation>, Vec<Entry>, Action) {
    let (mut performed, mut recorded) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let event = match *actions.last().expect("something is always to be done") {
            Action::Perform(operation) => {
                performed.push(operation);
                Event::Completed(operation)
            }
            Action::Record(entry) => {
                recorded.push(entry);
                Event::Recorded(entry)
            }
            end @ (Action::Reset | Action::Stop(_)) => return (performed, recorded, end),
            other => panic!("{other:?} leads nowhere"),
        };
        (state, actions) = drive(state, event);
    }
    panic!("no end in sight");
}

#[test]
fn every_prefix_of_the_journal_has_exactly_one_way_on_and_it_ends_in_a_closed_device() {
    let all = entries();
    assert_eq!(all.len(), 18);
    for len in 0..=all.len() {
        let (prefix, rest) = all.split_at(len);
        let (state, actions) = start(prefix, ClosingFuses::Untouched);
        let (performed, recorded, end) = finish(state, actions);
        assert_eq!(end, Action::Reset, "after {prefix:?}");
        assert_eq!(recorded, rest, "nothing is recorded twice, and nothing left out");
        // Whatever the journal says, these are never skipped.
        for always in
            [Operation::ProvePlace, Operation::FinalCheck, Operation::MarkClosing, Operation::BurnFuses]
        {
            assert!(performed.contains(&always), "{always:?} after {prefix:?}");
        }
        // Each secret or promise comes from exactly one place.
        for (anew, again) in [
            (Operation::DrawSession, Operation::OpenSession),
            (Operation::AskForTicket, Operation::OpenTicket),
            (Operation::DrawSeed, Operation::OpenSeed),
            (Operation::SendCsr, Operation::VerifyReceipt),
        ] {
            let count = performed.iter().filter(|done| **done == anew || **done == again).count();
            assert_eq!(count, 1, "{anew:?} after {prefix:?}");
        }
    }
}

#[test]
fn the_order_is_re_key_read_back_replace_fuse_and_every_key_is_journalled_before_it_is_used() {
    let at = |task| position(SCRIPT, task).unwrap_or_else(|| panic!("{task:?} is missing"));
    let order = [
        Task::Perform(Operation::DrawSession),
        Task::Record(Entry::Session),
        Task::Perform(Operation::AskForTicket),
        Task::Record(Entry::Ticket),
        Task::Perform(Operation::DrawSeed),
        Task::Record(Entry::Seed),
        Task::Perform(Operation::ReKey),
        Task::Perform(Operation::ReadBack),
        Task::Perform(Operation::SendCsr),
        Task::Record(Entry::Receipt),
        Task::Perform(Operation::CheckBackup),
        Task::Perform(Operation::ReplaceStage),
        Task::Perform(Operation::CheckPrimary),
        Task::Perform(Operation::FinalCheck),
        Task::Perform(Operation::MarkClosing),
        Task::Perform(Operation::BurnFuses),
    ];
    assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])));
    let last = SCRIPT.iter().rfind(|task| matches!(task, Task::Perform(_)));
    assert_eq!(last, Some(&Task::Perform(Operation::BurnFuses)));
    let unique: HashSet<_> = SCRIPT.iter().collect();
    assert_eq!(unique.len(), SCRIPT.len());
}

#[test]
fn a_journal_in_any_other_order_is_refused() {
    let all = entries();
    let mut refused = 0;
    for len in 0..=all.len() {
        for wrong in &all {
            let (state, _) = drive(State::new(), Event::PowerOn(ClosingFuses::Untouched));
            let (mut state, _) = drive(state, Event::Completed(Operation::SelfTest));
            for entry in &all[..len] {
                (state, _) = drive(state, Event::Found(*entry));
            }
            let redrawn = len > 0 && all[len - 1] == Entry::Session && *wrong == Entry::Session;
            let burned_again = len == all.len() && *wrong == Entry::Done(Step::CheckAndFuse);
            if all.get(len) == Some(wrong) || redrawn || burned_again {
                continue;
            }
            let (state, actions) = drive(state, Event::Found(*wrong));
            assert_eq!(
                actions,
                [Action::Wipe, Action::Stop(FailCode::JournalInvalid)],
                "{wrong:?} after {len}"
            );
            assert!(state.step(Event::JournalEnd).is_err());
            refused += 1;
        }
    }
    assert_eq!(refused, 19 * 18 - 18 - 2);
}

#[test]
fn events_that_do_not_belong_are_refused_and_change_nothing() {
    let all: Vec<Event> = entries()
        .into_iter()
        .flat_map(|entry| [Event::Found(entry), Event::Recorded(entry)])
        .chain(SCRIPT.iter().filter_map(|task| match task {
            Task::Perform(operation) => Some(Event::Completed(*operation)),
            Task::Record(_) => None,
        }))
        .chain([
            Event::PowerOn(ClosingFuses::Untouched),
            Event::JournalEnd,
            Event::Stale,
            Event::Completed(Operation::SelfTest),
            Event::Failed(FailCode::FlashWrite),
        ])
        .collect();
    let (mut state, mut actions) = drive(State::new(), Event::PowerOn(ClosingFuses::Untouched));
    let mut states = vec![(State::new(), vec![])];
    loop {
        states.push((state, actions.clone()));
        let event = match *actions.last().unwrap() {
            Action::Perform(Operation::ReadJournal) => Event::JournalEnd,
            Action::Perform(operation) => Event::Completed(operation),
            Action::Record(entry) => Event::Recorded(entry),
            _ => break,
        };
        (state, actions) = drive(state, event);
    }
    let mut refused = 0;
    for (state, actions) in &states {
        let allowed = |event: &Event| match (actions.last(), event) {
            (None, Event::PowerOn(_)) => true,
            (Some(Action::Perform(Operation::ReadJournal)), Event::Found(_) | Event::JournalEnd) => true,
            (Some(Action::Perform(a)), Event::Completed(b)) => a == b,
            (Some(Action::Record(a)), Event::Recorded(b)) => a == b,
            (Some(Action::Perform(_) | Action::Record(_)), Event::Failed(_)) => true,
            _ => false,
        };
        for event in all.iter().filter(|event| !allowed(event)) {
            assert_eq!(state.step(*event).map(|_| ()), Err(IllegalEvent), "{state:?} takes {event:?}");
            refused += 1;
        }
    }
    assert!(refused > 1500, "only {refused} events were tried");
}

#[test]
fn every_failure_wipes_and_stops_with_its_own_code() {
    let (mut state, mut actions) = drive(State::new(), Event::PowerOn(ClosingFuses::Untouched));
    let mut failed = 0;
    loop {
        let event = match *actions.last().unwrap() {
            Action::Perform(Operation::ReadJournal) => Event::JournalEnd,
            Action::Perform(operation) => Event::Completed(operation),
            Action::Record(entry) => Event::Recorded(entry),
            _ => break,
        };
        let (_, after) = drive(state, Event::Failed(FailCode::DiskRead));
        let end = if event == Event::Recorded(Entry::Done(Step::CheckAndFuse)) {
            Action::Reset
        } else {
            Action::Stop(FailCode::DiskRead)
        };
        assert_eq!(after, [Action::Wipe, end], "{event:?}");
        failed += 1;
        (state, actions) = drive(state, event);
    }
    assert_eq!(failed, SCRIPT.len() + 2);
}

#[test]
fn burned_fuses_without_a_journal_that_says_so_are_scrap() {
    let all = entries();
    let closing = all.iter().position(|entry| *entry == Entry::Begun(Step::CheckAndFuse)).unwrap();
    for len in 0..=all.len() {
        let (_, actions) = start(&all[..len], ClosingFuses::Begun);
        let scrap = actions == [Action::Wipe, Action::Stop(FailCode::FuseForeign)];
        assert_eq!(scrap, len <= closing, "a journal of {len} entries");
    }
}

#[test]
fn a_stale_session_is_drawn_again_until_there_is_a_ticket_and_never_after() {
    let journal = [Entry::Begun(Step::ProvePlace), Entry::Done(Step::ProvePlace), Entry::Begun(Step::Ask)];
    let session = [journal.as_slice(), &[Entry::Session; 3]].concat();
    let (state, actions) = start(&session, ClosingFuses::Untouched);
    assert_eq!(actions, [Action::Perform(Operation::ProvePlace)]);
    let (state, actions) = drive(state, Event::Completed(Operation::ProvePlace));
    assert_eq!(actions, [Action::Perform(Operation::OpenSession)]);
    let (state, actions) = drive(state, Event::Stale);
    assert_eq!(actions, [Action::Begin(Step::Ask), Action::Perform(Operation::DrawSession)]);
    let (performed, recorded, end) = finish(state, actions);
    assert_eq!((performed[0], recorded[0]), (Operation::DrawSession, Entry::Session));
    assert_eq!(end, Action::Reset);

    let ticket = [session.as_slice(), &[Entry::Ticket]].concat();
    let (state, _) = start(&ticket, ClosingFuses::Untouched);
    let (state, _) = drive(state, Event::Completed(Operation::ProvePlace));
    assert_eq!(state.step(Event::Stale).map(|_| ()), Err(IllegalEvent));
}

/// Without that, a device without a ticket would be told to decrypt.
#[test]
fn the_code_of_the_final_check_from_any_other_operation_stops() {
    let (mut state, mut actions) = start(&[], ClosingFuses::Untouched);
    let mut stopped = 0;
    loop {
        let event = match *actions.last().unwrap() {
            Action::Perform(operation) => {
                if operation != Operation::FinalCheck {
                    let (_, actions) = drive(state, Event::Failed(FailCode::FinalCheck));
                    assert_eq!(actions, [Action::Wipe, Action::Stop(FailCode::FinalCheck)], "{operation:?}");
                    stopped += 1;
                }
                Event::Completed(operation)
            }
            Action::Record(entry) => Event::Recorded(entry),
            _ => break,
        };
        (state, actions) = drive(state, event);
    }
    assert_eq!(stopped, 12);
}

#[test]
fn a_failed_final_check_makes_the_store_again_once_and_then_stops() {
    let (mut state, mut actions) = start(&entries()[..17], ClosingFuses::Untouched);
    let mut performed = Vec::new();
    let mut failures = 0;
    let end = loop {
        let event = match *actions.last().unwrap() {
            Action::Perform(Operation::FinalCheck) => {
                failures += 1;
                Event::Failed(FailCode::FinalCheck)
            }
            Action::Perform(operation) => {
                performed.push(operation);
                Event::Completed(operation)
            }
            end => break end,
        };
        (state, actions) = drive(state, event);
    };
    assert_eq!(end, Action::Stop(FailCode::FinalCheck));
    assert_eq!(failures, 2);
    let again = [Operation::ReKey, Operation::ReadBack, Operation::CheckBackup, Operation::ReplaceStage];
    assert!(again.iter().all(|operation| performed.contains(operation)), "{performed:?}");
    assert!(!performed.contains(&Operation::BurnFuses));
}
