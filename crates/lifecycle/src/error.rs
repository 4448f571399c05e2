use crate::{Lifecycle, Row};
use fail_code::FailCode;

/// Why the fuses of a die cannot be used to boot it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bank holds only this many words.
    BankTooSmall(usize),
    /// The word of this index read differently the second time.
    Unstable(usize),
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
}

impl Error {
    /// Returns the stable code that stands for this reason.
    pub const fn code(&self) -> FailCode {
        match self {
            Self::BankTooSmall(_) | Self::Unstable(_) | Self::RowTorn(_) | Self::RowsDisagree(_) => {
                FailCode::OtpUnreadable
            }
            Self::RowMissing(_) | Self::NoOwnerRoot => FailCode::FuseRowMissing,
            Self::LifecycleUnknown(_) | Self::LifecycleUnstable => FailCode::LifecycleUnknown,
            Self::LifecycleForbids(_) => FailCode::LifecycleForbids,
            Self::DebugOpen(_) => FailCode::DebugOpen,
            Self::RootUnknown => FailCode::RootUnknown,
            Self::RootRevoked(_) => FailCode::RootRevoked,
            Self::SecureBootOff => FailCode::SecureBootOff,
            Self::PostQuantumRequired | Self::PolicyUnknown(_) => FailCode::PolicyUnsupported,
        }
    }
}
