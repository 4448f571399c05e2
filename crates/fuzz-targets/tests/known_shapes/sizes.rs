//! Lengths that are believed before they are checked.

use fail_code::FailCode;
use fuzz_targets::sample::{self, LOAD, boot, plain, signed};
use hal::{ReadError, Storage};
use memory_map::Region;
use sealed_image::host::SignedPayload;
use sealed_image::{MAX_METADATA, UntrustedImage};
use store::Cursor;

use crate::images::{open, policy, seal};

/// Storage that notes what was read, and answers a second read of a byte with something else.
struct Watched {
    bytes: Vec<u8>,
    reads: Vec<u8>,
}

impl Watched {
    fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.to_vec(), reads: vec![0; bytes.len()] }
    }

    fn read_at_all(&self) -> usize {
        self.reads.iter().filter(|reads| **reads > 0).count()
    }
}

impl Storage for Watched {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let range = offset as usize..offset as usize + into.len();
        into.copy_from_slice(self.bytes.get(range.clone()).ok_or(ReadError { offset })?);
        for at in range {
            self.reads[at] += 1;
            self.bytes[at] = !self.bytes[at];
        }
        Ok(())
    }
}

/// The image in a slot of its length, and more storage behind it.
fn stored(change: impl FnOnce(&mut Vec<u8>)) -> (Watched, Region) {
    let mut image = seal(&signed());
    let slot = Region::new(0, (image.len() as u64).next_multiple_of(4096));
    change(&mut image);
    image.resize(slot.size as usize + 64 * 1024, 0xEE);
    (Watched::new(&image), slot)
}

pub(crate) fn a_payload_longer_than_its_slot() {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let (mut sound, slot) = stored(|_| ());
    let image = Cursor::new(slot).read_next(&mut sound, &mut buffer).unwrap();
    assert_eq!(image.payload.size, plain().len() as u64);
    for length in [slot.size - 4096 + 1, slot.size, u64::from(u32::MAX), u64::MAX - 4095, u64::MAX] {
        let (mut storage, slot) = stored(|image| image[32..40].copy_from_slice(&length.to_le_bytes()));
        let refused = Cursor::new(slot).read_next(&mut storage, &mut buffer).unwrap_err();
        assert_eq!(refused.code(), FailCode::ImageTruncated, "{length}");
        assert_eq!(storage.read_at_all(), 4096, "more was read than the page with the header");
    }
}

pub(crate) fn metadata_longer_than_the_buffer() {
    // 60 chunks more: metadata of two pages, into a buffer of one.
    let lengthen = |image: &mut Vec<u8>| {
        image[24..28].copy_from_slice(&62_u32.to_le_bytes());
        image[28..32].copy_from_slice(&8192_u32.to_le_bytes());
    };
    let mut one_page = vec![0xAA; 4096 + 64];
    let (mut sound, slot) = stored(|_| ());
    assert!(Cursor::new(slot).read_next(&mut sound, &mut one_page[..4096]).is_ok());
    one_page[4096..].fill(0xAA);
    let (mut storage, slot) = stored(lengthen);
    let refused = Cursor::new(slot).read_next(&mut storage, &mut one_page[..4096]).unwrap_err();
    assert_eq!(refused.code(), FailCode::HeaderInvalid);
    assert!(one_page[4096..].iter().all(|byte| *byte == 0xAA) && storage.read_at_all() == 4096);
    // And lengths that no metadata has, whatever the buffer.
    for field in [12, 16, 20, 24] {
        for length in [0, MAX_METADATA + 1, 0x8000_0000, u32::MAX - 63, u32::MAX] {
            let (mut storage, slot) =
                stored(|image| image[field..field + 4].copy_from_slice(&length.to_le_bytes()));
            let mut buffer = vec![0; MAX_METADATA as usize];
            let refused = Cursor::new(slot).read_next(&mut storage, &mut buffer).unwrap_err();
            assert_eq!(refused.code(), FailCode::HeaderInvalid, "{field}: {length:#x}");
        }
    }
}

