//! Why a release could not be made.

use fail_code::FailCode;
use sealed_image::{Kind, Role};
use std::path::PathBuf;

/// Everything that can be wrong, with what is needed to mend it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A published test key or secret in the production profile.
    #[error("{what} is a published test value: production takes none")]
    TestKey {
        /// What it was to be used for.
        what: String,
    },
    /// No key acts in the role that signs this kind.
    #[error("no key for the role {}, which signs {}", role.name(), kind.name())]
    NoSigner {
        /// The role.
        role: Role,
        /// What was to be signed.
        kind: Kind,
    },
    /// A kind that is reserved.
    #[error("images of kind {} are reserved for a later release", kind.name())]
    Reserved {
        /// The kind.
        kind: Kind,
    },
    /// An image could not be made.
    #[error(transparent)]
    Seal(#[from] sealed_image::host::SealError),
    /// A device would refuse an image.
    #[error("image at offset {offset:#x}: {error}")]
    Image {
        /// Where the image starts in its slot, in bytes.
        offset: u64,
        /// Why.
        error: sealed_image::Error,
    },
    /// A slot ends inside an image.
    #[error("the slot ends inside the image at offset {offset:#x}")]
    SlotTruncated {
        /// Where the image starts in its slot, in bytes.
        offset: u64,
    },
    /// A slot holds no image.
    #[error("the slot is empty")]
    SlotEmpty,
    /// A slot holds an object that is not the one that its bundle names.
    #[error("the {} at offset {offset:#x} is not the one that the bundle names", kind.name())]
    NotInBundle {
        /// Where the image starts in its slot, in bytes.
        offset: u64,
        /// What the bundle names here.
        kind: Kind,
    },
    /// A file is no AArch64 executable.
    #[error("not an AArch64 ELF executable: {reason}")]
    Elf {
        /// What is wrong with it.
        reason: String,
    },
    /// Something is too large for its place.
    #[error("{what} has {size} bytes, its place has {room}")]
    TooLarge {
        /// What.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The room in bytes.
        room: u64,
    },
    /// A file could not be written.
    #[error("cannot write {}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

impl Error {
    /// Returns the refusal code that a device would give for this; `None` for what only a host meets.
    pub fn code(&self) -> Option<FailCode> {
        match self {
            Self::TestKey { .. } => Some(FailCode::TestKey),
            Self::Reserved { .. } => Some(FailCode::KindReserved),
            Self::Image { error, .. } | Self::Seal(sealed_image::host::SealError::Manifest(error)) => {
                Some(error.code())
            }
            Self::SlotTruncated { .. } => Some(FailCode::ImageTruncated),
            Self::SlotEmpty => Some(FailCode::SlotEmpty),
            Self::NotInBundle { .. } => Some(FailCode::ObjectNotInBundle),
            _ => None,
        }
    }
}
