//! Why a release could not be made.

use crate::{
    Beyond, DelegationFault, Limits, PassphraseFault, SealedKeyFault, TokenFault, UpdateKeyFault, hex,
};
use boot_crypto::Digest;
use boot_crypto::host::SigningKeyError;
use fail_code::FailCode;
use lifecycle::{Deviation, Lifecycle, Row};
use memory_map::Region;
use sealed_image::{Kind, Part, Role, UpdateError, Version};
use stage2_production::kernel_image::KernelImageError;
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
    /// The root does not let a key sign this.
    #[error("the root lets the key of the role {} sign {limits}: not {beyond}", role.name())]
    NotDelegated {
        /// The role.
        role: Role,
        /// What was to be signed.
        beyond: Beyond,
        /// What the root lets it sign.
        limits: Box<Limits>,
    },
    /// What the root delegates to a key is missing, or is of no use.
    #[error("{}: {fault}", path.display())]
    Delegation {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: DelegationFault,
    },
    /// A list of revoked keys cannot be believed.
    #[error("{}: {reason}", path.display())]
    Revocations {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A key signed something that the root took back.
    #[error("the key {} signed it, and the root has revoked that key", hex(key))]
    SignedByRevoked {
        /// The thumbprint of the key.
        key: Digest,
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
    /// A device would refuse something that is signed and lies by itself.
    #[error("the {what}: {cause} ({error:?})", cause = error.code().cause())]
    Signed {
        /// What.
        what: &'static str,
        /// Why.
        error: sealed_image::Error,
    },
    /// A device would refuse an answer of the authority.
    #[error("the answer: {cause} ({0:?})", cause = .0.code().cause())]
    Answer(factory_proto::Error),
    /// A stage would refuse what it is to boot.
    #[error("{what}: {}{}", code.cause(), slots.iter().map(|(slot, code)| format!("\n  {slot} refused: {code}")).collect::<String>())]
    Refused {
        /// What does not happen.
        what: String,
        /// Why.
        code: FailCode,
        /// The slots that were tried before, and why each was refused.
        slots: Vec<(String, FailCode)>,
    },
    /// An option was given that says nothing about what is verified.
    #[error("{option} says nothing about a {what}, and would be ignored")]
    OptionUnused {
        /// The option.
        option: &'static str,
        /// What is verified.
        what: &'static str,
    },
    /// The folder of a device has no disk.
    #[error("{} is not there: without its disk nobody can say what the device boots", path.display())]
    DiskMissing {
        /// The file.
        path: PathBuf,
    },
    /// A bare manifest has nothing with it that its signatures could be verified with.
    #[error("{} is a manifest by itself: who may sign it, its image says, and that is not here", path.display())]
    DelegationMissing {
        /// The file.
        path: PathBuf,
    },
    /// An owner root proves nothing about a message.
    #[error("{} is a {} of a device: the silicon vendor's key proves it, and the owner's root does not", path.display(), message.name())]
    Unprovable {
        /// The file.
        path: PathBuf,
        /// Which message it is.
        message: factory_proto::Message,
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
    /// A package holds nothing.
    #[error("there is no package")]
    PackageMissing,
    /// A package ends before all that its index names.
    #[error("the package has nothing at offset {offset:#x}, where its index names the {}", kind.name())]
    PackageIncomplete {
        /// Where the image would start in the package, in bytes.
        offset: u64,
        /// What the index names here.
        kind: Kind,
    },
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
    /// An owner's folder names another root than the key of the root is.
    #[error("{} is not the public part of the owner's root key", path.display())]
    OtherRoot {
        /// The file of the public key.
        path: PathBuf,
    },
    /// A key in hardware cannot be used.
    #[error("{uri}: {fault}")]
    Token {
        /// The token, or the key on it.
        uri: String,
        /// What is wrong.
        fault: TokenFault,
    },
    /// An owner could not be founded on a token, and keys that were made for one are still there.
    #[error("{why}; made before, and still on the token: the keys {}", left.join(", "))]
    KeysLeft {
        /// Why.
        why: Box<Error>,
        /// The labels of the keys.
        left: Vec<String>,
    },
    /// A configuration cannot be used.
    #[error("{}{}: {reason}", path.display(), line.map(|line| format!(", line {line}")).unwrap_or_default())]
    Config {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: Option<usize>,
        /// What is wrong with it.
        reason: String,
    },
    /// A payload is not what its kind says.
    #[error("{}: {reason}", path.display())]
    Payload {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A FIT does not hold.
    #[error("{}: {error}", path.display())]
    Fit {
        /// The file.
        path: PathBuf,
        /// Why.
        error: fit::Error,
    },
    /// A file holds no key that a FIT can be verified with.
    #[error("{}: {error}", path.display())]
    FitKey {
        /// The file.
        path: PathBuf,
        /// Why.
        error: fit::KeyError,
    },
    /// A device would not start the kernel.
    #[error("{}: {cause} ({error:?})", path.display(), cause = error.code().cause())]
    Kernel {
        /// The file.
        path: PathBuf,
        /// Why.
        error: KernelImageError,
    },
    /// An object would leave the memory for the operating system.
    #[error(
        "the {} of {size} bytes at {load:#x} leaves the memory for the operating system, {:#x} to {:#x}",
        kind.name(), window.base, window.end()
    )]
    Place {
        /// What.
        kind: Kind,
        /// Where it would be loaded.
        load: u64,
        /// The bytes that it takes there.
        size: u64,
        /// The memory for it.
        window: Region,
    },
    /// Two objects would share memory.
    #[error("the {} ({:#x} to {:#x}) and the {} ({:#x} to {:#x}) would lie over each other",
        .0.0.name(), .0.1.base, .0.1.end(), .1.0.name(), .1.1.base, .1.1.end())]
    Overlap((Kind, Region), (Kind, Region)),
    /// A release would be written where something is.
    #[error("{} is there already", path.display())]
    OutputThere {
        /// The folder.
        path: PathBuf,
    },
    /// The content key would go to the factory.
    #[error("the content key would lie in the folder that goes to the factory, and go there with it: {}", path.display())]
    ContentKeyInside {
        /// Where it was to be written.
        path: PathBuf,
    },
    /// A release in production would not say what its stages are made of.
    #[error(
        "the release would not say what its stages are made of, as the production profile wants: `{key}` of [stages] is missing, or empty"
    )]
    SourceUnsaid {
        /// The key of the configuration.
        key: &'static str,
    },
    /// Nobody would get the content key.
    #[error(
        "nobody would get the content key: no authority is named that it is sealed to, and no file for it"
    )]
    ContentKeyNowhere,
    /// The content key would lie open, though it can be sealed.
    #[error("the content key is sealed to the authority that is named, and would be written to {} as well", path.display())]
    ContentKeyOpen {
        /// Where it was to be written.
        path: PathBuf,
    },
    /// The content key would lie open, and the release is for production.
    #[error("the content key would be written to {} in the clear, which the production profile never does: it is for the authority alone", path.display())]
    ContentKeyInProduction {
        /// Where it was to be written.
        path: PathBuf,
    },
    /// A sealed content key cannot be used.
    #[error("{}: {fault}", path.display())]
    SealedKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: SealedKeyFault,
    },
    /// A file is not the public sealing key of an authority.
    #[error("{} is not the public sealing key of an authority, as the authority writes it", path.display())]
    AuthorityKeyFile {
        /// The file.
        path: PathBuf,
    },
    /// An update key cannot be used.
    #[error("{}: {fault}", path.display())]
    UpdateKey {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        fault: UpdateKeyFault,
    },
    /// The token that wraps an update key does not open it.
    #[error("{}: {error}", path.display())]
    UpdateKeyToken {
        /// The file.
        path: PathBuf,
        /// Why.
        error: Box<Error>,
    },
    /// A device would refuse an update.
    #[error("update, image at offset {offset:#x}: {error}")]
    Update {
        /// Where the image starts in the update, in bytes.
        offset: u64,
        /// Why.
        error: UpdateError,
    },
    /// No device could install an update.
    #[error(
        "the update to {version} is for devices of {minimum} or higher: none of them is older than the update"
    )]
    MinimumVersion {
        /// The lowest version that it can be installed over.
        minimum: Version,
        /// The version of the update.
        version: Version,
    },
    /// The release before is of something else.
    #[error("the release before is of {previous}, this one of {found}")]
    OtherProduct {
        /// Its product and board.
        previous: String,
        /// This release's.
        found: String,
    },
    /// The version does not rise.
    #[error("the version {found} is not higher than {previous}, that of the release before")]
    VersionNotRising {
        /// The version of the release before.
        previous: Version,
        /// This release's.
        found: Version,
    },
    /// The rollback index falls.
    #[error("the rollback index {found} of the role {} is lower than {previous}, that of the release before", role.name())]
    RollbackIndexFalling {
        /// Whose it is.
        role: Role,
        /// The rollback index of the release before.
        previous: u32,
        /// This release's.
        found: u32,
    },
    /// A release manifest is not signed as it must be.
    #[error("the release manifest: {cause} ({0:?})", cause = release_code(.0).cause())]
    ReleaseSignature(sealed_image::Error),
    /// A release manifest cannot be read.
    #[error("the release manifest is not the one encoding of its fields, from offset {offset} on")]
    ReleaseManifest {
        /// Where that was noticed.
        offset: u32,
    },
    /// A release manifest is of another form.
    #[error("the release manifest is of form {found}, and this release of Kiln reads form {known}")]
    ReleaseForm {
        /// Which it is of.
        found: u8,
        /// Which is read.
        known: u8,
    },
    /// A file of a release is not there.
    #[error("{name} is not there, and the signed release manifest lists it")]
    FileMissing {
        /// Its name in the folder.
        name: String,
    },
    /// A file of a release is another.
    #[error("{name} is not the file that {listed_in} lists")]
    FileAltered {
        /// Its name in the folder.
        name: String,
        /// What says so.
        listed_in: &'static str,
    },
    /// A folder of a release holds something else too.
    #[error("{name} is in the folder, and the signed release manifest does not list it")]
    FileUnlisted {
        /// Its name in the folder.
        name: String,
    },
    /// The provenance cannot be believed.
    #[error("the provenance: {reason}")]
    Provenance {
        /// Why.
        reason: &'static str,
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
    /// There is no passphrase for key files.
    #[error("{}: {fault}", path.display())]
    Passphrase {
        /// The file, or the folder of those that are to be.
        path: PathBuf,
        /// Why.
        fault: PassphraseFault,
    },
    /// A key lies in a file, and the release is for production.
    #[error("{}: the production profile takes keys on a token only, and this is none", path.display())]
    KeyInFile {
        /// The file.
        path: PathBuf,
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
            Self::NotDelegated { beyond: Beyond::Kind(_), .. } => Some(FailCode::KindNotDelegated),
            Self::NotDelegated { beyond: Beyond::Board(_), .. } => Some(FailCode::BoardNotDelegated),
            Self::NotDelegated { beyond: Beyond::Version(_), .. } => Some(FailCode::VersionNotDelegated),
            Self::Delegation { fault: DelegationFault::Untrusted(error), .. } => Some(error.code()),
            Self::Image { error, .. } | Self::Seal(sealed_image::host::SealError::Manifest(error)) => {
                Some(error.code())
            }
            Self::Signed { error, .. } => Some(error.code()),
            Self::Answer(error) => Some(error.code()),
            Self::Refused { code, .. } => Some(*code),
            Self::Update { error, .. } => Some(error.code()),
            Self::Kernel { error, .. } => Some(error.code()),
            Self::Place { .. } => Some(FailCode::LoadAddress),
            Self::Overlap(..) => Some(FailCode::LoadOverlap),
            Self::VersionNotRising { .. } => Some(FailCode::VersionNotRising),
            Self::RollbackIndexFalling { .. } => Some(FailCode::RollbackIndexFalling),
            Self::ReleaseSignature(error) => Some(release_code(error)),
            Self::ReleaseManifest { .. } | Self::ReleaseForm { .. } => {
                Some(FailCode::ReleaseManifestMalformed)
            }
            Self::FileMissing { .. } => Some(FailCode::ReleaseFileMissing),
            Self::FileAltered { .. } => Some(FailCode::ReleaseFileAltered),
            Self::FileUnlisted { .. } => Some(FailCode::ReleaseFileUnlisted),
            Self::Provenance { .. } => Some(FailCode::ProvenanceUntrusted),
            Self::ReleaseMixed { .. } => Some(FailCode::ReleaseMixed),
            Self::SlotTruncated { .. } => Some(FailCode::ImageTruncated),
            Self::SlotEmpty => Some(FailCode::SlotEmpty),
            Self::PackageMissing => Some(FailCode::PackageMissing),
            Self::PackageIncomplete { .. } => Some(FailCode::PackageIncomplete),
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

/// Returns the code of a refusal of a release manifest: devices see such messages only as answers of the authority, and
/// have other codes for what is wrong with those.
fn release_code(error: &sealed_image::Error) -> FailCode {
    match error {
        sealed_image::Error::Malformed { part: Part::Message, .. } | sealed_image::Error::ContentType => {
            FailCode::ReleaseManifestMalformed
        }
        sealed_image::Error::MessageRole { .. } => FailCode::RoleWrong,
        other => other.code(),
    }
}
