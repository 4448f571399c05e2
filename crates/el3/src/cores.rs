//! All cores of a stage, sharing one piece of work, and where a core waits while it is off.
//!
//! Secondary cores wait in `wfi`: waiting costs nothing, and a doorbell (an interrupt of the secure world, which
//! the board rings) wakes them. Interrupts stay masked: a doorbell that is already pending ends `wfi` at once, so
//! looking and then waiting cannot miss one.

use core::sync::atomic::{AtomicUsize, Ordering};

use memory_map::qemu_virt::MAX_CORES;
use spin::{Mutex, Once};

use crate::{monitor, park};

/// What wakes a waiting core.
pub trait Doorbell: Sync {
    /// Prepares the calling core to hear its doorbell.
    fn prepare(&self);
    /// Rings for `core`.
    fn ring(&self, core: usize);
    /// Silences the calling core's doorbell if it rang.
    fn silence(&self);
    /// Shuts out every interrupt of the normal world from the calling core, until the normal world lets them in
    /// again: a pending one would keep a core that is off from waiting.
    fn shut_out(&self);
}

static DOORBELL: Once<&'static dyn Doorbell> = Once::new();

/// Work that is being shared. The reference lives only as long as `Team::run`, which waits for every core.
#[derive(Clone, Copy)]
struct Work(*const (dyn Fn(usize) + Sync));

// SAFETY: what is pointed to is `Sync`.
unsafe impl Send for Work {}

static WORK: Mutex<Option<(usize, Work)>> = Mutex::new(None);
static ROUND: AtomicUsize = AtomicUsize::new(0);
static FINISHED: AtomicUsize = AtomicUsize::new(0);
static DISMISSED: AtomicUsize = AtomicUsize::new(0);

/// The cores that take part in the stage's work.
pub struct Team {
    count: usize,
}

impl Team {
    /// Releases the parked cores 1 to `count - 1` into this stage and returns all that came, core 0 included.
    /// A core that is not present within `ticks` of the counter ends the count.
    pub fn gather(count: usize, ticks: u64, doorbell: &'static dyn Doorbell) -> Self {
        DOORBELL.call_once(|| doorbell);
        doorbell.prepare();
        let mut team = Self { count: 1 };
        while team.count < count.min(MAX_CORES) && park::is_present(team.count, ticks) {
            park::release(team.count);
            team.count += 1;
        }
        team
    }

    /// Sends every core but the calling one to the monitor, where it is off until the normal world turns it on.
    pub fn dismiss(self) {
        DISMISSED.store(1, Ordering::Release);
        self.ring_all();
    }

    fn ring_all(&self) {
        if let Some(doorbell) = DOORBELL.get() {
            (1..self.count).for_each(|core| doorbell.ring(core));
        }
    }
}

impl hal::Cores for Team {
    fn count(&self) -> usize {
        self.count
    }

    fn run(&mut self, work: &(dyn Fn(usize) + Sync)) {
        // SAFETY: only the lifetime changes. The pointer leaves `WORK` before this function returns, and
        // `FINISHED` tells that no core uses it any more.
        let work_for_all: &'static (dyn Fn(usize) + Sync) = unsafe { core::mem::transmute(work) };
        FINISHED.store(0, Ordering::Relaxed);
        let round = ROUND.load(Ordering::Relaxed) + 1;
        *WORK.lock() = Some((round, Work(work_for_all)));
        ROUND.store(round, Ordering::Release);
        self.ring_all();
        perform(work, 0);
        while FINISHED.load(Ordering::Acquire) < self.count - 1 {
            core::hint::spin_loop();
        }
        *WORK.lock() = None;
    }
}

/// Waits until the doorbell rings; returns at once if it has rung since the last time.
pub(crate) fn wait() {
    aarch64_cpu::asm::wfi();
    silence();
}

/// Silences the calling core's doorbell if it rang.
pub(crate) fn silence() {
    if let Some(doorbell) = DOORBELL.get() {
        doorbell.silence();
    }
}

/// Shuts out the normal world's interrupts from the calling core, which is off.
pub(crate) fn shut_out() {
    if let Some(doorbell) = DOORBELL.get() {
        doorbell.shut_out();
    }
}

/// Rings the doorbell of `core`.
pub(crate) fn ring(core: usize) {
    if let Some(doorbell) = DOORBELL.get() {
        doorbell.ring(core);
    }
}

/// Does the calling core's part of the work, and forgets it.
fn perform(work: &(dyn Fn(usize) + Sync), core: usize) {
    /// A frame of its own, which is dead afterwards, whatever of the work is inlined into it.
    #[inline(never)]
    fn part(work: &(dyn Fn(usize) + Sync), core: usize) {
        work(core);
    }
    part(work, core);
    forget();
}

/// Forgets what was done on the calling core: all of its stack below what is in use, and every register but `x19`, the frame pointer and the link
/// register, which are the compiler's. Keys that the compiler copied there are gone before anything else is done, or before the core waits, and so are the
/// addresses of keys.
pub fn forget() {
    let core = crate::core();
    // SAFETY: below the stack pointer nothing is live: code for this target has no red zone. Every register that is
    // written is named as such.
    unsafe {
        core::arch::asm!(
            "ldr x9, =__stack_size
            ldr x10, =__stack_top
            msub x10, x8, x9, x10
            sub x10, x10, x9
            mov x9, sp
            2: cmp x10, x9
            b.hs 3f
            stp xzr, xzr, [x10], #16
            b 2b
            3:
            .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,20,21,22,23,24,25,26,27,28
            mov x\\n, xzr
            .endr
            .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
            movi v\\n\\().2d, #0
            .endr",
            inout("x8") core => _,
            out("x20") _,
            out("x21") _,
            out("x22") _,
            out("x23") _,
            out("x24") _,
            out("x25") _,
            out("x26") _,
            out("x27") _,
            out("x28") _,
            clobber_abi("C"),
        );
    }
}

/// Runs on each secondary core from the stage's start code on.
pub(crate) extern "C" fn secondary() -> ! {
    if let Some(doorbell) = DOORBELL.get() {
        doorbell.prepare();
    }
    let core = crate::core();
    let mut seen = 0;
    while DISMISSED.load(Ordering::Acquire) == 0 {
        if ROUND.load(Ordering::Acquire) == seen {
            wait();
            continue;
        }
        let shared = *WORK.lock();
        if let Some((round, work)) = shared {
            seen = round;
            // SAFETY: `run` keeps the work alive until every core has added to `FINISHED`.
            perform(unsafe { &*work.0 }, core);
            FINISHED.fetch_add(1, Ordering::Release);
        }
    }
    monitor::off(core)
}
