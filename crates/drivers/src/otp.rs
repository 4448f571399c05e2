//! Fuses that a block of NOR flash stands in for: an erased word, all ones, reads as zero, and programming a flash bit
//! to zero is burning it.
//!
//! # Threats
//! On such a board all of this is modelled, and whoever reaches the flash defeats it: that bits are one-way (the driver
//! programs the union of what is there and what is new), that a locked row takes no more bits, and that a hidden one
//! reads as blank. What is locked and what is hidden the stage says, which knows the map of the fuses.

use hal::{BurnError, Clock, Otp, OtpBurn};
use memory_map::Region;

use crate::nor::{Bank, Bus};

/// What real fuses would enforce by themselves.
#[derive(Clone, Copy)]
pub struct Rules {
    /// Tells whether a word takes no more bits.
    pub locked: fn(&dyn Otp, usize) -> bool,
    /// Tells whether a word is hidden from this stage: it reads as blank and takes no bits.
    pub hidden: fn(usize) -> bool,
}

/// The bank.
pub struct NorOtp<'a, B: Bus, C: Clock> {
    bank: &'a Bank<B, C>,
    /// Where it lies in the flash bank.
    place: Region,
    rules: Rules,
}

impl<'a, B: Bus, C: Clock> NorOtp<'a, B, C> {
    /// Opens the fuses at `place`, in bytes from the start of the flash bank and made of whole words.
    pub const fn new(bank: &'a Bank<B, C>, place: Region, rules: Rules) -> Self {
        Self { bank, place, rules }
    }

    /// Returns the number of the word in the flash bank.
    fn word(&self, index: usize) -> Option<u64> {
        let inside = index < self.words();
        inside.then(|| (self.place.base / 4).saturating_add(index as u64))
    }
}

impl<B: Bus, C: Clock> Otp for NorOtp<'_, B, C> {
    fn words(&self) -> usize {
        (self.place.size / 4) as usize
    }

    fn read(&self, index: usize) -> Option<u32> {
        let word = self.word(index)?;
        if (self.rules.hidden)(index) {
            return Some(0);
        }
        self.bank.word(word).ok().map(|found| !found)
    }
}

impl<B: Bus, C: Clock> OtpBurn for NorOtp<'_, B, C> {
    fn burn(&mut self, index: usize, bits: u32) -> Result<(), BurnError> {
        let word = self.word(index).ok_or(BurnError::NoSuchWord { index })?;
        let failed = BurnError::Failed { index };
        if (self.rules.hidden)(index) {
            return Err(BurnError::Locked { index });
        }
        let burned = self.read(index).ok_or(failed)?;
        if (self.rules.locked)(self, index) {
            return if bits & !burned == 0 { Ok(()) } else { Err(BurnError::Locked { index }) };
        }
        let wanted = burned | bits;
        self.bank.program(word, &[!wanted]).map_err(|_| failed)?;
        if self.read(index) == Some(wanted) { Ok(()) } else { Err(failed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nor::fake::{BLOCK, Cells, Chips};

    /// Word 1 locks word 0; word 2 is hidden.
    const RULES: Rules =
        Rules { locked: |otp, index| index == 0 && otp.read(1) != Some(0), hidden: |index| index == 2 };
    /// Four words in the last block.
    const PLACE: Region = Region::new(3 * BLOCK as u64 * 4, 16);

    #[test]
    fn burned_bits_never_fall_even_on_a_flash_that_would_let_them() {
        let bank = Chips::new(Cells::Rewritable).bank();
        let mut otp = NorOtp::new(&bank, PLACE, RULES);
        assert_eq!((otp.words(), otp.read(0), otp.read(3), otp.read(4)), (4, Some(0), Some(0), None));
        for (bits, all) in [(0x0F, 0x0F), (0xF0, 0xFF), (0x01, 0xFF), (0, 0xFF)] {
            assert_eq!(otp.burn(0, bits), Ok(()));
            assert_eq!((otp.read(0), otp.read(1)), (Some(all), Some(0)));
        }
        assert_eq!(otp.burn(4, 1), Err(BurnError::NoSuchWord { index: 4 }));
        assert_eq!(otp.burn(usize::MAX, 1), Err(BurnError::NoSuchWord { index: usize::MAX }));
    }

    #[test]
    fn a_locked_row_takes_no_more_bits_and_keeps_those_it_has() {
        let bank = Chips::new(Cells::OneWay).bank();
        let mut otp = NorOtp::new(&bank, PLACE, RULES);
        otp.burn(0, 0x0F).unwrap();
        otp.burn(1, 1).unwrap();
        assert_eq!(otp.burn(0, 0x10), Err(BurnError::Locked { index: 0 }));
        assert_eq!((otp.burn(0, 0x03), otp.read(0)), (Ok(()), Some(0x0F)));
    }

    #[test]
    fn bits_that_read_as_burned_are_burned_again_unless_they_are_locked() {
        let bank = Chips::new(Cells::OneWay).bank();
        let mut otp = NorOtp::new(&bank, PLACE, RULES);
        let mut operations = |index, bits| {
            let before = Chips::operations_of(&bank);
            otp.burn(index, bits).unwrap();
            Chips::operations_of(&bank) - before
        };
        let burns = [(0, 0x0F), (0, 0x0F), (1, 1), (0, 0x0F), (1, 1)];
        assert_eq!(burns.map(|(index, bits)| operations(index, bits) > 0), [true, true, true, false, true]);
    }

    #[test]
    fn a_hidden_word_reads_as_blank_and_takes_no_bits() {
        let mut chips = Chips::new(Cells::OneWay);
        chips.words[3 * BLOCK + 2] = !0xABCD;
        let bank = chips.bank();
        let mut otp = NorOtp::new(&bank, PLACE, RULES);
        assert_eq!((otp.read(2), otp.burn(2, 1)), (Some(0), Err(BurnError::Locked { index: 2 })));
        assert_eq!(bank.word(3 * BLOCK as u64 + 2), Ok(!0xABCD));
    }

    #[test]
    fn a_burn_that_does_not_take_is_told() {
        let mut chips = Chips::new(Cells::OneWay);
        chips.fails = 0x10;
        let bank = chips.bank();
        let mut otp = NorOtp::new(&bank, PLACE, RULES);
        assert_eq!((otp.burn(0, 1), otp.read(0)), (Err(BurnError::Failed { index: 0 }), Some(0)));
        assert_eq!((otp.burn(0, 1), otp.read(0)), (Ok(()), Some(1)));
    }
}
