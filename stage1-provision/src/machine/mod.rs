//! Provisioning as a pure state machine: what happened goes in, what to do next comes out.
//!
//! The firmware, the host simulator and the model checker of the tests run the same [`State::step`]. It knows no keys
//! and no storage: it decides the order, and the executor does the work.
//!
//! ```text
//!  Off ──power on──▶ self-test ──▶ read journal ──▶ recover what the journal holds ──▶ go on behind its last entry
//!                                                                                        │
//!        ┌───────────────────────────────────────────────────────────────────────────────┘
//!        ▼
//!  prove-place ─▶ ask ─▶ be-born ─▶ re-key ─▶ identity ─▶ replace ─▶ check-and-fuse ─▶ reset
//!                                     ▲                                   │
//!                                     └── once, if the final check fails ─┘          any failure ─▶ stopped
//! ```
//!
//! # Threats
//! *Power is cut anywhere.* The journal is a prefix of one fixed sequence, so each length of it has exactly one way on,
//! and every operation may be done again.
//! *The journal is the factory's to write.* A marker skips work, and never a check: whatever the journal says, the
//! ticket, the seed and the receipt are opened and verified again after each restart, and the final check reads the
//! whole storage before a fuse burns. An order that the sequence does not have is refused.
//! *A journal that is gone while the seed burns.* Fuses that closing has begun to burn without a journal that says so
//! end in [`FailCode::FuseForeign`]: no second seed goes over a first.

#[cfg(test)]
mod model;
mod script;
#[cfg(test)]
mod tests;

use boot_info::List;
use fail_code::FailCode;
use script::{RECOVERY, SCRIPT, Task, position};

/// A step of provisioning, as the journal, progress frames and reports name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Step {
    /// Hardware self-test, on every start. It has no entry in the journal.
    SelfTest = 0,
    /// Prove the place: the evidence of stage0, the package's index.
    ProvePlace = 1,
    /// Ask the authority for a ticket.
    Ask = 2,
    /// Be born: draw the device seed.
    BeBorn = 3,
    /// Re-key the package for this device.
    ReKey = 4,
    /// Have the certificate request acknowledged.
    Identity = 5,
    /// Write stage2 over stage1 in the primary boot slot.
    Replace = 6,
    /// Check everything once more, then burn the closing fuses.
    CheckAndFuse = 7,
    /// Prove to be closed: stage2's, on the first boot in Production.
    ProveClosed = 8,
}

impl Step {
    /// Every step, in order.
    pub const ALL: [Self; 9] = [
        Self::SelfTest,
        Self::ProvePlace,
        Self::Ask,
        Self::BeBorn,
        Self::ReKey,
        Self::Identity,
        Self::Replace,
        Self::CheckAndFuse,
        Self::ProveClosed,
    ];

    /// Returns the number in journal and progress frames.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Finds a step by number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|step| step.number() == number)
    }

    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SelfTest => "self-test",
            Self::ProvePlace => "prove-place",
            Self::Ask => "ask",
            Self::BeBorn => "be-born",
            Self::ReKey => "re-key",
            Self::Identity => "identity",
            Self::Replace => "replace",
            Self::CheckAndFuse => "check-and-fuse",
            Self::ProveClosed => "prove-closed",
        }
    }
}

/// What the journal remembers. Each is durable before anything that follows from it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// The step has begun.
    Begun(Step),
    /// The nonce and the seed of the ephemeral key, sealed. May come again, until there is a ticket.
    Session,
    /// The ticket, as the authority sent it.
    Ticket,
    /// The device seed, sealed.
    Seed,
    /// The receipt for the certificate request, as the authority sent it.
    Receipt,
    /// The step is done.
    Done(Step),
}

