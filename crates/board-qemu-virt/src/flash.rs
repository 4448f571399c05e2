//! flash0 as a stage that writes it sees it.
//!
//! # Threats
//! Whoever can write flash0 can replace what boots, and undo fuses, which it stands in for. So it is mapped for
//! writing in the provisioning stage, and in the production stage only while closing ends. The views and the rules of
//! the fuses bound each holder further. stage0 is in none of them; the provisioning stage maps its block to read what
//! the bank says of itself there, and cannot write it.

use alloc::boxed::Box;

use drivers::nor::{ANSWER, Bank, Mmio, Nor, View};
use drivers::otp::{NorOtp, Rules};
use el3::cores::Team;
use el3::mmu::{Kind, Level1, Level2};
use memory_map::qemu_virt as map;
use memory_map::{MIB, Region};

use crate::Counter;
use crate::ram;

/// Slots, journal, state and staging: what provisioning writes.
const PROVISIONED: Region =
    Region::new(map::BOOT_SLOT_A.base, map::BOOT_STAGING.end() - map::BOOT_SLOT_A.base);
/// The same without the slot that is running.
const CLOSED: Region = Region::new(map::BOOT_SLOT_B.base, map::BOOT_STAGING.end() - map::BOOT_SLOT_B.base);
/// The MMU block where the bank says what it is, which holds stage0.
const IDENTITY: Region = map::STAGE0_EXECUTABLE;
/// The MMU block that holds the OTP bank.
const OTP_BLOCK: Region = Region::new(map::FLASH0.end() - 2 * MIB, 2 * MIB);

/// The flash bank.
pub type Flash = Nor<'static, Mmio, Counter>;
/// The fuses.
pub type Fuses = NorOtp<'static, Mmio, Counter>;

/// All of flash0 that some stage maps; a stage that maps less has views of less.
static BANK: Bank<Mmio, Counter> = {
    // SAFETY: a view is made by a stage that maps what it shows as device memory, and nothing else reaches flash0. What
    // is below the answer to a query, address 0 included, is left out.
    Bank::new(
        unsafe { Mmio::new(map::FLASH0.base, map::FLASH0.part(ANSWER, map::FLASH0.size - ANSWER)) },
        Counter,
    )
};

/// The address space of the provisioning stage: that of a stage in RAM, and flash0, of which stage0 is read only.
pub(crate) const fn provisioning_level2() -> Level2 {
    ram::level2()
        .map(IDENTITY, Kind::ReadOnlyDevice)
        .map(PROVISIONED, Kind::Device)
        .map(OTP_BLOCK, Kind::Device)
}

/// Opens flash0 and the fuses for provisioning: the backup slot, which holds the running stage, and the vendor's
/// certificates are only read.
pub(crate) const fn provisioning(rules: Rules) -> (Flash, Fuses) {
    const VIEW: View = View {
        block: map::FLASH_BLOCK,
        identity: true,
        readable: &[PROVISIONED, map::VENDOR_CERTIFICATE],
        writable: &[
            map::BOOT_SLOT_A,
            Region::new(map::JOURNAL.base, map::BOOT_STAGING.end() - map::JOURNAL.base),
        ],
    };
    (Nor::new(&BANK, VIEW), NorOtp::new(&BANK, map::OTP_WORDS, rules))
}

/// Translation tables in RAM.
#[repr(C, align(4096))]
struct Tables {
    level2: Level2,
    level1: Level1,
}

/// Maps the backup slot, the journal, the device state, the staging place and the fuses of flash0 for `work`, and unmaps
/// them. `rules` are those of the fuses. `None`, and nothing is done, while a core that is not of `team` is parked in
/// flash0, since the flash does not read as code while it is written.
///
/// Only the calling core sees the flash. `work` must not be entered again from within.
pub fn with_flash<T>(
    team: &mut Team,
    rules: Rules,
    work: impl FnOnce(&mut Flash, &mut Fuses) -> T,
) -> Option<T> {
    const VIEW: View =
        View { block: map::FLASH_BLOCK, identity: false, readable: &[CLOSED], writable: &[CLOSED] };
    if !ram::all_run_in_ram(team) {
        return None;
    }
    let mut tables = Box::new(Tables {
        level2: ram::level2().map(CLOSED, Kind::Device).map(OTP_BLOCK, Kind::Device),
        level1: Level1::new(0).map_dram(map::DRAM_BASE, map::DRAM_MAX),
    });
    let level2 = &raw const tables.level2 as u64;
    tables.level1 = Level1::new(level2).map_dram(map::DRAM_BASE, map::DRAM_MAX);
    // SAFETY: the tables map what the stage's own do, with flash0 added, which nothing else maps; they live until the
    // stage's own are in force again.
    let done = unsafe {
        el3::mmu::with_tables(&raw const tables.level1 as u64, || {
            work(&mut Nor::new(&BANK, VIEW), &mut NorOtp::new(&BANK, map::OTP_WORDS, rules))
        })
    };
    Some(done)
}
