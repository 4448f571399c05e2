//! The authority: its keys, its books, and what it answers devices.

use std::collections::HashMap;
use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use boot_crypto::host::Es256Key;
use boot_crypto::{Digest, sha256};
use release::{AuthorityKey, ContentKey, PackageFacts, SealedContentKey};

use crate::anchor::{AnchorError, AnchorFile};
use crate::keys::{Delegation, Keys};
use crate::ledger::{DATABASE, Ledger};
use crate::lot::{NewLot, Parsed, check_name};
use crate::policy::{Context, WriteDown, now};
use crate::storage::sqlite::{Sqlite, sync_folder};
use crate::storage::{DelegationRow, KeyRow, Later, LotRow, Storage as _, Transaction};
use crate::writer::Decision;
use crate::x509::Use;
use crate::{Error, KeyEncryption, keys};

/// Where an authority is, and what opens its secrets.
#[derive(Clone)]
pub struct Config {
    /// Its directory.
    pub data: PathBuf,
    /// The key-encryption key.
    pub kek: Arc<dyn KeyEncryption>,
    /// Where its anchor is; without one nobody notices when its database is set back.
    pub anchor: Option<AnchorFile>,
}

/// Who asks: a station, by its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// SHA-256 of its certificate.
    pub fingerprint: Digest,
}

impl Station {
    /// Takes the certificate, in DER, that the station has proved to hold the key of.
    pub fn new(certificate: &[u8]) -> Self {
        Self { fingerprint: sha256(certificate) }
    }
}

/// A key and its certificate, as files for a station.
pub struct StationIdentity {
    /// PKCS#8 PEM.
    pub key: zeroize::Zeroizing<String>,
    /// PEM.
    pub certificate: String,
    /// Who it is for the authority.
    pub station: Station,
}

/// An authority.
pub struct Authority {
    pub(crate) data: PathBuf,
    pub(crate) ledger: Ledger,
    pub(crate) kek: Arc<dyn KeyEncryption>,
    pub(crate) keys: Keys,
    /// The terms of lots, which never change.
    pub(crate) lots: Mutex<HashMap<String, Arc<Parsed>>>,
    /// The lock that the one service holds.
    pub(crate) serving: Mutex<Option<File>>,
}

