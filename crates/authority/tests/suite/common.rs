//! An authority in a temporary folder, and the factory that it serves.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use authority::model::{Die, Factory};
use authority::storage::Filter;
use authority::{AuditInfo, Authority, Config, LocalKey, Refusal, Station};
use boot_crypto::Key;
use boot_crypto::host::random;
use fail_code::FailCode;
use tempfile::TempDir;

/// The lot of most tests.
pub(crate) const LOT: &str = "lot-1";

/// The key-encryption key of the tests' authorities.
pub(crate) const KEK: [u8; 32] = [0x4B; 32];

/// An authority and its factory.
pub(crate) struct Rig {
    pub(crate) folder: TempDir,
    pub(crate) factory: Factory,
    pub(crate) authority: Arc<Authority>,
    pub(crate) station: Station,
}

impl Rig {
    /// Makes an authority with one lot of any dies and any stations.
    pub(crate) async fn new(quota: u32) -> Self {
        let rig = Self::without_lot().await;
        rig.authority.create_lot(rig.factory.lot(LOT, quota)).await.unwrap();
        rig
    }

    /// Makes an authority that has no lot yet.
    pub(crate) async fn without_lot() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = ["localhost".into(), "127.0.0.1".into()];
        let authority = Authority::init(config(folder.path()), &names, None).await.unwrap();
        let factory = Factory::found().unwrap();
        factory.delegate(&authority).await.unwrap();
        let station = authority.issue_station("station").await.unwrap().station;
        Self { folder, factory, authority: Arc::new(authority), station }
    }

    /// Ends the authority and opens it again.
    pub(crate) async fn restart(self) -> Self {
        self.authority.close().await;
        drop(self.authority);
        let authority = Arc::new(Authority::open(config(self.folder.path())).await.unwrap());
        Self { authority, ..self }
    }

    /// Asks for a ticket in the one lot.
    pub(crate) async fn ticket(&self, request: &[u8]) -> Result<Vec<u8>, Refusal> {
        self.authority.ticket(&self.station, LOT, request).await
    }

    /// Takes a die to its receipt, and returns nonce and install.
    pub(crate) async fn certified(&self, die: &Die) -> ([u8; 32], [u8; 32]) {
        let nonce = random();
        let ticket = self.ticket(&die.request(nonce).unwrap()).await.unwrap();
        self.authority.receipt(&self.station, &die.csr(nonce, &ticket).unwrap()).await.unwrap();
        (nonce, die.open(nonce, &ticket).unwrap().install)
    }

    /// Makes the proof that a die is closed as the lot says.
    pub(crate) fn proof(&self, die: &Die, install: &[u8; 32]) -> Vec<u8> {
        die.close(install, &self.factory.policy().production(), self.factory.stage2)
    }

    /// Takes a die to its certificate, and returns its install.
    pub(crate) async fn closed(&self, die: &Die) -> [u8; 32] {
        let (_, install) = self.certified(die).await;
        self.authority.release(&self.station, &self.proof(die, &install)).await.unwrap();
        install
    }

    /// Checks that something was refused for this reason, and that the audit says so: of which lot and die.
    pub(crate) async fn refused<T: std::fmt::Debug>(
        &self,
        answer: Result<T, Refusal>,
        code: FailCode,
        of: Named<'_>,
    ) {
        let refusal = answer.expect_err("it was answered");
        assert_eq!(refusal.code, code, "{refusal}");
        let filter = Filter { code: Some(code), limit: Some(1), ..Filter::default() };
        let row = self.authority.ledger().audit(&filter).await.unwrap().pop().expect("no audit row");
        let expected = AuditInfo {
            event: "refused".into(),
            code: Some(String::from_utf8_lossy(&code.text()).into_owned()),
            name: Some(code.name()),
            lot: of.lot.map(str::to_owned),
            chip_id: of.die.map(|die| hex(&die.chip_id)),
            install: of.install.map(|install| hex(install)),
            station: Some(hex(&self.station.fingerprint)),
            ..row.clone()
        };
        assert_eq!(row, expected);
    }

    /// Returns how many installs of the lot are taken, and how many are closed.
    pub(crate) async fn counts(&self) -> (u32, u32) {
        let lot = self.authority.ledger().lot(LOT).await.unwrap();
        (lot.issued, lot.closed)
    }
}

/// What an audit row names.
#[derive(Clone, Copy, Default)]
pub(crate) struct Named<'a> {
    pub(crate) lot: Option<&'a str>,
    pub(crate) die: Option<&'a Die>,
    pub(crate) install: Option<&'a [u8; 32]>,
}

impl<'a> Named<'a> {
    /// The lot only: the die is not vouched for.
    pub(crate) fn lot() -> Self {
        Self { lot: Some(LOT), ..Self::default() }
    }

    /// The lot and the die.
    pub(crate) fn die(die: &'a Die) -> Self {
        Self { die: Some(die), ..Self::lot() }
    }

    /// The lot, the die and its install.
    pub(crate) fn install(die: &'a Die, install: &'a [u8; 32]) -> Self {
        Self { install: Some(install), ..Self::die(die) }
    }
}

/// Describes the authority in a folder.
pub(crate) fn config(folder: &Path) -> Config {
    Config { data: folder.join("authority"), kek: Arc::new(LocalKey::new(Key::new(KEK))), anchor: None }
}

/// Copies the files of a folder.
pub(crate) fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    authority::hex::encode(bytes)
}
