//! `cargo xtask bench` without more: how fast Kiln boots, side by side with Debian's U-Boot.
//!
//! Both boot the same kernel, initramfs, device tree and command line, on the same emulator with the same cores and
//! memory, one after the other in turns, so that what else the machine does touches both alike. The time is taken
//! from the start of the emulator's process to the first line of the kernel.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use emulator::{Report, Writes};
use serde::Serialize;

use crate::device::Device;
use crate::images::Plain;
use crate::input::{CMDLINE, System};
use crate::progress::Step;
use crate::size::Sizes;
use crate::tools::{self, Tool};
use crate::workspace::{self, DEFAULT_DEVICE};
use crate::{digest, firmware, run};

use super::plaintext;
use super::stats::{least, median};
use super::u_boot::{self, UBoot};

/// How long one boot may take.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

/// Measures how fast a device boots, against U-Boot on the same kernel.
///
/// Boots the very bytes that `flash` wrote, encrypted and signed, and refuses to measure anything else. U-Boot boots a
/// FIT signed with RSA-2048 over SHA-256 of the same kernel, initramfs and device tree, from flash, with the key
/// required.
#[derive(Args, Debug)]
pub(super) struct Boot {
    /// The device to measure
    #[arg(long, value_name = "NAME", default_value = DEFAULT_DEVICE)]
    device: String,
    /// How many pairs of boots to measure
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = clap::value_parser!(u32).range(7..))]
    pairs: u32,
    /// Write the figures to FILE as JSON [default: target/kiln/bench.json]
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// End with exit status 1 if Kiln takes more than this share of U-Boot's time
    #[arg(long, value_name = "RATIO")]
    max_ratio: Option<f64>,
}

/// What was measured.
#[derive(Serialize)]
struct Figures {
    qemu: String,
    cores: u32,
    memory_mib: u32,
    kernel: String,
    kiln_ms: Vec<f64>,
    u_boot_ms: Vec<f64>,
    u_boot_boots: Vec<u_boot::Booted>,
    kiln_median_ms: f64,
    u_boot_median_ms: f64,
    /// Of the medians.
    ratio: f64,
    /// Of the least times.
    ratio_of_least: f64,
    kiln_reset_to_kernel_median_us: f64,
    /// From reset to kernel entry, all cores together, with `-icount shift=0`: one nanosecond of guest time each.
    kiln_instructions_reset_to_kernel: u64,
    u_boot: String,
    booted: Vec<Booted>,
    sizes: Sizes,
}

/// The digest of something that was booted.
#[derive(Serialize)]
struct Booted {
    what: String,
    sha256: String,
}

impl Boot {
    /// Runs the command; `Ok(false)` if `--max-ratio` is passed.
    ///
    /// # Errors
    /// If there is no device, one of its objects is not encrypted or not signed, or a boot fails.
    pub(super) fn run(&self) -> Result<bool> {
        tools::prepare(&[
            Tool::Qemu,
            Tool::Setpriv,
            Tool::DeviceTreeCompiler,
            Tool::Mkimage,
            Tool::UBoot,
            Tool::OpenSsl,
        ])?;
        let device = run::device_or_default(&self.device)?;
        if device.facts.system != System::Linux {
            bail!("device `{}` boots the payload; the comparison needs Linux on it", self.device);
        }
        if !device.facts.cmdline.contains("earlycon") {
            bail!(
                "the kernel's first line is seen only with an early console: flash with --cmdline '{CMDLINE} …'"
            );
        }
        let firmware = firmware::build()?;
        let programs = [&firmware.stage0, &firmware.stage1, &firmware.stage2, &firmware.payload];
        let sizes = Sizes::measure(programs, 0)?;
        let step = Step::start("checking that everything on the device is signed and encrypted");
        let plain = Plain::open(&device)?;
        plaintext::absent(&device, &plain)?;
        step.done("");
        let u_boot = UBoot::prepare(&device, &plain)?;

        let mut kiln: Vec<Report> = Vec::new();
        let mut other = Vec::new();
        let step = Step::start(format!("booting {} pairs", self.pairs));
        // The first pair warms the host's caches and proves that both reach user space; it is not counted.
        for pair in 0..=self.pairs {
            step.at(&format!("{pair} of {}", self.pairs));
            let report = boot(&device)?;
            let took = u_boot.boot(&device)?;
            if pair > 0 {
                kiln.push(report);
                other.push(took);
            }
        }
        step.done("");
        let step = Step::start("counting instructions");
        let instructions = count_instructions(&device)?;
        step.done("");

        let kiln_ms: Vec<f64> = kiln.iter().filter_map(|report| report.host_reset_to_kernel_ms).collect();
        let guest: Vec<f64> =
            kiln.iter().filter_map(|report| report.reset_to_kernel_us).map(|us| us as f64).collect();
        let u_boot_ms: Vec<f64> = other.iter().map(|boot: &u_boot::Booted| boot.kernel_ms).collect();
        let figures = Figures {
            qemu: kiln.first().and_then(|report| report.qemu_version.clone()).unwrap_or_default(),
            cores: device.facts.cores,
            memory_mib: device.facts.memory_mib,
            kernel: device.facts.origin.clone(),
            kiln_median_ms: median(&kiln_ms),
            u_boot_median_ms: median(&u_boot_ms),
            ratio: median(&kiln_ms) / median(&u_boot_ms),
            ratio_of_least: least(&kiln_ms) / least(&u_boot_ms),
            kiln_ms,
            u_boot_ms,
            u_boot_boots: other,
            kiln_reset_to_kernel_median_us: median(&guest),
            kiln_instructions_reset_to_kernel: instructions,
            u_boot: u_boot.version.clone(),
            booted: booted(&kiln, &u_boot),
            sizes,
        };
        self.show(&figures)
    }

