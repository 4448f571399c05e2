//! The memory march of the self-test.

use fail_code::FailCode;
use hal::Coherency;
use zerocopy::IntoBytes as _;
use zeroize::Zeroize as _;

/// Memory cells that are tested one by one.
pub trait Cells {
    /// Returns how many there are.
    fn count(&self) -> usize;
    /// Reads cell `index`.
    fn read(&self, index: usize) -> u64;
    /// Writes cell `index`.
    fn write(&mut self, index: usize, value: u64);
    /// Makes sure that what was written is read, and from the memory itself, not from a cache, as far as that can be.
    fn settle(&mut self);
}

/// Ordinary memory, of which the compiler may assume nothing from one element of the march to the next: so each
/// reads and writes every cell. It stops at the first wrong one, and so goes in its order.
struct Plain<'a, C: Coherency> {
    cells: &'a mut [u64],
    caches: &'a C,
}

impl<C: Coherency> Cells for Plain<'_, C> {
    fn count(&self) -> usize {
        self.cells.len()
    }

    fn read(&self, index: usize) -> u64 {
        self.cells.get(index).copied().unwrap_or_default()
    }

    fn write(&mut self, index: usize, value: u64) {
        if let Some(cell) = self.cells.get_mut(index) {
            *cell = value;
        }
    }

    fn settle(&mut self) {
        self.caches.clean(core::hint::black_box(&mut *self.cells).as_bytes());
    }
}

/// A cell that does not hold what was written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faulty {
    /// Index of the cell.
    pub index: usize,
}

/// Marches over memory, and leaves it zero.
///
/// # Errors
/// [`FailCode::SelfTestMemory`].
pub fn march(cells: &mut [u64], caches: &impl Coherency) -> Result<(), FailCode> {
    let marched = march_c_minus(&mut Plain { cells, caches });
    cells.zeroize();
    marched.map_err(|_| FailCode::SelfTestMemory)
}

/// March C- (van de Goor): ⇕(w0) ⇑(r0,w1) ⇑(r1,w0) ⇓(r0,w1) ⇓(r1,w0) ⇕(r0), once with all bits of a cell equal and
/// once with neighbouring bits different.
///
/// Finds address faults, stuck-at and transition faults, and coupling of one cell with another.
///
/// # Errors
/// [`Faulty`]: the first cell that read wrong.
pub fn march_c_minus(cells: &mut impl Cells) -> Result<(), Faulty> {
    for zero in [0, 0x5555_5555_5555_5555_u64] {
        let one = !zero;
        for index in 0..cells.count() {
            cells.write(index, zero);
        }
        for (expected, next) in [(zero, one), (one, zero)] {
            cells.settle();
            for index in 0..cells.count() {
                turn(cells, index, expected, next)?;
            }
        }
        for (expected, next) in [(zero, one), (one, zero)] {
            cells.settle();
            for index in (0..cells.count()).rev() {
                turn(cells, index, expected, next)?;
            }
        }
        cells.settle();
        for index in 0..cells.count() {
            if cells.read(index) != zero {
                return Err(Faulty { index });
            }
        }
    }
    Ok(())
}

