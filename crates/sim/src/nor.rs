//! NOR flash.

use std::collections::BTreeMap;

use crate::{Fate, Noise, Operation, Power, Tear};
use hal::{ReadError, Storage, StorageMut, WriteError};

/// Most bytes that one operation programs.
const PROGRAM: usize = 64;
/// Programs start and end at multiples of this.
const WORD: u64 = 4;

/// A bank of NOR flash.
#[derive(Clone, Debug)]
pub struct Nor {
    bytes: Vec<u8>,
    /// Bits that read otherwise each time, by byte.
    unstable: BTreeMap<usize, u8>,
    noise: Noise,
    /// What was done since the last flush, and what was there before: kept while power may fail.
    pending: Vec<Pending>,
    block: u64,
    power: Power,
    violations: u64,
}

/// An operation that may be lost.
#[derive(Clone, Debug)]
struct Pending {
    at: usize,
    before: Vec<u8>,
    /// What was programmed; nothing for an erase.
    bytes: Option<Vec<u8>>,
}

impl Nor {
    /// Makes an erased bank of `size` bytes with erase blocks of `block` bytes.
    pub fn new(size: u64, block: u64, power: &Power) -> Self {
        assert!(block > 0 && size.is_multiple_of(block), "a bank is made of whole blocks");
        Self {
            bytes: vec![0xFF; size as usize],
            unstable: BTreeMap::new(),
            noise: Noise(0),
            pending: Vec::new(),
            block,
            power: power.clone(),
            violations: 0,
        }
    }

    /// Takes another supply, for a copy that is to be independent.
    pub fn connect(&mut self, power: &Power) {
        self.power = power.clone();
    }

    /// After a power cut: loses what the cut has lost of what was not flushed. For a cut that came during an operation of
    /// another part; of its own the flash knows by itself.
    pub fn settle(&mut self) {
        if let Some((Tear::Disordered, mut noise)) = self.power.failed() {
            self.lose(&mut noise);
        }
        self.pending.clear();
    }

    /// Returns where bits read otherwise each time.
    pub fn unstable(&self) -> impl Iterator<Item = u64> {
        self.unstable.keys().map(|at| *at as u64)
    }

    /// Does again of what was not flushed what the cut has not lost.
    fn lose(&mut self, noise: &mut Noise) {
        let pending = std::mem::take(&mut self.pending);
        for lost in pending.iter().rev() {
            self.bytes[lost.at..lost.at + lost.before.len()].copy_from_slice(&lost.before);
        }
        for done in pending.iter().filter(|_| noise.came_to(Tear::Disordered)) {
            let place = &mut self.bytes[done.at..done.at + done.before.len()];
            match &done.bytes {
                Some(bytes) => place.iter_mut().zip(bytes).for_each(|(old, new)| *old &= new),
                None => place.fill(0xFF),
            }
        }
    }

