//! The registers of the emulated core.

use unicorn_engine::RegisterARM64 as Reg;

/// The registers of a core that code on it computes with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// `x0` to `x30`.
    General(u8),
    /// The stack pointer.
    Stack,
    /// The condition flags: bits 28 to 31.
    Flags,
    /// `d8` to `d15`: what a call leaves as it is of the vector registers.
    Saved(u8),
}

impl Register {
    /// Returns what the engine calls it.
    pub(crate) fn id(self) -> Reg {
        match self {
            Self::General(number) => GENERAL[usize::from(number)],
            Self::Stack => Reg::SP,
            Self::Flags => Reg::NZCV,
            Self::Saved(number) => SAVED[usize::from(number) - 8],
        }
    }
}

const SAVED: [Reg; 8] = [Reg::D8, Reg::D9, Reg::D10, Reg::D11, Reg::D12, Reg::D13, Reg::D14, Reg::D15];

const GENERAL: [Reg; 31] = [
    Reg::X0,
    Reg::X1,
    Reg::X2,
    Reg::X3,
    Reg::X4,
    Reg::X5,
    Reg::X6,
    Reg::X7,
    Reg::X8,
    Reg::X9,
    Reg::X10,
    Reg::X11,
    Reg::X12,
    Reg::X13,
    Reg::X14,
    Reg::X15,
    Reg::X16,
    Reg::X17,
    Reg::X18,
    Reg::X19,
    Reg::X20,
    Reg::X21,
    Reg::X22,
    Reg::X23,
    Reg::X24,
    Reg::X25,
    Reg::X26,
    Reg::X27,
    Reg::X28,
    Reg::X29,
    Reg::X30,
];
