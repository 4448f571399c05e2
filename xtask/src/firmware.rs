//! Building what runs on the device: the stages, the payload and the device tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use memory_map::qemu_virt as board;
use release::{FlatImage, flatten_elf};

use crate::progress::{self, Step};
use crate::tools::{self, Tool};
use crate::workspace::{self, FIRMWARE_PROFILE, FIRMWARE_TARGET};
use crate::{crates, exec, panic_check};

/// The package of the first stage.
pub const STAGE0: &str = "stage0";
/// The package of the stage that provisions a device, once.
pub const STAGE1: &str = "stage1-provision";
/// The package of the stage that boots Linux.
pub const STAGE2: &str = "stage2-production";
/// The package of the bare-metal payload.
pub const PAYLOAD: &str = "payload";
/// The package of the board.
const BOARD_CRATE: &str = "board-qemu-virt";
/// The programs that check the board's drivers.
const CONFORMANCE: [&str; 5] = [
    "conformance-provisioning",
    "conformance-closing",
    "conformance-stopping",
    "conformance-constant-time",
    "conformance-vectors",
];
/// The program that measures what re-keying is limited by.
const LIMIT: &str = "limit";
/// The file of the compiled device tree.
pub const DTB: &str = "qemu-virt.dtb";
/// The source of the board's device tree.
const DEVICE_TREE: &str = "dts/qemu-virt.dts";
/// The feature of stage0 that puts a panic into it, for the check that must find it.
const CONTROL_FEATURE: &str = "control-panic";
/// The feature of a stage that takes its decisions once.
const ONE_LOOK_FEATURE: &str = "control-one-look";
/// The function that it puts the panic into.
const CONTROL_FUNCTION: &str = "stage0::main";

/// One built program for the device.
#[derive(Clone, Debug)]
pub struct Program {
    /// Package name.
    pub name: &'static str,
    /// The ELF file, with symbols and line tables.
    pub elf: PathBuf,
    /// The flat binary: what is flashed or sealed.
    pub bin: PathBuf,
    /// Its bytes and addresses.
    pub flat: FlatImage,
}

/// Everything that `cargo xtask build` makes.
#[derive(Clone, Debug)]
pub struct Firmware {
    /// The first stage, which executes in place.
    pub stage0: Program,
    /// The stage that provisions a device.
    pub stage1: Program,
    /// The stage that boots Linux and stays resident.
    pub stage2: Program,
    /// The bare-metal stand-in for Linux.
    pub payload: Program,
    /// The compiled device tree.
    pub dtb: PathBuf,
    /// How many crates the stages are made of.
    pub crates: usize,
}

/// Builds everything into `target/kiln/build` and checks it.
///
/// # Errors
/// If something does not compile, stage0 does not fit its ROM, or one of stage0's own functions can panic.
pub fn build() -> Result<Firmware> {
    tools::prepare(&[Tool::RustTarget, Tool::DeviceTreeCompiler])?;
    let folder = workspace::build_dir();
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let stage0 = program(STAGE0, &[], STAGE0)?;
    fits_rom(stage0.flat.bytes.len() as u64)?;
    let stage1 = program(STAGE1, &[], STAGE1)?;
    let stage2 = program(STAGE2, &[], STAGE2)?;
    let payload = program(PAYLOAD, &[], PAYLOAD)?;
    let dtb = device_tree(&folder)?;
    panics(&stage0)?;
    let crates = crates::write(&folder)?;
    Ok(Firmware { stage0, stage1, stage2, payload, dtb, crates })
}

/// Builds stage0 with one `unwrap` put into it and makes sure that the panic check refuses it: a check that
/// finds nothing proves nothing otherwise.
///
/// # Errors
/// If the control does not build, or passes the check.
pub fn panic_control() -> Result<()> {
    let features = ["--features", CONTROL_FEATURE];
    let control = linked(STAGE0, &features, &[&roomy()], "stage0-control-panic")?;
    let report = panic_check::check(&fs::read(&control.elf)?)?;
    let found: Vec<&str> =
        report.violations.iter().map(|found| found.lines().next().unwrap_or_default()).collect();
    match found.as_slice() {
        [found] if found.starts_with(CONTROL_FUNCTION) => {
            eprintln!("  ok   the control with one unwrap is refused: {found}");
        }
        _ => bail!(
            "the control, a stage0 with one `unwrap` in {CONTROL_FUNCTION}, is to be refused for that alone, and the \
             panic check said {found:?}: the check is broken"
        ),
    }
    Ok(())
}

/// Builds the stages without what hardens them, which the rig that injects faults has to break.
///
/// # Errors
/// If one does not compile.
pub fn fault_controls() -> Result<()> {
    let features = ["--features", ONE_LOOK_FEATURE];
    linked(STAGE0, &features, &[&roomy()], "stage0-control-one-look")?;
    linked(STAGE2, &features, &[], "stage2-control-one-look")?;
    Ok(())
}

