//! `cargo xtask run`: boots a device again.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use emulator::{Machine, Outcome};

use crate::boot_report;
use crate::device::{self, Device};
use crate::flash::Flash;
use crate::progress::Step;
use crate::tools::{self, Tool};
use crate::workspace::{self, DEFAULT_DEVICE};

/// Boots a device; makes the default one first if there is none, with a development die.
///
/// By default your terminal is the device's console: Ctrl-A X leaves it, everything else goes to the device.
/// With `--headless` the boot is watched instead, and the exit status is 0 only if it ends as asked for.
#[derive(Args, Debug)]
pub struct Run {
    /// The device to boot
    #[arg(long, value_name = "NAME", default_value = DEFAULT_DEVICE)]
    device: String,
    /// Watch the boot until it is clear how it ended, then end the emulator
    #[arg(long)]
    headless: bool,
    /// Write what happened to FILE as JSON, and a picture of the timeline next to it
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// How long to wait, in seconds
    #[arg(long, value_name = "S", default_value_t = 60, requires = "headless")]
    timeout: u64,
    /// How the boot is to end [default: as the device was made for]
    #[arg(long, value_name = "RESULT")]
    expect: Option<Expected>,
}

/// How a boot can be asked to end.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Expected {
    /// Linux in user space
    LinuxUserspace,
    /// The bare-metal payload
    Payload,
    /// A refusal
    Refused,
}

impl Expected {
    fn outcome(self) -> Outcome {
        match self {
            Self::LinuxUserspace => Outcome::LinuxUserspace,
            Self::Payload => Outcome::Payload,
            Self::Refused => Outcome::Refused,
        }
    }
}

impl Run {
    /// Runs the command; `Ok(false)` if the boot did not end as asked for.
    ///
    /// # Errors
    /// If the device cannot be made or the emulator fails.
    pub fn run(&self) -> Result<bool> {
        tools::prepare(&[Tool::Qemu, Tool::Setpriv])?;
        let device = device_or_default(&self.device)?;
        let outcome = self.expect.map_or_else(|| device.outcome(), Expected::outcome);
        let report = if self.headless {
            let step = Step::start(format!("booting {}", self.device));
            let expectation = device.expectation().within(Duration::from_secs(self.timeout));
            let report = emulator::boot_and_observe(&device.machine(), &expectation)?;
            if report.result == outcome {
                step.done("")
            } else {
                drop(step)
            }
            eprintln!("{}", boot_report::summary(&report));
            report
        } else {
            let mut machine = Machine::start(&device.machine().lifetime(None))?;
            emulator::attach_terminal(&machine, 0)?;
            eprintln!();
            if self.report.is_none() {
                return Ok(true);
            }
            machine.observe(&device.expectation().within(Duration::ZERO))?
        };
        if let Some(file) = &self.report {
            boot_report::write(&report, file)?;
            eprintln!("  report: {}", file.display());
        }
        if report.result != outcome && self.headless {
            eprintln!("  console: {}", workspace::shown(&device.folder.join("console.log")));
        }
        Ok(report.result == outcome)
    }
}

/// Opens a device; makes the default one if there is none, with a development die.
///
/// # Errors
/// If there is no device of another name, or the default one cannot be made.
pub fn device_or_default(name: &str) -> Result<Device> {
    if let Some(device) = Device::open(name)? {
        return Ok(device);
    }
    if name != DEFAULT_DEVICE {
        let names = device::names();
        let near = names.iter().filter(|other| strsim::jaro_winkler(other, name) > 0.8);
        let near: Vec<&str> = near.map(String::as_str).collect();
        let hint =
            if near.is_empty() { String::new() } else { format!(" Did you mean {}?", near.join(" or ")) };
        bail!("there is no device `{0}`.{hint} `cargo xtask flash --device {0}` makes it", name);
    }
    eprintln!(
        "There is no device yet: making the default one, with a development die. `cargo xtask flash` makes one \
         with keys of its own."
    );
    Flash::default().make_development()
}