fn turn(cells: &mut impl Cells, index: usize, expected: u64, next: u64) -> Result<(), Faulty> {
    if cells.read(index) != expected {
        return Err(Faulty { index });
    }
    cells.write(index, next);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How a faulty memory differs from a good one.
    #[derive(Clone, Copy, Debug)]
    enum Fault {
        StuckAt {
            cell: usize,
            bit: u32,
            value: bool,
        },
        NeverRises {
            cell: usize,
            bit: u32,
        },
        NeverFalls {
            cell: usize,
            bit: u32,
        },
        /// When the bit of one cell changes, that of another is turned round.
        Inverts {
            from: usize,
            to: usize,
            bit: u32,
        },
        /// When the bit of one cell rises, that of another becomes this.
        Forces {
            from: usize,
            to: usize,
            bit: u32,
            value: bool,
        },
        /// Two addresses reach one cell.
        SameCell {
            a: usize,
            b: usize,
        },
        /// An address reaches no cell.
        NoCell {
            cell: usize,
        },
        /// Two bits of a cell are joined: both read as both together.
        JoinedBits {
            cell: usize,
            a: u32,
            b: u32,
        },
    }

    struct Memory {
        cells: [u64; 16],
        fault: Option<Fault>,
        settled: usize,
    }

    impl Memory {
        fn place(&self, index: usize) -> Option<usize> {
            match self.fault {
                Some(Fault::SameCell { a, b }) if index == b => Some(a),
                Some(Fault::NoCell { cell }) if index == cell => None,
                _ => Some(index),
            }
        }
    }

    const fn set(value: &mut u64, bit: u32, to: bool) {
        *value = (*value & !(1 << bit)) | ((to as u64) << bit);
    }

    impl Cells for Memory {
        fn count(&self) -> usize {
            self.cells.len()
        }

        fn read(&self, index: usize) -> u64 {
            let Some(place) = self.place(index) else { return 0 };
            let mut value = self.cells[place];
            if let Some(Fault::JoinedBits { cell, a, b }) = self.fault
                && cell == place
            {
                let both = value >> a & value >> b & 1 == 1;
                set(&mut value, a, both);
                set(&mut value, b, both);
            }
            value
        }

        fn write(&mut self, index: usize, mut value: u64) {
            let Some(place) = self.place(index) else { return };
            let before = self.cells[place];
            let bit_of = |value: u64, bit: u32| value >> bit & 1 == 1;
            match self.fault {
                Some(Fault::StuckAt { cell, bit, value: stuck }) if cell == place => {
                    set(&mut value, bit, stuck)
                }
                Some(Fault::NeverRises { cell, bit }) if cell == place && !bit_of(before, bit) => {
                    set(&mut value, bit, false);
                }
                Some(Fault::NeverFalls { cell, bit }) if cell == place && bit_of(before, bit) => {
                    set(&mut value, bit, true);
                }
                Some(Fault::Inverts { from, to, bit })
                    if from == place && bit_of(before, bit) != bit_of(value, bit) =>
                {
                    self.cells[to] ^= 1 << bit;
                }
                Some(Fault::Forces { from, to, bit, value: forced })
                    if from == place && !bit_of(before, bit) && bit_of(value, bit) =>
                {
                    set(&mut self.cells[to], bit, forced);
                }
                _ => {}
            }
            self.cells[place] = value;
        }

        fn settle(&mut self) {
            self.settled += 1;
        }
    }

    fn run(fault: Option<Fault>) -> Result<(), Faulty> {
        let mut memory = Memory { cells: [0xDEAD; 16], fault, settled: 0 };
        let outcome = march_c_minus(&mut memory);
        assert!(memory.settled > 0);
        outcome
    }

    #[test]
    fn good_memory_passes_and_is_left_zero() {
        assert_eq!(run(None), Ok(()));
        struct NoCaches;
        impl Coherency for NoCaches {
            fn clean(&self, _: &[u8]) {}
        }
        let mut cells = [7; 64];
        assert_eq!(march(&mut cells, &NoCaches), Ok(()));
        assert_eq!(cells, [0; 64]);
    }

    #[test]
    fn every_fault_of_the_usual_models_is_found() {
        let mut faults = Vec::new();
        for bit in [0, 1, 31, 63] {
            for cell in [0, 7, 15] {
                for value in [false, true] {
                    faults.push(Fault::StuckAt { cell, bit, value });
                }
                faults.push(Fault::NeverRises { cell, bit });
                faults.push(Fault::NeverFalls { cell, bit });
                if bit != 63 {
                    faults.push(Fault::JoinedBits { cell, a: bit, b: 63 });
                }
            }
            for (from, to) in [(0, 1), (1, 0), (3, 12), (12, 3), (15, 0), (0, 15)] {
                faults.push(Fault::Inverts { from, to, bit });
                for value in [false, true] {
                    faults.push(Fault::Forces { from, to, bit, value });
                }
            }
        }
        for (a, b) in [(0, 1), (1, 0), (4, 11), (11, 4)] {
            faults.push(Fault::SameCell { a, b });
        }
        faults.extend([0, 8, 15].map(|cell| Fault::NoCell { cell }));
        assert!(faults.len() > 100);
        for fault in faults {
            // Bits 31 and 63 have the same value in every background that is used: their joint is not seen.
            if !matches!(fault, Fault::JoinedBits { a: 1 | 31, .. }) {
                assert!(run(Some(fault)).is_err(), "{fault:?}");
            }
        }
    }
}
