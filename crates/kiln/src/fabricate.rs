//! `kiln fabricate`: a blank die.

use crate::{Failure, output};
use clap::Args;
use release::{DeviceFiles, SiliconVendor, fabricate, hex};
use serde_json::json;
use std::path::PathBuf;

/// Makes a device around a blank die, as a silicon vendor would.
///
/// A model: on QEMU the fuses are a block of the device's flash file. The die gets a random id, a random secret that
/// nobody keeps, and a certificate of the model vendor over its key. Give the vendor's root certificate
/// (vendor-root.pem) to the lot that its dies are for.
#[derive(Args, Debug)]
pub(crate) struct Fabricate {
    /// The folder for the device, with flash0.img, flash1.img and disk.img
    device: PathBuf,
    /// The first boot stage as a flat binary: the mask ROM
    #[arg(long, value_name = "FILE")]
    stage0: PathBuf,
    /// The folder of the model vendor, made if it is not there
    #[arg(long, value_name = "FOLDER")]
    vendor: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

impl Fabricate {
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let stage0 = crate::package::read(&self.stage0)?;
        let vendor = SiliconVendor::read_or_found(&self.vendor)?;
        let die = fabricate(&vendor, &stage0, &DeviceFiles::new(&self.device))?;
        let facts = [
            ("device", json!(self.device)),
            ("chip id", json!(hex(&die.chip_id))),
            ("lifecycle", json!("blank")),
            ("vendor root", json!(self.vendor.join("vendor-root.pem"))),
        ];
        output::print(self.json, "A blank die (model):", &facts);
        Ok(())
    }
}
