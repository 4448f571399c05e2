//! A die: what outlives a power cut, what does not, and the executor that does what the machine says.

use fail_code::FailCode;

use super::super::script::Task;
use super::super::{Action, ClosingFuses, Entry, Event, Operation, State};
use super::message::{Message, Receipt, SEEDS, SESSIONS, Ticket};
use super::mistake::Mistake;

/// The journal: how many entries of the script it holds, and what is in those that hold something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Journal {
    pub(super) len: u8,
    pub(super) session: Option<u8>,
    pub(super) ticket: Option<Ticket>,
    pub(super) seed: Option<u8>,
    pub(super) receipt: Option<Receipt>,
}

/// What a boot slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Slot {
    /// Nothing that boots.
    Torn,
    Stage1,
    /// stage2, encrypted under keys of the seed of this number.
    Stage2(u8),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Lifecycle {
    #[default]
    Secured,
    Closing,
    Production,
}

/// The fuses that closing burns, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Fuses {
    measurement: bool,
    /// Seeds of which bits are burned.
    pub(super) seeds: u8,
    pub(super) seed_whole: bool,
    pub(super) lifecycle: Lifecycle,
}

/// What outlives a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Durable {
    pub(super) journal: Journal,
    /// The store was made with the seed of this number; without one it is torn, or was altered.
    pub(super) store: Option<u8>,
    pub(super) primary: Slot,
    pub(super) backup: Slot,
    /// The install lies where stage0 finds it.
    mark: bool,
    pub(super) fuses: Fuses,
    pub(super) plaintext: bool,
    pub(super) certificate: Option<u8>,
    pub(super) acknowledged: bool,
}

/// What does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Memory {
    session: Option<u8>,
    ticket: Option<Ticket>,
    seed: Option<u8>,
    receipt: Option<Receipt>,
}

/// What a die is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Doing {
    /// It has no power, or has stopped; then it has said this.
    Off(Option<FailCode>),
    /// It waits for the answer to this question.
    Asking { question: Message, state: State, memory: Memory },
    /// It is closed and waits for its certificate.
    Proving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Die {
    pub(super) id: u8,
    pub(super) durable: Durable,
    pub(super) doing: Doing,
    /// Sessions and seeds that somebody has seen, or that are durable.
    sessions: u8,
    seeds: u8,
    /// Sessions that were drawn when fuses of closing were burned already: the lot does not admit their facts.
    unclean: u8,
    /// The journal in whose place an earlier one was put back.
    pub(super) kept: Option<Journal>,
    /// Somebody has written to its storage.
    pub(super) altered: bool,
    /// He has put there what the die has never had at that time, and it may stop for ever.
    pub(super) spoiled: bool,
}

/// What the executor runs by.
pub(super) struct Rules {
    pub(super) script: Vec<Task>,
    pub(super) mistake: Option<Mistake>,
}

/// How a run without a cut ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It waits for an answer.
    Waits,
    /// The device is closed and resets, or everything is done.
    Closed,
    Stopped(FailCode),
    /// The machine did not expect what happened.
    Illegal,
    /// Nothing boots.
    Dead,
}

/// All that comes of a run.
pub(super) struct Outcome {
    pub(super) end: End,
    /// What a cut at each place of it leaves.
    pub(super) cuts: Vec<Die>,
    pub(super) sent: Option<Message>,
    /// Numbers of invariants that were broken on the way.
    pub(super) broken: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Boots {
    Stage1,
    Stage2,
}

impl Die {
    pub(super) fn new(id: u8, backup: Slot) -> Self {
        let durable = Durable {
            journal: Journal::default(),
            store: None,
            primary: Slot::Stage1,
            backup,
            mark: false,
            fuses: Fuses::default(),
            plaintext: false,
            certificate: None,
            acknowledged: false,
        };
        let doing = Doing::Off(None);
        let (kept, altered, spoiled) = (None, false, false);
        Self { id, durable, doing, sessions: 0, seeds: 0, unclean: 0, kept, altered, spoiled }
    }

