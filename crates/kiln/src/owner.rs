//! `kiln owner`: the keys of an owner.

use crate::{Failure, output};
use clap::Args;
use memory_map::qemu_virt::BOARD;
use release::{KeyPlace, OwnerKeys, Passphrase, TokenUri, hex};
use serde_json::json;
use std::path::PathBuf;

/// Makes the keys of a firmware owner: a root, and one for each role.
///
/// With --pkcs11 root, boot, provision and os are made on a token and never leave it; the folder says where they are. The
/// PIN comes from KILN_PIN, or is asked for. Without it the keys lie in files, encrypted with a passphrase that comes from
/// KILN_PASSPHRASE or is asked for: for development, as a production profile refuses them. The authority makes its own key. Keys
/// that are there already are never replaced.
#[derive(Args, Debug)]
pub(crate) struct Owner {
    /// The folder for the keys, made if it is not there
    folder: PathBuf,
    /// The token for the keys: pkcs11:token=LABEL?module-path=/path/of/the/module.so (RFC 7512)
    #[arg(long, value_name = "URI")]
    pkcs11: Option<String>,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Owner {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let token = self.pkcs11.as_deref().map(TokenUri::parse).transpose()?;
        let keys = match &token {
            Some(token) => OwnerKeys::found_in(&self.folder, KeyPlace::Token(token)),
            None => OwnerKeys::found_in(&self.folder, KeyPlace::Files(&Passphrase::for_new(&self.folder)?)),
        };
        let owner = keys?.owner(BOARD)?;
        let facts = [
            ("folder", json!(self.folder)),
            ("keys", json!(token.map_or_else(|| "encrypted files".into(), |token| token.to_string()))),
            ("root digest", json!(hex(&owner.root_digest()))),
            ("roles", json!(["boot", "provision", "os"])),
        ];
        output::print(self.json, "A new owner:", &facts);
        Ok(())
    }
}
