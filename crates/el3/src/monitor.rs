//! The resident monitor: how the normal world is entered, and how it calls back.
//!
//! Policy is a [`SecureMonitor`]; this module saves and restores registers and does what the policy answers. On a
//! call every general and vector register of the caller is saved before Rust runs and restored after it. Results
//! go to x0 to x3 alone (SMCCC 1.2, section 2.6); a core that is started begins with every other register zero.

use core::arch::{asm, global_asm};
use core::mem::offset_of;

use aarch64_cpu::registers::{
    ELR_EL1, ELR_EL2, ESR_EL1, ESR_EL2, ESR_EL3, HCR_EL2, MPIDR_EL1, Readable, SCR_EL3, SPSR_EL1, SPSR_EL2,
    VBAR_EL1, VBAR_EL2, Writeable,
};
use spin::Once;

use crate::cores;

/// Where a core enters the normal world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// Address of the first instruction, at EL2.
    pub entry: u64,
    /// What x0 holds there.
    pub argument: u64,
}

/// What the monitor does after a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// Returns to the caller with these values in x0 to x3.
    Return([u64; 4]),
    /// Wakes a core that is off, then returns to the caller with these values.
    Wake(usize, [u64; 4]),
    /// Turns the calling core off.
    Off,
    /// Waits for an interrupt, then returns to the caller with these values.
    Standby([u64; 4]),
    /// Waits for an interrupt, then starts the calling core anew.
    PowerDown(Start),
    /// Powers the system off.
    SystemOff,
    /// Resets the system.
    SystemReset,
}

/// The policy behind the monitor.
pub trait SecureMonitor: Sync {
    /// Answers the call that `core` made: `x` holds its x0 to x3.
    fn call(&self, core: usize, x: [u64; 4]) -> Reply;
    /// Answers a call with an immediate other than 0, which is of no calling convention.
    fn call_of_no_convention(&self) -> [u64; 4];
    /// Notes that `core` is off from now on: the last thing that it does before it waits.
    fn stopped(&self, core: usize);
    /// Returns where `core`, which is off, is to start, once, if it was turned on.
    fn start_of(&self, core: usize) -> Option<Start>;
    /// Powers the system off.
    fn system_off(&self) -> !;
    /// Resets the system.
    fn system_reset(&self) -> !;
}

static MONITOR: Once<&'static dyn SecureMonitor> = Once::new();

/// What the vectors save.
#[repr(C, align(16))]
struct Frame {
    x: [u64; 31],
    elr: u64,
    spsr: u64,
    fpcr: u64,
    fpsr: u64,
    reserved: u64,
    q: [u128; 32],
}

