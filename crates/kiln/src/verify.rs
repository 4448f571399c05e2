//! `kiln verify`: what a device would make of a release or a package.

use crate::{Failure, output};
use clap::Args;
use release::{
    ContentKey, Error, OpeningKeys, PackageRelease, ReleaseProfile, UpdateKey, hex, inspect_slot,
    is_release_folder, read_root, verify_release,
};
use serde_json::{Map, json};
use std::path::PathBuf;

/// Verifies a release folder, or a package, as a device would.
///
/// Of a release folder every file is checked, against the owner root that --root names; each check is listed. Without the
/// content key nothing is decrypted; with it every object is opened too, to the last byte.
#[derive(Args, Debug)]
pub(crate) struct Verify {
    /// The folder of the release, or of the package
    folder: PathBuf,
    /// The owner root's public key (PEM), from somewhere else than the folder: whose release it must be
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// The file with the content key
    #[arg(long, value_name = "FILE")]
    content_key: Option<PathBuf>,
    /// The file with the product's update key, which opens the update image
    #[arg(long, value_name = "FILE")]
    update_key: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Verify {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        if is_release_folder(&self.folder) { self.release() } else { self.package() }
    }

    fn release(&self) -> Result<(), Failure> {
        let Some(root) = &self.root else {
            return Err(Failure::new(
                "a folder cannot say by itself whose release it is",
                "Give the owner root's public key with --root FILE, as you have it from the owner.",
            ));
        };
        let root = read_root(root)?;
        let content_key = self.content_key.as_deref().map(ContentKey::read).transpose()?;
        let update_key = self.update_key.as_deref();
        let update_key =
            update_key.map(|file| UpdateKey::read(file, ReleaseProfile::Development)).transpose()?;
        let mut checks = Vec::new();
        let keys = OpeningKeys { content_key: content_key.as_ref(), update_key: update_key.as_ref() };
        let verified = verify_release(&self.folder, root, &keys, &mut checks);
        if !self.json {
            checks.iter().for_each(|check| eprintln!("  ok   {}: {}", check.name, check.detail));
        }
        let verified = verified?;
        if update_key.is_some() && verified.update.is_none() {
            return Err(Failure::new(
                "the release has no update image that --update-key could open",
                "Leave --update-key out, or make the release with [update] in its kiln.toml.",
            ));
        }
        let release = &verified.manifest;
        let mut facts = vec![
            ("release", json!(self.folder)),
            ("product", json!(release.product)),
            ("board", json!(release.board)),
            ("version", json!(release.version.to_string())),
            ("rollback index", json!(release.rollback_index)),
            ("package id", json!(hex(&verified.facts.package_id))),
            ("owner root", json!(hex(&root))),
        ];
        if self.json {
            let checks = checks.iter().map(|check| (check.name.to_owned(), json!(check.detail)));
            facts.push(("checks", json!(checks.collect::<Map<_, _>>())));
        }
        output::print(self.json, "The release is sound:", &facts);
        if content_key.is_none() {
            eprintln!("Its payloads were not opened: that takes --content-key.");
        }
        Ok(())
    }

    fn package(&self) -> Result<(), Failure> {
        let release = PackageRelease::read(&self.folder)?;
        release.check()?;
        if let Some(file) = &self.root
            && read_root(file)? != release.facts.policy.root_digest
        {
            return Err(Error::ReleaseMixed { what: "the package is for dies of another owner root" }.into());
        }
        let opened = match &self.content_key {
            Some(file) => release.open(&ContentKey::read(file)?)?.len(),
            None => 0,
        };
        let objects: Vec<_> = inspect_slot(&release.package)?
            .iter()
            .map(|image| format!("{} {}", image.kind.name(), image.version))
            .collect();
        let facts = [
            ("package", json!(self.folder)),
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
