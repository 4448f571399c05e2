//! `cargo xtask test`: everything that can be tested, on a machine that has nothing prepared.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use figures::Figure;

use crate::progress::{self, Step};
use crate::tools::{self, Tool};
use crate::{debian, exec, firmware, mutants, mutation, verification, workspace};

/// Other people's libraries: one that checks Kiln's COSE signatures, the CBOR library that it was written for (later
/// ones give it tuples where it expects lists), one that holds messages against their CDDL, the test vectors of NIST
/// and of RFCs, one that checks DSSE envelopes, and one that validates bills of materials.
const LIBRARIES: [&str; 7] = [
    "pycose==1.1.0",
    "cbor2==5.7.1",
    "zcbor==0.9.1",
    "cryptography==50.0.2",
    "cryptography-vectors==50.0.2",
    "securesystemslib==1.6.0",
    "cyclonedx-python-lib[json-validation]==11.12.0",
];

/// The feature of the workspace that compiles an emulator, and with it the rig that injects faults.
pub(crate) const FAULT_RIG: &str = "fault-rig/emulator";

/// What tests that need Debian's Linux have in their names.
const NEEDS_LINUX: &str = "debians_linux";

/// Builds the firmware, checks it, and runs all tests: on the host and in the emulator.
///
/// Prepares the tools, builds everything, proves that stage0 has no panic of its own (and that this check finds one
/// that is put in), then runs `cargo test --workspace`. Words after `--` go to it.
#[derive(Args, Debug, Default)]
pub struct Test {
    /// Let the rigs that look for what must never happen run much longer
    #[arg(long)]
    long: bool,
    /// Take each protection of xtask/protections.toml away instead, in a copy, and show the test that turns red
    #[arg(long, conflicts_with = "long")]
    mutants: bool,
    /// Make every small change to the code that decides instead, in a copy, and see whether a test turns red (about an hour)
    #[arg(long, conflicts_with_all = ["long", "mutants", "args"])]
    mutation: bool,
    /// Write what the rigs ran, or what became of the protections or changes, into docs/verification.md
    #[arg(long)]
    record: bool,
    /// Arguments for `cargo test`, in place of `--workspace`; with --mutants, words: only protections with one of them in their rows
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,
}

impl Test {
    /// Runs the command; `Ok(false)` if a test fails.
    ///
    /// # Errors
    /// If the tools cannot be had, or the firmware does not build or keep its limits.
    pub fn run(&self) -> Result<bool> {
        if self.record && self.mutants && !self.args.is_empty() {
            bail!("the list of protections is of one whole run: leave out what is behind `--`");
        }
        if self.record && !self.long && !self.args.is_empty() {
            bail!(
                "the table of the short run is of one whole run: leave out what is behind `--`, or add --long, of which parts can be recorded one by one"
            );
        }
        if self.mutants {
            return mutants::run(&self.args, self.record);
        }
        let (start, commit) = (Instant::now(), workspace::commit());
        tools::prepare(&[
            Tool::RustTarget,
            Tool::DeviceTreeCompiler,
            Tool::Qemu,
            Tool::Setpriv,
            Tool::OpenSsl,
            Tool::Mkimage,
            Tool::UBoot,
            Tool::SoftHsm,
            Tool::Python,
            Tool::CMake,
            Tool::LibClang,
        ])?;
        if self.mutation {
            let (figure, section) = mutation::run(&python()?)?;
            println!("\n{section}\n{}", verification::table(std::slice::from_ref(&figure)));
            if self.record {
                verification::record(&section, "mutation")?;
                verification::record_long(std::slice::from_ref(&figure), &commit)?;
            }
            return Ok(figure.is_good());
        }
        firmware::build()?;
        firmware::panic_control()?;
        firmware::fault_controls()?;
        firmware::conformance()?;
        let python = python()?;
        let figures = verification::folder()?;
        let mut cargo = exec::cargo();
        cargo.arg("test").env("KILN_BUILD_DIR", workspace::build_dir()).env("KILN_PYTHON", &python);
        cargo.env(figures::FOLDER, &figures).env_remove(figures::LONG);
        if self.long {
            cargo.env(figures::LONG, "1");
        }
        let linux = debian::fetch();
        if self.args.is_empty() {
            cargo.args(["--workspace", "--no-fail-fast", "--features", FAULT_RIG]);
            if self.record && !self.long {
                // The table that this run is to write is not yet there.
                cargo.args(["--", "--skip", verification::OF_THE_TABLE]);
            }
        } else {
            cargo.args(&self.args);
        }
        match &linux {
            Ok(input) => {
                cargo.env("KILN_KERNEL", &input.kernel).env("KILN_BUSYBOX", &input.busybox);
            }
            Err(error) => {
                let why = format!("Debian's Linux cannot be had: {error:#}");
                // A build server is to notice, and what is recorded is of all tests; a person without a network may go on.
                if std::env::var_os("CI").is_some() || self.record {
                    bail!("{why}");
                }
                eprintln!("  note {why}");
                if !self.args.iter().any(|arg| arg == "--") {
                    cargo.arg("--");
                }
                cargo.args(["--skip", NEEDS_LINUX]);
            }
        }
        let mut tally = Tally::default();
        let mut succeeded = run(&mut cargo, &mut tally)?;
        let mut figures = figures::gather(&figures).context("cannot read what the rigs reported")?;
        let mut survivors = None;
        if self.long && self.args.is_empty() {
            let (figure, section) = mutation::run(&python)?;
            figures.push(figure);
            survivors = Some(section);
        }
        let table = verification::table(&figures);
        println!("\n{table}");
        if self.args.is_empty() {
            let missing = verification::missing(&figures, self.long);
            missing.iter().for_each(|rig| println!("  NOT REPORTED: {rig}"));
            succeeded &= missing.is_empty() && figures.iter().all(Figure::is_good);
        }
        if self.record && succeeded {
            if self.long {
                verification::record_long(&figures, &commit)?;
            } else {
                verification::record(&format!("{table}\nMade from {commit}.\n"), "short")?;
            }
            if let Some(section) = survivors {
                verification::record(&section, "mutation")?;
            }
        }
        let took = progress::seconds(start.elapsed());
        println!("{} passed, {} failed, {} ignored, in {took}", tally.passed, tally.failed, tally.ignored);
        tally.failures.iter().for_each(|name| println!("  FAILED {name}"));
        if linux.is_err() {
            println!(
                "  NOT RUN: every test with `{NEEDS_LINUX}` in its name, since Debian's Linux cannot be had"
            );
        }
        if tally.passed == 0 {
            bail!("no test ran: that is no success");
        }
        Ok(succeeded)
    }
}

