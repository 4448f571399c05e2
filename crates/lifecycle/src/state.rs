//! Lifecycle states, their codewords, and what may follow what.

use crate::redundancy::{MAX_DRIFT, same, vote};

const BLANK: u32 = 0x0000_0000;
const SECURED: u32 = 0x1244_440C;
const CLOSING: u32 = 0x13C7_475C;
const PRODUCTION: u32 = 0xBBC7_6FFD;
const RETURNED: u32 = 0xFFFF_FFFF;
const DEVELOPMENT: u32 = 0xCC38_9882;

/// Where a die stands in its life.
///
/// The values are the codewords, at least 8 bits apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Lifecycle {
    /// Fabricated, nothing of the owner's burned. Boots nothing.
    Blank = BLANK,
    /// Pre-provisioned. Boots the provisioning stage only.
    Secured = SECURED,
    /// On the way from `Secured` to `Production`: any word strictly between the two. Boots only the image whose
    /// measurement was burned as the closing measurement.
    Closing = CLOSING,
    /// Provisioned and closed. Boots the production stage only.
    Production = PRODUCTION,
    /// Taken out of service. Boots nothing.
    Returned = RETURNED,
    /// A die whose fuses hold published test keys. Boots the production stage.
    Development = DEVELOPMENT,
}

impl Lifecycle {
    /// Every state.
    pub const ALL: [Self; 6] =
        [Self::Blank, Self::Secured, Self::Closing, Self::Production, Self::Returned, Self::Development];

    /// Returns the codeword; for `Closing` one of the many words that stand for it.
    pub const fn codeword(self) -> u32 {
        self as u32
    }

    /// Returns the name in lower case, as reports give it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blank => "blank",
            Self::Secured => "secured",
            Self::Closing => "closing",
            Self::Production => "production",
            Self::Returned => "returned",
            Self::Development => "development",
        }
    }

    /// Finds the state of a word that was decoded before, such as the one in a handoff; `None` for a word that
    /// stands for no state.
    pub fn from_word(word: u32) -> Option<Self> {
        let exact = [Self::Blank, Self::Secured, Self::Production, Self::Returned, Self::Development];
        match exact.into_iter().find(|state| same(word, state.codeword())) {
            None if in_closing_range(word) => Some(Self::Closing),
            found => found,
        }
    }

    /// Decodes the three copies of the row; `None` if they stand for no state.
    ///
    /// The bits are voted on. A codeword counts if no copy is further than [`MAX_DRIFT`] bits from it: a burn
    /// that did not reach every copy is not done. `Closing` is every other triple between `Secured` and
    /// `Production`, so it also covers copies that have come unequally far.
    pub fn decode(copies: [u32; 3]) -> Option<Self> {
        let vote = vote(copies);
        match Self::from_word(vote) {
            Some(Self::Closing) | None => {}
            Some(state) if copies.iter().all(|copy| (copy ^ vote).count_ones() <= MAX_DRIFT) => {
                return Some(state);
            }
            Some(_) => {}
        }
        copies.into_iter().all(in_closing_range).then_some(Self::Closing)
    }

    /// Tells whether a die may go from this state to the next one in one transaction.
    ///
    /// Stricter than what bits allow: `Returned` is a superset of every word, and yet only a production die is
    /// returned.
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Blank, Self::Secured | Self::Development)
                | (Self::Secured, Self::Closing | Self::Production)
                | (Self::Closing, Self::Production)
                | (Self::Production, Self::Returned)
        )
    }
}

/// Tells whether the word is `Secured`, `Production`, or lies between them.
fn in_closing_range(word: u32) -> bool {
    same(word & SECURED, SECURED) && same(word | PRODUCTION, PRODUCTION)
}

/// Tells whether burning more bits can turn `from` into `to`.
const fn burnable(from: u32, to: u32) -> bool {
    from & !to == 0
}

