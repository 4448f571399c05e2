//! Fuses.

use crate::{Fate, Power};
use hal::BurnError;

/// A bank of fuses.
#[derive(Clone)]
pub struct Otp {
    words: Vec<u32>,
    power: Power,
    locked: fn(&Self, usize) -> bool,
}

impl Otp {
    /// Makes a bank with these words; `locked` tells from what is burned whether a word may still change.
    pub fn new(words: Vec<u32>, power: &Power, locked: fn(&Self, usize) -> bool) -> Self {
        Self { words, power: power.clone(), locked }
    }

    /// Returns the words.
    pub fn contents(&self) -> &[u32] {
        &self.words
    }

    /// Returns the words, for an adversary who burns them or for drift.
    pub fn contents_mut(&mut self) -> &mut [u32] {
        &mut self.words
    }
}

impl hal::Otp for Otp {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn read(&self, index: usize) -> Option<u32> {
        self.words.get(index).copied()
    }
}

impl hal::OtpBurn for Otp {
    fn burn(&mut self, index: usize, bits: u32) -> Result<(), BurnError> {
        if self.words.get(index).is_none() {
            return Err(BurnError::NoSuchWord { index });
        }
        if (self.locked)(self, index) {
            return Err(BurnError::Locked { index });
        }
        let (burned, outcome) = match self.power.operation() {
            Fate::Done => (bits, Ok(())),
            Fate::Torn(tear, mut noise) => {
                let reached = [0; 4].map(|_: u8| noise.reached(tear));
                (bits & u32::from_le_bytes(reached), Err(BurnError::Failed { index }))
            }
            Fate::Off => (0, Err(BurnError::Failed { index })),
        };
        self.words[index] |= burned;
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tear;
    use hal::{Otp as _, OtpBurn as _};

    #[test]
    fn bits_rise_and_never_fall_and_a_locked_word_does_not_change() {
        let mut otp = Otp::new(vec![0; 4], &Power::new(), |otp, index| index == 1 && otp.contents()[0] == 1);
        otp.burn(1, 0xF0).unwrap();
        otp.burn(1, 0x0F).unwrap();
        assert_eq!(otp.read(1), Some(0xFF));
        otp.burn(0, 1).unwrap();
        assert_eq!(otp.burn(1, 0xF00), Err(BurnError::Locked { index: 1 }));
        assert_eq!(otp.burn(4, 1), Err(BurnError::NoSuchWord { index: 4 }));
        assert_eq!(otp.contents(), [1, 0xFF, 0, 0]);
    }

    #[test]
    fn a_cut_burns_some_of_the_bits() {
        for tear in Tear::ALL {
            let power = Power::new();
            let mut otp = Otp::new(vec![0; 1], &power, |_, _| false);
            power.cut_at(0, tear);
            assert_eq!(otp.burn(0, u32::MAX), Err(BurnError::Failed { index: 0 }));
            let burned = otp.contents()[0].count_ones();
            let expected = match tear {
                Tear::Nothing => 0..=0,
                Tear::Some => 1..=15,
                Tear::Most => 17..=31,
                Tear::All => 32..=32,
            };
            assert!(expected.contains(&burned), "{tear:?}: {burned}");
        }
    }
}