/// Returns a Python that has the libraries, in an environment of its own.
fn python() -> Result<PathBuf> {
    let folder = workspace::kiln_dir().join("venv");
    let python = folder.join("bin/python");
    if has_libraries(&python) {
        return Ok(python);
    }
    let step = Step::start(
        "installing independent libraries for COSE, CDDL, DSSE, HPKE and SBOMs, and test vectors",
    );
    exec::capture(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    exec::capture(Command::new(&python).args(["-m", "pip", "install", "--quiet"]).args(LIBRARIES))
        .context("pip cannot install them: is the network up?")?;
    if !has_libraries(&python) {
        bail!("{} were installed but do not load", LIBRARIES.join(" with "));
    }
    step.done(&LIBRARIES.join(" with "));
    Ok(python)
}

fn has_libraries(python: &Path) -> bool {
    let program = "import sys, cryptography.hazmat.primitives.hpke, cryptography_vectors, cyclonedx.validation.json, jsonschema, pycose, securesystemslib, zcbor
from importlib.metadata import version
sys.exit(any(version(name.split('[')[0]) != wanted for name, wanted in (pin.split('==') for pin in sys.argv[1:])))";
    let mut command = Command::new(python);
    command.args(["-c", program]).args(LIBRARIES);
    command.output().is_ok_and(|output| output.status.success())
}

/// How many tests ran.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
    failures: Vec<String>,
}

impl Tally {
    /// Takes in one line of the test harness's output.
    fn read(&mut self, line: &str) {
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            self.failures.push(name.to_owned());
        }
        let Some(counts) = line.strip_prefix("test result: ") else { return };
        for part in counts.split(['.', ';']) {
            let mut words = part.split_whitespace();
            let (Some(Ok(count)), Some(what)) = (words.next().map(str::parse::<u64>), words.next()) else {
                continue;
            };
            match what {
                "passed" => self.passed += count,
                "failed" => self.failed += count,
                "ignored" => self.ignored += count,
                _ => {}
            }
        }
    }
}

/// Runs `cargo test`, shows its output and counts the tests; `Ok(false)` if one fails.
fn run(cargo: &mut Command, tally: &mut Tally) -> Result<bool> {
    let mut child =
        cargo.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.read(&line);
    }
    Ok(child.wait()?.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tally_adds_up_all_crates() {
        let mut tally = Tally::default();
        for line in [
            "running 2 tests",
            "test a::b ... ok",
            "test a::c ... FAILED",
            "test result: FAILED. 1 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: ok. 17 passed; 0 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        ] {
            tally.read(line);
        }
        assert_eq!(tally, Tally { passed: 18, failed: 1, ignored: 2, failures: vec!["a::c".into()] });
    }
}
