//! QEMU `virt` with TrustZone: the only place where an address becomes a pointer.
//!
//! `rom::Board` is what stage0 gets, `provision::Board` what the provisioning stage gets, `ram::Board` what the
//! production stage gets; `with_flash` lends it flash0 and the fuses while closing ends. Each is made once in a stage's
//! life, so that every register block and every region of memory has one owner.
//!
//! Only modelled on this board, since code at EL3, a debugger or a write to the flash file defeats it: one-way
//! fuse bits, row locks, the hiding of the silicon secret after stage0, the debug lock, the chip id, and stage0
//! being immutable.
#![cfg(target_os = "none")]
#![no_std]

extern crate alloc;

mod flash;
pub mod provision;
pub mod ram;
pub mod rom;

pub use flash::{Flash, Fuses, with_flash};

use arm_pl011_uart::{PL011Registers, UniqueMmioPointer};
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, Ordering};
use drivers::gpio::PowerPins;
use drivers::uart::Uart;
use hal::Coherency;
use memory_map::Region;
use memory_map::qemu_virt as map;

/// Clock of both UARTs in Hz.
const UART_CLOCK: u32 = 24_000_000;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Returns true the first time.
fn take_once() -> bool {
    !TAKEN.swap(true, Ordering::Relaxed)
}

/// Makes a slice of memory that is mapped for the whole life of the stage.
///
/// # Safety
/// The region must be mapped, writable and initialised, and no other reference to any of it may exist.
unsafe fn memory(region: Region) -> &'static mut [u8] {
    let pointer = core::ptr::with_exposed_provenance_mut(region.base as usize);
    // SAFETY: the caller promises it.
    unsafe { core::slice::from_raw_parts_mut(pointer, region.size as usize) }
}

/// # Safety
/// The region must be the registers of a PL011, and nothing else may use them.
unsafe fn uart(region: Region) -> Uart {
    let registers =
        NonNull::new(core::ptr::with_exposed_provenance_mut::<PL011Registers>(region.base as usize));
    let Some(registers) = registers else { panic!() };
    // SAFETY: the caller promises it; the region is mapped as device memory.
    Uart::new(unsafe { UniqueMmioPointer::new(registers) }, UART_CLOCK)
}

/// Returns the console and the station link for a stage that is about to stop with a fatal error, whoever else
/// holds them: a line that is torn is better than none.
///
/// They are second owners of registers that may have a first: only what [`el3::fatal`] enters calls this, once, and never
/// returns to the first; and so does stage0 where it has nothing left to do, whose board has none.
pub fn consoles_of_last_resort() -> (Uart, Uart) {
    // SAFETY: both are PL011s. Whoever owned them on this core does not run any more; another core can only mix its bytes
    // in, by single stores to a data register.
    unsafe { (uart(map::UART0), uart(map::UART1)) }
}

/// Returns the pins that end a run of the system.
pub fn power_pins() -> PowerPins {
    let registers = core::ptr::with_exposed_provenance(map::SECURE_GPIO.base as usize);
    // SAFETY: the region is a PL061, mapped as device memory; its registers are cells and may be shared.
    PowerPins::new(unsafe { &*registers })
}

/// The system counter.
#[derive(Clone, Copy)]
pub struct Counter;

impl hal::Clock for Counter {
    fn now(&self) -> u64 {
        el3::counter()
    }

    fn hz(&self) -> u64 {
        el3::counter_hz()
    }
}

/// The data caches.
#[derive(Clone, Copy)]
pub struct Caches;

impl Coherency for Caches {
    fn clean(&self, bytes: &[u8]) {
        el3::cache::clean(bytes);
    }
}
