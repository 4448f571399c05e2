//! What the authority remembers: a small trait, so that the policy does not know which database there is.
//!
//! A [`Transaction`] is all or nothing, sees no half of another, and is durable once [`Transaction::commit`]
//! returns: that is the whole contract that quota and "the same answer again" rest on. Policy checks first and
//! writes last; what must never happen at all (two installs of a die, more installs than the quota, a nonce
//! twice) is a constraint of the database as well.

mod chain;
pub mod sqlite;

use std::future::Future;
use std::pin::Pin;

use boot_crypto::Digest;
use fail_code::FailCode;
use serde::{Deserialize, Serialize};

use crate::anchor::AnchorError;

pub use chain::Head;

/// A result that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// Why the database could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database fails.
    #[error("the database fails: {0}")]
    Database(sqlx::Error),
    /// The database is not as it was written.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// The anchor does not follow, or does not fit.
    #[error(transparent)]
    Anchor(#[from] AnchorError),
    /// The schema could not be brought to this release.
    #[error("the schema of the database cannot be used: {0}")]
    Schema(#[from] sqlx::migrate::MigrateError),
    /// A row is not what this release writes.
    #[error("a row of {table} is damaged")]
    Row {
        /// The table.
        table: &'static str,
    },
    /// A constraint that policy should have kept was about to be broken; nothing was written.
    #[error("the database refuses to break a rule: {0}")]
    Constraint(String),
    /// The writer has stopped.
    #[error("the authority is stopping")]
    Stopped,
}

/// SQLite's result codes for a file that is not, or no longer, a database.
const DAMAGED: [&str; 2] = ["11", "26"];

impl From<sqlx::Error> for StorageError {
    /// Tells rules of the schema, and damage, from failures of the disk.
    fn from(error: sqlx::Error) -> Self {
        let Some(database) = error.as_database_error() else { return Self::Database(error) };
        if database.is_unique_violation()
            || database.is_check_violation()
            || database.is_foreign_key_violation()
        {
            return Self::Constraint(database.message().into());
        }
        match database.code() {
            Some(code) if DAMAGED.contains(&&*code) => Self::Damaged(database.message().into()),
            _ => Self::Database(error),
        }
    }
}

/// A key of the authority.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRow {
    /// What it is for.
    pub name: String,
    /// The private half, sealed.
    pub sealed: Vec<u8>,
    /// The public half: x followed by y.
    pub public: [u8; 64],
    /// A certificate for it, in DER.
    pub certificate: Option<Vec<u8>>,
}

/// What an owner root delegated to the authority's signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationRow {
    /// SHA-256 thumbprint of the root key: what fuses hold.
    pub root_digest: Digest,
    /// The root key: x followed by y.
    pub root_key: [u8; 64],
    /// Its certificate for the role.
    pub certificate: Vec<u8>,
}

/// A lot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LotRow {
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at: i64,
    /// Its terms, in JSON.
    pub terms: String,
    /// Its content key, sealed.
    pub content_key: Vec<u8>,
    /// How many installs it has.
    pub quota: u32,
    /// How many are taken.
    pub issued: u32,
    /// Whether it is revoked.
    pub revoked: bool,
}

/// How far an install is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// A ticket was issued.
    Reserved,
    /// The certificate request is stored, and the certificate made but not released.
    Csr,
    /// The device proved that it is closed: its certificate is released.
    Closed,
    /// Voided by the owner: the die is scrap, the install stays taken.
    Void,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [Self::Reserved, Self::Csr, Self::Closed, Self::Void];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Reserved => "reserved",
            Self::Csr => "csr",
            Self::Closed => "closed",
            Self::Void => "void",
        }
    }
}

