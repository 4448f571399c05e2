//! The factory story: everything that happens to a device from a blank die to Linux on a closed device.
//!
//! ```text
//!  owner ── release ──▶ package ─────────────┐                    ┌── authority ◀── content key
//!  vendor ── fabricate ──▶ blank die         ▼                    │ HTTPS
//!                          └── pre-provision ──▶ Secured die ── station ── provision ──▶ Production, Linux
//! ```

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use emulator::Outcome;
use fail_code::FailCode;
use lifecycle::Lifecycle;
use memory_map::qemu_virt as board;
use release::{DeviceFiles, PACKAGE_FOLDER, PackageFacts, SiliconVendor, Start, fabricate, preprovision};

use super::identity;
use super::package::{self, Prepared};
use super::provision::{self, Provisioned};
use super::report::{FlashReport, Step};
use super::service::Service;
use super::{CORES, Flash, MEMORY_MIB, outcome};
use crate::device::{self, Device, Facts};
use crate::progress::{self, Step as Shown};
use crate::tools::{self, Tool};
use crate::{digest, firmware, workspace};

/// What there is under the name of the device.
enum Found {
    /// Nothing that anybody misses.
    Nothing,
    /// A die on its way, with the name of its package.
    Unfinished(Device, String),
    /// A device that went all the way.
    Closed(Device),
}

/// The command while it runs: what it did so far.
pub(super) struct Story<'a> {
    flash: &'a Flash,
    start: Instant,
    pub(super) report: FlashReport,
}

impl Flash {
    /// Takes the device through its factory; `Ok(false)` if it was refused or did not boot.
    pub(super) fn run_factory(&self) -> Result<bool> {
        let mut story = Story { flash: self, start: Instant::now(), report: FlashReport::new(&self.device) };
        let (device, package) = match self.find()? {
            Found::Closed(device) => return story.closed_before(&device),
            Found::Unfinished(device, name) => {
                let (device, package) = story.carry_on(device, &name)?;
                if let Some(asked) = story.asks_for_another(&device, &package)? {
                    return story.begun_otherwise(&device, &package, asked);
                }
                let lifecycle = device.fused_lifecycle()?.name();
                eprintln!(
                    "  note `{}` is a {lifecycle} die on its way: it goes on where it was",
                    self.device
                );
                (device, package)
            }
            Found::Nothing => story.begin()?,
        };
        story.go_on(&device, &package)
    }

    /// Looks what there is under the name of the device.
    fn find(&self) -> Result<Found> {
        if self.new {
            return Ok(Found::Nothing);
        }
        let Some(device) = Device::open(&self.device)? else { return Ok(Found::Nothing) };
        if device.is_development() {
            eprintln!("  note the development die that was here is replaced");
            return Ok(Found::Nothing);
        }
        let closed = device.fused_lifecycle()? == Lifecycle::Production && !is_pending(&device)?;
        match device.facts.package.clone() {
            _ if closed => Ok(Found::Closed(device)),
            Some(name) => Ok(Found::Unfinished(device, name)),
            None => bail!("`{}` is on its way to nobody knows what: `--new` makes another", self.device),
        }
    }
}

/// Tells whether the authority has not acknowledged the closing of a device yet.
fn is_pending(device: &Device) -> Result<bool> {
    Ok(identity::closing_state(&device.files())?.is_some_and(|state| !state.acknowledged))
}

