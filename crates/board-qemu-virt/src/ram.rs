//! The board as a stage that runs from RAM sees it.

use alloc::vec::Vec;
use core::ptr::NonNull;

use drivers::gic::Gic;
use drivers::heap::Heap;
use drivers::uart::Uart;
use drivers::virtio::{self, Device, Disk, MmioHeader, Rng};
use el3::cores::{Doorbell, Team};
use el3::mmu::{Kind, Level1, Level2};
use hal::{Cores as _, DmaDevices, Entropy, WriteLock};
use linked_list_allocator::LockedHeap;
use memory_map::qemu_virt as map;
use memory_map::{MIB, Region};
use spin::Once;

use crate::{memory, take_once, uart};

/// The address space of a stage that runs from RAM: its image executable, its data and work memory writable, the
/// handoff pages, and devices. No flash.
pub const fn level2() -> Level2 {
    Level2::new()
        .map(Region::new(map::SECURE_RAM.base, 2 * MIB), Kind::Data)
        .map(map::STAGE_CODE, Kind::Code)
        .map(map::STAGE_RUN.part(2 * MIB, 4 * MIB), Kind::Data)
        .map(map::STAGE_WORK, Kind::Data)
        .map(map::DEVICES, Kind::Device)
}

/// The level 1 table of such a stage: DRAM, as non-secure memory. Its image starts with the level 2 table.
pub const fn level1() -> Level1 {
    Level1::new(map::STAGE_RUN.base).map_dram(map::DRAM_BASE, map::DRAM_MAX)
}

/// The same with DRAM that is only read.
static LOCKED: Level1 = Level1::new(map::STAGE_RUN.base).map_dram_read_only(map::DRAM_BASE, map::DRAM_MAX);
/// And with DRAM that is written, for whoever was in the other.
static UNLOCKED: Level1 = level1();

/// DRAM, which holds what an operating system was loaded from, and all else that the normal world gets.
///
/// # Threat
/// *A fault behind the last look at what was loaded*: whatever is copied, cleared or freed in the wrong place would change what runs.
/// While it is locked that is an exception, which stops the boot.
pub struct Dram;

impl WriteLock for Dram {
    fn lock(&self) {
        // SAFETY: the table is the stage's own but for writes to DRAM, and constant. Whoever writes there meanwhile meets an exception,
        // which is meant to stop it.
        unsafe { el3::mmu::switch_tables(&raw const LOCKED as u64) };
    }

    fn unlock(&self) {
        // SAFETY: the table maps what the stage's own maps, in the same way, and is constant.
        unsafe { el3::mmu::switch_tables(&raw const UNLOCKED as u64) };
    }
}

/// Seconds that a core which was parked may take to come.
const PATIENCE: u64 = 5;

#[global_allocator]
static HEAP: Heap<LockedHeap> = Heap::new(LockedHeap::empty());

static GIC: Once<Gic> = Once::new();

/// What a stage that runs from RAM works with.
pub struct Board {
    /// UART0.
    pub console: Uart,
    /// UART1.
    pub link: Uart,
    /// The `BootInfo` that the stage before wrote.
    pub boot_info: &'static mut [u8],
    /// The secrets that the stage before wrote.
    pub secrets: &'static mut [u8],
    /// QEMU's own device tree: untrusted.
    pub untrusted_dtb: &'static [u8],
    /// Where the operating system's objects are loaded, from [`map::OS_LOAD`]'s base on.
    pub os_load: &'static mut [u8],
    /// Where this boot's record is left for the operating system.
    pub boot_log: &'static mut [u8],
    /// The devices that reach memory by DMA.
    pub devices: Devices,
}

impl Board {
    /// Takes the board and sets up the heap; `None` the second time, or if the interrupt controller is not what
    /// this board has.
    pub fn take() -> Option<Self> {
        if !take_once() {
            return None;
        }
        start_heap();
        start_gic()?;
        // SAFETY: the regions are mapped by `tables` and do not overlap (memory-map asserts it). DRAM and the
        // handoff pages hold bytes of whatever value. `take_once` makes each reference the only one.
        unsafe {
            Some(Self {
                console: uart(map::UART0),
                link: uart(map::UART1),
                boot_info: memory(map::BOOT_INFO),
                secrets: memory(map::HANDOFF_SECRETS),
                untrusted_dtb: memory(map::QEMU_DTB),
                os_load: memory(map::OS_LOAD),
                boot_log: memory(map::BOOT_LOG),
                devices: Devices::none(),
            })
        }
    }
}

/// Sets up the heap; once, by who has passed `take_once`.
pub(crate) fn start_heap() {
    // SAFETY: the work memory is mapped and writable, and used for the heap alone.
    unsafe { HEAP.blocks().lock().init(map::STAGE_WORK.base as *mut u8, map::STAGE_WORK.size as usize) };
}

/// Lets the heap give out again what was freed.
pub(crate) fn reuse_heap() {
    HEAP.reuse();
}

/// Takes over the interrupt controller, by who has passed `take_once`; `None` if it is not what this board has.
pub(crate) fn start_gic() -> Option<()> {
    let gic = gic()?;
    GIC.call_once(|| gic);
    Some(())
}

