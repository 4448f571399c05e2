//! Whoever has the storage of a die in his hands, between two of its runs.

use super::super::Entry;
use super::die::{Die, Doing, Rules, Slot, entries};
use super::message::Message;

/// What somebody does to the storage of a die without power.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tampering {
    /// Puts an earlier journal back, of this length, and keeps the other.
    SetBack(u8),
    /// Puts the kept journal back, and keeps the other.
    SetForward,
    /// Adds the entry that comes next and holds nothing: anybody can.
    Plant,
    /// Adds a signed answer that was given to somebody else.
    PlantForeign(Message),
    /// Alters what the closed device is to boot.
    Alter,
    /// Writes stage1 over the backup of a closed device.
    WriteStage1Back,
}

impl Die {
    /// Lists what somebody with the storage in his hands may do to it.
    pub(super) fn tamperings(&self, rules: &Rules, answers: &[Message]) -> Vec<Tampering> {
        let journal = &self.durable.journal;
        if self.in_production() {
            let settled = self.durable.acknowledged && self.durable.backup != Slot::Stage1;
            return settled.then_some(Tampering::WriteStage1Back).into_iter().collect();
        }
        let mut all: Vec<Tampering> = (0..journal.len).map(Tampering::SetBack).collect();
        if self.kept.is_some_and(|kept| kept != *journal) {
            all.push(Tampering::SetForward);
        }
        let next = entries(rules).nth(usize::from(journal.len));
        match next {
            Some(Entry::Begun(_) | Entry::Done(_)) => all.push(Tampering::Plant),
            Some(Entry::Ticket | Entry::Receipt) => {
                let foreign = answers.iter().filter(|answer| match answer {
                    Message::Ticket(ticket) => next == Some(Entry::Ticket) && ticket.die != self.id,
                    Message::Receipt(receipt) => next == Some(Entry::Receipt) && receipt.die != self.id,
                    _ => false,
                });
                all.extend(foreign.copied().map(Tampering::PlantForeign));
            }
            _ => {}
        }
        if self.durable.store.is_some() {
            all.push(Tampering::Alter);
        }
        all
    }

    pub(super) fn tamper(&mut self, rules: &Rules, tampering: Tampering) {
        self.doing = Doing::Off(None);
        if tampering == Tampering::WriteStage1Back {
            self.durable.backup = Slot::Stage1;
            return;
        }
        self.altered = true;
        let journal = &mut self.durable.journal;
        match tampering {
            Tampering::SetBack(len) => {
                self.kept = Some(*journal);
                journal.len = len;
                let holds = |entry| entries(rules).take(usize::from(len)).any(|other| other == entry);
                journal.session = journal.session.filter(|_| holds(Entry::Session));
                journal.ticket = journal.ticket.filter(|_| holds(Entry::Ticket));
                journal.seed = journal.seed.filter(|_| holds(Entry::Seed));
                journal.receipt = journal.receipt.filter(|_| holds(Entry::Receipt));
            }
            Tampering::SetForward => {
                if let Some(kept) = self.kept.replace(*journal) {
                    *journal = kept;
                }
                self.spoiled = true;
            }
            Tampering::Plant => journal.len += 1,
            Tampering::PlantForeign(answer) => {
                match answer {
                    Message::Ticket(ticket) => journal.ticket = Some(ticket),
                    Message::Receipt(receipt) => journal.receipt = Some(receipt),
                    _ => {}
                }
                journal.len += 1;
                self.spoiled = true;
            }
            Tampering::Alter => self.durable.store = None,
            Tampering::WriteStage1Back => {}
        }
    }
}
