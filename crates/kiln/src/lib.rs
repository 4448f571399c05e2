//! What the command `kiln` does, as a library: the developer's tool shares parts of it.
//!
//! ```text
//!  keys            an owner's keys: create, delegate, list, revoke   ─┐
//!  update-key      the key that updates of a product are encrypted with
//!  release         all that a kiln.toml names ──▶ release folder     ├ release engineer
//!  package         firmware and system ──▶ encrypted package         │
//!  verify          what a device would make of either               ─┘
//!  inspect         what any artefact says about itself
//!  fabricate       a blank die; models the silicon vendor           ─┐
//!  preprovision    burns it for the owner, writes the package       ─┴ whom the owner trusts with dies
//!  authority       counts and authorises installs, certifies devices  owner
//!  station         relays between devices and the authority           factory
//!  explain         a refusal code ──▶ cause and cure
//!  completions     for the shell
//! ```
//!
//! Progress and questions go to stderr, results to stdout; with `--json` a result, or a failure, is one JSON object
//! there. The exit status is 0, or 1 for a failure, or 2 for a command line that is not understood.
#![forbid(unsafe_code)]

mod burn;
mod completions;
pub mod explain;
mod fabricate;
mod failure;
mod fit_args;
mod inspect;
mod keys;
mod output;
mod package;
mod release_folder;
mod update_key;
mod verify;

pub use failure::Failure;
pub use fit_args::FitArgs;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Takes devices from blank silicon to closed production devices.
///
/// Every command explains itself with --help. `kiln explain CODE` tells the cause and the cure of a refusal.
#[derive(Parser, Debug)]
#[command(name = "kiln", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    #[command(subcommand)]
    Keys(keys::Keys),
    UpdateKey(update_key::UpdateKey),
    Release(release_folder::Release),
    Package(Box<package::Package>),
    Verify(verify::Verify),
    Inspect(inspect::Inspect),
    Fabricate(fabricate::Fabricate),
    Preprovision(burn::Preprovision),
    Authority(Box<authority::cli::Command>),
    Station(Box<station::Station>),
    Explain(explain::Explain),
    Completions(completions::Completions),
}

impl Cli {
    /// Runs the command, prints its result or its failure, and returns the exit status.
    pub fn run(&self) -> ExitCode {
        let (json, result) = match &self.command {
            Command::Authority(command) => return command.run(),
            // A station prints a record for each device; that one was refused is no failure of the command's.
            Command::Station(command) => match command.run() {
                Ok(all) => return if all { ExitCode::SUCCESS } else { ExitCode::FAILURE },
                Err(error) => (false, Err(error.into())),
            },
            Command::Keys(command) => (command.json(), command.run()),
            Command::UpdateKey(command) => (command.json, command.run()),
            Command::Release(command) => (command.json, command.run()),
            Command::Package(command) => (command.json, command.run()),
            Command::Verify(command) => (command.json, command.run()),
            Command::Inspect(command) => (command.json, command.run()),
            Command::Fabricate(command) => (command.json, command.run()),
            Command::Preprovision(command) => (command.json, command.run()),
            Command::Explain(command) => (command.json, command.run("kiln")),
            Command::Completions(command) => (false, command.run()),
        };
        match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                failure.print(json);
                ExitCode::FAILURE
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound_and_explains_itself() {
        let mut cli = Cli::command();
        cli.build();
        let mut looked_at = 0;
        for command in cli.get_subcommands().filter(|command| command.get_name() != "help") {
            assert!(command.get_about().is_some(), "{} has no help", command.get_name());
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {}", command.get_name(), argument.get_id());
                looked_at += 1;
            }
        }
        assert!(looked_at >= 30, "only {looked_at} arguments were looked at");
        cli.debug_assert();
    }
}