    pub(super) fn in_production(&self) -> bool {
        self.durable.fuses.lifecycle == Lifecycle::Production
    }

    /// The seed that is burned, if it is the only one.
    pub(super) fn burned_seed(&self) -> Option<u8> {
        let seeds = self.durable.fuses.seeds;
        seeds.is_power_of_two().then_some(seeds.trailing_zeros() as u8)
    }

    pub(super) fn is_clean(&self, session: u8) -> bool {
        self.unclean >> session & 1 == 0
    }

    /// What is left when power goes away.
    pub(super) fn cut(self) -> Self {
        Self { doing: Doing::Off(None), ..self }
    }

    /// What stage0 boots.
    fn boots(&self, rules: &Rules) -> Option<Boots> {
        let slots = [self.durable.primary, self.durable.backup];
        let closed = self.in_production() && rules.mistake != Some(Mistake::Stage1BootsInProduction);
        if !closed && slots.contains(&Slot::Stage1) {
            return Some(Boots::Stage1);
        }
        let own = self.burned_seed().map(Slot::Stage2);
        (self.in_production() && slots.into_iter().any(|slot| Some(slot) == own)).then_some(Boots::Stage2)
    }

    pub(super) fn boots_something(&self, rules: &Rules) -> bool {
        self.boots(rules).is_some()
    }

    /// Turns power on.
    pub(super) fn power_on(&mut self, rules: &Rules) -> Outcome {
        let mut outcome = Outcome { end: End::Dead, cuts: Vec::new(), sent: None, broken: 0 };
        match self.boots(rules) {
            Some(Boots::Stage1) => {
                if self.in_production() {
                    outcome.broken |= 1 << 7;
                }
                let fuses = &self.durable.fuses;
                let untouched = rules.mistake == Some(Mistake::FusesAreNotLookedAt)
                    || fuses.seeds == 0 && fuses.lifecycle == Lifecycle::Secured;
                let fuses = if untouched { ClosingFuses::Untouched } else { ClosingFuses::Begun };
                self.run(rules, State::new(), Memory::default(), Event::PowerOn(fuses), &mut outcome);
            }
            Some(Boots::Stage2) if self.durable.acknowledged || !self.durable.mark => {
                outcome.end = End::Closed
            }
            Some(Boots::Stage2) => {
                let seed = self.burned_seed().unwrap_or_default();
                outcome.sent = Some(Message::Proof { die: self.id, seed });
                self.doing = Doing::Proving;
                outcome.end = End::Waits;
            }
            None => {}
        }
        outcome
    }

    /// Gives the die an answer; `None` if it does not wait for one of this kind.
    pub(super) fn take(&mut self, rules: &Rules, answer: Message) -> Option<Outcome> {
        let mut outcome = Outcome { end: End::Waits, cuts: Vec::new(), sent: None, broken: 0 };
        match (self.doing, answer) {
            (
                Doing::Asking { question: Message::Request { session, .. }, state, mut memory },
                Message::Ticket(ticket),
            ) => {
                let event = if self.is_ours(rules, ticket, session) {
                    memory.ticket = Some(ticket);
                    Event::Completed(Operation::AskForTicket)
                } else {
                    Event::Failed(FailCode::TicketMismatch)
                };
                self.run(rules, state, memory, event, &mut outcome);
            }
            (
                Doing::Asking { question: Message::Csr { seed, .. }, state, mut memory },
                Message::Receipt(receipt),
            ) => {
                let event = if self.is_mine(rules, receipt, seed) {
                    memory.receipt = Some(receipt);
                    Event::Completed(Operation::SendCsr)
                } else {
                    Event::Failed(FailCode::ReceiptInvalid)
                };
                self.run(rules, state, memory, event, &mut outcome);
            }
            (Doing::Proving, Message::Release { die, seed }) => {
                self.doing = Doing::Off(None);
                outcome.end = End::Stopped(FailCode::CertificateInvalid);
                if die == self.id {
                    self.settle(rules, seed, &mut outcome);
                    outcome.end = End::Closed;
                }
            }
            _ => return None,
        }
        Some(outcome)
    }

