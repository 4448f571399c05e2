//! Where the service is killed.

use std::time::Duration;

use authority::fail_point::FailPoint;
use factory_proto::Message;

/// What is going on when the service is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stage {
    /// Dies get tickets.
    Ticket,
    /// Dies are refused: the quota is exhausted.
    Refusal,
    /// Certificate requests are acknowledged.
    Receipt,
    /// Certificates are released.
    Release,
}

impl Stage {
    pub(crate) const ALL: [Self; 4] = [Self::Ticket, Self::Refusal, Self::Receipt, Self::Release];

    /// Returns what dies ask in this stage.
    pub(crate) fn question(self) -> Message {
        match self {
            Self::Ticket | Self::Refusal => Message::Request,
            Self::Receipt => Message::Csr,
            Self::Release => Message::ClosingProof,
        }
    }
}

/// How a service ends.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Death {
    /// It kills itself when it comes to this place for this time.
    At(FailPoint, u64),
    /// It is killed once it has told a die something new.
    AfterReply,
    /// It is killed after this time.
    After(Duration),
}

/// Returns the stages in which new work comes to a place. Without a wildcard: a new place must be put somewhere.
pub(crate) fn stages(point: FailPoint) -> &'static [Stage] {
    use FailPoint as P;
    use Stage::{Receipt, Refusal, Release, Ticket};
    match point {
        P::BeforeTransaction
        | P::BeforeAudit
        | P::AfterAudit
        | P::BeforeChain
        | P::BeforeCommit
        | P::AfterCommit
        | P::BeforeAnchor
        | P::AnchorWritten
        | P::AnchorRenamed
        | P::AfterAnchor => &Stage::ALL,
        P::BeforeReserve | P::InReserve | P::AfterReserve | P::BeforeTicket | P::AfterTicket => &[Ticket],
        P::BeforeReceipt | P::AfterReceipt | P::BeforeUpdate | P::AfterUpdate => &[Receipt],
        P::BeforeClose | P::AfterClose => &[Release],
        P::BeforeTicketReply => &[Ticket],
        P::BeforeReceiptReply => &[Receipt],
        P::BeforeReleaseReply => &[Release],
        P::BeforeRefusalReply => &[Refusal],
    }
}

/// Lists the deaths of a stage: every place that it comes to, and after the reply.
pub(crate) fn deaths(stage: Stage, hit: impl Fn() -> u64) -> Vec<Death> {
    let here = FailPoint::ALL.iter().filter(|point| stages(**point).contains(&stage));
    here.map(|point| Death::At(*point, hit())).chain([Death::AfterReply]).collect()
}
