//! PL011 as a [`Console`], and as a link that also receives.

use arm_pl011_uart::{DataBits, LineConfig, PL011Registers, Parity, StopBits, UniqueMmioPointer};
use hal::{Console, Receive};

/// A PL011. A console is only ever written to; the station link is also read.
pub struct Uart {
    inner: arm_pl011_uart::Uart<'static>,
}

impl Uart {
    /// Takes the UART over and sets 115,200 baud, 8N1, given its clock of `clock_hz`.
    pub fn new(registers: UniqueMmioPointer<'static, PL011Registers>, clock_hz: u32) -> Self {
        let mut inner = arm_pl011_uart::Uart::new(registers);
        let line = LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
        // The divisor of a fixed rate and clock cannot be out of range; were it, the line keeps its settings.
        let _ = inner.enable(line, 115_200, clock_hz);
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
