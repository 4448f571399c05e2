//! Where a stage that runs from RAM starts: core 0 from the stage before, the others from their parking place.
//!
//! The stage before leaves the MMU and data cache off. Core 0 arrives with the address of the `BootInfo` in x0.

use core::arch::global_asm;

use crate::{cores, mmu};

global_asm!(
    ".section .text.start, \"ax\"
    .global kiln_start
kiln_start:
    msr daifset, #0xf
    mov x19, x0
    ldr x9, ={sctlr_off}
    msr sctlr_el3, x9
    adrp x9, kiln_monitor_vectors
    add x9, x9, :lo12:kiln_monitor_vectors
    msr vbar_el3, x9
    isb",
    mmu::mmu_on!(),
    "ldr x9, =__bss_start
    ldr x10, =__bss_end
1:  cmp x9, x10
    b.hs 2f
    str xzr, [x9], #8
    b 1b
2:  ldr x9, =__data_start
    ldr x10, =__data_end
    ldr x11, =__data_load
3:  cmp x9, x10
    b.hs 4f
    ldr x12, [x11], #8
    str x12, [x9], #8
    b 3b
4:  ldr x9, =__stack_top
    mov sp, x9
    mov x0, x19
    mov x29, xzr
    mov x30, xzr
    b kiln_main
    .ltorg

    .section .text.start_secondary, \"ax\"
    .global kiln_start_secondary
kiln_start_secondary:
    msr daifset, #0xf
    ldr x9, ={sctlr_off}
    msr sctlr_el3, x9
    adrp x9, kiln_monitor_vectors
    add x9, x9, :lo12:kiln_monitor_vectors
    msr vbar_el3, x9
    isb",
    mmu::mmu_on!(),
    "mrs x0, mpidr_el1
    and x0, x0, #0xff
    ldr x10, =__stack_size
    ldr x11, =__stack_top
    msub x11, x0, x10, x11
    mov sp, x11
    mov x29, xzr
    mov x30, xzr
    b {secondary}
    .ltorg",
    mair = const mmu::MAIR,
    sctlr_off = const mmu::SCTLR_OFF,
    sctlr_on = const mmu::SCTLR_ON,
    secondary = sym cores::secondary,
);

unsafe extern "C" {
    fn kiln_start_secondary();
}

/// Returns where a parked core of this stage is sent to.
pub(crate) fn secondary_entry() -> u64 {
    kiln_start_secondary as *const () as u64
}
