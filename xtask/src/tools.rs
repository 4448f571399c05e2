//! The tools that Kiln's commands need: what each is for, whether it is there, and how to get it.
//!
//! A command asks for its tools with [`prepare`] before it starts. What is missing is installed where this
//! process may do that; otherwise the command stops with the exact line to run.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::apt::{Apt, Architecture};
use crate::exec;
use crate::progress::Step;
use crate::workspace::{self, FIRMWARE_TARGET};

/// Debian's U-Boot for QEMU's arm64 `virt`, which `bench` measures against.
pub const U_BOOT: &str = "/usr/lib/u-boot/qemu_arm64/u-boot.bin";
/// The major version of QEMU that Kiln is measured with.
const QEMU_WANTED: u32 = 10;

/// A tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// The standard library for the firmware target.
    RustTarget,
    /// `cargo fmt`.
    Rustfmt,
    /// `cargo clippy`.
    Clippy,
    /// `qemu-system-aarch64`.
    Qemu,
    /// `setpriv`.
    Setpriv,
    /// `dtc`.
    DeviceTreeCompiler,
    /// `dpkg-deb`.
    DpkgDeb,
    /// `mkimage`.
    Mkimage,
    /// U-Boot for QEMU.
    UBoot,
    /// `openssl`.
    OpenSsl,
    /// `softhsm2-util`, and the module that goes with it.
    SoftHsm,
    /// `python3` with `venv`.
    Python,
    /// `c++`.
    CxxCompiler,
    /// `cmake` and `make`.
    CMake,
    /// The library of `clang`.
    LibClang,
}

/// Where a tool comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A target of the Rust toolchain.
    RustupTarget(&'static str),
    /// A component of the Rust toolchain.
    RustupComponent(&'static str),
    /// Debian packages.
    Packages(&'static [&'static str]),
}

