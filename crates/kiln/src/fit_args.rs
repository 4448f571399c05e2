//! The options that name a FIT.

use clap::Args;
use release::FitSource;
use std::path::PathBuf;

/// Options that take kernel, device tree and initramfs from a FIT of U-Boot's.
#[derive(Args, Clone, Debug, Default)]
pub struct FitArgs {
    /// Take kernel, device tree and initramfs from a FIT made by `mkimage`, as far as its configuration has them
    #[arg(long, value_name = "FILE", requires = "fit_key")]
    pub fit: Option<PathBuf>,
    /// The certificate, or the public key, that the FIT is signed with (PEM)
    #[arg(long, value_name = "FILE", requires = "fit")]
    pub fit_key: Option<PathBuf>,
    /// The configuration of the FIT to take [default: the FIT's own default, which no signature covers]
    #[arg(long, value_name = "NAME", requires = "fit")]
    pub fit_config: Option<String>,
}

impl FitArgs {
    /// Returns the FIT, if one is named.
    pub fn source(&self) -> Option<FitSource> {
        let (file, key) = (self.fit.clone()?, self.fit_key.clone()?);
        Some(FitSource { file, key, configuration: self.fit_config.clone() })
    }
}