pub(crate) fn a_sum_that_overflows() {
    let values = |load: u64, entry: u64, size: u64| {
        let (key, part) = boot();
        let mut list = Vec::new();
        plain().chunks(4096).for_each(|chunk| list.extend(boot_crypto::sha256(chunk)));
        let manifest = sample::encoded(|e| {
            e.map(9)?.u8(1)?.u8(2)?.u8(2)?.str(sample::BOARD)?.u8(3)?.u64(1 << 48)?.u8(4)?.u32(5)?;
            e.u8(5)?.u64(load)?.u8(6)?.u64(entry)?.u8(7)?.u64(size)?.u8(8)?.u32(4096)?;
            e.u8(9)?.bytes(&boot_crypto::sha256(&list))?.ok()
        });
        let image = seal(&SignedPayload::sign_encoded(&manifest, 4096, plain(), &part, &[&key]).unwrap());
        open(&image).err()
    };
    // Signed by the right key, all of them.
    assert_eq!(values(LOAD, LOAD, 5000), None);
    assert_eq!(values(u64::MAX - 4999, u64::MAX - 4999, 5000), Some(FailCode::LoadAddress));
    assert_eq!(values(u64::MAX, 3, 5000), Some(FailCode::LoadAddress));
    assert_eq!(values(LOAD, LOAD, u64::MAX - LOAD + 1), Some(FailCode::LoadAddress));
    assert_eq!(values(LOAD, LOAD, u64::MAX), Some(FailCode::LoadAddress));
    assert_eq!(values(LOAD, LOAD - 4, 5000), Some(FailCode::LoadAddress));
    assert_eq!(values(LOAD, LOAD + 4998, 5000), Some(FailCode::LoadAddress));
    for (base, size) in [(u64::MAX, 2), (2, u64::MAX), (LOAD, u64::MAX - 1)] {
        assert!(!Region::new(LOAD, 4096).contains(base, size), "{base:#x} + {size:#x}");
    }
}

pub(crate) fn a_length_in_a_certificate_that_lies() {
    let vendors = fuzz_targets::vendors();
    let (die, issuing) = fuzz_targets::vendor_certificates();
    let code =
        |leaf: &[u8]| vendors.validate(&[leaf, issuing], fuzz_targets::VENDOR_NOW).err().map(|it| it.code);
    assert_eq!(code(die), None);
    // Every byte that is the length of a value in the certificate, by a walk over all that it holds.
    let mut lengths = Vec::new();
    walk(die, 0, &mut lengths);
    assert!(lengths.len() > 30, "{} lengths", lengths.len());
    for at in &lengths {
        for lie in [0x7F, 0x80, 0x81, 0x84, 0x88, 0xFF] {
            let mut altered = die.to_vec();
            if altered[*at] == lie {
                continue;
            }
            altered[*at] = lie;
            assert_eq!(code(&altered), Some(FailCode::VendorMalformed), "byte {at} is {lie:#x}");
        }
    }
    for length in 0..die.len() {
        assert_eq!(code(&die[..length]), Some(FailCode::VendorMalformed), "{length} bytes");
    }
}

/// Notes where the first byte of each length lies, of a value and of all that are in it.
fn walk(der: &[u8], base: usize, lengths: &mut Vec<usize>) {
    let mut at = 0;
    while at + 1 < der.len() {
        let (tag, first) = (der[at], usize::from(der[at + 1]));
        lengths.push(base + at + 1);
        let (length, head) = match first {
            0x81 => (usize::from(der[at + 2]), 3),
            0x82 => (usize::from(der[at + 2]) << 8 | usize::from(der[at + 3]), 4),
            short => (short, 2),
        };
        if tag & 0x20 != 0 {
            walk(&der[at + head..at + head + length], base + at + head, lengths);
        }
        at += head + length;
    }
}

pub(crate) fn storage_that_changes() {
    let (mut storage, slot) = stored(|_| ());
    let mut buffer = vec![0; MAX_METADATA as usize];
    let metadata = Cursor::new(slot).read_next(&mut storage, &mut buffer).unwrap().untrusted_metadata;
    assert!(storage.reads.iter().all(|reads| *reads <= 1), "a byte was read twice");
    // What was read is what is judged, and it is the owner's although the storage says something else by now.
    let roots = sample::roots();
    let verified = UntrustedImage::parse(metadata).unwrap().verify::<sealed_image::Es256>(&policy(&roots));
    assert!(verified.is_ok());
    let mut again = vec![0; MAX_METADATA as usize];
    let second = Cursor::new(slot).read_next(&mut storage, &mut again).unwrap_err();
    assert_eq!(second.code(), FailCode::HeaderMagic, "the storage changed");
}
