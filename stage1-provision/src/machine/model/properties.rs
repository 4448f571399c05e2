//! The invariants, by the numbers of the project's list, and what must stay possible.
//!
//! Left out are those that have no meaning here: keys and nonces (10), bytes that are executed (11), rollback floors (12),
//! keys of the factory in the hands of a closed device (13).

use fail_code::FailCode;
use stateright::Property;

use super::die::{Die, Doing, Slot};
use super::graph::name;
use super::message::{Message, Receipt, SEEDS, SESSIONS, Ticket};
use super::world::{Check, World};

pub(super) const QUOTA: &str = "1: authorised dies are within the quota";
pub(super) const ONE_INSTALL: &str = "2: one die has one install, and one request one ticket";
pub(super) const DURABLE: &str = "3: nothing is told, asked or made a key of before it is durable";
pub(super) const TICKET: &str = "4: nothing is decrypted without a ticket for this die and session";
pub(super) const PLAINTEXT: &str = "5: no plaintext in storage";
pub(super) const WAY_ON: &str = "6: every durable state has a way on";
pub(super) const FORWARD: &str = "7: stage1 never runs in Production";
pub(super) const FUSED_LAST: &str = "8: fuses burn last, and a certificate comes after them";
pub(super) const WHOLE_SEED: &str = "9: one seed is burned, and whole before the device is closed";
pub(super) const WIPED: &str = "14: a failure wipes secrets";
pub(super) const NOT_TRANSFERABLE: &str =
    "15: tickets, receipts and certificates are taken by the die they are for";
/// How the way to one state is found.
pub(super) const LOOKED_FOR: &str = "the state that is looked for";

fn unbroken<const N: usize>(world: &World<N>, number: u32) -> bool {
    world.broken >> number & 1 == 0
}

fn tickets(die: u8) -> impl Iterator<Item = [Ticket; 2]> {
    (0..SESSIONS).map(move |session| [0, 1].map(|made| Ticket { die, session, made }))
}

/// Tells whether all answers that were ever told are stored.
fn is_stored<const N: usize>(world: &World<N>) -> bool {
    (0..).zip(&world.authority.books).all(|(die, book)| {
        let seeds = (0..SEEDS)
            .flat_map(|seed| [Message::Receipt(Receipt { die, seed }), Message::Release { die, seed }]);
        let tickets = tickets(die).flatten().map(Message::Ticket);
        seeds.chain(tickets).all(|answer| !world.net.has(answer) || book.holds(answer))
    })
}

fn is_whole(die: &Die) -> bool {
    let seed = die.burned_seed();
    seed.is_some() && die.durable.store == seed && Some(die.durable.primary) == seed.map(Slot::Stage2)
}

/// All that must hold in every state.
pub(super) fn safety<const N: usize>() -> Vec<Property<Check<N>>> {
    vec![
        Property::always(QUOTA, |check: &Check<N>, world: &World<N>| {
            let told = (0..N as u8)
                .filter(|die| tickets(*die).flatten().any(|ticket| world.net.has(Message::Ticket(ticket))));
            told.count() <= usize::from(check.quota) && world.authority.issued() <= check.quota
        }),
        Property::always(ONE_INSTALL, |_: &Check<N>, world: &World<N>| {
            let once =
                |pair: [Ticket; 2]| !pair.into_iter().all(|ticket| world.net.has(Message::Ticket(ticket)));
            (0..).zip(&world.authority.books).all(|(die, book)| book.installs <= 1 && tickets(die).all(once))
        }),
        Property::always(DURABLE, |_: &Check<N>, world: &World<N>| unbroken(world, 3) && is_stored(world)),
        Property::always(TICKET, |_: &Check<N>, world: &World<N>| unbroken(world, 4)),
        Property::always(PLAINTEXT, |_: &Check<N>, world: &World<N>| {
            world.dies.iter().all(|die| !die.durable.plaintext)
        }),
        Property::always(WAY_ON, |check: &Check<N>, world: &World<N>| {
            unbroken(world, 6) && world.dies.iter().all(|die| die.boots_something(&check.rules))
        }),
        Property::always(FORWARD, |_: &Check<N>, world: &World<N>| unbroken(world, 7)),
        Property::always(FUSED_LAST, |_: &Check<N>, world: &World<N>| {
            let released =
                |die: &Die| (0..SEEDS).any(|seed| world.net.has(Message::Release { die: die.id, seed }));
            unbroken(world, 8)
                && world.dies.iter().all(|die| match die.in_production() {
                    true => is_whole(die),
                    false => !released(die),
                })
        }),
        Property::always(WHOLE_SEED, |_: &Check<N>, world: &World<N>| {
            world.dies.iter().all(|die| {
                let fuses = &die.durable.fuses;
                let closing = fuses.lifecycle != Default::default();
                fuses.seeds.count_ones() <= 1 && (fuses.seed_whole || !closing)
            })
        }),
        Property::always(WIPED, |_: &Check<N>, world: &World<N>| unbroken(world, 14)),
        Property::always(NOT_TRANSFERABLE, |_: &Check<N>, world: &World<N>| {
            world.dies.iter().all(|die| {
                let journal = &die.durable.journal;
                let own_ticket = journal.ticket.is_none_or(|ticket| ticket.die == die.id);
                let own_receipt = journal.receipt.is_none_or(|receipt| receipt.die == die.id);
                let own_certificate =
                    die.durable.certificate.is_none_or(|seed| Some(seed) == die.burned_seed());
                die.spoiled || own_ticket && own_receipt && own_certificate
            })
        }),
    ]
}

