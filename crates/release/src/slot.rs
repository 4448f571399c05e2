//! Bytes as they lie in a place of a device's storage, and files as storage.

use crate::Error;
use hal::{ReadError, Storage};
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_A, OS_SLOT_A, PACKAGE, SECRETS};
use sealed_image::Kind;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Bytes at the start of a place that is erased behind them. What the place has no room for is not there.
pub(crate) struct Placed<'a> {
    bytes: &'a [u8],
    size: u64,
}

impl<'a> Placed<'a> {
    /// Puts bytes where a device keeps what begins with this kind.
    pub(crate) fn new(bytes: &'a [u8], first: Kind) -> Self {
        let place = match first {
            Kind::Stage1 | Kind::Stage2 => BOOT_SLOT_A,
            Kind::Package => PACKAGE,
            Kind::Secret => SECRETS,
            _ => OS_SLOT_A,
        };
        let room = bytes.len().min(place.size as usize);
        Self { bytes: &bytes[..room], size: place.size }
    }

    /// Takes bytes as all of a storage.
    pub(crate) fn whole(bytes: &'a [u8]) -> Self {
        Self { bytes, size: bytes.len() as u64 }
    }

    /// Returns the place, as a region of this storage.
    pub(crate) fn region(&self) -> Region {
        Region::new(0, self.size)
    }

    /// Tells whether a region was given, and is not only erased.
    pub(crate) fn has(&self, region: Region) -> bool {
        region.end() <= self.bytes.len() as u64
    }

    /// Returns what was given from an offset on.
    pub(crate) fn from(&self, offset: u64) -> &'a [u8] {
        self.bytes.get(offset as usize..).unwrap_or_default()
    }
}

impl Storage for Placed<'_> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let end = offset.checked_add(into.len() as u64).filter(|end| *end <= self.size);
        end.ok_or(ReadError { offset })?;
        into.fill(0xFF);
        into.iter_mut().zip(self.from(offset)).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// A file as a disk; what reads behind its end fails.
pub(crate) struct Disk {
    file: File,
    size: u64,
}

impl Disk {
    /// Opens a file.
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let failed = |error| Error::Read { path: path.into(), error };
        let file = File::open(path).map_err(failed)?;
        let size = file.metadata().map_err(failed)?.len();
        Ok(Self { file, size })
    }
}

impl Storage for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        self.file.read_exact_at(into, offset).map_err(|_| ReadError { offset })
    }
}

/// Reads a region of flash0 or of a part of it.
pub(crate) fn part(flash0: &[u8], region: Region) -> &[u8] {
    flash0.get(region.base as usize..region.end() as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_the_bytes_is_erased_and_behind_the_place_there_is_nothing() {
        let mut placed = Placed::new(&[1, 2, 3], Kind::Stage2);
        let mut read = [0; 5];
        placed.read(1, &mut read).unwrap();
        assert_eq!(read, [2, 3, 0xFF, 0xFF, 0xFF]);
        let end = BOOT_SLOT_A.size - 4;
        assert_eq!(placed.read(end, &mut read), Err(ReadError { offset: end }));
        assert_eq!(placed.read(u64::MAX, &mut read), Err(ReadError { offset: u64::MAX }));
        assert!(placed.has(Region::new(0, 3)) && !placed.has(Region::new(0, 4)));

        let long = vec![7; BOOT_SLOT_A.size as usize + 1];
        assert_eq!(Placed::new(&long, Kind::Stage1).from(0).len() as u64, BOOT_SLOT_A.size);
    }
}
