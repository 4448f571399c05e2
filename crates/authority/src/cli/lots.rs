//! Lots, installs, the audit, and where the books are.

use std::path::{Path, PathBuf};

use boot_crypto::Digest;
use clap::{Args, Subcommand};
use fail_code::FailCode;
use release::{ContentKey, PackageFacts, SealedContentKey};
use serde_json::json;

use super::{Place, Shown, ago, rfc3339};
use crate::storage::{Filter, State};
use crate::{Authority, Error, InstallInfo, LotInfo, NewLot, Terms, hex};

/// Makes, shows and changes lots
#[derive(Subcommand, Debug)]
pub(super) enum Lot {
    Create(Box<Create>),
    List(List),
    Show(Show),
    Revoke(Revoke),
    Quota(Quota),
    Admit(Admit),
}

impl Lot {
    pub(super) async fn run(&self, place: &Place) -> Result<Shown, Error> {
        match self {
            Self::Create(command) => command.run(place).await,
            Self::List(_) => Ok(lot_table(&place.ledger().await?.lots().await?)),
            Self::Show(command) => Ok(lot_facts(&place.ledger().await?.lot(&command.lot).await?)),
            Self::Revoke(command) => command.run(place).await,
            Self::Quota(command) => command.run(place).await,
            Self::Admit(command) => {
                let ledger = place.ledger().await?;
                ledger.admit(&command.lot, command.station).await?;
                Ok(lot_facts(&ledger.lot(&command.lot).await?))
            }
        }
    }
}

/// Makes a lot from a release and what the owner ordered
///
/// The terms of a lot never change: only its quota, the stations that it admits, and that it is revoked.
#[derive(Args, Debug)]
pub(super) struct Create {
    /// Its name, which begins the serial numbers of its devices: letters, digits, `-`, `_` and `.`
    lot: String,
    /// How many devices are ordered
    #[arg(long, value_name = "N")]
    quota: u32,
    /// The folder of the package, with its release.json
    #[arg(long, value_name = "DIR")]
    package: PathBuf,
    /// The package's content key as it is sealed to this authority: content-key.sealed of the release
    #[arg(long, value_name = "FILE", required_unless_present = "content_key")]
    sealed_content_key: Option<PathBuf>,
    /// The package's content key in the clear, a file of 64 hexadecimal digits
    #[arg(long, value_name = "FILE", conflicts_with = "sealed_content_key")]
    content_key: Option<PathBuf>,
    /// Certificates of the silicon vendors, in PEM
    #[arg(long, value_name = "FILE", required = true)]
    vendor: Vec<PathBuf>,
    /// The chip ids of the lot's dies, one to a line [default: any die of the vendors]
    #[arg(long, value_name = "FILE")]
    dies: Option<PathBuf>,
    /// Admit this station only, by the SHA-256 of its certificate; may be given more than once
    #[arg(long, value_name = "FINGERPRINT", value_parser = hex::argument::<32>)]
    station: Vec<Digest>,
    /// Allow a provisioning stage of this measurement too
    #[arg(long, value_name = "MEASUREMENT", value_parser = hex::argument::<32>)]
    stage1: Vec<Digest>,
    /// Take a production stage of this measurement as closed too
    #[arg(long, value_name = "MEASUREMENT", value_parser = hex::argument::<32>)]
    stage2: Vec<Digest>,
}

impl Create {
    async fn run(&self, place: &Place) -> Result<Shown, Error> {
        let release =
            |error: release::Error| Error::Invalid { what: "the package".into(), why: error.to_string() };
        let facts = PackageFacts::read(&self.package).map_err(release)?;
        let vendors = self.vendor.iter().map(|path| read(path)).collect::<Result<String, _>>()?;
        let mut terms = Terms::new(&facts, vendors);
        terms.stage1.extend(&self.stage1);
        terms.stage2.extend(&self.stage2);
        let authority = place.authority().await?;
        let content_key = self.key(&authority, &facts)?;
        authority
            .create_lot(NewLot {
                name: self.lot.clone(),
                quota: self.quota,
                terms,
                content_key: content_key.0,
                dies: self.dies.as_deref().map(dies).transpose()?.unwrap_or_default(),
                stations: self.station.clone(),
            })
            .await?;
        Ok(lot_facts(&authority.ledger().lot(&self.lot).await?))
    }

    fn key(&self, authority: &Authority, facts: &PackageFacts) -> Result<ContentKey, Error> {
        let read = |error: release::Error| match error {
            release::Error::SealedKey { fault, .. } => Error::ContentKey(fault),
            error => Error::Invalid { what: "the content key".into(), why: error.to_string() },
        };
        match (&self.sealed_content_key, &self.content_key) {
            (Some(file), _) => {
                authority.open_content_key(&SealedContentKey::read(file).map_err(read)?, facts)
            }
            (None, Some(file)) => ContentKey::read(file).map_err(read),
            // The command line is not understood then.
            (None, None) => {
                Err(Error::Invalid { what: "the content key".into(), why: "no file is named".into() })
            }
        }
    }
}

