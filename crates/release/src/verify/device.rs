//! The storage of a device: what stage0 would boot of it, and what stage2 would load, by their own code.
//!
//! # Threats
//! The image of a model's flash holds the die's secrets, which a real die shows to nobody: the stages derive their keys from
//! them here as they do there, and all memory that they used is wiped. What a stage would do to the world (burn, write,
//! talk to a station) it does not do here.

use super::host::{Core, Host, Now, Uncached, Unlocked};
use super::{Holding, Means, Verdict, fuses};
use crate::slot::{Disk, Placed, part};
use crate::{DeviceFiles, Error, files, hex};
use boot_info::record::BootRecord;
use boot_info::{BootInfo, ImageRecord};
use fail_code::FailCode;
use lifecycle::{Lifecycle, OtpImage};
use memory_map::Region;
use memory_map::qemu_virt::{DRAM_BASE, DRAM_MIN, OS_LOAD, OTP, STAGE_CODE, STAGE_RUN};
use sealed_image::{Kind, Version};
use serde_json::{Value, json};
use stage2_production::boot::{Handoff, boot as boot_system};
use stage2_production::device_tree::Hardware;
use std::path::Path;
use store::Slot;
use zeroize::{Zeroize as _, Zeroizing};

/// A page of the handoff.
#[repr(align(8))]
struct Page([u8; 4096]);

