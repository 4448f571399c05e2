//! Every reason to refuse an image.

use crate::{Algorithm, Kind, Role};
use fail_code::FailCode;

/// A part of the metadata that is CBOR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Root key and delegation certificates.
    Delegation,
    /// Signed manifest.
    Manifest,
    /// Sealing record.
    Sealing,
    /// Payload of a bundle.
    Bundle,
    /// Payload of a package's index.
    Package,
    /// A signed message of a role.
    Message,
}

/// Why an image is refused, with the value that it is refused for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The first eight bytes are not the magic.
    Magic,
    /// The format version is not 1.0.
    FormatVersion {
        /// Major found.
        major: u16,
        /// Minor found.
        minor: u16,
    },
    /// A reserved byte of the header is not zero.
    HeaderReserved,
    /// The length of a part is zero or larger than all metadata may be.
    PartLength {
        /// Length found, in bytes.
        length: u32,
    },
    /// The header has no chunk, or more than the metadata can describe.
    ChunkCount {
        /// Chunks found.
        found: u32,
    },
    /// The payload does not start at the first 4 KiB boundary after the chunk table.
    PayloadOffset {
        /// Offset found.
        found: u32,
        /// Offset that follows from the lengths of the parts.
        expected: u32,
    },
    /// The payload's length is not the sum of its chunks.
    PayloadLength,
    /// Fewer or more bytes were given than there are.
    Truncated {
        /// Bytes given.
        found: u32,
        /// Bytes expected.
        expected: u32,
    },
    /// A byte between the chunk table and the payload is not zero.
    Padding,
    /// A part is not the one canonical encoding of known fields.
    Malformed {
        /// Which part.
        part: Part,
        /// Offset in the part, or in the embedded item, where it was noticed.
        offset: u32,
    },
    /// The manifest's chunk size is no power of two from 4 KiB to 1 MiB.
    ChunkSize {
        /// Chunk size found, in bytes.
        found: u32,
    },
    /// The header's chunk count is not what the signed sizes give.
    ChunkCountWrong {
        /// Chunks found in the header.
        found: u32,
    },
    /// Load address plus size leaves the address space, or the entry is not an instruction of the image.
    LoadRange,
    /// No fused root has this digest.
    RootUnknown,
    /// The root is revoked in the fuses.
    RootRevoked,
    /// A published test key signed, and this device takes none.
    TestKey,
    /// The root's signature on a delegation certificate does not verify, or names another root.
    DelegationSignature {
        /// Number of the certificate, from 0.
        index: u32,
    },
    /// There is not exactly one signature for each delegation certificate.
    SignatureCount {
        /// Delegation certificates.
        delegations: u32,
        /// Signatures on the manifest.
        signatures: u32,
    },
    /// A signature on the manifest does not verify, or names another key than its certificate does.
    Signature {
        /// Number of the signature, from 0.
        index: u32,
    },
    /// One key signed twice.
    SignerTwice {
        /// Number of the second signature, from 0.
        index: u32,
    },
    /// This stage, or this kind of image, does not take the algorithm.
    Algorithm {
        /// The algorithm.
        algorithm: Algorithm,
    },
    /// The decisions taken one by one do not hold when taken together: a fault was injected.
    Inconsistent,
    /// The signer's role does not sign this kind.
    RoleWrong {
        /// The role that signed.
        role: Role,
        /// The kind of the image.
        kind: Kind,
    },
    /// The delegation does not list this kind.
    KindNotDelegated {
        /// The kind of the image.
        kind: Kind,
    },
    /// The delegation does not list this board.
    BoardNotDelegated,
    /// The delegation does not cover this version.
    VersionNotDelegated,
    /// The kind is reserved.
    KindReserved {
        /// The kind of the image.
        kind: Kind,
    },
    /// The image is of another kind than its place calls for.
    KindWrong {
        /// The kind of the image.
        found: Kind,
        /// The kind that belongs here.
        expected: Kind,
    },
    /// The image was made for another board.
    BoardWrong,
    /// The rollback index is below the fused floor.
    RolledBack {
        /// Rollback index of the image.
        index: u32,
        /// The floor.
        floor: u32,
    },
    /// The list of chunk digests does not hash to the signed plain digest.
    PlainDigest,
    /// The data key does not unwrap.
    KeyUnwrap,
    /// There is no such chunk.
    NoSuchChunk {
        /// Number of the chunk, from 0.
        index: u32,
    },
    /// The buffer is not as long as the chunk.
    ChunkLength {
        /// Number of the chunk, from 0.
        index: u32,
        /// Bytes given.
        found: u32,
    },
    /// A chunk is stored in a length that its sealing does not allow.
    StoredLength {
        /// Number of the chunk, from 0.
        index: u32,
        /// Length found in the table.
        found: u32,
    },
    /// A chunk's tag is wrong.
    ChunkTag {
        /// Number of the chunk, from 0.
        index: u32,
    },
    /// A chunk's plaintext is not the signed one.
    ChunkDigest {
        /// Number of the chunk, from 0.
        index: u32,
    },
    /// A chunk does not decompress to its signed length.
    Decompress {
        /// Number of the chunk, from 0.
        index: u32,
    },
    /// A compressed chunk was to be opened in place.
    Compressed {
        /// Number of the chunk, from 0.
        index: u32,
    },
    /// Not every chunk was opened exactly once.
    Incomplete {
        /// Chunks opened.
        opened: u32,
        /// Chunks there are.
        expected: u32,
    },
    /// A bundle names a kind that is no object of an operating system.
    ObjectKind {
        /// The kind named.
        kind: Kind,
    },
    /// A bundle names two objects of one kind.
    ObjectTwice {
        /// The kind named twice.
        kind: Kind,
    },
    /// A bundle lacks a kernel or a device tree.
    ObjectMissing {
        /// The kind that is missing.
        kind: Kind,
    },
    /// A package names an object where its order has none of this kind.
    PackageOrder {
        /// Place of the object, from 0.
        place: u32,
        /// Its kind.
        kind: Kind,
    },
    /// A package names one object twice.
    PackageTwice {
        /// Place where it is named again, from 0.
        place: u32,
    },
    /// A package lacks an object without which the device cannot boot.
    PackageMissing {
        /// The kind that is missing.
        kind: Kind,
    },
    /// A package holds other objects than its bundle names.
    PackageBundle {
        /// Place of the first that differs, from 0.
        place: u32,
    },
    /// A signed message is of another content type than belongs here.
    ContentType,
    /// The role that signed a message does not sign such messages.
    MessageRole {
        /// The role that signed.
        role: Role,
        /// The role that signs them.
        expected: Role,
    },
}

