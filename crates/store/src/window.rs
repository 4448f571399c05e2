use crate::Error;
use hal::{ReadError, Storage};
use memory_map::Region;

/// A range of a storage, as a storage of its own: whoever holds it reads nothing outside.
pub struct Window<'a, S: Storage> {
    storage: &'a mut S,
    region: Region,
}

impl<'a, S: Storage> Window<'a, S> {
    /// Opens the range `region` of `storage`.
    ///
    /// # Errors
    /// [`Error::SlotBeyondStorage`] if the range leaves the storage.
    pub fn new(storage: &'a mut S, region: Region) -> Result<Self, Error> {
        check_inside(storage, region)?;
        Ok(Self { storage, region })
    }
}

impl<S: Storage> Storage for Window<'_, S> {
    fn size(&self) -> u64 {
        self.region.size
    }

    /// Fills `into` from `offset` within the range; an error names the offset within the whole storage.
    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let start = self.region.base.checked_add(offset).ok_or(ReadError { offset })?;
        if offset.checked_add(into.len() as u64).is_none_or(|end| end > self.region.size) {
            return Err(ReadError { offset: start });
        }
        self.storage.read(start, into)
    }
}

/// Checks that a region lies inside a storage.
pub(crate) fn check_inside(storage: &impl Storage, region: Region) -> Result<(), Error> {
    let size = storage.size();
    match region.base.checked_add(region.size) {
        Some(end) if end <= size => Ok(()),
        _ => Err(Error::SlotBeyondStorage { slot: region, size }),
    }
}
