//! SQLite: one file, one writer, every commit synced to the disk (write-ahead log, `synchronous = FULL`).

mod rows;
mod verify;

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

use rows::{
    array, audit_row, count, delegation_row, head, install_row, key_row, lot_row, receipt_row, ticket_row,
};

use crate::fail_point::{self, FailPoint};

use super::chain::{Entry, Table};
use super::{
    AuditRow, DelegationRow, Filter, Head, InstallRow, KeyRow, Later, LotRow, ReceiptRow, State, Storage,
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
    /// Opens a database, brings its schema to this release, and verifies all of it: SQLite's own structures, the
    /// schema, and every row against the hash chain.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn open(path: &Path) -> Result<Self, StorageError> {
        // SQLite would take an empty file for a database that nobody has written yet.
        if path.metadata().map_err(sqlx::Error::Io)?.len() == 0 {
            return Err(StorageError::Damaged("its file is empty".into()));
        }
        let database = Self::connect(path).await?;
        verify::verify(&database).await?;
        Ok(database)
    }

    /// Makes an empty database in a new file that only its owner may read.
    ///
    /// # Errors
    /// [`StorageError`]; an existing file is left as it is.
    pub async fn create(path: &Path) -> Result<Self, StorageError> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(sqlx::Error::Io)?;
        let database = Self::connect(path).await?;
        sync_folder(path).map_err(sqlx::Error::Io)?;
        Ok(database)
    }

    async fn connect(path: &Path) -> Result<Self, StorageError> {
        let options = fail_point::limited(SqliteConnectOptions::new())
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
        // Books that cannot be written to are no use: better to hear it now than with every question.
        writer.begin_with("BEGIN IMMEDIATE").await?.rollback().await?;
        let readers = pool(READERS).connect_with(options.read_only(true)).await?;
        Ok(Self { writer, readers })
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
    let steps = [
        (1, "authority", include_str!("../../migrations/sqlite/0001_authority.sql")),
        (2, "chain", include_str!("../../migrations/sqlite/0002_chain.sql")),
    ];
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
            Ok(Box::new(Open::new(open)) as Box<dyn Transaction>)
        })
    }

    fn read(&self) -> Later<'_, Box<dyn Transaction + '_>> {
        Box::pin(async { Ok(Box::new(Open::new(self.readers.begin().await?)) as Box<dyn Transaction>) })
    }
}

/// Runs a statement; the rest of the arguments are bound in their order.
macro_rules! execute {
    ($self:ident, $sql:literal $(, $value:expr)* $(,)?) => {
        sqlx::query($sql)$(.bind($value))*.execute(&mut *$self.tx).await.map_err(StorageError::from)
    };
}

/// Finds at most one row.
macro_rules! find {
    ($self:ident, $map:expr, $sql:literal $(, $value:expr)* $(,)?) => {
        sqlx::query($sql)$(.bind($value))*
            .fetch_optional(&mut *$self.tx)
            .await
            ?
            .as_ref()
            .map($map)
            .transpose()
    };
}

/// Lists rows.
macro_rules! list {
    ($self:ident, $map:expr, $sql:literal $(, $value:expr)* $(,)?) => {
        sqlx::query($sql)$(.bind($value))*
            .fetch_all(&mut *$self.tx)
            .await
            ?
            .iter()
            .map($map)
            .collect()
    };
}

/// An open transaction, and what it has written for the chain.
struct Open {
    tx: sqlx::Transaction<'static, sqlx::Sqlite>,
    entries: Vec<u8>,
}

impl Open {
    fn new(tx: sqlx::Transaction<'static, sqlx::Sqlite>) -> Self {
        Self { tx, entries: Vec::new() }
    }

    /// Puts a row, as it now is, into the link that this transaction adds.
    fn chained(&mut self, entry: Entry) {
        entry.encode(&mut self.entries);
    }

    /// Finds where the chain is.
    async fn head(&mut self) -> Result<Head, StorageError> {
        let head = find!(self, head, "SELECT sequence, head FROM chain ORDER BY sequence DESC LIMIT 1")?;
        head.ok_or_else(|| StorageError::Damaged("its hash chain is gone".into()))
    }

