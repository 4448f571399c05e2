use crate::{Lifecycle, Row};
use fail_code::FailCode;
use hal::BurnError;

/// Why the fuses of a die cannot be used as they are, or not be burned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bank holds only this many words.
    BankTooSmall(usize),
    /// The row was burned in part, or more of its bits have drifted than redundancy covers.
    RowTorn(Row),
    /// Both copies of the row are whole, and they hold different values.
    RowsDisagree(Row),
    /// The row is blank, and the lifecycle state cannot do without it.
    RowMissing(Row),
    /// The three lifecycle words hold no known state.
    LifecycleUnknown([u32; 3]),
    /// The lifecycle read differently at the end than at the start.
    LifecycleUnstable,
    /// No die boots in this lifecycle state.
    LifecycleForbids(Lifecycle),
    /// The debug lock is not burned, in a state that needs it.
    DebugOpen(Lifecycle),
    /// No owner root slot is valid and not revoked.
    NoOwnerRoot,
    /// The root key is in no slot.
    RootUnknown,
    /// The root key is in this slot, which is revoked.
    RootRevoked(u8),
    /// The secure boot bit is not burned.
    SecureBootOff,
    /// The boot policy asks for post-quantum signatures.
    PostQuantumRequired,
    /// The boot policy flag of this index, unknown to this release, is burned.
    PolicyUnknown(u8),
    /// The die is not blank: of this row, or of its lock, something is burned.
    NotBlank(Row),
    /// The row, or its lock, holds bits that the plan does not.
    RowForeign(Row),
    /// The plan asks this row for a level that no thermometer holds.
    LevelTooHigh(Row, u8),
    /// With the bits of this word burned, the plan would leave a die that it must not leave.
    PlanUnsafe(usize),
    /// The plan, burned whole, would leave a die in this state, if in any.
    PlanIncomplete(Option<Lifecycle>),
    /// The word was not burned.
    BurnFailed(BurnError),
    /// The word of this index does not read back as it was burned.
    ReadBack(usize),
    /// Encoded fuse facts have this many bytes.
    FactsLength(usize),
    /// Encoded fuse facts are of this version, unknown to this release.
    FactsVersion(u8),
    /// Encoded fuse facts hold a value that their field cannot have: the field at this offset.
    FactsMalformed(usize),
}

impl Error {
    /// Returns the stable code that stands for this reason.
    pub const fn code(&self) -> FailCode {
        match self {
            Self::BankTooSmall(_) | Self::RowTorn(_) | Self::RowsDisagree(_) => FailCode::OtpUnreadable,
            Self::RowMissing(_) | Self::NoOwnerRoot => FailCode::FuseRowMissing,
            Self::LifecycleUnknown(_) | Self::LifecycleUnstable => FailCode::LifecycleUnknown,
            Self::LifecycleForbids(_) => FailCode::LifecycleForbids,
            Self::DebugOpen(_) => FailCode::DebugOpen,
            Self::RootUnknown => FailCode::RootUnknown,
            Self::RootRevoked(_) => FailCode::RootRevoked,
            Self::SecureBootOff => FailCode::SecureBootOff,
            Self::PostQuantumRequired | Self::PolicyUnknown(_) => FailCode::PolicyUnsupported,
            Self::NotBlank(_) => FailCode::DieNotBlank,
            Self::RowForeign(_) => FailCode::FuseForeign,
            Self::LevelTooHigh(..) | Self::PlanUnsafe(_) | Self::PlanIncomplete(_) => FailCode::FusePlan,
            Self::BurnFailed(_) | Self::ReadBack(_) => FailCode::FuseBurn,
            Self::FactsLength(_) | Self::FactsVersion(_) | Self::FactsMalformed(_) => {
                FailCode::RequestMalformed
            }
        }
    }
}