impl Drop for Page {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Verifies the folder of a device: its flash0 and its disk.
pub(super) fn verify_folder(
    folder: &Path,
    means: &Means,
    checks: &mut Vec<crate::Check>,
) -> Result<Verdict, Error> {
    let device = DeviceFiles::new(folder);
    let flash0 = Zeroizing::new(files::read(&device.flash0())?);
    let disk = device.disk();
    // Without its disk a device boots nothing, so nothing would be said of what it boots.
    if !files::is_there(&disk) {
        return Err(Error::DiskMissing { path: disk });
    }
    verify(&flash0, Some(Disk::open(&disk)?), means, &mut Holding { checks })
}

/// Verifies a flash0, and the disk of the same device.
pub(super) fn verify(
    flash0: &[u8],
    disk: Option<Disk>,
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let otp = OtpImage::from_flash(part(flash0, OTP));
    let fused = fuses::read(&otp, means, hold)?;
    let lifecycle = fused.lifecycle();
    let mut facts = fuses::facts(&fused);
    drop(fused);

    let (mut info, mut secrets) = (Page([0; 4096]), Page([0; 4096]));
    let booted = first_stage(&otp, flash0, &mut info, &mut secrets)?;
    let stage = booted.images.as_slice().first().copied();
    let stage =
        stage.ok_or_else(|| refused("stage0 names no stage", FailCode::BootInfoInvalid, Vec::new()))?;
    let slot = letter(booted.slot);
    let passed_over = code_text(booted.fallback_code);
    let told =
        passed_over.as_ref().map_or(String::new(), |code| format!(", after it refused slot A: {code}"));
    hold.add("stage0", format!("boots slot {slot}: {}{told}", image(&stage)));
    facts.push(("boot slot", json!(slot)));
    facts.push(("stage", json!(image(&stage))));
    facts.push(("measurement", json!(hex(&stage.measurement))));
    facts.push(("boot slot refused", json!(passed_over)));

    let mut unchecked = Vec::new();
    match (lifecycle, disk) {
        (Lifecycle::Secured | Lifecycle::Closing, _) => {
            unchecked.push("what stage1 does: it provisions the device, with an authority".into());
        }
        (_, None) => {
            unchecked.push("the operating system, which is on the disk: give the device's folder".into())
        }
        (_, Some(disk)) => system(disk, &info.0, &mut secrets.0, hold, &mut facts)?,
    }
    unchecked.push("that these are the die's fuses: whoever wrote the file wrote them".into());
    facts.retain(|(_, value)| !value.is_null());
    Ok(Verdict { artefact: "device", facts, unchecked })
}

/// Has stage0's own code boot, up to the jump.
fn first_stage(
    otp: &OtpImage,
    flash0: &[u8],
    info: &mut Page,
    secrets: &mut Page,
) -> Result<BootInfo, Error> {
    let mut run = Zeroizing::new(vec![0; STAGE_RUN.size as usize]);
    let mut memory =
        stage0::Memory { run: &mut run, code: STAGE_CODE, boot_info: &mut info.0, secrets: &mut secrets.0 };
    let mut record = BootRecord::default();
    let mut slots = stage0::Refused::default();
    let mut flash = Placed::whole(flash0);
    let booted = stage0::boot(otp, &mut flash, &mut memory, &Now, 0, &mut record, &mut slots);
    let named = Slot::TRIES.into_iter().zip(slots);
    let named = named.filter_map(|(slot, code)| Some((format!("boot slot {}", slot.name()), code?)));
    let entry = booted.map_err(|code| refused("stage0 boots nothing", code, named.collect()))?;
    if entry.address != entry.confirmed || !entry.is_in(&run).accepts() {
        return Err(refused("stage0 boots nothing", FailCode::LooksDiffer, Vec::new()));
    }
    BootInfo::read(&info.0)
        .map_err(|_| refused("stage0 hands nothing over", FailCode::BootInfoInvalid, Vec::new()))
}

/// Has stage2's own code load the operating system, up to the jump.
fn system(
    disk: Disk,
    info: &[u8],
    secrets: &mut [u8],
    hold: &mut Holding<'_>,
    facts: &mut Vec<(&'static str, Value)>,
) -> Result<(), Error> {
    let mut record = BootRecord::default();
    let stops = |code| refused("stage2 stops", code, Vec::new());
    let handoff = Handoff::take(info, secrets, &mut record).map_err(stops)?;
    facts.push(("closing pending", json!(handoff.pending().is_some())));
    let mut timeline = handoff.timeline(&mut record, 0);
    // The least machine that boots.
    let hardware = Hardware { memory: Region::new(DRAM_BASE, DRAM_MIN), cores: 1 };
    let mut memory = Zeroizing::new(vec![0; OS_LOAD.size as usize]);
    let mut slots = stage2_production::boot::Refused::default();
    let launched = boot_system(
        handoff,
        &hardware,
        &[0],
        &mut Host::with(disk),
        &mut Core,
        &Uncached,
        &Unlocked,
        &Now,
        &mut memory,
        OS_LOAD,
        &mut timeline,
        &mut slots,
    );
    let named = Slot::TRIES.into_iter().zip(slots).filter_map(|(slot, refusal)| {
        let (kind, code) = refusal?;
        let about = kind.map_or(String::new(), |kind| format!(", {}", kind.name()));
        Some((format!("OS slot {}{about}", slot.name()), code))
    });
    launched.map_err(|code| refused("stage2 loads nothing", code, named.collect()))?;
    let slot = letter(record.os_slot);
    let passed_over = code_text(record.os_fallback_code);
    let told =
        passed_over.as_ref().map_or(String::new(), |code| format!(", after it refused slot A: {code}"));
    let loaded: Vec<_> = record.images.as_slice().iter().skip(1).map(image).collect();
    hold.add("stage2", format!("loads OS slot {slot}: {}{told}", loaded.join(", ")));
    facts.push(("OS slot", json!(slot)));
    facts.push(("OS slot refused", json!(passed_over)));
    Ok(())
}

fn refused(what: &str, code: FailCode, slots: Vec<(String, FailCode)>) -> Error {
    Error::Refused { what: what.into(), code, slots }
}

fn letter(slot: u8) -> &'static str {
    Slot::from_number(slot).map_or("?", Slot::name)
}

/// Describes what a handoff says of an image.
fn image(record: &ImageRecord) -> String {
    let kind = Kind::from_number(record.kind).map_or("image", Kind::name);
    format!("{kind} {}", Version(record.version))
}

/// Returns a code that may be none.
fn code_text(number: u16) -> Option<String> {
    FailCode::from_number(number).map(|code| code.to_string())
}