// Small enough to be returned in registers: each `?` costs stage0 the moves.
const _: () = assert!(size_of::<Error>() <= 12);

impl Error {
    /// Returns the stable code of this refusal.
    pub const fn code(&self) -> FailCode {
        match self {
            Self::Magic => FailCode::HeaderMagic,
            Self::FormatVersion { .. } => FailCode::HeaderVersion,
            Self::HeaderReserved
            | Self::PartLength { .. }
            | Self::ChunkCount { .. }
            | Self::PayloadOffset { .. }
            | Self::PayloadLength
            | Self::ChunkCountWrong { .. } => FailCode::HeaderInvalid,
            Self::Truncated { .. } | Self::ChunkLength { .. } => FailCode::ImageTruncated,
            Self::Padding => FailCode::PaddingNotZero,
            Self::Malformed { part: Part::Delegation, .. } => FailCode::DelegationMalformed,
            Self::Malformed { part: Part::Manifest, .. } | Self::ChunkSize { .. } => {
                FailCode::ManifestMalformed
            }
            Self::Malformed { part: Part::Sealing, .. } | Self::StoredLength { .. } => {
                FailCode::SealingMalformed
            }
            Self::Malformed { part: Part::Bundle, .. } | Self::ObjectKind { .. } => FailCode::BundleMalformed,
            Self::Malformed { part: Part::Package, .. }
            | Self::PackageOrder { .. }
            | Self::PackageTwice { .. } => FailCode::PackageMalformed,
            Self::PackageMissing { .. } => FailCode::PackageIncomplete,
            Self::PackageBundle { .. } => FailCode::PackageMixed,
            Self::Malformed { part: Part::Message, .. } => FailCode::AnswerMalformed,
            Self::ContentType | Self::MessageRole { .. } => FailCode::TicketInvalid,
            Self::LoadRange => FailCode::LoadAddress,
            Self::RootUnknown => FailCode::RootUnknown,
            Self::RootRevoked => FailCode::RootRevoked,
            Self::TestKey => FailCode::TestKey,
            Self::DelegationSignature { .. } => FailCode::DelegationSignature,
            Self::SignatureCount { .. }
            | Self::Signature { .. }
            | Self::SignerTwice { .. }
            | Self::Inconsistent => FailCode::SignatureInvalid,
            Self::Algorithm { .. } => FailCode::AlgorithmUnsupported,
            Self::RoleWrong { .. } => FailCode::RoleWrong,
            Self::KindNotDelegated { .. } => FailCode::KindNotDelegated,
            Self::BoardNotDelegated => FailCode::BoardNotDelegated,
            Self::VersionNotDelegated => FailCode::VersionNotDelegated,
            Self::KindReserved { .. } => FailCode::KindReserved,
            Self::KindWrong { .. } => FailCode::KindWrong,
            Self::BoardWrong => FailCode::BoardWrong,
            Self::RolledBack { .. } => FailCode::RolledBack,
            Self::KeyUnwrap => FailCode::KeyUnwrap,
            Self::ChunkTag { .. } => FailCode::ChunkTag,
            Self::PlainDigest
            | Self::ChunkDigest { .. }
            | Self::NoSuchChunk { .. }
            | Self::Incomplete { .. } => FailCode::ChunkDigest,
            Self::Decompress { .. } | Self::Compressed { .. } => FailCode::ChunkDecompress,
            Self::ObjectTwice { .. } => FailCode::ObjectTwice,
            Self::ObjectMissing { .. } => FailCode::ObjectMissing,
        }
    }
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({self:?})", self.code())
    }
}

impl core::error::Error for Error {}