/// Work for the executor. Each may be done again after a power cut, with the same end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Test memory, flash, entropy, cryptography and timer.
    SelfTest,
    /// Read the journal: [`Event::Found`] for each entry, then [`Event::JournalEnd`].
    ReadJournal,
    /// Check stage0's evidence, read and verify the package's index.
    ProvePlace,
    /// Open the journalled session; [`Event::Stale`] if it was made for another package or other fuses.
    OpenSession,
    /// Verify the journalled ticket and take the content key out of it.
    OpenTicket,
    /// Open the journalled seed and make the device's keys.
    OpenSeed,
    /// Verify the journalled receipt.
    VerifyReceipt,
    /// Draw nonce and ephemeral seed.
    DrawSession,
    /// Send the request until the ticket is there, and verify it.
    AskForTicket,
    /// Draw the device seed, from everything that there is to draw from.
    DrawSeed,
    /// Write every payload of the package to its places, under keys of this device.
    ReKey,
    /// Read all of it back through the ordinary reader.
    ReadBack,
    /// Send the certificate request until the receipt is there, and verify it.
    SendCsr,
    /// Check that the backup boot slot holds this stage.
    CheckBackup,
    /// Write stage2 to the primary boot slot.
    ReplaceStage,
    /// Read it back.
    CheckPrimary,
    /// Select and verify, with the fuses as they will be, everything that a closed device boots from.
    FinalCheck,
    /// Leave the install for stage0, which will prove it.
    MarkClosing,
    /// Burn what is left of the closing plan.
    BurnFuses,
}

/// How far closing has burned the fuses, as found at power-on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ClosingFuses {
    /// Neither the device seed nor the lifecycle has been touched.
    Untouched,
    /// The device seed holds bits, or the lifecycle has left `Secured`.
    Begun,
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The stage started, and found the fuses so.
    PowerOn(ClosingFuses),
    /// The journal holds this entry next.
    Found(Entry),
    /// The journal holds no further entry.
    JournalEnd,
    /// The operation ended well.
    Completed(Operation),
    /// The session in the journal does not fit what there is now.
    Stale,
    /// The entry is durable.
    Recorded(Entry),
    /// The operation, or making an entry durable, failed for this reason.
    Failed(FailCode),
}

/// What the executor does, in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Action {
    /// Nothing: more events follow by themselves.
    #[default]
    Wait,
    /// Tells the station that a step begins.
    Begin(Step),
    /// Tells the station that a step is done.
    End(Step),
    /// Does this and reports its end.
    Perform(Operation),
    /// Makes the entry durable.
    Record(Entry),
    /// Wipes every secret.
    Wipe,
    /// Reports success and resets the system.
    Reset,
    /// Reports this refusal and stops.
    Stop(FailCode),
}

/// At most this many actions follow from one event.
pub const MAX_ACTIONS: usize = 4;

/// What to do, in order.
pub type Actions = List<Action, MAX_ACTIONS>;

/// An event that cannot happen in this state: a defect of the executor, which stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IllegalEvent;

/// What the machine waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Off,
    Testing,
    Reading,
    /// The operation of this index in [`RECOVERY`] is under way.
    Recovering(usize),
    /// The task at the cursor is under way.
    Working,
    /// It ended well, and the system resets.
    Finished,
    /// It ended with a refusal.
    Stopped,
}

/// How far provisioning has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct State {
    phase: Phase,
    fuses: ClosingFuses,
    /// Tasks up to here have nothing left to record: the journal holds their entries.
    durable: usize,
    /// The task under way.
    cursor: usize,
    /// The final check has failed once in this run, and the store is made again.
    repeated: bool,
}

impl Default for State {
    fn default() -> Self {
        Self::new()
    }
}

impl State {
    /// A device that is off.
    pub const fn new() -> Self {
        Self { phase: Phase::Off, fuses: ClosingFuses::Untouched, durable: 0, cursor: 0, repeated: false }
    }

    /// Takes an event and returns the state after it, with what is to be done.
    ///
    /// # Errors
    /// [`IllegalEvent`]: the event does not belong here, and nothing is to be done.
    pub fn step(self, event: Event) -> Result<(Self, Actions), IllegalEvent> {
        self.step_through(SCRIPT, event)
    }

