//! Every address and size of every board, spelled once.
//!
//! A linker script takes its numbers from here through its stage's build script, the MMU tables and drivers
//! through the board crate, and a test compares the board's device tree with this table. Sizes are in bytes.
#![no_std]
#![forbid(unsafe_code)]

pub mod qemu_virt;

/// A range of physical addresses: `base` up to, not including, `base + size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First address.
    pub base: u64,
    /// Length in bytes.
    pub size: u64,
}

impl Region {
    /// Makes a region of `size` bytes that starts at `base`.
    pub const fn new(base: u64, size: u64) -> Self {
        Self { base, size }
    }

    /// Returns the first address after the region.
    pub const fn end(&self) -> u64 {
        self.base + self.size
    }

    /// Tells whether `size` bytes from `base` lie wholly inside; false if their end overflows.
    pub const fn contains(&self, base: u64, size: u64) -> bool {
        match base.checked_add(size) {
            Some(end) => base >= self.base && end <= self.end(),
            None => false,
        }
    }

    /// Tells whether the two regions share a byte.
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.base < other.end() && other.base < self.end()
    }

    /// Returns the region of `size` bytes that starts `offset` bytes into this one. For constants: fails the
    /// build if it does not fit.
    pub const fn part(&self, offset: u64, size: u64) -> Self {
        assert!(offset + size <= self.size);
        Self { base: self.base + offset, size }
    }
}

/// One kibibyte.
pub const KIB: u64 = 1024;
/// One mebibyte.
pub const MIB: u64 = 1024 * KIB;
/// One gibibyte.
pub const GIB: u64 = 1024 * MIB;
