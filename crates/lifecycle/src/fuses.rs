//! What a stage that boots a die learns from its fuses.

use crate::map::ROOT_SLOTS;
use crate::reader::Reader;
use crate::redundancy::same;
use crate::{Error, Flag, Lifecycle, Record, Row, Rows};
use boot_crypto::{Key, equal};
use hal::Otp;

/// An owner root slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootSlot {
    /// The valid flag is not burned.
    Empty,
    /// The owner root key with this digest signs delegations.
    Active([u8; 32]),
    /// The owner root key with this digest once did; the digest is missing if its row is damaged.
    Revoked(Option<[u8; 32]>),
}

/// The fuses of a die that may boot something, each value checked.
///
/// Rows that the lifecycle state has no use for are not read, and their secrets not touched.
pub struct Fuses {
    lifecycle: Lifecycle,
    debug_locked: bool,
    chip_id: [u8; 16],
    silicon_secret: Key,
    roots: [RootSlot; ROOT_SLOTS],
    provisioning_key: Option<Key>,
    device_seed: Option<Key>,
    closing_measurement: Option<[u8; 32]>,
    closing_begun: bool,
    floors: [u32; 8],
    owner_generation: u32,
    corrected: Rows,
}

impl Fuses {
    /// Reads and checks the fuses.
    ///
    /// # Errors
    /// Refuses a state in which nothing boots, a policy that this release cannot keep, a row that the state
    /// needs and that is blank, torn or damaged, and a lifecycle that reads differently at the end.
    pub fn read(otp: &impl Otp) -> Result<Self, Error> {
        let mut reader = Reader::new(otp)?;
        let lifecycle = reader.lifecycle()?;
        if matches!(lifecycle, Lifecycle::Blank | Lifecycle::Returned) {
            return Err(Error::LifecycleForbids(lifecycle));
        }
        check_policy(&mut reader)?;
        let debug_locked = reader.flag(Row::DebugLock, 0)? == Flag::Set;
        if !debug_locked && lifecycle != Lifecycle::Development {
            return Err(Error::DebugOpen(lifecycle));
        }

        let chip_id = chip_id(&mut reader)?;
        let silicon_secret = reader.record(Row::SiliconSecret)?;
        let roots = roots(&mut reader)?;
        if !roots.iter().any(|slot| matches!(slot, RootSlot::Active(_))) {
            return Err(Error::NoOwnerRoot);
        }
        let mut floors = [0; 8];
        for (floor, row) in floors.iter_mut().skip(1).zip(Row::FLOORS) {
            *floor = u32::from(reader.level(row)?);
        }
        let owner_generation = u32::from(reader.level(Row::OwnerGeneration)?);

        let mut record = |needed: bool, row| needed.then(|| reader.record(row)).transpose();
        use Lifecycle::{Closing, Development, Production, Secured};
        let provisioning_key = record(matches!(lifecycle, Secured | Closing), Row::ProvisioningKey)?;
        let device_seed = record(matches!(lifecycle, Closing | Production | Development), Row::DeviceSeed)?;
        let closing = match lifecycle {
            Closing | Production => Record::Whole(*reader.record(Row::ClosingMeasurement)?.expose()),
            Secured => reader.record_state(Row::ClosingMeasurement)?,
            _ => Record::Blank,
        };
        let closing_measurement = match closing {
            Record::Whole(measurement) => Some(measurement),
            Record::Blank | Record::Torn => None,
        };

        if !same(reader.lifecycle()?.codeword(), lifecycle.codeword()) {
            return Err(Error::LifecycleUnstable);
        }
        Ok(Self {
            lifecycle,
            debug_locked,
            chip_id,
            silicon_secret,
            roots,
            provisioning_key,
            device_seed,
            closing_measurement,
            closing_begun: closing != Record::Blank,
            floors,
            owner_generation,
            corrected: reader.corrected(),
        })
    }

    /// Reads the lifecycle alone, of any die.
    ///
    /// # Errors
    /// Refuses a bank that is too small, and words that stand for no state.
    pub fn read_lifecycle(otp: &impl Otp) -> Result<Lifecycle, Error> {
        Reader::new(otp)?.lifecycle()
    }

    /// Returns the chip id, of any die.
    ///
    /// # Errors
    /// Refuses a bank that is too small, and a row that is blank, torn or damaged.
    pub fn read_chip_id(otp: &impl Otp) -> Result<[u8; 16], Error> {
        chip_id(&mut Reader::new(otp)?)
    }

    /// Returns the provisioning key alone, for the stage that it opened.
    ///
    /// # Errors
    /// Refuses a bank that is too small, and a row that is blank, torn or damaged.
    pub fn read_provisioning_key(otp: &impl Otp) -> Result<Key, Error> {
        Reader::new(otp)?.record(Row::ProvisioningKey)
    }

    /// Returns the rows that may not be burned any more. A row whose lock is burned in part is locked.
    ///
    /// # Errors
    /// Refuses a bank that is too small.
    pub fn read_locks(otp: &impl Otp) -> Result<Rows, Error> {
        Reader::new(otp)?.locks()
    }

