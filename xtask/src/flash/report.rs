//! What happened to a device in its factory, for machines; and as a picture.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use emulator::{ImageEntry, MeasurementEntry, Picture, TimelineEntry};
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
    /// What the authority counts; of one that `--authority` names, the name of the lot alone.
    pub authority: Option<Lot>,
    /// Bytes of plaintext that lie on the device under keys of its own, as it encrypted them anew, each copy counted; 0 if it
    /// was cut off while it did.
    pub rekeyed_bytes: u64,
    /// Fuse rows that were burned after fabrication, locks included.
    pub fuse_rows_burned: usize,
    /// The certificate request that the device made last.
    pub csr_pem: Option<String>,
    /// The device's certificate and its issuers, as the device stored them, leaf first.
    pub certificate_chain_pem: Option<String>,
    /// What is asked for most of that boot, under the names that the report of `run` has.
    #[serde(flatten)]
    pub facts: BootFacts,
    /// The report of the first boot for good, as `run` writes it.
    pub boot: Option<emulator::Report>,
}

/// The first boot for good in short; null and empty if there was none.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct BootFacts {
    /// The board's name.
    pub board: Option<String>,
    /// Cores that the kernel or the payload has brought up.
    pub cpus_online: Option<u32>,
    /// Guest counter at kernel entry, in microseconds since reset.
    pub reset_to_kernel_us: Option<u64>,
    /// Host time from the reset to the kernel's first line, in milliseconds.
    pub host_reset_to_kernel_ms: Option<f64>,
    /// What each stage did, in microseconds of guest time since reset.
    pub timeline: Vec<TimelineEntry>,
    /// Every image that was verified and opened.
    pub images: Vec<ImageEntry>,
    /// Every measurement, in the order in which they were made.
    pub measurements: Vec<MeasurementEntry>,
}

impl From<&emulator::Report> for BootFacts {
    fn from(boot: &emulator::Report) -> Self {
        Self {
            board: boot.board.clone(),
            cpus_online: boot.cpus_online,
            reset_to_kernel_us: boot.reset_to_kernel_us,
            host_reset_to_kernel_ms: boot.host_reset_to_kernel_ms,
            timeline: boot.timeline.clone(),
            images: boot.images.clone(),
            measurements: boot.measurements.clone(),
        }
    }
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
    /// How many devices it may make. This and the other counts are null where only the authority's own people can ask.
    pub quota: Option<u64>,
    /// How many installs were given out.
    pub issued: Option<u64>,
    /// How many of them are closed devices.
    pub closed: Option<u64>,
}

impl fmt::Display for Lot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lot)?;
        match (self.quota, self.issued, self.closed) {
            (Some(quota), Some(issued), Some(closed)) => {
                write!(f, ": {issued} of {quota} issued, {closed} closed")
            }
            _ => f.write_str(", counted by its authority"),
        }
    }
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
            facts: BootFacts::default(),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_names_that_were_promised() {
        let json = serde_json::to_value(FlashReport::new("d1")).unwrap();
        for name in [
            "result",
            "code",
            "device",
            "chip_id",
            "lifecycle",
            "protections",
            "steps",
            "authority",
            "rekeyed_bytes",
            "fuse_rows_burned",
            "csr_pem",
            "certificate_chain_pem",
            "boot",
            "board",
            "cpus_online",
            "reset_to_kernel_us",
            "host_reset_to_kernel_ms",
            "timeline",
            "images",
            "measurements",
        ] {
            assert!(json.get(name).is_some(), "{name} is missing");
        }
        assert_eq!(json["protections"]["one-way-fuses"], "modelled");
        assert_eq!(json["protections"]["secure-ram-hidden-from-linux"], "hardware");
    }
}
