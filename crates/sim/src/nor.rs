//! NOR flash.

use crate::{Fate, Power};
use hal::{ReadError, Storage, StorageMut, WriteError};

/// Most bytes that one operation programs.
const PROGRAM: usize = 64;
/// Programs start and end at multiples of this.
const WORD: u64 = 4;

/// A bank of NOR flash.
#[derive(Clone, Debug)]
pub struct Nor {
    bytes: Vec<u8>,
    block: u64,
    power: Power,
    violations: u64,
}

impl Nor {
    /// Makes an erased bank of `size` bytes with erase blocks of `block` bytes.
    pub fn new(size: u64, block: u64, power: &Power) -> Self {
        assert!(block > 0 && size.is_multiple_of(block), "a bank is made of whole blocks");
        Self { bytes: vec![0xFF; size as usize], block, power: power.clone(), violations: 0 }
    }

    /// Returns the content.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Returns the content, for an adversary who has the flash in his hands.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Returns how many bytes software tried to program that were not erased as far as was needed.
    pub fn violations(&self) -> u64 {
        self.violations
    }
}

impl Storage for Nor {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let error = ReadError { offset };
        if self.power.is_off() {
            return Err(error);
        }
        let from = self.bytes.get(offset as usize..).and_then(|rest| rest.get(..into.len())).ok_or(error)?;
        into.copy_from_slice(from);
        Ok(())
    }
}

impl StorageMut for Nor {
    fn erase_size(&self) -> u64 {
        self.block
    }

    fn erase(&mut self, offset: u64, len: u64) -> Result<(), WriteError> {
        let error = WriteError { offset };
        let whole = offset.is_multiple_of(self.block) && len.is_multiple_of(self.block);
        let range = offset as usize..(offset + len) as usize;
        let bytes = self.bytes.get_mut(range).filter(|_| whole).ok_or(error)?;
        for block in bytes.chunks_mut(self.block as usize) {
            match self.power.operation() {
                Fate::Done => block.fill(0xFF),
                Fate::Torn(tear, mut noise) => {
                    block.iter_mut().for_each(|byte| *byte |= noise.reached(tear));
                    return Err(error);
                }
                Fate::Off => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let error = WriteError { offset };
        if !offset.is_multiple_of(WORD) || !(bytes.len() as u64).is_multiple_of(WORD) {
            return Err(error);
        }
        let place = self.bytes.get_mut(offset as usize..).and_then(|rest| rest.get_mut(..bytes.len()));
        for (place, bytes) in place.ok_or(error)?.chunks_mut(PROGRAM).zip(bytes.chunks(PROGRAM)) {
            self.violations +=
                place.iter().zip(bytes).filter(|(old, new)| !**old & **new != 0).count() as u64;
            match self.power.operation() {
                Fate::Done => place.iter_mut().zip(bytes).for_each(|(old, new)| *old &= new),
                Fate::Torn(tear, mut noise) => {
                    let torn = place.iter_mut().zip(bytes);
                    torn.for_each(|(old, new)| *old &= new | !noise.reached(tear));
                    return Err(error);
                }
                Fate::Off => return Err(error),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        // What a NOR flash has programmed is durable.
        if self.power.is_off() { Err(WriteError { offset: 0 }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tear;

    #[test]
    fn programming_clears_bits_only_and_counts_what_was_not_erased() {
        let mut nor = Nor::new(512, 256, &Power::new());
        nor.write(0, &[0xEF, 0xBE, 0xAD, 0xDE]).unwrap();
        assert_eq!(nor.violations(), 0);
        nor.write(0, &[0xFF, 0xFF, 0x00, 0x00]).unwrap();
        assert_eq!((&nor.bytes()[..4], nor.violations()), (&[0xEF, 0xBE, 0, 0][..], 2));
        nor.erase(0, 256).unwrap();
        assert!(nor.bytes().iter().all(|byte| *byte == 0xFF));
    }

    #[test]
    fn what_is_not_whole_or_not_inside_is_refused() {
        let mut nor = Nor::new(512, 256, &Power::new());
        assert!(nor.write(2, &[0; 4]).is_err() && nor.write(0, &[0; 3]).is_err());
        assert!(
            nor.write(512, &[0; 4]).is_err() && nor.erase(0, 128).is_err() && nor.erase(256, 512).is_err()
        );
        assert!(nor.read(510, &mut [0; 4]).is_err());
    }

    #[test]
    fn a_cut_leaves_between_nothing_and_all_and_then_nothing_answers() {
        for (tear, least, most) in
            [(Tear::Nothing, 0, 0), (Tear::Some, 1, 255), (Tear::Most, 257, 511), (Tear::All, 512, 512)]
        {
            let power = Power::new();
            let mut nor = Nor::new(512, 256, &power);
            power.cut_at(1, tear);
            assert!(nor.write(0, &[0; 128]).is_err());
            let zeros = |range: std::ops::Range<usize>, nor: &Nor| -> u32 {
                nor.bytes()[range].iter().map(|byte| byte.count_zeros()).sum()
            };
            assert_eq!(zeros(0..64, &nor), 512);
            assert!((least..=most).contains(&zeros(64..128, &nor)), "{tear:?}");
            assert!(nor.read(0, &mut [0; 4]).is_err() && nor.erase(0, 256).is_err() && nor.flush().is_err());
            power.restore();
            assert!(nor.read(0, &mut [0; 4]).is_ok());
        }
    }
}