    /// Returns the lifecycle: `Secured`, `Closing`, `Production` or `Development`.
    pub fn lifecycle(&self) -> Lifecycle {
        self.lifecycle
    }

    /// Tells whether debug access is locked; always so outside `Development`.
    pub fn debug_locked(&self) -> bool {
        self.debug_locked
    }

    /// Returns the chip id.
    pub fn chip_id(&self) -> &[u8; 16] {
        &self.chip_id
    }

    /// Returns the silicon vendor's secret.
    pub fn silicon_secret(&self) -> &Key {
        &self.silicon_secret
    }

    /// Returns the provisioning key, in `Secured` and `Closing`.
    pub fn provisioning_key(&self) -> Option<&Key> {
        self.provisioning_key.as_ref()
    }

    /// Returns the device seed, in `Closing`, `Production` and `Development`.
    pub fn device_seed(&self) -> Option<&Key> {
        self.device_seed.as_ref()
    }

    /// Returns the closing measurement, in `Closing` and `Production`, and in `Secured` once its row is whole: from
    /// then on no other image may boot until the die is closed.
    pub fn closing_measurement(&self) -> Option<&[u8; 32]> {
        self.closing_measurement.as_ref()
    }

    /// Tells whether a closing measurement is burned, if only in part.
    pub fn closing_begun(&self) -> bool {
        self.closing_begun
    }

    /// Returns the owner root slots.
    pub fn roots(&self) -> &[RootSlot; ROOT_SLOTS] {
        &self.roots
    }

    /// Finds the slot of an owner root key by the SHA-256 of the key. One revoked slot with the digest outweighs
    /// any valid one.
    ///
    /// # Errors
    /// [`Error::RootUnknown`] and [`Error::RootRevoked`].
    pub fn root(&self, digest: &[u8; 32]) -> Result<u8, Error> {
        let mut found = Err(Error::RootUnknown);
        for (number, slot) in (0..).zip(&self.roots) {
            match slot {
                RootSlot::Active(fused) if equal(fused, digest).accepts() => found = Ok(number),
                RootSlot::Revoked(Some(fused)) if fused == digest => return Err(Error::RootRevoked(number)),
                _ => {}
            }
        }
        found
    }

    /// Returns the rollback floor of a role: the least rollback index that may boot, 0 to 64. `None` for a number
    /// that is no role's.
    pub fn floor(&self, role: u8) -> Option<u32> {
        match role {
            1..=crate::ROLES => self.floors.get(usize::from(role)).copied(),
            _ => None,
        }
    }

    /// Returns the rollback floors by role number, as the handoff carries them; index 0 and 7 are no role's.
    pub fn floors(&self) -> &[u32; 8] {
        &self.floors
    }

    /// Returns how often the owner changed.
    pub fn owner_generation(&self) -> u32 {
        self.owner_generation
    }

    /// Returns the rows in which redundancy had to correct something.
    pub fn corrected(&self) -> Rows {
        self.corrected
    }
}

/// Holds the boot policy: secure boot is on, and nothing else is asked for, not even in part.
fn check_policy(reader: &mut Reader<'_, impl Otp>) -> Result<(), Error> {
    if reader.flag(Row::BootPolicy, 0)? != Flag::Set {
        return Err(Error::SecureBootOff);
    }
    if reader.flag(Row::BootPolicy, 1)? != Flag::Clear {
        return Err(Error::PostQuantumRequired);
    }
    for flag in [2_u8, 3] {
        if reader.flag(Row::BootPolicy, usize::from(flag))? != Flag::Clear {
            return Err(Error::PolicyUnknown(flag));
        }
    }
    Ok(())
}

/// Reads the chip id, whose row is longer than it.
fn chip_id(reader: &mut Reader<'_, impl Otp>) -> Result<[u8; 16], Error> {
    let row = reader.record(Row::ChipId)?;
    match (row.expose().first_chunk(), row.expose().last_chunk::<16>()) {
        (Some(id), Some(rest)) if *rest == [0; 16] => Ok(*id),
        _ => Err(Error::RowTorn(Row::ChipId)),
    }
}

/// Reads the owner root slots. A slot revoked in part is revoked; one made valid in part is not valid yet.
fn roots(reader: &mut Reader<'_, impl Otp>) -> Result<[RootSlot; ROOT_SLOTS], Error> {
    let revoked = reader.roots_revoked()?;
    let mut slots = [RootSlot::Empty; ROOT_SLOTS];
    for ((slot, revoked), row) in slots.iter_mut().zip(revoked).zip(Row::OWNER_ROOTS) {
        *slot = match (reader.root_valid(row)?, revoked) {
            (Flag::Set, Flag::Clear) => RootSlot::Active(*reader.record(row)?.expose()),
            (_, Flag::Clear) => RootSlot::Empty,
            _ => RootSlot::Revoked(reader.record(row).ok().map(|key| *key.expose())),
        };
    }
    Ok(slots)
}
