//! Tickets: exactly one install for a die, and the same ticket for the same request.

use boot_crypto::Digest;
use fail_code::FailCode;

use super::{Context, MAX_TICKETS, Outcome, Verdict, gate, now};
use crate::storage::{InstallRow, Later, State, TicketRow, Transaction};
use crate::vendor::Die;
use crate::writer::Decision;
use crate::{Refusal, hex, lot};

/// A request whose signatures, measurement and fuses are those of the lot.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) lot: String,
    pub(crate) station: Digest,
    pub(crate) die: Die,
    /// SHA-256 of the whole request.
    pub(crate) request: Digest,
    pub(crate) nonce: [u8; 32],
    pub(crate) stage_key: [u8; 64],
    pub(crate) stage1: Digest,
}

/// What a request may have.
pub(crate) enum Judgement {
    /// The ticket that it got before.
    Stored(TicketRow),
    /// Another ticket for the install that its die has.
    Again(InstallRow),
    /// A place in the quota, and a ticket.
    New,
}

/// Judges a request by what is stored.
pub(crate) async fn judge(tx: &mut dyn Transaction, asked: &Asked) -> Verdict<Judgement> {
    let lot = match gate(tx, &asked.lot, &asked.station).await? {
        Ok(lot) => lot,
        Err(refusal) => return Ok(Err(refusal)),
    };
    let refuse = |code, detail: String| Ok(Err(Refusal::new(code, detail)));
    let chip = hex::encode(&asked.die.chip_id);
    if !tx.takes_die(&asked.lot, &asked.die.chip_id).await? {
        return refuse(FailCode::DieNotListed, format!("die {chip}"));
    }
    let installs = tx.installs_of_die(&asked.die.chip_id, &asked.die.key).await?;
    let is_this =
        |install: &InstallRow| (install.chip_id, install.die_key) == (asked.die.chip_id, asked.die.key);
    let install = match installs.as_slice() {
        [] => None,
        [install] if is_this(install) => Some(install),
        _ => return refuse(FailCode::DieConflict, format!("die {chip}")),
    };
    if let Some(install) = install {
        let named = || format!("die {chip}, install {}", hex::encode(&install.id));
        match install.state {
            State::Closed => return refuse(FailCode::DieClosed, named()),
            State::Void => return refuse(FailCode::InstallVoid, named()),
            State::Reserved | State::Csr => {}
        }
        if install.lot != asked.lot {
            return refuse(FailCode::DieOfOtherLot, format!("die {chip} has begun in lot {}", install.lot));
        }
    }
    if let Some(ticket) = tx.ticket(&asked.request).await? {
        return Ok(Ok(Judgement::Stored(ticket)));
    }
    if tx.nonce_used(&asked.nonce).await? {
        return refuse(FailCode::NonceReplayed, format!("die {chip}, nonce {}", hex::encode(&asked.nonce)));
    }
    match install {
        Some(install) if install.tickets >= MAX_TICKETS => {
            refuse(FailCode::TicketsExhausted, format!("die {chip} has had {} tickets", install.tickets))
        }
        Some(install) => Ok(Ok(Judgement::Again(install.clone()))),
        None if lot.issued >= lot.quota => refuse(
            FailCode::QuotaExhausted,
            format!("all {} installs of lot {} are taken", lot.quota, lot.name),
        ),
        None => Ok(Ok(Judgement::New)),
    }
}

/// Stores a ticket, and reserves the install that it grants if the die has none yet.
pub(crate) struct Reserve {
    pub(crate) asked: Asked,
    /// The install that the ticket was made for.
    pub(crate) install: [u8; 32],
    /// Whether that install is to be reserved.
    pub(crate) new: bool,
    pub(crate) ticket: Vec<u8>,
}

impl Decision for Reserve {
    type Answer = Outcome;

