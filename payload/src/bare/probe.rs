//! Vectors that expect an abort: accesses to what the normal world must not reach.

use core::arch::global_asm;

// The guard and the syndrome of the abort that it caught: words of the vectors, which run on this core only.
global_asm!(
    r#"
    .section .text.vectors, "ax"
    .balign 2048
    .global vectors
vectors:
    .rept   4
    .balign 128
    b       unexpected
    .endr
    .balign 128
    b       synchronous             // current EL, its own stack
    .rept   11
    .balign 128
    b       unexpected
    .endr

    .balign 128
synchronous:
    stp     x0, x1, [sp, #-16]!
    ldr     x0, =probe_state
    ldr     x1, [x0]
    cbz     x1, unexpected
    str     xzr, [x0]
    mrs     x1, esr_el2
    str     x1, [x0, #8]
    mrs     x1, elr_el2
    add     x1, x1, #4
    msr     elr_el2, x1
    ldp     x0, x1, [sp], #16
    eret

unexpected:
    mrs     x0, esr_el2
    mrs     x1, elr_el2
    mrs     x2, far_el2
    b       {unexpected}
    .ltorg

    .section .bss.probe, "aw", @nobits
    .balign 16
probe_state:
    .skip   16

    .section .text.probe, "ax"
    // x0: address. Returns the syndrome of the abort, or zero.
    .global probe_read
probe_read:
    ldr     x1, =probe_state
    mov     x2, #1
    stp     x2, xzr, [x1]
    dsb     sy
    ldr     w3, [x0]
    dsb     sy
    b       1f
    .global probe_write
probe_write:
    ldr     x1, =probe_state
    mov     x2, #1
    stp     x2, xzr, [x1]
    dsb     sy
    str     wzr, [x0]
    dsb     sy
1:  ldr     x0, [x1, #8]
    str     xzr, [x1]
    ret
    .ltorg
"#,
    unexpected = sym unexpected,
);

unsafe extern "C" {
    fn probe_read(address: u64) -> u64;
    fn probe_write(address: u64) -> u64;
}

/// The exception class of a data abort from the same exception level, in bits 26 to 31 of a syndrome.
const DATA_ABORT: u64 = 0b10_0101;

/// Tells whether reading the word at `address` aborts.
pub(crate) fn read_aborts(address: u64) -> bool {
    // SAFETY: the address is one of the secure world's or a device register's; if the read does not abort, it
    // reads a word that nothing uses.
    unsafe { probe_read(address) >> 26 == DATA_ABORT }
}

/// Tells whether writing zero to the word at `address` aborts.
///
/// # Safety
/// Nothing of the payload lies there.
pub(crate) unsafe fn write_aborts(address: u64) -> bool {
    // SAFETY: as the caller promises.
    unsafe { probe_write(address) >> 26 == DATA_ABORT }
}

extern "C" fn unexpected(syndrome: u64, at: u64, address: u64) -> ! {
    panic!("exception at {at:#x}, syndrome {syndrome:#x}, address {address:#x}")
}
