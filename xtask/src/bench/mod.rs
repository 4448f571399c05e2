//! `cargo xtask bench`: how fast Kiln is, next to what it is measured by. Nothing here judges: figures are shown and
//! written, and no test depends on them.

mod authority;
mod boot;
mod limit;
mod plaintext;
mod provisioning;
mod stats;
mod u_boot;

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use serde::Serialize;

use crate::workspace;

/// Measures how fast a device boots, how fast it is provisioned, and how fast an authority answers.
///
/// Without a command: the boot of a device, against U-Boot on the same kernel.
#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    boot: boot::Boot,
}

#[derive(Subcommand, Debug)]
enum What {
    Provisioning(provisioning::Provisioning),
    Authority(authority::Tickets),
}

impl Bench {
    /// Runs the command; `Ok(false)` if a limit that was asked for is passed.
    ///
    /// # Errors
    /// If something cannot be built or measured.
    pub fn run(&self) -> Result<bool> {
        match &self.what {
            None => self.boot.run(),
            Some(What::Provisioning(bench)) => bench.run().map(|()| true),
            Some(What::Authority(bench)) => bench.run().map(|()| true),
        }
    }
}

/// Writes figures as JSON.
fn write(file: &Path, figures: &impl Serialize) -> Result<()> {
    fs::write(file, serde_json::to_vec_pretty(figures)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    println!("figures: {}", workspace::shown(file));
    Ok(())
}