    fn decide<'a>(&'a self, tx: &'a mut dyn Transaction) -> Later<'a, Outcome> {
        Box::pin(async move {
            let asked = &self.asked;
            let context = Context {
                station: Some(asked.station),
                lot: Some(asked.lot.clone()),
                chip_id: Some(asked.die.chip_id),
                install: Some(self.install),
            };
            let judgement = match judge(tx, asked).await? {
                Ok(judgement) => judgement,
                Err(refusal) => {
                    tx.insert_audit(&Context { install: None, ..context }.refused(&refusal)).await?;
                    return Ok(Outcome::Refused(refusal));
                }
            };
            match judgement {
                Judgement::Stored(stored) => return Ok(Outcome::Answer(stored.ticket)),
                Judgement::Again(install) if !self.new && install.id == self.install => {
                    let tickets = install.tickets + 1;
                    tx.update_install(&InstallRow { tickets, session: asked.request, ..install }).await?;
                    tx.insert_audit(&context.done("ticket", format!("ticket {tickets} for this die")))
                        .await?;
                }
                Judgement::New if self.new => {
                    tx.reserve(&self.reserved()).await?;
                    tx.insert_audit(&context.done("reserved", "")).await?;
                }
                Judgement::Again(_) | Judgement::New => return Ok(Outcome::Stale),
            }
            tx.insert_ticket(&TicketRow {
                request: asked.request,
                nonce: asked.nonce,
                install: self.install,
                stage_key: asked.stage_key,
                stage1: asked.stage1,
                ticket: self.ticket.clone(),
                issued_at: now(),
            })
            .await?;
            Ok(Outcome::Answer(self.ticket.clone()))
        })
    }
}

impl Reserve {
    fn reserved(&self) -> InstallRow {
        InstallRow {
            id: self.install,
            lot: self.asked.lot.clone(),
            chip_id: self.asked.die.chip_id,
            die_key: self.asked.die.key,
            serial: lot::serial(&self.asked.lot, &self.install),
            state: State::Reserved,
            tickets: 1,
            session: self.asked.request,
            csr: None,
            certificate: None,
            release: None,
            reserved_at: now(),
            closed_at: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::sqlite::Sqlite;
    use crate::storage::{LotRow, Storage as _};

    const ID: [u8; 32] = [1; 32];

    /// Asks for `install`, as a request that saw the books earlier; tells what was decided.
    async fn decided(storage: &Sqlite, number: u8, chip: u8, install: [u8; 32], new: bool) -> &'static str {
        let asked = Asked {
            lot: "lot".into(),
            station: [0; 32],
            die: Die { chip_id: [chip; 16], key: [chip; 64] },
            request: [number; 32],
            nonce: [number; 32],
            stage_key: [number; 64],
            stage1: [0; 32],
        };
        let mut tx = storage.write().await.unwrap();
        let outcome = Reserve { asked, install, new, ticket: vec![number] }.decide(&mut *tx).await.unwrap();
        tx.commit().await.unwrap();
        match outcome {
            Outcome::Answer(ticket) if ticket == [number] => "this ticket",
            Outcome::Answer(_) => "another ticket",
            Outcome::Stale => "stale",
            Outcome::Refused(_) => "refused",
        }
    }

    #[tokio::test]
    async fn a_ticket_made_for_what_has_changed_since_is_stale() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Sqlite::create(&folder.path().join("books")).await.unwrap();
        let lot = LotRow {
            name: "lot".into(),
            created_at: 0,
            terms: String::new(),
            content_key: Vec::new(),
            quota: 1,
            issued: 0,
            revoked: false,
        };
        let mut tx = storage.write().await.unwrap();
        tx.insert_lot(&lot, &[], &[]).await.unwrap();
        tx.commit().await.unwrap();

        // For an install that the die does not have.
        assert_eq!(decided(&storage, 1, 1, ID, false).await, "stale");
        assert_eq!(decided(&storage, 2, 1, ID, true).await, "this ticket");
        // To reserve one, which another request has done since; under the same id, too.
        assert_eq!(decided(&storage, 3, 1, [2; 32], true).await, "stale");
        assert_eq!(decided(&storage, 4, 1, ID, true).await, "stale");
        // For an install that is another's.
        assert_eq!(decided(&storage, 5, 1, [2; 32], false).await, "stale");
        assert_eq!(decided(&storage, 6, 1, ID, false).await, "this ticket");
        assert_eq!(decided(&storage, 7, 2, [2; 32], true).await, "refused");

        let mut tx = storage.read().await.unwrap();
        let install = tx.install(&ID).await.unwrap().unwrap();
        assert_eq!((install.tickets, install.session), (2, [6; 32]), "a stale ticket leaves no trace");
        assert_eq!(tx.lot("lot").await.unwrap().unwrap().issued, 1);
        for (number, stored) in [(1, false), (2, true), (3, false), (4, false), (5, false), (6, true)] {
            assert_eq!(tx.ticket(&[number; 32]).await.unwrap().is_some(), stored, "request {number}");
        }
    }
}