    fn show(&self, figures: &Figures) -> Result<bool> {
        println!("first kernel line after start of QEMU {} ({} cores)", figures.qemu, figures.cores);
        println!("  {:<10} {:>9} {:>9} {:>9}", "", "median", "least", "most");
        for (name, times) in [("Kiln", &figures.kiln_ms), ("U-Boot", &figures.u_boot_ms)] {
            let most = times.iter().copied().fold(0.0, f64::max);
            println!("  {name:<10} {:>6.0} ms {:>6.0} ms {most:>6.0} ms", median(times), least(times));
        }
        let (ratio, of_least) = (figures.ratio, figures.ratio_of_least);
        println!("  ratio      {ratio:>9.3} {of_least:>9.3}   over {} pairs", figures.kiln_ms.len());
        let parts: Vec<[f64; 2]> = figures.u_boot_boots.iter().map(u_boot::Booted::parts).collect();
        for (number, what) in ["verified all in", "copied it to its place in"].iter().enumerate() {
            let times: Vec<f64> = parts.iter().map(|parts| parts[number]).collect();
            println!("U-Boot {what} {:.0} ms (least {:.0} ms)", median(&times), least(&times));
        }
        println!("Kiln: {:.1} ms from reset to kernel", figures.kiln_reset_to_kernel_median_us / 1e3);
        println!(
            "      {:.1} million instructions from reset to kernel",
            figures.kiln_instructions_reset_to_kernel as f64 / 1e6
        );
        println!("booted:");
        figures.booted.iter().for_each(|booted| println!("  {:<24} {}", booted.what, booted.sha256));
        let file = self.json.clone().unwrap_or_else(|| workspace::kiln_dir().join("bench.json"));
        super::write(&file, figures)?;
        match self.max_ratio {
            Some(limit) if figures.ratio > limit => {
                println!("the ratio is above {limit}");
                Ok(false)
            }
            _ => Ok(true),
        }
    }
}

/// Boots the device to user space, without keeping what it writes.
fn boot(device: &Device) -> Result<Report> {
    let config = device.machine().writes(Writes::Discard);
    let report = emulator::boot_and_observe(&config, &device.expectation().within(PATIENCE))?;
    if report.result != device.outcome() {
        bail!("the device did not boot: {}", crate::boot_report::outcome(&report));
    }
    Ok(report)
}

fn count_instructions(device: &Device) -> Result<u64> {
    let config = device.machine().writes(Writes::Discard).icount(0);
    let report = emulator::boot_and_observe(&config, &device.expectation().within(PATIENCE))?;
    report.reset_to_kernel_us.map(|us| us * 1000).context("the device did not reach the kernel with -icount")
}

fn booted(kiln: &[Report], u_boot: &UBoot) -> Vec<Booted> {
    let images = kiln.first().map(|report| report.images.as_slice()).unwrap_or_default();
    let ours = images
        .iter()
        .map(|image| Booted { what: format!("Kiln {}", image.kind), sha256: image.digest.clone() });
    let fit = Booted { what: "U-Boot FIT".into(), sha256: digest::sha256_hex(&u_boot.fit) };
    ours.chain([fit]).collect()
}
