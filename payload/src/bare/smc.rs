//! Secure monitor calls, plain and watched.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

/// PSCI and SMCCC function identifiers.
pub(crate) mod function {
    pub(crate) const SMCCC_VERSION: u64 = 0x8000_0000;
    pub(crate) const SMCCC_ARCH_FEATURES: u64 = 0x8000_0001;
    pub(crate) const PSCI_VERSION: u64 = 0x8400_0000;
    pub(crate) const CPU_SUSPEND_32: u64 = 0x8400_0001;
    pub(crate) const CPU_SUSPEND_64: u64 = 0xC400_0001;
    pub(crate) const CPU_OFF: u64 = 0x8400_0002;
    pub(crate) const CPU_ON_32: u64 = 0x8400_0003;
    pub(crate) const CPU_ON_64: u64 = 0xC400_0003;
    pub(crate) const AFFINITY_INFO_32: u64 = 0x8400_0004;
    pub(crate) const AFFINITY_INFO_64: u64 = 0xC400_0004;
    pub(crate) const MIGRATE_INFO_TYPE: u64 = 0x8400_0006;
    pub(crate) const SYSTEM_OFF: u64 = 0x8400_0008;
    pub(crate) const SYSTEM_RESET: u64 = 0x8400_0009;
    pub(crate) const PSCI_FEATURES: u64 = 0x8400_000A;
    pub(crate) const SYSTEM_RESET2_32: u64 = 0x8400_0012;
    pub(crate) const SYSTEM_RESET2_64: u64 = 0xC400_0012;
}

/// Calls the monitor and returns `x0` to `x3`.
pub(crate) fn call(function: u64, args: [u64; 3]) -> [u64; 4] {
    let [x1, x2, x3] = args;
    let (mut r0, mut r1, mut r2, mut r3) = (function, x1, x2, x3);
    // SAFETY: the calling convention lets a call change x0 to x17 at most; those that Rust is not told of are
    // checked by `watched`. Memory that the payload uses is changed by no call.
    unsafe {
        asm!("smc #0", inout("x0") r0, inout("x1") r1, inout("x2") r2, inout("x3") r3,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
            out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack));
    }
    [r0, r1, r2, r3]
}

/// Calls with one argument and returns `x0`.
pub(crate) fn x0(function: u64, args: [u64; 3]) -> u64 {
    let [x0, ..] = call(function, args);
    x0
}

/// Makes PSCI_VERSION's call with an immediate that the calling convention reserves, and returns `x0`.
pub(crate) fn version_with_immediate() -> u64 {
    let mut x0 = function::PSCI_VERSION;
    // SAFETY: as in `call`.
    unsafe { asm!("smc #1", inout("x0") x0, clobber_abi("C"), options(nostack)) };
    x0
}

/// Powers the system off.
pub(crate) fn system_off() -> ! {
    stop(function::SYSTEM_OFF)
}

/// Resets the system.
pub(crate) fn system_reset() -> ! {
    stop(function::SYSTEM_RESET)
}

fn stop(function: u64) -> ! {
    let [x0, ..] = call(function, [0; 3]);
    crate::println!("payload: the system did not stop: {x0:#x}");
    loop {
        core::hint::spin_loop();
    }
}

/// What a call may change, and what it must not.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Registers {
    /// `x0` to `x30`.
    pub(crate) x: [u64; 31],
    /// How far the stack pointer moved.
    pub(crate) sp_moved: u64,
    /// `q0` to `q31`.
    pub(crate) q: [u128; 32],
}

const X: usize = offset_of!(Registers, x);
const SP_MOVED: usize = offset_of!(Registers, sp_moved);
const Q: usize = offset_of!(Registers, q);
const _: () = assert!(X == 0 && SP_MOVED == 31 * 8 && Q == 32 * 8 && size_of::<Registers>() == Q + 32 * 16);

unsafe extern "C" {
    fn watched_smc(before: *const Registers, after: *mut Registers);
}

/// Makes a call with all registers as given and returns what is in them afterwards.
pub(crate) fn watched(before: &Registers) -> Registers {
    let mut after = *before;
    // SAFETY: reads one frame and writes the other; keeps what a function has to keep.
    unsafe { watched_smc(before, &mut after) };
    after
}

