//! `cargo xtask flash`: makes a device and boots it.

mod development;

use std::fs::File;
use std::io::Read as _;
use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::input::{CMDLINE, InputArgs};
use crate::workspace::DEFAULT_DEVICE;

/// Makes a development device and boots it to Linux.
///
/// Builds the firmware, fetches Debian's kernel and busybox, signs and encrypts everything for the device's die,
/// writes flash and disk, and boots. The die is a Development die: its fuses hold published test keys, and no
/// production tool or device accepts what is made here. Flashing a device again keeps its die.
#[derive(Args, Clone, Debug)]
pub struct Flash {
    /// The device to write
    #[arg(long, value_name = "NAME", default_value = DEFAULT_DEVICE)]
    device: String,
    /// Take a new die instead of the one that the device has
    #[arg(long)]
    new: bool,
    /// What to boot
    #[command(flatten)]
    input: InputArgs,
    /// DRAM in MiB
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(256..=8192))]
    memory: u32,
    /// Number of cores
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    cores: u32,
    /// Write what happened to FILE as JSON, and a picture of the timeline next to it
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How long the boot may take, in seconds
    #[arg(long, value_name = "S", default_value_t = 60)]
    timeout: u64,
}

impl Default for Flash {
    fn default() -> Self {
        Self {
            device: DEFAULT_DEVICE.into(),
            new: false,
            input: InputArgs { cmdline: CMDLINE.into(), ..InputArgs::default() },
            memory: 512,
            cores: 2,
            report: None,
            timeout: 60,
        }
    }
}

impl Flash {
    /// Runs the command; `Ok(false)` if the device was written but did not boot as it should.
    ///
    /// # Errors
    /// If something cannot be built, fetched or written, or the emulator fails.
    pub fn run(&self) -> Result<bool> {
        self.run_development()
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