fn gic() -> Option<Gic> {
    let gicd = NonNull::new(core::ptr::with_exposed_provenance_mut(map::GICD.base as usize))?;
    let gicr = NonNull::new(core::ptr::with_exposed_provenance_mut(map::GICR.base as usize))?;
    // SAFETY: `take_once` was passed, so this is the only pointer to the distributor, mapped as device memory.
    let gicd = unsafe { arm_pl011_uart::UniqueMmioPointer::new(gicd) };
    // SAFETY: as above, for the redistributors, of which QEMU has at least one for each core that it starts.
    unsafe { Gic::new(gicd, gicr, map::MAX_CORES) }
}

/// Rings cores through the interrupt controller.
struct GicDoorbell;

impl Doorbell for GicDoorbell {
    fn prepare(&self) {
        if let Some(gic) = GIC.get() {
            // A core whose redistributor does not answer hears no doorbell: the wait for it shows that.
            gic.prepare_core(el3::core());
        }
    }

    fn ring(&self, core: usize) {
        if let Some(gic) = GIC.get() {
            gic.ring(core);
        }
    }

    fn silence(&self) {
        if let Some(gic) = GIC.get() {
            gic.silence();
        }
    }

    fn shut_out(&self) {
        if let Some(gic) = GIC.get() {
            gic.shut_out();
        }
    }
}

/// Releases the parked cores up to `count`, in all, and returns those that came within half a second each.
pub fn gather_cores(count: usize) -> Team {
    Team::gather(count, el3::counter_hz() / 2, &GicDoorbell)
}

/// Releases every parked core; `None` if one does not come. By who has passed `start_gic`.
pub(crate) fn gather_all_cores() -> Option<Team> {
    let mut team = Team::gather(redistributors()?, PATIENCE * el3::counter_hz(), &GicDoorbell);
    all_run_in_ram(&mut team).then_some(team)
}

/// Returns true once all cores of the system run in RAM, from which they do not go back to the ROM that they were
/// parked in; false if some are not of `team`.
pub(crate) fn all_run_in_ram(team: &mut Team) -> bool {
    // Whoever takes part in work has come.
    team.run(&|_| ());
    redistributors() == Some(team.count())
}

/// Counts the redistributors, of which each core has one; `None` if there are more than there may be cores.
fn redistributors() -> Option<usize> {
    /// `GICR_TYPER`, from the start of a redistributor, and its bit `Last`.
    const TYPER: u64 = 8;
    const LAST: u64 = 1 << 4;
    let is_last = |core: &usize| {
        let address = map::GICR.base + *core as u64 * map::GICR_STRIDE + TYPER;
        let typer = core::ptr::with_exposed_provenance::<u64>(address as usize);
        // SAFETY: the redistributors of as many cores as there may be are mapped as device memory. Reading this register
        // changes nothing.
        let typer = unsafe { typer.read_volatile() };
        typer & LAST != 0
    };
    (0..map::MAX_CORES).find(is_last).map(|last| last + 1)
}

/// Returns the affinity fields of the first `count` cores: all of cluster 0.
pub fn affinities(count: usize) -> Vec<u64> {
    (0..count as u64).collect()
}

/// The virtio devices of the board.
pub struct Devices {
    disk: Option<Disk>,
    rng: Option<Rng>,
}

impl Devices {
    pub(crate) const fn none() -> Self {
        Self { disk: None, rng: None }
    }
}

/// Stops as [`el3::exit::stop`] does and clears the memory that an operating system is loaded to: for a stage that meets a
/// fatal error before it has entered one.
pub fn stop_while_loading() -> ! {
    Dram.unlock();
    // SAFETY: the region is mapped writable, in whole MMU blocks, and no core of this stage returns to what it did there.
    unsafe { el3::exit::stop_and_clear(map::OS_LOAD) }
}

impl DmaDevices for Devices {
    type Disk = Disk;

    fn start(&mut self) {
        self.stop();
        // SAFETY: the pool is mapped DRAM that nothing else uses, and every device was reset.
        unsafe { virtio::set_pool(Region::new(map::DRAM_BASE, map::DRAM_MIN), map::DMA_POOL) };
        for header in headers() {
            // SAFETY: the header is one of the board's transports; `stop` dropped whoever used it.
            match unsafe { virtio::probe(header, map::VIRTIO_STRIDE as usize) } {
                Some(Device::Disk(disk)) if self.disk.is_none() => self.disk = Some(disk),
                Some(Device::Rng(rng)) if self.rng.is_none() => self.rng = Some(rng),
                _ => {}
            }
        }
    }

    fn stop(&mut self) {
        self.disk = None;
        self.rng = None;
        /// `FailCode::DiskRead`.
        const DISK_READ: u16 = 801;
        // SAFETY: the headers are the board's transports, mapped as device memory.
        if !unsafe { virtio::reset_all(headers()) } {
            // Nothing may be decrypted where such a device can write.
            el3::fatal(DISK_READ);
        }
    }

    fn disk(&mut self) -> Option<&mut Disk> {
        self.disk.as_mut()
    }

    fn entropy(&mut self, into: &mut [u8]) -> bool {
        self.rng.as_mut().is_some_and(|rng| rng.fill(into))
    }
}

fn headers() -> impl Iterator<Item = MmioHeader> {
    let count = map::VIRTIO.size / map::VIRTIO_STRIDE;
    (0..count).filter_map(|n| {
        let address = map::VIRTIO.base + n * map::VIRTIO_STRIDE;
        NonNull::new(core::ptr::with_exposed_provenance_mut(address as usize))
    })
}
