//! `kiln completions`: for the shell.

use crate::{Cli, Failure};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

/// Prints completions for a shell.
///
/// bash: kiln completions bash > ~/.local/share/bash-completion/completions/kiln
#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        clap_complete::generate(self.shell, &mut Cli::command(), "kiln", &mut std::io::stdout());
        Ok(())
    }
}