/// What a check has to come to, or it has not looked far enough: each place of the quota ends in a certificate; and where
/// somebody writes to storage, a die that says that it is scrap, and one that is closed with the second of its seeds.
pub(super) fn reached<const N: usize>() -> Vec<Property<Check<N>>> {
    vec![
        Property::sometimes("every place of the quota is closed", |check: &Check<N>, world: &World<N>| {
            let closed = world.dies.iter().filter(|die| die.durable.acknowledged);
            closed.count() == usize::from(check.quota)
        }),
        Property::sometimes("a die is scrap", |check: &Check<N>, world: &World<N>| {
            let scrap = Doing::Off(Some(FailCode::FuseForeign));
            check.tamperings == 0 || world.dies.iter().any(|die| die.doing == scrap)
        }),
        Property::sometimes("a die is closed with another seed", |check: &Check<N>, world: &World<N>| {
            let second = |die: &Die| die.durable.acknowledged && die.burned_seed() == Some(1);
            check.tamperings == 0 || world.dies.iter().any(second)
        }),
    ]
}

/// Not an invariant: the state that is looked for is not come to.
pub(super) fn looked_for<const N: usize>() -> Property<Check<N>> {
    Property::always(LOOKED_FOR, |check: &Check<N>, world: &World<N>| {
        check.looked_for.is_none_or(|looked_for| name(world) != looked_for)
    })
}

/// What must be reachable from everywhere once faults have stopped: in every state it is either reached, or can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Goal {
    /// The die of this number, if it is authorised, is in Production, or has said that it will not be.
    Ends(u8),
    /// The die of this number has asked for a ticket, or has one.
    MayAsk(u8),
    /// The die of this number, if it is closed, has its certificate.
    IsCertified(u8),
    /// As many dies are closed, or lost to their install, as the quota and the dies allow.
    QuotaIsUsed,
}

/// Every goal. A die that a check does not have reaches all.
pub(super) const GOALS: [Goal; 10] = [
    Goal::Ends(0),
    Goal::Ends(1),
    Goal::Ends(2),
    Goal::MayAsk(0),
    Goal::MayAsk(1),
    Goal::MayAsk(2),
    Goal::IsCertified(0),
    Goal::IsCertified(1),
    Goal::IsCertified(2),
    Goal::QuotaIsUsed,
];

impl Goal {
    pub(super) fn holds<const N: usize>(self, check: &Check<N>, world: &World<N>) -> bool {
        let authorised = |die: &Die| world.authority.books[usize::from(die.id)].installs > 0;
        let every =
            |number: u8, holds: &dyn Fn(&Die) -> bool| world.dies.get(usize::from(number)).is_none_or(holds);
        match self {
            Self::Ends(die) => every(die, &|die| !authorised(die) || die.in_production() || has_said_no(die)),
            Self::MayAsk(die) => {
                every(die, &|die| authorised(die) || matches!(die.doing, Doing::Asking { .. }) || die.spoiled)
            }
            Self::IsCertified(die) => every(die, &|die| {
                let has_it = die.durable.acknowledged && die.durable.certificate.is_some();
                !die.in_production() || die.altered || has_it
            }),
            Self::QuotaIsUsed => {
                let lost = |die: &Die| !die.in_production() && has_said_no(die);
                let ended =
                    world.dies.iter().filter(|die| authorised(die) && (die.in_production() || lost(die)));
                let out = world.dies.iter().filter(|die| !authorised(die) && (die.spoiled || lost(die)));
                ended.count() == usize::from(check.quota).min(N - out.count())
            }
        }
    }
}

/// The die has stopped with a last word. One whose storage nobody has written to says so only where it came without a backup.
fn has_said_no(die: &Die) -> bool {
    match die.doing {
        Doing::Off(Some(FailCode::FuseForeign)) => die.altered,
        Doing::Off(Some(_)) => die.altered || die.is_flawed(),
        _ => false,
    }
}
