//! `kiln`: everything that a factory, a release engineer and an owner run.
#![forbid(unsafe_code)]

use clap::Parser as _;
use kiln::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    Cli::parse().run()
}