/// Lists the lots
#[derive(Args, Debug)]
pub(super) struct List {}

/// Shows a lot and its terms
#[derive(Args, Debug)]
pub(super) struct Show {
    /// The lot
    lot: String,
}

/// Revokes a lot for ever: nothing of it is answered any more
#[derive(Args, Debug)]
pub(super) struct Revoke {
    /// The lot
    lot: String,
    /// Yes, for ever
    #[arg(long)]
    yes: bool,
}

impl Revoke {
    async fn run(&self, place: &Place) -> Result<Shown, Error> {
        let ledger = place.ledger().await?;
        let lot = ledger.lot(&self.lot).await?;
        if !self.yes {
            let open = lot.issued - lot.closed - lot.void;
            let what =
                format!("revoking lot {}: {} closed, {open} under way that stay open", lot.name, lot.closed);
            return Err(Error::Unconfirmed(what));
        }
        ledger.revoke(&self.lot).await?;
        Ok(lot_facts(&ledger.lot(&self.lot).await?))
    }
}

/// Changes how many devices a lot has
#[derive(Args, Debug)]
pub(super) struct Quota {
    /// The lot
    lot: String,
    /// How many devices are ordered
    quota: u32,
}

impl Quota {
    async fn run(&self, place: &Place) -> Result<Shown, Error> {
        let ledger = place.ledger().await?;
        ledger.set_quota(&self.lot, self.quota).await?;
        Ok(lot_facts(&ledger.lot(&self.lot).await?))
    }
}

/// Admits a station to a lot; a lot that admits none by name takes every station of this authority
#[derive(Args, Debug)]
pub(super) struct Admit {
    /// The lot
    lot: String,
    /// SHA-256 of the station's certificate
    #[arg(value_parser = hex::argument::<32>)]
    station: Digest,
}

fn lot_table(lots: &[LotInfo]) -> Shown {
    let head = ["LOT", "QUOTA", "ISSUED", "CLOSED", "VOID", "REVOKED", "MADE"];
    Shown::rows("lots", lots, &head, |lot| {
        let counts = [lot.quota, lot.issued, lot.closed, lot.void].map(|count| count.to_string());
        let revoked = if lot.revoked { "revoked" } else { "" };
        [vec![lot.name.clone()], counts.to_vec(), vec![revoked.into(), ago(lot.created_at)]].concat()
    })
}

fn lot_facts(lot: &LotInfo) -> Shown {
    let list = |list: &[Digest]| json!(list.iter().map(|digest| hex::encode(digest)).collect::<Vec<_>>());
    let terms = &lot.terms;
    Shown::facts(
        "Lot:",
        [
            ("name", json!(lot.name)),
            ("quota", json!(lot.quota)),
            ("issued", json!(lot.issued)),
            ("closed", json!(lot.closed)),
            ("void", json!(lot.void)),
            ("revoked", json!(lot.revoked)),
            ("stations", json!(lot.stations)),
            ("board", json!(terms.board)),
            ("package", json!(hex::encode(&terms.package))),
            ("stage1", list(&terms.stage1)),
            ("stage2", list(&terms.stage2)),
            ("owner root", json!(hex::encode(&terms.fuses.root_digest))),
            ("secured floors", json!(terms.fuses.secured_floors)),
            ("production floors", json!(terms.fuses.production_floors)),
        ],
    )
}

/// Shows and voids installs
#[derive(Subcommand, Debug)]
pub(super) enum Install {
    List(InstallList),
    Show(InstallShow),
    Void(InstallVoid),
}

impl Install {
    pub(super) async fn run(&self, place: &Place) -> Result<Shown, Error> {
        match self {
            Self::List(command) => {
                let filter = Filter {
                    lot: command.lot.clone(),
                    state: command.state,
                    limit: Some(command.limit),
                    code: None,
                };
                let installs = place.ledger().await?.installs(&filter).await?;
                let head = ["SERIAL", "DIE", "STATE", "TICKETS", "RESERVED", "CLOSED", "ID"];
                Ok(Shown::rows("installs", &installs, &head, |install| {
                    vec![
                        install.serial.clone(),
                        install.chip_id.clone(),
                        install.state.name().into(),
                        install.tickets.to_string(),
                        ago(install.reserved_at),
                        install.closed_at.map(ago).unwrap_or_default(),
                        install.id.clone(),
                    ]
                }))
            }
            Self::Show(command) => Ok(install_facts(&place.ledger().await?.install(&command.install).await?)),
            Self::Void(command) => command.run(place).await,
        }
    }
}

