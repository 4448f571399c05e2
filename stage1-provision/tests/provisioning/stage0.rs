//! The shipped stage0, run on a device of the simulator.

use ::stage0::{Memory, Refused};
use boot_info::record::BootRecord;
use fail_code::FailCode;
use memory_map::Region;
use memory_map::qemu_virt::STAGE_CODE;
use sim::authority::Station;
use stage1_provision::Handoff;

use crate::device::{Cycle, Device};

/// Room for the stages of the tests.
const ROOM: u64 = 16 * 1024;

/// Powers a device on that has a stage1 to boot, and runs that.
pub(crate) fn power_on(device: &mut Device, station: Station) -> Cycle {
    let handoff = boot(device);
    device.run(handoff, station)
}

/// Boots what lies in the boot slots.
pub(crate) fn boot(device: &mut Device) -> Handoff {
    try_boot(device).unwrap()
}

/// Boots what lies in the boot slots, if the fuses can be read and the stage that they allow is whole in one of the two.
pub(crate) fn try_boot(device: &mut Device) -> Result<Handoff, FailCode> {
    let (mut run, mut boot_info, mut secrets) = (vec![0; ROOM as usize], vec![0; 4096], vec![0; 4096]);
    let mut memory = Memory {
        run: &mut run,
        code: Region::new(STAGE_CODE.base, ROOM),
        boot_info: &mut boot_info,
        secrets: &mut secrets,
    };
    let (mut record, mut refused) = (BootRecord::default(), Refused::default());
    let Device { otp, flash, clock, .. } = device;
    ::stage0::boot(&otp.0, flash, &mut memory, clock, 0, &mut record, &mut refused)?;
    Handoff::take(&boot_info, &mut secrets, &mut record).map_err(|error| error.code())
}
