//! PL011 as a [`Console`], and as a link that also receives.

use arm_pl011_uart::{DataBits, LineConfig, PL011Registers, Parity, StopBits, UniqueMmioPointer};
use hal::{Console, Receive};

/// A PL011. A console is only ever written to; the station link is also read.
pub struct Uart {
    inner: arm_pl011_uart::Uart<'static>,
}

impl Uart {
    /// Takes the UART over and sets 115,200 baud, 8N1, given its clock of `clock_hz`.
    pub fn new(mut registers: UniqueMmioPointer<'static, PL011Registers>, clock_hz: u32) -> Self {
        let data = registers.ptr_mut().cast::<u32>();
        let mut inner = arm_pl011_uart::Uart::new(registers);
        let line = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
        // The divisor of a fixed rate and clock cannot be out of range; were it, the line keeps its settings.
        let _ = inner.enable(line, 115_200, clock_hz);
        // What came before this is lost. QEMU, once it has delivered all that the FIFO takes, goes on only when a word
        // is read: clearing the FIFO does not count, and a line that was full would stay silent for ever.
        // SAFETY: UARTDR is the first register; the pointer is valid, and this has the registers to itself.
        let _ = unsafe { data.read_volatile() };
        Self { inner }
    }
}

impl Console for Uart {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            while self.inner.is_tx_fifo_full() {
                core::hint::spin_loop();
            }
            self.inner.write_word(*byte);
        }
    }
}

impl Receive for Uart {
    /// A byte that arrives damaged, or after the FIFO has overrun, is lost: the protocol above asks again.
    fn receive(&mut self) -> Option<u8> {
        self.inner.read_word().ok().flatten()
    }
}