impl Story<'_> {
    /// Does something that the report names.
    fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start_ms = self.now();
        let result = work();
        self.report.steps.push(Step { name: name.into(), start_ms, end_ms: self.now() });
        result
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Makes package and die.
    fn begin(&mut self) -> Result<(Device, Prepared)> {
        let flash = self.flash;
        tools::prepare(&[Tool::RustTarget, Tool::DeviceTreeCompiler, Tool::Qemu, Tool::Setpriv])?;
        let firmware = self.step("build", firmware::build)?;
        let factory = workspace::factory_dir();
        chapter(match flash.release {
            Some(_) => "The factory is given a release",
            None => "The owner signs a release and encrypts it",
        });
        let package = self.step("release", || {
            if let Some(folder) = &flash.release {
                return package::take(&factory, folder, flash.content_key.as_deref(), &firmware);
            }
            let keys = package::owner_keys(&factory)?;
            let owner = keys.owner()?;
            package::prepare(&factory, &owner, &flash.input, &firmware)
        })?;
        if let Some(remark) = &package.notes.remark {
            eprintln!("  note {remark}");
        }
        chapter("The silicon vendor makes a die, and the owner has it burned and written");
        let facts = facts(flash, &package);
        let stage0 = &firmware.stage0.flat.bytes;
        let device = Device::create(&flash.device, facts, |folder, facts| {
            let files = DeviceFiles::new(folder);
            facts.chip_id = self.step("fabricate", || fabricated(&factory, stage0, &files))?;
            self.step("pre-provision", || preprovisioned(&files, &package))
        })?;
        Ok((device, package))
    }

    /// Takes up a device that was cut off, with the package that it was made from.
    fn carry_on(&mut self, device: Device, name: &str) -> Result<(Device, Prepared)> {
        tools::prepare(&[Tool::Qemu, Tool::Setpriv])?;
        let package = package::read(&workspace::factory_dir(), name).with_context(|| {
            format!("the package that `{}` was made from is gone; `--new` makes another", self.flash.device)
        })?;
        Ok((device, package))
    }

    /// Names what the command asks for and the device on its way will not be.
    fn asks_for_another(&self, device: &Device, package: &Prepared) -> Result<Option<&'static str>> {
        let flash = self.flash;
        let differs = |given: Option<u32>, is: u32| given.is_some_and(|given| given != is);
        if differs(flash.memory, device.facts.memory_mib) {
            return Ok(Some("another amount of DRAM"));
        }
        if differs(flash.cores, device.facts.cores) {
            return Ok(Some("another number of cores"));
        }
        if let Some(folder) = &flash.release {
            let asked = PackageFacts::read(&folder.join(PACKAGE_FOLDER))?;
            return Ok((asked != package.release.facts).then_some("another release"));
        }
        flash.input.differs(&package.notes.made_of, &package.notes.token)
    }

    /// Refuses to make another device of one on its way than it was begun as.
    fn begun_otherwise(&mut self, device: &Device, package: &Prepared, asked: &str) -> Result<bool> {
        let (name, option) = (&self.flash.device, self.flash.option());
        let why = format!(
            "`{name}` is a {lifecycle} die on its way to {origin} with `{cmdline}`, {memory} MiB of DRAM and {cores} cores; \
             this command asks for {asked}.",
            lifecycle = device.fused_lifecycle()?.name(),
            origin = package.notes.origin,
            cmdline = package.notes.made_of.cmdline,
            memory = device.facts.memory_mib,
            cores = device.facts.cores,
        );
        let next = [
            (&*format!("flash{option}"), "takes it to its end"),
            (&format!("flash{option} --new"), "throws it away and takes a new die"),
        ];
        self.leave(device, FailCode::DeviceOfOtherKind, &why, &next)
    }

    /// Provisions the device and boots it for good.
    fn go_on(&mut self, device: &Device, package: &Prepared) -> Result<bool> {
        let flash = self.flash;
        self.report.chip_id = Some(device.facts.chip_id.clone());
        chapter("The authority counts, the station relays");
        let service = self.step("start-authority", || Service::start(flash, package))?;
        chapter("The device provisions itself");
        let offset = self.now();
        let within = Duration::from_secs(flash.timeout);
        let shown = provision::Steps::default();
        let provisioned = provision::run(device, service.authority(), within, &|event| shown.take(event));
        shown.end(provisioned.as_ref().is_ok_and(|done| done.boot.result == device.outcome()));
        let provisioned = provisioned?;
        self.take(device, package, &service, provisioned, offset)
    }

    fn take(
        &mut self,
        device: &Device,
        package: &Prepared,
        service: &Service,
        provisioned: Provisioned,
        offset: u64,
    ) -> Result<bool> {
        let booted = provisioned.boot.result == device.outcome();
        let closed = device.fused_lifecycle()?;
        device.set_lifecycle(closed)?;
        let report = &mut self.report;
        for step in &provisioned.record.steps {
            report.steps.push(Step {
                name: step.name.clone(),
                start_ms: offset + step.start_ms,
                end_ms: offset + step.end_ms.unwrap_or(step.start_ms),
            });
        }
        let brought = [&package.release.package[..], &package.release.stage1];
        report.rekeyed_bytes = match release::audit::rekeyed_bytes(&device.files(), &brought) {
            // It was cut off in the middle of one.
            Err(release::Error::Image { .. } | release::Error::SlotTruncated { .. })
                if closed != Lifecycle::Production =>
            {
                0
            }
            bytes => bytes?,
        };
        report.lifecycle = Some(closed.name().into());
        report.fuse_rows_burned = device.fuse_rows_burned()?;
        report.authority = Some(service.lot()?);
        report.csr_pem = device.csr_pem()?;
        report.certificate_chain_pem = identity::certificate_chain_pem(&device.files())?;
        report.code = provisioned.boot.code.clone().or_else(|| provisioned.record.code.clone());
        let refused = report.code.is_some();
        report.result = if refused { Outcome::Refused } else { provisioned.boot.result }.name().into();
        report.facts = (&provisioned.boot).into();
        report.boot = Some(provisioned.boot.clone());
        eprintln!("{}", outcome::summary(report, &provisioned, package));
        self.write(&provisioned.picture(&self.flash.device))?;
        if !booted || refused {
            eprintln!("  console: {}", workspace::shown(&device.folder.join("console.log")));
        }
        let end = if booted && !refused { "Done" } else { "Stopped" };
        eprintln!("\n{end} after {}. Next:", progress::seconds(self.start.elapsed()));
        eprintln!("{}", outcome::next(&self.flash.option(), booted && !refused));
        Ok(booted && !refused)
    }

    fn write(&self, picture: &emulator::Picture) -> Result<()> {
        let Some(file) = &self.flash.report else { return Ok(()) };
        self.report.write(file, picture)?;
        eprintln!("  report: {}, timeline: {}", file.display(), file.with_extension("svg").display());
        Ok(())
    }

    /// Refuses to do anything to a closed device.
    fn closed_before(&mut self, device: &Device) -> Result<bool> {
        let (name, option) = (&self.flash.device, self.flash.option());
        let why = format!(
            "`{name}` is a closed device: its fuses are burned for good, and no tool gives it another owner, another \
             seed or an older release."
        );
        let next = [
            (&*format!("run{option}"), "boots it"),
            (&format!("flash{option} --new"), "throws it away and takes a new die"),
            ("flash --device NAME", "makes another next to it"),
        ];
        self.leave(device, FailCode::DieClosed, &why, &next)
    }

    /// Leaves a device as it is: says why and what to do, and reports it.
    fn leave(&mut self, device: &Device, code: FailCode, why: &str, next: &[(&str, &str)]) -> Result<bool> {
        let report = &mut self.report;
        report.code = Some(String::from_utf8_lossy(&code.text()).into_owned());
        report.chip_id = Some(device.facts.chip_id.clone());
        report.lifecycle = Some(device.fused_lifecycle()?.name().into());
        report.fuse_rows_burned = device.fuse_rows_burned()?;
        eprintln!("{code}\n{why}\n\n{}", progress::commands(next));
        self.write(&outcome::empty_picture(&self.flash.device, &code.to_string()))?;
        Ok(false)
    }
}

