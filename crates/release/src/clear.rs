//! Whether a device's storage is erased.

use crate::{DeviceFiles, Error};
use memory_map::{MIB, Region, qemu_virt};
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// How much is read at once, in bytes.
const STEP: usize = MIB as usize;

/// Where a resumed pre-provisioning may find what it wrote itself.
const OWN_FLASH: [Region; 2] = [qemu_virt::BOOT_SLOT_A, qemu_virt::BOOT_SLOT_B];
const OWN_DISK: [Region; 1] = [qemu_virt::PACKAGE];

/// Checks that flash0 is erased but for stage0 and the OTP bank, and flash1 and the disk wholly. A disk is erased
/// where it reads zeros, or where it reads ones. With `but_for_own`, boot slots and package may hold anything.
///
/// # Errors
/// [`Error::FlashNotClear`] with the first place that is not erased; files that cannot be read.
pub(crate) fn check(files: &DeviceFiles, but_for_own: bool) -> Result<(), Error> {
    let own = |regions: &'static [Region]| if but_for_own { regions } else { &[] };
    let mut flash0 = vec![qemu_virt::STAGE0_ROM, qemu_virt::OTP];
    flash0.extend(own(&OWN_FLASH));
    check_file(&files.flash0(), &flash0, &[0xFF])?;
    check_file(&files.flash1(), &[], &[0xFF])?;
    check_file(&files.disk(), own(&OWN_DISK), &[0x00, 0xFF])
}

/// Checks everything outside `passed_over`, whose offsets are those of the file.
fn check_file(path: &Path, passed_over: &[Region], erased: &[u8]) -> Result<(), Error> {
    let mut passed_over = passed_over.to_vec();
    passed_over.sort_by_key(|region| region.base);
    match first_written(path, &passed_over, erased) {
        Ok(None) => Ok(()),
        Ok(Some(offset)) => Err(Error::FlashNotClear { path: path.into(), offset }),
        Err(error) => Err(Error::Read { path: path.into(), error }),
    }
}

fn first_written(path: &Path, passed_over: &[Region], erased: &[u8]) -> io::Result<Option<u64>> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    let mut buffer = vec![0; STEP];
    let erased: Vec<Vec<u8>> = erased.iter().map(|byte| vec![*byte; STEP]).collect();
    let mut start = 0;
    for stop in passed_over.iter().copied().chain([Region::new(end, 0)]) {
        file.seek(SeekFrom::Start(start))?;
        while start < stop.base {
            let length = STEP.min((stop.base - start) as usize);
            let read = &mut buffer[..length];
            file.read_exact(read)?;
            if !erased.iter().any(|erased| read == &erased[..length]) {
                let at = read.iter().position(|byte| !erased.iter().any(|erased| erased[0] == *byte));
                return Ok(Some(start + at.unwrap_or(0) as u64));
            }
            start += length as u64;
        }
        start = stop.end();
    }
    Ok(None)
}
