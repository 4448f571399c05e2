//! Parts of the device that are broken, absent or not what they should be.

use fail_code::FailCode;
use hal::FlashIdentity;
use lifecycle::Row;
use sim::{Fault, Source};
use stage1_provision::End;

use crate::case::Case;
use crate::stage0;

#[test]
fn an_entropy_source_that_is_dead_stuck_or_poor_is_refused() {
    for (fault, code) in [
        (Fault::Absent, FailCode::EntropyMissing),
        (Fault::Stuck(0), FailCode::EntropyHealth),
        (Fault::Stuck(0xFF), FailCode::EntropyHealth),
        (Fault::Repeating(vec![1, 2, 3, 4, 5]), FailCode::EntropyHealth),
        (Fault::Biased(96), FailCode::EntropyHealth),
    ] {
        let mut case = Case::new();
        case.device.devices.entropy = Source::faulty(1, fault);
        let cycle = case.is_refused(case.desk.station(), code);
        assert!(cycle.link.frames.iter().all(|frame| frame.message.answer().is_none()), "it asked");
        case.device.devices.entropy = Source::new(1);
        case.closes();
    }
}

#[test]
fn a_flash_that_is_none_or_another_is_refused() {
    let mut case = Case::new();
    let right = case.device.flash.identity.unwrap();
    for wrong in [
        None,
        Some(FlashIdentity { size: right.size / 2, ..right }),
        Some(FlashIdentity { erase_block: right.erase_block * 2, ..right }),
        Some(FlashIdentity { write_buffer: 64, ..right }),
    ] {
        case.device.flash.identity = wrong;
        case.is_refused(case.desk.station(), FailCode::SelfTestFlash);
    }
    case.device.flash.identity = Some(right);
    case.closes();
}

#[test]
fn a_device_without_a_disk_is_refused() {
    let mut case = Case::new();
    let disk = case.device.devices.disk.take();
    case.is_refused(case.desk.station(), FailCode::DiskMissing);
    case.device.devices.disk = disk;
    case.closes();
}

#[test]
fn fuses_that_changed_since_stage0_vouched_for_them_are_refused() {
    for (row, code) in [
        (Row::FloorOs, FailCode::BootInfoInvalid),
        (Row::OwnerRoot1, FailCode::BootInfoInvalid),
        (Row::ClosingMeasurement, FailCode::BootInfoInvalid),
        // The seed is no fact that stage0 vouches for; but no journal says that it was begun.
        (Row::DeviceSeed, FailCode::FuseForeign),
    ] {
        let mut case = Case::new();
        let handoff = stage0::boot(&mut case.device);
        let words = row.words();
        words.clone().for_each(|word| case.device.otp.0.contents_mut()[word] |= 1);
        let fuses = case.device.otp.0.contents().to_vec();
        let cycle = case.device.run(handoff, case.desk.station());
        assert_eq!(cycle.end, End::Refused(code), "{row:?}: {}", cycle.console);
        assert!(case.device.otp.0.contents() == fuses, "a fuse has burned");
        case.is_still_secured();
    }
}
