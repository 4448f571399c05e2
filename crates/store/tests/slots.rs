//! Slots of a storage in a vector: good ones, erased ones, cut ones, failing ones.

use fail_code::FailCode;
use hal::{ReadError, Storage};
use memory_map::Region;
use sealed_image::{Header, MAX_METADATA};
use store::{Cursor, Error, Slot, Window};

const PAGE: usize = 4096;
const SLOT: Region = Region::new(8 * PAGE as u64, 64 * PAGE as u64);

/// A storage that counts reads and may fail at one offset.
struct Disk {
    bytes: Vec<u8>,
    fails_at: Option<u64>,
    read: Vec<(u64, usize)>,
}

impl Disk {
    fn new(fill: u8) -> Self {
        Self { bytes: vec![fill; 80 * PAGE], fails_at: None, read: Vec::new() }
    }

    /// Writes an image without a meaningful content at a page of the slot; returns the pages that it takes.
    fn image(&mut self, page: usize, chunks: u32, payload_len: u64) -> usize {
        let end = 64 + 3 * 100 + chunks as usize * 52;
        let header = Header {
            delegation_len: 100,
            manifest_len: 100,
            sealing_len: 100,
            chunk_count: chunks,
            payload_offset: end.next_multiple_of(PAGE) as u32,
            payload_len,
        };
        let start = SLOT.base as usize + page * PAGE;
        let metadata = &mut self.bytes[start..start + header.payload_offset as usize];
        metadata.fill(chunks as u8);
        metadata[..64].copy_from_slice(&header.encode());
        header.image_len().unwrap().div_ceil(PAGE as u64) as usize
    }
}

impl Storage for Disk {
    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let range = offset as usize..offset as usize + into.len();
        self.read.push((offset, into.len()));
        if self.fails_at.is_some_and(|at| range.contains(&(at as usize))) {
            return Err(ReadError { offset });
        }
        into.copy_from_slice(self.bytes.get(range).ok_or(ReadError { offset })?);
        Ok(())
    }
}

#[test]
fn images_follow_each_other_on_page_boundaries() {
    let mut disk = Disk::new(0xFF);
    assert_eq!(disk.image(0, 1, 5000), 3);
    assert_eq!(disk.image(3, 200, 2 * PAGE as u64), 5);
    let mut cursor = Cursor::new(SLOT);
    let mut buffer = vec![0; MAX_METADATA as usize];

    let bundle = cursor.read_next(&mut disk, &mut buffer).unwrap();
    assert_eq!((bundle.offset, bundle.untrusted_metadata.len()), (SLOT.base, PAGE));
    assert_eq!(bundle.payload, Region::new(SLOT.base + PAGE as u64, 5000));
    assert!(bundle.untrusted_metadata[64..].iter().all(|byte| *byte == 1));

    let kernel = cursor.read_next(&mut disk, &mut buffer).unwrap();
    let at = SLOT.base + 3 * PAGE as u64;
    assert_eq!((kernel.offset, kernel.header.chunk_count), (at, 200));
    assert_eq!(kernel.untrusted_metadata, &disk.bytes[at as usize..at as usize + 3 * PAGE]);
    assert_eq!(kernel.payload, Region::new(at + 3 * PAGE as u64, 2 * PAGE as u64));

    let end = SLOT.base + 8 * PAGE as u64;
    let error = cursor.read_next(&mut disk, &mut buffer).unwrap_err();
    assert_eq!((error, error.code()), (Error::NoFurtherImage { offset: end }, FailCode::ImageTruncated));

    // No byte was read twice, and nothing but metadata was read.
    let pages = [(0, 1), (3, 1), (4, 2), (8, 1)].map(|(page, n)| (SLOT.base + page * PAGE as u64, n * PAGE));
    assert_eq!(disk.read, pages);
}

#[test]
fn an_erased_slot_is_empty_whether_ones_or_zeros() {
    for fill in [0x00, 0xFF] {
        let error = Cursor::new(SLOT).read_next(&mut Disk::new(fill), &mut [0; PAGE]).unwrap_err();
        assert_eq!((error, error.code()), (Error::Empty { offset: SLOT.base }, FailCode::SlotEmpty));
    }
    let error = Cursor::new(SLOT).read_next(&mut Disk::new(0x55), &mut [0; PAGE]).unwrap_err();
    assert_eq!(error.code(), FailCode::HeaderMagic);
    for byte in 0..64 {
        let mut disk = Disk::new(0xFF);
        disk.bytes[SLOT.base as usize + byte] = 0xFE;
        let error = Cursor::new(SLOT).read_next(&mut disk, &mut [0; PAGE]).unwrap_err();
        assert_eq!(error.code(), FailCode::HeaderMagic, "byte {byte}");
    }
}

