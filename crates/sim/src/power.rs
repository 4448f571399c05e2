//! The supply that all parts of a device share.

use std::cell::RefCell;
use std::rc::Rc;

/// What the operation at which power fails has done until then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// Nothing yet.
    Nothing,
    /// A few of its bits.
    Some,
    /// Most of its bits.
    Most,
    /// All of it: power fails right afterwards.
    All,
}

impl Tear {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Nothing, Self::Some, Self::Most, Self::All];
}

#[derive(Debug, Default)]
struct State {
    operations: u64,
    cut: Option<(u64, Tear)>,
    off: bool,
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
        self.0.borrow_mut().cut = Some((number, tear));
    }

    /// Turns power on again, counts from 0 and does not fail any more.
    pub fn restore(&self) {
        *self.0.borrow_mut() = State::default();
    }

    /// Returns how many operations there were.
    pub fn operations(&self) -> u64 {
        self.0.borrow().operations
    }

    /// Tells whether power has failed.
    pub fn is_off(&self) -> bool {
        self.0.borrow().off
    }

    pub(crate) fn operation(&self) -> Fate {
        let mut state = self.0.borrow_mut();
        if state.off {
            return Fate::Off;
        }
        let number = state.operations;
        state.operations += 1;
        match state.cut {
            Some((at, tear)) if at == number => {
                state.off = true;
                Fate::Torn(tear, Noise(number))
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
            Tear::Nothing => 0,
            Tear::Some => a & b & c,
            Tear::Most => a | b | c,
            Tear::All => 0xFF,
        }
    }

    /// Tells whether a torn operation has come as far as one part of what it does.
    pub(crate) fn came_to(&mut self, tear: Tear) -> bool {
        let quarter = self.next() % 4;
        match tear {
            Tear::Nothing => false,
            Tear::Some => quarter == 0,
            Tear::Most => quarter != 0,
            Tear::All => true,
        }
    }
}
