//! PL061 (Arm PrimeCell GPIO, ARM DDI 0190), of which Kiln uses two output pins.
#![allow(missing_docs, reason = "the register macros generate items that take no documentation")]

use tock_registers::interfaces::{ReadWriteable, Writeable};
use tock_registers::registers::ReadWrite;
use tock_registers::{register_bitfields, register_structs};

register_bitfields! {u32,
    /// One bit for each pin.
    pub PINS [
        /// Powers the system off.
        POWER_OFF OFFSET(0) NUMBITS(1) [],
        /// Resets the system.
        RESET OFFSET(1) NUMBITS(1) []
    ]
}

register_structs! {
    /// The registers that Kiln uses. A data register's address masks the pins that it touches.
    pub Registers {
        (0x000 => _reserved0),
        (0x004 => power_off_data: ReadWrite<u32, PINS::Register>),
        (0x008 => reset_data: ReadWrite<u32, PINS::Register>),
        (0x00C => _reserved1),
        (0x400 => direction: ReadWrite<u32, PINS::Register>),
        (0x404 => @END),
    }
}

/// The pins that end a run of the system.
pub struct PowerPins {
    registers: &'static Registers,
}

impl PowerPins {
    /// Makes the pins from their registers.
    pub const fn new(registers: &'static Registers) -> Self {
        Self { registers }
    }

    /// Powers the system off.
    pub fn power_off(&self) -> ! {
        self.registers.direction.modify(PINS::POWER_OFF::SET);
        self.registers.power_off_data.write(PINS::POWER_OFF::SET);
        wait_for_ever()
    }

    /// Resets the system.
    pub fn reset(&self) -> ! {
        self.registers.direction.modify(PINS::RESET::SET);
        self.registers.reset_data.write(PINS::RESET::SET);
        wait_for_ever()
    }
}

fn wait_for_ever() -> ! {
    loop {
        aarch64_cpu::asm::wfi();
    }
}
