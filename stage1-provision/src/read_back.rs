//! Reading back what was written, as the stages that boot will read it.

use alloc::vec;

use boot_crypto::{Digest, Key};
use hal::Storage;
use lifecycle::Fuses;
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_B, OS_SLOT_A, OS_SLOT_B, SECRETS};
use sealed_image::{Kind, MAX_METADATA, Opened};
use store::Cursor;

use crate::Error;
use crate::born::DeviceKeys;
use crate::hardware::{Board, Hardware};
use crate::package::{MAX_BUNDLE, parse_bundle};
use crate::payload;
use crate::trust::Trust;

/// An image that was read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    /// The digest of its manifest.
    pub(crate) manifest_digest: Digest,
    /// Its rollback index.
    pub(crate) rollback_index: u32,
}

/// Reads the signed facts of the first image of a slot; the payload is not read.
pub(crate) fn facts(
    storage: &mut impl Storage,
    slot: Region,
    kind: Kind,
    trust: &Trust,
) -> Result<Verified, Error> {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let found = trust.read_next(storage, &mut Cursor::new(slot), kind, None, &mut buffer)?;
    Ok(verified(&found))
}

/// Reads the production stage in a boot slot, or in the place where its second copy waits.
pub(crate) fn stage(
    flash: &mut impl Storage,
    slot: Region,
    trust: &Trust,
    key: &Key,
) -> Result<Verified, Error> {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let found = trust.read_next(flash, &mut Cursor::new(slot), Kind::Stage2, None, &mut buffer)?;
    let _whole: Opened = payload::verify(flash, &found, key)?;
    Ok(verified(&found))
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

/// Reads an OS slot: the bundle, then each object that it names.
pub(crate) fn os_slot(
    disk: &mut impl Storage,
    slot: Region,
    trust: &Trust,
    key: &Key,
) -> Result<Verified, Error> {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let mut cursor = Cursor::new(slot);
    let found = trust.read_next(disk, &mut cursor, Kind::Bundle, None, &mut buffer)?;
    let payload = payload::read(disk, &found, key, MAX_BUNDLE)?;
    let bundle = parse_bundle(&payload, &found)?;
    let whole = verified(&found);
    for object in bundle.objects() {
        let named = Some(object.manifest_digest);
        let found = trust.read_next(disk, &mut cursor, object.kind, named, &mut buffer)?;
        let _whole: Opened = payload::verify(disk, &found, key)?;
    }
    Ok(whole)
}

/// Reads every secret object; there may be none.
pub(crate) fn secrets(flash: &mut impl Storage, trust: &Trust, key: &Key) -> Result<u32, Error> {
    let mut buffer = vec![0; MAX_METADATA as usize];
    let mut cursor = Cursor::new(SECRETS);
    let mut count = 0_u32;
    loop {
        let found = match trust.read_next(flash, &mut cursor, Kind::Secret, None, &mut buffer) {
            Err(Error::Store(store::Error::Empty { .. } | store::Error::NoFurtherImage { .. })) => {
                return Ok(count);
            }
            other => other?,
        };
        let _whole: Opened = payload::verify(flash, &found, key)?;
        count = count.saturating_add(1);
    }
}

/// Reads what re-keying has written: the second copy of the stage, both OS slots, the secrets.
pub(crate) fn re_keyed<H: Hardware>(
    board: &mut Board<'_, H>,
    staging: Region,
    trust: &Trust,
    keys: &DeviceKeys,
) -> Result<(), Error> {
    stage(board.flash, staging, trust, &keys.boot)?;
    os(board, trust, keys)?;
    secrets(board.flash, trust, &keys.secret)?;
    Ok(())
}

/// Reads both OS slots, which must hold the same release.
pub(crate) fn os<H: Hardware>(
    board: &mut Board<'_, H>,
    trust: &Trust,
    keys: &DeviceKeys,
) -> Result<Verified, Error> {
    let disk = board.disk()?;
    let a = os_slot(disk, OS_SLOT_A, trust, &keys.os)?;
    let b = os_slot(disk, OS_SLOT_B, trust, &keys.os)?;
    if a == b { Ok(a) } else { Err(Error::SlotsDiffer) }
}

fn verified(found: &crate::trust::Found<'_>) -> Verified {
    Verified {
        manifest_digest: *found.image.manifest_digest(),
        rollback_index: found.image.manifest().rollback_index,
    }
}