    fn is_firm(&mut self, at: usize, bits: u8) {
        if let Some(unstable) = self.unstable.get_mut(&at) {
            *unstable &= !bits;
            if *unstable == 0 {
                self.unstable.remove(&at);
            }
        }
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
        let first = offset as usize;
        for (at, bits) in self.unstable.range(first..first + into.len()) {
            into[at - first] ^= self.noise.next() as u8 & bits;
        }
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
        if !whole || offset.saturating_add(len) > self.size() {
            return Err(error);
        }
        for block in (offset..offset + len).step_by(self.block as usize) {
            let range = block as usize..(block + self.block) as usize;
            match self.power.operation(|| Operation::Erase { offset: block }) {
                Fate::Done => {
                    if self.power.may_fail() {
                        let before = self.bytes[range.clone()].to_vec();
                        self.pending.push(Pending { at: range.start, before, bytes: None });
                    }
                    self.unstable.retain(|at, _| !range.contains(at));
                    self.bytes[range].fill(0xFF);
                }
                Fate::Torn(tear, mut noise) => {
                    self.settle();
                    let changing = self.bytes[range.clone()].iter().map(|byte| !byte);
                    let only = noise.only(tear, changing).map(|(byte, bit)| (range.start + byte, bit));
                    for at in range {
                        let unstable = noise.unstable(tear) & noise.reached(tear) & !self.bytes[at];
                        let unstable =
                            unstable | only.filter(|(byte, _)| *byte == at).map_or(0, |(_, bit)| bit);
                        if unstable != 0 {
                            *self.unstable.entry(at).or_default() |= unstable;
                        }
                        self.bytes[at] |= noise.reached(tear) & !unstable;
                    }
                    self.noise = noise;
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
        if offset.saturating_add(bytes.len() as u64) > self.size() {
            return Err(error);
        }
        for (at, bytes) in (offset as usize..).step_by(PROGRAM).zip(bytes.chunks(PROGRAM)) {
            let place = &mut self.bytes[at..at + bytes.len()];
            self.violations +=
                place.iter().zip(bytes).filter(|(old, new)| !**old & **new != 0).count() as u64;
            match self.power.operation(|| Operation::Program { offset: at as u64, bytes: bytes.to_vec() }) {
                Fate::Done => {
                    if self.power.may_fail() {
                        self.pending.push(Pending {
                            at,
                            before: place.to_vec(),
                            bytes: Some(bytes.to_vec()),
                        });
                    }
                    place.iter_mut().zip(bytes).for_each(|(old, new)| *old &= new);
                    (at..).zip(bytes).for_each(|(at, new)| self.is_firm(at, !new));
                }
                Fate::Torn(tear, mut noise) => {
                    self.settle();
                    let changing = self.bytes[at..].iter().zip(bytes).map(|(old, new)| old & !new);
                    let only = noise.only(tear, changing).map(|(byte, bit)| (at + byte, bit));
                    for (at, new) in (at..).zip(bytes) {
                        let unstable = noise.unstable(tear) & noise.reached(tear) & self.bytes[at] & !new;
                        let unstable =
                            unstable | only.filter(|(byte, _)| *byte == at).map_or(0, |(_, bit)| bit);
                        if unstable != 0 {
                            *self.unstable.entry(at).or_default() |= unstable;
                        }
                        self.bytes[at] &= new | !noise.reached(tear) | unstable;
                    }
                    self.noise = noise;
                    return Err(error);
                }
                Fate::Off => return Err(error),
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        let error = WriteError { offset: 0 };
        match self.power.operation(|| Operation::FlushNor) {
            Fate::Done => {
                self.pending.clear();
                Ok(())
            }
            Fate::Torn(..) => {
                self.settle();
                Err(error)
            }
            Fate::Off => Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        for (tear, least, most) in [
            (Tear::Nothing, 0, 0),
            (Tear::Some, 1, 255),
            (Tear::Most, 257, 511),
            (Tear::All, 512, 512),
            (Tear::Unstable, 1, 511),
            (Tear::Weak, 511, 511),
            (Tear::Touched, 0, 0),
        ] {
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

    #[test]
    fn what_was_not_flushed_may_be_done_in_any_order() {
        let mut outcomes = std::collections::BTreeSet::new();
        for seed in 0..64 {
            let power = Power::new();
            let mut nor = Nor::new(512, 256, &power);
            nor.write(0, &[0; 64]).unwrap();
            nor.flush().unwrap();
            power.cut_with(6, Tear::Disordered, seed);
            (1..5).for_each(|unit| nor.write(unit * 64, &[0; 64]).unwrap());
            assert!(nor.write(320, &[0; 64]).is_err());
            assert!(nor.bytes()[..64].iter().all(|byte| *byte == 0), "it was flushed");
            outcomes.insert(nor.bytes()[64..320].chunks(64).map(|unit| unit[0] == 0).collect::<Vec<_>>());
        }
        assert_eq!(outcomes.len(), 16, "every subset");
    }

    #[test]
    fn an_unstable_bit_reads_otherwise_until_it_is_programmed_or_erased() {
        for (erase, tear) in [false, true]
            .into_iter()
            .flat_map(|erase| [Tear::Unstable, Tear::Weak, Tear::Touched].map(|tear| (erase, tear)))
        {
            let power = Power::new();
            let mut nor = Nor::new(512, 256, &power);
            power.cut_at(0, tear);
            assert!(nor.write(0, &[0; 64]).is_err());
            power.restore();
            let read = |nor: &mut Nor| {
                let mut bytes = [0; 64];
                nor.read(0, &mut bytes).unwrap();
                bytes
            };
            let expected = if tear == Tear::Unstable { 8..=64 } else { 1..=1 };
            assert!(expected.contains(&nor.unstable().count()), "{tear:?}");
            assert!((0..64).any(|_| read(&mut nor) != read(&mut nor)));
            if erase {
                nor.erase(0, 256).unwrap();
            } else {
                nor.write(0, &[0; 64]).unwrap();
            }
            assert!(nor.unstable().count() == 0 && read(&mut nor) == [if erase { 0xFF } else { 0 }; 64]);
        }
    }
}
