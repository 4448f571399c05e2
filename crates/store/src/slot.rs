use crate::ALIGN;
use memory_map::Region;

/// One of the two places of an image or a set of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Slot {
    /// The primary slot.
    A = 0,
    /// The backup slot.
    B = 1,
}

impl Slot {
    /// Both slots, in the order in which they are tried.
    pub const TRIES: [Self; 2] = [Self::A, Self::B];

    /// Returns the number that the handoff and the boot record carry.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Finds a slot by its number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::A),
            1 => Some(Self::B),
            _ => None,
        }
    }

    /// Returns the letter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::B => "B",
        }
    }
}

/// Where a pair of slots lies in its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slots {
    a: Region,
    b: Region,
}

impl Slots {
    /// Places the slots. For constants: fails the build if one is not aligned, or if they overlap.
    ///
    /// ```
    /// use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B, OS_SLOT_A, OS_SLOT_B};
    /// use store::{Slot, Slots};
    ///
    /// const BOOT: Slots = Slots::new(BOOT_SLOT_A, BOOT_SLOT_B);
    /// const OS: Slots = Slots::new(OS_SLOT_A, OS_SLOT_B);
    /// assert_eq!(BOOT.region(Slot::B), BOOT_SLOT_B);
    /// ```
    pub const fn new(a: Region, b: Region) -> Self {
        assert!(a.base.is_multiple_of(ALIGN) && a.size.is_multiple_of(ALIGN) && a.size > 0);
        assert!(b.base.is_multiple_of(ALIGN) && b.size.is_multiple_of(ALIGN) && b.size > 0);
        assert!(!a.overlaps(&b));
        Self { a, b }
    }

    /// Returns where a slot lies.
    pub const fn region(&self, slot: Slot) -> Region {
        match slot {
            Slot::A => self.a,
            Slot::B => self.b,
        }
    }
}