impl Tool {
    /// Every tool, in the order in which `doctor` lists them.
    pub const ALL: &'static [Self] = &[
        Self::RustTarget,
        Self::Rustfmt,
        Self::Clippy,
        Self::Qemu,
        Self::Setpriv,
        Self::DeviceTreeCompiler,
        Self::DpkgDeb,
        Self::Mkimage,
        Self::UBoot,
        Self::OpenSsl,
        Self::SoftHsm,
        Self::Python,
        Self::CxxCompiler,
        Self::CMake,
        Self::LibClang,
    ];

    /// Returns the name that people know it by.
    pub fn name(self) -> &'static str {
        match self {
            Self::RustTarget => FIRMWARE_TARGET,
            Self::Rustfmt => "rustfmt",
            Self::Clippy => "clippy",
            Self::Qemu => "qemu-system-aarch64",
            Self::Setpriv => "setpriv",
            Self::DeviceTreeCompiler => "dtc",
            Self::DpkgDeb => "dpkg-deb",
            Self::Mkimage => "mkimage",
            Self::UBoot => "U-Boot for QEMU",
            Self::OpenSsl => "openssl",
            Self::SoftHsm => "softhsm2-util",
            Self::Python => "python3 with venv",
            Self::CxxCompiler => "c++",
            Self::CMake => "cmake and make",
            Self::LibClang => "libclang",
        }
    }

    /// Says what Kiln needs it for.
    pub fn why(self) -> &'static str {
        match self {
            Self::RustTarget => "compiles the stages that run on the device",
            Self::Rustfmt => "checks the formatting of the code",
            Self::Clippy => "lints the code",
            Self::Qemu => "is the device: Kiln's first board is QEMU virt",
            Self::Setpriv => "ends the emulator together with the command that started it",
            Self::DeviceTreeCompiler => "compiles the board's device tree",
            Self::DpkgDeb => "unpacks Debian's kernel and busybox",
            Self::Mkimage => {
                "makes signed image trees: for U-Boot in the comparison, and for Kiln to take apart in tests"
            }
            Self::UBoot => "is what Kiln's boot time is compared with, and what it makes of image trees",
            Self::OpenSsl => {
                "checks requests and certificates, and makes U-Boot's signing key for the comparison"
            }
            Self::SoftHsm => "is the token that keys are kept on in tests",
            Self::Python => "runs an independent COSE library that checks Kiln's signatures",
            Self::CxxCompiler => "compiles libFuzzer",
            Self::CMake => "compiles the emulator that faults are injected in",
            Self::LibClang => "reads the headers of the emulator that faults are injected in",
        }
    }

    /// Returns the commands of `cargo xtask` that need it.
    pub fn needed_by(self) -> &'static [&'static str] {
        match self {
            Self::RustTarget | Self::DeviceTreeCompiler => {
                &["build", "flash", "run", "size", "bench", "test"]
            }
            Self::Rustfmt | Self::Clippy => &["ci"],
            Self::Qemu | Self::Setpriv => &["flash", "run", "bench", "test"],
            Self::DpkgDeb => &["flash", "run", "bench", "test"],
            Self::Mkimage | Self::UBoot | Self::OpenSsl => &["bench", "test"],
            Self::Python | Self::SoftHsm => &["test"],
            Self::CxxCompiler => &["fuzz"],
            Self::CMake | Self::LibClang => &["test", "ci"],
        }
    }

    /// Returns where it comes from.
    pub fn origin(self) -> Origin {
        match self {
            Self::RustTarget => Origin::RustupTarget(FIRMWARE_TARGET),
            Self::Rustfmt => Origin::RustupComponent("rustfmt"),
            Self::Clippy => Origin::RustupComponent("clippy"),
            Self::Qemu => Origin::Packages(&["qemu-system-arm"]),
            Self::Setpriv => Origin::Packages(&["util-linux"]),
            Self::DeviceTreeCompiler => Origin::Packages(&["device-tree-compiler"]),
            Self::DpkgDeb => Origin::Packages(&["dpkg"]),
            Self::Mkimage => Origin::Packages(&["u-boot-tools"]),
            Self::UBoot => Origin::Packages(&["u-boot-qemu"]),
            Self::OpenSsl => Origin::Packages(&["openssl"]),
            Self::SoftHsm => Origin::Packages(&["softhsm2"]),
            Self::Python => Origin::Packages(&["python3", "python3-venv", "python3-pip"]),
            Self::CxxCompiler => Origin::Packages(&["g++"]),
            Self::CMake => Origin::Packages(&["make", "cmake"]),
            Self::LibClang => Origin::Packages(&["libclang-dev"]),
        }
    }

    /// Returns its version, or `None` if it is not there.
    pub fn version(self) -> Option<String> {
        let run = |program: &str, arg: &str| exec::first_line(Command::new(program).arg(arg));
        match self {
            Self::RustTarget => target_library().then(rustc_version),
            Self::Rustfmt => exec::first_line(exec::cargo().args(["fmt", "--version"])),
            Self::Clippy => exec::first_line(exec::cargo().args(["clippy", "--version"])),
            Self::Qemu => run("qemu-system-aarch64", "--version"),
            Self::Setpriv => run("setpriv", "--version"),
            Self::DeviceTreeCompiler => run("dtc", "--version"),
            Self::DpkgDeb => run("dpkg-deb", "--version"),
            Self::Mkimage => run("mkimage", "-V"),
            Self::UBoot => Path::new(U_BOOT).is_file().then(|| package_version("u-boot-qemu")),
            Self::OpenSsl => run("openssl", "version"),
            Self::SoftHsm => run("softhsm2-util", "--version"),
            Self::Python => python_with_venv().then(|| run("python3", "--version"))?,
            Self::CxxCompiler => run("c++", "--version"),
            Self::CMake => run("make", "--version").and_then(|_| run("cmake", "--version")),
            Self::LibClang => libclang(),
        }
    }

    /// Returns the command that installs it by hand.
    pub fn install_line(self) -> String {
        match self.origin() {
            Origin::RustupTarget(name) => format!("rustup target add {name}"),
            Origin::RustupComponent(name) => format!("rustup component add {name}"),
            Origin::Packages(names) => {
                format!("sudo apt-get install --no-install-recommends {}", names.join(" "))
            }
        }
    }
}

