//! What is to be burned into a die, word by word, in the order in which no cut does harm.

use crate::map::{COPIES, COPY_WORDS, VALID_FLAG};
use crate::redundancy::{FLAG_BURNED, MAX_LEVEL, encode};
use crate::{Error, Lifecycle, ROLES, Row, Rows, WORDS};
use boot_crypto::{Digest, Key};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Most words of a plan.
const CAPACITY: usize = 128;

/// Bits of one word.
#[derive(Clone, Copy, Default, Zeroize)]
pub(crate) struct Burn {
    /// Index of the word.
    pub(crate) word: usize,
    /// The bits to burn.
    pub(crate) bits: u32,
}

/// What the silicon vendor burns. `fabricate` models it.
pub struct Fabrication<'a> {
    /// Tells dies apart.
    pub chip_id: [u8; 16],
    /// The vendor's secret.
    pub silicon_secret: &'a Key,
}

/// What the owner burns before a die goes to the factory.
pub struct PreProvisioning<'a> {
    /// SHA-256 of the owner root key.
    pub root_digest: Digest,
    /// The key that opens stage1.
    pub provisioning_key: &'a Key,
    /// Rollback floor of each role, at the index of its number less 1; 0 to 64.
    pub floors: [u8; ROLES as usize],
}

/// What a die burns into itself at the end of provisioning.
pub struct Closing<'a> {
    /// The measurement of the stage that burns it.
    pub measurement: Digest,
    /// The device seed.
    pub device_seed: &'a Key,
    /// Rollback floor of each role, at the index of its number less 1; 0 to 64.
    pub floors: [u8; ROLES as usize],
}

/// What a development die gets, all at once.
pub struct Development<'a> {
    /// SHA-256 of the published owner root key.
    pub root_digest: Digest,
    /// The published device seed.
    pub device_seed: &'a Key,
    /// Rollback floor of each role, at the index of its number less 1; 0 to 64.
    pub floors: [u8; ROLES as usize],
}

/// An ordered list of words to burn, and the rows that must hold nothing else afterwards.
///
/// Holds secrets: wiped when dropped; no `Debug`.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Plan {
    burns: [Burn; CAPACITY],
    len: usize,
    #[zeroize(skip)]
    covers: Rows,
    #[zeroize(skip)]
    goal: Lifecycle,
}

impl Plan {
    /// Makes a plan that burns nothing, for rows to be added one by one.
    #[cfg(feature = "host")]
    pub(crate) fn empty() -> Self {
        Self::new(Lifecycle::Blank)
    }

    pub(crate) fn new(goal: Lifecycle) -> Self {
        Self { burns: [Burn::default(); CAPACITY], len: 0, covers: Rows::default(), goal }
    }

    /// Plans fabrication: chip id and silicon secret, each locked. The die stays `Blank`.
    pub fn fabrication(die: &Fabrication<'_>) -> Self {
        let mut plan = Self::new(Lifecycle::Blank);
        let mut id = [0; 32];
        id.iter_mut().zip(die.chip_id).for_each(|(to, from)| *to = from);
        plan.record(Row::ChipId, &id).lock(Row::ChipId);
        plan.record(Row::SiliconSecret, die.silicon_secret.expose()).lock(Row::SiliconSecret);
        Row::ALL.iter().for_each(|row| plan.covers.insert(*row));
        plan
    }

    /// Plans a silicon secret of zeros alone, which a model of a die needs whose bank hides the true one.
    pub(crate) fn fabrication_stand_in() -> Self {
        let mut plan = Self::new(Lifecycle::Blank);
        plan.record(Row::SiliconSecret, &[0; 32]);
        plan
    }

    /// Plans pre-provisioning, from `Blank` to `Secured`.
    ///
    /// The debug lock burns and is locked before the provisioning key, so that no prefix opens a secret to a
    /// debugger; the lifecycle burns last, so that no prefix boots anything.
    ///
    /// # Errors
    /// [`Error::LevelTooHigh`].
    pub fn pre_provisioning(die: &PreProvisioning<'_>) -> Result<Self, Error> {
        let mut plan = Self::new(Lifecycle::Secured);
        plan.flag(Row::DebugLock, 0).lock(Row::DebugLock);
        plan.root(Row::OwnerRoot0, &die.root_digest);
        Row::OWNER_ROOTS.iter().for_each(|row| {
            plan.lock(*row);
        });
        plan.floors(&die.floors)?;
        plan.flag(Row::BootPolicy, 0);
        plan.record(Row::ProvisioningKey, die.provisioning_key.expose()).lock(Row::ProvisioningKey);
        plan.lifecycle(Lifecycle::Secured);
        plan.cover_all_but_fabrication();
        Ok(plan)
    }

    /// Plans closing, from `Secured` to `Production`.
    ///
    /// The closing measurement burns first, so that from the first bit of the seed on only the stage that began can
    /// carry on; the lifecycle burns last, so that a closed die lacks nothing.
    ///
    /// # Errors
    /// [`Error::LevelTooHigh`].
    pub fn closing(die: &Closing<'_>) -> Result<Self, Error> {
        let mut plan = Self::new(Lifecycle::Production);
        plan.record(Row::ClosingMeasurement, &die.measurement).lock(Row::ClosingMeasurement);
        plan.record(Row::DeviceSeed, die.device_seed.expose()).lock(Row::DeviceSeed);
        plan.floors(&die.floors)?;
        plan.lifecycle(Lifecycle::Production);
        Ok(plan)
    }

