//! Runs a stage's own machine code in an emulator and injects faults into it, one at a time.
//!
//! A fault skips one to four instructions, inverts a conditional branch, or flips a bit of an instruction or of a register
//! that it names, once, while the stage looks at an image that it has to refuse. The stage goes on from there, as shipped:
//! its ELF file, at its addresses, on a model of the core with EL3 and of the board's flash, fuses and UARTs. It must not
//! leave its own code, and no key may go out on a line.
//!
//! What a core does at its own, physical, faults is not known here: the rig shows that no single wrong step of these turns a
//! decision round, not that silicon makes no others.
#![forbid(unsafe_code)]

#[cfg(feature = "emulator")]
mod campaign;
#[cfg(feature = "emulator")]
mod device;
#[cfg(feature = "emulator")]
mod fault;
#[cfg(feature = "emulator")]
mod machine;
#[cfg(feature = "emulator")]
mod program;
#[cfg(feature = "emulator")]
mod register;
#[cfg(feature = "emulator")]
mod virtio;

#[cfg(feature = "emulator")]
pub use {
    campaign::{Left, Scene, Share, Tally, run},
    device::Devices,
    fault::Fault,
    machine::{End, Machine, Pure, Results, Snapshot, Watch},
    program::Program,
    register::Register,
    virtio::{Disk, Transports},
};