#[test]
fn an_image_may_fill_the_slot_and_not_one_byte_more() {
    let full = SLOT.size - PAGE as u64;
    let mut disk = Disk::new(0xFF);
    disk.image(0, 1, full);
    let mut cursor = Cursor::new(SLOT);
    let image = cursor.read_next(&mut disk, &mut [0; PAGE]).map(|image| image.payload).unwrap();
    assert_eq!(image.end(), SLOT.end());
    let error = cursor.read_next(&mut disk, &mut [0; PAGE]).unwrap_err();
    assert_eq!(error, Error::NoFurtherImage { offset: SLOT.end() });

    for payload in [full + 1, u64::MAX - PAGE as u64, u64::MAX] {
        disk.image(0, 1, full);
        disk.bytes[SLOT.base as usize + 32..][..8].copy_from_slice(&payload.to_le_bytes());
        let error = Cursor::new(SLOT).read_next(&mut disk, &mut [0; PAGE]).unwrap_err();
        assert_eq!(error, Error::ImageTruncated { payload, room: SLOT.size });
        assert_eq!(error.code(), FailCode::ImageTruncated);
    }
}

#[test]
fn metadata_that_leaves_the_slot_is_refused_before_it_is_read() {
    let mut disk = Disk::new(0xFF);
    disk.image(63, 200, 0);
    let tail = Region::new(SLOT.base + 63 * PAGE as u64, PAGE as u64);
    let error = Cursor::new(tail).read_next(&mut disk, &mut [0; 4 * PAGE]).unwrap_err();
    assert_eq!(error, Error::ImageTruncated { payload: 0, room: PAGE as u64 });
    assert_eq!(disk.read.len(), 1);
}

#[test]
fn metadata_longer_than_the_buffer_is_refused_before_it_is_read() {
    let mut disk = Disk::new(0xFF);
    disk.image(0, 200, 10);
    for (room, found, reads) in
        [(0, PAGE, 0), (PAGE - 1, PAGE, 0), (PAGE, 3 * PAGE, 1), (3 * PAGE - 1, 3 * PAGE, 1)]
    {
        disk.read.clear();
        let error = Cursor::new(SLOT).read_next(&mut disk, &mut vec![0; room]).unwrap_err();
        assert_eq!(error, Error::MetadataTooLong { found: found as u32, room });
        assert_eq!((error.code(), disk.read.len()), (FailCode::HeaderInvalid, reads));
    }
}

#[test]
fn a_read_error_is_reported_with_its_offset_and_the_cursor_stays() {
    let mut disk = Disk::new(0xFF);
    disk.image(0, 200, 10);
    let mut cursor = Cursor::new(SLOT);
    let mut buffer = [0; 3 * PAGE];
    for (bad, failing_read) in [(0, 0), (1, PAGE), (2, PAGE)] {
        disk.fails_at = Some(SLOT.base + (bad * PAGE) as u64 + 17);
        let error = cursor.read_next(&mut disk, &mut buffer).unwrap_err();
        let offset = SLOT.base + failing_read as u64;
        assert_eq!((error, error.code()), (Error::Read(ReadError { offset }), FailCode::DiskRead));
    }
    disk.fails_at = None;
    assert!(cursor.read_next(&mut disk, &mut buffer).is_ok());
}

#[test]
fn a_slot_that_leaves_the_storage_is_refused_unread() {
    for slot in [
        Region::new(80 * PAGE as u64, PAGE as u64),
        Region::new(0, 81 * PAGE as u64),
        Region::new(u64::MAX - 4095, PAGE as u64),
    ] {
        let mut disk = Disk::new(0xFF);
        let error = Cursor::new(slot).read_next(&mut disk, &mut [0; PAGE]).unwrap_err();
        assert_eq!(error, Error::SlotBeyondStorage { slot, size: 80 * PAGE as u64 });
        assert_eq!((error.code(), disk.read.len()), (FailCode::DiskRead, 0));
        assert_eq!(Window::new(&mut disk, slot).err(), Some(error));
    }
}

#[test]
fn a_window_shows_its_range_and_nothing_else() {
    let mut disk = Disk::new(0);
    for (byte, n) in disk.bytes.iter_mut().zip(0_u32..) {
        *byte = (n / 7) as u8;
    }
    let expected = disk.bytes[100..120].to_vec();
    let mut window = Window::new(&mut disk, Region::new(100, 20)).unwrap();
    assert_eq!(window.size(), 20);
    let mut all = [0; 20];
    window.read(0, &mut all).unwrap();
    assert_eq!(all, *expected);
    for (offset, len) in [(0, 21), (20, 1), (1, 20), (u64::MAX, 1), (u64::MAX - 100, 1)] {
        assert!(window.read(offset, &mut vec![0; len]).is_err(), "{len} bytes at {offset}");
    }
    assert!(window.read(20, &mut []).is_ok());
    assert_eq!(disk.read, [(100, 20), (120, 0)]);
}

#[test]
fn slot_a_is_tried_first_and_numbers_round_trip() {
    assert_eq!(Slot::TRIES.map(Slot::name), ["A", "B"]);
    for slot in Slot::TRIES {
        assert_eq!(Slot::from_number(slot.number()), Some(slot));
    }
    assert_eq!(Slot::from_number(2), None);
}
