//! SQLite: one file, one writer, every commit synced to the disk (write-ahead log, `synchronous = FULL`).

mod rows;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use boot_crypto::{Digest, Sha256};
use fail_code::FailCode;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{ConnectOptions as _, SqlSafeStr as _, SqlitePool};

use rows::{array, audit_row, count, delegation_row, install_row, key_row, lot_row, receipt_row, ticket_row};

use super::{
    AuditRow, DelegationRow, Filter, InstallRow, KeyRow, Later, LotRow, ReceiptRow, State, Storage,
    StorageError, TicketRow, Transaction,
};

/// How long a writer waits for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that read.
const READERS: u32 = 4;
/// Within this time, in milliseconds, equal refusals are counted in one audit row.
const REPEAT_WINDOW: i64 = 3_600_000;

/// A database file.
pub struct Sqlite {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Sqlite {
    /// Opens a database, and brings its schema to this release.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn open(path: &Path) -> Result<Self, StorageError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .disable_statement_logging();
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(BUSY_TIMEOUT)
                .test_before_acquire(false)
                .idle_timeout(None)
                .max_lifetime(None)
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        migrator().run(&writer).await?;
        let readers = pool(READERS).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, readers })
    }

    /// Makes an empty database in a new file that only its owner may read.
    ///
    /// # Errors
    /// [`StorageError`]; an existing file is left as it is.
    pub async fn create(path: &Path) -> Result<Self, StorageError> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(sqlx::Error::Io)?;
        let database = Self::open(path).await?;
        sync_folder(path).map_err(sqlx::Error::Io)?;
        Ok(database)
    }

    /// Waits until every connection is closed.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

/// Makes the name of a new file durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

fn migrator() -> Migrator {
    let steps = [(1, "authority", include_str!("../../migrations/sqlite/0001_authority.sql"))];
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.into_iter().map(migration).collect())
}

impl Storage for Sqlite {
    fn write(&self) -> Later<'_, Box<dyn Transaction + '_>> {
        Box::pin(async {
            // Takes the write lock at once: a transaction that reads first could find it taken when it writes.
            let open = self.writer.begin_with("BEGIN IMMEDIATE").await?;
            Ok(Box::new(Open(open)) as Box<dyn Transaction>)
        })
    }

    fn read(&self) -> Later<'_, Box<dyn Transaction + '_>> {
        Box::pin(async { Ok(Box::new(Open(self.readers.begin().await?)) as Box<dyn Transaction>) })
    }
}

