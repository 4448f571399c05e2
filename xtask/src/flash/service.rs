//! The authority that a flash works with: the demonstration's own, or somebody else's.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use authority::{NewLot, Terms};
use memory_map::qemu_virt::BOARD;
use release::{ContentKey, certificate_pem, hex, open_root_key, read_certificate};
use station::{Authorise, Authority, Credentials};

use super::Flash;
use super::package::Prepared;
use super::report::Lot;
use crate::local_authority::LocalAuthority;
use crate::progress::Step;
use crate::workspace;

/// The quota of a new lot unless `--quota` says otherwise.
const QUOTA: u32 = 100;

/// An authority, a lot of it and the way there.
pub(crate) struct Service {
    way: Authority,
    lot: String,
    /// The authority itself, where it is ours.
    local: Option<LocalAuthority>,
}

impl Service {
    /// Starts the demonstration's authority, with a lot for this package, or finds the one that was named.
    ///
    /// # Errors
    /// If it cannot be started or used.
    pub(crate) fn start(flash: &Flash, package: &Prepared) -> Result<Self> {
        if let (Some(url), Some(folder), Some(lot)) = (&flash.authority, &flash.credentials, &flash.lot) {
            let step = Step::start("taking the authority that was named");
            let way = Authority::new(url, lot, &credentials(folder)?)?;
            step.done(&format!("{url}, lot {lot}"));
            return Ok(Self { way, lot: lot.clone(), local: None });
        }
        let step = Step::start("starting the authority");
        let factory = workspace::factory_dir();
        // Beside its folder: a copy of that does not bring the anchor along.
        let anchor = factory.join("authority.anchor");
        let local = LocalAuthority::start(&factory.join("authority"), Some(&anchor))?;
        let lot = lot_name(package);
        make_lot(&local, &factory, &lot, package, flash.quota)?;
        let way = Authority::new(&local.url(), &lot, &local.issue_station("xtask")?)?;
        let service = Self { way, lot, local: Some(local) };
        let url = service.local.as_ref().map(LocalAuthority::url).unwrap_or_default();
        step.done(&format!("{url}, lot {}", service.lot()?));
        Ok(service)
    }

    /// Returns the way that the station goes.
    pub(crate) fn authority(&self) -> &dyn Authorise {
        &self.way
    }

    /// Returns the lot, with what the authority counts unless it is somebody else's.
    ///
    /// # Errors
    /// Those of its database.
    pub(crate) fn lot(&self) -> Result<Lot> {
        let info = self.local.as_ref().map(|local| local.lot(&self.lot)).transpose()?.flatten();
        let info = info.as_ref();
        Ok(Lot {
            lot: self.lot.clone(),
            quota: info.map(|info| info.quota.into()),
            issued: info.map(|info| info.issued.into()),
            closed: info.map(|info| info.closed.into()),
        })
    }
}

/// Names the lot after its package as it is encrypted: another one of the same id has another content key.
fn lot_name(package: &Prepared) -> String {
    let digest = hex(&package.release.facts.package_digest);
    format!("demo-{}", digest.get(..12).unwrap_or_default())
}

/// Makes the lot if there is none, and sets the quota that was asked for.
fn make_lot(
    local: &LocalAuthority,
    factory: &Path,
    name: &str,
    package: &Prepared,
    quota: Option<u32>,
) -> Result<()> {
    if local.lot(name)?.is_some() {
        return quota.map_or(Ok(()), |quota| local.set_quota(name, quota));
    }
    // The owner's part: its root names this authority as its own, and hands it the content key.
    local.delegate(&open_root_key(&factory.join("owner"))?, BOARD)?;
    let vendor = certificate_pem(&read_certificate(&factory.join("vendor/vendor-root.pem"))?);
    local.create_lot(NewLot {
        name: name.into(),
        quota: quota.unwrap_or(QUOTA),
        terms: Terms::new(&package.release.facts, vendor),
        content_key: ContentKey::read(&package.content_key)?.0,
        dies: Vec::new(),
        stations: Vec::new(),
    })
}

fn credentials(folder: &Path) -> Result<Credentials> {
    let read = |name: &str| {
        let file: PathBuf = folder.join(name);
        fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
    };
    Ok(Credentials {
        authority_ca: read("tls-ca.pem")?,
        certificate: read("station.pem")?,
        key: read("station.key.pem")?,
    })
}
