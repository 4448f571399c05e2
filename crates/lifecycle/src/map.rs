//! Where each row lies.

use core::ops::Range;

/// Signer roles that have a rollback floor, numbered from 1.
pub const ROLES: u8 = 6;
/// Slots for digests of owner root keys.
pub const ROOT_SLOTS: usize = 4;

/// Words from the start of one row to the start of the next.
const ROW_STRIDE: usize = 32;
/// Words of one copy of a record: data, check word, CRC.
pub(crate) const COPY_WORDS: usize = 10;
/// Data words of a record.
pub(crate) const DATA_WORDS: usize = 8;
/// Copies of a lifecycle word, a flag or a thermometer.
pub(crate) const COPIES: usize = 3;
/// Where the valid flag of an owner root lies in its row, behind the two copies of the digest.
pub(crate) const VALID_FLAG: usize = 2 * COPY_WORDS;
/// First word of the row locks.
const LOCKS: usize = Row::ALL.len() * ROW_STRIDE;

/// Words of the map; a bank may be larger, the rest is not used.
pub const WORDS: usize = LOCKS + Row::ALL.len() * COPIES;

macro_rules! rows {
    ($($number:literal $row:ident $words:expr, $doc:literal;)*) => {
        /// A row: what is burned together and locked together.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Row {
            $(#[doc = $doc] $row = $number,)*
        }

        impl Row {
            /// Every row, by number.
            pub const ALL: &'static [Self] = &[$(Self::$row),*];

            /// Returns how many words the row uses.
            pub const fn word_count(self) -> usize {
                match self { $(Self::$row => $words,)* }
            }
        }
    };
}

rows! {
    0 ChipId 2 * COPY_WORDS, "16 bytes that tell dies apart, then 16 zero bytes; not secret.";
    1 SiliconSecret 2 * COPY_WORDS, "The silicon vendor's secret, hidden after stage0.";
    2 Lifecycle COPIES, "The lifecycle state.";
    3 DebugLock COPIES, "A flag: debug access is locked.";
    4 OwnerRoot0 VALID_FLAG + COPIES, "SHA-256 of the first owner root key, and its valid flag.";
    5 OwnerRoot1 VALID_FLAG + COPIES, "The second owner root key.";
    6 OwnerRoot2 VALID_FLAG + COPIES, "The third owner root key.";
    7 OwnerRoot3 VALID_FLAG + COPIES, "The fourth owner root key.";
    8 RootRevocation ROOT_SLOTS * COPIES, "A flag for each root slot: revoked.";
    9 ProvisioningKey 2 * COPY_WORDS, "The key that opens stage1.";
    10 DeviceSeed 2 * COPY_WORDS, "The device seed.";
    11 ClosingMeasurement 2 * COPY_WORDS, "Measurement of the only image that boots while the die closes; not secret.";
    12 FloorBoot 2 * COPIES, "Rollback floor of role 1, `boot`.";
    13 FloorProvision 2 * COPIES, "Rollback floor of role 2, `provision`.";
    14 FloorOs 2 * COPIES, "Rollback floor of role 3, `os`.";
    15 FloorAuthority 2 * COPIES, "Rollback floor of role 4, `authority`.";
    16 FloorDebug 2 * COPIES, "Rollback floor of role 5, `debug`.";
    17 FloorTransfer 2 * COPIES, "Rollback floor of role 6, `transfer`.";
    18 OwnerGeneration 2 * COPIES, "How often the owner changed.";
    19 BootPolicy 4 * COPIES, "Four flags: secure boot, require post-quantum, two reserved.";
}

impl Row {
    /// The rows of the owner root slots, by slot.
    pub const OWNER_ROOTS: [Self; ROOT_SLOTS] =
        [Self::OwnerRoot0, Self::OwnerRoot1, Self::OwnerRoot2, Self::OwnerRoot3];

    /// The rows of the rollback floors; that of role `n` is at index `n - 1`.
    pub const FLOORS: [Self; ROLES as usize] = [
        Self::FloorBoot,
        Self::FloorProvision,
        Self::FloorOs,
        Self::FloorAuthority,
        Self::FloorDebug,
        Self::FloorTransfer,
    ];

    /// Returns the row's number, which its check word holds.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the index of the row's first word.
    pub const fn first_word(self) -> usize {
        self as usize * ROW_STRIDE
    }

    /// Returns the indexes of the row's words.
    pub const fn words(self) -> Range<usize> {
        self.first_word()..self.first_word() + self.word_count()
    }

    /// Returns the indexes of the three words of the row's lock.
    pub const fn lock_words(self) -> Range<usize> {
        let first = LOCKS + self as usize * COPIES;
        first..first + COPIES
    }

    /// Finds the row that holds a word, or whose lock does; `None` for a word that no row uses.
    pub fn of_word(word: usize) -> Option<Self> {
        Self::ALL.iter().copied().find(|row| row.words().contains(&word) || row.lock_words().contains(&word))
    }
}

/// A set of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows(u32);

impl Rows {
    /// Adds a row.
    pub const fn insert(&mut self, row: Row) {
        self.0 |= 1 << row.number();
    }

    /// Tells whether the row is in the set.
    pub const fn contains(self, row: Row) -> bool {
        self.0 & (1 << row.number()) != 0
    }

    /// Returns how many rows are in the set.
    pub const fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Tells whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the set as bits: bit `n` stands for row `n`.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Makes the set of such bits; `None` if one stands for no row.
    pub const fn from_bits(bits: u32) -> Option<Self> {
        if bits >> Row::ALL.len() == 0 { Some(Self(bits)) } else { None }
    }
}

const _: () = {
    let mut n = 0;
    while n < Row::ALL.len() {
        assert!(Row::ALL[n] as usize == n);
        assert!(Row::ALL[n].word_count() <= ROW_STRIDE);
        n += 1;
    }
    assert!(Row::ALL.len() <= u32::BITS as usize);
};