/// Builds the programs that check the board's drivers on the emulator, for the boot tests.
///
/// # Errors
/// If one does not compile.
pub fn conformance() -> Result<()> {
    let step = Step::start("building the board's conformance programs");
    for name in CONFORMANCE {
        let built = board_program(name)?;
        fs::copy(&built, workspace::build_dir().join(format!("{name}.elf")))
            .with_context(|| format!("cannot read {}", built.display()))?;
    }
    step.done(&format!("{} programs", CONFORMANCE.len()));
    Ok(())
}

/// Builds the program that measures what re-keying is limited by.
///
/// # Errors
/// If it does not compile.
pub fn limit() -> Result<FlatImage> {
    let step = Step::start("building the program that measures the limit");
    let elf = board_program(LIMIT)?;
    let flat = flatten_elf(&fs::read(elf)?).with_context(|| format!("{LIMIT} cannot be made flat"))?;
    step.done(&progress::bytes(flat.bytes.len() as u64));
    Ok(flat)
}

/// Builds an example of the board as its stages are built, and returns its ELF file.
fn board_program(name: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["rustc", "--package", BOARD_CRATE, "--example", name, "--target", FIRMWARE_TARGET]);
    command.args(["--profile", FIRMWARE_PROFILE, "--message-format=json-render-diagnostics"]);
    command.arg("--config").arg(flags(BOARD_CRATE)?).arg("--").args(optimised_twice(name));
    let messages = exec::capture(&mut command)?;
    executable(&String::from_utf8_lossy(&messages), name).with_context(|| format!("cargo built no {name}"))
}

/// Builds the programs only to measure them: a stage0 that is too large for its ROM is linked all the same, where
/// [`build`] fails.
///
/// # Errors
/// If something does not compile.
pub fn build_to_measure() -> Result<[Program; 4]> {
    tools::prepare(&[Tool::RustTarget])?;
    fs::create_dir_all(workspace::build_dir())?;
    Ok([
        linked(STAGE0, &[], &[&roomy()], "stage0-to-measure")?,
        program(STAGE1, &[], STAGE1)?,
        program(STAGE2, &[], STAGE2)?,
        program(PAYLOAD, &[], PAYLOAD)?,
    ])
}

/// Returns the linker's flag for a stage0 that may be larger than its ROM.
fn roomy() -> String {
    format!("-Clink-arg=--defsym=ROM_END={:#x}", board::STAGE0_EXECUTABLE.end())
}

fn program(package: &'static str, features: &[&str], output: &str) -> Result<Program> {
    linked(package, features, &[], output)
}

/// Returns what is passed to the compiler of a program itself: link-time optimisation of a stage in RAM runs twice.
///
/// The panic handler of a stage looks at no message. The compiler finds that out at the end of its own link-time
/// optimisation, too late to drop the messages and all that formats them. So it hands the optimised program to the
/// linker as bitcode, and the linker optimises it once more: a sixth of stage2 goes. It does that at level 2, at which
/// it puts the bytes of a block together: at a level for size each is decrypted on its own, and a boot takes a third more
/// instructions (`cargo xtask bench` counts them). The payload does print messages, and stage0 has none: it is checked for panics as the compiler alone makes it.
fn optimised_twice(package: &str) -> &'static [&'static str] {
    match package {
        STAGE0 | PAYLOAD => &[],
        _ => &["-Clinker-plugin-lto", "-Clink-arg=--lto-newpm-passes=lto<O2>"],
    }
}

