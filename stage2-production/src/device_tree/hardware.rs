//! What is believed of the machine's own tree.

use super::DeviceTreeError;
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property};
use memory_map::qemu_virt::{DRAM_BASE, DRAM_MAX, DRAM_MIN, MAX_CORES};
use memory_map::{MIB, Region};

/// Where the header of a tree holds its length.
const TOTAL_SIZE: core::ops::Range<usize> = 4..8;

/// How much hardware there is. Not trusted, but harmless: clamped to the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hardware {
    /// RAM: from where the board's starts, in whole blocks of 2 MiB.
    pub memory: Region,
    /// Number of cores, at least 1.
    pub cores: usize,
}

/// Takes the amount of RAM and the number of cores from the machine's own tree, and nothing else.
///
/// `untrusted` is the memory that holds the tree, as large as a tree may be. Its bytes are hostile, but stand
/// still: devices that could write to it have been reset before, and the other cores are parked.
///
/// # Errors
/// One of the `Hardware` variants of [`DeviceTreeError`].
pub fn parse_hardware(untrusted: &[u8]) -> Result<Hardware, DeviceTreeError> {
    let length = untrusted
        .get(TOTAL_SIZE)
        .and_then(|bytes| Some(u32::from_be_bytes(bytes.try_into().ok()?)))
        .ok_or(DeviceTreeError::HardwareMalformed)?;
    let untrusted_tree = usize::try_from(length)
        .ok()
        .and_then(|length| Fdt::new(untrusted.get(..length)?).ok())
        .ok_or(DeviceTreeError::HardwareMalformed)?;
    Ok(Hardware { memory: memory(untrusted_tree)?, cores: cores(untrusted_tree)? })
}

/// Finds the memory node at the board's RAM. On a machine with several nodes (NUMA) the first one counts.
fn memory(untrusted: Fdt<'_>) -> Result<Region, DeviceTreeError> {
    let size = untrusted
        .root()
        .children()
        .filter(|node| node.name_without_address() == "memory")
        .filter_map(|node| {
            // Two cells each, as QEMU writes them; a further bank behind the first does not count.
            let reg = node.property("reg")?;
            let (base, rest) = reg.value().split_first_chunk()?;
            let (size, _) = rest.split_first_chunk()?;
            (u64::from_be_bytes(*base) == DRAM_BASE).then_some(u64::from_be_bytes(*size))
        })
        .next()
        .ok_or(DeviceTreeError::HardwareMemoryMissing)?;
    if size < DRAM_MIN {
        return Err(DeviceTreeError::HardwareMemoryTooSmall(size));
    }
    let size = size.min(DRAM_MAX);
    Ok(Region::new(DRAM_BASE, size - size % (2 * MIB)))
}

fn cores(untrusted: Fdt<'_>) -> Result<usize, DeviceTreeError> {
    let cpus = untrusted.find_node("/cpus").ok_or(DeviceTreeError::HardwareCpusMissing)?;
    let count = cpus.children().filter(|node| node.name_without_address() == "cpu").take(MAX_CORES).count();
    if count == 0 { Err(DeviceTreeError::HardwareCpusMissing) } else { Ok(count) }
}
