//! Why a release could not be made.

use boot_crypto::host::SigningKeyError;
use fail_code::FailCode;
use lifecycle::{Deviation, Lifecycle, Row};
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
    /// No key acts in the role.
    #[error("the owner has no key for the role {}", role.name())]
    RoleMissing {
        /// The role.
        role: Role,
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
    /// A package holds an object that is not the one that its index names.
    #[error("the {} at offset {offset:#x} is not the one that the package's index names", kind.name())]
    NotInPackage {
        /// Where the image starts in the package, in bytes.
        offset: u64,
        /// What the index names here.
        kind: Kind,
    },
    /// The parts of a release do not belong together.
    #[error("the release is mixed up: {what}")]
    ReleaseMixed {
        /// What does not fit.
        what: &'static str,
    },
    /// No rollback floor in fuses reaches the rollback index.
    #[error("the rollback index {found} is higher than fuses can count: at most {}", lifecycle::MAX_LEVEL)]
    RollbackIndexTooHigh {
        /// The rollback index.
        found: u32,
    },
    /// Somebody has burned the die before.
    #[error("the die is not blank: it is {}, and its row {row:?} is burned", lifecycle.map_or("in no known state", Lifecycle::name))]
    DieNotBlank {
        /// A row that is burned.
        row: Row,
        /// How far the die has come; `None` if that cannot be told.
        lifecycle: Option<Lifecycle>,
    },
    /// The vendor did not finish the die.
    #[error("the vendor's row {row:?} is not locked: the die was not fabricated whole")]
    DieUnlocked {
        /// The row.
        row: Row,
    },
    /// Somebody has written the storage before.
    #[error("{} is not erased: something is written at {offset:#x}", path.display())]
    FlashNotClear {
        /// The file.
        path: PathBuf,
        /// The first byte that is not erased.
        offset: u64,
    },
    /// The fuses cannot be read or burned.
    #[error("the fuses: {cause} ({0:?})", cause = .0.code().cause())]
    Fuses(lifecycle::Error),
    /// The fuses are not those of the policy.
    #[error("the fuses do not read back as the release says: {cause} ({0:?})", cause = .0.code().cause())]
    FusePolicy(Deviation),
    /// A certificate could not be made.
    #[error("the certificate cannot be made: {0}")]
    Certificate(rcgen::Error),
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
    /// An audit has nothing to look for that could not be there by chance.
    #[error("{name} has no stretch of bytes that could be looked for")]
    NothingToLookFor {
        /// The payload or secret.
        name: String,
    },
    /// A file holds no private key.
    #[error("{}: {error}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        error: SigningKeyError,
    },
    /// A file holds no certificate.
    #[error("{} holds no certificate in PEM", path.display())]
    CertificateFile {
        /// The file.
        path: PathBuf,
    },
    /// A file holds no symmetric key.
    #[error("{} holds no key of 64 hex digits", path.display())]
    SecretFile {
        /// The file.
        path: PathBuf,
    },
    /// A file does not describe a release.
    #[error("{}: {reason}", path.display())]
    ReleaseFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A file could not be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
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
    /// Returns the stable refusal code; `None` for what has none.
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
            Self::NotInPackage { .. } => Some(FailCode::PackageMixed),
            Self::DieNotBlank { .. } => Some(FailCode::DieNotBlank),
            Self::FlashNotClear { .. } => Some(FailCode::FlashNotClear),
            Self::Fuses(error) => Some(error.code()),
            Self::FusePolicy(deviation) => Some(deviation.code()),
            _ => None,
        }
    }
}
