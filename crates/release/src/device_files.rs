//! The files that a device in QEMU is made of.

use crate::otp_file::OtpFile;
use crate::{Error, files};
use memory_map::{Region, qemu_virt};
use std::path::{Path, PathBuf};

/// Where the files of a device lie: its flash banks and its disk, named as the `emulator` crate expects them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceFiles {
    folder: PathBuf,
}

impl DeviceFiles {
    /// Names the files in `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self { folder: folder.into() }
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the file of the secure flash bank.
    pub fn flash0(&self) -> PathBuf {
        self.folder.join("flash0.img")
    }

    /// Returns the file of the normal world's flash bank.
    pub fn flash1(&self) -> PathBuf {
        self.folder.join("flash1.img")
    }

    /// Returns the file of the block device.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk.img")
    }

    /// Reads a region of flash0.
    ///
    /// # Errors
    /// A file that is too short or cannot be read.
    pub fn read_flash0(&self, region: Region) -> Result<Vec<u8>, Error> {
        files::read_at(&self.flash0(), region.base - qemu_virt::FLASH0.base, region.size)
    }

    /// Reads a region of the block device.
    ///
    /// # Errors
    /// A file that is too short or cannot be read.
    pub fn read_disk(&self, region: Region) -> Result<Vec<u8>, Error> {
        files::read_at(&self.disk(), region.base, region.size)
    }

    /// Writes the start of a region of flash0, as a programmer of loose flash does.
    ///
    /// # Errors
    /// More bytes than the region has; a file that cannot be written.
    pub fn write_flash0(&self, what: &'static str, region: Region, bytes: &[u8]) -> Result<(), Error> {
        crate::flash::fits(what, bytes, region.size)?;
        files::write_at(&self.flash0(), region.base - qemu_virt::FLASH0.base, bytes)
    }

    /// Writes the start of a region of the block device.
    ///
    /// # Errors
    /// More bytes than the region has; a file that cannot be written.
    pub fn write_disk(&self, what: &'static str, region: Region, bytes: &[u8]) -> Result<(), Error> {
        crate::flash::fits(what, bytes, region.size)?;
        files::write_at(&self.disk(), region.base, bytes)
    }

    /// Opens the OTP bank, which lies in flash0.
    ///
    /// # Errors
    /// A file that is too short or cannot be read.
    pub fn otp(&self) -> Result<OtpFile, Error> {
        OtpFile::open(&self.flash0())
    }
}