/// Returns the major version in QEMU's version line.
pub fn qemu_major(version_line: &str) -> Option<u32> {
    let rest = version_line.split("version ").nth(1)?;
    rest.split('.').next()?.parse().ok()
}

/// Says what is to be expected of a QEMU that is older than the one Kiln is measured with; `None` for a good one.
pub fn qemu_warning(version_line: &str) -> Option<String> {
    let major = qemu_major(version_line)?;
    (major < QEMU_WANTED).then(|| {
        format!(
            "this is QEMU {major}; Kiln is measured with QEMU {QEMU_WANTED}. Everything runs, several times slower, and \
             unaligned access that hardware refuses goes unseen"
        )
    })
}

/// Makes sure that `tools` are there, installing what is missing.
///
/// # Errors
/// If something is missing that this process may not install; the error holds the lines to run.
pub fn prepare(tools: &[Tool]) -> Result<()> {
    let missing: Vec<Tool> = tools.iter().copied().filter(|tool| tool.version().is_none()).collect();
    let mut packages = Vec::new();
    for tool in missing {
        match tool.origin() {
            Origin::RustupTarget(name) => rustup(&["target", "add", name], tool)?,
            Origin::RustupComponent(name) => rustup(&["component", "add", name], tool)?,
            Origin::Packages(names) => packages.push((tool, names)),
        }
    }
    install_packages(&packages)?;
    if tools.contains(&Tool::Qemu)
        && let Some(warning) = Tool::Qemu.version().as_deref().and_then(qemu_warning)
    {
        eprintln!("  note {warning}");
    }
    Ok(())
}

fn rustup(args: &[&str], tool: Tool) -> Result<()> {
    let step = Step::start(format!("installing {}", tool.name()));
    let mut command = Command::new("rustup");
    command.args(args).current_dir(workspace::root());
    exec::capture(&mut command).with_context(|| {
        format!("{} is missing; it {}. By hand: {}", tool.name(), tool.why(), tool.install_line())
    })?;
    step.done("");
    Ok(())
}

type Missing = (Tool, &'static [&'static str]);

fn install_packages(missing: &[Missing]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let names = |list: &[&Missing]| -> Vec<&'static str> {
        list.iter().flat_map(|(_, names)| names.iter().copied()).collect()
    };
    let apt = host_apt().with_context(|| needs(missing))?;
    let step = Step::start("fetching package lists");
    apt.update()?;
    step.done("");
    let (qemu, others): (Vec<_>, Vec<_>) = missing.iter().partition(|(tool, _)| *tool == Tool::Qemu);
    let mut commands = Vec::new();
    if !others.is_empty() {
        commands.push((names(&others), None));
    }
    if !qemu.is_empty() {
        commands.push((names(&qemu), apt.backports.as_deref()));
    }
    let Some(rights) = Rights::find() else {
        let lines: Vec<String> = commands
            .iter()
            .map(|(names, suite)| format!("  sudo {}", exec::show(&apt.install(names, *suite))))
            .collect();
        bail!("{}\nthis process may not install packages. Run:\n{}", needs(missing), lines.join("\n"));
    };
    for (names, suite) in commands {
        let step = Step::start(format!("installing {}", names.join(", ")));
        match exec::capture(&mut rights.wrap(apt.install(&names, suite))) {
            Ok(_) => step.done(&package_version(names.last().copied().unwrap_or_default())),
            Err(error) if suite.is_some() => {
                step.note("not to be had from backports, taking the release's own");
                exec::capture(&mut rights.wrap(apt.install(&names, None))).with_context(|| {
                    format!("{}\nfrom backports it failed with: {error:#}", needs(missing))
                })?;
            }
            Err(error) => return Err(error.context(needs(missing))),
        }
    }
    for (tool, _) in missing {
        if tool.version().is_none() {
            bail!("{} was installed but does not start: try `{}`", tool.name(), tool.install_line());
        }
    }
    Ok(())
}

