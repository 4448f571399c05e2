//! Every reason to refuse an update.

use crate::{Kind, Role, Version};
use fail_code::FailCode;

/// Why an update is refused, with the value that it is refused for. What is wrong with one of its images is an
/// [`Error`](crate::Error).
// Not in `Error`, which stage0 knows whole: each of its reasons costs stage0 room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// The index is not the one canonical encoding of known fields.
    Malformed {
        /// Offset in the payload where it was noticed.
        offset: u32,
    },
    /// An object lies where the order of an update has none of this kind.
    Order {
        /// Place of the object, from 0.
        place: u32,
        /// Its kind.
        kind: Kind,
    },
    /// Two objects are of one kind.
    Twice {
        /// The kind named twice.
        kind: Kind,
    },
    /// The kind of an object is reserved.
    Reserved {
        /// The kind.
        kind: Kind,
    },
    /// An object without which the device cannot boot is not named.
    Missing {
        /// The kind that is missing.
        kind: Kind,
    },
    /// A role that signs something in the update has no rollback index, or one that signs nothing has one.
    Roles {
        /// The role.
        role: Role,
    },
    /// It was made for another product.
    Product,
    /// Its version is not above the installed one.
    NotNewer {
        /// Version of the update.
        found: Version,
        /// Version that is installed.
        installed: Version,
    },
    /// What is installed is too old for it.
    InstalledTooOld {
        /// Version that is installed.
        installed: Version,
        /// Lowest version that the update can be installed over.
        minimum: Version,
    },
    /// The rollback index of a role is below its fused floor.
    RolledBack {
        /// The role.
        role: Role,
        /// Rollback index of the update.
        index: u32,
        /// The floor.
        floor: u32,
    },
    /// A role signed another rollback index than the index names for it.
    RoleIndex {
        /// The role.
        role: Role,
        /// What the role signed.
        signed: u32,
        /// What the index names.
        named: u32,
    },
    /// An object is not the one that the index names.
    Mixed {
        /// Its place, from 0.
        place: u32,
    },
    /// An object is of another version than the update.
    OtherVersion {
        /// Its place, from 0.
        place: u32,
        /// Its version.
        found: Version,
    },
    /// The bundle names other objects than the index.
    Bundle {
        /// Place of the first that differs, from 0.
        place: u32,
    },
    /// Not every object was there, or the bundle was not looked into.
    Incomplete {
        /// Objects taken.
        taken: u32,
        /// Objects that the index names.
        expected: u32,
    },
}

impl UpdateError {
    /// Returns the stable code of this refusal.
    pub const fn code(&self) -> FailCode {
        match self {
            Self::Malformed { .. } | Self::Order { .. } | Self::Roles { .. } => FailCode::UpdateMalformed,
            Self::Twice { .. } => FailCode::UpdateTwice,
            Self::Reserved { .. } => FailCode::KindReserved,
            Self::Missing { .. } | Self::Incomplete { .. } => FailCode::UpdateIncomplete,
            Self::Product => FailCode::ProductWrong,
            Self::NotNewer { .. } => FailCode::UpdateNotNewer,
            Self::InstalledTooOld { .. } => FailCode::InstalledTooOld,
            Self::RolledBack { .. } => FailCode::RolledBack,
            Self::RoleIndex { .. } => FailCode::RoleIndexWrong,
            Self::Mixed { .. } | Self::OtherVersion { .. } | Self::Bundle { .. } => FailCode::UpdateMixed,
        }
    }
}

impl core::fmt::Display for UpdateError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{} ({self:?})", self.code())
    }
}

impl core::error::Error for UpdateError {}
