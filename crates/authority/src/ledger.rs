//! The books: lots, installs and what happened, as an owner looks at them and changes them. No key is needed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use boot_crypto::Digest;
use fail_code::FailCode;
use serde::Serialize;

use crate::anchor::{Anchor, AnchorFile};
use crate::policy::{Context, WriteDown};
use crate::storage::sqlite::Sqlite;
use crate::storage::{AuditRow, Filter, Head, InstallRow, Later, LotRow, State, Storage, Transaction};
use crate::writer::{Decision, Writer};
use crate::{Error, Terms, hex};

/// Name of the database in the authority's directory.
pub(crate) const DATABASE: &str = "authority.db";

/// The books of an authority.
#[derive(Clone)]
pub struct Ledger {
    database: Arc<Sqlite>,
    anchor: Option<Arc<Anchor>>,
    writer: Writer,
}

/// Whether anybody would notice that the books were set back to an older copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Rollback {
    /// Nobody: there is no anchor.
    #[serde(rename = "rollback-unprotected")]
    Unprotected,
    /// The anchor tells.
    #[serde(rename = "rollback-protected")]
    Protected,
}

/// Where the books are, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The head of their hash chain.
    pub head: Head,
    /// Whether a rollback is noticed.
    pub rollback: Rollback,
    /// The anchor.
    pub anchor: Option<PathBuf>,
}

/// A lot, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LotInfo {
    /// Its name.
    pub name: String,
    /// When it was made, in milliseconds since 1970.
    pub created_at: i64,
    /// How many installs it has.
    pub quota: u32,
    /// How many are taken.
    pub issued: u32,
    /// How many of those are closed.
    pub closed: u32,
    /// How many of those are void.
    pub void: u32,
    /// Whether it is revoked.
    pub revoked: bool,
    /// Fingerprints of the stations that it admits; none means all.
    pub stations: Vec<String>,
    /// Its terms.
    pub terms: Terms,
}

/// An install, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstallInfo {
    /// Its id.
    pub id: String,
    /// Its lot.
    pub lot: String,
    /// The die.
    pub chip_id: String,
    /// The device's serial number.
    pub serial: String,
    /// How far it is.
    pub state: State,
    /// How many tickets it has had.
    pub tickets: u32,
    /// When it was reserved, in milliseconds since 1970.
    pub reserved_at: i64,
    /// When the device proved that it is closed.
    pub closed_at: Option<i64>,
    /// The device's certificate in PEM, once it is released.
    pub certificate: Option<String>,
}

impl From<InstallRow> for InstallInfo {
    fn from(row: InstallRow) -> Self {
        let released = row.certificate.filter(|_| row.state == State::Closed);
        Self {
            id: hex::encode(&row.id),
            lot: row.lot,
            chip_id: hex::encode(&row.chip_id),
            serial: row.serial,
            state: row.state,
            tickets: row.tickets,
            reserved_at: row.reserved_at,
            closed_at: row.closed_at,
            certificate: released.map(|der| release::certificate_pem(&der)),
        }
    }
}

/// Something that happened, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditInfo {
    /// Its number.
    pub id: i64,
    /// When, in milliseconds since 1970; of a refusal that repeats, the last time.
    pub at: i64,
    /// What.
    pub event: String,
    /// The code of a refusal, as printed.
    pub code: Option<String>,
    /// The name of that code.
    pub name: Option<&'static str>,
    /// The lot.
    pub lot: Option<String>,
    /// The die.
    pub chip_id: Option<String>,
    /// The install.
    pub install: Option<String>,
    /// Fingerprint of the station's certificate.
    pub station: Option<String>,
    /// More about it.
    pub detail: String,
    /// How often within the hour.
    pub count: u32,
}

impl From<AuditRow> for AuditInfo {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at,
            event: row.event,
            code: row.code.map(|code| String::from_utf8_lossy(&code.text()).into_owned()),
            name: row.code.map(FailCode::name),
            lot: row.lot,
            chip_id: row.chip_id.map(|id| hex::encode(&id)),
            install: row.install.map(|id| hex::encode(&id)),
            station: row.station.map(|id| hex::encode(&id)),
            detail: row.detail,
            count: row.count,
        }
    }
}