    /// Puts a lot that was changed into the chain.
    async fn lot_changed(&mut self, name: &str) -> Result<(), StorageError> {
        let lot = self.lot(name).await?;
        lot.iter().for_each(|lot| self.chained(Entry::lot(lot)));
        Ok(())
    }
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
            self.chained(Entry::key(key));
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
            self.chained(Entry::delegation(delegation));
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
            self.chained(Entry::lot(lot));
            for die in dies {
                execute!(
                    self,
                    "INSERT OR IGNORE INTO lot_dies (lot, chip_id) VALUES (?, ?)",
                    &lot.name,
                    &die[..]
                )?;
                self.chained(Entry::of_lot(Table::LotDies, &lot.name, die));
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
            self.lot_changed(lot).await
        })
    }

    fn revoke<'a>(&'a mut self, lot: &'a str) -> Later<'a, ()> {
        Box::pin(async move {
            execute!(self, "UPDATE lots SET revoked = 1 WHERE name = ?", lot)?;
            self.lot_changed(lot).await
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
            self.chained(Entry::of_lot(Table::LotStations, lot, station));
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
            fail_point::hit(FailPoint::BeforeReserve);
            execute!(self, "UPDATE lots SET issued = issued + 1 WHERE name = ?", &install.lot)?;
            fail_point::hit(FailPoint::InReserve);
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
            fail_point::hit(FailPoint::AfterReserve);
            self.chained(Entry::install(install));
            Ok(())
        })
    }

    fn update_install<'a>(&'a mut self, install: &'a InstallRow) -> Later<'a, ()> {
        Box::pin(async move {
            let [before, after] = match install.state {
                State::Closed => [FailPoint::BeforeClose, FailPoint::AfterClose],
                _ => [FailPoint::BeforeUpdate, FailPoint::AfterUpdate],
            };
            fail_point::hit(before);
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
            fail_point::hit(after);
            self.chained(Entry::install(install));
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
            fail_point::hit(FailPoint::BeforeTicket);
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
            fail_point::hit(FailPoint::AfterTicket);
            self.chained(Entry::ticket(ticket));
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
            fail_point::hit(FailPoint::BeforeReceipt);
            execute!(
                self,
                "INSERT INTO receipts (message, install, receipt, received_at) VALUES (?, ?, ?, ?)",
                &receipt.message[..],
                &receipt.install[..],
                &receipt.receipt,
                receipt.received_at,
            )?;
            fail_point::hit(FailPoint::AfterReceipt);
            self.chained(Entry::receipt(receipt));
            Ok(())
        })
    }

    fn insert_audit<'a>(&'a mut self, row: &'a AuditRow) -> Later<'a, ()> {
        Box::pin(async move {
            fail_point::hit(FailPoint::BeforeAudit);
            let stored = find!(
                self,
                audit_row,
                "INSERT INTO audit (at, event, code, lot, chip_id, install, station, detail, repeats)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
                 ON CONFLICT (repeats) DO UPDATE SET count = count + 1, at = excluded.at
                 RETURNING *",
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
            fail_point::hit(FailPoint::AfterAudit);
            // A refusal that repeats is in the chain already.
            stored.iter().filter(|row| row.count == 1).for_each(|row| self.chained(Entry::audit(row)));
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

    fn link(&mut self, sequence: i64) -> Later<'_, Option<Digest>> {
        Box::pin(async move {
            let link = find!(self, head, "SELECT sequence, head FROM chain WHERE sequence = ?", sequence)?;
            Ok(link.map(|link| link.digest))
        })
    }

    fn commit<'a>(mut self: Box<Self>) -> Later<'a, Head>
    where
        Self: 'a,
    {
        Box::pin(async move {
            let head = self.head().await?;
            if self.entries.is_empty() {
                self.tx.commit().await?;
                return Ok(head);
            }
            let entries = std::mem::take(&mut self.entries);
            let next = head.next(&entries);
            fail_point::hit(FailPoint::BeforeChain);
            execute!(
                self,
                "INSERT INTO chain (sequence, entries, head) VALUES (?, ?, ?)",
                next.sequence,
                entries,
                &next.digest[..],
            )?;
            fail_point::hit(FailPoint::BeforeCommit);
            self.tx.commit().await?;
            fail_point::hit(FailPoint::AfterCommit);
            Ok(next)
        })
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