/// The install of a die.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallRow {
    /// Its id.
    pub id: [u8; 32],
    /// The lot that it belongs to.
    pub lot: String,
    /// The die.
    pub chip_id: [u8; 16],
    /// The die's key: x followed by y.
    pub die_key: [u8; 64],
    /// The device's serial number.
    pub serial: String,
    /// How far it is.
    pub state: State,
    /// How many tickets were issued.
    pub tickets: u32,
    /// The request digest of the newest.
    pub session: Digest,
    /// The device's certificate request, in DER.
    pub csr: Option<Vec<u8>>,
    /// The device's certificate, in DER.
    pub certificate: Option<Vec<u8>>,
    /// The release as it was answered.
    pub release: Option<Vec<u8>>,
    /// When it was reserved, in milliseconds since 1970.
    pub reserved_at: i64,
    /// When the device proved that it is closed.
    pub closed_at: Option<i64>,
}

/// A ticket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TicketRow {
    /// Digest of the request that it answers.
    pub request: Digest,
    /// The nonce of that request.
    pub nonce: [u8; 32],
    /// The install.
    pub install: [u8; 32],
    /// The key that the provisioning stage signs with: x followed by y.
    pub stage_key: [u8; 64],
    /// The measurement of that stage.
    pub stage1: Digest,
    /// The ticket as it was answered.
    pub ticket: Vec<u8>,
    /// When it was issued, in milliseconds since 1970.
    pub issued_at: i64,
}

/// A receipt for a certificate request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Digest of the whole message that it answers.
    pub message: Digest,
    /// The install.
    pub install: [u8; 32],
    /// The receipt as it was answered.
    pub receipt: Vec<u8>,
    /// When, in milliseconds since 1970.
    pub received_at: i64,
}

/// Something that happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number; given by the database.
    pub id: i64,
    /// When, in milliseconds since 1970; of a refusal that repeats, the last time.
    pub at: i64,
    /// What: `refused`, or what was done.
    pub event: String,
    /// The code of a refusal.
    pub code: Option<FailCode>,
    /// The lot.
    pub lot: Option<String>,
    /// The die, if its vendor certified it.
    pub chip_id: Option<[u8; 16]>,
    /// The install.
    pub install: Option<[u8; 32]>,
    /// The fingerprint of the station's certificate.
    pub station: Option<Digest>,
    /// More about it; of a refusal that repeats, the first.
    pub detail: String,
    /// How often it happened.
    pub count: u32,
}

/// Which rows to list. Every condition that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this lot.
    pub lot: Option<String>,
    /// Installs in this state.
    pub state: Option<State>,
    /// Audit rows with this code.
    pub code: Option<FailCode>,
    /// At most so many, the newest.
    pub limit: Option<u32>,
}

/// Where the authority keeps what it must remember.
pub trait Storage: Send + Sync {
    /// Opens a transaction that writes. Only one is open at a time, or the database orders them.
    fn write(&self) -> Later<'_, Box<dyn Transaction + '_>>;

    /// Opens a transaction that only reads, and sees the latest that was committed.
    fn read(&self) -> Later<'_, Box<dyn Transaction + '_>>;
}

/// An open transaction; dropped without [`commit`](Self::commit) it leaves no trace.
pub trait Transaction: Send {
    /// Finds a key of the authority.
    fn key<'a>(&'a mut self, name: &'a str) -> Later<'a, Option<KeyRow>>;
    /// Stores a key of the authority.
    fn insert_key<'a>(&'a mut self, key: &'a KeyRow) -> Later<'a, ()>;
    /// Finds the delegation under an owner root.
    fn delegation<'a>(&'a mut self, root: &'a Digest) -> Later<'a, Option<DelegationRow>>;
    /// Stores or replaces the delegation under an owner root.
    fn set_delegation<'a>(&'a mut self, delegation: &'a DelegationRow) -> Later<'a, ()>;

