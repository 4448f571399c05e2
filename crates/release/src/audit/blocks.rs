//! Ciphertext that two devices share.

use crate::{DeviceFiles, Error, files};
use memchr::memmem;
use memory_map::{Region, qemu_virt};
use sealed_image::host::Inspected;
use sealed_image::{HEADER_BYTES, Header, MAX_METADATA, PAYLOAD_ALIGN};
use std::path::{Path, PathBuf};

/// Length of a block of the cipher, in bytes.
const BLOCK: usize = 16;
/// A block in which nothing was written.
const ERASED: [u8; BLOCK] = [0xFF; BLOCK];

/// Where a device keeps what it sealed for itself, in flash0.
const FLASH0: [(&str, Region); 4] = [
    ("boot slot A", qemu_virt::BOOT_SLOT_A),
    ("boot slot B", qemu_virt::BOOT_SLOT_B),
    ("the staging slot", qemu_virt::BOOT_STAGING),
    ("the secrets", qemu_virt::SECRETS),
];
/// The same, on the disk.
const DISK: [(&str, Region); 2] = [("OS slot A", qemu_virt::OS_SLOT_A), ("OS slot B", qemu_virt::OS_SLOT_B)];

/// The ciphertext of one sealed image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    /// The place and the kind.
    pub name: String,
    /// The encrypted chunks.
    pub bytes: Vec<u8>,
}

/// An image that a device holds.
struct Image {
    /// The place and the kind.
    name: String,
    /// Its sealing record: salt and wrapped data key.
    sealing: Vec<u8>,
    /// Length of its payload in the clear, in bytes.
    plain_bytes: u64,
    /// Where its payload starts in its file, in bytes.
    start: u64,
    /// Length of its payload there, in bytes.
    stored_bytes: u64,
}

/// Returns the payload of every image in the boot slots, the OS slots and the secrets of a device. Places that hold
/// none are left out; the package is not looked at, which is the factory's and not the device's.
///
/// # Errors
/// Files that cannot be read; a place that holds something else than images.
pub fn payloads(device: &DeviceFiles) -> Result<Vec<Payload>, Error> {
    let mut all = Vec::new();
    for (name, path, region) in places(device) {
        for image in images(name, &path, region)? {
            let bytes = files::read_at(&path, image.start, image.stored_bytes)?;
            all.push(Payload { name: image.name, bytes });
        }
    }
    Ok(all)
}

/// Counts the bytes of plaintext that a device holds under keys of its own, each copy counted. A copy with the sealing
/// record of one in `factory`, which holds the images that the factory wrote, is none of its own.
///
/// # Errors
/// As [`payloads`]; also a place that is being written, as it may be until a die is closed.
pub fn rekeyed_bytes(device: &DeviceFiles, factory: &[&[u8]]) -> Result<u64, Error> {
    let mut bytes = 0;
    for (name, path, region) in places(device) {
        for image in images(name, &path, region)? {
            let brought = factory.iter().any(|images| memmem::find(images, &image.sealing).is_some());
            bytes += if brought { 0 } else { image.plain_bytes };
        }
    }
    Ok(bytes)
}

/// Lists where a device keeps what it sealed for itself: name, file and where in it.
fn places(device: &DeviceFiles) -> impl Iterator<Item = (&'static str, PathBuf, Region)> {
    let (flash0, disk) = (device.flash0(), device.disk());
    let in_file = |region: Region| Region::new(region.base - qemu_virt::FLASH0.base, region.size);
    let flash0 = FLASH0.map(|(name, region)| (name, flash0.clone(), in_file(region)));
    flash0.into_iter().chain(DISK.map(|(name, region)| (name, disk.clone(), region)))
}

