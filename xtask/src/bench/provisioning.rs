//! `cargo xtask bench provisioning`: from power-on to the reset into production, next to what re-keying the same bytes
//! takes without anything else.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use lifecycle::Lifecycle;
use memory_map::MIB;
use release::{SiliconVendor, Start, fabricate, preprovision};
use serde::Serialize;

use super::boot::PATIENCE;
use super::limit::{Limit, Program};
use super::stats::median;
use crate::device::Device;
use crate::firmware::{self, Firmware};
use crate::flash::package::{self, Prepared};
use crate::flash::provision::{self, Provisioned};
use crate::flash::service::Service;
use crate::flash::{Flash, factory};
use crate::input::{Input, Known, System};
use crate::progress::Step;
use crate::tools::{self, Tool};
use crate::{digest, workspace};

/// The name of the device, which each run makes anew.
const DEVICE: &str = "bench-provisioning";
/// What its system proves itself with.
const TOKEN: &str = "00112233445566778899aabbccddeeff";
/// How many installs the lot has: enough for everybody's measurements.
const QUOTA: u32 = 1_000_000;
/// What is aimed at: the share of the limit, and the whole.
const AIM_RATIO: f64 = 0.8;
const AIM_MS: f64 = 3000.0;

/// Measures how long a device takes to provision itself, from power-on to the reset into production.
///
/// Everything is real: the firmware that `flash` writes, an authority and a station on loopback, a new die for each run,
/// which is provisioned, closed and booted. After each run a program that does nothing but decrypt, encrypt, program, read
/// back and verify as many bytes runs on the same machine; what it takes is the limit.
#[derive(Args, Debug)]
pub(super) struct Provisioning {
    /// How many devices to measure
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
    /// Payload of the package in MiB: kernel, device tree and initramfs together
    #[arg(long, value_name = "MIB", default_value_t = 16, value_parser = clap::value_parser!(u64).range(1..=48))]
    payload: u64,
    /// Number of cores
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=8))]
    cores: u32,
    /// Write the figures to FILE as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

/// What was measured.
#[derive(Serialize)]
struct Figures {
    cores: u32,
    payload_bytes: u64,
    rekeyed_bytes: u64,
    aim_ratio: f64,
    aim_ms: f64,
    total_median_ms: f64,
    limit_median_ms: f64,
    /// The median of what each run is of the limit that was measured right after it.
    ratio: f64,
    steps: Vec<StepTime>,
    runs: Vec<Run>,
}

/// A step of the device, by its own counter.
#[derive(Clone, Serialize)]
struct StepTime {
    name: String,
    ms: f64,
}

/// One device.
#[derive(Serialize)]
struct Run {
    /// From the first instruction to the reset into production.
    total_ms: f64,
    limit_ms: f64,
    limit: Limit,
    steps: Vec<StepTime>,
    /// Bytes that were encrypted anew, each copy counted, and those of them that went to flash.
    rekeyed_bytes: u64,
    flash_bytes: u64,
}

impl Provisioning {
    pub(super) fn run(&self) -> Result<()> {
        tools::prepare(&[Tool::RustTarget, Tool::DeviceTreeCompiler, Tool::Qemu, Tool::Setpriv])?;
        let firmware = firmware::build()?;
        let program = Program::new(firmware::limit()?)?;
        let flash = Flash::to_measure(self.cores, QUOTA);
        let package = self.package(&firmware)?;
        let service = Service::start(&flash, &package)?;
        let step = Step::start(format!("provisioning {} devices", self.runs));
        let mut runs = Vec::new();
        // The first run warms the host's caches and is not counted.
        for run in 0..=self.runs {
            step.at(&format!("{run} of {}", self.runs));
            let measured = measure(&flash, &firmware, &package, &service, &program)?;
            if run > 0 {
                runs.push(measured);
            }
        }
        step.done("");
        let figures = self.figures(runs)?;
        show(&figures);
        self.report.as_ref().map_or(Ok(()), |file| super::write(file, &figures))
    }

    /// Makes a package of that size, which boots the bare-metal payload.
    fn package(&self, firmware: &Firmware) -> Result<Prepared> {
        let factory = workspace::factory_dir();
        let keys = package::owner_keys(&factory)?;
        let kernel = firmware.payload.flat.bytes.clone();
        let dtb = std::fs::read(&firmware.dtb)?;
        let rest = (self.payload * MIB)
            .checked_sub((kernel.len() + dtb.len()) as u64)
            .context("the payload is smaller than its kernel")?;
        // Nobody looks at it: bytes that do not repeat.
        let filler = (0..rest).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as u8);
        let input = Input {
            system: System::Payload,
            origin: format!("{} MiB to be measured", self.payload),
            remark: None,
            kernel,
            initramfs: Some(filler.collect()),
            dtb,
            cmdline: format!("kiln.token={TOKEN}"),
            known: Known { dtb: true, ..Known::default() },
        };
        package::make(&factory, &keys.owner()?, input, TOKEN.into(), firmware)
    }

    fn figures(&self, runs: Vec<Run>) -> Result<Figures> {
        let first = runs.first().context("at least one run")?;
        let of = |figure: &dyn Fn(&Run) -> f64| median(&runs.iter().map(figure).collect::<Vec<_>>());
        let steps = (0..first.steps.len())
            .map(|n| StepTime {
                name: first.steps[n].name.clone(),
                ms: of(&|run| run.steps.get(n).map_or(f64::NAN, |step| step.ms)),
            })
            .collect();
        let (total, limit) = (of(&|run| run.total_ms), of(&|run| run.limit_ms));
        Ok(Figures {
            cores: self.cores,
            payload_bytes: self.payload * MIB,
            rekeyed_bytes: first.rekeyed_bytes,
            aim_ratio: AIM_RATIO,
            aim_ms: AIM_MS,
            total_median_ms: total,
            limit_median_ms: limit,
            ratio: of(&|run| run.limit_ms / run.total_ms),
            steps,
            runs,
        })
    }
}

