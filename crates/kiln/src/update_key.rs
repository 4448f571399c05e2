//! `kiln update-key`: the key that updates of a product are encrypted with.

use crate::{Failure, output};
use clap::Args;
use release::{KeyPlace, Passphrase, ReleaseProfile, TokenUri};
use serde_json::json;
use std::path::PathBuf;

/// Makes the update key of a product.
///
/// Update images are encrypted with it, and every device of the product gets it, inside of its package: name the file as `key` in
/// [update] of the kiln.toml. With --pkcs11 a new key of the token wraps the file, as a production profile wants it: AES-256-GCM, and the PIN comes
/// from KILN_PIN or is asked for. Without it the file is encrypted with a passphrase, for development; that comes from KILN_PASSPHRASE or is asked for.
///
/// One key serves all releases of the product: without it devices that are in the field cannot be updated any more, so keep a copy
/// where fire does not reach both: of the file and of the token, or under another token, with --from. A file that is there already
/// is never replaced.
#[derive(Args, Debug)]
pub(crate) struct UpdateKey {
    /// The file for the key; it must not be there
    file: PathBuf,
    /// The product: the same as `product` in its kiln.toml
    #[arg(long, value_name = "NAME")]
    product: String,
    /// The token that wraps it: pkcs11:token=LABEL?module-path=/path/of/the/module.so (RFC 7512); `object` may name the wrapping
    /// key to be made, which is `update-PRODUCT` else
    #[arg(long, value_name = "URI")]
    pkcs11: Option<String>,
    /// Take the key in this file of `kiln update-key`, instead of a new one: to bring it onto a token, or to a second one;
    /// a key that a token wraps does not come out of that again, so this takes --pkcs11
    #[arg(long, value_name = "FILE", requires = "pkcs11")]
    from: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl UpdateKey {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let token = self.pkcs11.as_deref().map(TokenUri::parse).transpose()?;
        // Before somebody thinks of a passphrase for nothing.
        if self.file.symlink_metadata().is_ok() {
            return Err(release::Error::OutputThere { path: self.file.clone() }.into());
        }
        let key = match &self.from {
            Some(from) => release::UpdateKey::read(from, ReleaseProfile::Development)?
                .of_product(&self.product, from)?,
            None => release::UpdateKey::generate(&self.product, &self.file)?,
        };
        let passphrase;
        let place = match &token {
            Some(token) => KeyPlace::Token(token),
            None => {
                passphrase = Passphrase::for_new(&self.file)?;
                KeyPlace::Files(&passphrase)
            }
        };
        let kept = key.write(&self.file, place)?;
        let kept = kept.map_or_else(|| "an encrypted file".into(), |token| token.to_string());
        let heading = if self.from.is_some() { "The update key, once more:" } else { "A new update key:" };
        let facts = [("file", json!(self.file)), ("product", json!(self.product)), ("kept in", json!(kept))];
        output::print(self.json, heading, &facts);
        Ok(())
    }
}
