//! Pre-provisioning: what the owner, or whom the owner trusts with it, burns and writes before a die goes to the
//! factory. An external tool does it, on the die's pins.
//!
//! # Threats
//! Somebody had the die before: only a blank one is taken, whose storage is erased. The tool or its power fails
//! midway: the debug lock burns before the provisioning key and the lifecycle burns last, so no cut leaves a die
//! that shows a key or boots anything; the same release carries on with it. The release's files were mixed up or
//! altered: what would not boot is refused before anything is burned. What the tool learns, it may tell the
//! factory: the provisioning key, and with it stage1, which therefore holds no secret.

use crate::{DeviceFiles, Error, OtpFile, PackageRelease, clear};
use lifecycle::{FuseFacts, Fuses, Plan, PreProvisioning, Row, Rows, burn, compare};
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B, PACKAGE};

/// What a die must be like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Blank, as the vendor delivers it, and all storage erased.
    #[default]
    Blank,
    /// Blank, or left by a pre-provisioning with this very release that was cut off.
    Interrupted,
}

/// A die that was pre-provisioned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preprovisioned {
    /// Tells dies apart.
    pub chip_id: [u8; 16],
    /// Its fuses, as they read back.
    pub facts: FuseFacts,
    /// The rows that were burned.
    pub rows: Rows,
    /// Bytes written to flash and disk.
    pub written: u64,
}

/// Burns a die for an owner, from `Blank` to `Secured`, and writes stage1 to both boot slots and the encrypted
/// package to the disk.
///
/// # Errors
/// [`Error::DieNotBlank`] and [`Error::FlashNotClear`], before anything is burned; a release that such a die would
/// not boot; fuses that do not burn or read back; files that cannot be read or written.
pub fn preprovision(
    files: &DeviceFiles,
    release: &PackageRelease,
    start: Start,
) -> Result<Preprovisioned, Error> {
    release.check()?;
    let mut otp = files.otp()?;
    let chip_id = check_die(&otp, start)?;
    clear::check(files, start == Start::Interrupted)?;

    let policy = &release.facts.policy;
    let plan = Plan::pre_provisioning(&PreProvisioning {
        root_digest: policy.root_digest,
        provisioning_key: &release.provisioning_key,
        floors: policy.secured_floors,
    });
    let plan = plan.and_then(|plan| plan.check(&otp)).map_err(Error::Fuses)?;
    plan.burn(&mut otp).map_err(Error::Fuses)?;
    otp.sync()?;
    let facts = check_secured(files, release)?;

    let stage1 = &release.stage1;
    for (what, slot) in [("stage1 in boot slot A", BOOT_SLOT_A), ("stage1 in boot slot B", BOOT_SLOT_B)] {
        files.write_flash0(what, slot, stage1)?;
    }
    files.write_disk("the package", PACKAGE, &release.package)?;
    let written = 2 * stage1.len() as u64 + release.package.len() as u64;
    Ok(Preprovisioned { chip_id, facts, rows: plan.rows(), written })
}

/// Checks that the vendor fabricated the die, and that nobody has burned it since.
fn check_die(otp: &OtpFile, start: Start) -> Result<[u8; 16], Error> {
    let chip_id = Fuses::read_chip_id(otp).map_err(Error::Fuses)?;
    let locks = Fuses::read_locks(otp).map_err(Error::Fuses)?;
    if let Some(row) = [Row::ChipId, Row::SiliconSecret].into_iter().find(|row| !locks.contains(*row)) {
        return Err(Error::DieUnlocked { row });
    }
    match burn::check_blank(otp) {
        Err(_) if start == Start::Interrupted => Ok(chip_id),
        Err(lifecycle::Error::NotBlank(row)) => {
            Err(Error::DieNotBlank { row, lifecycle: Fuses::read_lifecycle(otp).ok() })
        }
        Err(error) => Err(Error::Fuses(error)),
        Ok(()) => Ok(chip_id),
    }
}

/// Reads the fuses anew and compares every row with the release's policy.
fn check_secured(files: &DeviceFiles, release: &PackageRelease) -> Result<FuseFacts, Error> {
    let otp = files.otp()?;
    let facts = FuseFacts::read(&otp).map_err(Error::Fuses)?;
    compare(&release.facts.policy.secured(), &facts).map_err(Error::FusePolicy)?;
    Fuses::read(&otp).map_err(Error::Fuses)?;
    Ok(facts)
}
