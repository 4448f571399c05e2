//! What a package or an update becomes on a device: each image sealed again for its place, not compressed there.
//!
//! # Threats
//! What is signed and whole may still have no place: in its slot once it is not compressed any more, or in memory beside the
//! rest. A device would notice after it wrote. So stage0's and stage2's own code judges the installed form here, and not the
//! form for transport, which no device boots.

use super::stages::{boot_stage, load_system};
use crate::check::Judge;
use crate::flash::fits;
use crate::{Error, ImageInfo};
use boot_crypto::Key;
use boot_crypto::host::random;
use memory_map::qemu_virt::{BOOT_SLOT_A, OS_SLOT_A, SECRETS};
use sealed_image::{Fresh, Kind, Resealer, Tally};
use zeroize::Zeroizing;

/// Judges the production stage, the operating system and the secrets among these images as they will lie on a device. `from` opens them.
///
/// # Errors
/// [`Error::TooLarge`] for a slot; why stage0 or stage2 would refuse the installed images.
pub(crate) fn check_places(
    slot: &[u8],
    images: &[ImageInfo],
    judge: &Judge<'_>,
    from: &Key,
) -> Result<(), Error> {
    let to = Key::new(random());
    let (mut system, mut secrets) = (Vec::new(), Vec::new());
    let add = |slot_of_device: &mut Vec<u8>, image| {
        slot_of_device.resize(slot_of_device.len().next_multiple_of(store::ALIGN as usize), 0);
        reseal(slot, image, judge, from, &to).map(|copy| slot_of_device.extend(copy))
    };
    for image in images {
        match image.kind {
            Kind::Stage2 => {
                let stage = reseal(slot, image, judge, from, &to)?;
                fits("the slot of stage2", &stage, BOOT_SLOT_A.size)?;
                boot_stage(&stage, image.kind, judge, Some(&to))?;
            }
            Kind::Bundle | Kind::Kernel | Kind::DeviceTree | Kind::Initramfs => add(&mut system, image)?,
            Kind::Secret => add(&mut secrets, image)?,
            // It stays as it is until it is replaced; what only names the others is not installed.
            Kind::Stage1 | Kind::Package | Kind::Update | Kind::Tee | Kind::FusePlan => {}
        }
    }
    fits("the slot of the secrets", &secrets, SECRETS.size)?;
    fits("the slot of the operating system", &system, OS_SLOT_A.size)?;
    load_system(&system, judge, &to)
}

/// Seals an image again, as a device does for its place.
fn reseal(slot: &[u8], info: &ImageInfo, judge: &Judge<'_>, from: &Key, to: &Key) -> Result<Vec<u8>, Error> {
    let offset = info.offset;
    let at = |error| Error::Image { offset, error };
    let truncated = || Error::SlotTruncated { offset };
    let image = judge.verify(slot, info, info.kind)?;
    let metadata_len = image.header().metadata_len() as usize;
    let payload = slot.get(offset as usize + metadata_len..).ok_or_else(truncated)?;
    let fresh = Fresh { salt: random(), data_key: Key::new(random()) };
    let mut copy = vec![0; metadata_len];
    let resealer = Resealer::new(&image, from, to, &fresh, &mut copy).map_err(at)?;
    let mut tally = Tally::default();
    for chunk in resealer.chunks() {
        let stored = payload.get(chunk.stored_offset as usize..).ok_or_else(truncated)?;
        let stored = stored.get(..chunk.stored_len as usize).ok_or_else(truncated)?;
        let mut stored = Zeroizing::new(stored.to_vec());
        let mut plain = Zeroizing::new(vec![0; chunk.plain_len as usize]);
        let open = if resealer.in_place() {
            plain.copy_from_slice(&stored);
            resealer.open(chunk.index, &mut plain)
        } else {
            resealer.open_into(chunk.index, &mut stored, &mut plain)
        };
        let sealed = open.and_then(|open| open.seal()).map_err(at)?;
        resealer.put_tag(&mut copy, &sealed).map_err(at)?;
        tally.add(&sealed.tally);
        copy.extend_from_slice(&plain);
    }
    let _whole = resealer.finish(&tally).map_err(at)?;
    Ok(copy)
}
