//! Mistakes that the check has to find: kept for good, each with the property that it breaks.

use super::super::script::{SCRIPT, Task};
use super::super::{Entry, Operation};
use super::properties::{
    DURABLE, FORWARD, FUSED_LAST, Goal, NOT_TRANSFERABLE, ONE_INSTALL, PLAINTEXT, QUOTA, TICKET, WAY_ON,
    WHOLE_SEED, WIPED,
};

/// A mistake in whoever is not the script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mistake {
    /// The authority tells what is not committed.
    ToldBeforeTheCommit,
    /// It judges before its transaction only.
    CountedOutsideTheTransaction,
    /// It does not look for the ticket that a request has already.
    ATicketForEachAsking,
    /// It gives a ticket once, and refuses its nonce from then on.
    ATicketIsToldOnce,
    /// It does not look for the install that a die has already.
    AnInstallForEachSession,
    /// It finds the quota full before it looks for the install that a die has.
    QuotaBeforeTheInstall,
    /// It takes a place of the quota when it judges, and does not give it back when it is restarted.
    APlaceIsLostWithTheProcess,
    /// It releases the certificate with the receipt.
    CertificateBeforeTheProof,
    /// The device does not compare a ticket with its session.
    AnyTicketWillDo,
    /// The device does not compare a receipt with its request.
    AnyReceiptWillDo,
    /// The device leaves plaintext in storage while it converts.
    PlaintextIsKept,
    /// The device looks neither at the fuses when it starts nor at what they hold when it burns.
    FusesAreNotLookedAt,
    /// The device takes a seed that is burned in part for burned.
    ATornSeedIsTakenForWhole,
    /// The device takes a seed that is burned in part for another's, even if it is its own.
    ATornSeedIsTakenForScrap,
    /// The device wipes nothing when it stops.
    NothingIsWiped,
    /// stage1 erases itself when the authority refuses.
    ARefusedDieErasesItself,
    /// stage2 says that it has the certificate before it is written.
    AcknowledgedFirst,
    /// stage0 boots a provisioning stage wherever it finds one.
    Stage1BootsInProduction,
}

/// Takes operations out of the script and puts them before another task.
pub(super) fn moved(operations: &[Operation], before: Task) -> Vec<Task> {
    let tasks: Vec<Task> = operations.iter().map(|operation| Task::Perform(*operation)).collect();
    let mut script: Vec<Task> = SCRIPT.iter().copied().filter(|task| !tasks.contains(task)).collect();
    let at = script.iter().position(|other| *other == before).unwrap();
    script.splice(at..at, tasks);
    assert_eq!(script.len(), SCRIPT.len());
    script
}

/// Takes a task out of the script.
pub(super) fn without(task: Task) -> Vec<Task> {
    let script: Vec<Task> = SCRIPT.iter().copied().filter(|other| *other != task).collect();
    assert_eq!(script.len() + 1, SCRIPT.len());
    script
}

/// What a mistake breaks.
#[derive(Clone, Copy)]
pub(super) enum Falls {
    /// This property.
    Property(&'static str),
    /// This goal: it cannot be reached from everywhere.
    Goal(Goal),
}

/// What is wrong, what is to fall, and the smallest world in which it does.
pub(super) struct Mutant {
    pub(super) name: &'static str,
    pub(super) script: Vec<Task>,
    pub(super) mistake: Option<Mistake>,
    pub(super) falls: Falls,
    pub(super) quota: u8,
    pub(super) tamperings: u8,
}

/// Every mistake that is kept.
pub(super) fn mutants() -> Vec<Mutant> {
    use Falls::Property;
    use Operation::*;
    let new = |name, script, mistake, falls| Mutant { name, script, mistake, falls, quota: 1, tamperings: 0 };
    let order = |name, script, property| new(name, script, None, Property(property));
    let other = |name, mistake, falls| new(name, SCRIPT.to_vec(), Some(mistake), falls);
    let before_session = Task::Record(Entry::Session);
    let before_seed = Task::Record(Entry::Seed);
    vec![
        order("asks before the session is durable", moved(&[AskForTicket], before_session), DURABLE),
        order("makes keys of a seed that is not durable", moved(&[ReKey], before_seed), DURABLE),
        order("has a seed certified that is not durable", moved(&[SendCsr], before_seed), DURABLE),
        order("decrypts before the ticket", moved(&[ReKey], Task::Perform(AskForTicket)), TICKET),
        order("is born without a ticket", moved(&[DrawSeed], Task::Perform(AskForTicket)), WAY_ON),
        order("overwrites the only stage1 in place", without(Task::Perform(CheckBackup)), WAY_ON),
        order("burns before stage2 is there", moved(&[BurnFuses], Task::Perform(ReplaceStage)), FUSED_LAST),
        order("burns before it is certified", moved(&[BurnFuses], Task::Perform(SendCsr)), FUSED_LAST),
        order("leaves no install to be proved", without(Task::Perform(MarkClosing)), FUSED_LAST),
        Mutant {
            tamperings: 1,
            ..order("burns without a final check", without(Task::Perform(FinalCheck)), FUSED_LAST)
        },
        other("tells before the commit", Mistake::ToldBeforeTheCommit, Property(DURABLE)),
        other("counts outside the transaction", Mistake::CountedOutsideTheTransaction, Property(QUOTA)),
        other("makes a ticket for each asking", Mistake::ATicketForEachAsking, Property(ONE_INSTALL)),
        Mutant {
            quota: 2,
            tamperings: 1,
            ..other("reserves for each session", Mistake::AnInstallForEachSession, Property(ONE_INSTALL))
        },
        other("releases with the receipt", Mistake::CertificateBeforeTheProof, Property(FUSED_LAST)),
        other("takes any ticket", Mistake::AnyTicketWillDo, Property(TICKET)),
        Mutant {
            quota: 2,
            ..other("takes any receipt", Mistake::AnyReceiptWillDo, Property(NOT_TRANSFERABLE))
        },
        other("keeps plaintext", Mistake::PlaintextIsKept, Property(PLAINTEXT)),
        Mutant {
            tamperings: 1,
            ..other("burns a second seed over a first", Mistake::FusesAreNotLookedAt, Property(WHOLE_SEED))
        },
        other("closes with half a seed", Mistake::ATornSeedIsTakenForWhole, Property(WHOLE_SEED)),
        other("takes a torn seed for scrap", Mistake::ATornSeedIsTakenForScrap, Property(WAY_ON)),
        other("wipes nothing", Mistake::NothingIsWiped, Property(WIPED)),
        other("boots stage1 in Production", Mistake::Stage1BootsInProduction, Property(FORWARD)),
        other("looks at the quota first", Mistake::QuotaBeforeTheInstall, Falls::Goal(Goal::Ends(0))),
        other("tells a ticket once", Mistake::ATicketIsToldOnce, Falls::Goal(Goal::Ends(1))),
        other("erases itself when refused", Mistake::ARefusedDieErasesItself, Falls::Goal(Goal::MayAsk(0))),
        other("acknowledges first", Mistake::AcknowledgedFirst, Falls::Goal(Goal::IsCertified(0))),
        other(
            "loses a place of the quota",
            Mistake::APlaceIsLostWithTheProcess,
            Falls::Goal(Goal::QuotaIsUsed),
        ),
    ]
}
