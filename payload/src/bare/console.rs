//! UART0, as firmware leaves it.

use core::fmt::{self, Write};
use memory_map::qemu_virt::UART0;

const DATA: *mut u32 = UART0.base as *mut u32;
const FLAGS: *const u32 = (UART0.base + 0x18) as *const u32;
const TRANSMIT_FULL: u32 = 1 << 5;

/// The console. Only the core that boots prints.
pub(crate) struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            // SAFETY: the registers of a PL011, which are mapped as device memory; reading flags and writing
            // data have no effect on memory.
            unsafe {
                while FLAGS.read_volatile() & TRANSMIT_FULL != 0 {}
                DATA.write_volatile(byte.into());
            }
        }
        Ok(())
    }
}

/// Prints a line.
#[macro_export]
macro_rules! println {
    ($($arg:tt)*) => {{
        use core::fmt::Write as _;
        // The console cannot fail.
        let _ = writeln!($crate::bare::console::Console, $($arg)*);
    }};
}
