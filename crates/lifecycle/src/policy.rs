//! The fuses that a lot's dies must have, and how a die's own differ from them.

use crate::{Flag, FuseFacts, Lifecycle, ROLES, Record, RootFact, Row, Rows};
use boot_crypto::Digest;
use fail_code::FailCode;

/// What pre-provisioning and closing burn into every die of a lot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FusePolicy {
    /// SHA-256 of the owner root key.
    pub root_digest: Digest,
    /// [`fuse_tag`](crate::fuse_tag) of the provisioning key.
    pub provisioning_key_tag: Digest,
    /// Rollback floors of roles 1 to 6 that pre-provisioning burns.
    pub secured_floors: [u8; ROLES as usize],
    /// Rollback floors that closing burns, none lower.
    pub production_floors: [u8; ROLES as usize],
    /// The measurement of the provisioning stage.
    pub closing_measurement: Digest,
}

impl FusePolicy {
    /// Returns the facts of a die that is pre-provisioned and at which closing has not begun.
    pub fn secured(&self) -> FuseFacts {
        let spare = RootFact { digest: Record::Blank, valid: Flag::Clear, revoked: Flag::Clear };
        let first = RootFact { digest: Record::Whole(self.root_digest), valid: Flag::Set, ..spare };
        let mut locks = Rows::default();
        for row in [Row::ChipId, Row::SiliconSecret, Row::DebugLock, Row::ProvisioningKey] {
            locks.insert(row);
        }
        for row in Row::OWNER_ROOTS {
            locks.insert(row);
        }
        FuseFacts {
            lifecycle: Lifecycle::Secured,
            debug_lock: Flag::Set,
            roots: [first, spare, spare, spare],
            provisioning_key: Record::Whole(self.provisioning_key_tag),
            closing_measurement: Record::Blank,
            floors: self.secured_floors,
            owner_generation: 0,
            policy: [Flag::Set, Flag::Clear, Flag::Clear, Flag::Clear],
            locks,
        }
    }

    /// Returns the facts of a die that is closed.
    pub fn production(&self) -> FuseFacts {
        let mut facts = self.secured();
        facts.lifecycle = Lifecycle::Production;
        facts.closing_measurement = Record::Whole(self.closing_measurement);
        facts.floors = self.production_floors;
        facts.locks.insert(Row::ClosingMeasurement);
        facts.locks.insert(Row::DeviceSeed);
        facts
    }
}

/// How the fuses of a die differ from those expected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deviation {
    /// This slot holds an owner root, or part of one, that is not the expected one.
    SecondOwnerRoot(u8),
    /// The rollback floor of this role is higher.
    FloorRaised(u8),
    /// The debug lock is not burned, or in part.
    DebugOpen,
    /// The lifecycle is another: the codeword of the one found.
    Lifecycle(u32),
    /// The row of this number, or its lock, differs in any other way.
    Other(u8),
}

impl Deviation {
    /// Returns the stable code that stands for this reason.
    pub const fn code(&self) -> FailCode {
        match self {
            Self::SecondOwnerRoot(_) => FailCode::SecondOwnerRoot,
            Self::FloorRaised(_) => FailCode::FloorRaised,
            Self::DebugOpen => FailCode::DebugNotLocked,
            Self::Lifecycle(_) => FailCode::LifecycleWrong,
            Self::Other(_) => FailCode::FusePolicyWrong,
        }
    }
}

/// Compares the facts of a die with those expected.
///
/// # Errors
/// The gravest of the deviations, as [`Deviation`] orders them.
pub fn compare(expected: &FuseFacts, found: &FuseFacts) -> Result<(), Deviation> {
    deviations(expected, found).min().map_or(Ok(()), Err)
}

/// Lists the deviations of a die's facts from those expected, row by row, at most one for each row.
pub fn deviations(expected: &FuseFacts, found: &FuseFacts) -> impl Iterator<Item = Deviation> {
    Row::ALL.iter().filter_map(|row| {
        let lock_differs = expected.locks.contains(*row) != found.locks.contains(*row);
        of_row(*row, expected, found).or(lock_differs.then_some(Deviation::Other(row.number())))
    })
}

/// Finds how the content of one row deviates.
fn of_row(row: Row, expected: &FuseFacts, found: &FuseFacts) -> Option<Deviation> {
    let other = Deviation::Other(row.number());
    match row {
        // What tells dies apart is no fact.
        Row::ChipId | Row::SiliconSecret | Row::DeviceSeed => None,
        Row::Lifecycle => (expected.lifecycle != found.lifecycle)
            .then_some(Deviation::Lifecycle(found.lifecycle.codeword())),
        Row::DebugLock => match (expected.debug_lock, found.debug_lock) {
            (expected, found) if expected == found => None,
            (_, Flag::Set) => Some(other),
            _ => Some(Deviation::DebugOpen),
        },
        Row::OwnerRoot0 | Row::OwnerRoot1 | Row::OwnerRoot2 | Row::OwnerRoot3 => {
            let slot = row.number().wrapping_sub(Row::OwnerRoot0.number());
            let at = |facts: &FuseFacts| facts.roots.get(usize::from(slot)).copied();
            let (expected, found) = (at(expected)?, at(found)?);
            if (expected.digest, expected.valid) == (found.digest, found.valid) {
                return None;
            }
            let another_digest = expected.digest != found.digest
                && match found.digest {
                    Record::Whole(_) => true,
                    Record::Torn => expected.digest == Record::Blank,
                    Record::Blank => false,
                };
            let made_valid = expected.valid == Flag::Clear && found.valid != Flag::Clear;
            Some(if another_digest || made_valid { Deviation::SecondOwnerRoot(slot) } else { other })
        }
        Row::RootRevocation => {
            let revoked = |facts: &FuseFacts| facts.roots.map(|root| root.revoked);
            (revoked(expected) != revoked(found)).then_some(other)
        }
        Row::ProvisioningKey => (expected.provisioning_key != found.provisioning_key).then_some(other),
        Row::ClosingMeasurement => {
            (expected.closing_measurement != found.closing_measurement).then_some(other)
        }
        Row::FloorBoot
        | Row::FloorProvision
        | Row::FloorOs
        | Row::FloorAuthority
        | Row::FloorDebug
        | Row::FloorTransfer => {
            let index = row.number().wrapping_sub(Row::FloorBoot.number());
            let at = |facts: &FuseFacts| facts.floors.get(usize::from(index)).copied();
            let (expected, found) = (at(expected)?, at(found)?);
            match found.cmp(&expected) {
                core::cmp::Ordering::Equal => None,
                core::cmp::Ordering::Greater => Some(Deviation::FloorRaised(index.wrapping_add(1))),
                core::cmp::Ordering::Less => Some(other),
            }
        }
        Row::OwnerGeneration => (expected.owner_generation != found.owner_generation).then_some(other),
        Row::BootPolicy => (expected.policy != found.policy).then_some(other),
    }
}
