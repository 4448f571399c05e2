//! `kiln preprovision`: burns a die for its owner.

use crate::{Failure, output};
use clap::Args;
use lifecycle::{Fuses, Lifecycle, Row};
use release::{DeviceFiles, PackageRelease, Start, hex, preprovision};
use serde_json::json;
use std::path::PathBuf;

/// Burns a blank die for an owner, and writes the package to its storage.
///
/// Takes only a die that nobody has burned, with erased storage. Burns, in this order: debug lock, owner root digest,
/// locks of the spare root slots, provision floor, secure boot, provisioning key, lifecycle; reads everything back; then
/// writes stage1 to both boot slots and the package to the disk. Whoever runs this learns the provisioning key.
#[derive(Args, Debug)]
pub(crate) struct Preprovision {
    /// The folder of the device
    device: PathBuf,
    /// The package's folder
    #[arg(long, value_name = "FOLDER")]
    package: PathBuf,
    /// Carry on with a die whose pre-provisioning with this very package was cut off
    #[arg(long)]
    resume: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Preprovision {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let files = DeviceFiles::new(&self.device);
        let release = PackageRelease::read(&self.package)?;
        // A die that is refused anyway is not worth a question.
        if self.resume || Fuses::read_lifecycle(&files.otp()?) == Ok(Lifecycle::Blank) {
            let what = format!(
                "Burns the die of {} for the owner {}: lifecycle blank → secured.",
                self.device.display(),
                hex(&release.facts.policy.root_digest)
            );
            output::confirm(&what, "burn", self.yes)?;
        }
        let start = if self.resume { Start::Interrupted } else { Start::Blank };
        let done = preprovision(&files, &release, start)?;
        let rows: Vec<_> =
            Row::ALL.iter().filter(|row| done.rows.contains(**row)).map(|row| format!("{row:?}")).collect();
        let facts = [
            ("device", json!(self.device)),
            ("chip id", json!(hex(&done.chip_id))),
            ("lifecycle", json!(done.facts.lifecycle.name())),
            ("rows burned", json!(rows)),
            ("fuse digest", json!(hex(&done.facts.digest()))),
            ("bytes written", json!(done.written)),
        ];
        output::print(self.json, "The die is pre-provisioned:", &facts);
        Ok(())
    }
}
