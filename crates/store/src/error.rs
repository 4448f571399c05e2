use fail_code::FailCode;
use hal::ReadError;
use memory_map::Region;

/// Why there is no image to be had from a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The slot is erased; it starts at this offset.
    Empty {
        /// Where the slot starts.
        offset: u64,
    },
    /// Images were found before, and there is none at this offset.
    NoFurtherImage {
        /// Where it would have started.
        offset: u64,
    },
    /// The slot leaves the storage.
    SlotBeyondStorage {
        /// The slot.
        slot: Region,
        /// Size of the storage.
        size: u64,
    },
    /// The storage reports a read error.
    Read(ReadError),
    /// The header is not one of a sealed image.
    Header(sealed_image::Error),
    /// The caller's buffer has no room for the metadata.
    MetadataTooLong {
        /// Length of the metadata.
        found: u32,
        /// Length of the buffer.
        room: usize,
    },
    /// The image, as long as its header says, leaves the slot.
    ImageTruncated {
        /// Length of the payload, as the header says.
        payload: u64,
        /// Bytes from the start of the image to the end of the slot.
        room: u64,
    },
}

impl Error {
    /// Returns the stable code that stands for this reason.
    pub fn code(&self) -> FailCode {
        match self {
            Self::Empty { .. } => FailCode::SlotEmpty,
            Self::SlotBeyondStorage { .. } | Self::Read(_) => FailCode::DiskRead,
            Self::Header(error) => error.code(),
            Self::MetadataTooLong { .. } => FailCode::HeaderInvalid,
            Self::NoFurtherImage { .. } | Self::ImageTruncated { .. } => FailCode::ImageTruncated,
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}