    /// Finds a lot.
    fn lot<'a>(&'a mut self, name: &'a str) -> Later<'a, Option<LotRow>>;
    /// Lists the lots by name.
    fn lots(&mut self) -> Later<'_, Vec<LotRow>>;
    /// Counts the installs of a lot in a state.
    fn count<'a>(&'a mut self, lot: &'a str, state: State) -> Later<'a, u32>;
    /// Stores a lot, its dies and its stations.
    fn insert_lot<'a>(
        &'a mut self,
        lot: &'a LotRow,
        dies: &'a [[u8; 16]],
        stations: &'a [Digest],
    ) -> Later<'a, ()>;
    /// Changes a lot's quota.
    fn set_quota<'a>(&'a mut self, lot: &'a str, quota: u32) -> Later<'a, ()>;
    /// Revokes a lot.
    fn revoke<'a>(&'a mut self, lot: &'a str) -> Later<'a, ()>;
    /// Admits a station to a lot.
    fn admit<'a>(&'a mut self, lot: &'a str, station: &'a Digest) -> Later<'a, ()>;
    /// Lists the stations that a lot admits; none means all.
    fn stations<'a>(&'a mut self, lot: &'a str) -> Later<'a, Vec<Digest>>;
    /// Tells whether a lot takes a die: it lists none, or this one.
    fn takes_die<'a>(&'a mut self, lot: &'a str, chip_id: &'a [u8; 16]) -> Later<'a, bool>;

    /// Finds an install.
    fn install<'a>(&'a mut self, id: &'a [u8; 32]) -> Later<'a, Option<InstallRow>>;
    /// Finds the installs of a chip id or of a die key: at most one if all is well.
    fn installs_of_die<'a>(
        &'a mut self,
        chip_id: &'a [u8; 16],
        die_key: &'a [u8; 64],
    ) -> Later<'a, Vec<InstallRow>>;
    /// Lists installs, the newest first.
    fn installs<'a>(&'a mut self, filter: &'a Filter) -> Later<'a, Vec<InstallRow>>;
    /// Stores an install and takes its place in the lot's quota; the database refuses one beyond it.
    fn reserve<'a>(&'a mut self, install: &'a InstallRow) -> Later<'a, ()>;
    /// Stores what changed of an install: state, tickets, session, request, certificate, release, time.
    fn update_install<'a>(&'a mut self, install: &'a InstallRow) -> Later<'a, ()>;

    /// Finds the ticket for a request.
    fn ticket<'a>(&'a mut self, request: &'a Digest) -> Later<'a, Option<TicketRow>>;
    /// Tells whether a ticket was issued for a request with this nonce.
    fn nonce_used<'a>(&'a mut self, nonce: &'a [u8; 32]) -> Later<'a, bool>;
    /// Stores a ticket.
    fn insert_ticket<'a>(&'a mut self, ticket: &'a TicketRow) -> Later<'a, ()>;

    /// Finds the receipt for a certificate request.
    fn receipt<'a>(&'a mut self, message: &'a Digest) -> Later<'a, Option<ReceiptRow>>;
    /// Counts the receipts of an install.
    fn receipts_of<'a>(&'a mut self, install: &'a [u8; 32]) -> Later<'a, u32>;
    /// Stores a receipt.
    fn insert_receipt<'a>(&'a mut self, receipt: &'a ReceiptRow) -> Later<'a, ()>;

    /// Stores what happened; a refusal that happened within the hour is counted.
    fn insert_audit<'a>(&'a mut self, row: &'a AuditRow) -> Later<'a, ()>;
    /// Lists what happened, the newest first.
    fn audit<'a>(&'a mut self, filter: &'a Filter) -> Later<'a, Vec<AuditRow>>;

    /// Finds the link of the hash chain with this number: the digest over all up to it.
    fn link(&mut self, sequence: i64) -> Later<'_, Option<Digest>>;

    /// Makes all of it durable, or none, as one link of the hash chain; nothing that was written adds none. Returns
    /// where the chain is then.
    fn commit<'a>(self: Box<Self>) -> Later<'a, Head>
    where
        Self: 'a;
}
