//! What a device boots: Debian's Linux by default, what the command line names instead, or the payload.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use fit::System as FitSystem;
use kiln::FitArgs;
use release::FitSource;

use crate::firmware::Firmware;
use crate::{debian, digest, initramfs, kernel_image};

/// The command line that Linux gets unless `--cmdline` names another.
pub const CMDLINE: &str = "earlycon=pl011,0x9000000 console=ttyAMA0";

/// Options that choose what the device boots.
#[derive(Args, Clone, Debug, Default)]
pub struct InputArgs {
    /// Kernel: an arm64 Image, plain or in gzip [default: Debian's]
    #[arg(long, value_name = "FILE", conflicts_with = "fit")]
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
    #[arg(long, conflicts_with_all = ["kernel", "initramfs", "fit"])]
    pub payload: bool,
    /// A FIT to take them from; what its configuration does not have comes from the other options, or their defaults
    #[command(flatten)]
    pub fit: FitArgs,
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
        let named = Named::read(self, token)?;
        let is_other = |part: &Option<Part>, digest: &str| {
            part.as_ref().is_some_and(|part| digest::sha256_hex(&part.bytes) != digest)
        };
        if is_other(&named.kernel, &made.kernel) {
            return Ok(Some("another kernel"));
        }
        if is_other(&named.initramfs, &made.initramfs) {
            return Ok(Some("another initramfs"));
        }
        if is_other(&named.dtb, &made.dtb) {
            return Ok(Some("another device tree"));
        }
        let differs = self.cmdline.as_ref().is_some_and(|asked| match made.system {
            System::Linux => *asked != made.cmdline,
            System::Payload => payload_cmdline(asked, token) != made.cmdline,
        });
        Ok(differs.then_some("another command line"))
    }
}

/// A part of a system that somebody named.
struct Part {
    bytes: Vec<u8>,
    /// Where it comes from, for people.
    origin: String,
}

/// The parts that are named on the command line.
#[derive(Default)]
struct Named {
    kernel: Option<Part>,
    initramfs: Option<Part>,
    dtb: Option<Part>,
}

impl Named {
    /// Reads them; from a FIT only what holds.
    fn read(args: &InputArgs, token: &str) -> Result<Self> {
        let fit = args.fit.source().map(|source| Self::from_fit(&source)).transpose()?.unwrap_or_default();
        let mut initramfs = either(fit.initramfs, args.initramfs.as_deref(), "--initramfs", read)?;
        if let Some(part) = &mut initramfs {
            part.bytes = initramfs::with_token(&part.bytes, token)?;
        }
        Ok(Self {
            kernel: either(fit.kernel, args.kernel.as_deref(), "--kernel", kernel)?,
            initramfs,
            dtb: either(fit.dtb, args.dtb.as_deref(), "--dtb", read)?,
        })
    }

    fn from_fit(source: &FitSource) -> Result<Self> {
        let system = source.verify().map_err(|error| anyhow!("{}", kiln::Failure::from(error)))?;
        let FitSystem { configuration, kernel, device_tree, ramdisk, .. } = system;
        if let Some(warning) = source.warning(&configuration) {
            eprintln!("  note {warning}");
        }
        let part = |image: fit::Image| Part {
            bytes: image.data,
            origin: format!("{}#{configuration} ({})", source.file.display(), image.name),
        };
        Ok(Self { kernel: Some(part(kernel)), initramfs: ramdisk.map(part), dtb: device_tree.map(part) })
    }
}

/// Returns the part that the FIT has, or else that of an option.
fn either(
    fit: Option<Part>,
    file: Option<&Path>,
    option: &str,
    read: fn(&Path) -> Result<Vec<u8>>,
) -> Result<Option<Part>> {
    match (fit, file) {
        (Some(_), Some(_)) => bail!(
            "the configuration of the FIT has one already: leave {option} out, or take another configuration"
        ),
        (fit, None) => Ok(fit),
        (None, Some(file)) => Ok(Some(Part { bytes: read(file)?, origin: file.display().to_string() })),
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
    /// What is known of its parts, for a bill of materials.
    pub known: Known,
}

/// What is known of the parts of a system: nothing of those that somebody named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Debian's package with the kernel, and its version.
    pub kernel: Option<String>,
    /// Debian's package with what the initramfs holds, and its version.
    pub initramfs: Option<String>,
    /// Whether the device tree is the workspace's own.
    pub dtb: bool,
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
    let named = Named::read(args, token)?;
    let dtb = match &named.dtb {
        Some(part) => part.bytes.clone(),
        None => read(&firmware.dtb)?,
    };
    if args.payload {
        return Ok(payload(args, firmware, dtb, token, None));
    }
    let complete = named.kernel.is_some() && named.initramfs.is_some();
    let debian = match if complete { None } else { Some(debian::fetch()) } {
        Some(Err(error)) if named.kernel.is_some() || named.initramfs.is_some() => {
            bail!(
                "Debian's packages cannot be had, and only one of kernel and initramfs is given: {error:#}\n\
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
    let mut known = Known { dtb: named.dtb.is_none(), ..Known::default() };
    let kernel = match (named.kernel, &debian) {
        (Some(part), _) => {
            origin.push(part.origin);
            part.bytes
        }
        (None, Some(debian)) => {
            origin.push(format!("Debian {}", debian.kernel_package));
            known.kernel = Some(debian.kernel_package.clone());
            read(&debian.kernel)?
        }
        (None, None) => bail!("there is no kernel"),
    };
    let initramfs = match (named.initramfs, &debian) {
        (Some(part), _) => {
            origin.push(part.origin);
            part.bytes
        }
        (None, Some(debian)) => {
            origin.push(format!("Debian {}", debian.busybox_package));
            known.initramfs = Some(debian.busybox_package.clone());
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
        known,
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
        known: Known { dtb: args.dtb.is_none(), ..Known::default() },
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