    /// The authority refuses.
    pub(super) fn refused(&mut self, rules: &Rules) -> Option<Outcome> {
        let Doing::Asking { state, memory, .. } = self.doing else { return None };
        let mut outcome = Outcome { end: End::Waits, cuts: Vec::new(), sent: None, broken: 0 };
        self.run(rules, state, memory, Event::Failed(FailCode::NoAnswer), &mut outcome);
        if rules.mistake == Some(Mistake::ARefusedDieErasesItself) {
            (self.durable.primary, self.durable.backup) = (Slot::Torn, Slot::Torn);
        }
        Some(outcome)
    }

    fn is_ours(&self, rules: &Rules, ticket: Ticket, session: u8) -> bool {
        rules.mistake == Some(Mistake::AnyTicketWillDo) || (ticket.die, ticket.session) == (self.id, session)
    }

    fn is_mine(&self, rules: &Rules, receipt: Receipt, seed: u8) -> bool {
        rules.mistake == Some(Mistake::AnyReceiptWillDo) || receipt == Receipt { die: self.id, seed }
    }

    /// What stage2 does with the release, in the order of `stage2-production/src/closing.rs`.
    fn settle(&mut self, rules: &Rules, seed: u8, outcome: &mut Outcome) {
        if rules.mistake == Some(Mistake::AcknowledgedFirst) {
            self.durable.acknowledged = true;
            outcome.cuts.push(self.cut());
        }
        self.durable.certificate = Some(seed);
        outcome.cuts.push(self.cut());
        let copy = self.burned_seed().map_or(Slot::Torn, Slot::Stage2);
        if self.durable.backup != copy {
            self.durable.backup = Slot::Torn;
            outcome.cuts.push(self.cut());
            self.durable.backup = copy;
            outcome.cuts.push(self.cut());
        }
        (self.durable.journal, self.kept) = (Journal::default(), None);
        outcome.cuts.push(self.cut());
        self.durable.acknowledged = true;
    }

    /// Lets the machine go on from an event until it waits for an answer or ends.
    fn run(
        &mut self,
        rules: &Rules,
        mut state: State,
        mut memory: Memory,
        event: Event,
        outcome: &mut Outcome,
    ) {
        let mut events = std::collections::VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            let Ok((next, actions)) = state.step_through(&rules.script, event) else {
                self.doing = Doing::Off(Some(FailCode::Panic));
                outcome.end = End::Illegal;
                return;
            };
            state = next;
            for action in actions.as_slice() {
                match *action {
                    Action::Perform(Operation::ReadJournal) => {
                        let entries = entries(rules).take(usize::from(self.durable.journal.len));
                        events.extend(entries.map(Event::Found));
                        events.push_back(Event::JournalEnd);
                    }
                    Action::Perform(operation @ (Operation::AskForTicket | Operation::SendCsr)) => {
                        let question = self.ask(operation, &memory, outcome);
                        self.doing = Doing::Asking { question, state, memory };
                        outcome.sent = Some(question);
                        outcome.end = End::Waits;
                        return;
                    }
                    Action::Perform(operation) => {
                        let done = self.perform(rules, operation, &mut memory, outcome);
                        events.push_back(done);
                        outcome.cuts.push(self.cut());
                    }
                    Action::Record(entry) => {
                        self.record(rules, entry, &memory);
                        events.push_back(Event::Recorded(entry));
                        outcome.cuts.push(self.cut());
                    }
                    Action::Wipe if rules.mistake != Some(Mistake::NothingIsWiped) => {
                        memory = Memory::default();
                    }
                    Action::Reset | Action::Stop(_) => {
                        if memory != Memory::default() {
                            outcome.broken |= 1 << 14;
                        }
                        let code = if let Action::Stop(code) = *action { Some(code) } else { None };
                        outcome.end = code.map_or(End::Closed, End::Stopped);
                        // What is said counts only where it says that there is no way on.
                        let final_word =
                            self.altered || code == Some(FailCode::FuseForeign) || self.is_flawed();
                        self.doing = Doing::Off(code.filter(|_| final_word));
                        return;
                    }
                    Action::Wait | Action::Begin(_) | Action::End(_) | Action::Wipe => {}
                }
            }
        }
        outcome.end = End::Illegal;
        self.doing = Doing::Off(Some(FailCode::Panic));
    }

