//! Entropy sources, good and bad.

use crate::Noise;
use hal::Entropy;

/// What is wrong with an entropy source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It does not answer.
    Absent,
    /// Every byte is this one.
    Stuck(u8),
    /// These bytes come again and again.
    Repeating(Vec<u8>),
    /// Of 256 bytes this many are zero.
    Biased(u8),
}

/// An entropy source. A seed stands for everything that it will say, so that an adversary's source is one whose seed
/// is used twice.
#[derive(Clone, Debug)]
pub struct Source {
    noise: Noise,
    fault: Option<Fault>,
    given: usize,
}

impl Source {
    /// Makes a source that looks random and follows from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { noise: Noise(seed), fault: None, given: 0 }
    }

    /// Makes a source with a fault.
    pub fn faulty(seed: u64, fault: Fault) -> Self {
        Self { fault: Some(fault), ..Self::new(seed) }
    }

    fn byte(&mut self) -> u8 {
        let [random, lot, ..] = self.noise.next().to_le_bytes();
        match &self.fault {
            Some(Fault::Stuck(byte)) => *byte,
            Some(Fault::Repeating(bytes)) => {
                bytes.get(self.given % bytes.len().max(1)).copied().unwrap_or_default()
            }
            Some(Fault::Biased(zeros)) if lot < *zeros => 0,
            _ => random,
        }
    }
}

impl Entropy for Source {
    fn fill(&mut self, into: &mut [u8]) -> bool {
        if self.fault == Some(Fault::Absent) {
            return false;
        }
        for byte in into {
            *byte = self.byte();
            self.given += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(mut source: Source) -> Option<[u8; 256]> {
        let mut bytes = [0; 256];
        source.fill(&mut bytes).then_some(bytes)
    }

    #[test]
    fn each_fault_shows() {
        assert_eq!(draw(Source::faulty(1, Fault::Absent)), None);
        assert_eq!(draw(Source::faulty(1, Fault::Stuck(7))), Some([7; 256]));
        let repeating = draw(Source::faulty(1, Fault::Repeating(vec![1, 2, 3]))).unwrap();
        assert_eq!(repeating[..5], [1, 2, 3, 1, 2]);
        let zeros = |source| draw(source).unwrap().iter().filter(|byte| **byte == 0).count();
        assert!(zeros(Source::faulty(1, Fault::Biased(128))) > 80 && zeros(Source::new(1)) < 10);
    }

    #[test]
    fn a_seed_stands_for_everything_that_follows() {
        assert_eq!(draw(Source::new(5)), draw(Source::new(5)));
        assert_ne!(draw(Source::new(5)), draw(Source::new(6)));
    }
}
