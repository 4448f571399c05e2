//! Two chips on a 32-bit bus, as a model that panics at what a chip does not document.

use std::cell::Cell;
use std::collections::VecDeque;

use hal::Clock;

use super::{Bank, Bus, both};

/// Words of the bank: four blocks.
pub(crate) const WORDS: usize = 4 * BLOCK;
/// Words of a block.
pub(crate) const BLOCK: usize = 1024;

/// What programming does to bits that are zero already.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Cells {
    /// They stay zero.
    OneWay,
    /// They take the new value, as QEMU's do.
    Rewritable,
}

#[derive(Clone, Debug, PartialEq)]
enum Mode {
    Array,
    Status,
    Query,
    Erase,
    Word,
    Count,
    Buffer { missing: u32, words: VecDeque<(u64, u32)> },
}

/// The chips.
pub(crate) struct Chips {
    pub(crate) words: Vec<u32>,
    cells: Cells,
    mode: Mode,
    status: u32,
    /// Reads of the status until the operation is done.
    busy: Cell<u32>,
    /// Error bits that the next operation ends with, having done nothing.
    pub(crate) fails: u32,
    /// The chips do not become ready any more.
    pub(crate) dead: bool,
    pub(crate) query: [u32; 0x31],
    /// Programs and erases so far.
    pub(crate) operations: usize,
}

impl Chips {
    /// Makes blank chips.
    pub(crate) fn new(cells: Cells) -> Self {
        let mut query = [0; 0x31];
        let fields = [(0x10, b'Q'), (0x11, b'R'), (0x12, b'Y'), (0x13, 1), (0x27, 13), (0x2A, 11), (0x2C, 1)];
        let fields = fields.into_iter().chain([(0x2D, 3), (0x2F, 8)]);
        fields.for_each(|(at, byte)| query[at] = both(u32::from(byte)));
        Self {
            words: vec![u32::MAX; WORDS],
            cells,
            mode: Mode::Array,
            status: both(0x80),
            busy: Cell::new(0),
            fails: 0,
            dead: false,
            query,
            operations: 0,
        }
    }

    /// Makes a bank of them.
    pub(crate) fn bank(self) -> Bank<Self, Ticks> {
        Bank::new(self, Ticks(Cell::new(0)))
    }

    /// Returns how many programs and erases the chips of a bank did so far.
    pub(crate) fn operations_of(bank: &Bank<Self, Ticks>) -> usize {
        bank.bus.lock().operations
    }

    pub(crate) fn is_in_array_mode(&self) -> bool {
        self.mode == Mode::Array
    }

    /// Ends an operation, which `work` does if nothing is to fail.
    fn operate(&mut self, work: impl FnOnce(&mut Self)) {
        self.operations += 1;
        self.status |= both(0x80) | self.fails;
        if core::mem::take(&mut self.fails) == 0 {
            work(self);
        }
        self.busy.set(3);
        self.mode = Mode::Status;
    }

    fn program(&mut self, at: u64, value: u32) {
        let cell = &mut self.words[at as usize];
        *cell = if self.cells == Cells::OneWay { *cell & value } else { value };
    }
}

impl Bus for Chips {
    fn read(&self, word: u64) -> u32 {
        match self.mode {
            Mode::Array => self.words[word as usize],
            Mode::Query => self.query.get(word as usize).copied().unwrap_or(0),
            _ if self.dead => 0,
            _ if self.busy.get() > 0 => {
                self.busy.set(self.busy.get() - 1);
                // One chip is ready before the other.
                self.status & 0xFFFF
            }
            _ => self.status,
        }
    }

    fn write(&mut self, word: u64, value: u32) {
        let mode = core::mem::replace(&mut self.mode, Mode::Status);
        match (mode, value) {
            (Mode::Array | Mode::Status | Mode::Query, command) => {
                self.mode = match command & 0xFF {
                    0xFF => Mode::Array,
                    0x98 => Mode::Query,
                    0x70 => Mode::Status,
                    0x50 => {
                        self.status = 0;
                        Mode::Status
                    }
                    0x20 => Mode::Erase,
                    0x40 => Mode::Word,
                    0xE8 => {
                        self.status |= both(0x80);
                        Mode::Count
                    }
                    other => panic!("no command: {other:#x}"),
                };
                assert_eq!(command, both(command & 0xFF), "both chips get every command");
            }
            (Mode::Erase, confirm) => {
                assert_eq!(confirm, both(0xD0));
                let start = word as usize / BLOCK * BLOCK;
                self.operate(|chips| chips.words[start..start + BLOCK].fill(u32::MAX));
            }
            (Mode::Word, value) => self.operate(|chips| chips.program(word, value)),
            (Mode::Count, count) => {
                assert_eq!(count, both(count & 0xFFFF));
                let missing = (count & 0xFFFF) + 1;
                // QEMU refuses a buffer of one word.
                assert!((2..=512).contains(&missing), "a buffer of {missing} words");
                self.mode = Mode::Buffer { missing, words: VecDeque::new() };
            }
            (Mode::Buffer { missing: 0, words }, confirm) => {
                assert_eq!(confirm, both(0xD0));
                let first = words[0].0;
                assert!(words.iter().all(|(at, _)| at / 512 == first / 512), "across a buffer's end");
                self.operate(|chips| words.iter().for_each(|(at, value)| chips.program(*at, *value)));
            }
            (Mode::Buffer { missing, mut words }, value) => {
                words.push_back((word, value));
                self.mode = Mode::Buffer { missing: missing - 1, words };
            }
        }
    }
}

/// A clock that runs when it is looked at.
pub(crate) struct Ticks(Cell<u64>);

impl Clock for Ticks {
    fn now(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }

    fn hz(&self) -> u64 {
        100
    }
}
