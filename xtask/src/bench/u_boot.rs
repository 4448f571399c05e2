//! The other side of the comparison: Debian's U-Boot with a signed FIT in flash.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use emulator::{Capture, FIRST_KERNEL_LINE, Machine, MachineConfig, Match, Writes};
use memory_map::qemu_virt as board;
use sealed_image::Kind;
use serde::Serialize;

use super::boot::PATIENCE;
use crate::device::Device;
use crate::images::Plain;
use crate::initramfs::USERSPACE_MARK;
use crate::progress::{self, Step};
use crate::{exec, tools, workspace};

/// Where the FIT lies in the second flash bank: behind the block that U-Boot keeps its environment in.
const FIT_OFFSET: u64 = 1 << 20;
/// What U-Boot prints for a configuration whose required signature holds.
const SIGNATURE_HOLDS: &str = "sha256,rsa2048:bench+ OK";
/// What it prints once everything is verified.
const VERIFIED: &str = "Loading Kernel Image";
/// What it prints once everything is where it runs.
const PLACED: &str = "Starting kernel";

/// U-Boot, ready to boot.
pub(super) struct UBoot {
    config: MachineConfig,
    bootargs: String,
    /// The image tree that it boots.
    pub(super) fit: Vec<u8>,
    /// Debian's package and version.
    pub(super) version: String,
}

/// When a boot came where, in milliseconds since the start of the emulator.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Booted {
    /// At the prompt.
    prompt_ms: f64,
    /// Signature and hashes had been verified.
    verified_ms: f64,
    /// Kernel, initramfs and device tree were in their places.
    placed_ms: f64,
    /// The kernel's first line.
    pub(super) kernel_ms: f64,
}

impl Booted {
    /// Returns how long verification took, and the copies from flash to memory.
    pub(super) fn parts(&self) -> [f64; 2] {
        [self.verified_ms - self.prompt_ms, self.placed_ms - self.verified_ms]
    }
}

impl UBoot {
    /// Makes the flash banks and the control device tree for the same machine and objects as the device's.
    pub(super) fn prepare(device: &Device, plain: &Plain) -> Result<Self> {
        let step = Step::start("making U-Boot's signed image");
        let folder = workspace::kiln_dir().join("bench");
        fs::create_dir_all(&folder)?;
        let cores = device.facts.cores.to_string();
        let memory = format!("{}M", device.facts.memory_mib);
        let control = folder.join("control.dtb");
        let machine =
            format!("virt,secure=off,virtualization=on,gic-version=3,acpi=off,dumpdtb={}", control.display());
        let mut dump = Command::new("qemu-system-aarch64");
        dump.args(["-machine", &machine, "-cpu", "cortex-a57", "-smp", &cores, "-m", &memory]);
        exec::capture(dump.args(["-nic", "none", "-display", "none"]))?;
        for (kind, name) in
            [(Kind::Kernel, "kernel"), (Kind::Initramfs, "ramdisk"), (Kind::DeviceTree, "fdt")]
        {
            let object = plain.system.iter().find(|(name, _)| *name == kind.name());
            let (_, object) = object.with_context(|| format!("the device holds no {}", kind.name()))?;
            fs::write(folder.join(name), object)?;
        }
        fs::write(folder.join("fit.its"), fit_source())?;
        let keys = folder.join("keys");
        key(&keys)?;
        let fit = folder.join("fit.itb");
        let mut mkimage = Command::new("mkimage");
        mkimage
            .current_dir(&folder)
            .args(["-f", "fit.its", "-k"])
            .arg(&keys)
            .arg("-K")
            .arg(&control)
            .arg("-r");
        exec::capture(mkimage.arg(&fit))?;
        let fit = fs::read(&fit)?;
        let flash0 = bank(&folder, "flash0.img", 0, &fs::read(tools::U_BOOT)?)?;
        let flash1 = bank(&folder, "flash1.img", FIT_OFFSET, &fit)?;
        step.done(&progress::bytes(fit.len() as u64));
        let config = MachineConfig::default()
            .secure(false)
            .cores(device.facts.cores)
            .memory_mib(device.facts.memory_mib)
            .flash0(flash0)
            .flash1(flash1)
            .writes(Writes::Discard)
            .arg("-dtb")
            .arg(control);
        let version = exec::first_line(Command::new("dpkg-query").args([
            "-W",
            "-f=${Package} ${Version}\n",
            "u-boot-qemu",
        ]));
        Ok(Self {
            config,
            bootargs: device.facts.cmdline.clone(),
            fit,
            version: version.unwrap_or_else(|| tools::U_BOOT.into()),
        })
    }

