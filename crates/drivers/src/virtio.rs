//! virtio-mmio block and entropy devices (OASIS Virtual I/O Device 1.2, sections 4.2, 5.2 and 5.4).

use core::ptr::NonNull;

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTPCT_EL0, Readable};
use hal::{Entropy, ReadError, Storage};
use memory_map::Region;
use spin::Mutex;
use virtio_drivers::device::blk::{BlkReq, BlkResp, SECTOR_SIZE, VirtIOBlk};
use virtio_drivers::device::rng::VirtIORng;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceType, Transport};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// Where devices reach memory by DMA: the queues and bounce buffers come from here, other buffers are used in
/// place if they lie in DRAM.
struct Pool {
    dram: Region,
    free: Region,
    /// Where bounce buffers start: what is below belongs to queues, for good.
    bounce: u64,
    bounced: usize,
}

static POOL: Mutex<Option<Pool>> = Mutex::new(None);

/// Names the DRAM that devices can reach and the part of it that drivers may use for queues and bounce buffers.
///
/// # Safety
/// `pool` must be mapped, writable DRAM, aligned to pages, that nothing else uses from now on.
pub unsafe fn set_pool(dram: Region, pool: Region) {
    *POOL.lock() = Some(Pool { dram, free: pool, bounce: pool.base, bounced: 0 });
}

impl Pool {
    /// Cuts `size` bytes, whole multiples of `align`, off the pool. A pool that is exhausted is a defect: the
    /// drivers' needs are known, and their interface cannot report one.
    fn take(&mut self, size: usize, align: u64) -> u64 {
        let at = self.free.base.next_multiple_of(align);
        let end = at + size as u64;
        assert!(end <= self.free.end());
        self.free = Region::new(end, self.free.end() - end);
        at
    }
}

fn with_pool<T>(f: impl FnOnce(&mut Pool) -> T) -> T {
    match POOL.lock().as_mut() {
        Some(pool) => f(pool),
        None => panic!(),
    }
}

struct PoolHal;

// SAFETY: memory from `dma_alloc` is page aligned, zeroed, and never handed out again; shared buffers are either
// used in place or copied to memory of the pool that is free until they are unshared.
unsafe impl Hal for PoolHal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        let size = pages * PAGE_SIZE;
        let at = with_pool(|pool| {
            assert!(pool.bounced == 0);
            let at = pool.take(size, PAGE_SIZE as u64);
            pool.bounce = pool.free.base;
            at
        });
        let pointer =
            NonNull::without_provenance((at as usize).try_into().unwrap_or(core::num::NonZero::<usize>::MIN));
        // SAFETY: the pool is mapped, writable and unused, as `set_pool` was promised.
        unsafe { pointer.write_bytes(0, size) };
        (at, pointer)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        // A stage sets each device up once and resets it before Linux: the pool is gone with the stage.
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        // Only the PCI transport calls this, and Kiln has none.
        panic!()
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let address = buffer.addr().get() as u64;
        with_pool(|pool| {
            if pool.dram.contains(address, buffer.len() as u64) {
                return address;
            }
            let at = pool.take(buffer.len(), 64);
            pool.bounced += 1;
            if direction != BufferDirection::DeviceToDriver {
                // SAFETY: the caller's buffer is valid; the pool's bytes are free and mapped.
                unsafe {
                    core::ptr::copy_nonoverlapping(buffer.cast::<u8>().as_ptr(), at as *mut u8, buffer.len())
                };
            }
            at
        })
    }

    unsafe fn unshare(paddr: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        let address = buffer.addr().get() as u64;
        if paddr == address {
            return;
        }
        if direction != BufferDirection::DriverToDevice {
            // SAFETY: the caller's buffer is valid; `paddr` is the bounce buffer that `share` made for it.
            unsafe {
                core::ptr::copy_nonoverlapping(paddr as *const u8, buffer.cast::<u8>().as_ptr(), buffer.len())
            };
        }
        with_pool(|pool| {
            pool.bounced -= 1;
            if pool.bounced == 0 {
                pool.free = Region::new(pool.bounce, pool.free.end() - pool.bounce);
            }
        });
    }
}

/// One virtio-mmio transport.
pub type MmioHeader = NonNull<VirtIOHeader>;

/// Most bytes that one request moves through the bounce pool.
const BOUNCE_MAX: usize = 128 * 1024;

/// A virtio block device that is only read.
pub struct Disk {
    inner: VirtIOBlk<PoolHal, MmioTransport<'static>>,
    dram: Region,
}

/// A virtio entropy device.
pub struct Rng {
    inner: VirtIORng<PoolHal, MmioTransport<'static>>,
}

