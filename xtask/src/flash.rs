//! `cargo xtask flash`: makes a development device and boots it.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use memory_map::qemu_virt as board;

use crate::device::{self, Device, Facts};
use crate::images::DevelopmentDie;
use crate::input::{self, CMDLINE, InputArgs};
use crate::progress::{self, Step};
use crate::tools::{self, Tool};
use crate::workspace::{self, DEFAULT_DEVICE};
use crate::{boot_report, digest, firmware, images};

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
        let start = Instant::now();
        let device = self.make()?;
        let step = Step::start("booting it");
        let expectation = device.expectation().within(Duration::from_secs(self.timeout));
        let report = emulator::boot_and_observe(&device.machine(), &expectation)?;
        let booted = report.result == device.outcome();
        if booted {
            step.done("")
        } else {
            drop(step)
        }
        eprintln!("{}", boot_report::summary(&report));
        if let Some(file) = &self.report {
            boot_report::write(&report, file)?;
            eprintln!("  report: {}", file.display());
        }
        if booted {
            let name = if self.device == DEFAULT_DEVICE {
                String::new()
            } else {
                format!(" --device {}", self.device)
            };
            eprintln!("\nDone in {}. Next:", progress::seconds(start.elapsed()));
            eprintln!("  cargo xtask run{name}             its console");
            eprintln!("  cargo xtask run{name} --headless  the same boot, watched");
            eprintln!("  cargo xtask bench{name}           how fast that was, against U-Boot");
        } else {
            eprintln!("  console: {}", workspace::shown(&device.folder.join("console.log")));
        }
        Ok(booted)
    }

    /// Makes the device without booting it.
    ///
    /// # Errors
    /// If something cannot be built, fetched or written.
    pub fn make(&self) -> Result<Device> {
        tools::prepare(&[Tool::RustTarget, Tool::DeviceTreeCompiler, Tool::Qemu, Tool::Setpriv])?;
        let firmware = firmware::build()?;
        let token = digest::hex(&random::<16>()?);
        let input = input::gather(&self.input, &firmware, &token)?;
        if let Some(remark) = &input.remark {
            eprintln!("  note {remark}");
        }
        let die = self.die()?;
        let step = Step::start("signing and encrypting for the die");
        let storage = images::make(&firmware, &input, &die)?;
        step.done(&format!("{} for each OS slot", progress::bytes(storage.os_slot_a.len() as u64)));
        let step = Step::start("writing flash and disk");
        let facts = Facts {
            format: device::FORMAT,
            board: board::BOARD.into(),
            lifecycle: die.lifecycle().into(),
            chip_id: digest::hex(&die.chip_id),
            system: input.system,
            origin: input.origin,
            token,
            cmdline: input.cmdline,
            memory_mib: self.memory,
            cores: self.cores,
        };
        let device = Device::write(&self.device, &storage, facts)?;
        step.done(&workspace::shown(&device.folder));
        Ok(device)
    }

    /// Returns the die of the device that is there, or a new one.
    fn die(&self) -> Result<DevelopmentDie> {
        if let (false, Ok(Some(old))) = (self.new, Device::open(&self.device)) {
            match DevelopmentDie::of(&old) {
                Ok(die) => return Ok(die),
                Err(error) => eprintln!("  note the device gets a new die: {error:#}"),
            }
        }
        DevelopmentDie::new(random()?)
    }
}

/// Returns random bytes from the operating system.
fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut file = fs::File::open("/dev/urandom")?;
    std::io::Read::read_exact(&mut file, &mut bytes)?;
    Ok(bytes)
}
