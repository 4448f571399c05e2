//! `[update]` in `kiln.toml`.

use super::config::{version, write_version};
use crate::{Error, ReleaseProfile, UpdateKey};
use sealed_image::Version;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The update image of the release.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct UpdateConfig {
    /// The product's update key, as `kiln update-key` makes it.
    pub key: PathBuf,
    /// The lowest version that the update can be installed over.
    #[serde(deserialize_with = "version", serialize_with = "write_version")]
    pub minimum_version: Version,
    /// Whether it brings the production stage. Where that did not change, devices may keep their own.
    #[serde(default = "yes")]
    pub stage2: bool,
    /// Whether the package brings the update key to the devices that are made from it, as a secret.
    #[serde(default = "yes")]
    pub provision: bool,
}

fn yes() -> bool {
    true
}

impl UpdateConfig {
    /// Checks what the form does not say, for a release of this version; names the key that is wrong.
    pub(super) fn check(&self, version: Version) -> Result<(), (&'static str, String)> {
        if self.minimum_version < version {
            return Ok(());
        }
        let reason = format!(
            "`minimum-version` is that of devices which are older than {version}, the version of the release"
        );
        Err(("minimum-version", reason))
    }

    /// Reads the update key, which must be that of the product.
    pub(super) fn read_key(&self, product: &str, profile: ReleaseProfile) -> Result<UpdateKey, Error> {
        UpdateKey::read(&self.key, profile)?.of_product(product, &self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ReleaseConfig;
    use std::path::Path;

    const DEMO: &str = include_str!("../../../../demo/kiln.toml");

    fn parse(from: &str, to: &str) -> Result<ReleaseConfig, (Option<usize>, String)> {
        assert!(DEMO.contains(from), "{from}");
        match ReleaseConfig::parse(&DEMO.replacen(from, to, 1), Path::new("kiln.toml")) {
            Err(Error::Config { line, reason, .. }) => Err((line, reason)),
            other => Ok(other.unwrap()),
        }
    }

    #[test]
    fn an_update_brings_all_unless_its_table_says_otherwise() {
        let with = |from: &str, to: &str| {
            let mut config = parse(from, to).unwrap();
            let written = config.to_toml().unwrap();
            assert_eq!(ReleaseConfig::parse(&written, Path::new("kiln.toml")).unwrap(), config, "{written}");
            config.resolve(Path::new("here"));
            config.update.unwrap()
        };
        let update = with("0.0.1", "0.0.9");
        assert_eq!(update.key, Path::new("here/update.key"));
        assert_eq!(update.minimum_version, Version::new(0, 0, 9));
        assert!(update.stage2 && update.provision);
        let update = with("# stage2 = false", "stage2 = false");
        assert!(!update.stage2 && update.provision);
        let update = with("# provision = false", "provision = false");
        assert!(update.stage2 && !update.provision);
    }

    #[test]
    fn a_table_that_no_device_could_follow_is_refused_with_its_line() {
        let line = DEMO.lines().position(|line| line.starts_with("minimum-version")).unwrap() + 1;
        for (minimum, words) in
            [("0.1.0", "older than 0.1.0"), ("2.0.0", "older than 0.1.0"), ("1", "MAJOR.MINOR.PATCH")]
        {
            let (at, reason) = parse("0.0.1", minimum).unwrap_err();
            assert!(reason.contains(words), "{minimum}: {reason}");
            assert_eq!(at, Some(line), "{minimum}: {reason}");
        }
        for (from, to, words) in [
            ("minimum-version = \"0.0.1\"", "", "missing field `minimum-version`"),
            ("key = \"update.key\"", "", "missing field `key`"),
            ("# stage2 = false", "stage2 = \"no\"", "expected a boolean"),
            ("# stage2 = false", "minimal = 1", "unknown field `minimal`"),
            ("# stage2 = false", "stage-2 = false", "did you mean `stage2`?"),
        ] {
            let (_, reason) = parse(from, to).unwrap_err();
            assert!(reason.contains(words), "{to}: {reason}");
        }
    }
}
