//! flash0 and the disk of a QEMU `virt` device.

use crate::Error;
use memory_map::{Region, qemu_virt};
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::path::Path;

/// What flash0 holds; what is not given is erased.
#[derive(Clone, Copy, Debug, Default)]
pub struct FlashLayout<'a> {
    /// stage0 as a flat binary.
    pub stage0: &'a [u8],
    /// Boot slot A.
    pub slot_a: Option<&'a [u8]>,
    /// Boot slot B.
    pub slot_b: Option<&'a [u8]>,
    /// The OTP bank.
    pub otp: &'a [u8],
}

impl FlashLayout<'_> {
    /// Makes the 64 MiB of flash0.
    ///
    /// # Errors
    /// A part that is larger than its place.
    pub fn image(&self) -> Result<Vec<u8>, Error> {
        let mut flash = vec![0xFF; qemu_virt::FLASH0.size as usize];
        let parts: [(&'static str, Region, &[u8]); 4] = [
            ("stage0", qemu_virt::STAGE0_ROM, self.stage0),
            ("boot slot A", qemu_virt::BOOT_SLOT_A, self.slot_a.unwrap_or_default()),
            ("boot slot B", qemu_virt::BOOT_SLOT_B, self.slot_b.unwrap_or_default()),
            ("the OTP bank", qemu_virt::OTP, self.otp),
        ];
        for (what, place, bytes) in parts {
            fits(what, bytes, place.size)?;
            let start = (place.base - qemu_virt::FLASH0.base) as usize;
            flash[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Ok(flash)
    }

    /// Writes flash0 to a file.
    ///
    /// # Errors
    /// A part that is larger than its place; a file that cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        std::fs::write(path, self.image()?).map_err(|error| Error::Write { path: path.to_path_buf(), error })
    }
}

/// Writes a disk with the given OS slots as a new sparse file.
///
/// # Errors
/// A slot that is too large; a file that cannot be written.
pub fn write_disk(path: &Path, slot_a: Option<&[u8]>, slot_b: Option<&[u8]>) -> Result<(), Error> {
    let parts = [("OS slot A", qemu_virt::OS_SLOT_A, slot_a), ("OS slot B", qemu_virt::OS_SLOT_B, slot_b)];
    for (what, place, bytes) in parts {
        fits(what, bytes.unwrap_or_default(), place.size)?;
    }
    let write = || -> io::Result<()> {
        let mut file = File::create(path)?;
        file.set_len(qemu_virt::DISK_MIN)?;
        for (_, place, bytes) in parts {
            if let Some(bytes) = bytes {
                file.seek(SeekFrom::Start(place.base))?;
                file.write_all(bytes)?;
            }
        }
        Ok(())
    };
    write().map_err(|error| Error::Write { path: path.to_path_buf(), error })
}

pub(crate) fn fits(what: &'static str, bytes: &[u8], room: u64) -> Result<(), Error> {
    let size = bytes.len() as u64;
    if size > room { Err(Error::TooLarge { what, size, room }) } else { Ok(()) }
}
