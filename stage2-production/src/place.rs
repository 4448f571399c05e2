//! Where objects may lie in memory.

use memory_map::Region;
use memory_map::qemu_virt::DTB_ROOM;
use sealed_image::{Kind, Manifest};

use crate::load::LoadError;

/// Returns the memory that an object occupies once loaded: its payload, and for a device tree the room to grow.
///
/// # Errors
/// [`LoadError::Place`] if it leaves `window`, or if a kernel's entry is not its first byte.
pub(crate) fn occupied(manifest: &Manifest<'_>, window: Region) -> Result<Region, LoadError> {
    let kind = manifest.kind;
    let size = if kind == Kind::DeviceTree { DTB_ROOM } else { manifest.plain_size };
    let fits = manifest.plain_size <= size && window.contains(manifest.load_address, size);
    let starts_at_entry = kind != Kind::Kernel || manifest.entry == manifest.load_address;
    if fits && starts_at_entry {
        Ok(Region::new(manifest.load_address, size))
    } else {
        Err(LoadError::Place { kind })
    }
}

/// Refuses regions of which two share a byte.
///
/// # Errors
/// [`LoadError::Overlap`] with the first kind that lies over another.
pub(crate) fn refuse_overlap(places: &[(Kind, Region)]) -> Result<(), LoadError> {
    for (index, (kind, region)) in places.iter().enumerate() {
        if places.iter().skip(index + 1).any(|(_, other)| region.overlaps(other)) {
            return Err(LoadError::Overlap { kind: *kind });
        }
    }
    Ok(())
}

/// Returns the bytes of `region` within memory that starts at `window`'s base.
///
/// # Errors
/// [`LoadError::Place`] if the region leaves the memory.
pub(crate) fn slice(
    memory: &mut [u8],
    window: Region,
    region: Region,
    kind: Kind,
) -> Result<&mut [u8], LoadError> {
    let offset = region.base.checked_sub(window.base);
    offset
        .and_then(|offset| memory.get_mut(usize::try_from(offset).ok()?..))
        .and_then(|rest| rest.get_mut(..usize::try_from(region.size).ok()?))
        .ok_or(LoadError::Place { kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use sealed_image::Version;

    const WINDOW: Region = Region::new(0x4020_0000, 0x1000_0000);

    fn manifest(kind: Kind, load_address: u64, plain_size: u64) -> Manifest<'static> {
        Manifest {
            kind,
            board: "qemu-virt",
            version: Version(1),
            rollback_index: 0,
            load_address,
            entry: if kind == Kind::Kernel { load_address } else { 0 },
            plain_size,
            chunk_size: 4096,
            plain_digest: &[0; 32],
        }
    }

    #[test]
    fn an_object_outside_the_window_is_refused() {
        for (base, size) in
            [(0x4000_0000, 4096), (0x0E20_0000, 4096), (WINDOW.end() - 4095, 4096), (u64::MAX - 4095, 4096)]
        {
            let error = occupied(&manifest(Kind::Initramfs, base, size), WINDOW).unwrap_err();
            assert_eq!(error, LoadError::Place { kind: Kind::Initramfs }, "{base:#x}");
        }
        assert!(occupied(&manifest(Kind::Initramfs, WINDOW.end() - 4096, 4096), WINDOW).is_ok());
    }

    #[test]
    fn a_device_tree_needs_room_to_grow() {
        let near_the_end = manifest(Kind::DeviceTree, WINDOW.end() - 4096, 4096);
        assert!(occupied(&near_the_end, WINDOW).is_err());
        let too_large = manifest(Kind::DeviceTree, WINDOW.base, DTB_ROOM + 1);
        assert!(occupied(&too_large, WINDOW).is_err());
    }

    #[test]
    fn a_kernel_that_is_entered_elsewhere_is_refused() {
        let mut kernel = manifest(Kind::Kernel, WINDOW.base, 4096);
        kernel.entry += 4;
        assert!(occupied(&kernel, WINDOW).is_err());
    }

    #[test]
    fn overlapping_objects_are_refused() {
        let first = (Kind::Kernel, Region::new(0, 10));
        assert!(refuse_overlap(&[first, (Kind::Initramfs, Region::new(10, 1))]).is_ok());
        let error = refuse_overlap(&[first, (Kind::Initramfs, Region::new(9, 1))]).unwrap_err();
        assert_eq!(error, LoadError::Overlap { kind: Kind::Kernel });
    }

    #[test]
    fn slices_stay_inside_the_memory() {
        let mut memory = [0; 16];
        let window = Region::new(100, 16);
        assert_eq!(slice(&mut memory, window, Region::new(104, 12), Kind::Kernel).unwrap().len(), 12);
        for region in [Region::new(99, 1), Region::new(104, 13), Region::new(117, 0)] {
            assert!(slice(&mut memory, window, region, Kind::Kernel).is_err());
        }
    }
}
