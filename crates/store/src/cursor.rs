use crate::{Error, window::check_inside};
use hal::Storage;
use memory_map::Region;
use sealed_image::{HEADER_BYTES, Header, PAYLOAD_ALIGN};

/// Every image starts at a multiple of this, counted from the start of its slot.
pub const ALIGN: u64 = PAYLOAD_ALIGN as u64;

/// An image in a slot: its metadata in RAM, its payload still in the storage. Only its lengths are checked.
#[derive(Debug)]
pub struct StoredImage<'b> {
    /// Offset of the image in the storage.
    pub offset: u64,
    /// The bounded header.
    pub header: Header,
    /// Everything before the payload, header included.
    pub untrusted_metadata: &'b [u8],
    /// Where the payload lies in the storage, wholly inside the slot.
    pub payload: Region,
}

/// Walks the images of a slot, one after the other.
///
/// It does not hold the storage, so that the caller may read a payload between two images.
#[derive(Clone, Debug)]
pub struct Cursor {
    slot: Region,
    /// Offset of the next image within the slot.
    next: u64,
}

impl Cursor {
    /// Starts at the first image of a slot.
    pub const fn new(slot: Region) -> Self {
        Self { slot, next: 0 }
    }

    /// Reads the metadata of the next image into `buffer` and steps over the image.
    ///
    /// Each byte is read once. A buffer of [`sealed_image::MAX_METADATA`] bytes fits every image, a smaller one
    /// is a bound of the caller's own. After an error the cursor stands where it stood.
    ///
    /// # Errors
    /// See [`Error`].
    pub fn read_next<'b>(
        &mut self,
        storage: &mut impl Storage,
        buffer: &'b mut [u8],
    ) -> Result<StoredImage<'b>, Error> {
        check_inside(storage, self.slot)?;
        let offset = self.slot.base.wrapping_add(self.next);
        let room = self.slot.size.saturating_sub(self.next);
        if room < ALIGN {
            return Err(self.nothing_here(offset));
        }

        let available = buffer.len();
        let too_long = |found| Error::MetadataTooLong { found, room: available };
        let page = buffer.get_mut(..PAYLOAD_ALIGN as usize).ok_or(too_long(PAYLOAD_ALIGN))?;
        storage.read(offset, page)?;
        let start = page.get(..HEADER_BYTES).unwrap_or_default();
        if [0x00, 0xFF].into_iter().any(|erased| start.iter().all(|byte| *byte == erased)) {
            return Err(self.nothing_here(offset));
        }
        let header = Header::parse(start).map_err(Error::Header)?;

        let truncated = Error::ImageTruncated { payload: header.payload_len, room };
        let length = header.image_len().filter(|length| *length <= room).ok_or(truncated)?;
        let metadata_len = header.metadata_len();
        let metadata = buffer.get_mut(..metadata_len as usize).ok_or(too_long(metadata_len))?;
        if let Some((_, rest)) = metadata.split_at_mut_checked(PAYLOAD_ALIGN as usize)
            && !rest.is_empty()
        {
            storage.read(offset.wrapping_add(ALIGN), rest)?;
        }

        self.next =
            length.checked_next_multiple_of(ALIGN).and_then(|n| self.next.checked_add(n)).ok_or(truncated)?;
        Ok(StoredImage {
            offset,
            header,
            untrusted_metadata: metadata,
            payload: Region::new(offset.wrapping_add(u64::from(metadata_len)), header.payload_len),
        })
    }

    /// Names what an erased place means: an empty slot, or the end of its images.
    const fn nothing_here(&self, offset: u64) -> Error {
        match self.next {
            0 => Error::Empty { offset },
            _ => Error::NoFurtherImage { offset },
        }
    }
}
