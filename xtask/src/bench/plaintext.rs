//! Makes sure that nothing of what a device boots lies on it in the clear, by looking for it.

use std::fs;

use anyhow::{Result, bail};
use memchr::memmem::Finder;
use memory_map::qemu_virt as board;

use crate::device::Device;
use crate::images::Plain;

/// Length of the samples, in bytes.
const SAMPLE: usize = 48;
/// Samples taken from each object.
const SAMPLES: usize = 16;

/// Looks for samples of every object in all files of the device.
///
/// # Errors
/// If one is found, or an object has nothing to take samples of.
pub(super) fn absent(device: &Device, plain: &Plain) -> Result<()> {
    for bank in ["flash0.img", "flash1.img", "disk.img"] {
        let mut stored = fs::read(device.folder.join(bank))?;
        if bank == "flash0.img" {
            // stage0 is no secret, and shares library code with the stage after it.
            stored.drain(..board::STAGE0_ROM.size as usize);
        }
        for (name, object) in plain.objects() {
            let samples = samples(object);
            if samples.is_empty() {
                bail!("{name} has no stretch of {SAMPLE} bytes that could be looked for");
            }
            if let Some(sample) =
                samples.into_iter().find(|sample| Finder::new(sample).find(&stored).is_some())
            {
                bail!(
                    "{name} is not encrypted: {bank} holds {} in the clear",
                    crate::digest::hex(&sample[..8])
                );
            }
        }
    }
    Ok(())
}

/// Takes stretches that cannot be found by chance: with many different bytes.
fn samples(object: &[u8]) -> Vec<&[u8]> {
    let all: Vec<&[u8]> =
        object.chunks_exact(SAMPLE).filter(|stretch| different(stretch) >= SAMPLE / 3).collect();
    let step = all.len().div_ceil(SAMPLES).max(1);
    all.into_iter().step_by(step).collect()
}

fn different(stretch: &[u8]) -> usize {
    let mut seen = [false; 256];
    stretch.iter().for_each(|byte| seen[usize::from(*byte)] = true);
    seen.iter().filter(|seen| **seen).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_spread_and_never_trivial() {
        let varied: Vec<u8> = (0..48_000_u32).map(|n| ((n * n) >> 5) as u8).collect();
        let taken = samples(&varied);
        assert!((8..=SAMPLES).contains(&taken.len()), "{}", taken.len());
        assert!(samples(&[0; 4800]).is_empty());
    }
}
