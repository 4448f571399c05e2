//! From an ELF executable to the flat binary that a device loads.

use crate::{Error, files};
use object::elf::{EM_AARCH64, ET_DYN, ET_EXEC, FileHeader64, PT_LOAD};
use object::endian::LittleEndian;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use std::path::Path;

/// Longest flat binary: a gap between two segments is filled with zeros, and one this wide is a mistake in a
/// linker script.
const MAX_FLAT: u64 = 64 * memory_map::MIB;

/// A binary as it lies in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlatImage {
    /// The bytes; what follows them (`.bss`) the stage clears itself.
    pub bytes: Vec<u8>,
    /// Physical address of the first byte.
    pub load: u64,
    /// Physical address of the first instruction.
    pub entry: u64,
}

/// Reads a stage from its ELF file, and lays it out.
///
/// # Errors
/// A file that cannot be read; as [`flatten_elf`], with the file.
pub fn read_stage(path: &Path) -> Result<FlatImage, Error> {
    flatten_elf(&files::read(path)?).map_err(|error| match error {
        Error::Elf { reason } => Error::Elf { reason: format!("{}: {reason}", path.display()) },
        other => other,
    })
}

/// Lays the loadable segments of a 64-bit little-endian AArch64 executable at their physical addresses.
///
/// # Errors
/// Anything else than such an executable; segments that overlap, or lie 64 MiB apart.
pub fn flatten_elf(elf: &[u8]) -> Result<FlatImage, Error> {
    let refuse = |reason: String| Error::Elf { reason };
    let header = FileHeader64::<LittleEndian>::parse(elf).map_err(|error| refuse(error.to_string()))?;
    let endian = header.endian().map_err(|error| refuse(error.to_string()))?;
    let (machine, kind) = (header.e_machine(endian), header.e_type(endian));
    if machine != EM_AARCH64 || !matches!(kind, ET_EXEC | ET_DYN) {
        return Err(refuse(format!("machine {machine:?}, type {kind:?}")));
    }

    let mut segments = Vec::new();
    let mut entry = None;
    for segment in header.program_headers(endian, elf).map_err(|error| refuse(error.to_string()))? {
        if segment.p_type(endian) != PT_LOAD {
            continue;
        }
        let (virt, phys) = (segment.p_vaddr(endian), segment.p_paddr(endian));
        let offset = header.e_entry(endian).wrapping_sub(virt);
        if offset < segment.p_filesz(endian) {
            entry = phys.checked_add(offset);
        }
        let data = segment
            .data(endian, elf)
            .map_err(|()| refuse(format!("the segment at {phys:#x} is not in the file")))?;
        if !data.is_empty() {
            segments.push((phys, data));
        }
    }
    segments.sort_by_key(|(phys, _)| *phys);
    let load = segments.first().map(|(phys, _)| *phys).ok_or_else(|| refuse("nothing to load".into()))?;
    let entry = entry.ok_or_else(|| refuse("the entry lies in no segment".into()))?;

    let mut bytes = Vec::new();
    for (phys, data) in segments {
        let start = phys - load;
        if start < bytes.len() as u64 {
            return Err(refuse(format!("the segment at {phys:#x} overlaps the one before")));
        }
        if start.saturating_add(data.len() as u64) > MAX_FLAT {
            return Err(refuse(format!("the segment at {phys:#x} is too far from {load:#x}")));
        }
        bytes.resize(start as usize, 0);
        bytes.extend(data);
    }
    Ok(FlatImage { bytes, load, entry })
}
