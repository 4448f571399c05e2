//! The vectors of stage0, which expects no exception: each one is fatal. Later stages start with those of the
//! monitor.

use core::arch::global_asm;

global_asm!(
    ".section .text.vectors.boot, \"ax\"
    .balign 2048
    .global kiln_boot_vectors
kiln_boot_vectors:
    .rept 16
    .balign 128
    b kiln_unexpected
    .endr

    // The stack may be what failed: a fatal error runs on the core's stack from its top.
    .section .text.unexpected, \"ax\"
    .global kiln_unexpected
kiln_unexpected:
    msr daifset, #0xf
    mrs x9, mpidr_el1
    and x9, x9, #0xff
    ldr x10, =__stack_size
    ldr x11, =__stack_top
    msub x11, x9, x10, x11
    mov sp, x11
    b {exception}
    .ltorg",
    exception = sym exception,
);

/// Ends the stage after an exception that it does not expect.
extern "C" fn exception() -> ! {
    /// `FailCode::Exception`: the number is stable, and `el3` depends on no policy.
    const EXCEPTION: u16 = 901;
    crate::fatal(EXCEPTION)
}
