//! How a value is spread over words so that drift is corrected and a torn burn is seen.

use crate::map::{COPY_WORDS, DATA_WORDS};
use core::hint::black_box;
use crc::{CRC_32_ISCSI, Crc, NoTable};
use zeroize::Zeroizing;

/// How many bits of one copy may differ from the others and still be taken for drift and corrected. More is a
/// torn burn.
pub const MAX_DRIFT: u32 = 3;
/// Highest level of a thermometer.
pub const MAX_LEVEL: u8 = 64;

/// Upper byte of a check word, never blank.
const MARK: u32 = 0xA5;
/// A burned flag.
pub(crate) const FLAG_BURNED: u32 = 0x31E8_E7A1;

const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISCSI);

/// One copy of a record: eight data words, the check word, the CRC.
pub(crate) type Copy = Zeroizing<[u32; COPY_WORDS]>;

/// Tells whether two words are equal, looking twice: the second time at the complement of an opaque copy.
pub(crate) fn same(a: u32, b: u32) -> bool {
    a == b && black_box(!a) == !black_box(b)
}

/// Returns for each bit what most of the copies hold.
pub(crate) const fn vote([a, b, c]: [u32; 3]) -> u32 {
    (a & b) | (a & c) | (b & c)
}

/// A flag of three copies, at least 16 bits apart from its opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Flag {
    /// Not burned.
    Clear = 0x0F36_A95C,
    /// Burned in part.
    Torn = 0x5A9C_9A90,
    /// Burned.
    Set = 0xF0C9_56A3,
}

impl Flag {
    /// Decodes the three copies.
    pub(crate) fn decode(copies: [u32; 3]) -> Self {
        let vote = vote(copies);
        if same(vote, FLAG_BURNED) {
            Self::Set
        } else if same(vote, 0) {
            Self::Clear
        } else {
            Self::Torn
        }
    }
}

/// Decodes the three copies of a thermometer, low word first: the highest bit that most copies hold, counted
/// from 1; 0 when there is none.
pub(crate) fn level(low: [u32; 3], high: [u32; 3]) -> u8 {
    match (vote(low).leading_zeros(), vote(high).leading_zeros()) {
        (32, 32) => 0,
        (below, 32) => 32_u32.wrapping_sub(below) as u8,
        (_, above) => 64_u32.wrapping_sub(above) as u8,
    }
}

/// Returns the check word and the CRC of a record.
///
/// The check word holds the mark, the row's number and a Berger count: how many bits of data and CRC are zero.
/// Burning more bits makes the true count fall while the stored one can only rise, so no whole record turns
/// into another whole one, and no prefix of a burn is whole. The CRC finds errors in both directions.
pub(crate) fn check_words(row: u8, data: &[u32; DATA_WORDS]) -> [u32; 2] {
    let mut digest = CRC.digest();
    digest.update(&[row]);
    for word in data {
        digest.update(&word.to_le_bytes());
    }
    let crc = digest.finalize();
    let zeros = data.iter().fold(crc.count_zeros(), |zeros, word| zeros.wrapping_add(word.count_zeros()));
    [(MARK << 24) | (u32::from(row) << 16) | zeros, crc]
}

/// Returns the copy that belongs to the data.
pub(crate) fn encode(row: u8, data: &[u32; DATA_WORDS]) -> Copy {
    let mut copy = Zeroizing::new([0; COPY_WORDS]);
    let words = data.iter().copied().chain(check_words(row, data));
    for (into, word) in copy.iter_mut().zip(words) {
        *into = word;
    }
    copy
}

/// Tells whether a copy is whole: it holds the row's check word and CRC.
pub(crate) fn is_whole(row: u8, copy: &Copy) -> bool {
    match copy.first_chunk::<DATA_WORDS>() {
        Some(data) => distance(copy, &encode(row, data)) == 0,
        None => false,
    }
}

/// Counts the bits in which two copies differ.
pub(crate) fn distance(a: &[u32; COPY_WORDS], b: &[u32; COPY_WORDS]) -> u32 {
    a.iter().zip(b.iter()).fold(0, |bits: u32, (a, b)| bits.wrapping_add((a ^ b).count_ones()))
}

const _: () = {
    assert!(FLAG_BURNED.count_ones() == 16);
    assert!((Flag::Clear as u32 ^ Flag::Set as u32).count_ones() == 32);
    assert!((Flag::Clear as u32 ^ Flag::Torn as u32).count_ones() == 16);
    assert!((Flag::Set as u32 ^ Flag::Torn as u32).count_ones() == 16);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_flag_survives_any_flip_in_one_copy() {
        for whole in [0, FLAG_BURNED] {
            let expected = Flag::decode([whole; 3]);
            assert_ne!(expected, Flag::Torn);
            for copy in 0..3 {
                for bit in 0..32 {
                    let mut copies = [whole; 3];
                    copies[copy] ^= 1 << bit;
                    assert_eq!(Flag::decode(copies), expected);
                }
            }
        }
    }

    #[test]
    fn the_level_is_the_highest_burned_bit() {
        assert_eq!(level([0; 3], [0; 3]), 0);
        for n in 1..=64_u32 {
            let word = u64::MAX >> (64 - n);
            let (low, high) = (word as u32, (word >> 32) as u32);
            assert_eq!(u32::from(level([low; 3], [high; 3])), n);
        }
        assert_eq!(level([0; 3], [u32::MAX; 3]), MAX_LEVEL);
    }

    proptest! {
        #[test]
        fn a_level_never_falls_when_bits_burn(
            low: [u32; 3], high: [u32; 3], more_low: [u32; 3], more_high: [u32; 3],
        ) {
            let or = |a: [u32; 3], b: [u32; 3]| [a[0] | b[0], a[1] | b[1], a[2] | b[2]];
            prop_assert!(level(or(low, more_low), or(high, more_high)) >= level(low, high));
        }

        #[test]
        fn a_level_stands_when_one_copy_is_lost_or_wholly_burned(word: u64, other: u64, copy in 0..3_usize) {
            let (low, high) = (word as u32, (word >> 32) as u32);
            let (mut lows, mut highs) = ([low; 3], [high; 3]);
            lows[copy] = other as u32;
            highs[copy] = (other >> 32) as u32;
            prop_assert_eq!(level(lows, highs), level([low; 3], [high; 3]));
        }

        #[test]
        fn no_whole_copy_turns_into_another_by_burning(data: [u32; 8], more: [u32; 10], row in 0..20_u8) {
            let copy = encode(row, &data);
            prop_assert!(is_whole(row, &copy));
            let mut burned = copy.clone();
            for (word, more) in burned.iter_mut().zip(more) {
                *word |= more;
            }
            prop_assert_eq!(is_whole(row, &burned), *burned == *copy);
        }

        #[test]
        fn no_part_of_a_burn_is_whole(data: [u32; 8], mask: [u32; 10], row in 0..20_u8) {
            let copy = encode(row, &data);
            let mut torn = copy.clone();
            for (word, mask) in torn.iter_mut().zip(mask) {
                *word &= mask;
            }
            prop_assert_eq!(is_whole(row, &torn), *torn == *copy);
        }
    }
}