impl Ledger {
    /// Opens the books in an authority's directory, verifies all that they say, and lets the anchor follow.
    ///
    /// # Errors
    /// [`Error::NotInitialised`], those of the database and of the anchor.
    pub async fn open(data: &Path, anchor: Option<&AnchorFile>) -> Result<Self, Error> {
        let path = data.join(DATABASE);
        if !path.exists() {
            return Err(Error::NotInitialised(data.into()));
        }
        let database = Arc::new(Sqlite::open(&path).await?);
        let anchored = match anchor {
            Some(file) => Some(Anchor::open(file, data, &*database).await?),
            None => None,
        };
        let writer = Writer::start(database.clone(), anchored.clone());
        let ledger = Self { database, anchor: anchored, writer };
        if anchor.is_some_and(|file| file.new) {
            let at = ledger.status().await?.head.sequence;
            let row = Context::default().done("anchored", format!("from link {at} on"));
            ledger.writer.decide(WriteDown(row)).await?;
        }
        Ok(ledger)
    }

    /// Tells where the books are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn status(&self) -> Result<Status, Error> {
        Ok(Status {
            head: self.database.read().await?.commit().await?,
            rollback: self.rollback(),
            anchor: self.anchor.as_ref().map(|anchor| anchor.path().into()),
        })
    }

    /// Tells whether anybody would notice that the books were set back.
    pub fn rollback(&self) -> Rollback {
        self.anchor.as_ref().map_or(Rollback::Unprotected, |_| Rollback::Protected)
    }

    pub(crate) fn storage(&self) -> &dyn Storage {
        &*self.database
    }

    pub(crate) fn writer(&self) -> &Writer {
        &self.writer
    }

    /// Waits until all is written and the database is closed.
    pub async fn close(&self) {
        self.database.close().await;
    }

    /// Lists the lots.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lots(&self) -> Result<Vec<LotInfo>, Error> {
        let mut tx = self.database.read().await?;
        let mut lots = Vec::new();
        for row in tx.lots().await? {
            lots.push(info(&mut *tx, row).await?);
        }
        Ok(lots)
    }

    /// Shows a lot.
    ///
    /// # Errors
    /// [`Error::NoSuchLot`].
    pub async fn lot(&self, name: &str) -> Result<LotInfo, Error> {
        let mut tx = self.database.read().await?;
        let row = tx.lot(name).await?.ok_or_else(|| Error::NoSuchLot(name.into()))?;
        info(&mut *tx, row).await
    }

    /// Revokes a lot, for ever: nothing of it is answered any more.
    ///
    /// # Errors
    /// [`Error::NoSuchLot`].
    pub async fn revoke(&self, name: &str) -> Result<(), Error> {
        self.change(name, Change::Revoke).await
    }

    /// Changes a lot's quota.
    ///
    /// # Errors
    /// [`Error::NoSuchLot`], [`Error::QuotaBelowIssued`].
    pub async fn set_quota(&self, name: &str, quota: u32) -> Result<(), Error> {
        self.change(name, Change::Quota(quota)).await
    }

    /// Admits a station to a lot. A lot to which none was admitted takes every station of the authority.
    ///
    /// # Errors
    /// [`Error::NoSuchLot`].
    pub async fn admit(&self, name: &str, station: Digest) -> Result<(), Error> {
        self.change(name, Change::Admit(station)).await
    }

    async fn change(&self, name: &str, change: Change) -> Result<(), Error> {
        self.writer.decide(LotChange { name: name.into(), change }).await?
    }

    /// Lists installs, the newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn installs(&self, filter: &Filter) -> Result<Vec<InstallInfo>, Error> {
        let rows = self.database.read().await?.installs(filter).await?;
        Ok(rows.into_iter().map(InstallInfo::from).collect())
    }

    /// Shows an install.
    ///
    /// # Errors
    /// [`Error::NoSuchInstall`].
    pub async fn install(&self, id: &[u8; 32]) -> Result<InstallInfo, Error> {
        let row = self.database.read().await?.install(id).await?;
        row.map(InstallInfo::from).ok_or_else(|| Error::NoSuchInstall(hex::encode(id)))
    }

    /// Voids an install that is not closed: its die is scrap, its place in the quota stays taken.
    ///
    /// # Errors
    /// [`Error::NoSuchInstall`], [`Error::InstallClosed`].
    pub async fn void(&self, id: [u8; 32], why: &str) -> Result<(), Error> {
        self.writer.decide(Void { id, why: why.into() }).await?
    }

    /// Lists what happened, the newest first.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn audit(&self, filter: &Filter) -> Result<Vec<AuditInfo>, Error> {
        let rows = self.database.read().await?.audit(filter).await?;
        Ok(rows.into_iter().map(AuditInfo::from).collect())
    }
}

