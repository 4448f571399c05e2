//! Translation tables and what turns the MMU on.
//!
//! Addresses are mapped to themselves. What lies below 256 MiB (flash, devices, secure RAM) is mapped in blocks of
//! 2 MiB by a level 2 table of 128 entries; stage0, which needs no more, starts its walks there. A stage that needs
//! DRAM starts them at a level 1 table of 16 entries of 1 GiB, of which that table is the first. The tables are
//! constants of the image, so that no code runs before they exist. See Arm ARM, D8 (VMSAv8-64).

use aarch64_cpu::registers::{MAIR_EL1, SCTLR_EL3, TCR_EL2};
use memory_map::{GIB, MIB, Region};

const BLOCK: u64 = 0b01;
const TABLE: u64 = 0b11;
const ACCESSED: u64 = 1 << 10;
const INNER_SHAREABLE: u64 = 0b11 << 8;
const READ_ONLY: u64 = 1 << 7;
/// `AP[1]`, RES1 in a regime of one exception level.
const AP1: u64 = 1 << 6;
const NON_SECURE: u64 = 1 << 5;
const EXECUTE_NEVER: u64 = 1 << 54;

/// `MAIR_EL3` index 0: Device-nGnRnE. Index 1: Normal, write-back, read and write allocate.
const DEVICE_INDEX: u64 = 0 << 2;
const NORMAL_INDEX: u64 = 1 << 2;
const DEVICE: u64 = DEVICE_INDEX | EXECUTE_NEVER;
const NORMAL: u64 = NORMAL_INDEX | INNER_SHAREABLE;

/// How a region is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Device registers.
    Device,
    /// Device registers that are only read.
    ReadOnlyDevice,
    /// Secure code and constants: executable, never writable.
    Code,
    /// Memory that is only read, and never executed.
    ReadOnly,
    /// Secure data: writable, never executable.
    Data,
}

impl Kind {
    const fn attributes(self) -> u64 {
        match self {
            Self::Device => DEVICE,
            Self::ReadOnlyDevice => DEVICE | READ_ONLY,
            Self::Code => NORMAL | READ_ONLY,
            Self::ReadOnly => NORMAL | READ_ONLY | EXECUTE_NEVER,
            Self::Data => NORMAL | EXECUTE_NEVER,
        }
    }
}

/// The level 2 table of a stage: everything below [`LOW`].
#[repr(C, align(1024))]
pub struct Level2([u64; 128]);

/// The level 1 table of a stage that reaches DRAM.
#[repr(C, align(128))]
pub struct Level1([u64; 16]);

/// End of what a level 2 table maps.
const LOW: u64 = 256 * MIB;

/// Bits of an address that a walk from the level 2 table resolves, and from the level 1 table.
const LOW_BITS: u64 = 28;
const FULL_BITS: u64 = 34;

/// Defines the running stage's translation tables, which its linker script places: `tables!(level2)`, or
/// `tables!(level1, level2)` for a stage that reaches DRAM.
#[macro_export]
macro_rules! tables {
    ($level2:expr) => {
        $crate::tables!(@ kiln_tables: $crate::mmu::Level2 = $level2, $crate::mmu::TCR_LOW);
    };
    ($level1:expr, $level2:expr) => {
        $crate::tables!(@ kiln_tables: $crate::mmu::Level1 = $level1, $crate::mmu::TCR_FULL);
        const _: () = {
            // Nothing names it: the level 1 table holds its address, which the linker script gives it.
            #[used]
            #[unsafe(export_name = "kiln_level2")]
            #[unsafe(link_section = ".level2")]
            static LEVEL2: $crate::mmu::Level2 = $level2;
        };
    };
    (@ kiln_tables: $type:ty = $first:expr, $tcr:expr) => {
        const _: () = {
            #[unsafe(export_name = "kiln_tables")]
            #[unsafe(link_section = ".tables")]
            static TABLES: $type = $first;
            #[unsafe(export_name = "kiln_tcr")]
            #[unsafe(link_section = ".tcr")]
            static TCR: u64 = $tcr;
        };
    };
}

impl Level1 {
    /// Makes a table whose first entry is the level 2 table at address `level2`.
    pub const fn new(level2: u64) -> Self {
        assert!(level2.is_multiple_of(4096));
        let mut entries = [0; 16];
        entries[0] = level2 | TABLE;
        Self(entries)
    }

    /// Maps non-secure DRAM from `base` on, writable and never executable, in blocks of 1 GiB.
    pub const fn map_dram(self, base: u64, size: u64) -> Self {
        self.map_dram_as(base, size, Kind::Data)
    }

    /// Maps non-secure DRAM as [`Level1::map_dram`] does, but so that it is only read.
    pub const fn map_dram_read_only(self, base: u64, size: u64) -> Self {
        self.map_dram_as(base, size, Kind::ReadOnly)
    }

    const fn map_dram_as(mut self, base: u64, size: u64, kind: Kind) -> Self {
        assert!(base.is_multiple_of(GIB) && base > 0);
        let mut address = base;
        while address < base + size {
            let entry = &mut self.0[(address / GIB) as usize];
            assert!(*entry == 0, "mapped twice");
            *entry = address | BLOCK | ACCESSED | AP1 | kind.attributes() | NON_SECURE;
            address += GIB;
        }
        self
    }
}

