//! The final check, and the fuses.
//!
//! # Threats
//! *A device that is closed and does not boot is lost, and one that is closed around something else than was ordered
//! is worse.* So the fuses are first burned on a model, and stage0's own selection runs over the final flash with the
//! fuses of the model; every object of both OS slots, the waiting second copy of the stage and every secret object are
//! read from storage and verified once more, and each must be the one that the index of the ordered package names: no
//! other release of the owner's, nothing missing and nothing more. Only then is anything burned.
//! *Power fails while fuses burn*, or somebody else has burned some: the plan is the same at every start, since it
//! follows from the journalled seed and from what was verified; it is carried on where it is a superset of what is
//! burned, and refused otherwise.

use alloc::boxed::Box;
use alloc::vec;

use boot_crypto::{Digest, Key, device_root, equal, labels, storage_key};
use boot_info::closing::ClosingState;
use boot_select::{METADATA_ROOM, Selection};
use hal::{Storage, StorageMut as _};
use lifecycle::burn::CheckedPlan;
use lifecycle::{Closing, Fuses, Lifecycle, Plan, ROLES};
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_STAGING, CLOSING_STATE, OS_SLOT_A, STAGE_RUN};
use memory_map::{MIB, Region};
use sealed_image::{Kind, Role};
use zeroize::Zeroizing;

use crate::Error;
use crate::born::DeviceKeys;
use crate::handoff::Handoff;
use crate::hardware::{Board, Hardware};
use crate::package::Contents;
use crate::read_back;
use crate::trust::Trust;

/// Where a stage executes: the first MMU block of where it runs.
const STAGE_CODE: Region = STAGE_RUN.part(0, 2 * MIB);

/// Rollback floors of roles 1 to 6.
pub(crate) type Floors = [u8; ROLES as usize];

/// Checks that everything that a closed device boots from is what was ordered, and returns the floors that closing burns.
pub(crate) fn final_check<H: Hardware>(
    board: &mut Board<'_, H>,
    trust: &Trust,
    handoff: &Handoff,
    contents: &Contents,
    keys: &DeviceKeys,
) -> Result<Floors, Error> {
    let stage = read_back::rollback_index(board.flash, BOOT_SLOT_A, Kind::Stage2, &contents.stage2, trust)?;
    let os = read_back::rollback_index(board.disk()?, OS_SLOT_A, Kind::Bundle, &contents.bundle, trust)?;
    let floors = floors(trust, stage, os)?;
    let plan = plan(board, &handoff.measurement, &keys.seed, &floors)?;
    let closed = Fuses::read(plan.outcome()).map_err(Error::Fuses)?;
    for slot in [BOOT_SLOT_A, BOOT_STAGING] {
        let measurement = boots(board.flash, slot, &closed, &handoff.die_secret)?;
        if !equal(&measurement, &contents.stage2).accepts() {
            return Err(Error::NotTheOneNamed { kind: Kind::Stage2 });
        }
    }
    let trust = trust.with_floors(*closed.floors());
    read_back::os(board, &trust, contents, &keys.os)?;
    read_back::secrets(board.flash, &trust, contents, &keys.secret)?;
    Ok(floors)
}

/// Opens the stage in a slot as stage0 will on the closed die, and returns its measurement: by the same selection, with
/// keys derived from the fuses of the model, but for the secret that only stage0 knows, whose derivative it handed over.
fn boots(flash: &mut impl Storage, slot: Region, closed: &Fuses, die_secret: &Key) -> Result<Digest, Error> {
    let selection = Selection::of(closed).map_err(Error::Selection)?;
    let seed = closed.device_seed().ok_or(Error::OutOfOrder)?;
    let root = device_root(die_secret, seed);
    let key = storage_key(&root, labels::STORAGE_BOOT, closed.chip_id(), closed.owner_generation());
    let mut metadata = Box::new([0; METADATA_ROOM]);
    let found = selection.find(flash, slot, STAGE_CODE, &mut metadata).map_err(Error::Selection)?;
    let mut run = Zeroizing::new(vec![0; found.plain_size() as usize]);
    let stage = found.open(flash, &key, &mut run).map_err(Error::Selection)?;
    Ok(stage.record.measurement)
}

/// The rollback index of stage2 is the floor of its role, that of the bundle the floor of its; no floor falls, and
/// those of other roles stay.
fn floors(trust: &Trust, stage: u32, os: u32) -> Result<Floors, Error> {
    let mut floors = [0; ROLES as usize];
    for (floor, role) in floors.iter_mut().zip(1_u8..) {
        let burned = trust.floors().get(usize::from(role)).copied().unwrap_or_default();
        let index = match Role::from_number(role) {
            Some(Role::Boot) => stage,
            Some(Role::Os) => os,
            _ => 0,
        };
        *floor = u8::try_from(burned.max(index)).map_err(|_| Error::FloorTooHigh { role, index })?;
    }
    Ok(floors)
}

/// Makes the closing plan and tries it on a model of this die.
fn plan<H: Hardware>(
    board: &Board<'_, H>,
    measurement: &Digest,
    seed: &Key,
    floors: &Floors,
) -> Result<CheckedPlan, Error> {
    let closing = Closing { measurement: *measurement, device_seed: seed, floors: *floors };
    Plan::closing(&closing).and_then(|plan| plan.check(board.otp)).map_err(Error::Fuses)
}

/// Leaves the install for stage0, which proves it once the device is closed. What is there already is programmed once
/// more: a bit of it at which power failed may read otherwise the next time, when the fuses do not let this stage run.
pub(crate) fn mark<H: Hardware>(board: &mut Board<'_, H>, install: &[u8; 32]) -> Result<(), Error> {
    let pending = ClosingState { install: *install, acknowledged: false };
    if read_mark(board)? != Some(pending) {
        board.flash.erase(CLOSING_STATE.base, CLOSING_STATE.size).map_err(Error::Write)?;
    }
    board.flash.write(CLOSING_STATE.base, &ClosingState::encode(install)).map_err(Error::Write)?;
    board.flash.flush().map_err(Error::Write)?;
    if read_mark(board)? == Some(pending) { Ok(()) } else { Err(Error::MarkNotWritten) }
}

fn read_mark<H: Hardware>(board: &mut Board<'_, H>) -> Result<Option<ClosingState>, Error> {
    let mut untrusted = [0; ClosingState::SIZE];
    board.flash.read(CLOSING_STATE.base, &mut untrusted).map_err(Error::Read)?;
    Ok(ClosingState::parse(&untrusted))
}

/// Burns what is left of the closing plan: the lifecycle last.
pub(crate) fn burn<H: Hardware>(
    board: &mut Board<'_, H>,
    measurement: &Digest,
    seed: &Key,
    floors: &Floors,
) -> Result<(), Error> {
    plan(board, measurement, seed, floors)?.burn(board.otp).map_err(Error::Fuses)?;
    match Fuses::read_lifecycle(board.otp) {
        Ok(Lifecycle::Production) => Ok(()),
        Ok(_) => Err(Error::NotClosed),
        Err(error) => Err(Error::Fuses(error)),
    }
}
