//! `cargo xtask`: one command for everything a developer of Kiln does.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use xtask::{
    bench, ci, doctor, explain, firmware, flash, fuzz, progress, release, run, size, test, workspace,
};

/// Builds, flashes, boots, tests and measures Kiln.
///
/// Every command prepares the tools it needs. Start with `cargo xtask flash`.
#[derive(Parser, Debug)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Flash(Box<flash::Flash>),
    Run(run::Run),
    Release(release::Release),
    /// Builds the firmware into target/kiln/build and checks it: stage0's size, and that it cannot panic
    Build,
    Test(test::Test),
    Fuzz(fuzz::Fuzz),
    Size(size::Size),
    Bench(bench::Bench),
    Explain(explain::Explain),
    Doctor(doctor::Doctor),
    Ci(ci::Ci),
}

fn main() -> ExitCode {
    match dispatch(&Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nerror: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn dispatch(command: &Command) -> Result<bool> {
    match command {
        Command::Flash(flash) => flash.run(),
        Command::Run(run) => run.run(),
        Command::Release(release) => release.run(),
        Command::Build => build(),
        Command::Test(test) => test.run(),
        Command::Fuzz(fuzz) => fuzz.run(),
        Command::Size(size) => size.run(),
        Command::Bench(bench) => bench.run(),
        Command::Explain(explain) => explain.run().map(|()| true),
        Command::Doctor(doctor) => doctor.run(),
        Command::Ci(ci) => ci.run(),
    }
}

fn build() -> Result<bool> {
    let firmware = firmware::build()?;
    for program in [&firmware.stage0, &firmware.stage1, &firmware.stage2, &firmware.payload] {
        let size = progress::bytes(program.flat.bytes.len() as u64);
        println!("{:<20} {size:>10}  {}", program.name, workspace::shown(&program.bin));
    }
    Ok(true)
}

/// Shows an error and what led to it, each on a line of its own.
fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n  because: ")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_explains_itself() {
        let mut cli = Cli::command();
        cli.build();
        for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
            }
        }
        cli.debug_assert();
    }
}
