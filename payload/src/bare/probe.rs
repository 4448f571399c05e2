//! Vectors that expect an exception: accesses to what the normal world must not reach, and instructions that are not
//! its own.

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
    .rept   3
    .balign 128
    b       unexpected
    .endr
    .balign 128
    b       from_el1                // lower EL, AArch64
    .rept   7
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
    // ICC_IGRPEN0_EL1 belongs to the interrupts of EL3. Both return the syndrome, or zero.
    .global probe_group0_read
probe_group0_read:
    ldr     x1, =probe_state
    mov     x2, #1
    stp     x2, xzr, [x1]
    mrs     x2, s3_0_c12_c12_6
    b       1b
    .global probe_group0_write
probe_group0_write:
    ldr     x1, =probe_state
    mov     x2, #1
    stp     x2, xzr, [x1]
    msr     s3_0_c12_c12_6, xzr
    b       1b

    // The same read at EL1, with its MMU off. The call back to EL2 returns to the caller of this.
    .global probe_group0_read_at_el1
probe_group0_read_at_el1:
    ldr     x1, =probe_state
    mov     x2, #1
    stp     x2, xzr, [x1]
    ldr     x2, =vectors_el1
    msr     vbar_el1, x2
    ldr     x2, ={sctlr_el1}
    msr     sctlr_el1, x2
    adr     x2, 2f
    msr     elr_el2, x2
    mov     x2, #0x3C5              // EL1 with its own stack pointer, all masked
    msr     spsr_el2, x2
    isb
    eret
2:  mrs     x2, s3_0_c12_c12_5      // ICC_SRE_EL1: EL1 has the registers, all but those of group 0
    orr     x2, x2, #1
    msr     s3_0_c12_c12_5, x2
    isb
    mrs     x2, s3_0_c12_c12_7      // ICC_IGRPEN1_EL1
    mrs     x2, s3_0_c12_c12_6
    mov     x0, #0
    hvc     #0

from_el1:
    mrs     x2, esr_el2
    lsr     x2, x2, #26
    cmp     x2, #0x16               // a call, as the only thing
    b.ne    unexpected
    ldr     x1, =probe_state
    ldr     x2, [x1]
    cbz     x2, unexpected
    str     xzr, [x1]
    ret
    .ltorg

    .section .text.vectors_el1, "ax"
    .balign 2048
vectors_el1:
    .rept   4
    .balign 128
    b       .
    .endr
    .balign 128
    mrs     x0, esr_el1
    adr     x3, 2b
    mrs     x4, elr_el1
    sub     x4, x4, x3
    cmp     x4, #20                 // nothing but the last read
    b.ne    .
    hvc     #0
    .rept   11
    .balign 128
    b       .
    .endr
"#,
    sctlr_el1 = const SCTLR_EL1,
    unexpected = sym unexpected,
);

/// The bits that must be one: MMU and caches off.
const SCTLR_EL1: u64 = 0x30D0_0800;

unsafe extern "C" {
    fn probe_read(address: u64) -> u64;
    fn probe_write(address: u64) -> u64;
    fn probe_group0_read() -> u64;
    fn probe_group0_write() -> u64;
    fn probe_group0_read_at_el1() -> u64;
}

/// The syndrome of an instruction that does not exist: unknown reason, 32 bits long.
pub(crate) const UNDEFINED: u64 = 1 << 25;

/// Returns the syndromes of a read and of a write of the register that enables EL3's interrupts, and of a read from
/// EL1: zero for what caused no exception.
pub(crate) fn syndromes_of_group0() -> [u64; 3] {
    // SAFETY: the register enables interrupts that are not the payload's, and EL1 is used by nobody else.
    unsafe { [probe_group0_read(), probe_group0_write(), probe_group0_read_at_el1()] }
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
