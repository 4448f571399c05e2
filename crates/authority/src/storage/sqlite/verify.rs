//! What a database must be before an authority works with it: whole for SQLite, of this release's schema, and row by row
//! as it was written.
//!
//! A disk, a copy or an editor may have changed any byte. SQLite notices broken pages when it comes to them, and never a
//! row that is well-formed but another; so all is looked at once, at the start.

use boot_crypto::Digest;
use sqlx::Row as _;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteRow};

use super::super::chain::{Entry, Replay, Table};
use super::super::{StorageError, Transaction as _};
use super::rows::{
    array, audit_row, delegation_row, head, install_row, key_row, lot_row, receipt_row, ticket_row,
};
use super::{Open, Sqlite, migrator};

/// Everything that the schema consists of, but for the table that the migrations keep themselves.
const SCHEMA: &str = "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_schema
    WHERE tbl_name != '_sqlx_migrations' ORDER BY type, name";

/// Verifies a database.
pub(super) async fn verify(database: &Sqlite) -> Result<(), StorageError> {
    let mut open = Open::new(database.readers.begin().await?);
    structures(&mut open).await?;
    if schema(&mut open.tx).await? != expected_schema().await? {
        return Err(damaged("its schema is not this release's"));
    }
    let rows = entries(&mut open).await?;
    if open.head().await?.sequence == 0 && !rows.is_empty() {
        drop(open);
        return adopt(database).await;
    }
    let head = replay(&mut open).await?.compare(&rows).map_err(StorageError::Damaged)?;
    if head != open.head().await? {
        return Err(damaged("its hash chain ends twice"));
    }
    Ok(())
}

/// Begins the chain of books that an earlier release wrote without one.
async fn adopt(database: &Sqlite) -> Result<(), StorageError> {
    let mut open = Open::new(database.writer.begin_with("BEGIN IMMEDIATE").await?);
    if open.head().await?.sequence == 0 {
        for entry in entries(&mut open).await? {
            open.chained(entry);
        }
        Box::new(open).commit().await?;
    }
    Ok(())
}

async fn structures(open: &mut Open) -> Result<(), StorageError> {
    let found = sqlx::query("PRAGMA integrity_check(1)").fetch_all(&mut *open.tx).await?;
    let found = found.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    if found != ["ok"] {
        return Err(damaged(format!("SQLite finds: {}", found.join("; "))));
    }
    if !sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *open.tx).await?.is_empty() {
        return Err(damaged("a row belongs to one that there is not"));
    }
    let miscounted = "SELECT name FROM lots
        WHERE issued != (SELECT count(*) FROM installs WHERE installs.lot = lots.name)";
    match sqlx::query(miscounted).fetch_optional(&mut *open.tx).await? {
        Some(lot) => {
            Err(damaged(format!("lot {} counts other installs than it has", lot.try_get::<&str, _>(0)?)))
        }
        None => Ok(()),
    }
}

async fn schema(connection: &mut sqlx::SqliteConnection) -> Result<Vec<[String; 4]>, StorageError> {
    let rows = sqlx::query(SCHEMA).fetch_all(connection).await?;
    let text = |row: &SqliteRow| Ok([row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(3)?]);
    rows.iter().map(text).collect()
}

/// Makes the schema anew in memory.
async fn expected_schema() -> Result<Vec<[String; 4]>, StorageError> {
    let options = SqliteConnectOptions::new().in_memory(true);
    let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
    migrator().run(&pool).await?;
    let expected = schema(&mut *pool.acquire().await?).await;
    pool.close().await;
    expected
}

async fn replay(open: &mut Open) -> Result<Replay, StorageError> {
    let links = sqlx::query("SELECT sequence, entries, head FROM chain ORDER BY sequence");
    let mut replay: Option<Replay> = None;
    for row in links.fetch_all(&mut *open.tx).await? {
        let (head, entries) = (head(&row)?, row.try_get::<&[u8], _>("entries")?);
        match &mut replay {
            None => {
                replay =
                    Some(Replay::begin(head.sequence, entries, head.digest).map_err(StorageError::Damaged)?)
            }
            Some(replay) => {
                replay.link(head.sequence, entries, head.digest).map_err(StorageError::Damaged)?;
            }
        }
    }
    replay.ok_or_else(|| damaged("its hash chain is gone"))
}

/// Makes the entry of every row that there is.
async fn entries(open: &mut Open) -> Result<Vec<Entry>, StorageError> {
    let mut all = Vec::new();
    rows(open, &mut all, "SELECT * FROM keys", |row| Ok(Entry::key(&key_row(row)?))).await?;
    rows(open, &mut all, "SELECT * FROM delegations", |row| Ok(Entry::delegation(&delegation_row(row)?)))
        .await?;
    rows(open, &mut all, "SELECT * FROM lots", |row| Ok(Entry::lot(&lot_row(row)?))).await?;
    rows(open, &mut all, "SELECT * FROM lot_dies", |row| {
        let chip_id: [u8; 16] = array(row, "chip_id", "lot_dies")?;
        Ok(Entry::of_lot(Table::LotDies, row.try_get("lot")?, &chip_id))
    })
    .await?;
    rows(open, &mut all, "SELECT * FROM lot_stations", |row| {
        let fingerprint: Digest = array(row, "fingerprint", "lot_stations")?;
        Ok(Entry::of_lot(Table::LotStations, row.try_get("lot")?, &fingerprint))
    })
    .await?;
    rows(open, &mut all, "SELECT * FROM installs", |row| Ok(Entry::install(&install_row(row)?))).await?;
    rows(open, &mut all, "SELECT * FROM tickets", |row| Ok(Entry::ticket(&ticket_row(row)?))).await?;
    rows(open, &mut all, "SELECT * FROM receipts", |row| Ok(Entry::receipt(&receipt_row(row)?))).await?;
    rows(open, &mut all, "SELECT * FROM audit", |row| Ok(Entry::audit(&audit_row(row)?))).await?;
    Ok(all)
}

async fn rows(
    open: &mut Open,
    to: &mut Vec<Entry>,
    sql: &'static str,
    entry: impl Fn(&SqliteRow) -> Result<Entry, StorageError>,
) -> Result<(), StorageError> {
    for row in sqlx::query(sql).fetch_all(&mut *open.tx).await? {
        to.push(entry(&row)?);
    }
    Ok(())
}

fn damaged(why: impl Into<String>) -> StorageError {
    StorageError::Damaged(why.into())
}
