//! `kiln owner`: the keys of a demonstration owner.

use crate::{Failure, output};
use clap::Args;
use memory_map::qemu_virt::BOARD;
use release::{OwnerKeys, hex};
use serde_json::json;
use std::path::PathBuf;

/// Makes the keys of a firmware owner: a root, and one for each role.
///
/// For demonstrations and tests: the keys lie in files of mode 0600. A product keeps its root offline and its role
/// keys in a hardware module. Keys that are there already are never replaced.
#[derive(Args, Debug)]
pub(crate) struct Owner {
    /// The folder for the keys, made if it is not there
    folder: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Owner {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let keys = OwnerKeys::found();
        keys.write(&self.folder)?;
        let owner = keys.owner(BOARD)?;
        let facts = [
            ("folder", json!(self.folder)),
            ("root digest", json!(hex(&owner.root_digest()))),
            ("roles", json!(["boot", "provision", "os", "authority"])),
        ];
        output::print(self.json, "A new owner:", &facts);
        Ok(())
    }
}
