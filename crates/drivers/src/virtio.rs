//! virtio-mmio block and entropy devices (OASIS Virtual I/O Device 1.2, sections 4.2, 5.2 and 5.4).

use core::ptr::NonNull;

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTPCT_EL0, Readable};
use hal::{Entropy, ReadError, Storage, StorageMut, WriteError};
use memory_map::Region;
use spin::Mutex;
use virtio_drivers::queue::VirtQueue;
use virtio_drivers::transport::mmio::{MmioTransport, VirtIOHeader};
use virtio_drivers::transport::{DeviceStatus, DeviceType, Transport};
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
        let Some(pointer) = NonNull::new(core::ptr::with_exposed_provenance_mut::<u8>(at as usize)) else {
            panic!()
        };
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

/// The one queue that both devices have for their requests.
const QUEUE: u16 = 0;
/// Descriptors of the queue: a request takes three at most.
const QUEUE_SIZE: usize = 4;
/// `VIRTIO_F_VERSION_1`: no legacy device.
const VERSION_1: u64 = 1 << 32;

/// A device with one queue, which gets one request at a time.
struct Channel {
    transport: MmioTransport<'static>,
    queue: VirtQueue<PoolHal, QUEUE_SIZE>,
    /// A request was not answered: the device may still write to where the answer was to go.
    dead: bool,
}

impl Channel {
    /// Sets the device up (section 3.1.1) with those of `features` that it offers.
    fn new(mut transport: MmioTransport<'static>, features: u64) -> Option<Self> {
        let found = DeviceStatus::ACKNOWLEDGE | DeviceStatus::DRIVER;
        transport.set_status(DeviceStatus::empty());
        transport.set_status(found);
        let offered = transport.read_device_features();
        transport.write_driver_features(offered & (features | VERSION_1));
        transport.set_status(found | DeviceStatus::FEATURES_OK);
        transport.set_guest_page_size(PAGE_SIZE as u32);
        let queue = VirtQueue::new(&mut transport, QUEUE, false, false).ok()?;
        transport.finish_init();
        Some(Self { transport, queue, dead: false })
    }

    /// Sends a request and waits for its answer; returns how many bytes the device claims to have written, or
    /// `None` if it does not answer by `until`. It must be reset then before anything else is done with `outputs`
    /// that lie in DRAM.
    fn request<'a>(
        &mut self,
        inputs: &'a [&'a [u8]],
        outputs: &'a mut [&'a mut [u8]],
        until: u64,
    ) -> Option<u32> {
        if self.dead {
            return None;
        }
        self.dead = true;
        // SAFETY: none of the buffers is touched until the request is complete. If it never is, those in secure RAM
        // were bounced, and whoever owns one in DRAM resets the device.
        let token = unsafe { self.queue.add(inputs, outputs) }.ok()?;
        if self.queue.should_notify() {
            self.transport.notify(QUEUE);
        }
        while !self.queue.can_pop() {
            if CNTPCT_EL0.get() > until {
                return None;
            }
            core::hint::spin_loop();
        }
        // SAFETY: these are the buffers that the token was given for.
        let written = unsafe { self.queue.pop_used(token, inputs, outputs) }.ok()?;
        self.dead = false;
        Some(written)
    }
}

/// Returns when a device that has not answered by then is taken for dead, as a value of the counter. No request moves
/// more than [`REQUEST_MAX`], so that a device in order is far from it even where the host is busy.
fn deadline() -> u64 {
    const SECONDS: u64 = 5;
    CNTPCT_EL0.get().saturating_add(SECONDS * CNTFRQ_EL0.get())
}

/// Bytes of a sector.
const SECTOR: usize = 512;
/// Most bytes that one request moves through the bounce pool.
const BOUNCE_MAX: usize = 128 * 1024;
/// Most bytes that one request moves in place.
const REQUEST_MAX: usize = 8 * 1024 * 1024;

/// `VIRTIO_BLK_F_FLUSH`: what is written may wait in a cache of the device until it is told to flush.
const BLK_FLUSH: u64 = 1 << 9;
/// `VIRTIO_BLK_T_IN`, `_OUT` and `_FLUSH` (section 5.2.6).
const READ: u32 = 0;
const WRITE: u32 = 1;
const FLUSH: u32 = 4;
/// `VIRTIO_BLK_S_OK`.
const DONE: u8 = 0;

/// A virtio block device.
pub struct Disk {
    channel: Channel,
    size: u64,
    dram: Region,
}

