//! The supply that all parts of a device share.

use std::cell::RefCell;
use std::rc::Rc;

/// What the operation at which power fails has done until then, and what becomes of those before it that were not flushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tear {
    /// Nothing yet.
    Nothing,
    /// A few of its bits.
    Some,
    /// Most of its bits.
    Most,
    /// All of it: power fails right afterwards.
    All,
    /// A few of its bits; and of the operations since the last flush each is done or not, whatever their order was.
    Disordered,
    /// Some of its bits for good, some not, and some read otherwise each time, until they are programmed or erased again.
    Unstable,
    /// All of it, but for one bit, which reads otherwise each time until it is programmed, erased or burned again.
    Weak,
    /// Nothing of it, but for one bit, which reads otherwise each time until it is programmed, erased or burned.
    Touched,
}

impl Tear {
    /// Every way.
    pub const ALL: [Self; 8] = [
        Self::Nothing,
        Self::Some,
        Self::Most,
        Self::All,
        Self::Disordered,
        Self::Unstable,
        Self::Weak,
        Self::Touched,
    ];
}

/// What one operation does, for whoever wants to do it again.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Programs these bytes of NOR flash.
    Program {
        /// Where, in bytes.
        offset: u64,
        /// At most 64 bytes.
        bytes: Vec<u8>,
    },
    /// Erases a block of NOR flash.
    Erase {
        /// Where it starts, in bytes.
        offset: u64,
    },
    /// Waits until NOR flash has done what it was told.
    FlushNor,
    /// Writes a sector of the disk.
    Sector {
        /// Where, in bytes.
        offset: u64,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// Waits until the disk has done what it was told.
    FlushDisk,
    /// Burns bits of a word of the fuses.
    Burn {
        /// The word.
        index: usize,
        /// The bits.
        bits: u32,
    },
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
    cut: Option<(u64, Tear, u64)>,
    /// How power failed, if it has.
    failed: Option<(Tear, Noise)>,
    record: Option<Vec<Operation>>,
}

/// The supply: counts operations and fails at one of them.
#[derive(Clone, Debug, Default)]
pub struct Power(Rc<RefCell<State>>);

/// What becomes of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is done.
    Done,
    /// Power fails during it.
    Torn(Tear, Noise),
    /// There is no power.
    Off,
}

impl Power {
    /// Returns a supply that does not fail.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets power fail at operation `number`, counted from 0 since the supply was made or restored.
    pub fn cut_at(&self, number: u64, tear: Tear) {
        self.cut_with(number, tear, number);
    }

    /// Lets power fail at operation `number`; which bits of it are done follows from `seed`.
    pub fn cut_with(&self, number: u64, tear: Tear, seed: u64) {
        self.0.borrow_mut().cut = Some((number, tear, seed));
    }

    /// Turns power on again, counts from 0 and does not fail any more. What was not flushed is lost or not as the cut
    /// has it only once the parts were told ([`Nor::settle`](crate::Nor::settle), [`Disk::settle`](crate::Disk::settle)).
    pub fn restore(&self) {
        *self.0.borrow_mut() = State::default();
    }

    /// Returns how many operations there were.
    pub fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// Tells whether power has failed.
    pub fn is_off(&self) -> bool {
        self.0.borrow().failed.is_some()
    }

    /// Keeps every operation from now on; flash then remembers what it did since its last flush.
    pub fn record(&self) {
        self.0.borrow_mut().record = Some(Vec::new());
    }

    /// Returns the operations that were kept, and keeps no more.
    pub fn recorded(&self) -> Vec<Operation> {
        self.0.borrow_mut().record.take().unwrap_or_default()
    }

    /// Tells whether a cut is planned, or operations are kept so that one can be planned for a copy of the device.
    pub(crate) fn may_fail(&self) -> bool {
        let state = self.0.borrow();
        state.cut.is_some() || state.record.is_some()
    }

    /// How power failed, if it has.
    pub(crate) fn failed(&self) -> Option<(Tear, Noise)> {
        self.0.borrow().failed
    }

    pub(crate) fn operation(&self, what: impl FnOnce() -> Operation) -> Fate {
        let mut state = self.0.borrow_mut();
        if state.failed.is_some() {
            return Fate::Off;
        }
        let number = state.operations;
        state.operations += 1;
        if let Some(record) = &mut state.record {
            record.push(what());
        }
        match state.cut {
            Some((at, tear, seed)) if at == number => {
                state.failed = Some((tear, Noise(seed)));
                Fate::Torn(tear, Noise(seed))
            }
            _ => Fate::Done,
        }
    }
}

/// Pseudo-random numbers that follow from a seed (SplitMix64): for tests that can be run again, not for keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Noise(pub u64);

impl Noise {
    /// Returns the next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    /// Returns those of eight bits that a torn operation has reached.
    pub(crate) fn reached(&mut self, tear: Tear) -> u8 {
        let word = self.next();
        let [a, b, c, ..] = word.to_le_bytes();
        match tear {
            Tear::Nothing | Tear::Touched => 0,
            Tear::Some | Tear::Disordered => a & b & c,
            Tear::Most => a | b | c,
            Tear::All | Tear::Weak => 0xFF,
            Tear::Unstable => a,
        }
    }

    /// Returns those of eight bits that a torn operation may leave unstable, if it has reached them.
    pub(crate) fn unstable(&mut self, tear: Tear) -> u8 {
        if tear == Tear::Unstable { self.next() as u8 } else { 0 }
    }

    /// Chooses the one bit that a torn operation leaves unstable, out of those that it was to change, which are given by
    /// byte: which byte, and the bit. Nothing if it leaves none, or many.
    pub(crate) fn only(
        &mut self,
        tear: Tear,
        changing: impl Iterator<Item = u8> + Clone,
    ) -> Option<(usize, u8)> {
        if !matches!(tear, Tear::Weak | Tear::Touched) {
            return None;
        }
        let bits = changing.clone().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
        let mut number = self.next().checked_rem(bits)?;
        for (at, byte) in changing.enumerate() {
            let here = u64::from(byte.count_ones());
            if number < here {
                let mut bits = (0..8).map(|bit| 1 << bit).filter(|bit| byte & bit != 0);
                return Some((at, bits.nth(number as usize)?));
            }
            number -= here;
        }
        None
    }

    /// Tells whether an operation that was not flushed is done.
    pub(crate) fn came_to(&mut self, tear: Tear) -> bool {
        let quarter = self.next() % 4;
        match tear {
            Tear::Nothing | Tear::Touched => false,
            Tear::Some => quarter == 0,
            Tear::Disordered | Tear::Unstable => quarter < 2,
            Tear::Most => quarter != 0,
            Tear::All | Tear::Weak => true,
        }
    }
}
