//! The journal of a device as it lies in its flash, read with the device's own code, also while the device writes it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use hal::{ReadError, Storage, StorageMut, WriteError};
use memory_map::Region;
use memory_map::qemu_virt::{FLASH_BLOCK, FLASH0};
use stage1_provision::journal::{Journal, Recorded};

/// flash0 of a device, to be read.
pub struct FlashFile(File);

impl FlashFile {
    /// Opens the file.
    ///
    /// # Panics
    /// If it cannot be opened.
    pub fn open(path: &Path) -> Self {
        Self(File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// Reads a region as it is now.
    ///
    /// # Panics
    /// If the file is too short.
    pub fn region(&self, region: Region) -> Vec<u8> {
        let mut bytes = vec![0; region.size as usize];
        self.0.read_exact_at(&mut bytes, region.base - FLASH0.base).expect("a whole flash0");
        bytes
    }

    /// Reads the journal as it is now; `None` if it is damaged, as it may be for a moment while it is erased.
    pub fn journal(&mut self) -> Option<Vec<Recorded>> {
        Journal::open(self).ok().map(|(_, entries)| entries)
    }
}

impl Storage for FlashFile {
    fn size(&self) -> u64 {
        FLASH0.size
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.0.read_exact_at(into, offset).expect("a whole flash0");
        Ok(())
    }
}

impl StorageMut for FlashFile {
    fn erase_size(&self) -> u64 {
        FLASH_BLOCK
    }

    fn erase(&mut self, _: u64, _: u64) -> Result<(), WriteError> {
        unreachable!("nothing is erased here")
    }

    /// Does nothing: opening a journal programs once more what it has found, and that is there.
    fn write(&mut self, _: u64, _: &[u8]) -> Result<(), WriteError> {
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        Ok(())
    }
}

/// Reads the journal of a device that is off.
///
/// # Panics
/// If it is damaged.
pub fn journal(flash0: &Path) -> Vec<Recorded> {
    FlashFile::open(flash0).journal().expect("a journal that is whole")
}