/// A virtio entropy device.
pub struct Rng(Channel);

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
            let half = |offset| transport.read_config_space::<u32>(offset).ok().map(u64::from);
            let sectors = half(0)? | half(4)? << 32;
            let dram = with_pool(|pool| pool.dram);
            let size = sectors.saturating_mul(SECTOR as u64);
            Some(Device::Disk(Disk { channel: Channel::new(transport, BLK_FLUSH)?, size, dram }))
        }
        DeviceType::EntropySource => Some(Device::Rng(Rng(Channel::new(transport, 0)?))),
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
    /// Returns the header of a request (section 5.2.6).
    fn header(kind: u32, offset: u64) -> [u8; 16] {
        let mut header = [0; 16];
        let sector = (offset / SECTOR as u64).to_le_bytes();
        let fields = kind.to_le_bytes().into_iter().chain([0; 4]).chain(sector);
        header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        header
    }

    /// Reads whole sectors; `None` as in [`Channel::request`], or if the device reports an error.
    fn read_sectors(&mut self, offset: u64, into: &mut [u8]) -> Option<()> {
        let mut status = [!DONE];
        self.channel.request(&[&Self::header(READ, offset)], &mut [into, &mut status], deadline())?;
        (status == [DONE]).then_some(())
    }

    /// Writes whole sectors, or flushes, which moves none; `None` as in [`Self::read_sectors`].
    fn send(&mut self, kind: u32, offset: u64, bytes: &[u8]) -> Option<()> {
        let mut status = [!DONE];
        let header = Self::header(kind, offset);
        let both: [&[u8]; 2] = [&header, bytes];
        let inputs = if bytes.is_empty() { both.get(..1)? } else { &both };
        self.channel.request(inputs, &mut [&mut status], deadline())?;
        (status == [DONE]).then_some(())
    }

    /// Returns the most bytes that one request may move between the disk and a buffer.
    fn most(&self, buffer: &[u8]) -> usize {
        let in_dram = self.dram.contains(buffer.as_ptr() as u64, buffer.len() as u64);
        if in_dram { REQUEST_MAX } else { BOUNCE_MAX }
    }

    /// Tells whether all `len` bytes from `offset` on are the disk's.
    fn holds(&self, offset: u64, len: usize) -> bool {
        Region::new(0, self.size).contains(offset, len as u64)
    }
}

/// How the next request of a transfer of `len` bytes that has come to `offset` looks.
enum Next {
    /// Whole sectors, so many bytes.
    Whole(usize),
    /// A part of one sector: it starts so many bytes into the sector.
    Part(usize),
}

impl Next {
    fn of(offset: u64, len: usize, most: usize) -> Self {
        let skip = (offset % SECTOR as u64) as usize;
        let whole = len.min(most) / SECTOR * SECTOR;
        if skip == 0 && whole > 0 { Self::Whole(whole) } else { Self::Part(skip) }
    }
}

impl Storage for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let most = self.most(into);
        if !self.holds(offset, into.len()) {
            return Err(ReadError { offset });
        }
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let error = ReadError { offset: at };
            let done = match Next::of(at, rest.len(), most) {
                Next::Whole(whole) => {
                    let part = rest.get_mut(..whole).ok_or(error)?;
                    self.read_sectors(at, part).ok_or(error)?;
                    whole
                }
                Next::Part(skip) => {
                    let mut sector = [0; SECTOR];
                    self.read_sectors(at, &mut sector).ok_or(error)?;
                    let from = sector.get(skip..).unwrap_or_default();
                    rest.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
                    from.len().min(rest.len())
                }
            };
            rest = rest.get_mut(done..).unwrap_or_default();
            at += done as u64;
        }
        Ok(())
    }
}

impl StorageMut for Disk {
    fn erase_size(&self) -> u64 {
        1
    }

    fn erase(&mut self, offset: u64, len: u64) -> Result<(), WriteError> {
        let held = Region::new(0, self.size).contains(offset, len);
        held.then_some(()).ok_or(WriteError { offset })
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
        let most = self.most(bytes);
        if !self.holds(offset, bytes.len()) {
            return Err(WriteError { offset });
        }
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let error = WriteError { offset: at };
            let done = match Next::of(at, rest.len(), most) {
                Next::Whole(whole) => {
                    self.send(WRITE, at, rest.get(..whole).ok_or(error)?).ok_or(error)?;
                    whole
                }
                Next::Part(skip) => {
                    let mut sector = [0; SECTOR];
                    self.read_sectors(at, &mut sector).ok_or(error)?;
                    let into = sector.get_mut(skip..).unwrap_or_default();
                    into.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
                    let done = into.len().min(rest.len());
                    self.send(WRITE, at, &sector).ok_or(error)?;
                    done
                }
            };
            rest = rest.get(done..).unwrap_or_default();
            at += done as u64;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), WriteError> {
        self.send(FLUSH, 0, &[]).ok_or(WriteError { offset: 0 })
    }
}

impl Entropy for Rng {
    /// One deadline holds for all of it: a device that trickles is no source.
    fn fill(&mut self, into: &mut [u8]) -> bool {
        let until = deadline();
        let mut rest = into;
        while !rest.is_empty() {
            match self.0.request(&[], &mut [rest], until).map(|got| got as usize) {
                Some(got) if got > 0 && got <= rest.len() => rest = rest.get_mut(got..).unwrap_or_default(),
                _ => return false,
            }
        }
        true
    }
}
