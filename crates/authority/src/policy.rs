//! What is allowed: reading questions, judging them, and deciding once.
//!
//! A question is judged twice by the same code: before its answer is made, which costs signatures, and again inside
//! the transaction that stores the answer. Between the two the world may change; then the answer is made anew.

pub(crate) mod closing;
pub(crate) mod csr;
pub(crate) mod ticket;

use std::time::{SystemTime, UNIX_EPOCH};

use boot_crypto::Digest;
use fail_code::FailCode;

use crate::storage::{AuditRow, InstallRow, Later, LotRow, StorageError, Transaction};
use crate::writer::Decision;
use crate::{Refusal, hex};

/// Most tickets, and most certificate requests, of one install.
pub(crate) const MAX_TICKETS: u32 = 16;

/// What is known of a question when it is answered or refused: what the audit says of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Context {
    pub(crate) station: Option<Digest>,
    pub(crate) lot: Option<String>,
    pub(crate) chip_id: Option<[u8; 16]>,
    pub(crate) install: Option<[u8; 32]>,
}

impl Context {
    /// Makes the audit row of something that was done.
    pub(crate) fn done(&self, event: &str, detail: impl Into<String>) -> AuditRow {
        AuditRow {
            at: now(),
            event: event.into(),
            lot: self.lot.clone(),
            chip_id: self.chip_id,
            install: self.install,
            station: self.station,
            detail: detail.into(),
            ..AuditRow::default()
        }
    }

    /// Makes the audit row of a refusal.
    pub(crate) fn refused(&self, refusal: &Refusal) -> AuditRow {
        AuditRow { code: Some(refusal.code), ..self.done("refused", refusal.detail.clone()) }
    }
}

/// Writes down what happened, and nothing else.
pub(crate) struct WriteDown(pub(crate) AuditRow);

impl Decision for WriteDown {
    type Answer = ();

    fn decide<'a>(&'a self, tx: &'a mut dyn Transaction) -> Later<'a, ()> {
        tx.insert_audit(&self.0)
    }
}

/// Decides nothing: answers once all that was committed before is durable, and anchored.
pub(crate) struct Settle;

impl Decision for Settle {
    type Answer = ();

    fn decide<'a>(&'a self, _: &'a mut dyn Transaction) -> Later<'a, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// What became of an answer that was to be stored.
pub(crate) enum Outcome {
    /// It, or the one that was stored before, is durable: this is what is answered.
    Answer(Vec<u8>),
    /// Somebody else changed what it was made from: make it anew.
    Stale,
    /// It must not be given.
    Refused(Refusal),
}

/// Returns the time in milliseconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A verdict: what was found, or why not; failures of the database apart.
pub(crate) type Verdict<T> = Result<Result<T, Refusal>, StorageError>;

/// Judges the lot and the station, which every question has to pass first.
pub(crate) async fn gate(tx: &mut dyn Transaction, lot: &str, station: &Digest) -> Verdict<LotRow> {
    let Some(row) = tx.lot(lot).await? else {
        return Ok(Err(Refusal::new(FailCode::LotUnknown, format!("lot {lot:?}"))));
    };
    if row.revoked {
        return Ok(Err(Refusal::new(FailCode::LotRevoked, format!("lot {lot}"))));
    }
    let admitted = tx.stations(lot).await?;
    if !admitted.is_empty() && !admitted.contains(station) {
        let detail = format!("station {} is not admitted to lot {lot}", hex::encode(station));
        return Ok(Err(Refusal::new(FailCode::StationUnauthorised, detail)));
    }
    Ok(Ok(row))
}

/// Finds an install that a device names, and passes it through the gate of its lot. A void one is refused.
pub(crate) async fn gate_install(
    tx: &mut dyn Transaction,
    id: &[u8; 32],
    station: &Digest,
) -> Verdict<InstallRow> {
    let Some(install) = tx.install(id).await? else {
        return Ok(Err(Refusal::new(FailCode::InstallUnknown, format!("install {}", hex::encode(id)))));
    };
    if let Err(refusal) = gate(tx, &install.lot, station).await? {
        return Ok(Err(refusal));
    }
    if install.state == crate::storage::State::Void {
        return Ok(Err(Refusal::new(FailCode::InstallVoid, format!("install {}", hex::encode(id)))));
    }
    Ok(Ok(install))
}
