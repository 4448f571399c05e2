//! The one order in which provisioning goes.

use super::{Entry, Operation, Step};

/// One thing to do, or one fact to make durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Task {
    /// Work whose result the tasks behind it need.
    Perform(Operation),
    /// A journal entry, which is durable before the task behind it begins.
    Record(Entry),
}

use Entry::{Begun, Done, Receipt, Seed, Session, Ticket};
use Operation::{
    AskForTicket, BurnFuses, CheckBackup, CheckPrimary, DrawSeed, DrawSession, FinalCheck, MarkClosing,
    OpenSeed, OpenSession, OpenTicket, ProvePlace, ReKey, ReadBack, ReplaceStage, SendCsr, VerifyReceipt,
};
use Task::{Perform, Record};

/// Provisioning from the first step to the last, the journal left out of what is repeated.
///
/// What must not change is held by the tests of this folder: nothing is asked before the key for the answer is
/// journalled; nothing is decrypted before the ticket; the seed is journalled before a key is made of it; the store is
/// read back before the stage is replaced; the primary slot is written only while the backup holds this stage; fuses
/// are burned last.
pub(crate) const SCRIPT: &[Task] = &[
    Record(Begun(Step::ProvePlace)),
    Perform(ProvePlace),
    Record(Done(Step::ProvePlace)),
    Record(Begun(Step::Ask)),
    Perform(DrawSession),
    Record(Session),
    Perform(AskForTicket),
    Record(Ticket),
    Record(Done(Step::Ask)),
    Record(Begun(Step::BeBorn)),
    Perform(DrawSeed),
    Record(Seed),
    Record(Done(Step::BeBorn)),
    Record(Begun(Step::ReKey)),
    Perform(ReKey),
    Perform(ReadBack),
    Record(Done(Step::ReKey)),
    Record(Begun(Step::Identity)),
    Perform(SendCsr),
    Record(Receipt),
    Record(Done(Step::Identity)),
    Record(Begun(Step::Replace)),
    Perform(CheckBackup),
    Perform(ReplaceStage),
    Perform(CheckPrimary),
    Record(Done(Step::Replace)),
    Record(Begun(Step::CheckAndFuse)),
    Perform(FinalCheck),
    Perform(MarkClosing),
    Perform(BurnFuses),
    Record(Done(Step::CheckAndFuse)),
];

/// What has to be in memory again after a restart: the work, and the entry that says that it was done before.
pub(crate) const RECOVERY: &[(Operation, Entry)] = &[
    (ProvePlace, Done(Step::ProvePlace)),
    (OpenSession, Session),
    (OpenTicket, Ticket),
    (OpenSeed, Seed),
    (VerifyReceipt, Receipt),
];

/// Finds where a task stands in a script.
pub(crate) fn position(script: &[Task], task: Task) -> Option<usize> {
    script.iter().position(|other| *other == task)
}
