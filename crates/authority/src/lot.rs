//! Lots: what the owner ordered, and what a die must be to become a part of it.

use boot_crypto::Digest;
use lifecycle::{FuseFacts, FusePolicy};
use release::PackageFacts;
use serde::{Deserialize, Serialize};

use crate::vendor::Vendors;
use crate::{Error, hex};

/// Longest name of a lot, in characters: it is the start of serial numbers.
const MAX_NAME: usize = 32;
/// Most measurements that a lot allows for a stage.
const MAX_MEASUREMENTS: usize = 16;

/// The terms of a lot. They never change once the lot is made: only quota, revocation and admitted stations do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    /// The board that the lot's devices are.
    pub board: String,
    /// The package: the manifest digest of its index.
    #[serde(with = "hex")]
    pub package: Digest,
    /// Measurements of the provisioning stage that may ask for tickets.
    #[serde(with = "hex::list")]
    pub stage1: Vec<Digest>,
    /// Measurements of the production stage that prove that a device is closed.
    #[serde(with = "hex::list")]
    pub stage2: Vec<Digest>,
    /// What the fuses of the lot's dies hold.
    pub fuses: Fuses,
    /// Certificates of the silicon vendors, in PEM.
    pub vendors: String,
}

impl Terms {
    /// Takes what a release says of its package; `vendors` are certificates in PEM.
    pub fn new(facts: &PackageFacts, vendors: String) -> Self {
        Self {
            board: facts.board.clone(),
            package: facts.package_id,
            stage1: vec![facts.stage1_measurement],
            stage2: vec![facts.stage2_measurement],
            fuses: Fuses {
                root_digest: facts.policy.root_digest,
                provisioning_key_tag: facts.policy.provisioning_key_tag,
                secured_floors: facts.policy.secured_floors,
                production_floors: facts.policy.production_floors,
            },
            vendors,
        }
    }
}

/// What pre-provisioning and closing burn into every die of a lot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fuses {
    /// SHA-256 of the owner root key.
    #[serde(with = "hex")]
    pub root_digest: Digest,
    /// The tag of the provisioning key (`lifecycle::fuse_tag`).
    #[serde(with = "hex")]
    pub provisioning_key_tag: Digest,
    /// Rollback floors of roles 1 to 6 that pre-provisioning burns.
    pub secured_floors: [u8; 6],
    /// Rollback floors that closing burns.
    pub production_floors: [u8; 6],
}

impl Fuses {
    /// Returns the fuse policy of dies that the provisioning stage with this measurement closes.
    fn policy(&self, closing_measurement: Digest) -> FusePolicy {
        FusePolicy {
            root_digest: self.root_digest,
            provisioning_key_tag: self.provisioning_key_tag,
            secured_floors: self.secured_floors,
            production_floors: self.production_floors,
            closing_measurement,
        }
    }
}

/// Everything that makes a lot.
pub struct NewLot {
    /// Its name: letters, digits, `-`, `_` and `.`.
    pub name: String,
    /// How many installs it has.
    pub quota: u32,
    /// Its terms.
    pub terms: Terms,
    /// The key of the package's payloads.
    pub content_key: boot_crypto::Key,
    /// The chip ids of its dies; empty for any die of the vendors.
    pub dies: Vec<[u8; 16]>,
    /// SHA-256 fingerprints of the stations' certificates; empty for any station that the authority certified.
    pub stations: Vec<Digest>,
}

/// A lot's terms, parsed and checked once.
pub(crate) struct Parsed {
    pub(crate) terms: Terms,
    pub(crate) vendors: Vendors,
}

impl Parsed {
    /// Checks terms: whatever could not be met by any device is refused before devices are made.
    pub(crate) fn new(terms: Terms) -> Result<Self, Error> {
        let invalid = |what: &str, why: String| Error::Invalid { what: what.into(), why };
        if terms.board.is_empty() {
            return Err(invalid("board", "is empty".into()));
        }
        for (what, list) in [("stage1", &terms.stage1), ("stage2", &terms.stage2)] {
            if list.is_empty() || list.len() > MAX_MEASUREMENTS {
                return Err(invalid(what, format!("needs 1 to {MAX_MEASUREMENTS} measurements")));
            }
        }
        let floors = terms.fuses.secured_floors.iter().zip(&terms.fuses.production_floors);
        if floors.clone().any(|(secured, production)| production < secured) {
            return Err(invalid("production floors", "a floor never falls".into()));
        }
        if floors.clone().any(|(_, production)| *production > lifecycle::MAX_LEVEL) {
            return Err(invalid("production floors", format!("the highest is {}", lifecycle::MAX_LEVEL)));
        }
        let vendors = Vendors::from_pem(&terms.vendors).map_err(|why| invalid("vendors", why))?;
        Ok(Self { terms, vendors })
    }

    /// Returns the fuses of a die that may ask for a ticket.
    pub(crate) fn secured(&self, stage1: Digest) -> FuseFacts {
        self.terms.fuses.policy(stage1).secured()
    }

    /// Returns the fuses of a closed device.
    pub(crate) fn production(&self, stage1: Digest) -> FuseFacts {
        self.terms.fuses.policy(stage1).production()
    }
}

/// Checks the name of a lot.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) || name.starts_with('.') {
        let why = format!("1 to {MAX_NAME} letters, digits, `-`, `_` and `.` make a name");
        return Err(Error::Invalid { what: format!("lot {name}"), why });
    }
    Ok(())
}

/// Returns the serial number of an install: the lot's name and the first 8 bytes of the install id.
pub(crate) fn serial(lot: &str, install: &[u8; 32]) -> String {
    format!("{lot}-{}", hex::encode(&install[..8]))
}
