//! The flash of a device, and its fuses.

use super::image::images;
use super::{failed, floors};
use crate::slot::part;
use crate::{Error, hex};
use lifecycle::{Fuses, OtpImage, RootSlot, Row};
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B, OTP};
use serde_json::{Value, json};

/// Describes an OTP bank by itself.
pub(super) fn bank(untrusted: &[u8]) -> Value {
    json!({ "artefact": "fuses of a die", "fuses": fuses(&OtpImage::from_flash(untrusted)) })
}

/// Describes flash0.
pub(super) fn flash(untrusted: &[u8]) -> Value {
    let slot = |region| match images(part(untrusted, region)) {
        Ok(images) => json!(images),
        Err(Error::SlotEmpty) => json!("empty"),
        Err(error) => failed(&error),
    };
    json!({
        "artefact": "flash of a device",
        "slot a": slot(BOOT_SLOT_A),
        "slot b": slot(BOOT_SLOT_B),
        "fuses": fuses(&OtpImage::from_flash(part(untrusted, OTP))),
    })
}

/// Describes fuses; of secret rows, whether they are burned.
fn fuses(otp: &OtpImage) -> Value {
    let fuses = match Fuses::read(otp) {
        Ok(fuses) => fuses,
        Err(error) => {
            return json!({ "unreadable": error.code().cause(), "code": error.code().name() });
        }
    };
    let root = |slot: &RootSlot| match slot {
        RootSlot::Active(digest) => Some(hex(digest)),
        _ => None,
    };
    let locks = Fuses::read_locks(otp).unwrap_or_default();
    let locked: Vec<_> =
        Row::ALL.iter().filter(|row| locks.contains(**row)).map(|row| format!("{row:?}")).collect();
    json!({
        "lifecycle": fuses.lifecycle().name(),
        "chip id": hex(fuses.chip_id()),
        "debug locked": fuses.debug_locked(),
        "owner roots": fuses.roots().iter().filter_map(root).collect::<Vec<_>>(),
        "provisioning key burned": fuses.provisioning_key().is_some(),
        "device seed burned": fuses.device_seed().is_some(),
        "closing measurement": fuses.closing_measurement().map(|digest| hex(digest)),
        "floors": floors(|role| fuses.floor(role.number()).unwrap_or_default()),
        "owner generation": fuses.owner_generation(),
        "locked rows": locked,
    })
}
