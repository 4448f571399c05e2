//! A storage of full size of which only some ranges are backed: the rest reads as nothing ever written.

use hal::{ReadError, Storage, StorageMut, WriteError};
use memory_map::Region;

/// Ranges of a large storage, backed by a small one, in which they lie one behind the other.
#[derive(Clone)]
pub(crate) struct Mapped<S> {
    pub(crate) inner: S,
    size: u64,
    ranges: Vec<Region>,
    blank: u8,
}

impl<S> Mapped<S> {
    pub(crate) fn new(inner: S, size: u64, ranges: &[Region], blank: u8) -> Self {
        Self { inner, size, ranges: ranges.to_vec(), blank }
    }

    /// Bytes that the ranges take together.
    pub(crate) fn backing(ranges: &[Region]) -> u64 {
        ranges.iter().map(|range| range.size).sum()
    }

    /// Finds where a range lies in the small storage.
    pub(crate) fn place(&self, offset: u64, len: u64) -> Option<u64> {
        let mut base = 0;
        for range in &self.ranges {
            if range.contains(offset, len) {
                return Some(base + offset - range.base);
            }
            base += range.size;
        }
        None
    }
}

impl<S: Storage> Storage for Mapped<S> {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        match self.place(offset, into.len() as u64) {
            Some(place) => self.inner.read(place, into).map_err(|_| ReadError { offset }),
            None if offset + into.len() as u64 <= self.size => {
                into.fill(self.blank);
                Ok(())
            }
            None => Err(ReadError { offset }),
        }
    }
}

impl<S: StorageMut> StorageMut for Mapped<S> {
    fn erase_size(&self) -> u64 {
        self.inner.erase_size()
    }

    fn erase(&mut self, offset: u64, len: u64) -> Result<(), WriteError> {
        match self.place(offset, len) {
            Some(place) => self.inner.erase(place, len).map_err(|_| WriteError { offset }),
            // Of a range that reaches further than what is backed, the rest is blank already.
            None if self.inner.erase_size() == 1 && offset + len <= self.size => Ok(()),
            None => Err(WriteError { offset }),
        }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let place = self.place(offset, bytes.len() as u64).ok_or(WriteError { offset })?;
        self.inner.write(place, bytes).map_err(|_| WriteError { offset })
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.inner.flush()
    }
}
