//! The header of an arm64 kernel `Image` (Linux: `Documentation/arch/arm64/booting.rst`).
//!
//! ```text
//! offset  0  code0, code1     first instructions
//!         8  text_offset      u64 LE, where the image wants to lie from a 2 MiB boundary
//!        16  image_size       u64 LE, memory it needs from its first byte on, BSS included
//!        24  flags            u64 LE, bit 0 big endian, bits 1-2 page size, bit 3 placement
//!        32  reserved         3 x u64
//!        56  magic            "ARM\x64"
//!        60  reserved         u32
//! ```

use fail_code::FailCode;
use memory_map::{MIB, Region};

const MAGIC: [u8; 4] = *b"ARM\x64";
const PLACEMENT: u64 = 2 * MIB;
const FLAG_BIG_ENDIAN: u64 = 1;
const FLAGS_KNOWN: u64 = 0b1111;
const PAGE_SIZE_SHIFT: u32 = 1;
const PAGE_SIZE_MASK: u64 = 0b11;
/// Page size codes that every core of the boards can do: not stated, and 4 KiB.
const PAGE_SIZES: [u64; 2] = [0, 1];

/// Why a kernel cannot be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelImageError {
    /// Shorter than its header, in bytes.
    TooShort(usize),
    /// No arm64 `Image`: these bytes are where the magic should be.
    Magic([u8; 4]),
    /// Big endian, an unknown flag, or a page size other than 4 KiB.
    Flags(u64),
    /// The header claims to need less memory, or none, than the image has bytes.
    ImageSize(u64),
    /// The image lies at this address, which is not `text_offset` from a 2 MiB boundary.
    Placement(u64),
    /// The image with its BSS, of this many bytes, leaves the memory for the operating system.
    Footprint(u64),
}

impl KernelImageError {
    /// Returns the stable refusal code.
    pub const fn code(&self) -> FailCode {
        FailCode::KernelInvalid
    }
}

/// Checks the header of a verified kernel that lies at `load`, and returns the memory that it will use: its
/// own bytes and the BSS behind them, all of it inside `allowed`.
///
/// # Errors
/// A [`KernelImageError`] that holds what does not fit.
pub fn footprint(verified_kernel: &[u8], load: u64, allowed: Region) -> Result<Region, KernelImageError> {
    let too_short = KernelImageError::TooShort(verified_kernel.len());
    let header = verified_kernel.first_chunk::<64>().ok_or(too_short)?;
    let (words, _) = header.as_chunks::<8>();
    let [_, text_offset, image_size, flags, _, _, _, [m0, m1, m2, m3, ..]] = words else {
        return Err(too_short);
    };
    let magic = [*m0, *m1, *m2, *m3];
    if magic != MAGIC {
        return Err(KernelImageError::Magic(magic));
    }
    let [text_offset, image_size, flags] =
        [text_offset, image_size, flags].map(|word| u64::from_le_bytes(*word));
    let page_size = flags >> PAGE_SIZE_SHIFT & PAGE_SIZE_MASK;
    if flags & FLAG_BIG_ENDIAN != 0 || flags & !FLAGS_KNOWN != 0 || !PAGE_SIZES.contains(&page_size) {
        return Err(KernelImageError::Flags(flags));
    }
    // A size of zero is that of kernels before 3.17, whose BSS nobody knows: it is refused with the others.
    if image_size < verified_kernel.len() as u64 {
        return Err(KernelImageError::ImageSize(image_size));
    }
    if load % PLACEMENT != text_offset {
        return Err(KernelImageError::Placement(load));
    }
    if !allowed.contains(load, image_size) {
        return Err(KernelImageError::Footprint(image_size));
    }
    Ok(Region::new(load, image_size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    const ALLOWED: Region = Region::new(0x4020_0000, 253 * MIB);
    const LOAD: u64 = 0x4020_0000;
    const SIZE: usize = 4096;

    /// A kernel of 4 KiB that needs 12 KiB, with one field changed.
    fn kernel(field: usize, value: u64) -> Vec<u8> {
        let mut image = std::vec![0; SIZE];
        let fields = [(8, 0), (16, 3 * SIZE as u64), (24, 0b1010), (56, u32::from_le_bytes(MAGIC).into())];
        for (offset, value) in fields.into_iter().chain([(field, value)]) {
            image[offset..offset + 8].copy_from_slice(&u64::to_le_bytes(value));
        }
        image
    }

    fn check(field: usize, value: u64) -> Result<Region, KernelImageError> {
        footprint(&kernel(field, value), LOAD, ALLOWED)
    }

    #[test]
    fn the_footprint_counts_the_bss() {
        assert_eq!(check(32, 0), Ok(Region::new(LOAD, 3 * SIZE as u64)));
        assert_eq!(check(24, 0b1000), Ok(Region::new(LOAD, 3 * SIZE as u64)), "page size not stated");
        assert_eq!(check(16, SIZE as u64), Ok(Region::new(LOAD, SIZE as u64)));
        assert_eq!(check(16, ALLOWED.size), Ok(ALLOWED));
    }

    #[test]
    fn what_is_not_an_image_is_refused() {
        let elf = u64::from_le_bytes(*b"\x7fELF\0\0\0\0");
        assert_eq!(check(56, elf), Err(KernelImageError::Magic(*b"\x7fELF")));
        for length in [0, 1, 63] {
            let short = &kernel(32, 0)[..length];
            assert_eq!(footprint(short, LOAD, ALLOWED), Err(KernelImageError::TooShort(length)));
        }
    }

    #[test]
    fn big_endian_other_pages_and_unknown_flags_are_refused() {
        for flags in [0b1011, 0b1100, 0b1110, 0b1_1010, 1 << 63] {
            assert_eq!(check(24, flags), Err(KernelImageError::Flags(flags)));
        }
    }

    #[test]
    fn a_size_that_lies_or_leaves_the_memory_is_refused() {
        for size in [0, SIZE as u64 - 1] {
            assert_eq!(check(16, size), Err(KernelImageError::ImageSize(size)));
        }
        for size in [ALLOWED.size + 1, u64::MAX, u64::MAX - LOAD] {
            assert_eq!(check(16, size), Err(KernelImageError::Footprint(size)));
        }
    }

    #[test]
    fn an_address_off_its_place_or_outside_the_memory_is_refused() {
        let at = |load| footprint(&kernel(32, 0), load, ALLOWED);
        for load in [LOAD + 4096, LOAD + MIB, LOAD - 1] {
            assert_eq!(at(load), Err(KernelImageError::Placement(load)));
        }
        for load in [0, LOAD - 2 * MIB, ALLOWED.end() + MIB] {
            assert_eq!(at(load), Err(KernelImageError::Footprint(3 * SIZE as u64)), "{load:#x}");
        }
        assert_eq!(check(8, 0x8_0000), Err(KernelImageError::Placement(LOAD)), "a text offset of 512 KiB");
        let moved = footprint(&kernel(8, 0x8_0000), LOAD + 0x8_0000, ALLOWED);
        assert_eq!(moved, Ok(Region::new(LOAD + 0x8_0000, 3 * SIZE as u64)));
        assert_eq!(check(8, 2 * MIB), Err(KernelImageError::Placement(LOAD)), "no offset reaches a boundary");
    }
}
