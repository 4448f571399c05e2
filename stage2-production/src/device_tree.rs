//! The two device trees: the machine's own, which tells how much hardware there is, and the signed one, which
//! Linux gets.
//!
//! Whoever ran last may have written the machine's tree: it is parsed by [`parse_hardware`] with `dtoolkit`,
//! which validates before it walks, and yields two clamped numbers. The signed tree is edited where it was
//! decrypted, by [`fix_up`], without a heap: `dtoolkit` sets properties in place, and nodes that are missing
//! are spliced in.

mod finish;
mod fix_up;
mod hardware;
mod splice;
mod structure;
#[cfg(test)]
mod tests;

use fail_code::FailCode;
pub use finish::{Finished, finish};
pub use fix_up::{COMMAND_LINE_MAX, FixUps, fix_up};
pub use hardware::{Hardware, parse_hardware};

/// Why a device tree cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceTreeError {
    /// The machine's tree does not have the structure of a device tree.
    HardwareMalformed,
    /// The machine's tree has no `/memory` that starts where RAM does.
    HardwareMemoryMissing,
    /// The machine reports less RAM than Kiln boots with, in bytes.
    HardwareMemoryTooSmall(u64),
    /// The machine's tree has no cores.
    HardwareCpusMissing,
    /// The signed tree does not have the structure of a device tree, or holds more than one.
    Malformed,
    /// The signed tree lacks this node.
    NodeMissing(&'static str),
    /// Below the root of the signed tree more than one node can be meant by this path, or one with an address in its name.
    NodeAmbiguous(&'static str),
    /// Addresses or sizes below this node of the signed tree have another length than Kiln writes.
    CellsUnsupported(&'static str),
    /// The signed tree has no core with the affinity of the one that boots.
    BootCoreMissing(u64),
    /// The command line holds a NUL.
    CommandLineNul,
    /// The command line, of this many bytes, is longer than Linux reads.
    CommandLineTooLong(usize),
    /// The buffer has no room for what is added.
    Full,
}

impl DeviceTreeError {
    /// Returns the stable refusal code.
    pub const fn code(&self) -> FailCode {
        match self {
            Self::HardwareMalformed
            | Self::HardwareMemoryMissing
            | Self::HardwareMemoryTooSmall(_)
            | Self::HardwareCpusMissing => FailCode::HardwareTreeInvalid,
            Self::Malformed
            | Self::NodeMissing(_)
            | Self::NodeAmbiguous(_)
            | Self::CellsUnsupported(_)
            | Self::BootCoreMissing(_)
            | Self::CommandLineNul => FailCode::DeviceTreeInvalid,
            Self::CommandLineTooLong(_) | Self::Full => FailCode::DeviceTreeFull,
        }
    }
}
