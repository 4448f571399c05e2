//! The board as the provisioning stage sees it.

use drivers::otp::Rules;
use drivers::uart::Uart;
use el3::cores::Team;
use el3::mmu::Level2;
use memory_map::qemu_virt as map;

pub use crate::flash::{Flash, Fuses};
use crate::ram::Devices;
use crate::{flash, memory, ram, take_once, uart};

/// The address space of the provisioning stage: that of a stage in RAM, and what it writes of flash0.
pub const fn level2() -> Level2 {
    flash::provisioning_level2()
}

/// What the provisioning stage works with.
pub struct Board {
    /// UART0.
    pub console: Uart,
    /// UART1: the station link.
    pub link: Uart,
    /// The `BootInfo` that stage0 wrote.
    pub boot_info: &'static mut [u8],
    /// The secrets that stage0 wrote, and its evidence.
    pub secrets: &'static mut [u8],
    /// flash0, but for stage0 and the fuses.
    pub flash: Flash,
    /// The fuses.
    pub otp: Fuses,
    /// The disk and the entropy source.
    pub devices: Devices,
    /// All cores.
    pub cores: Team,
}

impl Board {
    /// Takes the board and sets up the heap; `None` the second time, or if not all cores can be called. `rules` are those
    /// of the fuses.
    ///
    /// Cores that stage0 parked execute from flash0, which does not read as code while it is written: they are called
    /// into RAM first, and wait there until the system is reset.
    pub fn take(rules: Rules) -> Option<Self> {
        if !take_once() {
            return None;
        }
        ram::start_heap();
        ram::reuse_heap();
        ram::start_gic()?;
        let cores = ram::gather_all_cores()?;
        let (flash, otp) = flash::provisioning(rules);
        // SAFETY: the regions are mapped by the tables and do not overlap (memory-map asserts it). The handoff pages
        // hold bytes of whatever value. `take_once` makes each reference the only one.
        unsafe {
            Some(Self {
                console: uart(map::UART0),
                link: uart(map::UART1),
                boot_info: memory(map::BOOT_INFO),
                secrets: memory(map::HANDOFF_SECRETS),
                flash,
                otp,
                devices: Devices::none(),
                cores,
            })
        }
    }
}