/// Lists installs, the newest first
#[derive(Args, Debug)]
pub(super) struct InstallList {
    /// Of this lot only
    #[arg(long, value_name = "LOT")]
    lot: Option<String>,
    /// In this state only
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
}

/// Shows an install, and the certificate once it is released
#[derive(Args, Debug)]
pub(super) struct InstallShow {
    /// The install's id
    #[arg(value_parser = hex::argument::<32>)]
    install: [u8; 32],
}

/// Voids an install that is not closed: the die is scrap, the quota gets nothing back
#[derive(Args, Debug)]
pub(super) struct InstallVoid {
    /// The install's id
    #[arg(value_parser = hex::argument::<32>)]
    install: [u8; 32],
    /// Why, for the audit
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Yes, for ever
    #[arg(long)]
    yes: bool,
}

impl InstallVoid {
    async fn run(&self, place: &Place) -> Result<Shown, Error> {
        let ledger = place.ledger().await?;
        let install = ledger.install(&self.install).await?;
        if !self.yes {
            let (serial, chip) = (&install.serial, &install.chip_id);
            return Err(Error::Unconfirmed(format!("voiding {serial}, which scraps die {chip},")));
        }
        ledger.void(self.install, &self.reason).await?;
        Ok(install_facts(&ledger.install(&self.install).await?))
    }
}

fn install_facts(install: &InstallInfo) -> Shown {
    Shown::facts(
        "Install:",
        [
            ("id", json!(install.id)),
            ("lot", json!(install.lot)),
            ("die", json!(install.chip_id)),
            ("serial", json!(install.serial)),
            ("state", json!(install.state)),
            ("tickets", json!(install.tickets)),
            ("reserved at", json!(rfc3339(install.reserved_at))),
            ("closed at", json!(install.closed_at.map(rfc3339))),
            ("certificate", json!(install.certificate)),
        ],
    )
}

/// Lists what happened, the newest first; refusals that repeat are counted by the hour
#[derive(Args, Debug)]
pub(super) struct Audit {
    /// Of this lot only
    #[arg(long, value_name = "LOT")]
    lot: Option<String>,
    /// Refusals with this code only, as K1121 or quota-exhausted
    #[arg(long, value_name = "CODE", value_parser = code)]
    code: Option<FailCode>,
    /// At most so many
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
}

impl Audit {
    pub(super) async fn run(&self, place: &Place) -> Result<Shown, Error> {
        let filter = Filter { lot: self.lot.clone(), code: self.code, limit: Some(self.limit), state: None };
        let rows = place.ledger().await?.audit(&filter).await?;
        let head = ["WHEN", "EVENT", "CODE", "COUNT", "LOT", "DIE", "DETAIL"];
        Ok(Shown::rows("audit", &rows, &head, |row| {
            let code = row.code.as_ref().zip(row.name).map(|(code, name)| format!("{code} {name}"));
            vec![
                ago(row.at),
                row.event.clone(),
                code.unwrap_or_default(),
                row.count.to_string(),
                row.lot.clone().unwrap_or_default(),
                row.chip_id.clone().unwrap_or_default(),
                row.detail.clone(),
            ]
        }))
    }
}

/// Verifies the books from end to end, and shows where they are and whether a rollback is noticed
#[derive(Args, Debug)]
pub(super) struct Status {}

impl Status {
    pub(super) async fn run(&self, place: &Place) -> Result<Shown, Error> {
        let status = place.ledger().await?.status().await?;
        Ok(Shown::facts(
            "Books, verified from end to end:",
            [
                ("data", json!(place.data)),
                ("sequence", json!(status.head.sequence)),
                ("head", json!(hex::encode(&status.head.digest))),
                ("anchor", json!(status.anchor)),
                ("rollback", json!(status.rollback)),
            ],
        ))
    }
}

fn code(text: &str) -> Result<FailCode, String> {
    FailCode::parse(text).ok_or_else(|| "no such code; `kiln explain` lists them".into())
}

fn read(path: &Path) -> Result<String, Error> {
    std::fs::read_to_string(path).map_err(|error| Error::File { path: path.into(), error })
}

fn dies(path: &Path) -> Result<Vec<[u8; 16]>, Error> {
    let text = read(path)?;
    let lines = text.lines().map(str::trim).zip(1..).filter(|(line, _)| !line.is_empty());
    let die = |(line, number): (&str, u32)| {
        hex::array(line).ok_or_else(|| Error::Invalid {
            what: format!("{} line {number}", path.display()),
            why: "a chip id has 32 hexadecimal digits".into(),
        })
    };
    lines.map(die).collect()
}