impl Authority {
    /// Makes an authority with fresh keys. `names` are those under which stations reach it; `signing` is a key that
    /// the owner has already delegated to, if there is one.
    ///
    /// # Errors
    /// [`Error::AlreadyInitialised`], an anchor that exists already, names that a certificate cannot hold, those of the database.
    pub async fn init(config: Config, names: &[String], signing: Option<Es256Key>) -> Result<Self, Error> {
        let path = config.data.join(DATABASE);
        if path.exists() {
            return Err(Error::AlreadyInitialised(config.data));
        }
        if let Some(AnchorFile { path, .. }) = config.anchor.as_ref().filter(|anchor| anchor.path.exists()) {
            return Err(AnchorError::Exists(path.clone()).into());
        }
        let keys = Keys::create(signing.unwrap_or_else(Es256Key::generate), names)?;
        let rows = keys.sealed(&*config.kek)?;
        make_folder(&config.data)?;
        // The database gets its name when it is whole: an init that was cut short leaves no half of an authority.
        let unfinished = config.data.join("authority.db.new");
        for leftover in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(config.data.join(format!("authority.db.new{leftover}")));
        }
        let database = Sqlite::create(&unfinished).await?;
        let mut tx = database.write().await?;
        for row in &rows {
            tx.insert_key(row).await?;
        }
        tx.insert_audit(&Context::default().done("init", "")).await?;
        tx.commit().await?;
        database.close().await;
        fs::rename(&unfinished, &path)
            .and_then(|()| sync_folder(&path))
            .map_err(|error| Error::File { path: path.clone(), error })?;
        let anchor = config.anchor.map(|anchor| AnchorFile { new: true, ..anchor });
        Self::open(Config { anchor, ..config }).await
    }

    /// Opens an authority.
    ///
    /// # Errors
    /// [`Error::NotInitialised`], a key-encryption key that is not its own, those of the database, and an anchor that the
    /// database does not lead to.
    ///
    /// Books that an earlier release made get the keys that they lack.
    pub async fn open(config: Config) -> Result<Self, Error> {
        let ledger = Ledger::open(&config.data, config.anchor.as_ref()).await?;
        let missing = {
            let mut tx = ledger.storage().read().await?;
            Keys::missing(&mut *tx, &*config.kek).await?
        };
        if let Some(row) = missing {
            ledger.writer().decide(AddKey(row)).await?;
        }
        let keys = {
            let mut tx = ledger.storage().read().await?;
            Keys::open(&mut *tx, &*config.kek).await?
        };
        Ok(Self {
            data: config.data,
            ledger,
            kek: config.kek,
            keys,
            lots: Mutex::default(),
            serving: Mutex::default(),
        })
    }

    /// Returns the books.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Waits until all is written and the database is closed.
    pub async fn close(&self) {
        self.ledger.close().await;
    }

    /// Returns the public half of the signing key, for the owner root to delegate to: x followed by y.
    pub fn signing_key(&self) -> [u8; 64] {
        self.keys.signing.public()
    }

    /// Returns the public key that content keys are sealed to.
    pub fn sealing_key(&self) -> AuthorityKey {
        AuthorityKey::new(self.keys.sealing.public())
    }

    /// Opens the content key of a package that was sealed to this authority.
    ///
    /// # Errors
    /// [`Error::ContentKey`]: the key of another package, or for another authority.
    pub fn open_content_key(
        &self,
        sealed: &SealedContentKey,
        facts: &PackageFacts,
    ) -> Result<ContentKey, Error> {
        Ok(sealed.open(&self.keys.sealing, facts)?)
    }

    /// Returns the certificate of the device CA, in DER: what a device's certificate is verified with.
    pub fn device_ca(&self) -> &[u8] {
        self.keys.device_ca.certificate()
    }

    /// Returns the certificate, in DER, that the service's own and those of stations are verified with.
    pub fn tls_ca(&self) -> &[u8] {
        self.keys.tls_ca.certificate()
    }

    /// Makes a key and a certificate for a station.
    ///
    /// # Errors
    /// A name that a certificate cannot hold, those of the database.
    pub async fn issue_station(&self, name: &str) -> Result<StationIdentity, Error> {
        let key = Es256Key::generate();
        let certificate = self.keys.tls_ca.certify(name, &key.public(), &Use::Client)?;
        let station = Station::new(&certificate);
        let context = Context { station: Some(station.fingerprint), ..Context::default() };
        self.ledger.writer().decide(WriteDown(context.done("station-issued", name))).await?;
        Ok(StationIdentity {
            key: key.to_pem(),
            certificate: release::certificate_pem(&certificate),
            station,
        })
    }

    /// Takes what an owner root delegated to the signing key.
    ///
    /// # Errors
    /// [`Error::Delegation`].
    pub async fn delegate(&self, delegation: &Delegation, board: &str) -> Result<(), Error> {
        let row = delegation.row()?;
        keys::check(&self.keys.signing, &row, board)?;
        self.ledger.writer().decide(Delegate(row)).await?;
        Ok(())
    }

    /// Makes a lot.
    ///
    /// # Errors
    /// Terms that no device meets, a root that did not delegate to this authority, a name that is taken.
    pub async fn create_lot(&self, lot: NewLot) -> Result<(), Error> {
        check_name(&lot.name)?;
        let terms = serde_json::to_string(&lot.terms).map_err(|error| Error::Damaged(error.to_string()))?;
        let parsed = Parsed::new(lot.terms)?;
        let root = parsed.terms.fuses.root_digest;
        let delegation = self.ledger.storage().read().await?.delegation(&root).await?;
        let delegation = delegation.ok_or_else(|| Error::NotDelegated { root: crate::hex::encode(&root) })?;
        keys::check(&self.keys.signing, &delegation, &parsed.terms.board)?;
        let content_key = self.kek.seal(&content_key_context(&lot.name), lot.content_key.expose())?;
        let row = LotRow {
            name: lot.name,
            created_at: now(),
            terms,
            content_key,
            quota: lot.quota,
            issued: 0,
            revoked: false,
        };
        let create = CreateLot { row, dies: lot.dies, stations: lot.stations };
        self.ledger.writer().decide(create).await?
    }
}

fn make_folder(path: &Path) -> Result<(), Error> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Error::File { path: path.into(), error })
}

pub(crate) fn content_key_context(lot: &str) -> String {
    format!("content key of lot {lot}")
}

/// Adds a key to books that were made without it.
struct AddKey(KeyRow);

impl Decision for AddKey {
    type Answer = ();

    fn decide<'a>(&'a self, tx: &'a mut dyn Transaction) -> Later<'a, ()> {
        Box::pin(async move {
            // Another process may have been faster.
            if tx.key(&self.0.name).await?.is_some() {
                return Ok(());
            }
            tx.insert_key(&self.0).await?;
            tx.insert_audit(&Context::default().done("key-made", self.0.name.clone())).await
        })
    }
}

struct Delegate(DelegationRow);

impl Decision for Delegate {
    type Answer = ();

    fn decide<'a>(&'a self, tx: &'a mut dyn Transaction) -> Later<'a, ()> {
        Box::pin(async move {
            tx.set_delegation(&self.0).await?;
            let root = crate::hex::encode(&self.0.root_digest);
            tx.insert_audit(&Context::default().done("delegated", format!("by owner root {root}"))).await
        })
    }
}

struct CreateLot {
    row: LotRow,
    dies: Vec<[u8; 16]>,
    stations: Vec<Digest>,
}

impl Decision for CreateLot {
    type Answer = Result<(), Error>;

    fn decide<'a>(&'a self, tx: &'a mut dyn Transaction) -> Later<'a, Self::Answer> {
        Box::pin(async move {
            let name = &self.row.name;
            if tx.lot(name).await?.is_some() {
                return Ok(Err(Error::LotExists(name.clone())));
            }
            tx.insert_lot(&self.row, &self.dies, &self.stations).await?;
            let context = Context { lot: Some(name.clone()), ..Context::default() };
            tx.insert_audit(&context.done("lot-created", format!("quota {}", self.row.quota))).await?;
            Ok(Ok(()))
        })
    }
}