fn needs(missing: &[Missing]) -> String {
    let lines: Vec<String> =
        missing.iter().map(|(tool, _)| format!("{} is missing; it {}", tool.name(), tool.why())).collect();
    lines.join("\n")
}

/// Returns the apt client for packages of this machine; its lists may still be missing.
///
/// # Errors
/// If there is no apt here.
pub fn host_apt() -> Result<Apt> {
    Apt::prepare(&workspace::kiln_dir().join("apt"), Architecture::Host)
}

/// How this process may install packages.
enum Rights {
    Root,
    Sudo,
}

impl Rights {
    fn find() -> Option<Self> {
        if rustix::process::geteuid().is_root() {
            return Some(Self::Root);
        }
        let sudo = Command::new("sudo").args(["-n", "true"]).output();
        sudo.is_ok_and(|output| output.status.success()).then_some(Self::Sudo)
    }

    fn wrap(&self, command: Command) -> Command {
        match self {
            Self::Root => command,
            Self::Sudo => {
                let mut sudo = Command::new("sudo");
                sudo.args(["-n", "env", "DEBIAN_FRONTEND=noninteractive"]);
                sudo.arg(command.get_program()).args(command.get_args());
                sudo
            }
        }
    }
}

/// Tells whether the toolchain that this workspace pins has the firmware target's library.
fn target_library() -> bool {
    let mut rustc = Command::new("rustc");
    rustc.args(["--print", "target-libdir", "--target", FIRMWARE_TARGET]).current_dir(workspace::root());
    exec::first_line(&mut rustc).is_some_and(|folder| Path::new(&folder).is_dir())
}

fn rustc_version() -> String {
    exec::first_line(Command::new("rustc").arg("--version").current_dir(workspace::root()))
        .unwrap_or_default()
}

fn package_version(package: &str) -> String {
    exec::first_line(Command::new("dpkg-query").args(["-W", "-f=${Package} ${Version}\n", package]))
        .unwrap_or_else(|| package.to_owned())
}

/// Returns the path of the library of `clang`, where the generator of bindings looks for it.
fn libclang() -> Option<String> {
    let named = std::env::var_os("LIBCLANG_PATH").map(PathBuf::from);
    let installed = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let installed = installed
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm-"))
        .map(|entry| entry.path().join("lib/libclang.so"));
    named.into_iter().chain(installed).find(|path| path.exists()).map(|path| path.display().to_string())
}

fn python_with_venv() -> bool {
    Command::new("python3").args(["-c", "import venv, ensurepip"]).output().is_ok_and(|o| o.status.success())
}

/// Returns a program that crates.io has, and builds it in target/kiln if it is not there: `version` is what it is asked to
/// show that it is.
///
/// # Errors
/// If it does not build.
pub fn from_crates_io(name: &str, shows: &[&str], version: &str) -> Result<PathBuf> {
    let root = workspace::kiln_dir().join("tools");
    let program = root.join("bin").join(name);
    if exec::first_line(Command::new(&program).args(shows)).is_some_and(|line| line.ends_with(version)) {
        return Ok(program);
    }
    let step = Step::start(format!("building {name}"));
    let mut install = exec::cargo();
    install.args(["install", name, "--version", version, "--locked", "--quiet", "--root"]).arg(&root);
    exec::capture(&mut install)
        .with_context(|| format!("{name} comes from crates.io: is the network up?"))?;
    step.done(version);
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn qemu_versions_are_told_apart() {
        let new = "QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)";
        let old = "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)";
        assert_eq!((qemu_major(new), qemu_major(old), qemu_major("?")), (Some(10), Some(7), None));
        assert_eq!(qemu_warning(new), None);
        assert!(qemu_warning(old).unwrap().contains("QEMU 7"));
    }

    #[test]
    fn every_tool_says_what_it_is_for_and_how_to_get_it() {
        for tool in Tool::ALL {
            assert!(!tool.needed_by().is_empty() && !tool.why().is_empty(), "{tool:?}");
            assert!(tool.install_line().contains(' '), "{tool:?}");
        }
    }
}