/// An open transaction.
struct Open(sqlx::Transaction<'static, sqlx::Sqlite>);

/// Tells rules of the schema from failures of the disk.
fn failure(error: sqlx::Error) -> StorageError {
    match error.as_database_error() {
        Some(database)
            if database.is_unique_violation()
                || database.is_check_violation()
                || database.is_foreign_key_violation() =>
        {
            StorageError::Constraint(database.message().into())
        }
        _ => StorageError::Database(error),
    }
}

/// Runs a statement; the rest of the arguments are bound in their order.
macro_rules! execute {
    ($self:ident, $sql:literal $(, $value:expr)* $(,)?) => {
        sqlx::query($sql)$(.bind($value))*.execute(&mut *$self.0).await.map_err(failure)
    };
}

/// Finds at most one row.
macro_rules! find {
    ($self:ident, $map:expr, $sql:literal $(, $value:expr)* $(,)?) => {
        sqlx::query($sql)$(.bind($value))*
            .fetch_optional(&mut *$self.0)
            .await
            .map_err(failure)?
            .as_ref()
            .map($map)
            .transpose()
    };
}

/// Lists rows.
macro_rules! list {
    ($self:ident, $map:expr, $sql:literal $(, $value:expr)* $(,)?) => {
        sqlx::query($sql)$(.bind($value))*
            .fetch_all(&mut *$self.0)
            .await
            .map_err(failure)?
            .iter()
            .map($map)
            .collect()
    };
}

impl Transaction for Open {
    fn key<'a>(&'a mut self, name: &'a str) -> Later<'a, Option<KeyRow>> {
        Box::pin(async move { find!(self, key_row, "SELECT * FROM keys WHERE name = ?", name) })
    }

    fn insert_key<'a>(&'a mut self, key: &'a KeyRow) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(
                self,
                "INSERT INTO keys (name, sealed, public, certificate) VALUES (?, ?, ?, ?)",
                &key.name,
                &key.sealed,
                &key.public[..],
                key.certificate.as_deref(),
            )?;
            Ok(())
        })
    }

    fn delegation<'a>(&'a mut self, root: &'a Digest) -> Later<'a, Option<DelegationRow>> {
        Box::pin(async move {
            find!(self, delegation_row, "SELECT * FROM delegations WHERE root_digest = ?", &root[..])
        })
    }

    fn set_delegation<'a>(&'a mut self, delegation: &'a DelegationRow) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(
                self,
                "INSERT INTO delegations (root_digest, root_key, certificate) VALUES (?, ?, ?)
                 ON CONFLICT (root_digest) DO UPDATE SET certificate = excluded.certificate",
                &delegation.root_digest[..],
                &delegation.root_key[..],
                &delegation.certificate,
            )?;
            Ok(())
        })
    }

    fn lot<'a>(&'a mut self, name: &'a str) -> Later<'a, Option<LotRow>> {
        Box::pin(async move { find!(self, lot_row, "SELECT * FROM lots WHERE name = ?", name) })
    }

    fn lots(&mut self) -> Later<'_, Vec<LotRow>> {
        Box::pin(async move { list!(self, lot_row, "SELECT * FROM lots ORDER BY name") })
    }

    fn count<'a>(&'a mut self, lot: &'a str, state: State) -> Later<'a, u32> {
        Box::pin(async move {
            let count = find!(
                self,
                count,
                "SELECT count(*) FROM installs WHERE lot = ? AND state = ?",
                lot,
                state.name()
            )?;
            Ok(count.unwrap_or(0))
        })
    }

    fn insert_lot<'a>(
        &'a mut self,
        lot: &'a LotRow,
        dies: &'a [[u8; 16]],
        stations: &'a [Digest],
    ) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(
                self,
                "INSERT INTO lots (name, created_at, terms, content_key, quota) VALUES (?, ?, ?, ?, ?)",
                &lot.name,
                lot.created_at,
                &lot.terms,
                &lot.content_key,
                lot.quota,
            )?;
            for die in dies {
                execute!(
                    self,
                    "INSERT OR IGNORE INTO lot_dies (lot, chip_id) VALUES (?, ?)",
                    &lot.name,
                    &die[..]
                )?;
            }
            for station in stations {
                self.admit(&lot.name, station).await?;
            }
            Ok(())
        })
    }

    fn set_quota<'a>(&'a mut self, lot: &'a str, quota: u32) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(self, "UPDATE lots SET quota = ? WHERE name = ?", quota, lot)?;
            Ok(())
        })
    }

    fn revoke<'a>(&'a mut self, lot: &'a str) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(self, "UPDATE lots SET revoked = 1 WHERE name = ?", lot)?;
            Ok(())
        })
    }

    fn admit<'a>(&'a mut self, lot: &'a str, station: &'a Digest) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(
                self,
                "INSERT OR IGNORE INTO lot_stations (lot, fingerprint) VALUES (?, ?)",
                lot,
                &station[..]
            )?;
            Ok(())
        })
    }

    fn stations<'a>(&'a mut self, lot: &'a str) -> Later<'a, Vec<Digest>> {
        Box::pin(async move {
            let fingerprint = |row: &SqliteRow| array(row, "fingerprint", "lot_stations");
            list!(self, fingerprint, "SELECT fingerprint FROM lot_stations WHERE lot = ?", lot)
        })
    }

    fn takes_die<'a>(&'a mut self, lot: &'a str, chip_id: &'a [u8; 16]) -> Later<'a, bool> {
        Box::pin(async move {
            let refused = find!(
                self,
                count,
                "SELECT EXISTS (SELECT 1 FROM lot_dies WHERE lot = ?1)
                    AND NOT EXISTS (SELECT 1 FROM lot_dies WHERE lot = ?1 AND chip_id = ?2)",
                lot,
                &chip_id[..],
            )?;
            Ok(refused == Some(0))
        })
    }

    fn install<'a>(&'a mut self, id: &'a [u8; 32]) -> Later<'a, Option<InstallRow>> {
        Box::pin(async move { find!(self, install_row, "SELECT * FROM installs WHERE id = ?", &id[..]) })
    }

    fn installs_of_die<'a>(
        &'a mut self,
        chip_id: &'a [u8; 16],
        die_key: &'a [u8; 64],
    ) -> Later<'a, Vec<InstallRow>> {
        Box::pin(async move {
            list!(
                self,
                install_row,
                "SELECT * FROM installs WHERE chip_id = ? OR die_key = ?",
                &chip_id[..],
                &die_key[..],
            )
        })
    }

    fn installs<'a>(&'a mut self, filter: &'a Filter) -> Later<'a, Vec<InstallRow>> {
        Box::pin(async move {
            list!(
                self,
                install_row,
                "SELECT * FROM installs WHERE (?1 IS NULL OR lot = ?1) AND (?2 IS NULL OR state = ?2)
                 ORDER BY reserved_at DESC, id LIMIT ?3",
                filter.lot.as_deref(),
                filter.state.map(State::name),
                limit(filter),
            )
        })
    }

    fn reserve<'a>(&'a mut self, install: &'a InstallRow) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(self, "UPDATE lots SET issued = issued + 1 WHERE name = ?", &install.lot)?;
            execute!(
                self,
                "INSERT INTO installs
                    (id, lot, chip_id, die_key, serial, state, tickets, session, reserved_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                &install.id[..],
                &install.lot,
                &install.chip_id[..],
                &install.die_key[..],
                &install.serial,
                install.state.name(),
                install.tickets,
                &install.session[..],
                install.reserved_at,
            )?;
            Ok(())
        })
    }

    fn update_install<'a>(&'a mut self, install: &'a InstallRow) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(
                self,
                "UPDATE installs SET state = ?, tickets = ?, session = ?, csr = ?, certificate = ?,
                    release = ?, closed_at = ? WHERE id = ?",
                install.state.name(),
                install.tickets,
                &install.session[..],
                install.csr.as_deref(),
                install.certificate.as_deref(),
                install.release.as_deref(),
                install.closed_at,
                &install.id[..],
            )?;
            Ok(())
        })
    }

    fn ticket<'a>(&'a mut self, request: &'a Digest) -> Later<'a, Option<TicketRow>> {
        Box::pin(
            async move { find!(self, ticket_row, "SELECT * FROM tickets WHERE request = ?", &request[..]) },
        )
    }

    fn nonce_used<'a>(&'a mut self, nonce: &'a [u8; 32]) -> Later<'a, bool> {
        Box::pin(async move {
            let used =
                find!(self, count, "SELECT EXISTS (SELECT 1 FROM tickets WHERE nonce = ?)", &nonce[..])?;
            Ok(used != Some(0))
        })
    }

    fn insert_ticket<'a>(&'a mut self, ticket: &'a TicketRow) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(
                self,
                "INSERT INTO tickets (request, nonce, install, stage_key, stage1, ticket, issued_at)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                &ticket.request[..],
                &ticket.nonce[..],
                &ticket.install[..],
                &ticket.stage_key[..],
                &ticket.stage1[..],
                &ticket.ticket,
                ticket.issued_at,
            )?;
            Ok(())
        })
    }

    fn receipt<'a>(&'a mut self, message: &'a Digest) -> Later<'a, Option<ReceiptRow>> {
        Box::pin(
            async move { find!(self, receipt_row, "SELECT * FROM receipts WHERE message = ?", &message[..]) },
        )
    }

    fn receipts_of<'a>(&'a mut self, install: &'a [u8; 32]) -> Later<'a, u32> {
        Box::pin(async move {
            let count = find!(self, count, "SELECT count(*) FROM receipts WHERE install = ?", &install[..])?;
            Ok(count.unwrap_or(0))
        })
    }

    fn insert_receipt<'a>(&'a mut self, receipt: &'a ReceiptRow) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(
                self,
                "INSERT INTO receipts (message, install, receipt, received_at) VALUES (?, ?, ?, ?)",
                &receipt.message[..],
                &receipt.install[..],
                &receipt.receipt,
                receipt.received_at,
            )?;
            Ok(())
        })
    }

    fn insert_audit<'a>(&'a mut self, row: &'a AuditRow) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(
                self,
                "INSERT INTO audit (at, event, code, lot, chip_id, install, station, detail, repeats)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (repeats) DO UPDATE SET count = count + 1, at = excluded.at",
                row.at,
                &row.event,
                row.code.map(FailCode::number),
                row.lot.as_deref(),
                row.chip_id.as_ref().map(|id| &id[..]),
                row.install.as_ref().map(|id| &id[..]),
                row.station.as_ref().map(|id| &id[..]),
                &row.detail,
                row.code.map(|code| repeats(row, code).to_vec()),
            )?;
            Ok(())
        })
    }

    fn audit<'a>(&'a mut self, filter: &'a Filter) -> Later<'a, Vec<AuditRow>> {
        Box::pin(async move {
            list!(
                self,
                audit_row,
                "SELECT * FROM audit WHERE (?1 IS NULL OR lot = ?1) AND (?2 IS NULL OR code = ?2)
                 ORDER BY id DESC LIMIT ?3",
                filter.lot.as_deref(),
                filter.code.map(FailCode::number),
                limit(filter),
            )
        })
    }

    fn commit<'a>(self: Box<Self>) -> Later<'a, ()>
    where
        Self: 'a,
    {
        Box::pin(async move { self.0.commit().await.map_err(failure) })
    }
}

/// Names what counts as the same refusal again.
fn repeats(row: &AuditRow, code: FailCode) -> Digest {
    let mut hash = Sha256::new();
    hash.update(&(row.at / REPEAT_WINDOW).to_le_bytes());
    hash.update(&code.number().to_le_bytes());
    for part in [
        row.lot.as_ref().map(|lot| lot.as_bytes()),
        row.chip_id.as_ref().map(|id| &id[..]),
        row.install.as_ref().map(|id| &id[..]),
        row.station.as_ref().map(|id| &id[..]),
    ] {
        hash.update(&[u8::from(part.is_some())]);
        hash.update(&(part.map_or(0, <[u8]>::len) as u64).to_le_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.finish()
}

fn limit(filter: &Filter) -> i64 {
    filter.limit.map_or(-1, i64::from)
}
