//! Where every core starts after a reset: the first code of stage0.
//!
//! Core 0 turns the MMU and caches on, clears all secure RAM and calls the stage's `main` with the counter as it
//! was at reset. The other cores wait in [`park`](crate::park), in this ROM, until a later stage releases them.
//! Cores that the board's table does not know wait for ever.

use core::arch::global_asm;

use memory_map::qemu_virt::{MAX_CORES, PARKING, SECURE_RAM};

use crate::{mmu, park};

global_asm!(
    ".section .text.reset, \"ax\"
    .global kiln_reset
kiln_reset:
    mrs x20, cntpct_el0
    msr daifset, #0xf
    ldr x9, ={sctlr_off}
    msr sctlr_el3, x9
    adr x9, kiln_boot_vectors
    msr vbar_el3, x9
    isb
    mrs x0, mpidr_el1
    ldr x1, =0xff00ffff00
    tst x0, x1
    b.ne 9f
    and x1, x0, #0xff
    cmp x1, #{max_cores}
    b.hs 9f
    cbnz x1, 5f",
    mmu::mmu_on!(),
    "// Clear all secure RAM, a cache line at a time. Stores and not `dc zva`, of which each is a call where it is
    // emulated.
    ldr x11, ={secure_ram}
    ldr x12, ={secure_ram_end}
2:  stp xzr, xzr, [x11]
    stp xzr, xzr, [x11, #16]
    stp xzr, xzr, [x11, #32]
    stp xzr, xzr, [x11, #48]
    add x11, x11, #64
    cmp x11, x12
    b.lo 2b
    dsb sy

    ldr x9, =__data_start
    ldr x10, =__data_end
    ldr x11, =__data_load
3:  cmp x9, x10
    b.hs 4f
    ldr x12, [x11], #8
    str x12, [x9], #8
    b 3b
4:  ldr x9, =__stack_top
    mov sp, x9
    mov x0, x20
    mov x29, xzr
    mov x30, xzr
    b kiln_main

    // Another core. Its line of the parking page may hold what an earlier boot left: it clears the entry point
    // itself, then says that it is present, again and again, since core 0 clears secure RAM meanwhile.
5:  ldr x2, ={parking}
    add x2, x2, x1, lsl #6
    str xzr, [x2, #{entry}]
6:  ldr x3, ={present_word}
    str x3, [x2, #{present}]
    dsb sy
    ldr x4, [x2, #{entry}]
    cbnz x4, 7f
    wfe
    b 6b
7:  str xzr, [x2, #{entry}]
    dsb sy
    isb
    br x4

9:  wfi
    b 9b
    .ltorg",
    mair = const mmu::MAIR,
    sctlr_off = const mmu::SCTLR_OFF,
    sctlr_on = const mmu::SCTLR_ON,
    max_cores = const MAX_CORES,
    secure_ram = const SECURE_RAM.base,
    secure_ram_end = const SECURE_RAM.end(),
    parking = const PARKING.base,
    entry = const core::mem::offset_of!(park::Line, entry),
    present = const core::mem::offset_of!(park::Line, present),
    present_word = const park::PRESENT,
);
