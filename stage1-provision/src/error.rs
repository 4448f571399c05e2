use fail_code::FailCode;
use hal::{ReadError, WriteError};
use sealed_image::Kind;

/// Why provisioning does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The handoff cannot be read.
    Handoff(boot_info::Error),
    /// The handoff is not one for this stage on this board.
    NotForThisStage,
    /// The die is in a state in which this stage does not run: the lifecycle word.
    Lifecycle {
        /// The word.
        word: u32,
    },
    /// The fuses are not those that stage0 vouches for.
    EvidenceWrong,
    /// Nobody answers on the station link.
    NoAnswer,
    /// The authority, or the station for it, refuses: the number of its code.
    Refused {
        /// The number.
        code: u16,
    },
    /// A message is not what it should be.
    Message(factory_proto::Error),
    /// Something is to be done before what it needs is there: a defect.
    OutOfOrder,
    /// A hardware self-test failed.
    SelfTest(FailCode),
    /// No disk answers.
    NoDisk,
    /// A slot or the package cannot be walked.
    Store(store::Error),
    /// A storage cannot be read.
    Read(ReadError),
    /// A storage cannot be written.
    Write(WriteError),
    /// An image is refused.
    Image {
        /// What it should be.
        kind: Kind,
        /// Why.
        error: sealed_image::Error,
    },
    /// An image is not the one that its index or its bundle names.
    NotTheOneNamed {
        /// What is named there.
        kind: Kind,
    },
    /// An image lies behind the last one that the index names for its place.
    NotNamed {
        /// What it is.
        kind: Kind,
    },
    /// A payload that has to fit in memory is larger than any such payload.
    TooLarge {
        /// What it is.
        kind: Kind,
    },
    /// An object does not fit the region that it belongs in.
    DoesNotFit {
        /// What it is.
        kind: Kind,
    },
    /// There is no package on the disk.
    PackageMissing,
    /// The package ends before an object that its index names.
    PackageIncomplete {
        /// The object.
        kind: Kind,
    },
    /// A bundle repeats its rollback index wrongly.
    BundleIndex,
    /// stage0's selection refuses what the closed device is to boot.
    Selection(FailCode),
    /// The journal cannot be read or written.
    Journal(store::JournalError),
    /// A sealed entry does not open: another die, another stage, or somebody else wrote it.
    EntrySealed {
        /// What it should be.
        entry: crate::machine::Entry,
    },
    /// The journal holds an entry of a kind that this release does not know.
    EntryUnknown {
        /// The kind.
        kind: u8,
    },
    /// The fuses cannot be read or burned.
    Fuses(lifecycle::Error),
    /// A rollback index is higher than a floor can be burned.
    FloorTooHigh {
        /// Number of the role.
        role: u8,
        /// The rollback index.
        index: u32,
    },
    /// The mark of a pending closing does not read back.
    MarkNotWritten,
    /// Every fuse of the plan is burned, and the die is not in Production.
    NotClosed,
    /// A chunk is longer than the chunks of its image.
    ChunkTooLong,
}

impl Error {
    /// Returns the stable code that stands for this reason.
    pub fn code(&self) -> FailCode {
        match self {
            Self::Handoff(_) | Self::NotForThisStage | Self::EvidenceWrong => FailCode::BootInfoInvalid,
            Self::Lifecycle { .. } => FailCode::LifecycleForbids,
            Self::NoAnswer => FailCode::NoAnswer,
            // Nobody signed it: it names no reason that is this device's own to find.
            Self::Refused { code: code @ 1100..1300 } => {
                FailCode::from_number(*code).unwrap_or(FailCode::AnswerMalformed)
            }
            Self::Refused { .. } => FailCode::AnswerMalformed,
            Self::Message(error) => error.code(),
            Self::OutOfOrder => FailCode::Panic,
            Self::SelfTest(code) | Self::Selection(code) => *code,
            Self::NoDisk => FailCode::DiskMissing,
            Self::Store(error) => error.code(),
            Self::Read(_) => FailCode::DiskRead,
            Self::Write(_) | Self::DoesNotFit { .. } => FailCode::FlashWrite,
            Self::Image { error, .. } => error.code(),
            Self::NotTheOneNamed { .. } => FailCode::PackageMixed,
            Self::TooLarge { .. } => FailCode::PackageMalformed,
            Self::PackageMissing => FailCode::PackageMissing,
            Self::PackageIncomplete { .. } => FailCode::PackageIncomplete,
            Self::BundleIndex => FailCode::BundleMalformed,
            Self::Journal(error) => error.code(),
            Self::EntryUnknown { .. } | Self::EntrySealed { .. } => FailCode::JournalInvalid,
            Self::Fuses(error) => error.code(),
            Self::FloorTooHigh { .. } => FailCode::FusePlan,
            Self::NotNamed { .. } | Self::MarkNotWritten => FailCode::ReadBack,
            Self::NotClosed => FailCode::FuseBurn,
            Self::ChunkTooLong => FailCode::HeaderInvalid,
        }
    }
}

impl From<factory_proto::Error> for Error {
    fn from(error: factory_proto::Error) -> Self {
        Self::Message(error)
    }
}
