//! What happened to a device in its factory, for machines; and as a picture.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use emulator::Picture;
use serde::{Deserialize, Serialize};

/// The report of `flash --report`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct FlashReport {
    /// How it ended: as the report of `run`, or `refused`.
    pub result: String,
    /// The refusal code, for instance `K1121`.
    pub code: Option<String>,
    /// The name of the device.
    pub device: String,
    /// The die's id in hex, once there is a die.
    pub chip_id: Option<String>,
    /// The lifecycle that is fused now.
    pub lifecycle: Option<String>,
    /// What protects the device, and whether hardware does or only a model of it.
    pub protections: BTreeMap<String, Protection>,
    /// What was done, by the host and by the device, in milliseconds since the command began.
    pub steps: Vec<Step>,
    /// What the authority counts.
    pub authority: Option<Lot>,
    /// Bytes of plaintext that the device encrypted anew for itself, each copy counted.
    pub rekeyed_bytes: u64,
    /// Fuse rows that were burned after fabrication, locks included.
    pub fuse_rows_burned: usize,
    /// The certificate request that the device made.
    pub csr_pem: Option<String>,
    /// The device's certificate and its issuers, as the device stored them, leaf first.
    pub certificate_chain_pem: Option<String>,
    /// The report of the first boot for good, as `run` writes it.
    pub boot: Option<serde_json::Value>,
}

/// Whether a protection is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protection {
    /// The emulated machine itself enforces it, against everything that runs in it.
    Hardware,
    /// Kiln's own code keeps it; code at EL3, a debugger or a write to the flash file defeats it.
    Modelled,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Step {
    /// What was done.
    pub name: String,
    /// When it began.
    pub start_ms: u64,
    /// When it ended; of a step that was cut off, when that was noticed.
    pub end_ms: u64,
}

/// The lot, as the authority counts it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Lot {
    /// Its name.
    pub lot: String,
    /// How many devices it may make.
    pub quota: u64,
    /// How many installs were given out.
    pub issued: u64,
    /// How many of them are closed devices.
    pub closed: u64,
}

/// What only code keeps on QEMU `virt`.
const MODELLED: [&str; 6] = [
    "one-way-fuses",
    "fuse-row-locks",
    "silicon-secret-hidden-after-stage0",
    "debug-lock",
    "chip-id",
    "stage0-immutable",
];
/// What the emulated TrustZone keeps.
const HARDWARE: [&str; 2] = ["secure-ram-hidden-from-linux", "secure-flash-hidden-from-linux"];

/// Returns what protects a device on QEMU `virt`.
fn protections() -> BTreeMap<String, Protection> {
    let modelled = MODELLED.map(|name| (name.to_owned(), Protection::Modelled));
    let hardware = HARDWARE.map(|name| (name.to_owned(), Protection::Hardware));
    modelled.into_iter().chain(hardware).collect()
}

impl FlashReport {
    /// Makes a report of a device of which nothing is known yet.
    pub fn new(device: &str) -> Self {
        Self {
            result: emulator::Outcome::Refused.name().into(),
            code: None,
            device: device.into(),
            chip_id: None,
            lifecycle: None,
            protections: protections(),
            steps: Vec::new(),
            authority: None,
            rekeyed_bytes: 0,
            fuse_rows_burned: 0,
            csr_pem: None,
            certificate_chain_pem: None,
            boot: None,
        }
    }

    /// Writes the report as JSON to `file`, and `picture` next to it as SVG.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub fn write(&self, file: &Path, picture: &Picture) -> Result<()> {
        if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        fs::write(file, serde_json::to_string_pretty(self)? + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
        let svg = file.with_extension("svg");
        fs::write(&svg, picture.svg()).with_context(|| format!("cannot write {}", svg.display()))
    }
}
