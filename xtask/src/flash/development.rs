//! A development device: its fuses hold published test keys, and no factory is needed.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use memory_map::qemu_virt as board;

use super::{CORES, Flash, MEMORY_MIB, random};
use crate::device::{self, Device, Facts};
use crate::images::DevelopmentDie;
use crate::progress::{self, Step};
use crate::tools::{self, Tool};
use crate::workspace;
use crate::{boot_report, digest, firmware, images, input};

impl Flash {
    /// Makes a development device and boots it; `Ok(false)` if it did not boot as it should.
    pub(super) fn run_development(&self) -> Result<bool> {
        let start = Instant::now();
        let device = self.make_development()?;
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
            eprintln!("\nDone after {}. Next:", progress::seconds(start.elapsed()));
            let name = self.option();
            eprintln!(
                "{}",
                progress::commands(&[
                    (&format!("run{name}"), "its console"),
                    (&format!("run{name} --headless"), "the same boot, watched"),
                    (&format!("bench{name}"), "how fast that was, against U-Boot"),
                ])
            );
        } else {
            eprintln!("  console: {}", workspace::shown(&device.folder.join("console.log")));
        }
        Ok(booted)
    }

    /// Makes a development device without booting it.
    ///
    /// # Errors
    /// If something cannot be built, fetched or written, or the device is one that was provisioned.
    pub fn make_development(&self) -> Result<Device> {
        if let (false, Ok(Some(old))) = (self.new, Device::open(&self.device))
            && !old.is_development()
        {
            bail!(
                "`{}` is a {} die, which no development tool writes: name another device, or `--new` throws this \
                 one away",
                self.device,
                old.facts.lifecycle
            );
        }
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
            memory_mib: self.memory.unwrap_or(MEMORY_MIB),
            cores: self.cores.unwrap_or(CORES),
            package: None,
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
