//! The two ways out of a boot stage: into the next stage, or to a stop.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicBool, Ordering};

use memory_map::Region;
use memory_map::qemu_virt::{SECURE_RAM, STAGE0_RAM};

use crate::mmu;

global_asm!(
    "// Clears every general register but x0 and x15, and every vector register, and goes on at x15. One wrong bit in that branch
    // names another register, which is clear: x7, x11, x13 or x14, or none.
    .section .text.clear_registers, \"ax\"
    .global kiln_clear_registers
kiln_clear_registers:
    .irp n,1,2,3,4,5,6,7,8,9,10,11,12,13,14,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30
    mov x\\n, xzr
    .endr
    .irp n,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31
    movi v\\n\\().2d, #0
    .endr
    br x15"
);

/// Enters the next stage at `entry` with the address of its `BootInfo` in x0, the MMU and data cache off, and
/// nothing of stage0 left: its RAM and every other register are zero.
///
/// For stage0 only, which executes in place: it clears the RAM that holds its own stack. The caller has cleaned
/// the stage and the handoff pages to memory. `confirmed` is the entry as it was found once more: where the two differ, which
/// they do after a fault alone, it stops instead. They are compared last, when nothing is left but to clear registers. It stops too
/// where it has not cleared just that RAM.
///
/// # Safety
/// `entry` must be the entry point of a stage that was verified where it lies, in mapped secure RAM.
#[inline(always)]
pub unsafe fn enter_stage(entry: u64, confirmed: u64, boot_info: u64) -> ! {
    // SAFETY: the code runs from ROM, uses no stack once it clears it, and never returns; the caller vouches
    // for `entry`. `stop` takes no arguments and never returns: what it may push goes to the cleared stack, which is RAM still.
    unsafe {
        asm!(
            "2: stp xzr, xzr, [x9]
            stp xzr, xzr, [x9, #16]
            stp xzr, xzr, [x9, #32]
            stp xzr, xzr, [x9, #48]
            dc civac, x9
            add x9, x9, #64
            cmp x9, x10
            ccmp x9, x12, #0b0010, lo
            b.lo 2b
            cmp x9, x10
            b.ne {stop}
            cmp x9, x12
            b.ne {stop}
            dsb sy
            msr sctlr_el3, x11
            isb
            tlbi alle3
            ic iallu
            dsb sy
            isb
            cmp x15, x14
            b.ne {stop}
            mvn x15, x15
            b kiln_clear_registers",
            in("x0") boot_info,
            // No address while RAM is cleared: a fault in the register of a store must not clear where the stage is entered.
            in("x15") !entry,
            in("x9") STAGE0_RAM.base,
            in("x10") STAGE0_RAM.end(),
            in("x11") mmu::SCTLR_OFF,
            // The same once more: the loop ends at the first of both, and goes neither on to the stage where a fault moved one nor past
            // what a fault made it leave out.
            in("x12") STAGE0_RAM.end(),
            in("x14") !confirmed,
            // One wrong bit in a store above names x11 or one of these in place of x9: none of them holds an address of the stage or of
            // its pages.
            in("x1") 0_u64,
            in("x8") 0_u64,
            in("x13") 0_u64,
            in("x25") 0_u64,
            stop = sym stop,
            options(noreturn),
        )
    }
}

const _: () = assert!(STAGE0_RAM.base.is_multiple_of(64) && STAGE0_RAM.size.is_multiple_of(64));

/// Clears secure RAM, but for the running stage's own code, and every register, then waits for ever.
///
/// What it clears includes the stack, the handoff secrets and everything decrypted in secure RAM; of what lies in
/// DRAM, whoever decrypted it there takes care. Takes no lock, allocates nothing and uses no stack.
pub fn stop() -> ! {
    const NOTHING: Region = Region::new(0, 0);
    // SAFETY: nothing of DRAM is cleared.
    unsafe { stop_and_clear(NOTHING) }
}

/// As [`stop`], and clears a region of DRAM too, where this or another core may have decrypted something.
///
/// Other cores lose their stacks when secure RAM is cleared, and end here as well; what they were at meanwhile, at most
/// one chunk, they have finished when DRAM is cleared, 100 ms later.
///
/// # Safety
/// The region is mapped writable, a multiple of 64 bytes, and nothing in it is needed any more.
pub unsafe fn stop_and_clear(dram: Region) -> ! {
    let code = code();
    let wait = crate::counter_hz() / 10;
    // SAFETY: from its first store on the code uses neither stack nor memory, and it never returns; the caller gives up
    // the region of DRAM.
    unsafe {
        asm!(
            "msr daifset, #0xf
            2: cmp x9, x11
            b.lo 3f
            cmp x9, x12
            b.lo 4f
            3: cmp x9, x13
            b.eq 4f
            stp xzr, xzr, [x9]
            stp xzr, xzr, [x9, #16]
            stp xzr, xzr, [x9, #32]
            stp xzr, xzr, [x9, #48]
            dc civac, x9
            4: add x9, x9, #64
            cmp x9, x10
            b.lo 2b
            dsb sy
            cmp x14, x15
            b.eq 7f
            mrs x9, cntpct_el0
            add x16, x9, x16
            5: isb
            mrs x9, cntpct_el0
            cmp x9, x16
            b.lo 5b
            6: stp xzr, xzr, [x14]
            stp xzr, xzr, [x14, #16]
            stp xzr, xzr, [x14, #32]
            stp xzr, xzr, [x14, #48]
            dc civac, x14
            add x14, x14, #64
            cmp x14, x15
            b.lo 6b
            dsb sy
            7: mov x0, xzr
            adr x15, 8f
            b kiln_clear_registers
            8: wfi
            b 8b",
            in("x9") SECURE_RAM.base,
            in("x10") SECURE_RAM.end(),
            in("x11") code.base,
            in("x12") code.end(),
            in("x13") STOPPING.line(),
            in("x14") dram.base,
            in("x15") dram.end(),
            in("x16") wait,
            options(noreturn),
        )
    }
}

/// Whether some core has begun to stop the stage; alone in its cache line, which [`stop`] leaves as it is.
#[repr(align(64))]
pub(crate) struct Stopping(AtomicBool);

/// Set by the first core that meets a fatal error.
pub(crate) static STOPPING: Stopping = Stopping(AtomicBool::new(false));

impl Stopping {
    /// Notes that the stage stops; `true` if a core had begun before.
    pub(crate) fn begin(&self) -> bool {
        self.0.swap(true, Ordering::Relaxed)
    }

    fn line(&self) -> u64 {
        core::ptr::from_ref(self) as u64
    }
}

/// Returns the executable region of the running stage, in whole MMU blocks where it lies in RAM.
fn code() -> Region {
    unsafe extern "C" {
        static __code_start: u8;
        static __code_end: u8;
    }
    let start = &raw const __code_start as u64;
    let end = &raw const __code_end as u64;
    Region::new(start, end - start)
}