    /// It came without a backup of its provisioning stage.
    pub(super) fn is_flawed(&self) -> bool {
        self.durable.backup == Slot::Torn && !self.in_production()
    }

    fn ask(&mut self, operation: Operation, memory: &Memory, outcome: &mut Outcome) -> Message {
        let session = memory.session.unwrap_or_default();
        self.sessions = self.sessions.max(session + 1);
        if memory.session.is_none() || memory.session != self.durable.journal.session {
            outcome.broken |= 1 << 3;
        }
        if operation == Operation::AskForTicket {
            return Message::Request { die: self.id, session };
        }
        let seed = memory.seed.unwrap_or_default();
        self.seeds = self.seeds.max(seed + 1);
        if memory.seed.is_none() || memory.seed != self.durable.journal.seed {
            outcome.broken |= 1 << 3;
        }
        Message::Csr { die: self.id, session, seed }
    }

    fn record(&mut self, rules: &Rules, entry: Entry, memory: &Memory) {
        let journal = &mut self.durable.journal;
        // A session may come again, and so may the end: each then stands for the one before.
        let again = entries(rules).nth(usize::from(journal.len)) != Some(entry);
        match entry {
            Entry::Session => {
                journal.session = memory.session;
                self.sessions = self.sessions.max(memory.session.map_or(0, |session| session + 1));
            }
            Entry::Ticket => journal.ticket = memory.ticket,
            Entry::Seed => {
                journal.seed = memory.seed;
                self.seeds = self.seeds.max(memory.seed.map_or(0, |seed| seed + 1));
            }
            Entry::Receipt => journal.receipt = memory.receipt,
            Entry::Begun(_) | Entry::Done(_) => {}
        }
        journal.len += u8::from(!again);
    }

