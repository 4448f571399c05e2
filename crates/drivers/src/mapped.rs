//! NOR flash that is mapped for reading, and the OTP bank inside it.

use hal::{Otp, ReadError, Storage};

/// The part of a NOR flash bank that is mapped, in read-array mode. Offsets count from the start of the bank, which is mapped at
/// the address `BANK`.
///
/// The address of its bytes says where the part starts, and nothing else does: a fault in a start that is kept beside it moves
/// everything, and a slot is read under the name of the other.
#[derive(Clone, Copy)]
pub struct MappedNor<const BANK: usize> {
    bytes: &'static [u8],
}

impl<const BANK: usize> MappedNor<BANK> {
    /// Makes a storage of these bytes of flash, which nothing programs while it lives.
    pub const fn new(bytes: &'static [u8]) -> Self {
        Self { bytes }
    }

    /// Offset of the first byte, in bytes; `None` of bytes before the bank, which are no part of it.
    fn start(&self) -> Option<u64> {
        self.bytes.as_ptr().addr().checked_sub(BANK).map(|start| start as u64)
    }
}

impl<const BANK: usize> Storage for MappedNor<BANK> {
    fn size(&self) -> u64 {
        self.start().map_or(0, |start| start.saturating_add(self.bytes.len() as u64))
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let error = ReadError { offset };
        let start = self.start().and_then(|start| offset.checked_sub(start)).ok_or(error)?;
        let start = usize::try_from(start).map_err(|_| error)?;
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
        let bytes: &[u8] = &[1, 2, 3, 4];
        let start = bytes.as_ptr().addr() as u64;
        let mut nor = MappedNor::<0>::new(bytes);
        let mut two = [0; 2];
        assert_eq!((nor.size(), nor.read(start + 2, &mut two)), (start + 4, Ok(())));
        assert_eq!(two, [3, 4]);
        for offset in [0, start - 1, start + 3, start + 4, u64::MAX] {
            assert_eq!(nor.read(offset, &mut two), Err(ReadError { offset }));
        }
    }

    #[test]
    fn a_byte_is_at_its_offset_whatever_part_is_mapped() {
        const BANK: usize = 0x100;
        let bytes: &[u8] = &[1, 2, 3, 4];
        let offset = (bytes.as_ptr().addr() - BANK) as u64 + 2;
        for from in 0..=2 {
            let mut one = [0];
            assert_eq!(MappedNor::<BANK>::new(&bytes[from..]).read(offset, &mut one), Ok(()));
            assert_eq!(one, [3]);
        }
        let after = MappedNor::<BANK>::new(&bytes[3..]).read(offset, &mut [0]);
        assert_eq!(after, Err(ReadError { offset }));
    }

    #[test]
    fn bytes_before_the_bank_are_none_of_it() {
        let mut nor = MappedNor::<{ usize::MAX }>::new(&[1]);
        assert_eq!(nor.size(), 0);
        for offset in [0, 1, u64::MAX] {
            assert_eq!(nor.read(offset, &mut [0]), Err(ReadError { offset }));
        }
    }

    #[test]
    fn erased_flash_is_an_unburned_fuse() {
        let otp = MappedOtp::new(&[u32::MAX, !1]);
        assert_eq!((otp.read(0), otp.read(1), otp.read(2)), (Some(0), Some(1), None));
    }
}
