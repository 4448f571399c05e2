//! Files, and the storage of devices.

use super::{Verify, as_json, root_missing};
use crate::{Failure, output};
use release::{
    Check, Error, Means, Verdict, hex, read_root_key, read_secret, verify_artefact, verify_package,
    verify_update,
};
use sealed_image::PublicKey;
use serde_json::json;
use std::path::Path;

impl Verify {
    /// Verifies a file, or the folder of a device.
    pub(super) fn artefact(&self) -> Result<(), Failure> {
        self.judge(verify_artefact)
    }

    /// Verifies the folder of a package.
    pub(super) fn package(&self) -> Result<(), Failure> {
        self.judge(verify_package)
    }

    fn judge(
        &self,
        verify: impl FnOnce(&Path, &Means, &mut Vec<Check>) -> Result<Verdict, Error>,
    ) -> Result<(), Failure> {
        let means = self.means()?;
        let mut checks = Vec::new();
        let verdict = verify(&self.path, &means, &mut checks);
        self.say(&checks);
        let verdict = verdict.map_err(|error| Failure::from(error).after(as_json(&checks)))?;
        let mut facts = vec![("file", json!(self.path)), ("artefact", json!(verdict.artefact))];
        facts.extend(verdict.facts);
        facts.push(("owner root", json!(hex(&PublicKey::P256(means.root).thumbprint()))));
        if self.json {
            facts.push(("checks", as_json(&checks)));
            facts.push(("not checked", json!(verdict.unchecked)));
        } else {
            verdict.unchecked.iter().for_each(|what| eprintln!("  --   not checked: {what}"));
        }
        output::print(self.json, "It is sound:", &facts);
        Ok(())
    }

    /// Verifies the folder of an update.
    pub(super) fn update(&self) -> Result<(), Failure> {
        self.judge(verify_update)
    }

    fn means(&self) -> Result<Means, Failure> {
        let root = self.root.as_deref().ok_or_else(root_missing)?;
        let revoked = self.revoked.iter().map(|path| read_root_key(path)).collect::<Result<_, _>>()?;
        Ok(Means {
            revoked,
            floors: self.floors(),
            development: self.development,
            expected: self.expected,
            key: self.key.as_deref().map(read_secret).transpose()?,
            update_key: self.update_key.clone(),
            delegation: self.delegation.clone(),
            request: self.request.clone(),
            package: self.package.clone(),
            ..Means::new(read_root_key(root)?)
        })
    }
}
