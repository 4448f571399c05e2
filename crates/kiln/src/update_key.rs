//! `kiln update-key`: the key that updates of a product are encrypted with.

use crate::{Failure, output};
use clap::Args;
use release::Passphrase;
use serde_json::json;
use std::path::PathBuf;

/// Makes the update key of a product.
///
/// Update images are encrypted with it, and every device of the product gets it, inside of its package: name the file as `key` in
/// [update] of the kiln.toml. The file is encrypted with a passphrase that comes from KILN_PASSPHRASE or is asked for. One key
/// serves all releases of the product: without it devices that are in the field cannot be updated any more, so keep a copy
/// where fire does not reach both. A file that is there already is never replaced.
#[derive(Args, Debug)]
pub(crate) struct UpdateKey {
    /// The file for the key; it must not be there
    file: PathBuf,
    /// The product: the same as `product` in its kiln.toml
    #[arg(long, value_name = "NAME")]
    product: String,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl UpdateKey {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let key = release::UpdateKey::generate(&self.product, &self.file)?;
        // Before somebody thinks of a passphrase for nothing.
        if self.file.symlink_metadata().is_ok() {
            return Err(release::Error::OutputThere { path: self.file.clone() }.into());
        }
        key.write(&self.file, Some(&Passphrase::for_new(&self.file)?))?;
        let facts = [("file", json!(self.file)), ("product", json!(self.product))];
        output::print(self.json, "A new update key:", &facts);
        Ok(())
    }
}