/// Lists the images in a region of a file.
fn images(place: &str, path: &Path, region: Region) -> Result<Vec<Image>, Error> {
    let mut all = Vec::new();
    let mut at = region.base;
    while at < region.end() {
        let offset = at - region.base;
        let metadata = files::read_at(path, at, u64::from(MAX_METADATA).min(region.end() - at))?;
        if matches!(metadata.first(), Some(0 | 0xFF)) {
            break;
        }
        let wrong = |error| Error::Image { offset, error };
        let image = Inspected::of(&metadata).map_err(wrong)?;
        let header = Header::parse(&metadata).map_err(wrong)?;
        if !region.contains(at, image.image_len) {
            return Err(Error::SlotTruncated { offset });
        }
        let sealing = (HEADER_BYTES as u32 + header.delegation_len + header.manifest_len) as usize;
        let sealing = metadata.get(sealing..).and_then(|rest| rest.get(..header.sealing_len as usize));
        let sealing = sealing.ok_or(Error::SlotTruncated { offset })?.to_vec();
        all.push(Image {
            name: format!("{} in {place}", image.manifest.kind.name()),
            sealing,
            plain_bytes: image.manifest.plain_size,
            start: at + u64::from(header.payload_offset),
            stored_bytes: header.payload_len,
        });
        at += image.image_len.next_multiple_of(u64::from(PAYLOAD_ALIGN));
    }
    Ok(all)
}

/// What a comparison of ciphertext came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockComparison {
    /// Blocks of either side that were compared with all of the other side.
    pub compared: [usize; 2],
    /// Blocks of either side that are erased, and were left out.
    pub erased: [usize; 2],
    /// Blocks of the second side that the first one has too, anywhere.
    pub shared: usize,
    /// The payload of the second side with the first such block, and where it lies there, in bytes.
    pub first: Option<(String, usize)>,
}

