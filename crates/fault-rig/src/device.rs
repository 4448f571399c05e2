//! The devices that a stage sees: as much of them as it uses.

use memory_map::qemu_virt::{DEVICES, UART0, UART1};

/// The devices of QEMU's `virt`.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// What was said on the console.
    pub console: Vec<u8>,
    /// What was said on the station link.
    pub link: Vec<u8>,
}

/// Data register of a PL011.
const UART_DATA: u64 = 0x000;
/// Flag register of a PL011.
const UART_FLAGS: u64 = 0x018;
/// Nothing received, nothing left to send.
const UART_EMPTY: u64 = 0x90;

impl Devices {
    /// Reads a register, by its offset in [`DEVICES`].
    pub fn read(&mut self, offset: u64, _size: usize) -> u64 {
        let address = DEVICES.base + offset;
        if [UART0, UART1].iter().any(|uart| address == uart.base + UART_FLAGS) { UART_EMPTY } else { 0 }
    }

    /// Writes a register.
    pub fn write(&mut self, offset: u64, _size: usize, value: u64) {
        let address = DEVICES.base + offset;
        for (uart, said) in [(UART0, &mut self.console), (UART1, &mut self.link)] {
            if address == uart.base + UART_DATA {
                said.push(value as u8);
            }
        }
    }
}
