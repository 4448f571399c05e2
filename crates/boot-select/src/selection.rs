//! What the fuses allow.

use boot_crypto::{Digest, Key, die_secret, labels, storage_key};
use boot_info::RootSlots;
use fail_code::FailCode;
use lifecycle::{Fuses, Lifecycle};
use memory_map::qemu_virt::BOARD;
use sealed_image::{Kind, Policy};

use crate::roots::{Roots, refuse_test_secrets};

/// What a die may boot: all of it follows from its fuses.
pub struct Selection {
    lifecycle: Lifecycle,
    kind: Kind,
    floor: u32,
    named: Option<Digest>,
    roots: Roots,
}

impl Selection {
    /// Reads the selection from the fuses: those of this die, or of a model that shows what it will become.
    ///
    /// # Errors
    /// [`FailCode::TestKey`] for published secrets outside `Development`, [`FailCode::LifecycleForbids`] where nothing
    /// boots, [`FailCode::FuseRowMissing`] for a die that is closing around nothing.
    pub fn of(fuses: &Fuses) -> Result<Self, FailCode> {
        refuse_test_secrets(fuses)?;
        let lifecycle = fuses.lifecycle();
        let measurement = fuses.closing_measurement().copied();
        let (kind, named) = match lifecycle {
            Lifecycle::Secured => (Kind::Stage1, measurement),
            Lifecycle::Closing => (Kind::Stage1, Some(measurement.ok_or(FailCode::FuseRowMissing)?)),
            Lifecycle::Production | Lifecycle::Development => (Kind::Stage2, None),
            Lifecycle::Blank | Lifecycle::Returned => return Err(FailCode::LifecycleForbids),
        };
        let role = kind.role().ok_or(FailCode::KindReserved)?;
        let floor = fuses.floor(role.number()).ok_or(FailCode::RolledBack)?;
        Ok(Self { lifecycle, kind, floor, named, roots: Roots::of(fuses) })
    }

    /// Returns the kind of stage that boots.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Returns the owner root slots, as the handoff carries them.
    pub const fn root_slots(&self) -> &RootSlots {
        &self.roots.slots
    }

    /// Returns the one measurement that may boot, if the fuses name one.
    pub(crate) const fn named(&self) -> Option<&Digest> {
        self.named.as_ref()
    }

    /// Returns what an image must be.
    pub(crate) fn policy(&self) -> Policy<'_> {
        Policy {
            board: BOARD,
            kind: self.kind,
            roots: self.roots.known(),
            rollback_floor: self.floor,
            refuse_test_keys: self.lifecycle != Lifecycle::Development,
        }
    }
}

/// Derives the device root of a die.
///
/// # Errors
/// [`FailCode::OtpUnreadable`] for a die without a device seed.
pub fn device_root(fuses: &Fuses) -> Result<Key, FailCode> {
    let seed = fuses.device_seed().ok_or(FailCode::OtpUnreadable)?;
    Ok(boot_crypto::device_root(&die_secret(fuses.silicon_secret()), seed))
}

/// Returns the key that the data key of what boots is wrapped under.
///
/// # Errors
/// [`FailCode::OtpUnreadable`] for a die without the fuses that it is derived from, [`FailCode::LifecycleForbids`] where
/// nothing boots.
pub fn stage_key(fuses: &Fuses) -> Result<Key, FailCode> {
    match fuses.lifecycle() {
        Lifecycle::Secured | Lifecycle::Closing => {
            let key = fuses.provisioning_key().ok_or(FailCode::OtpUnreadable)?;
            Ok(Key::new(*key.expose()))
        }
        Lifecycle::Production | Lifecycle::Development => {
            let root = device_root(fuses)?;
            Ok(storage_key(&root, labels::STORAGE_BOOT, fuses.chip_id(), fuses.owner_generation()))
        }
        Lifecycle::Blank | Lifecycle::Returned => Err(FailCode::LifecycleForbids),
    }
}
