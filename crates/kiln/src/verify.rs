//! `kiln verify`: what a device would make of a package.

use crate::{Failure, output};
use clap::Args;
use release::{ContentKey, PackageRelease, hex, inspect_slot};
use serde_json::json;
use std::path::PathBuf;

/// Checks a package as a device would.
///
/// Without the content key: that its files belong together and that a die boots its stage1. With it: also every object,
/// to the last byte.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The package's folder
    package: PathBuf,
    /// The file with the content key
    #[arg(long, value_name = "FILE")]
    content_key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Verify {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let release = PackageRelease::read(&self.package)?;
        release.check()?;
        let opened = match &self.content_key {
            Some(file) => release.open(&ContentKey::read(file)?)?.len(),
            None => 0,
        };
        let objects: Vec<_> = inspect_slot(&release.package)?
            .iter()
            .map(|image| format!("{} {}", image.kind.name(), image.version))
            .collect();
        let facts = [
            ("package", json!(self.package)),
            ("package id", json!(hex(&release.facts.package_id))),
            ("board", json!(release.facts.board)),
            ("version", json!(release.facts.version.to_string())),
            ("owner root", json!(hex(&release.facts.policy.root_digest))),
            ("objects", json!(objects)),
            ("objects opened", json!(opened)),
        ];
        output::print(self.json, "The package is sound:", &facts);
        if opened == 0 {
            eprintln!("Its objects were not opened: that takes --content-key.");
        }
        Ok(())
    }
}
