//! Security decisions that one fault does not turn round.

use core::hint::black_box;

const YES: u32 = 0x3CA5_965A;
const NO: u32 = !YES;

/// The outcome of a security decision: yes or no, 32 bits apart, everything else is no.
#[derive(Clone, Copy)]
#[must_use]
pub struct Decision(u32);

impl Decision {
    /// The decision to refuse.
    pub const REFUSE: Self = Self(NO);

    /// Accepts if `yes`.
    pub(crate) fn from_bool(yes: bool) -> Self {
        // Two looks at the same fact, the second one through an opaque copy.
        if yes && black_box(yes) { Self(YES) } else { Self::REFUSE }
    }

    /// Tells whether the decision is to accept: the codeword and its complement are compared one after the
    /// other.
    pub fn accepts(self) -> bool {
        black_box(self.0) == YES && black_box(!self.0) == NO
    }

    /// Accepts only if both decisions do.
    pub fn and(self, other: Self) -> Self {
        if self.accepts() { other } else { Self::REFUSE }
    }
}

/// Compares two values of one length in constant time, forwards and backwards; different lengths are unequal.
#[inline(never)]
pub fn equal(a: &[u8], b: &[u8]) -> Decision {
    if a.len() != b.len() {
        return Decision::REFUSE;
    }
    Decision::from_bool(differing_forwards(a, b) == 0).and(Decision::from_bool(same_backwards(a, b) == 0xFF))
}

/// Collects the bits in which any two bytes differ: 0 for equal values.
#[inline]
fn differing_forwards(a: &[u8], b: &[u8]) -> u8 {
    a.iter().zip(b).fold(0, |differing, (x, y)| black_box(differing | (x ^ y)))
}

/// Keeps the bits in which all bytes agree, from the last byte to the first: 0xFF for equal values.
#[inline]
fn same_backwards(a: &[u8], b: &[u8]) -> u8 {
    a.iter().rev().zip(b.iter().rev()).fold(0xFF, |same, (x, y)| black_box(same & !(x ^ y)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_accepts_only_the_same_bytes() {
        let value = [0x5A; 32];
        assert!(equal(&value, &value).accepts());
        assert!(equal(&[], &[]).accepts());
        assert!(!equal(&value, value.get(..31).unwrap()).accepts());
        for bit in 0..256 {
            let mut other = value;
            other[bit / 8] ^= 1 << (bit % 8);
            assert!(!equal(&value, &other).accepts(), "bit {bit}");
        }
    }

    /// Two differences in the same bit do not hide each other, and neither look needs the other to see them.
    #[test]
    fn each_direction_sees_every_difference_by_itself() {
        let value = [0x5A; 5];
        assert_eq!((differing_forwards(&value, &value), same_backwards(&value, &value)), (0, 0xFF));
        let bits: [u8; 8] = core::array::from_fn(|bit| 1 << bit);
        let pairs = (0..5).flat_map(|first| (first..5).map(move |second| (first, second)));
        for (first, second) in pairs {
            for bit in bits {
                let mut other = value;
                (other[first], other[second]) = (value[first] ^ bit, value[second] ^ bit);
                assert_eq!(differing_forwards(&value, &other), bit, "bytes {first} and {second}");
                assert_eq!(same_backwards(&value, &other), !bit, "bytes {first} and {second}");
            }
        }
    }

    #[test]
    fn every_codeword_but_one_refuses() {
        assert!(Decision(YES).accepts());
        assert!(!Decision::REFUSE.accepts());
        assert!((0..32).all(|bit| !Decision(YES ^ (1 << bit)).accepts()));
        assert!([0, 1, u32::MAX].into_iter().all(|word| !Decision(word).accepts()));
        assert!(!Decision(YES).and(Decision::REFUSE).accepts());
        assert!(!Decision::REFUSE.and(Decision(YES)).accepts());
    }
}