    /// Tells the step that is under way.
    pub fn current(&self) -> Step {
        self.step_at(SCRIPT)
    }

    /// The machine over any script: tests run it over scripts with a mistake in them.
    fn step_through(mut self, script: &[Task], event: Event) -> Result<(Self, Actions), IllegalEvent> {
        let mut actions = Actions::new();
        match (self.phase, event) {
            (Phase::Off, Event::PowerOn(fuses)) => {
                self = Self { phase: Phase::Testing, fuses, ..Self::new() };
                actions.push(Action::Begin(Step::SelfTest));
                actions.push(Action::Perform(Operation::SelfTest));
            }
            (Phase::Testing, Event::Completed(Operation::SelfTest)) => {
                self.phase = Phase::Reading;
                actions.push(Action::End(Step::SelfTest));
                actions.push(Action::Perform(Operation::ReadJournal));
            }
            (Phase::Reading, Event::Found(entry)) => match self.replay(script, entry) {
                Some(durable) => {
                    self.durable = durable;
                    actions.push(Action::Wait);
                }
                None => self.stop(FailCode::JournalInvalid, &mut actions),
            },
            (Phase::Reading, Event::JournalEnd) => {
                let closing = position(script, Task::Record(Entry::Begun(Step::CheckAndFuse)));
                if self.fuses == ClosingFuses::Begun && closing.is_none_or(|closing| self.durable <= closing)
                {
                    self.stop(FailCode::FuseForeign, &mut actions);
                } else {
                    self.recover(script, 0, &mut actions);
                }
            }
            (Phase::Recovering(index), Event::Completed(done))
                if RECOVERY.get(index).is_some_and(|(operation, _)| *operation == done) =>
            {
                self.recover(script, index.saturating_add(1), &mut actions);
            }
            (Phase::Recovering(index), Event::Stale) if self.may_draw_again(script, index) => {
                let draw = position(script, Task::Perform(Operation::DrawSession)).ok_or(IllegalEvent)?;
                self.durable = draw;
                self.cursor = draw;
                self.phase = Phase::Working;
                actions.push(Action::Begin(self.step_at(script)));
                actions.push(Action::Perform(Operation::DrawSession));
            }
            (Phase::Working, Event::Completed(done))
                if script.get(self.cursor) == Some(&Task::Perform(done)) =>
            {
                self.cursor = self.cursor.saturating_add(1);
                self.go_on(script, &mut actions);
            }
            (Phase::Working, Event::Recorded(entry))
                if script.get(self.cursor) == Some(&Task::Record(entry)) =>
            {
                self.cursor = self.cursor.saturating_add(1);
                self.durable = self.cursor;
                let told = match entry {
                    Entry::Begun(step) => Some(Action::Begin(step)),
                    Entry::Done(step) => Some(Action::End(step)),
                    Entry::Session | Entry::Ticket | Entry::Seed | Entry::Receipt => None,
                };
                if let Some(action) = told {
                    actions.push(action);
                }
                self.go_on(script, &mut actions);
            }
            // The fuses are burned and were read back: the mark that says so serves reports only.
            (Phase::Working, Event::Failed(_)) if self.closed(script) => self.finish(&mut actions),
            // Of that operation alone: whatever else fails with this code has not come as far as to be made again.
            (Phase::Working, Event::Failed(FailCode::FinalCheck))
                if !self.repeated
                    && script.get(self.cursor) == Some(&Task::Perform(Operation::FinalCheck)) =>
            {
                self.cursor = position(script, Task::Perform(Operation::ReKey)).ok_or(IllegalEvent)?;
                self.repeated = true;
                actions.push(Action::Begin(self.step_at(script)));
                self.go_on(script, &mut actions);
            }
            (
                Phase::Testing | Phase::Reading | Phase::Recovering(_) | Phase::Working,
                Event::Failed(code),
            ) => self.stop(code, &mut actions),
            _ => return Err(IllegalEvent),
        }
        Ok((self, actions))
    }

