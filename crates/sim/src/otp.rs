//! Fuses.

use std::cell::Cell;

use crate::{Fate, Noise, Operation, Power};
use hal::BurnError;

/// A bank of fuses.
#[derive(Clone)]
pub struct Otp {
    words: Vec<u32>,
    /// Bits that read otherwise each time.
    unstable: Vec<u32>,
    noise: Cell<Noise>,
    power: Power,
    locked: fn(&Self, usize) -> bool,
}

impl Otp {
    /// Makes a bank with these words; `locked` tells from what is burned whether a word may still change.
    pub fn new(words: Vec<u32>, power: &Power, locked: fn(&Self, usize) -> bool) -> Self {
        let unstable = vec![0; words.len()];
        Self { words, unstable, noise: Cell::new(Noise(0)), power: power.clone(), locked }
    }

    /// Takes another supply, for a copy that is to be independent.
    pub fn connect(&mut self, power: &Power) {
        self.power = power.clone();
    }

    /// Returns the words that hold bits which read otherwise each time.
    pub fn unstable(&self) -> impl Iterator<Item = usize> {
        self.unstable.iter().enumerate().filter(|(_, bits)| **bits != 0).map(|(index, _)| index)
    }

    /// Returns the words; of a bit that reads otherwise each time, what it was before.
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
        let (word, unstable) = (self.words.get(index)?, self.unstable.get(index)?);
        if *unstable == 0 {
            return Some(*word);
        }
        let mut noise = self.noise.get();
        let flipped = noise.next() as u32 & unstable;
        self.noise.set(noise);
        Some(word ^ flipped)
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
        match self.power.operation(|| Operation::Burn { index, bits }) {
            Fate::Done => {
                self.words[index] |= bits;
                self.unstable[index] &= !bits;
                Ok(())
            }
            Fate::Torn(tear, mut noise) => {
                let changing = (bits & !self.words[index]).to_le_bytes();
                let only = noise.only(tear, changing.into_iter());
                let only = only.map_or(0, |(byte, bit)| u32::from(bit) << (8 * byte));
                let [reached, unstable] = [(); 2].map(|()| [0; 4].map(|_: u8| noise.reached(tear)));
                let unstable =
                    u32::from_le_bytes(unstable) & u32::from_le_bytes([(); 4].map(|()| noise.unstable(tear)));
                let unstable = unstable | only;
                self.unstable[index] |= bits & unstable & !self.words[index];
                self.words[index] |= bits & u32::from_le_bytes(reached) & !unstable;
                self.noise.set(noise);
                Err(BurnError::Failed { index })
            }
            Fate::Off => Err(BurnError::Failed { index }),
        }
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
                Tear::Nothing | Tear::Touched => 0..=0,
                Tear::Some | Tear::Disordered => 1..=15,
                Tear::Unstable => 1..=31,
                Tear::Most => 17..=31,
                Tear::Weak => 31..=31,
                Tear::All => 32..=32,
            };
            assert!(expected.contains(&burned), "{tear:?}: {burned}");
            power.restore();
            let read = |otp: &Otp| otp.read(0).unwrap();
            let differs = (0..64).any(|_| read(&otp) != read(&otp));
            assert_eq!(differs, matches!(tear, Tear::Unstable | Tear::Weak | Tear::Touched));
            otp.burn(0, u32::MAX).unwrap();
            assert!((0..64).all(|_| read(&otp) == u32::MAX) && otp.unstable().count() == 0);
        }
    }
}
