//! Payloads from a FIT, U-Boot's image tree, in place of files.
//!
//! # Threats
//! A FIT comes from somewhere else than `kiln.toml`, and is believed for its signature alone: the crate `fit` says what that
//! takes. What was verified is what is released: the file is read once, and the parts stay in memory. A FIT may replace
//! files and nothing else: where a payload is loaded, the command line, versions and rollback index are the owner's to say.

use crate::folder::{PayloadConfig, PayloadKind, ReleaseConfig};
use crate::{Error, files};
use fit::{Image, Key, System};
use std::ffi::OsString;
use std::path::PathBuf;

/// A FIT to take payloads from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitSource {
    /// The file.
    pub file: PathBuf,
    /// The certificate or public key that it is signed with, in PEM.
    pub key: PathBuf,
    /// The configuration to take; the default one if there is none.
    pub configuration: Option<String>,
}

/// What was taken from a FIT.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FitFacts {
    /// The configuration.
    pub configuration: String,
    /// What the FIT says about itself.
    pub description: String,
    /// The signature that holds, and its algorithm.
    pub signature: String,
    /// The kinds of payload that it gave, each with its node.
    pub payloads: Vec<(PayloadKind, String)>,
}

impl FitSource {
    /// Verifies the FIT and returns its parts.
    ///
    /// # Errors
    /// Files that cannot be read; [`Error::Fit`], [`Error::FitKey`].
    pub fn verify(&self) -> Result<System, Error> {
        let key = Key::from_pem(&files::read(&self.key)?)
            .map_err(|error| Error::FitKey { path: self.key.clone(), error })?;
        fit::verify(&files::read(&self.file)?, &key, self.configuration.as_deref())
            .map_err(|error| Error::Fit { path: self.file.clone(), error })
    }

    /// Says what to mind about the configuration that was taken: which one is the default, no signature covers.
    pub fn warning(&self, configuration: &str) -> Option<String> {
        self.configuration.is_none().then(|| {
            format!(
                "the configuration {configuration} is the FIT's default one, which its signature does not cover: --fit-config names one"
            )
        })
    }

    /// Verifies the FIT and puts its parts in the place of the files of a configuration.
    pub(crate) fn replace(&self, config: &mut ReleaseConfig) -> Result<FitFacts, Error> {
        let System { configuration, description, signature, algorithm, kernel, device_tree, ramdisk } =
            self.verify()?;
        let parts = [
            (PayloadKind::Kernel, Some(kernel)),
            (PayloadKind::DeviceTree, device_tree),
            (PayloadKind::Initramfs, ramdisk),
        ];
        let mut payloads = Vec::new();
        for (kind, image) in parts {
            let Some(Image { name, data, .. }) = image else { continue };
            // What is said about a file in errors and in the SBOM, where `kiln.toml` gives no name.
            let mut file: OsString = self.file.clone().into();
            file.push(format!("#{name}"));
            if config.of(kind).next().is_none() {
                config.payloads.push(PayloadConfig::new(kind));
            }
            if let Some(payload) = config.payloads.iter_mut().find(|payload| payload.kind == kind) {
                payload.file = file.into();
                payload.verified = Some(data);
            }
            payloads.push((kind, name));
        }
        let signature = format!("{signature} ({algorithm})");
        Ok(FitFacts { configuration, description, signature, payloads })
    }
}
