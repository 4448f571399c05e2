//! Rows of the database, as the authority has them.

use fail_code::FailCode;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::{
    AuditRow, DelegationRow, Head, InstallRow, KeyRow, LotRow, ReceiptRow, State, StorageError, TicketRow,
};

pub(super) fn array<const N: usize>(
    row: &SqliteRow,
    column: &str,
    table: &'static str,
) -> Result<[u8; N], StorageError> {
    row.try_get::<&[u8], _>(column)?.try_into().map_err(|_| StorageError::Row { table })
}

fn optional<const N: usize>(
    row: &SqliteRow,
    column: &str,
    table: &'static str,
) -> Result<Option<[u8; N]>, StorageError> {
    let bytes = row.try_get::<Option<&[u8]>, _>(column)?;
    bytes.map(|bytes| bytes.try_into().map_err(|_| StorageError::Row { table })).transpose()
}

pub(super) fn count(row: &SqliteRow) -> Result<u32, StorageError> {
    Ok(row.try_get(0)?)
}

pub(super) fn head(row: &SqliteRow) -> Result<Head, StorageError> {
    Ok(Head { sequence: row.try_get("sequence")?, digest: array(row, "head", "chain")? })
}

pub(super) fn key_row(row: &SqliteRow) -> Result<KeyRow, StorageError> {
    Ok(KeyRow {
        name: row.try_get("name")?,
        sealed: row.try_get("sealed")?,
        public: array(row, "public", "keys")?,
        certificate: row.try_get("certificate")?,
    })
}

pub(super) fn delegation_row(row: &SqliteRow) -> Result<DelegationRow, StorageError> {
    let table = "delegations";
    Ok(DelegationRow {
        root_digest: array(row, "root_digest", table)?,
        root_key: array(row, "root_key", table)?,
        certificate: row.try_get("certificate")?,
    })
}

pub(super) fn lot_row(row: &SqliteRow) -> Result<LotRow, StorageError> {
    Ok(LotRow {
        name: row.try_get("name")?,
        created_at: row.try_get("created_at")?,
        terms: row.try_get("terms")?,
        content_key: row.try_get("content_key")?,
        quota: row.try_get("quota")?,
        issued: row.try_get("issued")?,
        revoked: row.try_get("revoked")?,
    })
}

pub(super) fn install_row(row: &SqliteRow) -> Result<InstallRow, StorageError> {
    let table = "installs";
    let state: &str = row.try_get("state")?;
    let state = State::ALL.into_iter().find(|known| known.name() == state);
    Ok(InstallRow {
        id: array(row, "id", table)?,
        lot: row.try_get("lot")?,
        chip_id: array(row, "chip_id", table)?,
        die_key: array(row, "die_key", table)?,
        serial: row.try_get("serial")?,
        state: state.ok_or(StorageError::Row { table })?,
        tickets: row.try_get("tickets")?,
        session: array(row, "session", table)?,
        csr: row.try_get("csr")?,
        certificate: row.try_get("certificate")?,
        release: row.try_get("release")?,
        reserved_at: row.try_get("reserved_at")?,
        closed_at: row.try_get("closed_at")?,
    })
}

pub(super) fn ticket_row(row: &SqliteRow) -> Result<TicketRow, StorageError> {
    let table = "tickets";
    Ok(TicketRow {
        request: array(row, "request", table)?,
        nonce: array(row, "nonce", table)?,
        install: array(row, "install", table)?,
        stage_key: array(row, "stage_key", table)?,
        stage1: array(row, "stage1", table)?,
        ticket: row.try_get("ticket")?,
        issued_at: row.try_get("issued_at")?,
    })
}

pub(super) fn receipt_row(row: &SqliteRow) -> Result<ReceiptRow, StorageError> {
    let table = "receipts";
    Ok(ReceiptRow {
        message: array(row, "message", table)?,
        install: array(row, "install", table)?,
        receipt: row.try_get("receipt")?,
        received_at: row.try_get("received_at")?,
    })
}

pub(super) fn audit_row(row: &SqliteRow) -> Result<AuditRow, StorageError> {
    let table = "audit";
    let code: Option<u16> = row.try_get("code")?;
    let code = code.map(|number| FailCode::from_number(number).ok_or(StorageError::Row { table }));
    Ok(AuditRow {
        id: row.try_get("id")?,
        at: row.try_get("at")?,
        event: row.try_get("event")?,
        code: code.transpose()?,
        lot: row.try_get("lot")?,
        chip_id: optional(row, "chip_id", table)?,
        install: optional(row, "install", table)?,
        station: optional(row, "station", table)?,
        detail: row.try_get("detail")?,
        count: row.try_get("count")?,
    })
}
