//! The board as stage0 sees it.

use drivers::{MappedNor, MappedOtp};
use el3::mmu::{Kind, Level2};
use hal::{Otp, ReadError, Storage};
use memory_map::qemu_virt as map;
use memory_map::{MIB, Region};

use crate::{memory, take_once};

/// Where flash0 is mapped.
const FLASH: usize = map::FLASH0.base as usize;

/// What stage0 reads of flash0: from the boot slots to the state of closing.
const STORED: Region = Region::new(map::BOOT_SLOT_A.base, map::DEVICE_STATE.end() - map::BOOT_SLOT_A.base);

/// The address space of stage0: its own MMU block executable, the rest of flash0 readable where there is something
/// to read, secure RAM writable. No DRAM.
pub const fn level2() -> Level2 {
    Level2::new()
        .map(map::STAGE0_EXECUTABLE, Kind::Code)
        .map(STORED, Kind::ReadOnly)
        .map(Region::new(map::FLASH0.end() - 2 * MIB, 2 * MIB), Kind::ReadOnly)
        .map(map::DEVICES, Kind::Device)
        .map(map::SECURE_RAM, Kind::Data)
}

/// The fuses. Where they lie is no variable, which a fault could change for both looks.
pub struct Fuses(());

impl Fuses {
    fn bank() -> MappedOtp {
        // SAFETY: `level2` maps the bank read-only, and nothing programs it.
        MappedOtp::new(unsafe { flash(map::OTP) })
    }
}

impl Otp for Fuses {
    fn words(&self) -> usize {
        Self::bank().words()
    }

    fn read(&self, index: usize) -> Option<u32> {
        Self::bank().read(index)
    }
}

/// The part of flash0 that stage0 reads. Where it lies is no variable either.
pub struct Stored(());

impl Stored {
    fn part() -> MappedNor<FLASH> {
        // SAFETY: `level2` maps the region read-only, and nothing programs it.
        MappedNor::new(unsafe { flash(STORED) })
    }
}

impl Storage for Stored {
    fn size(&self) -> u64 {
        Self::part().size()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        Self::part().read(offset, into)
    }
}

/// What stage0 looks at and writes to. Whatever says something does not hold it: a fault in that must not find here where keys are.
pub struct Board {
    /// The fuses.
    pub otp: Fuses,
    /// The part of flash0 that holds both boot slots and the state of closing.
    pub flash: Stored,
    /// Where the next stage is decrypted to.
    pub run: &'static mut [u8],
    /// The page of the `BootInfo`.
    pub boot_info: &'static mut [u8],
    /// The page of the secrets that go with it.
    pub secrets: &'static mut [u8],
}

impl Board {
    /// Takes the board; `None` the second time.
    pub fn take() -> Option<Self> {
        take_once().then(|| {
            // SAFETY: the regions are mapped by `tables` and do not overlap (memory-map asserts it); secure RAM
            // was cleared. `take_once` makes each reference the only one.
            unsafe {
                Self {
                    otp: Fuses(()),
                    flash: Stored(()),
                    run: memory(map::STAGE_RUN),
                    boot_info: memory(map::BOOT_INFO),
                    secrets: memory(map::HANDOFF_SECRETS),
                }
            }
        })
    }

    /// Gives up everything but the way out.
    pub fn give_up(self) -> WayOut {
        WayOut(())
    }
}

/// The way into the stage that lies in [`Board::run`], once nobody holds the board any more.
pub struct WayOut(());

impl WayOut {
    /// Returns the memory of the stage, for a last look at it.
    pub fn stage(&self) -> &[u8] {
        // SAFETY: it is mapped secure RAM, which was cleared; the board, which held the only reference into it, was given up.
        unsafe { memory(map::STAGE_RUN) }
    }

    /// Wipes stage0 and enters the stage at `entry`, an absolute address, which was found twice.
    ///
    /// The caller has the evidence that every byte there is what was signed, and that `entry` lies within it. An
    /// address outside where stages run is fatal; two that differ are never entered.
    pub fn enter_stage(self, entry: u64, confirmed: u64) -> ! {
        /// `FailCode::LoadAddress`.
        const LOAD_ADDRESS: u16 = 404;
        if !map::STAGE_CODE.contains(entry, 4) || !entry.is_multiple_of(4) {
            el3::fatal(LOAD_ADDRESS);
        }
        for region in [map::STAGE_RUN, map::BOOT_INFO, map::HANDOFF_SECRETS] {
            // SAFETY: it is mapped secure RAM, which was cleared; the board, which held the only reference into it, was given up.
            el3::cache::clean(unsafe { memory(region) });
        }
        // SAFETY: `entry` lies in the executable part of where stages run, which the caller has verified.
        unsafe { el3::exit::enter_stage(entry, confirmed, map::BOOT_INFO.base) }
    }
}

/// # Safety
/// The region must be mapped flash that nothing programs, and `T` one of the types of integers.
unsafe fn flash<T>(region: Region) -> &'static [T] {
    let pointer = core::ptr::with_exposed_provenance(region.base as usize);
    // SAFETY: the caller promises it; a region of flash is aligned to its erase block.
    unsafe { core::slice::from_raw_parts(pointer, region.size as usize / size_of::<T>()) }
}