    /// Returns how far the journal goes with this entry, or `None` if it does not belong here.
    fn replay(&self, script: &[Task], entry: Entry) -> Option<usize> {
        let next = (self.durable..).zip(script.get(self.durable..)?).find_map(|(index, task)| match task {
            Task::Record(expected) => Some((index, *expected)),
            Task::Perform(_) => None,
        });
        match (next, entry) {
            (Some((index, expected)), found) if expected == found => Some(index.saturating_add(1)),
            // A session that was drawn again takes the place of the one before.
            (Some((_, Entry::Ticket)), Entry::Session) => Some(self.durable),
            // The end that was recorded before a fuse drifted back, and again after it was burned once more.
            (None, Entry::Done(Step::CheckAndFuse)) => Some(self.durable),
            _ => None,
        }
    }

    /// Tells whether a stale session may be drawn again: only one that no ticket was issued for.
    fn may_draw_again(&self, script: &[Task], index: usize) -> bool {
        let opening = RECOVERY.get(index).is_some_and(|(operation, _)| *operation == Operation::OpenSession);
        let ticket = position(script, Task::Record(Entry::Ticket));
        opening && ticket.is_some_and(|ticket| self.durable <= ticket)
    }

    /// Starts the next recovery from `index` on, or goes on with the script.
    fn recover(&mut self, script: &[Task], index: usize, actions: &mut Actions) {
        let rest = (index..).zip(RECOVERY.iter().skip(index));
        for (index, (operation, entry)) in rest {
            if position(script, Task::Record(*entry)).is_some_and(|at| at < self.durable) {
                self.phase = Phase::Recovering(index);
                actions.push(Action::Perform(*operation));
                return;
            }
        }
        self.cursor = self.durable;
        if self.cursor >= script.len() {
            // Every entry is there, and yet the die is not in Production: its fuses are burned again.
            self.cursor = position(script, Task::Perform(Operation::FinalCheck)).unwrap_or(script.len());
        }
        if self.cursor > 0 && !matches!(script.get(self.cursor), Some(Task::Record(Entry::Begun(_)))) {
            actions.push(Action::Begin(self.step_at(script)));
        }
        self.go_on(script, actions);
    }

    /// Starts the task at the cursor, passing over entries that the journal holds.
    fn go_on(&mut self, script: &[Task], actions: &mut Actions) {
        self.phase = Phase::Working;
        while let Some(task) = script.get(self.cursor) {
            match task {
                Task::Record(_) if self.cursor < self.durable => {
                    self.cursor = self.cursor.saturating_add(1);
                }
                Task::Record(entry) => {
                    actions.push(Action::Record(*entry));
                    return;
                }
                Task::Perform(operation) => {
                    actions.push(Action::Perform(*operation));
                    return;
                }
            }
        }
        self.finish(actions);
    }

    /// Tells whether every operation is behind the cursor.
    fn closed(&self, script: &[Task]) -> bool {
        let rest = script.get(self.cursor..).unwrap_or_default();
        rest.iter().all(|task| matches!(task, Task::Record(_)))
    }

    fn finish(&mut self, actions: &mut Actions) {
        self.phase = Phase::Finished;
        actions.push(Action::Wipe);
        actions.push(Action::Reset);
    }

    fn stop(&mut self, code: FailCode, actions: &mut Actions) {
        self.phase = Phase::Stopped;
        actions.push(Action::Wipe);
        actions.push(Action::Stop(code));
    }

    /// Finds the step that the cursor stands in: that of the last `Begun` before it.
    fn step_at(&self, script: &[Task]) -> Step {
        let before = script.get(..self.cursor).unwrap_or(script);
        let begun = before.iter().rev().find_map(|task| match task {
            Task::Record(Entry::Begun(step)) => Some(*step),
            _ => None,
        });
        begun.unwrap_or(Step::SelfTest)
    }
}