    /// Does one operation. What a cut in the middle of it leaves goes to the cuts.
    fn perform(
        &mut self,
        rules: &Rules,
        operation: Operation,
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) -> Event {
        let journal = self.durable.journal;
        let done = Event::Completed(operation);
        match operation {
            Operation::DrawSession => {
                assert!(self.sessions < SESSIONS, "the model is too small: {self:?}");
                memory.session = Some(self.sessions);
                self.unclean &= !(1 << self.sessions);
                self.unclean |= u8::from(self.durable.fuses.measurement) << self.sessions;
            }
            Operation::OpenSession => {
                let fits = journal
                    .session
                    .is_some_and(|session| self.is_clean(session) != self.durable.fuses.measurement);
                if journal.ticket.is_none() && !fits {
                    return Event::Stale;
                }
                memory.session = journal.session;
            }
            Operation::OpenTicket => match (journal.ticket, memory.session) {
                (Some(ticket), Some(session)) if self.is_ours(rules, ticket, session) => {
                    memory.ticket = Some(ticket);
                }
                _ => return Event::Failed(FailCode::TicketMismatch),
            },
            Operation::DrawSeed => {
                // It is sealed for its ticket.
                if memory.ticket.is_none() {
                    return Event::Failed(FailCode::Panic);
                }
                assert!(self.seeds < SEEDS, "the model is too small: {self:?}");
                memory.seed = Some(self.seeds);
            }
            Operation::OpenSeed => memory.seed = journal.seed,
            Operation::VerifyReceipt => match (journal.receipt, memory.seed) {
                (Some(receipt), Some(seed)) if self.is_mine(rules, receipt, seed) => {
                    memory.receipt = Some(receipt);
                }
                _ => return Event::Failed(FailCode::ReceiptInvalid),
            },
            Operation::ReKey => {
                let session = memory.session.unwrap_or(SESSIONS);
                if memory.ticket.map(|ticket| (ticket.die, ticket.session)) != Some((self.id, session)) {
                    outcome.broken |= 1 << 4;
                }
                if memory.seed.is_none() || memory.seed != journal.seed {
                    outcome.broken |= 1 << 3;
                }
                self.seeds = self.seeds.max(memory.seed.map_or(0, |seed| seed + 1));
                self.durable.plaintext |= rules.mistake == Some(Mistake::PlaintextIsKept);
                self.durable.store = None;
                outcome.cuts.push(self.cut());
                self.durable.store = memory.seed;
            }
            Operation::ReadBack if self.durable.store != memory.seed => {
                return Event::Failed(FailCode::ReadBack);
            }
            Operation::CheckBackup if self.durable.backup != Slot::Stage1 => {
                return Event::Failed(FailCode::ReadBack);
            }
            Operation::ReplaceStage => {
                self.durable.primary = Slot::Torn;
                outcome.cuts.push(self.cut());
                self.durable.primary = memory.seed.map_or(Slot::Torn, Slot::Stage2);
            }
            Operation::CheckPrimary if Some(self.durable.primary) != memory.seed.map(Slot::Stage2) => {
                return Event::Failed(FailCode::ReadBack);
            }
            Operation::FinalCheck => {
                let seed = memory.seed.unwrap_or(SEEDS);
                if self.has_foreign_seed(rules, seed) {
                    return Event::Failed(FailCode::FuseForeign);
                }
                if self.durable.store != Some(seed) || self.durable.primary != Slot::Stage2(seed) {
                    return Event::Failed(FailCode::FinalCheck);
                }
            }
            Operation::MarkClosing => {
                if !self.durable.mark {
                    outcome.cuts.push(self.cut());
                    self.durable.mark = true;
                }
            }
            Operation::BurnFuses => return self.burn(rules, memory, outcome),
            Operation::SelfTest
            | Operation::ReadJournal
            | Operation::ProvePlace
            | Operation::ReadBack
            | Operation::CheckBackup
            | Operation::CheckPrimary
            | Operation::AskForTicket
            | Operation::SendCsr => {}
        }
        done
    }

    fn has_foreign_seed(&self, rules: &Rules, seed: u8) -> bool {
        let fuses = &self.durable.fuses;
        match rules.mistake {
            Some(Mistake::FusesAreNotLookedAt) => false,
            Some(Mistake::ATornSeedIsTakenForScrap) => fuses.seeds != 0 && !fuses.seed_whole,
            _ => fuses.seeds & !(1 << seed) != 0,
        }
    }

    fn burn(&mut self, rules: &Rules, memory: &Memory, outcome: &mut Outcome) -> Event {
        let seed = memory.seed.unwrap_or(SEEDS - 1);
        if self.has_foreign_seed(rules, seed) {
            return Event::Failed(FailCode::FuseForeign);
        }
        let in_place = self.durable.store == Some(seed) && self.durable.primary == Slot::Stage2(seed);
        let certified = memory.receipt == Some(Receipt { die: self.id, seed });
        if !(in_place && certified && self.durable.mark) {
            outcome.broken |= 1 << 8;
        }
        self.durable.fuses.measurement = true;
        outcome.cuts.push(self.cut());
        if !self.durable.fuses.seed_whole {
            let begun = self.durable.fuses.seeds != 0;
            self.durable.fuses.seeds |= 1 << seed;
            outcome.cuts.push(self.cut());
            let done = !(begun && rules.mistake == Some(Mistake::ATornSeedIsTakenForWhole));
            self.durable.fuses.seed_whole = done;
            outcome.cuts.push(self.cut());
        }
        self.durable.fuses.lifecycle = Lifecycle::Closing;
        outcome.cuts.push(self.cut());
        self.durable.fuses.lifecycle = Lifecycle::Production;
        Event::Completed(Operation::BurnFuses)
    }
}

/// The entries of the script, in order.
pub(super) fn entries(rules: &Rules) -> impl Iterator<Item = Entry> {
    rules.script.iter().filter_map(|task| match task {
        Task::Record(entry) => Some(*entry),
        Task::Perform(_) => None,
    })
}