/// What a transport turned out to hold.
pub enum Device {
    /// A block device.
    Disk(Disk),
    /// An entropy device.
    Rng(Rng),
}

/// Sets up the device behind `header`; `None` if there is none, or none that Kiln uses, or it fails.
///
/// # Safety
/// `header` must point to a virtio-mmio register block of `size` bytes, mapped as device memory, that nothing
/// else uses while the device lives.
pub unsafe fn probe(header: MmioHeader, size: usize) -> Option<Device> {
    // SAFETY: the caller promises the same.
    let transport = unsafe { MmioTransport::new(header, size) }.ok()?;
    match transport.device_type() {
        DeviceType::Block => {
            let dram = with_pool(|pool| pool.dram);
            Some(Device::Disk(Disk { inner: VirtIOBlk::new(transport).ok()?, dram }))
        }
        DeviceType::EntropySource => Some(Device::Rng(Rng { inner: VirtIORng::new(transport).ok()? })),
        _ => None,
    }
}

/// Resets every device behind the transports that start at `headers`: afterwards none reaches memory by DMA. False
/// if one does not reset: it may still write to memory.
///
/// # Safety
/// Each pointer must be to a virtio-mmio register block, mapped as device memory.
#[must_use]
pub unsafe fn reset_all(headers: impl Iterator<Item = MmioHeader>) -> bool {
    /// `Status`: writing zero resets the device, and it reads as zero once that is done.
    const STATUS: usize = 0x070;
    for header in headers {
        let status = header.cast::<u8>().as_ptr().wrapping_add(STATUS).cast::<u32>();
        // SAFETY: the register lies in the block that the caller vouches for, and any value may be written.
        unsafe { status.write_volatile(0) };
        let until = deadline();
        // SAFETY: as above.
        while unsafe { status.read_volatile() } != 0 {
            if CNTPCT_EL0.get() > until {
                return false;
            }
            core::hint::spin_loop();
        }
    }
    true
}

impl Disk {
    /// Reads whole sectors; `None` if the device reports an error or does not answer in time. After that it must
    /// be reset before anything else is done with the memory that it was to fill.
    fn read_sectors(&mut self, sector: usize, into: &mut [u8]) -> Option<()> {
        let (mut request, mut response) = (BlkReq::default(), BlkResp::default());
        // SAFETY: none of the three is touched until the request is complete. If it never is, `request` and
        // `response` were bounced, since they lie in secure RAM, and whoever owns `into` resets the device.
        let token = unsafe { self.inner.read_blocks_nb(sector, &mut request, into, &mut response) }.ok()?;
        let until = deadline();
        while self.inner.peek_used() != Some(token) {
            if CNTPCT_EL0.get() > until {
                return None;
            }
            core::hint::spin_loop();
        }
        // SAFETY: these are the buffers that the token was given for.
        unsafe { self.inner.complete_read_blocks(token, &request, into, &mut response) }.ok()
    }
}

/// Returns when a device that has not answered by then is taken for dead, as a value of the counter.
fn deadline() -> u64 {
    const SECONDS: u64 = 10;
    CNTPCT_EL0.get().saturating_add(SECONDS * CNTFRQ_EL0.get())
}

impl Storage for Disk {
    fn size(&self) -> u64 {
        self.inner.capacity().saturating_mul(SECTOR_SIZE as u64)
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let in_dram = self.dram.contains(into.as_ptr() as u64, into.len() as u64);
        let most = if in_dram { usize::MAX } else { BOUNCE_MAX };
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let error = ReadError { offset: at };
            let sector = usize::try_from(at / SECTOR_SIZE as u64).map_err(|_| error)?;
            let skip = (at % SECTOR_SIZE as u64) as usize;
            let whole = rest.len().min(most) / SECTOR_SIZE * SECTOR_SIZE;
            let done = if skip == 0 && whole > 0 {
                let (part, _) = rest.split_at_mut_checked(whole).ok_or(error)?;
                self.read_sectors(sector, part).ok_or(error)?;
                whole
            } else {
                let mut buffer = [0; SECTOR_SIZE];
                self.read_sectors(sector, &mut buffer).ok_or(error)?;
                let from = buffer.get(skip..).unwrap_or_default();
                rest.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                from.len().min(rest.len())
            };
            rest = rest.get_mut(done..).unwrap_or_default();
            at += done as u64;
        }
        Ok(())
    }
}

impl Entropy for Rng {
    fn fill(&mut self, into: &mut [u8]) -> bool {
        let mut rest = into;
        while !rest.is_empty() {
            match self.inner.request_entropy(rest) {
                Ok(got) if got > 0 && got <= rest.len() => rest = rest.get_mut(got..).unwrap_or_default(),
                _ => return false,
            }
        }
        true
    }
}
