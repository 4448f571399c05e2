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
        if bits & !burned == 0 {
            return Ok(());
        }
        if (self.rules.locked)(self, index) {
            return Err(BurnError::Locked { index });
        }
        let wanted = burned | bits;
        self.bank.program(word, &[!wanted]).map_err(|_| failed)?;
        if self.read(index) == Some(wanted) { Ok(()) } else { Err(failed) }
    }
}
