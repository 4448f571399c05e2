//! What a device boots: Debian's Linux by default, what the command line names instead, or the payload.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use crate::firmware::Firmware;
use crate::{debian, digest, initramfs, kernel_image};

/// The command line that Linux gets unless `--cmdline` names another.
pub const CMDLINE: &str = "earlycon=pl011,0x9000000 console=ttyAMA0";

/// Options that choose what the device boots.
#[derive(Args, Clone, Debug, Default)]
pub struct InputArgs {
    /// Kernel: an arm64 Image, plain or in gzip [default: Debian's]
    #[arg(long, value_name = "FILE")]
    pub kernel: Option<PathBuf>,
    /// Initramfs [default: busybox with an init that reports]. A file /etc/kiln-token is put in front of it: the
    /// boot counts as `linux-userspace` when init prints `KILN-USERSPACE cpus=N token=<that file>`
    #[arg(long, value_name = "FILE")]
    pub initramfs: Option<PathBuf>,
    /// Device tree blob [default: dts/qemu-virt.dts, compiled]
    #[arg(long, value_name = "FILE")]
    pub dtb: Option<PathBuf>,
    /// Kernel command line; it is signed with the rest. `kiln.then=poweroff|reboot|hotplug|shell` tells the default
    /// init what to do after its report [default: earlycon=pl011,0x9000000 console=ttyAMA0]
    #[arg(long, value_name = "TEXT")]
    pub cmdline: Option<String>,
    /// Boot the workspace's own bare-metal payload instead of Linux
    #[arg(long, conflicts_with_all = ["kernel", "initramfs"])]
    pub payload: bool,
}

impl InputArgs {
    fn cmdline(&self) -> &str {
        self.cmdline.as_deref().unwrap_or(CMDLINE)
    }

    /// Names what is asked for and is not what a system was made of, whose token is given; `None` if all is.
    ///
    /// # Errors
    /// If a named file cannot be read or used.
    pub fn differs(&self, made: &MadeOf, token: &str) -> Result<Option<&'static str>> {
        if self.payload && made.system != System::Payload {
            return Ok(Some("the payload"));
        }
        if let Some(file) = &self.kernel
            && digest::sha256_hex(&kernel(file)?) != made.kernel
        {
            return Ok(Some("another kernel"));
        }
        if let Some(file) = &self.initramfs
            && digest::sha256_hex(&initramfs::with_token(&read(file)?, token)?) != made.initramfs
        {
            return Ok(Some("another initramfs"));
        }
        if let Some(file) = &self.dtb
            && digest::sha256_hex(&read(file)?) != made.dtb
        {
            return Ok(Some("another device tree"));
        }
        let differs = self.cmdline.as_ref().is_some_and(|asked| match made.system {
            System::Linux => *asked != made.cmdline,
            System::Payload => payload_cmdline(asked, token) != made.cmdline,
        });
        Ok(differs.then_some("another command line"))
    }
}

/// What a system is made of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub struct MadeOf {
    /// What it is.
    pub system: System,
    /// SHA-256 of the kernel or the payload, in hex.
    pub kernel: String,
    /// SHA-256 of the initramfs, in hex; that of nothing if there is none.
    pub initramfs: String,
    /// SHA-256 of the device tree, in hex.
    pub dtb: String,
    /// The signed command line.
    pub cmdline: String,
}

/// What a device boots.
#[derive(Clone, Debug)]
pub struct Input {
    /// `linux` or `payload`.
    pub system: System,
    /// Where it comes from, for people.
    pub origin: String,
    /// Why it is not what was to be expected, if it is not.
    pub remark: Option<String>,
    /// The kernel or the payload.
    pub kernel: Vec<u8>,
    /// The initramfs; the payload has none.
    pub initramfs: Option<Vec<u8>>,
    /// The device tree.
    pub dtb: Vec<u8>,
    /// The command line.
    pub cmdline: String,
}

impl Input {
    /// Says what it is made of.
    pub fn made_of(&self) -> MadeOf {
        MadeOf {
            system: self.system,
            kernel: digest::sha256_hex(&self.kernel),
            initramfs: digest::sha256_hex(self.initramfs.as_deref().unwrap_or_default()),
            dtb: digest::sha256_hex(&self.dtb),
            cmdline: self.cmdline.clone(),
        }
    }
}

/// The kinds of system that prove by a token that they were reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum System {
    /// Linux, with an init that prints the token.
    Linux,
    /// The workspace's bare-metal payload.
    Payload,
}

/// Gathers what `args` ask for; `token` goes into it where only a boot can get at it.
///
/// # Errors
/// If a named file cannot be read or used. Where Debian's packages cannot be had, the payload takes their place
/// and [`Input::remark`] says so.
pub fn gather(args: &InputArgs, firmware: &Firmware, token: &str) -> Result<Input> {
    let dtb = read(args.dtb.as_deref().unwrap_or(&firmware.dtb))?;
    if args.payload {
        return Ok(payload(args, firmware, dtb, token, None));
    }
    let named = args.kernel.is_some() && args.initramfs.is_some();
    let debian = match if named { None } else { Some(debian::fetch()) } {
        Some(Err(error)) if args.kernel.is_some() || args.initramfs.is_some() => {
            bail!(
                "Debian's packages cannot be had, and only one of --kernel and --initramfs is given: {error:#}\n\
                 give both, or see `cargo xtask doctor`"
            );
        }
        Some(Err(error)) => {
            let remark =
                format!("Debian's Linux cannot be had, so the bare-metal payload boots instead: {error:#}");
            return Ok(payload(args, firmware, dtb, token, Some(remark)));
        }
        Some(Ok(input)) => Some(input),
        None => None,
    };
    let mut origin = Vec::new();
    let kernel = match (&args.kernel, &debian) {
        (Some(file), _) => {
            origin.push(file.display().to_string());
            kernel(file)?
        }
        (None, Some(debian)) => {
            origin.push(format!("Debian {}", debian.kernel_package));
            read(&debian.kernel)?
        }
        (None, None) => bail!("there is no kernel"),
    };
    let initramfs = match (&args.initramfs, &debian) {
        (Some(file), _) => {
            origin.push(file.display().to_string());
            initramfs::with_token(&read(file)?, token)?
        }
        (None, Some(debian)) => {
            origin.push(format!("Debian {}", debian.busybox_package));
            initramfs::build(&read(&debian.busybox)?, token)?
        }
        (None, None) => bail!("there is no initramfs"),
    };
    Ok(Input {
        system: System::Linux,
        origin: origin.join(", "),
        remark: None,
        kernel,
        initramfs: Some(initramfs),
        dtb,
        cmdline: args.cmdline().into(),
    })
}

fn payload(
    args: &InputArgs,
    firmware: &Firmware,
    dtb: Vec<u8>,
    token: &str,
    remark: Option<String>,
) -> Input {
    Input {
        system: System::Payload,
        origin: "the workspace's bare-metal payload".into(),
        remark,
        kernel: firmware.payload.flat.bytes.clone(),
        initramfs: None,
        dtb,
        cmdline: payload_cmdline(args.cmdline(), token),
    }
}

fn payload_cmdline(cmdline: &str, token: &str) -> String {
    format!("{cmdline} kiln.token={token}")
}

/// Reads a kernel that was named.
fn kernel(file: &Path) -> Result<Vec<u8>> {
    kernel_image::uncompressed(&read(file)?)
        .with_context(|| format!("{} cannot be used as kernel", file.display()))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    fs::read(file).with_context(|| format!("cannot read {}", file.display()))
}