const _: () = {
    let mut i = 0;
    while i < Lifecycle::ALL.len() {
        let from = Lifecycle::ALL[i];
        let mut j = 0;
        while j < Lifecycle::ALL.len() {
            let to = Lifecycle::ALL[j];
            assert!(i == j || (from.codeword() ^ to.codeword()).count_ones() >= 8);
            assert!(!from.may_become(to) || burnable(from.codeword(), to.codeword()));
            j += 1;
        }
        i += 1;
    }
    // Nothing but Blank turns into Development, and Development turns into nothing that boots: at least 8 bits
    // stand against each.
    assert!((SECURED & !DEVELOPMENT).count_ones() >= 8);
    assert!((CLOSING & !DEVELOPMENT).count_ones() >= 8);
    assert!((PRODUCTION & !DEVELOPMENT).count_ones() >= 8);
    assert!((RETURNED & !DEVELOPMENT).count_ones() >= 8);
    assert!((DEVELOPMENT & !SECURED).count_ones() >= 8);
    assert!((DEVELOPMENT & !PRODUCTION).count_ones() >= 8);
    // Drift on both sides cannot make one codeword look like another.
    assert!(2 * MAX_DRIFT < 8);
};

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn transitions_are_the_table_and_no_more() {
        use Lifecycle::*;
        let allowed = [
            (Blank, Secured),
            (Blank, Development),
            (Secured, Closing),
            (Secured, Production),
            (Closing, Production),
            (Production, Returned),
        ];
        for from in Lifecycle::ALL {
            for to in Lifecycle::ALL {
                assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from:?} to {to:?}");
            }
        }
    }

    #[test]
    fn codewords_round_trip() {
        for state in Lifecycle::ALL {
            assert_eq!(Lifecycle::from_word(state.codeword()), Some(state));
            assert_eq!(Lifecycle::decode([state.codeword(); 3]), Some(state));
        }
    }

    /// Burns `from` to `to` bit by bit, copy by copy, and collects what each step reads as.
    fn walk(from: Lifecycle, to: Lifecycle) -> std::vec::Vec<Option<Lifecycle>> {
        let mut copies = [from.codeword(); 3];
        let mut seen = std::vec![Lifecycle::decode(copies)];
        for copy in 0..3 {
            for bit in (0..32).filter(|bit| (to.codeword() & !from.codeword()) >> bit & 1 == 1) {
                copies[copy] |= 1 << bit;
                seen.push(Lifecycle::decode(copies));
            }
        }
        seen
    }

    #[test]
    fn a_torn_burn_between_secured_and_production_reads_as_one_of_the_three_in_order() {
        let seen = walk(Lifecycle::Secured, Lifecycle::Production);
        assert_eq!(seen.len(), 1 + 3 * 16);
        let order = [Lifecycle::Secured, Lifecycle::Closing, Lifecycle::Production];
        let ranks = seen.iter().map(|state| order.iter().position(|s| Some(*s) == *state).unwrap());
        assert!(ranks.is_sorted());
        assert_eq!(seen.iter().filter(|s| **s == Some(Lifecycle::Closing)).count(), 49 - 4 - 4);
    }

    #[test]
    fn a_torn_burn_elsewhere_reads_as_old_as_new_or_as_nothing() {
        for (from, to) in [
            (Lifecycle::Blank, Lifecycle::Secured),
            (Lifecycle::Blank, Lifecycle::Development),
            (Lifecycle::Production, Lifecycle::Returned),
        ] {
            let seen = walk(from, to);
            let torn = seen.iter().position(Option::is_none).unwrap();
            let done = seen.iter().rposition(Option::is_none).unwrap();
            assert!(seen[..torn].iter().all(|state| *state == Some(from)));
            assert!(seen[torn..=done].iter().all(|state| state.is_none()), "{from:?} to {to:?}");
            assert!(seen[done + 1..].iter().all(|state| *state == Some(to)));
        }
    }

    proptest! {
        #[test]
        fn burning_never_leads_to_an_earlier_state_or_to_development(
            start in prop::sample::select(&[Lifecycle::Secured, Lifecycle::Production, Lifecycle::Returned][..]),
            more: [u32; 3],
        ) {
            let word = start.codeword();
            let after = Lifecycle::decode([word | more[0], word | more[1], word | more[2]]);
            let allowed: &[Lifecycle] = match start {
                Lifecycle::Secured => {
                    &[Lifecycle::Secured, Lifecycle::Closing, Lifecycle::Production, Lifecycle::Returned]
                }
                Lifecycle::Production => &[Lifecycle::Production, Lifecycle::Returned],
                _ => &[Lifecycle::Returned],
            };
            prop_assert!(after.is_none_or(|state| allowed.contains(&state)), "{:?}", after);
        }

        #[test]
        fn three_flipped_bits_in_one_copy_change_nothing(
            state in prop::sample::select(&[Lifecycle::Blank, Lifecycle::Secured, Lifecycle::Production,
                Lifecycle::Returned, Lifecycle::Development][..]),
            copy in 0..3_usize,
            bits: [u8; 3],
        ) {
            let mut copies = [state.codeword(); 3];
            for bit in bits {
                copies[copy] ^= 1 << (bit % 32);
            }
            prop_assert_eq!(Lifecycle::decode(copies), Some(state));
        }
    }
}
