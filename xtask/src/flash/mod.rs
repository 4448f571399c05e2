//! `cargo xtask flash`: the whole factory story on one device, from nothing to a closed device that boots Linux; or a
//! development device, whose keys are published.

mod development;
pub(crate) mod factory;
pub mod identity;
mod outcome;
pub(crate) mod package;
pub(crate) mod provision;
mod report;
pub(crate) mod service;

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

pub use report::{FlashReport, Lot, Protection, Step};

use crate::input::InputArgs;
use crate::workspace::DEFAULT_DEVICE;

/// Takes a device through its factory: from a blank die to a closed device that boots Linux.
///
/// Builds the firmware, fetches Debian's kernel and busybox, makes a release and its encrypted package, fabricates a
/// die, pre-provisions it, starts an authority and a station on this machine, provisions the device in QEMU, and boots
/// it for good. Owner, silicon vendor and authority are made once and lie under target/kiln/factory. A device that was
/// cut off on its way is carried on with; one that is closed stays as it is.
///
/// With `--development` there is no factory: the fuses hold published test keys, and no production tool or device
/// accepts what is made.
#[derive(Args, Clone, Debug)]
pub struct Flash {
    /// The device to make
    #[arg(long, value_name = "NAME", default_value = DEFAULT_DEVICE)]
    device: String,
    /// Take a new die; the device that has this name is thrown away
    #[arg(long)]
    new: bool,
    /// Make a development die instead: published keys, no factory. Made again, it keeps its die
    #[arg(long, conflicts_with_all = ["quota", "authority", "credentials", "lot"])]
    development: bool,
    /// What to boot
    #[command(flatten)]
    input: InputArgs,
    /// Provision the device from this release, as `cargo xtask release` made it, instead of making a package
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["development", "kernel", "initramfs", "dtb", "cmdline", "payload", "fit"])]
    release: Option<PathBuf>,
    /// With --release: the file with its content key [default: the key that is sealed to the authority of this machine]
    #[arg(long, value_name = "FILE", requires = "release")]
    content_key: Option<PathBuf>,
    /// How many devices the lot may make in all [default: what it has; 100 for a new lot]
    #[arg(long, value_name = "N", conflicts_with = "authority")]
    quota: Option<u32>,
    /// Use the authority at URL, which has a lot for the package, instead of starting one
    #[arg(long, value_name = "URL", requires_all = ["credentials", "lot"])]
    authority: Option<String>,
    /// With --authority: folder that holds tls-ca.pem, station.pem and station.key.pem, as `kiln authority init` makes it
    #[arg(long, value_name = "FOLDER", requires = "authority")]
    credentials: Option<PathBuf>,
    /// With --authority: the lot to provision for
    #[arg(long, value_name = "LOT", requires = "authority")]
    lot: Option<String>,
    /// DRAM in MiB [default: 512]
    #[arg(long, value_name = "MIB", value_parser = clap::value_parser!(u32).range(256..=8192))]
    memory: Option<u32>,
    /// Number of cores [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    cores: Option<u32>,
    /// Write what happened to FILE as JSON, and a picture of the timeline next to it
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How long provisioning and the boot may take, in seconds
    #[arg(long, value_name = "S", default_value_t = 120)]
    timeout: u64,
}

/// DRAM in MiB unless `--memory` says otherwise.
const MEMORY_MIB: u32 = 512;
/// Number of cores unless `--cores` says otherwise.
const CORES: u32 = 2;

impl Default for Flash {
    fn default() -> Self {
        Self {
            device: DEFAULT_DEVICE.into(),
            new: false,
            development: false,
            input: InputArgs::default(),
            release: None,
            content_key: None,
            quota: None,
            authority: None,
            credentials: None,
            lot: None,
            memory: None,
            cores: None,
            report: None,
            timeout: 120,
        }
    }
}

impl Flash {
    /// Runs the command; `Ok(false)` if the device was refused or did not boot as it should.
    ///
    /// # Errors
    /// If something cannot be built, fetched or written, or the emulator fails.
    pub fn run(&self) -> Result<bool> {
        if self.development { self.run_development() } else { self.run_factory() }
    }

    /// Makes what a measurement needs: devices of so many cores, from a lot with this quota.
    pub(crate) fn to_measure(cores: u32, quota: u32) -> Self {
        Self { cores: Some(cores), quota: Some(quota), ..Self::default() }
    }

    /// Returns the option that names this device, for the commands that a person may type next.
    fn option(&self) -> String {
        if self.device == DEFAULT_DEVICE { String::new() } else { format!(" --device {}", self.device) }
    }
}

/// Returns random bytes from the operating system.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut file = File::open("/dev/urandom")?;
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
