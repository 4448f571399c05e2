//! This host in the place of a board, for the stages' own code.

use boot_crypto::host::random;
use hal::{Clock, Coherency, Cores, DmaDevices, Storage, WriteLock};
use memory_map::qemu_virt::COUNTER_HZ;

/// A disk, and the host's own random numbers.
pub(super) struct Host<D> {
    disk: D,
}

impl<D: Storage> Host<D> {
    pub(super) fn with(disk: D) -> Self {
        Self { disk }
    }
}

impl<D: Storage> DmaDevices for Host<D> {
    type Disk = D;

    fn start(&mut self) {}

    fn stop(&mut self) {}

    fn disk(&mut self) -> Option<&mut D> {
        Some(&mut self.disk)
    }

    fn entropy(&mut self, into: &mut [u8]) -> bool {
        into.fill_with(|| random::<1>()[0]);
        true
    }
}

/// One core.
pub(super) struct Core;

impl Cores for Core {
    fn count(&self) -> usize {
        1
    }

    fn run(&mut self, work: &(dyn Fn(usize) + Sync)) {
        work(0);
    }
}

/// No caches that anything else would have to see past.
pub(super) struct Uncached;

impl Coherency for Uncached {
    fn clean(&self, _: &[u8]) {}
}

/// Memory that is always written.
pub(super) struct Unlocked;

impl WriteLock for Unlocked {
    fn lock(&self) {}

    fn unlock(&self) {}
}

/// A counter that stands still: nothing that is decided depends on it.
pub(super) struct Now;

impl Clock for Now {
    fn now(&self) -> u64 {
        0
    }

    fn hz(&self) -> u64 {
        COUNTER_HZ
    }
}
