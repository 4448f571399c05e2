//! The devices that a stage sees: as much of them as it uses.

use memory_map::qemu_virt::{DEVICES, GICD, GICR, UART0, UART1, VIRTIO};

use crate::virtio::{Dma, Transports};

/// The devices of QEMU's `virt`.
#[derive(Clone, Debug, Default)]
pub struct Devices {
    /// What was said on the console.
    pub console: Vec<u8>,
    /// What was said on the station link.
    pub link: Vec<u8>,
    /// The virtio devices, for a stage that uses them.
    pub virtio: Option<Transports>,
}

/// Data register of a PL011.
const UART_DATA: u64 = 0x000;
/// Flag register of a PL011.
const UART_FLAGS: u64 = 0x018;
/// Nothing received, nothing left to send.
const UART_EMPTY: u64 = 0x90;
/// `GICD_TYPER`: 32 interrupts for each of eight registers.
const GICD_TYPER: (u64, u64) = (GICD.base + 0x4, 7);
/// `GICR_TYPER` of the first core, which is the last one as well.
const GICR_TYPER: (u64, u64) = (GICR.base + 0x8, 1 << 4);

/// `GICR_PIDR2`: a GICv3.
const GICR_PIDR2: (u64, u64) = (GICR.base + 0xFFE8, 3 << 4);

impl Devices {
    /// Reads a register, by its offset in [`DEVICES`].
    pub fn read(&mut self, offset: u64, _size: usize) -> u64 {
        let address = DEVICES.base + offset;
        if [UART0, UART1].iter().any(|uart| address == uart.base + UART_FLAGS) {
            return UART_EMPTY;
        }
        if VIRTIO.contains(address, 1) {
            let register = self.virtio.as_ref().map(|virtio| virtio.read(address - VIRTIO.base));
            return register.map_or(0, u64::from);
        }
        let registers = [GICD_TYPER, GICR_TYPER, GICR_PIDR2];
        registers.iter().find(|(register, _)| *register == address).map_or(0, |(_, value)| *value)
    }

    /// Writes a register. Returns the virtio transport whose device now looks at its queue.
    pub(crate) fn write(&mut self, offset: u64, _size: usize, value: u64) -> Option<usize> {
        let address = DEVICES.base + offset;
        for (uart, said) in [(UART0, &mut self.console), (UART1, &mut self.link)] {
            if address == uart.base + UART_DATA {
                said.push(value as u8);
            }
        }
        let virtio = self.virtio.as_mut().filter(|_| VIRTIO.contains(address, 1))?;
        virtio.write(address - VIRTIO.base, value as u32)
    }

    /// Lets the device behind a transport look at its queue.
    pub(crate) fn serve(&mut self, transport: usize, memory: &mut impl Dma) {
        if let Some(virtio) = &mut self.virtio {
            virtio.serve(transport, memory);
        }
    }
}
