//! A hash chain over all that the books say.
//!
//! # What it defends against
//!
//! Books that were set back, edited or damaged below the database's own rules. Each transaction that changes them adds
//! one link: an [`Entry`] for each row as it now is, and a digest over these entries and the link before. So one digest,
//! the [`Head`], stands for every row that a grant rests on: kept elsewhere (see `anchor`) it tells an older copy from
//! these books, and replayed against the tables it tells a row that was changed, added or taken away.
//!
//! Not covered: how often a refusal repeated and when last, which are counted without a link; and `issued` of a lot,
//! which must be the number of its installs. Whoever may write the database and knows this code can make a new chain:
//! only the anchor tells.

use std::collections::BTreeMap;

use boot_crypto::{Digest, Sha256};
use fail_code::FailCode;
use serde::Serialize;

use super::{AuditRow, DelegationRow, InstallRow, KeyRow, LotRow, ReceiptRow, TicketRow};
use crate::hex;

/// Where a chain is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Head {
    /// How many links there are after the first.
    pub sequence: i64,
    /// The digest of the last.
    #[serde(serialize_with = "hex::serialize")]
    pub digest: Digest,
}

impl Head {
    /// Adds a link.
    pub(super) fn next(&self, entries: &[u8]) -> Self {
        let sequence = self.sequence + 1;
        let mut hash = Sha256::new();
        hash.update(b"Kiln authority chain v1");
        hash.update(&self.digest);
        hash.update(&sequence.to_le_bytes());
        hash.update(entries);
        Self { sequence, digest: hash.finish() }
    }
}

/// A table whose rows are in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    Keys = 1,
    Delegations,
    Lots,
    LotDies,
    LotStations,
    Installs,
    Tickets,
    Receipts,
    Audit,
}

impl Table {
    const ALL: [Self; 9] = [
        Self::Keys,
        Self::Delegations,
        Self::Lots,
        Self::LotDies,
        Self::LotStations,
        Self::Installs,
        Self::Tickets,
        Self::Receipts,
        Self::Audit,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Delegations => "delegations",
            Self::Lots => "lots",
            Self::LotDies => "lot_dies",
            Self::LotStations => "lot_stations",
            Self::Installs => "installs",
            Self::Tickets => "tickets",
            Self::Receipts => "receipts",
            Self::Audit => "audit",
        }
    }
}

/// That a row is as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) table: Table,
    /// Digest of its primary key.
    key: Digest,
    /// Digest of all of it.
    content: Digest,
}

/// Table, key, content.
const ENTRY: usize = 1 + 32 + 32;

/// Hashes fields one after the other, so that no two lists of fields hash to the same.
struct Fields(Sha256);

impl Fields {
    fn new() -> Self {
        Self(Sha256::new())
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
        self
    }

    fn optional(self, bytes: Option<&[u8]>) -> Self {
        match bytes {
            Some(bytes) => self.number(1).bytes(bytes),
            None => self.number(0),
        }
    }

    fn number(mut self, number: impl Into<i64>) -> Self {
        self.0.update(&number.into().to_le_bytes());
        self
    }

    fn finish(self) -> Digest {
        self.0.finish()
    }
}

impl Entry {
    fn new(table: Table, key: &[u8], content: Fields) -> Self {
        Self { table, key: Fields::new().bytes(key).finish(), content: content.finish() }
    }

    pub(super) fn key(row: &KeyRow) -> Self {
        let fields = Fields::new().bytes(&row.sealed).bytes(&row.public);
        Self::new(Table::Keys, row.name.as_bytes(), fields.optional(row.certificate.as_deref()))
    }

    pub(super) fn delegation(row: &DelegationRow) -> Self {
        let fields = Fields::new().bytes(&row.root_key).bytes(&row.certificate);
        Self::new(Table::Delegations, &row.root_digest, fields)
    }

    pub(super) fn lot(row: &LotRow) -> Self {
        let fields = Fields::new().number(row.created_at).bytes(row.terms.as_bytes()).bytes(&row.content_key);
        Self::new(Table::Lots, row.name.as_bytes(), fields.number(row.quota).number(row.revoked))
    }

    /// A die that a lot lists, or a station that it admits.
    pub(super) fn of_lot(table: Table, lot: &str, member: &[u8]) -> Self {
        let key = Fields::new().bytes(lot.as_bytes()).bytes(member).finish();
        Self::new(table, &key, Fields::new())
    }