    /// Plans a development die, from `Blank` to `Development`.
    ///
    /// # Errors
    /// [`Error::LevelTooHigh`].
    pub fn development(die: &Development<'_>) -> Result<Self, Error> {
        let mut plan = Self::new(Lifecycle::Development);
        plan.root(Row::OwnerRoot0, &die.root_digest);
        Row::OWNER_ROOTS.iter().for_each(|row| {
            plan.lock(*row);
        });
        plan.floors(&die.floors)?;
        plan.flag(Row::BootPolicy, 0);
        plan.record(Row::DeviceSeed, die.device_seed.expose()).lock(Row::DeviceSeed);
        plan.lifecycle(Lifecycle::Development);
        plan.cover_all_but_fabrication();
        Ok(plan)
    }

    /// Returns the state in which the plan leaves a die.
    pub fn goal(&self) -> Lifecycle {
        self.goal
    }

    /// Returns the rows into which the plan burns something.
    pub fn rows(&self) -> Rows {
        let mut rows = Rows::default();
        for row in self.burns().filter_map(|burn| Row::of_word(burn.word)) {
            rows.insert(row);
        }
        rows
    }

    /// Returns the words to burn, in order; none is blank.
    pub(crate) fn burns(&self) -> impl Iterator<Item = Burn> {
        self.burns.iter().take(self.len).copied()
    }

    /// Returns the rows that hold nothing but what the plan says, once it is burned.
    pub(crate) fn covers(&self) -> Rows {
        self.covers
    }

    /// Returns what the plan burns into each word.
    pub(crate) fn target(&self) -> [u32; WORDS] {
        let mut target = [0; WORDS];
        for burn in self.burns() {
            if let Some(word) = target.get_mut(burn.word) {
                *word |= burn.bits;
            }
        }
        target
    }

    fn cover_all_but_fabrication(&mut self) {
        let fabricated = |row: &&Row| matches!(row, Row::ChipId | Row::SiliconSecret);
        Row::ALL.iter().filter(|row| !fabricated(row)).for_each(|row| self.covers.insert(*row));
    }

    /// Appends words of a row from its word `at` on. A word too many is left out: what checks a plan misses the
    /// goal, which burns last.
    pub(crate) fn push(&mut self, row: Row, first: usize, words: &[u32]) -> &mut Self {
        self.covers.insert(row);
        for (word, bits) in (first..).zip(words.iter().copied()).filter(|(_, bits)| *bits != 0) {
            if let Some(place) = self.burns.get_mut(self.len) {
                *place = Burn { word, bits };
                self.len = self.len.wrapping_add(1);
            }
        }
        self
    }

    pub(crate) fn record(&mut self, row: Row, bytes: &[u8; 32]) -> &mut Self {
        let mut data = [0; 8];
        for (word, bytes) in data.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_le_bytes(*bytes);
        }
        let copy = encode(row.number(), &data);
        data.zeroize();
        self.push(row, row.first_word(), &*copy).push(row, row.first_word().wrapping_add(COPY_WORDS), &*copy)
    }

    pub(crate) fn root(&mut self, row: Row, digest: &Digest) -> &mut Self {
        let valid = row.first_word().wrapping_add(VALID_FLAG);
        self.record(row, digest).push(row, valid, &[FLAG_BURNED; COPIES])
    }

    pub(crate) fn flag(&mut self, row: Row, flag: usize) -> &mut Self {
        self.push(row, row.first_word().wrapping_add(flag.wrapping_mul(COPIES)), &[FLAG_BURNED; COPIES])
    }

    pub(crate) fn lock(&mut self, row: Row) -> &mut Self {
        self.push(row, row.lock_words().start, &[FLAG_BURNED; COPIES])
    }

    pub(crate) fn level(&mut self, row: Row, level: u8) -> Result<&mut Self, Error> {
        let unused = MAX_LEVEL.checked_sub(level).ok_or(Error::LevelTooHigh(row, level))?;
        let bits = u64::MAX.checked_shr(u32::from(unused)).unwrap_or_default();
        let copy = [bits as u32, (bits >> 32) as u32];
        let first = row.first_word();
        for copy_at in [first, first.wrapping_add(2), first.wrapping_add(4)] {
            self.push(row, copy_at, &copy);
        }
        Ok(self)
    }

    fn floors(&mut self, floors: &[u8; ROLES as usize]) -> Result<(), Error> {
        for (row, floor) in Row::FLOORS.into_iter().zip(floors) {
            self.level(row, *floor)?;
        }
        Ok(())
    }

    pub(crate) fn lifecycle(&mut self, state: Lifecycle) -> &mut Self {
        self.push(Row::Lifecycle, Row::Lifecycle.first_word(), &[state.codeword(); COPIES])
    }
}