/// Makes a die, has it provision itself, and measures the limit for as many bytes.
fn measure(
    flash: &Flash,
    firmware: &Firmware,
    package: &Prepared,
    service: &Service,
    program: &Program,
) -> Result<Run> {
    let vendor = SiliconVendor::read_or_found(&workspace::factory_dir().join("vendor"))?;
    let device = Device::create(DEVICE, factory::facts(flash, package), |folder, facts| {
        let files = release::DeviceFiles::new(folder);
        facts.chip_id = digest::hex(&fabricate(&vendor, &firmware.stage0.flat.bytes, &files)?.chip_id);
        preprovision(&files, &package.release, Start::Blank)?;
        Ok(())
    })?;
    let done = provision::run(&device, service.authority(), PATIENCE, &|_| ())?;
    closed(&device, &done)?;
    let bytes = |name: &str| {
        let step = done.record.steps.iter().find(|step| step.name == name);
        step.map(|step| step.bytes).with_context(|| format!("the device reported no step {name}"))
    };
    let (rekeyed, replaced) = (bytes("re-key")?, bytes("replace")?);
    // The stage goes to flash in each of the two steps; the rest goes to both slots of the disk.
    let limit = program.measure(firmware, &device, (rekeyed - replaced) / 2, replaced)?;
    // What follows the reset is production's.
    let steps = done.record.steps.iter().filter(|step| step.name != "prove-closed");
    let steps = steps.map(|step| StepTime {
        name: step.name.clone(),
        ms: step.device_us.map_or(f64::NAN, |us| us as f64 / 1e3),
    });
    Ok(Run {
        total_ms: (done.last_reset - done.powered_on).as_secs_f64() * 1e3,
        limit_ms: limit.total_ms(),
        limit,
        steps: steps.collect(),
        rekeyed_bytes: rekeyed + replaced,
        flash_bytes: 2 * replaced,
    })
}

/// Makes sure that what was measured is a device that went all the way, in one go.
fn closed(device: &Device, done: &Provisioned) -> Result<()> {
    let lifecycle = device.fused_lifecycle()?;
    let booted = done.boot.result == device.outcome();
    if (lifecycle, booted, done.resets, done.record.result)
        != (Lifecycle::Production, true, 1, station::Outcome::Pass)
    {
        bail!(
            "the device did not go all the way: it is {}, {}, after {} reset(s): {}",
            lifecycle.name(),
            crate::boot_report::outcome(&done.boot),
            done.resets,
            done.record.cause.as_deref().unwrap_or("no cause")
        );
    }
    Ok(())
}

fn show(figures: &Figures) {
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    println!(
        "power-on to production reset: {:.1} MiB of payloads, {:.1} MiB written, {} cores, medians of {} runs",
        mib(figures.payload_bytes),
        mib(figures.rekeyed_bytes),
        figures.cores,
        figures.runs.len()
    );
    for step in &figures.steps {
        println!("  {:<16} {:>7.0} ms", step.name, step.ms);
    }
    let steps: f64 = figures.steps.iter().map(|step| step.ms).sum();
    println!(
        "  {:<16} {:>7.0} ms   stage0, and what lies between the steps",
        "the rest",
        figures.total_median_ms - steps
    );
    println!("  {:<16} {:>7.0} ms   aim: at most {AIM_MS:.0} ms", "total", figures.total_median_ms);
    println!("limit: the same bytes on the same machine, and nothing else");
    let of = |part: fn(&Limit) -> f64| {
        median(&figures.runs.iter().map(|run| part(&run.limit)).collect::<Vec<_>>())
    };
    for (name, ms) in [
        ("read", of(|limit| limit.read_ms)),
        ("decrypt, encrypt", of(|limit| limit.convert_ms)),
        ("program", of(|limit| limit.write_ms)),
        ("read back", of(|limit| limit.read_again_ms)),
        ("verify", of(|limit| limit.verify_ms)),
        ("total", figures.limit_median_ms),
    ] {
        println!("  {name:<16} {ms:>7.0} ms");
    }
    println!("ratio: {:.2}   aim: at least {AIM_RATIO}", figures.ratio);
    for run in &figures.runs {
        println!(
            "  {:>7.0} ms, limit {:>7.0} ms: {:.2}",
            run.total_ms,
            run.limit_ms,
            run.limit_ms / run.total_ms
        );
    }
}