    pub(super) fn install(row: &InstallRow) -> Self {
        let fields = Fields::new()
            .bytes(row.lot.as_bytes())
            .bytes(&row.chip_id)
            .bytes(&row.die_key)
            .bytes(row.serial.as_bytes())
            .bytes(row.state.name().as_bytes())
            .number(row.tickets)
            .bytes(&row.session)
            .optional(row.csr.as_deref())
            .optional(row.certificate.as_deref())
            .optional(row.release.as_deref())
            .number(row.reserved_at)
            .optional(row.closed_at.map(i64::to_le_bytes).as_ref().map(|time| &time[..]));
        Self::new(Table::Installs, &row.id, fields)
    }

    pub(super) fn ticket(row: &TicketRow) -> Self {
        let fields = Fields::new()
            .bytes(&row.nonce)
            .bytes(&row.install)
            .bytes(&row.stage_key)
            .bytes(&row.stage1)
            .bytes(&row.ticket)
            .number(row.issued_at);
        Self::new(Table::Tickets, &row.request, fields)
    }

    pub(super) fn receipt(row: &ReceiptRow) -> Self {
        let fields = Fields::new().bytes(&row.install).bytes(&row.receipt).number(row.received_at);
        Self::new(Table::Receipts, &row.message, fields)
    }

    /// A refusal's time is that of its last repetition, and no part of it.
    pub(super) fn audit(row: &AuditRow) -> Self {
        let (code, at) = (row.code.map_or(0, FailCode::number), row.code.map_or(row.at, |_| 0));
        let fields = Fields::new()
            .number(at)
            .number(code)
            .bytes(row.event.as_bytes())
            .optional(row.lot.as_ref().map(|lot| lot.as_bytes()))
            .optional(row.chip_id.as_ref().map(|id| &id[..]))
            .optional(row.install.as_ref().map(|id| &id[..]))
            .optional(row.station.as_ref().map(|id| &id[..]))
            .bytes(row.detail.as_bytes());
        Self::new(Table::Audit, &row.id.to_le_bytes(), fields)
    }

    pub(super) fn encode(&self, to: &mut Vec<u8>) {
        to.push(self.table as u8);
        to.extend(self.key);
        to.extend(self.content);
    }

    fn decode(bytes: &[u8; ENTRY]) -> Option<Self> {
        let (&table, rest) = bytes.split_first()?;
        let (key, content) = rest.split_first_chunk()?;
        let table = Table::ALL.into_iter().find(|known| *known as u8 == table)?;
        Some(Self { table, key: *key, content: content.try_into().ok()? })
    }
}

/// A chain that is read from its beginning: every row that there should be.
pub(super) struct Replay {
    head: Head,
    rows: BTreeMap<(Table, Digest), Digest>,
}

impl Replay {
    /// Begins with the first link.
    pub(super) fn begin(sequence: i64, entries: &[u8], digest: Digest) -> Result<Self, String> {
        if (sequence, entries.len()) != (0, 0) {
            return Err("its hash chain has no beginning".into());
        }
        Ok(Self { head: Head { sequence, digest }, rows: BTreeMap::new() })
    }

    /// Takes the next link.
    pub(super) fn link(&mut self, sequence: i64, entries: &[u8], digest: Digest) -> Result<(), String> {
        let head = self.head.next(entries);
        if head != (Head { sequence, digest }) {
            return Err(format!("its hash chain is broken at link {}", head.sequence));
        }
        self.head = head;
        let (chunks, rest) = entries.as_chunks::<ENTRY>();
        let mut decoded = chunks.iter().map(Entry::decode);
        if !rest.is_empty() || !decoded.all(|entry| entry.map(|entry| self.put(entry)).is_some()) {
            return Err(format!("link {sequence} of its hash chain says nothing that this release knows"));
        }
        Ok(())
    }

    fn put(&mut self, entry: Entry) {
        self.rows.insert((entry.table, entry.key), entry.content);
    }

    /// Compares with the rows that there are, and returns where the chain is.
    pub(super) fn compare(mut self, rows: &[Entry]) -> Result<Head, String> {
        for row in rows {
            match self.rows.remove(&(row.table, row.key)) {
                Some(content) if content == row.content => {}
                Some(_) => return Err(format!("a row of {} is not as it was written", row.table.name())),
                None => return Err(format!("a row of {} was never written", row.table.name())),
            }
        }
        match self.rows.first_key_value() {
            None => Ok(self.head),
            Some(((table, _), _)) => Err(format!("a row of {} is gone", table.name())),
        }
    }
}
