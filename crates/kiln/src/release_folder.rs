//! `kiln release`: everything that a release is, from one file.

use crate::{Failure, FitArgs, output};
use clap::Args;
use release::{FitFacts, FitSource, ReleaseConfig, ReleasePlaces, hex, make_release};
use serde_json::{Value, json};
use std::path::PathBuf;

/// Makes a release folder as a kiln.toml says.
///
/// The folder holds the provisioning package, the signed manifests, an SBOM, the provenance, and one signed manifest of
/// all of it, which `kiln verify` checks. It appears as a whole, or not at all. The content key, which opens the package,
/// is in it too, sealed to the authority whose key the kiln.toml names (`authority-key`). With [update] in the kiln.toml there is an
/// update image as well, for devices in the field.
#[derive(Args, Debug)]
pub(crate) struct Release {
    /// What the release is made of
    #[arg(long, value_name = "FILE", default_value = "kiln.toml")]
    config: PathBuf,
    /// The folder for the release; it must not be there
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// Without an `authority-key`: the file for the content key, in the clear; it must not be there, nor lie in the folder
    #[arg(long, value_name = "FILE")]
    content_key: Option<PathBuf>,
    /// The folder of the release before: the version must rise, the rollback index must not fall
    #[arg(long, value_name = "FOLDER")]
    previous: Option<PathBuf>,
    /// The commit that the stages are built from, in place of `commit` in the configuration, for the provenance
    #[arg(long, value_name = "HEX")]
    commit: Option<String>,
    #[command(flatten)]
    fit: FitArgs,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Release {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let (config, taken) = match self.fit.source() {
            Some(fit) => {
                let (config, facts) = ReleaseConfig::read_with_fit(&self.config, &fit)?;
                let said = said(&fit, &facts);
                (config, Some(said))
            }
            None => (ReleaseConfig::read(&self.config)?, None),
        };
        let config = match &self.commit {
            Some(commit) => config.with_commit(commit)?,
            None => config,
        };
        let places = ReleasePlaces {
            folder: &self.out,
            content_key: self.content_key.as_deref(),
            previous: self.previous.as_deref(),
        };
        let made = make_release(&config, &places)?;
        let checks: Vec<_> = made.checks.iter().map(|check| check.name).collect();
        let mut facts = vec![
            ("release", json!(self.out)),
            ("product", json!(made.manifest.product)),
            ("version", json!(made.manifest.version.to_string())),
            ("rollback index", made.manifest.rollback_index.to_json()),
            ("package id", json!(hex(&made.package_id))),
            ("owner root", json!(hex(&made.root_digest))),
            ("files", json!(made.manifest.files.len() + 2)),
            ("checked", json!(checks)),
        ];
        facts.extend(config.update.map(|update| ("update from", json!(update.minimum_version.to_string()))));
        facts.extend(taken.into_iter().flatten());
        facts.extend(made.sealed_to.map(|authority| ("content key sealed to", json!(hex(&authority)))));
        facts.extend(self.content_key.as_ref().map(|file| ("content key", json!(file))));
        output::print(self.json, "A release:", &facts);
        if let (Some(file), false) = (&self.content_key, self.json) {
            eprintln!("Give {} to the authority, and to nobody else.", file.display());
        }
        Ok(())
    }
}

/// Says what was taken from a FIT. Which configuration is its default one is not signed, so that comes with a warning.
fn said(fit: &FitSource, facts: &FitFacts) -> Vec<(&'static str, Value)> {
    if let Some(warning) = fit.warning(&facts.configuration) {
        eprintln!("note: {warning}");
    }
    let taken: Vec<_> =
        facts.payloads.iter().map(|(kind, node)| format!("{} ({node})", kind.kind().name())).collect();
    vec![
        ("fit", json!(fit.file)),
        ("fit configuration", json!(facts.configuration)),
        ("fit signature", json!(facts.signature)),
        ("from the fit", json!(taken)),
    ]
}