    /// Boots to user space.
    pub(super) fn boot(&self, device: &Device) -> Result<Booted> {
        let machine = Machine::start(&self.config)?;
        let console = &machine.console;
        let wait = |pattern: &str, from: usize| -> Result<Match> {
            Ok(console.wait_for(pattern.as_bytes(), from, PATIENCE)?)
        };
        let autoboot = wait("stop autoboot", 0)?;
        console.send(b" ")?;
        let prompt = wait("=> ", autoboot.end)?;
        let at = board::FLASH1.base + FIT_OFFSET;
        console.send(format!("setenv bootargs '{}'; bootm {at:#x}\r", self.bootargs).as_bytes())?;
        let [verified, placed, kernel] =
            [VERIFIED, PLACED, FIRST_KERNEL_LINE].map(|mark| wait(mark, prompt.end));
        let (verified, placed, kernel) = (verified?, placed?, kernel?);
        same_system(console, device, kernel.end)?;
        if !console.text().contains(SIGNATURE_HOLDS) {
            bail!("U-Boot booted without checking the signature: the comparison would not be fair");
        }
        let ms = |seen: &Match| seen.at.as_secs_f64() * 1e3;
        Ok(Booted {
            prompt_ms: ms(&prompt),
            verified_ms: ms(&verified),
            placed_ms: ms(&placed),
            kernel_ms: ms(&kernel),
        })
    }
}

/// Makes sure that it is the device's own initramfs that runs.
fn same_system(console: &Capture, device: &Device, from: usize) -> Result<()> {
    let (_, line) = console.wait_for_line(USERSPACE_MARK, from, PATIENCE.max(Duration::from_secs(1)))?;
    if !line.contains(&device.facts.token) {
        bail!("U-Boot booted another system than the device holds: {line}");
    }
    Ok(())
}

/// Makes a signing key unless there is one.
fn key(folder: &Path) -> Result<()> {
    let (key, certificate) = (folder.join("bench.key"), folder.join("bench.crt"));
    if key.exists() && certificate.exists() {
        return Ok(());
    }
    fs::create_dir_all(folder)?;
    let mut openssl = Command::new("openssl");
    openssl.args([
        "req",
        "-batch",
        "-new",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=bench",
        "-keyout",
    ]);
    exec::capture(openssl.arg(&key).arg("-out").arg(&certificate))?;
    Ok(())
}

/// Writes the file of a flash bank with `content` at `offset`.
fn bank(folder: &Path, name: &str, offset: u64, content: &[u8]) -> Result<PathBuf> {
    let mut bank = vec![0xFF; board::FLASH1.size as usize];
    let at = offset as usize;
    let room =
        bank.get_mut(at..at + content.len()).context("the kernel is too large for U-Boot's flash bank")?;
    room.copy_from_slice(content);
    let file = folder.join(name);
    fs::write(&file, bank)?;
    Ok(file)
}

fn fit_source() -> String {
    let kernel = board::KERNEL_LOAD;
    let hash = "hash-1 { algo = \"sha256\"; };";
    let image = |name: &str, kind: &str, more: &str| {
        format!(
            "{name} {{ description = \"{name}\"; data = /incbin/(\"{name}\"); type = \"{kind}\"; arch = \"arm64\"; \
             compression = \"none\"; {more} {hash} }};"
        )
    };
    format!(
        "/dts-v1/;\n/ {{ description = \"bench\"; #address-cells = <1>;\nimages {{\n{}\n{}\n{}\n}};\n\
         configurations {{ default = \"conf\"; conf {{ kernel = \"kernel\"; ramdisk = \"ramdisk\"; fdt = \"fdt\";\n\
         signature-1 {{ algo = \"sha256,rsa2048\"; key-name-hint = \"bench\"; sign-images = \"kernel\", \"ramdisk\", \
         \"fdt\"; }}; }}; }};\n}};\n",
        image("kernel", "kernel", &format!("os = \"linux\"; load = <{kernel:#x}>; entry = <{kernel:#x}>;")),
        image("ramdisk", "ramdisk", "os = \"linux\";"),
        image("fdt", "flat_dt", ""),
    )
}
