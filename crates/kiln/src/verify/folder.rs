//! Release folders.

use super::{Verify, as_json, root_missing};
use crate::{Failure, output};
use release::{
    Check, ContentKey, DEVICE_TREE, Error, OpeningKeys, ReleaseProfile, Revocations, Trusted, UPDATE_FOLDER,
    UpdateKey, hex, read_root, read_root_key, verify_release,
};
use serde_json::json;
use std::path::PathBuf;

fn no_update() -> Failure {
    Failure::new(
        "the release has no update image that --update-key could open",
        "Leave --update-key out, or make the release with [update] in its kiln.toml.",
    )
}

impl Verify {
    pub(super) fn release(&self) -> Result<(), Failure> {
        let Some(path) = &self.root else {
            return Err(root_missing());
        };
        self.refuse_unused()?;
        let root = read_root(path)?;
        let revoked = self.revoked.iter().map(|path| read_root(path)).collect::<Result<_, _>>()?;
        let trusted = Trusted { root, revoked, floors: self.floors() };
        let content_key = self.key.as_deref().map(ContentKey::read).transpose()?;
        // Before anybody is asked for a passphrase.
        let brings_update = self.path.join(UPDATE_FOLDER).symlink_metadata().is_ok();
        if self.update_key.is_some() && !brings_update {
            return Err(no_update());
        }
        let update_key = |path: &PathBuf| UpdateKey::read(path, ReleaseProfile::Development);
        let update_key = self.update_key.as_ref().map(update_key).transpose()?;
        let mut checks = Vec::new();
        let keys = OpeningKeys { content_key: content_key.as_ref(), update_key: update_key.as_ref() };
        let verified = verify_release(&self.path, &trusted, &keys, &mut checks);
        self.say(&checks);
        let failed = |error| Failure::from(error).after(as_json(&checks));
        let verified = verified.map_err(failed)?;
        if update_key.is_some() && verified.update.is_none() {
            return Err(no_update());
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
        let mut unchecked = Vec::new();
        if content_key.is_none() {
            unchecked.push(
                "the payloads of the package and their places, which takes its content key: --content-key FILE",
            );
        }
        if verified.update.is_some() && update_key.is_none() {
            unchecked.push(
                "the payloads of the update, what its bundle names, and their places: --update-key FILE",
            );
        }
        if content_key.is_some() || update_key.is_some() {
            unchecked.push(DEVICE_TREE);
        }
        if self.revoked_keys.is_none() {
            unchecked.push("whether the root took a key back that signed it: --revoked-keys FILE");
        }
        let release = &verified.manifest;
        let mut facts = vec![
            ("release", json!(self.path)),
            ("product", json!(release.product)),
            ("board", json!(release.board)),
            ("version", json!(release.version.to_string())),
            ("rollback index", release.rollback_index.to_json()),
            ("package id", json!(hex(&verified.facts.package_id))),
            ("owner root", json!(hex(&root))),
        ];
        if self.json {
            facts.push(("checks", as_json(&checks)));
            facts.push(("not checked", json!(unchecked)));
        } else {
            unchecked.iter().for_each(|what| eprintln!("  --   not checked: {what}"));
        }
        output::print(self.json, "The release is sound:", &facts);
        Ok(())
    }

    /// Refuses what is given and does not count for a release: its devices are production devices.
    fn refuse_unused(&self) -> Result<(), Error> {
        let given = [
            ("--development", self.development),
            ("--as", self.expected.is_some()),
            ("--delegation", self.delegation.is_some()),
            ("--request", self.request.is_some()),
            ("--package", self.package.is_some()),
        ];
        match given.into_iter().find(|(_, given)| *given) {
            Some((option, _)) => Err(Error::OptionUnused { option, what: "release" }),
            None => Ok(()),
        }
    }
}
