//! The provisioning machine under any sequence of events.

use crate::Verdict::{self, Refused, Taken};
use fail_code::FailCode;
use stage1_provision::machine::{Action, Actions, ClosingFuses, Entry, Event, Operation, State, Step};

const OPERATIONS: [Operation; 19] = [
    Operation::SelfTest,
    Operation::ReadJournal,
    Operation::ProvePlace,
    Operation::OpenSession,
    Operation::OpenTicket,
    Operation::OpenSeed,
    Operation::VerifyReceipt,
    Operation::DrawSession,
    Operation::AskForTicket,
    Operation::DrawSeed,
    Operation::ReKey,
    Operation::ReadBack,
    Operation::SendCsr,
    Operation::CheckBackup,
    Operation::ReplaceStage,
    Operation::CheckPrimary,
    Operation::FinalCheck,
    Operation::MarkClosing,
    Operation::BurnFuses,
];

fn entries() -> Vec<Entry> {
    let named = [Entry::Session, Entry::Ticket, Entry::Seed, Entry::Receipt];
    let steps = Step::ALL.into_iter().flat_map(|step| [Entry::Begun(step), Entry::Done(step)]);
    named.into_iter().chain(steps).collect()
}

/// Every event that there is, for bytes to name.
fn events() -> Vec<Event> {
    let mut events = vec![
        Event::PowerOn(ClosingFuses::Untouched),
        Event::PowerOn(ClosingFuses::Begun),
        Event::JournalEnd,
        Event::Stale,
        Event::Failed(FailCode::FinalCheck),
        Event::Failed(FailCode::FlashWrite),
    ];
    events.extend(entries().into_iter().flat_map(|entry| [Event::Found(entry), Event::Recorded(entry)]));
    events.extend(OPERATIONS.map(Event::Completed));
    events
}

/// What has happened since power came on, as whoever carries the actions out knows it.
#[derive(Default)]
struct Known {
    fuses_begun: bool,
    /// Entries that are durable: found in the journal or recorded.
    durable: Vec<Entry>,
    /// Operations that ended well, in their order.
    done: Vec<Operation>,
    /// What was asked for last, and has not ended.
    pending: Option<Action>,
    over: bool,
}

impl Known {
    fn has(&self, operations: &[Operation]) -> bool {
        operations.iter().any(|operation| self.done.contains(operation))
    }

    /// Tells whether the first of these ended after the last time that any of the others did.
    fn since(&self, done: Operation, others: &[Operation]) -> bool {
        let last = self.done.iter().rposition(|it| *it == done);
        last.is_some_and(|last| {
            self.done.iter().rposition(|it| others.contains(it)).is_none_or(|at| at < last)
        })
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::PowerOn(fuses) => self.fuses_begun = fuses == ClosingFuses::Begun,
            Event::Found(entry) | Event::Recorded(entry) => self.durable.push(entry),
            Event::Completed(operation) => self.done.push(operation),
            Event::JournalEnd => self.done.push(Operation::ReadJournal),
            Event::Stale | Event::Failed(_) => {}
        }
    }

    /// Holds an action against what must have come before it.
    fn judge(&self, action: Action) {
        let durable = |entry| self.durable.contains(&entry);
        let ticket = || self.has(&[Operation::OpenTicket, Operation::AskForTicket]) && durable(Entry::Ticket);
        let seed = || self.has(&[Operation::OpenSeed, Operation::DrawSeed]) && durable(Entry::Seed);
        match action {
            Action::Perform(Operation::AskForTicket) => {
                assert!(durable(Entry::Session), "asked before the session was durable");
                assert!(self.has(&[Operation::DrawSession, Operation::OpenSession]));
            }
            Action::Perform(Operation::DrawSeed) => {
                assert!(ticket(), "born without a ticket");
                assert!(!self.fuses_begun, "a second seed over a first");
                assert!(!durable(Entry::Seed), "a second seed beside a first");
            }
            Action::Perform(Operation::ReKey) => {
                assert!(ticket(), "decrypted before the ticket");
                assert!(seed(), "a key of a seed that is not durable");
            }
            Action::Perform(Operation::SendCsr) => assert!(seed(), "a request for a key that is not durable"),
            Action::Perform(Operation::ReplaceStage) => {
                assert!(self.has(&[Operation::CheckBackup]), "the only stage1 overwritten");
                assert!(durable(Entry::Done(Step::ReKey)), "replaced before the store was made");
            }
            Action::Perform(Operation::BurnFuses) => {
                let changes = [Operation::ReKey, Operation::ReplaceStage];
                assert!(self.since(Operation::FinalCheck, &changes), "burned without a final check");
                assert!(self.since(Operation::MarkClosing, &changes), "burned without the install's mark");
                assert!(ticket() && seed(), "burned without ticket and seed");
                assert!(durable(Entry::Receipt), "burned before the certificate request was acknowledged");
                assert!(
                    self.has(&[Operation::SendCsr, Operation::VerifyReceipt]),
                    "the receipt was not verified"
                );
                assert!(durable(Entry::Begun(Step::CheckAndFuse)), "burned before the journal said so");
            }
            Action::Reset => assert!(self.has(&[Operation::BurnFuses]), "closed without a burn"),
            _ => {}
        }
    }

    /// Holds the shape of what is to be done: one thing to wait for, or an end that comes behind a wipe.
    fn follow(&mut self, actions: &Actions) {
        let actions = actions.as_slice();
        let waits =
            |action: &&Action| matches!(action, Action::Perform(_) | Action::Record(_) | Action::Wait);
        let ends = |action: &&Action| matches!(action, Action::Reset | Action::Stop(_));
        assert_eq!(
            actions.iter().filter(waits).count() + actions.iter().filter(ends).count(),
            1,
            "{actions:?}"
        );
        let last = actions.last().copied().expect("there is one");
        if matches!(last, Action::Reset | Action::Stop(_)) {
            assert_eq!(actions.iter().rev().nth(1), Some(&Action::Wipe), "secrets are left at the end");
            self.over = true;
        }
        actions.iter().for_each(|action| self.judge(*action));
        // While the journal is read, what is waited for stays the same.
        if last != Action::Wait {
            self.pending = Some(last);
        }
    }

    /// What an executor that does its work well reports next.
    fn honest(&self) -> Event {
        match self.pending {
            Some(Action::Perform(Operation::ReadJournal)) => Event::JournalEnd,
            Some(Action::Perform(operation)) => Event::Completed(operation),
            Some(Action::Record(entry)) => Event::Recorded(entry),
            _ => Event::PowerOn(ClosingFuses::Untouched),
        }
    }
}

