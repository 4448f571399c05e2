//! Folders: releases and packages.

use super::{Verify, as_json, root_missing};
use crate::{Failure, output};
use release::{
    Check, ContentKey, Error, OpeningKeys, PackageRelease, ReleaseProfile, Revocations, UpdateKey, hex,
    inspect_slot, read_root, read_root_key, verify_release,
};
use serde_json::json;

impl Verify {
    pub(super) fn release(&self) -> Result<(), Failure> {
        let Some(path) = &self.root else {
            return Err(root_missing());
        };
        let root = read_root(path)?;
        let content_key = self.key.as_deref().map(ContentKey::read).transpose()?;
        let update_key = self.update_key.as_deref();
        let update_key =
            update_key.map(|file| UpdateKey::read(file, ReleaseProfile::Development)).transpose()?;
        let mut checks = Vec::new();
        let keys = OpeningKeys { content_key: content_key.as_ref(), update_key: update_key.as_ref() };
        let verified = verify_release(&self.path, root, &keys, &mut checks);
        self.say(&checks);
        let failed = |error| Failure::from(error).after(as_json(&checks));
        let verified = verified.map_err(failed)?;
        if update_key.is_some() && verified.update.is_none() {
            return Err(Failure::new(
                "the release has no update image that --update-key could open",
                "Leave --update-key out, or make the release with [update] in its kiln.toml.",
            ));
        }
        if let Some(list) = &self.revoked_keys {
            let list = Revocations::read(list, &read_root_key(path)?)?;
            list.admit(&verified.signers).map_err(failed)?;
            let detail =
                format!("none of the {} that list {} names signed it", list.keys().len(), list.number());
            let check = Check { name: "revoked keys", detail };
            self.say(std::slice::from_ref(&check));
            checks.push(check);
        }
        let release = &verified.manifest;
        let mut facts = vec![
            ("release", json!(self.path)),
            ("product", json!(release.product)),
            ("board", json!(release.board)),
            ("version", json!(release.version.to_string())),
            ("rollback index", json!(release.rollback_index)),
            ("package id", json!(hex(&verified.facts.package_id))),
            ("owner root", json!(hex(&root))),
        ];
        if self.json {
            facts.push(("checks", as_json(&checks)));
        }
        output::print(self.json, "The release is sound:", &facts);
        if content_key.is_none() {
            eprintln!("Its payloads were not opened: that takes --content-key.");
        }
        Ok(())
    }

    pub(super) fn package(&self) -> Result<(), Failure> {
        let release = PackageRelease::read(&self.path)?;
        release.check()?;
        if let Some(file) = &self.root
            && read_root(file)? != release.facts.policy.root_digest
        {
            return Err(Error::ReleaseMixed { what: "the package is for dies of another owner root" }.into());
        }
        let opened = match &self.key {
            Some(file) => release.open(&ContentKey::read(file)?)?.len(),
            None => 0,
        };
        let objects: Vec<_> = inspect_slot(&release.package)?
            .iter()
            .map(|image| format!("{} {}", image.kind.name(), image.version))
            .collect();
        let facts = [
            ("package", json!(self.path)),
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