/// Makes a cargo command on which the environment has no say in what the compiler makes: with `CARGO_INCREMENTAL=1` a stage is another
/// one, of another size.
fn cargo() -> Command {
    let mut command = exec::cargo();
    for (name, _) in std::env::vars_os().filter(|(name, _)| alters_code(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.env("CARGO_INCREMENTAL", "0");
    command
}

/// Tells whether a variable of the environment would have a say in the code of a stage.
fn alters_code(name: &str) -> bool {
    name.starts_with("CARGO_PROFILE_")
        || name == "CARGO_BUILD_INCREMENTAL"
        || name.starts_with("CARGO_TARGET_") && name.ends_with("_RUSTFLAGS")
}

/// Builds one package with more flags for linking, and makes its flat binary, both under the name `output`.
fn linked(package: &'static str, features: &[&str], link: &[&str], output: &str) -> Result<Program> {
    let step = Step::start(format!("building {output}"));
    let mut command = cargo();
    command.args([
        "rustc",
        "--package",
        package,
        "--bin",
        package,
        "--target",
        FIRMWARE_TARGET,
        "--profile",
        FIRMWARE_PROFILE,
    ]);
    if package == STAGE0 {
        // Its flags differ, and cargo would build every dependency anew at each change between the two.
        command.arg("--target-dir").arg(workspace::root().join("target/stage0"));
    }
    command.arg("--message-format=json-render-diagnostics").arg("--config").arg(flags(package)?);
    command.args(features).arg("--").args(optimised_twice(package)).args(link);
    let messages = exec::capture(&mut command)?;
    let built = executable(&String::from_utf8_lossy(&messages), package)
        .with_context(|| format!("cargo built no program in package {package}"))?;
    let file = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let flat = flatten_elf(&file).with_context(|| format!("{output} cannot be made flat"))?;
    let folder = workspace::build_dir();
    let (elf, bin) = (folder.join(format!("{output}.elf")), folder.join(format!("{output}.bin")));
    fs::write(&elf, &file)?;
    fs::write(&bin, &flat.bytes)?;
    step.done(&progress::bytes(flat.bytes.len() as u64));
    Ok(Program { name: package, elf, bin, flat })
}

/// Returns the cargo setting with the compiler's flags for a package, which cargo adds to those of the workspace.
///
/// Paths of this machine stay out of the firmware: those of the standard library, of the dependencies and of the
/// workspace begin with their own folder. That is smaller, and the same on every machine. In stage0 no sequence of
/// instructions is outlined, since the check for panics could not tell whose code an outlined panic is.
fn flags(package: &str) -> Result<String> {
    let sysroot =
        exec::capture(Command::new("rustc").current_dir(workspace::root()).args(["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home =
        home.or_else(|| Some(std::env::home_dir()?.join(".cargo"))).context("there is no CARGO_HOME")?;
    let mut folders = vec![workspace::root()];
    for toolchain in [Some(sysroot.clone()), sysroot.canonicalize().ok()].into_iter().flatten() {
        folders.push(toolchain.join("lib/rustlib/src/rust/library"));
    }
    for registry in fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten() {
        folders.push(registry.path());
    }
    let mut flags: Vec<String> =
        folders.iter().map(|folder| format!("\"--remap-path-prefix={}/=\"", folder.display())).collect();
    if package == STAGE0 {
        flags.push("\"-Cllvm-args=-enable-machine-outliner=never\"".into());
    }
    Ok(format!("target.{FIRMWARE_TARGET}.rustflags=[{}]", flags.join(",")))
}

/// Finds the program of this name in cargo's messages.
pub(crate) fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    let artefacts = messages.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    artefacts
        .filter(|message| message["reason"] == "compiler-artifact" && message["target"]["name"] == name)
        .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
}

fn fits_rom(size: u64) -> Result<()> {
    let limit = board::STAGE0_ROM.size;
    if size > limit {
        bail!(
            "stage0 is {size} bytes, {} more than its ROM of {limit}. `cargo xtask size --symbols 20` shows what \
             takes the room",
            size - limit
        );
    }
    Ok(())
}

fn device_tree(folder: &Path) -> Result<PathBuf> {
    let step = Step::start("compiling the device tree");
    let output = folder.join(DTB);
    let mut command = Command::new("dtc");
    command.args(["-I", "dts", "-O", "dtb", "-o"]).arg(&output).arg(workspace::root().join(DEVICE_TREE));
    let ran = command.output().with_context(|| format!("cannot start `{}`", exec::show(&command)))?;
    let said = String::from_utf8_lossy(&ran.stderr);
    if !ran.status.success() || said.contains("Warning") {
        bail!("`{}` does not accept the device tree:\n{}", exec::show(&command), said.trim_end());
    }
    step.done(&progress::bytes(fs::metadata(&output)?.len()));
    Ok(output)
}

fn panics(stage0: &Program) -> Result<()> {
    let step = Step::start("looking for panics in stage0");
    let report =
        panic_check::check(&fs::read(&stage0.elf)?).context("stage0 cannot be checked for panics")?;
    let listing = workspace::build_dir().join("stage0-panics.txt");
    fs::write(&listing, report.text())?;
    if !report.violations.is_empty() {
        let list: Vec<&str> = report.violations.iter().map(String::as_str).collect();
        bail!("stage0 can panic in {} places that are not allowed:\n  {}", list.len(), list.join("\n  "));
    }
    let unused = report.needlessly_allowed();
    if !unused.is_empty() {
        bail!("{} may panic and do not: take them off the list of the panic check", unused.join(", "));
    }
    let kept = report.allowed.len();
    step.done(&format!(
        "none of Kiln's own in {} functions; {kept} of dependencies, all named",
        report.functions
    ));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"stage0"},"executable":null}"#,
            "\nnot json\n",
            r#"{"reason":"compiler-artifact","target":{"name":"other"},"executable":"/x/other"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"stage0"},"executable":"/x/stage0"}"#,
        );
        assert_eq!(executable(messages, "stage0"), Some(PathBuf::from("/x/stage0")));
        assert_eq!(executable(messages, "payload"), None);
    }

    #[test]
    fn stage0_may_fill_its_rom_and_not_a_byte_more() {
        assert!(fits_rom(64 * 1024).is_ok());
        assert!(fits_rom(64 * 1024 + 1).unwrap_err().to_string().contains("1 more than its ROM"));
    }
}
