//! `cargo xtask ci`: the checks that every change has to pass, the same here as on a build server.

use anyhow::{Context as _, Result};
use clap::Args;

use crate::progress::Step;
use crate::test::FAULT_RIG;
use crate::tools::{self, Tool};
use crate::workspace::{FIRMWARE_PROFILE, FIRMWARE_TARGET};
use crate::{exec, firmware, test};

/// Checks formatting, lints, documentation and dependencies, then runs all tests.
#[derive(Args, Debug)]
pub struct Ci {
    /// Only the quick checks, without the tests
    #[arg(long)]
    quick: bool,
}

impl Ci {
    /// Runs the command; `Ok(false)` if a test fails.
    ///
    /// # Errors
    /// If a check fails.
    pub fn run(&self) -> Result<bool> {
        let needed = [Tool::Rustfmt, Tool::Clippy, Tool::RustTarget, Tool::CMake, Tool::LibClang];
        tools::prepare(&needed)?;
        check("formatting", &["fmt", "--all", "--check"], &[], "`cargo fmt` mends it")?;
        let deny = ["--", "--deny", "warnings"];
        let clippy = ["clippy", "--workspace", "--all-targets", "--features", FAULT_RIG, "--quiet"];
        check("lints of host code", &[clippy.as_slice(), &deny].concat(), &[], "mend what it names")?;
        for package in [firmware::STAGE0, firmware::STAGE1, firmware::STAGE2, firmware::PAYLOAD] {
            let args =
                ["clippy", "--package", package, "--target", FIRMWARE_TARGET, "--profile", FIRMWARE_PROFILE];
            check(package, &[args.as_slice(), &["--quiet"], &deny].concat(), &[], "mend what it names")?;
        }
        let doc = ["doc", "--workspace", "--no-deps", "--features", FAULT_RIG, "--quiet"];
        check("documentation", &doc, &[("RUSTDOCFLAGS", "--deny warnings")], "mend what it names")?;
        if exec::first_line(exec::cargo().args(["deny", "--version"])).is_some() {
            let args = ["deny", "--log-level", "error", "check", "bans", "licenses", "sources"];
            check("dependencies", &args, &[], "see deny.toml")?;
        } else {
            eprintln!(
                "  note cargo-deny is not installed, so licences and sources of dependencies go unchecked"
            );
        }
        if self.quick { Ok(true) } else { test::Test::default().run() }
    }
}

fn check(what: &str, args: &[&str], environment: &[(&str, &str)], cure: &'static str) -> Result<()> {
    let step = Step::start(what.to_owned());
    let mut cargo = exec::cargo();
    exec::capture(cargo.args(args).envs(environment.iter().copied())).context(cure)?;
    step.done("");
    Ok(())
}
