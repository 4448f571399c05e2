//! `kiln-authority`: the authority as a program of its own.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use authority::cli::Cli;
use clap::Parser as _;

fn main() -> ExitCode {
    Cli::parse().run()
}