async fn info(tx: &mut dyn Transaction, row: LotRow) -> Result<LotInfo, Error> {
    let terms = serde_json::from_str(&row.terms)
        .map_err(|error| Error::Damaged(format!("the terms of lot {}: {error}", row.name)))?;
    Ok(LotInfo {
        closed: tx.count(&row.name, State::Closed).await?,
        void: tx.count(&row.name, State::Void).await?,
        stations: tx.stations(&row.name).await?.iter().map(|print| hex::encode(print)).collect(),
        name: row.name,
        created_at: row.created_at,
        quota: row.quota,
        issued: row.issued,
        revoked: row.revoked,
        terms,
    })
}

enum Change {
    Revoke,
    Quota(u32),
    Admit(Digest),
}

struct LotChange {
    name: String,
    change: Change,
}

impl Decision for LotChange {
    type Answer = Result<(), Error>;

    fn decide<'a>(&'a self, tx: &'a mut dyn Transaction) -> Later<'a, Self::Answer> {
        Box::pin(async move {
            let Some(lot) = tx.lot(&self.name).await? else {
                return Ok(Err(Error::NoSuchLot(self.name.clone())));
            };
            let context = Context { lot: Some(self.name.clone()), ..Context::default() };
            let row = match &self.change {
                Change::Revoke => {
                    tx.revoke(&self.name).await?;
                    context.done("lot-revoked", "")
                }
                Change::Quota(quota) if *quota < lot.issued => {
                    let (lot, issued) = (lot.name, lot.issued);
                    return Ok(Err(Error::QuotaBelowIssued { lot, issued, quota: *quota }));
                }
                Change::Quota(quota) => {
                    tx.set_quota(&self.name, *quota).await?;
                    context.done("lot-quota", format!("{} -> {quota}", lot.quota))
                }
                Change::Admit(station) => {
                    tx.admit(&self.name, station).await?;
                    Context { station: Some(*station), ..context }.done("station-admitted", "")
                }
            };
            tx.insert_audit(&row).await?;
            Ok(Ok(()))
        })
    }
}

struct Void {
    id: [u8; 32],
    why: String,
}

impl Decision for Void {
    type Answer = Result<(), Error>;

    fn decide<'a>(&'a self, tx: &'a mut dyn Transaction) -> Later<'a, Self::Answer> {
        Box::pin(async move {
            let Some(install) = tx.install(&self.id).await? else {
                return Ok(Err(Error::NoSuchInstall(hex::encode(&self.id))));
            };
            if install.state == State::Closed {
                return Ok(Err(Error::InstallClosed(hex::encode(&self.id))));
            }
            let context = Context {
                lot: Some(install.lot.clone()),
                chip_id: Some(install.chip_id),
                install: Some(install.id),
                station: None,
            };
            tx.insert_audit(&context.done("install-voided", self.why.clone())).await?;
            tx.update_install(&InstallRow { state: State::Void, ..install }).await?;
            Ok(Ok(()))
        })
    }
}