/// Says who acts now.
fn chapter(what: &str) {
    eprintln!("{what}");
}

/// Says what a device of this package is, before there is a die.
pub(crate) fn facts(flash: &Flash, package: &Prepared) -> Facts {
    Facts {
        format: device::FORMAT,
        board: board::BOARD.into(),
        lifecycle: Lifecycle::Secured.name().into(),
        chip_id: String::new(),
        system: package.notes.made_of.system,
        origin: package.notes.origin.clone(),
        token: package.notes.token.clone(),
        cmdline: package.notes.made_of.cmdline.clone(),
        memory_mib: flash.memory.unwrap_or(MEMORY_MIB),
        cores: flash.cores.unwrap_or(CORES),
        package: Some(package.name.clone()),
    }
}

fn fabricated(factory: &Path, stage0: &[u8], files: &DeviceFiles) -> Result<String> {
    let shown = Shown::start("fabricating a die");
    let folder: PathBuf = factory.join("vendor");
    let vendor = SiliconVendor::read_or_found(&folder).context("the modelled vendor cannot be used")?;
    let die = fabricate(&vendor, stage0, files)?;
    let chip_id = digest::hex(&die.chip_id);
    shown.done(&format!("chip id {chip_id}, certified by a model of a silicon vendor"));
    Ok(chip_id)
}

fn preprovisioned(files: &DeviceFiles, package: &Prepared) -> Result<()> {
    let shown = Shown::start("pre-provisioning it");
    let done = preprovision(files, &package.release, Start::Blank)?;
    shown.done(&format!(
        "{} fuse rows burned, debug locked, {} of encrypted stage and package written",
        done.rows.len(),
        progress::bytes(done.written)
    ));
    Ok(())
}