// The registers that the monitor must keep hold test values, all of them, so what is needed after the call
// waits in thread registers of EL2, EL1 and EL0, which are the payload's own.
global_asm!(
    r#"
    .section .text.watched_smc, "ax"
    .global watched_smc
watched_smc:
    stp     x29, x30, [sp, #-96]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    stp     d8, d9, [sp, #-64]!
    stp     d10, d11, [sp, #16]
    stp     d12, d13, [sp, #32]
    stp     d14, d15, [sp, #48]
    str     x1, [sp, #-16]!
    mov     x2, sp
    msr     tpidr_el2, x2

    add     x1, x0, #{q}
    ldp     q0, q1, [x1, #0]
    ldp     q2, q3, [x1, #32]
    ldp     q4, q5, [x1, #64]
    ldp     q6, q7, [x1, #96]
    ldp     q8, q9, [x1, #128]
    ldp     q10, q11, [x1, #160]
    ldp     q12, q13, [x1, #192]
    ldp     q14, q15, [x1, #224]
    ldp     q16, q17, [x1, #256]
    ldp     q18, q19, [x1, #288]
    ldp     q20, q21, [x1, #320]
    ldp     q22, q23, [x1, #352]
    ldp     q24, q25, [x1, #384]
    ldp     q26, q27, [x1, #416]
    ldp     q28, q29, [x1, #448]
    ldp     q30, q31, [x1, #480]
    ldp     x2, x3, [x0, #16]
    ldp     x4, x5, [x0, #32]
    ldp     x6, x7, [x0, #48]
    ldp     x8, x9, [x0, #64]
    ldp     x10, x11, [x0, #80]
    ldp     x12, x13, [x0, #96]
    ldp     x14, x15, [x0, #112]
    ldp     x16, x17, [x0, #128]
    ldp     x18, x19, [x0, #144]
    ldp     x20, x21, [x0, #160]
    ldp     x22, x23, [x0, #176]
    ldp     x24, x25, [x0, #192]
    ldp     x26, x27, [x0, #208]
    ldp     x28, x29, [x0, #224]
    ldr     x30, [x0, #240]
    ldp     x0, x1, [x0]

    smc     #0

    msr     tpidr_el1, x0
    msr     tpidr_el0, x1
    mov     x0, sp
    mrs     x1, tpidr_el2
    mov     sp, x1
    sub     x1, x0, x1
    ldr     x0, [sp]
    str     x1, [x0, #{sp_moved}]
    mrs     x1, tpidr_el0
    stp     x2, x3, [x0, #16]
    stp     x4, x5, [x0, #32]
    stp     x6, x7, [x0, #48]
    stp     x8, x9, [x0, #64]
    stp     x10, x11, [x0, #80]
    stp     x12, x13, [x0, #96]
    stp     x14, x15, [x0, #112]
    stp     x16, x17, [x0, #128]
    stp     x18, x19, [x0, #144]
    stp     x20, x21, [x0, #160]
    stp     x22, x23, [x0, #176]
    stp     x24, x25, [x0, #192]
    stp     x26, x27, [x0, #208]
    stp     x28, x29, [x0, #224]
    str     x30, [x0, #240]
    mrs     x2, tpidr_el1
    stp     x2, x1, [x0]
    add     x1, x0, #{q}
    stp     q0, q1, [x1, #0]
    stp     q2, q3, [x1, #32]
    stp     q4, q5, [x1, #64]
    stp     q6, q7, [x1, #96]
    stp     q8, q9, [x1, #128]
    stp     q10, q11, [x1, #160]
    stp     q12, q13, [x1, #192]
    stp     q14, q15, [x1, #224]
    stp     q16, q17, [x1, #256]
    stp     q18, q19, [x1, #288]
    stp     q20, q21, [x1, #320]
    stp     q22, q23, [x1, #352]
    stp     q24, q25, [x1, #384]
    stp     q26, q27, [x1, #416]
    stp     q28, q29, [x1, #448]
    stp     q30, q31, [x1, #480]

    add     sp, sp, #16
    ldp     d10, d11, [sp, #16]
    ldp     d12, d13, [sp, #32]
    ldp     d14, d15, [sp, #48]
    ldp     d8, d9, [sp], #64
    ldp     x19, x20, [sp, #16]
    ldp     x21, x22, [sp, #32]
    ldp     x23, x24, [sp, #48]
    ldp     x25, x26, [sp, #64]
    ldp     x27, x28, [sp, #80]
    ldp     x29, x30, [sp], #96
    ret
"#,
    q = const Q,
    sp_moved = const SP_MOVED,
);
