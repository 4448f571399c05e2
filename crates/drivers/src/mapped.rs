//! NOR flash that is mapped for reading, and the OTP bank inside it.

use hal::{Otp, ReadError, Storage};

/// The part of a NOR flash bank that is mapped, in read-array mode. Offsets count from the start of the bank.
#[derive(Clone, Copy)]
pub struct MappedNor {
    start: u64,
    bytes: &'static [u8],
}

impl MappedNor {
    /// Makes a storage of the flash bytes from offset `start` of the bank on, which nothing programs while it lives.
    pub const fn new(start: u64, bytes: &'static [u8]) -> Self {
        Self { start, bytes }
    }
}

impl Storage for MappedNor {
    fn size(&self) -> u64 {
        self.start.saturating_add(self.bytes.len() as u64)
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let error = ReadError { offset };
        let start =
            offset.checked_sub(self.start).and_then(|start| usize::try_from(start).ok()).ok_or(error)?;
        let (_, rest) = self.bytes.split_at_checked(start).ok_or(error)?;
        let (from, _) = rest.split_at_checked(into.len()).ok_or(error)?;
        into.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// An OTP bank that is modelled by NOR flash: an erased word, all ones, reads as zero, and programming a flash
/// bit to zero is burning it. That bits never fall again is only modelled: whoever can erase the flash can undo it.
#[derive(Clone, Copy)]
pub struct MappedOtp {
    words: &'static [u32],
}

impl MappedOtp {
    /// Makes the bank from the words of its flash.
    pub const fn new(words: &'static [u32]) -> Self {
        Self { words }
    }
}

impl Otp for MappedOtp {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn read(&self, index: usize) -> Option<u32> {
        // Volatile, so that a policy that reads a fuse twice does read it twice.
        // SAFETY: the pointer is that of a live shared reference to an aligned, initialised word.
        self.words.get(index).map(|word| !u32::from_le(unsafe { core::ptr::read_volatile(word) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_stay_inside_the_flash() {
        let mut nor = MappedNor::new(100, &[1, 2, 3, 4]);
        let mut two = [0; 2];
        assert_eq!((nor.size(), nor.read(102, &mut two)), (104, Ok(())));
        assert_eq!(two, [3, 4]);
        for offset in [0, 99, 103, 104, u64::MAX] {
            assert_eq!(nor.read(offset, &mut two), Err(ReadError { offset }));
        }
    }

    #[test]
    fn erased_flash_is_an_unburned_fuse() {
        let otp = MappedOtp::new(&[u32::MAX, !1]);
        assert_eq!((otp.read(0), otp.read(1), otp.read(2)), (Some(0), Some(1), None));
    }
}