/// Every byte is an event: 0xFF cuts the power, one with its highest bit set stands for what an executor reports whose
/// work succeeds, any other one names an event.
pub(crate) fn step(data: &[u8]) -> Verdict {
    let events = events();
    let (mut state, mut known) = (State::new(), Known::default());
    let mut closed = false;
    for byte in data {
        if *byte == 0xFF {
            (state, known) = (State::new(), Known::default());
            continue;
        }
        let event = match byte {
            0x80.. => known.honest(),
            named => events[usize::from(*named) % events.len()],
        };
        let Ok((next, actions)) = state.step(event) else {
            assert!(known.over || event != known.honest(), "{event:?} was asked for, and is refused");
            continue;
        };
        assert!(!known.over, "{event:?} goes on behind the end");
        state = next;
        known.take(event);
        known.follow(&actions);
        let _where = state.current();
        closed |= actions.as_slice().contains(&Action::Reset);
    }
    if closed { Taken } else { Refused }
}

pub(crate) fn step_seeds() -> Vec<Vec<u8>> {
    let events = events();
    let name = |event| events.iter().position(|it| *it == event).expect("there is such an event") as u8;
    let found: Vec<u8> = [
        Entry::Begun(Step::ProvePlace),
        Entry::Done(Step::ProvePlace),
        Entry::Begun(Step::Ask),
        Entry::Session,
        Entry::Ticket,
        Entry::Done(Step::Ask),
        Entry::Begun(Step::BeBorn),
        Entry::Seed,
        Entry::Done(Step::BeBorn),
        Entry::Begun(Step::ReKey),
        Entry::Done(Step::ReKey),
        Entry::Begun(Step::Identity),
        Entry::Receipt,
        Entry::Done(Step::Identity),
        Entry::Begun(Step::Replace),
        Entry::Done(Step::Replace),
        Entry::Begun(Step::CheckAndFuse),
    ]
    .map(|entry| name(Event::Found(entry)))
    .to_vec();
    let whole = vec![0x80; 40];
    // Cut after each entry of the journal, and carried on.
    let resumed = (1..=found.len()).map(|count| {
        let fuses = if count == found.len() { ClosingFuses::Begun } else { ClosingFuses::Untouched };
        [&[name(Event::PowerOn(fuses)), 0x80][..], &found[..count], &[0x80; 40]].concat()
    });
    let repeated = [&[0x80; 26][..], &[name(Event::Failed(FailCode::FinalCheck))], &[0x80; 20]].concat();
    let stale = [&[0x80, 0x80][..], &found[..4], &[0x80, 0x80, name(Event::Stale)], &[0x80; 40]].concat();
    [whole, repeated, stale].into_iter().chain(resumed).collect()
}