global_asm!(
    ".section .text.vectors.monitor, \"ax\"
    .balign 2048
    .global kiln_monitor_vectors
kiln_monitor_vectors:
    // From EL3 itself, with either stack pointer: nothing is expected.
    .rept 8
    .balign 128
    b kiln_unexpected
    .endr
    // From a lower level, AArch64: synchronous, IRQ, FIQ, SError; then the same from AArch32.
    .rept 2
    .balign 128
    sub sp, sp, #{frame}
    stp x29, x30, [sp, #(29 * 8)]
    mov x29, #0
    b kiln_from_below
    .balign 128
    b kiln_unexpected
    .balign 128
    sub sp, sp, #{frame}
    stp x29, x30, [sp, #(29 * 8)]
    mov x29, #1
    b kiln_from_below
    .balign 128
    b kiln_unexpected
    .endr

    .section .text.monitor, \"ax\"
kiln_from_below:
    stp x0, x1, [sp, #(0 * 8)]
    stp x2, x3, [sp, #(2 * 8)]
    stp x4, x5, [sp, #(4 * 8)]
    stp x6, x7, [sp, #(6 * 8)]
    stp x8, x9, [sp, #(8 * 8)]
    stp x10, x11, [sp, #(10 * 8)]
    stp x12, x13, [sp, #(12 * 8)]
    stp x14, x15, [sp, #(14 * 8)]
    stp x16, x17, [sp, #(16 * 8)]
    stp x18, x19, [sp, #(18 * 8)]
    stp x20, x21, [sp, #(20 * 8)]
    stp x22, x23, [sp, #(22 * 8)]
    stp x24, x25, [sp, #(24 * 8)]
    stp x26, x27, [sp, #(26 * 8)]
    str x28, [sp, #(28 * 8)]
    mrs x9, elr_el3
    mrs x10, spsr_el3
    stp x9, x10, [sp, #{elr}]
    mrs x9, fpcr
    mrs x10, fpsr
    stp x9, x10, [sp, #{fpcr}]
    stp q0, q1, [sp, #({q} + 0 * 16)]
    stp q2, q3, [sp, #({q} + 2 * 16)]
    stp q4, q5, [sp, #({q} + 4 * 16)]
    stp q6, q7, [sp, #({q} + 6 * 16)]
    stp q8, q9, [sp, #({q} + 8 * 16)]
    stp q10, q11, [sp, #({q} + 10 * 16)]
    stp q12, q13, [sp, #({q} + 12 * 16)]
    stp q14, q15, [sp, #({q} + 14 * 16)]
    stp q16, q17, [sp, #({q} + 16 * 16)]
    stp q18, q19, [sp, #({q} + 18 * 16)]
    stp q20, q21, [sp, #({q} + 20 * 16)]
    stp q22, q23, [sp, #({q} + 22 * 16)]
    stp q24, q25, [sp, #({q} + 24 * 16)]
    stp q26, q27, [sp, #({q} + 26 * 16)]
    stp q28, q29, [sp, #({q} + 28 * 16)]
    stp q30, q31, [sp, #({q} + 30 * 16)]
    mov x0, sp
    mov x1, x29
    mov x29, xzr
    bl {handle}
    ldp q0, q1, [sp, #({q} + 0 * 16)]
    ldp q2, q3, [sp, #({q} + 2 * 16)]
    ldp q4, q5, [sp, #({q} + 4 * 16)]
    ldp q6, q7, [sp, #({q} + 6 * 16)]
    ldp q8, q9, [sp, #({q} + 8 * 16)]
    ldp q10, q11, [sp, #({q} + 10 * 16)]
    ldp q12, q13, [sp, #({q} + 12 * 16)]
    ldp q14, q15, [sp, #({q} + 14 * 16)]
    ldp q16, q17, [sp, #({q} + 16 * 16)]
    ldp q18, q19, [sp, #({q} + 18 * 16)]
    ldp q20, q21, [sp, #({q} + 20 * 16)]
    ldp q22, q23, [sp, #({q} + 22 * 16)]
    ldp q24, q25, [sp, #({q} + 24 * 16)]
    ldp q26, q27, [sp, #({q} + 26 * 16)]
    ldp q28, q29, [sp, #({q} + 28 * 16)]
    ldp q30, q31, [sp, #({q} + 30 * 16)]
    ldp x9, x10, [sp, #{fpcr}]
    msr fpcr, x9
    msr fpsr, x10
    ldp x9, x10, [sp, #{elr}]
    msr elr_el3, x9
    msr spsr_el3, x10
    ldp x0, x1, [sp, #(0 * 8)]
    ldp x2, x3, [sp, #(2 * 8)]
    ldp x4, x5, [sp, #(4 * 8)]
    ldp x6, x7, [sp, #(6 * 8)]
    ldp x8, x9, [sp, #(8 * 8)]
    ldp x10, x11, [sp, #(10 * 8)]
    ldp x12, x13, [sp, #(12 * 8)]
    ldp x14, x15, [sp, #(14 * 8)]
    ldp x16, x17, [sp, #(16 * 8)]
    ldp x18, x19, [sp, #(18 * 8)]
    ldp x20, x21, [sp, #(20 * 8)]
    ldp x22, x23, [sp, #(22 * 8)]
    ldp x24, x25, [sp, #(24 * 8)]
    ldp x26, x27, [sp, #(26 * 8)]
    ldr x28, [sp, #(28 * 8)]
    ldp x29, x30, [sp, #(29 * 8)]
    add sp, sp, #{frame}
    eret
    // Nothing is speculated past the return.
    dsb nsh
    isb",
    frame = const size_of::<Frame>(),
    elr = const offset_of!(Frame, elr),
    fpcr = const offset_of!(Frame, fpcr),
    q = const offset_of!(Frame, q),
    handle = sym handle,
);

/// Whether the call came through the synchronous vector or the FIQ one.
const SYNCHRONOUS: u64 = 0;

extern "C" fn handle(frame: &mut Frame, vector: u64) {
    if vector != SYNCHRONOUS {
        // A doorbell that rang for a core which had already woken.
        cores::silence();
        return;
    }
    let class = ESR_EL3.read(ESR_EL3::EC);
    let Some(monitor) = MONITOR.get() else { crate::fatal(EXCEPTION) };
    if class != SMC64 && class != SMC32 {
        return undefined(frame);
    }
    let core = crate::core();
    if ESR_EL3.read(ESR_EL3::ISS) & 0xFFFF != 0 && class == SMC64 {
        return frame.set_results(monitor.call_of_no_convention());
    }
    let [x0, x1, x2, x3, ..] = frame.x;
    match monitor.call(core, [x0, x1, x2, x3]) {
        Reply::Return(results) => frame.set_results(results),
        Reply::Wake(target, results) => {
            cores::ring(target);
            frame.set_results(results);
        }
        Reply::Standby(results) => {
            cores::wait();
            frame.set_results(results);
        }
        Reply::Off => {
            monitor.stopped(core);
            off(core)
        }
        Reply::PowerDown(start) => {
            cores::wait();
            enter(core, start, start.entry)
        }
        Reply::SystemOff => monitor.system_off(),
        Reply::SystemReset => monitor.system_reset(),
    }
}

impl Frame {
    fn set_results(&mut self, [r0, r1, r2, r3]: [u64; 4]) {
        let [x0, x1, x2, x3, ..] = &mut self.x;
        (*x0, *x1, *x2, *x3) = (r0, r1, r2, r3);
    }
}

/// Exception classes of an SMC from AArch64 and from AArch32 (Arm ARM, D24.2.37).
const SMC64: u64 = 0b01_0111;
const SMC32: u64 = 0b01_0011;

/// `FailCode::Exception`: the number is stable, and `el3` depends on no policy.
const EXCEPTION: u16 = 901;

/// Names the policy that answers calls from now on. Later calls of this function change nothing.
pub fn install(monitor: &'static dyn SecureMonitor) {
    MONITOR.call_once(|| monitor);
}

/// Assembly that puts the stack pointer of core x8 at the top of its stack and clears all of that; clobbers x9 to
/// x11.
macro_rules! wipe_stack {
    () => {
        "ldr x9, =__stack_size
        ldr x10, =__stack_top
        msub x10, x8, x9, x10
        mov sp, x10
        sub x11, x10, x9
        8: stp xzr, xzr, [x11], #16
        cmp x11, x10
        b.lo 8b"
    };
}

/// Makes an instruction of the normal world that trapped to EL3 undefined where it was executed. Kiln asks for no
/// traps but those that come with its own interrupts: the group 0 registers of the interrupt controller.
fn undefined(frame: &mut Frame) {
    /// `ESR_ELx`: unknown reason, 32-bit instruction.
    const UNKNOWN: u64 = 1 << 25;
    /// Interrupts masked, own stack pointer: EL1, and EL2.
    const EL1H: u64 = 0x3C5;
    const EL2H: u64 = 0x3C9;
    /// Offset of the synchronous vector for an exception from the same level with its own stack pointer.
    const SAME_LEVEL: u64 = 0x200;
    match frame.spsr & 0x1F {
        0b0_0101 => {
            ESR_EL1.set(UNKNOWN);
            ELR_EL1.set(frame.elr);
            SPSR_EL1.set(frame.spsr);
            frame.elr = VBAR_EL1.get() + SAME_LEVEL;
            frame.spsr = EL1H;
        }
        0b0_1001 => {
            ESR_EL2.set(UNKNOWN);
            ELR_EL2.set(frame.elr);
            SPSR_EL2.set(frame.spsr);
            frame.elr = VBAR_EL2.get() + SAME_LEVEL;
            frame.spsr = EL2H;
        }
        // EL0 and AArch32 have no access that traps here; whoever finds one steps over it.
        _ => frame.elr = frame.elr.wrapping_add(4),
    }
}

/// Turns the calling core off: forgets all that its stack and registers held, waits until the policy names where it
/// starts, then enters the normal world there.
pub fn off(core: usize) -> ! {
    // SAFETY: nothing of this core's stack is live, since neither this function nor `wait_until_on` returns.
    unsafe {
        asm!(
            wipe_stack!(),
            "adrp x15, {wait_until_on}
            add x15, x15, :lo12:{wait_until_on}
            b kiln_clear_registers",
            in("x0") core,
            in("x8") core,
            wait_until_on = sym wait_until_on,
            options(noreturn),
        )
    }
}

extern "C" fn wait_until_on(core: usize) -> ! {
    cores::shut_out();
    loop {
        if let Some(start) = MONITOR.get().and_then(|monitor| monitor.start_of(core)) {
            enter(core, start, start.entry);
        }
        cores::wait();
    }
}

/// Enters the normal world at EL2 with interrupts masked, its MMU off and x0 = `start.argument`; every other
/// register is zero, and so is this core's stack at EL3. Calls from there on go to the policy that [`install`] named.
///
/// `confirmed` is the entry as it was found once more: where the two differ, which they do after a fault alone, it stops instead. They
/// are compared last, when nothing is left but to clear registers. Meanwhile `x0` holds the complement of what it will: one wrong bit makes a
/// store of an instruction that clears a register, and should not find an address there.
#[inline(always)]
pub fn enter(core: usize, start: Start, confirmed: u64) -> ! {
    /// EL2 with its own stack pointer; debug, SError, IRQ and FIQ masked.
    const SPSR_EL2H_MASKED: u64 = 0x3C9;
    /// RES1 bits of `SCTLR_EL2`: MMU and caches off, little-endian.
    const SCTLR_EL2_OFF: u64 = 0x30C5_0830;

    // FIQ comes to EL3: group 0 interrupts, which are Kiln's doorbells. Bits 4 and 5 are RES1.
    SCR_EL3.write(
        SCR_EL3::RW::NextELIsAarch64
            + SCR_EL3::HCE::HvcEnabled
            + SCR_EL3::FIQ::Taken
            + SCR_EL3::NS::NonSecure,
    );
    SCR_EL3.set(SCR_EL3.get() | (0b11 << 4));
    HCR_EL2.write(HCR_EL2::RW::EL1IsAarch64);
    // SAFETY: the registers set up a state that the normal world may have; the stack pointer returns to the top
    // of this core's stack, of which nothing is live since the code never returns. `stop` takes no arguments and never returns.
    unsafe {
        asm!(
            "msr cptr_el3, xzr
            msr mdcr_el3, xzr
            msr sctlr_el2, x2
            msr cntvoff_el2, xzr
            mrs x3, midr_el1
            msr vpidr_el2, x3
            msr vmpidr_el2, x4
            msr elr_el3, x5
            msr spsr_el3, x1
            isb",
            wipe_stack!(),
            "mrs x5, elr_el3
            cmp x5, x6
            b.ne {stop}
            mvn x0, x0
            adr x15, 9f
            b kiln_clear_registers
            9: mov x15, xzr
            mvn x0, x0
            eret
            dsb nsh
            isb",
            in("x0") start.argument,
            in("x1") SPSR_EL2H_MASKED,
            in("x2") SCTLR_EL2_OFF,
            in("x4") MPIDR_EL1.get(),
            in("x5") start.entry,
            in("x6") confirmed,
            in("x8") core,
            stop = sym crate::exit::stop,
            options(noreturn),
        )
    }
}