/// Compares every whole 16-byte block of `a` with every one of `b`, wherever they lie.
pub fn compare_blocks(a: &[Payload], b: &[Payload]) -> BlockComparison {
    let mut comparison = BlockComparison::default();
    let mut known: Vec<u128> = Vec::new();
    for payload in a {
        let blocks = payload.bytes.as_chunks().0;
        let written = blocks.iter().filter(|block| **block != ERASED);
        known.extend(written.map(|block| u128::from_ne_bytes(*block)));
        comparison.erased[0] += blocks.len();
    }
    comparison.compared[0] = known.len();
    comparison.erased[0] -= known.len();
    known.sort_unstable();
    for payload in b {
        for (number, block) in payload.bytes.as_chunks().0.iter().enumerate() {
            if *block == ERASED {
                comparison.erased[1] += 1;
                continue;
            }
            comparison.compared[1] += 1;
            if known.binary_search(&u128::from_ne_bytes(*block)).is_ok() {
                comparison.shared += 1;
                comparison.first.get_or_insert_with(|| (payload.name.clone(), BLOCK * number));
            }
        }
    }
    comparison
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compression, FlashLayout, OsParts, OsRelease, test_keys, write_disk};
    use boot_crypto::Key;
    use boot_crypto::host::random;

    /// A device with one and the same release, sealed for a die with these keys.
    fn device(folder: &std::path::Path, boot: &Key, os: &Key) -> DeviceFiles {
        let identity = crate::Identity {
            board: qemu_virt::BOARD.into(),
            version: sealed_image::Version::new(1, 0, 0),
            rollback_index: 0.into(),
        };
        let owner = test_keys::owner().unwrap();
        let stage2 = crate::FlatImage { bytes: vec![7; 100_000], load: 0x0E20_0000, entry: 0x0E20_0000 };
        let stage2 = owner.sign_stage2(&identity, stage2).unwrap();
        let parts = OsParts {
            kernel: vec![0; 300_000],
            device_tree: vec![1; 500],
            initramfs: None,
            cmdline: String::new(),
            compression: Compression::None,
            places: crate::OsPlaces::default(),
        };
        let system = OsRelease::sign(&owner, &identity, parts).unwrap();
        let slot = stage2.seal(boot, Compression::None).unwrap();
        let [a, b] = [0, 1].map(|_| system.seal_slot(os).unwrap());
        let files = DeviceFiles::new(folder);
        let flash = FlashLayout { stage0: b"stage0", slot_a: Some(&slot), slot_b: None, otp: &[] };
        flash.write(&files.flash0()).unwrap();
        write_disk(&files.disk(), Some(&a), Some(&b)).unwrap();
        files
    }

    #[test]
    fn what_the_factory_brought_is_not_under_keys_of_the_device() {
        let folder = tempfile::tempdir().unwrap();
        let files = device(folder.path(), &Key::new(random()), &Key::new(random()));
        // Both OS slots: kernel, device tree and what names them; and one stage.
        let all = rekeyed_bytes(&files, &[]).unwrap();
        assert!(all > 100_000 + 2 * 300_500, "{all}");
        let stage = files.read_flash0(qemu_virt::BOOT_SLOT_A).unwrap();
        assert_eq!(rekeyed_bytes(&files, &[&stage]).unwrap(), all - 100_000);
        let os = files.read_disk(qemu_virt::OS_SLOT_A).unwrap();
        assert_eq!(rekeyed_bytes(&files, &[b"", &os]).unwrap(), all - (all - 100_000) / 2);

        // A place that is being written.
        let os = &os[..200_000];
        std::fs::write(files.disk(), os).unwrap();
        assert!(rekeyed_bytes(&files, &[]).is_err());
    }

    #[test]
    fn devices_share_no_block_even_of_one_repeated_byte_and_a_copy_shares_every_block() {
        let folder = tempfile::tempdir().unwrap();
        let key = || Key::new(random());
        let make = |name: &str, boot: &Key, os: &Key| {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            payloads(&device(&folder, boot, os)).unwrap()
        };
        let (boot, os) = (key(), key());
        let (a, b, same_keys) = (make("a", &boot, &os), make("b", &key(), &key()), make("c", &boot, &os));
        let names: Vec<&str> = a.iter().map(|payload| payload.name.as_str()).collect();
        assert_eq!(names.len(), 1 + 2 * 3, "{names:?}");
        assert!(names.contains(&"stage2 in boot slot A") && names.contains(&"kernel in OS slot B"));

        let blocks = |payloads: &[Payload]| payloads.iter().map(|it| it.bytes.len() / 16).sum::<usize>();
        for other in [&b, &same_keys] {
            let found = compare_blocks(&a, other);
            assert_eq!((found.shared, found.first), (0, None), "each sealing has a data key of its own");
            assert_eq!(found.compared, [blocks(&a), blocks(other)]);
            assert!(found.compared[0] > 40_000, "{:?}", found.compared);
        }
        let control = compare_blocks(&a, &a.clone());
        assert_eq!((control.shared, control.compared), (blocks(&a), [blocks(&a); 2]));
        assert_eq!(control.first, Some((names[0].into(), 0)));
        // The two slots of one device are two sealings as well.
        let (slot_a, slot_b): (Vec<_>, Vec<_>) =
            a.iter().skip(1).cloned().partition(|payload| payload.name.ends_with('A'));
        assert_eq!(compare_blocks(&slot_a, &slot_b).shared, 0);
    }

    #[test]
    fn one_shared_block_anywhere_is_found_and_erased_ones_do_not_count() {
        let payload = |name: &str, bytes: Vec<u8>| Payload { name: name.into(), bytes };
        let noise =
            |n: u8| (0..4096_u32).flat_map(|i| (i ^ u32::from(n) << 16).to_le_bytes()).collect::<Vec<_>>();
        let (a, mut b) = (noise(1), noise(2));
        assert_eq!(compare_blocks(&[payload("a", a.clone())], &[payload("b", b.clone())]).shared, 0);
        b[1600..1616].copy_from_slice(&a[32..48]);
        b[32..64].fill(0xFF);
        let found = compare_blocks(&[payload("a", a)], &[payload("b", b)]);
        assert_eq!(found.shared, 1);
        assert_eq!(found.first, Some(("b".into(), 1600)));
        assert_eq!((found.compared, found.erased), ([1024, 1022], [0, 2]));
    }
}
