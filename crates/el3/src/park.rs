//! The parking place of the cores that do not boot: one line of secure RAM for each, by core number.
//!
//! A parked core clears its own `entry` when it arrives and then writes `present` again and again, so that
//! neither what an earlier boot left in RAM nor core 0's clearing of it can release or lose a core. Only a core
//! that was seen to be present is given an entry point.

use core::sync::atomic::{AtomicU64, Ordering};

use memory_map::qemu_virt::{MAX_CORES, PARKING};

use crate::{cache, start};

/// What a parked core writes to say that it waits.
pub(crate) const PRESENT: u64 = 0x4B49_4C4E_5041_524B;

/// The line of one core: a cache line of its own, since the core waits with its caches off.
#[repr(C, align(64))]
pub(crate) struct Line {
    pub(crate) entry: AtomicU64,
    pub(crate) present: AtomicU64,
}

const _: () = assert!(size_of::<Line>() * MAX_CORES <= PARKING.size as usize);

fn line(core: usize) -> Option<&'static Line> {
    let base = PARKING.base as *const Line;
    // SAFETY: the parking page is mapped, aligned, and holds `MAX_CORES` lines that nothing else uses; atomics
    // may be shared, and any bytes are valid for them.
    (core < MAX_CORES).then(|| unsafe { &*base.add(core) })
}

/// Tells whether `core` is present in the parking place, waiting up to `ticks` of the counter for it.
pub fn is_present(core: usize, ticks: u64) -> bool {
    let Some(line) = line(core) else { return false };
    let until = crate::counter().saturating_add(ticks);
    loop {
        cache::clean_and_invalidate(line);
        if line.present.load(Ordering::Acquire) == PRESENT {
            return true;
        }
        if crate::counter() > until {
            return false;
        }
        aarch64_cpu::asm::sev();
    }
}

/// Releases `core`, which must be present, into this stage's start code for secondary cores.
pub fn release(core: usize) {
    if let Some(line) = line(core) {
        line.entry.store(start::secondary_entry(), Ordering::Release);
        cache::clean_and_invalidate(line);
        aarch64_cpu::asm::sev();
    }
}
