//! Fabrication: what the silicon vendor does, modelled.

use crate::files::{self, Readers};
use crate::{DeviceFiles, Error, SiliconVendor};
use boot_crypto::host::random;
use boot_crypto::{Key, die_key};
use lifecycle::{Fabrication, OtpImage, Plan, vendor};
use memory_map::qemu_virt::{DISK_MIN, FLASH1, OTP, STAGE0_ROM, VENDOR_CERTIFICATE};
use std::fs::OpenOptions;

/// A die as the vendor delivers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricatedDie {
    /// Tells dies apart.
    pub chip_id: [u8; 16],
    /// Its certificate and that of the CA that issued it, each as DER.
    pub certificates: Vec<Vec<u8>>,
}

/// Makes a new device around a blank die: stage0 in its ROM, a random chip id and silicon secret in locked fuses,
/// the vendor's certificates behind them, everything else erased.
///
/// The silicon secret is in the fuses and nowhere else: it is forgotten when this returns.
///
/// # Errors
/// A stage0 that its ROM has no room for; files that cannot be written, or are there already.
pub fn fabricate(vendor: &SiliconVendor, stage0: &[u8], files: &DeviceFiles) -> Result<FabricatedDie, Error> {
    let chip_id = random();
    let silicon_secret = Key::new(random());
    let (die, bank) = make_die(vendor, chip_id, &silicon_secret)?;
    let flash0 = crate::FlashLayout { stage0, slot_a: None, slot_b: None, otp: &bank }.image()?;
    crate::flash::fits("stage0", stage0, STAGE0_ROM.size)?;
    files::make_folder(files.folder())?;
    files::write_new(&files.flash0(), &flash0, Readers::Anyone)?;
    files::write_new(&files.flash1(), &vec![0xFF; FLASH1.size as usize], Readers::Anyone)?;
    let disk = OpenOptions::new().write(true).create_new(true).open(files.disk());
    disk.and_then(|disk| disk.set_len(DISK_MIN))
        .map_err(|error| Error::Write { path: files.disk(), error })?;
    Ok(die)
}

/// Makes a die with this chip id and silicon secret, and returns the bytes of its OTP bank. For tests of devices,
/// which have to know the secret.
///
/// # Errors
/// None in practice; making certificates is fallible.
pub fn make_die(
    vendor: &SiliconVendor,
    chip_id: [u8; 16],
    silicon_secret: &Key,
) -> Result<(FabricatedDie, Vec<u8>), Error> {
    let mut otp = OtpImage::blank();
    let plan = Plan::fabrication(&Fabrication { chip_id, silicon_secret });
    plan.check(&otp).and_then(|plan| plan.burn(&mut otp)).map_err(Error::Fuses)?;

    let leaf = vendor.certify(&chip_id, &die_key(silicon_secret).public())?;
    let certificates = vec![leaf, vendor.issuing().to_vec()];
    let chain = vendor::encode(&certificates);
    crate::flash::fits("the vendor's certificates", &chain, VENDOR_CERTIFICATE.size)?;
    let mut bank = otp.to_flash(OTP.size as usize);
    let place = (VENDOR_CERTIFICATE.base - OTP.base) as usize;
    bank[place..place + chain.len()].copy_from_slice(&chain);
    Ok((FabricatedDie { chip_id, certificates }, bank))
}
