//! The system counter, and the one interrupt that the payload uses: EL2's physical timer.

use core::arch::asm;
use memory_map::qemu_virt::{GICD, GICR};

/// The timer's interrupt: PPI 10.
const TIMER_INTERRUPT: u32 = 26;
const REDISTRIBUTOR_SGI_FRAME: u64 = 0x1_0000;

fn now() -> u64 {
    let value: u64;
    // SAFETY: reads a counter.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value
}

fn ticks(ms: u64) -> u64 {
    let hz: u64;
    // SAFETY: reads a constant.
    unsafe { asm!("mrs {}, cntfrq_el0", out(reg) hz, options(nomem, nostack, preserves_flags)) };
    ms * hz / 1000
}

/// Waits until `done`, at most `ms` milliseconds; tells whether it was.
pub(crate) fn within(ms: u64, mut done: impl FnMut() -> bool) -> bool {
    let end = now() + ticks(ms);
    loop {
        if done() {
            return true;
        }
        if now() > end {
            return false;
        }
        core::hint::spin_loop();
    }
}

/// Has the timer's interrupt reach this core, where it stays masked: it only wakes.
pub(crate) fn enable_interrupt() {
    let write = |address: u64, value: u32| {
        // SAFETY: a register of the interrupt controller, mapped as device memory; no memory is affected, and
        // no handler runs since interrupts are masked.
        unsafe { (address as *mut u32).write_volatile(value) };
    };
    let read = |address: u64| {
        // SAFETY: as above.
        unsafe { (address as *const u32).read_volatile() }
    };
    // SAFETY: gives EL2 the system register interface of the interrupt controller.
    unsafe {
        asm!("mrs {t}, icc_sre_el2", "orr {t}, {t}, #0xf", "msr icc_sre_el2, {t}", "isb", t = out(reg) _)
    };
    const CTLR_GROUP1_AND_AFFINITY: u32 = 0b10010;
    write(GICD.base, read(GICD.base) | CTLR_GROUP1_AND_AFFINITY);
    const WAKER: u64 = 0x14;
    const PROCESSOR_SLEEP: u32 = 1 << 1;
    write(GICR.base + WAKER, read(GICR.base + WAKER) & !PROCESSOR_SLEEP);
    const IGROUPR0: u64 = REDISTRIBUTOR_SGI_FRAME + 0x80;
    const ISENABLER0: u64 = REDISTRIBUTOR_SGI_FRAME + 0x100;
    write(GICR.base + IGROUPR0, u32::MAX);
    write(GICR.base + ISENABLER0, 1 << TIMER_INTERRUPT);
    // SAFETY: opens the priority mask and enables group 1 on this core; interrupts stay masked in PSTATE.
    unsafe {
        asm!("msr icc_pmr_el1, {}", "msr icc_igrpen1_el1, {}", "isb", in(reg) 0xFF_u64, in(reg) 1_u64);
    }
}

/// Has the timer fire in `ms` milliseconds.
pub(crate) fn arm(ms: u64) {
    // SAFETY: the timer is the payload's own.
    unsafe {
        asm!("msr cnthp_cval_el2, {}", "msr cnthp_ctl_el2, {}", "isb", in(reg) now() + ticks(ms), in(reg) 1_u64);
    }
}

/// Stops the timer and tells whether it had fired.
pub(crate) fn disarm() -> bool {
    const FIRED: u64 = 1 << 2;
    let control: u64;
    // SAFETY: the timer is the payload's own.
    unsafe { asm!("mrs {}, cnthp_ctl_el2", "msr cnthp_ctl_el2, xzr", "isb", out(reg) control) };
    control & FIRED != 0
}
