//! Reading back what was written, as the stages that boot will read it.
//!
//! # Threats
//! *Whoever writes the storage puts something else there that the owner signed*: another release, or less than was
//! ordered. So nothing is right because it verifies, or because two places agree: each place has to hold what the index
//! of the ordered package names, object by object.

use alloc::vec;

use boot_crypto::{Digest, Key};
use hal::{DmaDevices as _, Storage};
use lifecycle::Fuses;
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_B, BOOT_STAGING, OS_SLOT_A, OS_SLOT_B, SECRETS};
use sealed_image::{Kind, MAX_METADATA, Opened};
use store::Cursor;

use crate::Error;
use crate::born::DeviceKeys;
use crate::hardware::{Board, Hardware};
use crate::package::{Contents, MAX_BUNDLE, parse_bundle};
use crate::payload;
use crate::trust::Trust;

/// Reads the rollback index of the first image of a slot, which must be the one named; the payload is not read.
pub(crate) fn rollback_index(
    storage: &mut impl Storage,
    slot: Region,
    kind: Kind,
    named: &Digest,
    trust: &Trust,
) -> Result<u32, Error> {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let found = trust.read_next(storage, &mut Cursor::new(slot), kind, Some(named), &mut buffer)?;
    Ok(found.image.manifest().rollback_index)
}

/// Reads the production stage in a boot slot, or in the place where its second copy waits.
pub(crate) fn stage(
    flash: &mut impl Storage,
    slot: Region,
    trust: &Trust,
    contents: &Contents,
    key: &Key,
) -> Result<(), Error> {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let mut cursor = Cursor::new(slot);
    let found = trust.read_next(flash, &mut cursor, Kind::Stage2, Some(&contents.stage2), &mut buffer)?;
    let _whole: Opened = payload::verify(flash, &found, key)?;
    Ok(())
}

/// Reads the backup boot slot, which must hold the stage that is running: it is what boots until the die is closed.
pub(crate) fn backup<H: Hardware>(
    board: &mut Board<'_, H>,
    trust: &Trust,
    measurement: &Digest,
) -> Result<(), Error> {
    let key = Fuses::read_provisioning_key(board.otp).map_err(Error::Fuses)?;
    let mut buffer = vec![0; MAX_METADATA as usize];
    let mut cursor = Cursor::new(BOOT_SLOT_B);
    let found = trust.read_next(board.flash, &mut cursor, Kind::Stage1, Some(measurement), &mut buffer)?;
    let _whole: Opened = payload::verify(board.flash, &found, &key)?;
    Ok(())
}

/// Reads both OS slots: the bundle, then each object that it names.
pub(crate) fn os<H: Hardware>(
    board: &mut Board<'_, H>,
    trust: &Trust,
    contents: &Contents,
    key: &Key,
) -> Result<(), Error> {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let disk = board.devices.disk().ok_or(Error::NoDisk)?;
    for slot in [OS_SLOT_A, OS_SLOT_B] {
        let mut cursor = Cursor::new(slot);
        let found = trust.read_next(disk, &mut cursor, Kind::Bundle, Some(&contents.bundle), &mut buffer)?;
        let payload = payload::read(disk, &found, key, MAX_BUNDLE)?;
        for object in parse_bundle(&payload, &found)?.objects() {
            let named = Some(object.manifest_digest);
            let found = trust.read_next(disk, &mut cursor, object.kind, named, &mut buffer)?;
            let _whole: Opened = payload::verify_on_all(disk, board.cores, &found, key)?;
        }
    }
    Ok(())
}

/// Reads the secret objects: those that are named, in their order, and none behind them.
pub(crate) fn secrets(
    flash: &mut impl Storage,
    trust: &Trust,
    contents: &Contents,
    key: &Key,
) -> Result<(), Error> {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let mut cursor = Cursor::new(SECRETS);
    for named in &contents.secrets {
        let found = trust.read_next(flash, &mut cursor, Kind::Secret, Some(named), &mut buffer)?;
        let _whole: Opened = payload::verify(flash, &found, key)?;
    }
    match trust.read_next(flash, &mut cursor, Kind::Secret, None, &mut buffer) {
        Err(Error::Store(store::Error::Empty { .. } | store::Error::NoFurtherImage { .. })) => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error::NotNamed { kind: Kind::Secret }),
    }
}

/// Reads what re-keying has written: the second copy of the stage, both OS slots, the secrets.
pub(crate) fn re_keyed<H: Hardware>(
    board: &mut Board<'_, H>,
    trust: &Trust,
    contents: &Contents,
    keys: &DeviceKeys,
) -> Result<(), Error> {
    stage(board.flash, BOOT_STAGING, trust, contents, &keys.boot)?;
    os(board, trust, contents, &keys.os)?;
    secrets(board.flash, trust, contents, &keys.secret)
}