impl Level2 {
    /// Makes a table that maps nothing.
    pub const fn new() -> Self {
        Self([0; 128])
    }

    /// Maps `region` in blocks of 2 MiB. It must lie below 256 MiB, on block boundaries, and not be mapped yet.
    pub const fn map(mut self, region: Region, kind: Kind) -> Self {
        assert!(region.base.is_multiple_of(2 * MIB) && region.size.is_multiple_of(2 * MIB));
        assert!(region.end() <= LOW);
        let mut address = region.base;
        while address < region.end() {
            let entry = &mut self.0[(address / (2 * MIB)) as usize];
            assert!(*entry == 0, "mapped twice");
            *entry = address | BLOCK | ACCESSED | AP1 | kind.attributes();
            address += 2 * MIB;
        }
        self
    }
}

impl Default for Level2 {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs `work` with other translation tables in force on the calling core: those whose level 1 table is at address
/// `level1`. The stage's own are in force again afterwards, and no translation of the others is left.
///
/// # Safety
/// The tables must be those of a stage that reaches DRAM, map everything that the stage's own do in the same way, and
/// live and stay as they are until this returns.
pub unsafe fn with_tables<T>(level1: u64, work: impl FnOnce() -> T) -> T {
    // SAFETY: the caller promises that nothing that is mapped now is mapped otherwise.
    let own = unsafe { switch_tables(level1) };
    let result = work();
    // SAFETY: these are the tables that were in force before.
    unsafe { switch_tables(own) };
    result
}

/// Puts tables in force on the calling core, those whose level 1 table is at address `first`, and returns those that were. No
/// translation of theirs is left.
///
/// # Safety
/// The tables must be those of a stage that reaches DRAM, and live and stay as they are until others are in force. What they map
/// otherwise than those that were, or not at all, must not be used in a way that they forbid, but where that is meant to be an exception.
pub unsafe fn switch_tables(first: u64) -> u64 {
    let own: u64;
    // SAFETY: the barriers make the new tables visible to walks before and their translations to accesses after; the
    // caller vouches for what they map.
    unsafe {
        core::arch::asm!(
            "mrs {own}, ttbr0_el3",
            "dsb ish",
            "msr ttbr0_el3, {first}",
            "isb",
            "tlbi alle3",
            "dsb ish",
            "isb",
            own = out(reg) own,
            first = in(reg) first,
            options(nostack, preserves_flags)
        );
    }
    own
}

/// `MAIR_EL3`, which has the fields of `MAIR_EL1`: index 0 Device-nGnRnE, index 1 Normal write-back.
pub(crate) const MAIR: u64 = MAIR_EL1::Attr0_Device::nonGathering_nonReordering_noEarlyWriteAck.value
    | MAIR_EL1::Attr1_Normal_Outer::WriteBack_NonTransient_ReadWriteAlloc.value
    | MAIR_EL1::Attr1_Normal_Inner::WriteBack_NonTransient_ReadWriteAlloc.value;

/// `TCR_EL3` for walks from the level 2 table.
pub const TCR_LOW: u64 = tcr(LOW_BITS);
/// `TCR_EL3` for walks from the level 1 table.
pub const TCR_FULL: u64 = tcr(FULL_BITS);

/// `TCR_EL3`, which has the fields of `TCR_EL2`: 4 KiB granule, walks through inner shareable write-back memory,
/// 36-bit physical addresses. Bits 23 and 31 are RES1.
const fn tcr(address_bits: u64) -> u64 {
    TCR_EL2::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable.value
        | TCR_EL2::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable.value
        | TCR_EL2::SH0::Inner.value
        | TCR_EL2::TG0::KiB_4.value
        | TCR_EL2::PS::Bits_36.value
        | (1 << 23)
        | (1 << 31)
        | (64 - address_bits)
}

/// RES1 bits of `SCTLR_EL3`: 4, 5, 11, 16, 18, 22, 23, 28 and 29.
const SCTLR_RES1: u64 = 0x30C5_0830;

/// `SCTLR_EL3` while the MMU is off: instruction cache on, stack alignment checked. (`SET`, since the names that
/// aarch64-cpu 11.2 gives to the values of `C` and `I` are the wrong way round.)
pub(crate) const SCTLR_OFF: u64 = SCTLR_RES1 | SCTLR_EL3::I::SET.value | SCTLR_EL3::SA::SET.value;

/// `SCTLR_EL3` while it is on: caches on, writable memory never executable. Unaligned access is legal.
pub(crate) const SCTLR_ON: u64 =
    SCTLR_OFF | SCTLR_EL3::M::SET.value | SCTLR_EL3::C::SET.value | SCTLR_EL3::WXN::SET.value;

/// Assembly that turns the MMU and the caches on, with the stage's own tables; clobbers x9.
macro_rules! mmu_on {
    () => {
        "ldr x9, ={mair}
        msr mair_el3, x9
        adrp x9, kiln_tcr
        ldr x9, [x9, :lo12:kiln_tcr]
        msr tcr_el3, x9
        adrp x9, kiln_tables
        add x9, x9, :lo12:kiln_tables
        msr ttbr0_el3, x9
        msr cptr_el3, xzr
        tlbi alle3
        ic iallu
        dsb sy
        isb
        ldr x9, ={sctlr_on}
        msr sctlr_el3, x9
        isb"
    };
}
pub(crate) use mmu_on;
