//! CPU_SUSPEND with power-down: a call that comes back through another door.

use super::smc::function::CPU_SUSPEND_64;
use core::arch::global_asm;

/// How a power-down ended.
#[repr(C)]
pub(crate) struct Resumed {
    /// Zero if the call returned, one if the core started anew.
    pub(crate) anew: u64,
    /// What was in `x0`: the result of the call, or the context id.
    pub(crate) x0: u64,
}

global_asm!(
    r#"
    .section .text.power_down, "ax"
    // x0: function, x1: power state, x2: context id. Returns `Resumed` in x0 and x1.
    .global power_down
power_down:
    stp     x29, x30, [sp, #-160]!
    stp     x19, x20, [sp, #16]
    stp     x21, x22, [sp, #32]
    stp     x23, x24, [sp, #48]
    stp     x25, x26, [sp, #64]
    stp     x27, x28, [sp, #80]
    stp     d8, d9, [sp, #96]
    stp     d10, d11, [sp, #112]
    stp     d12, d13, [sp, #128]
    stp     d14, d15, [sp, #144]
    mov     x3, sp
    ldr     x4, =power_down_stack
    str     x3, [x4]
    mov     x3, x2
    ldr     x2, =power_down_resume
    smc     #0
    mov     x1, x0
    mov     x0, #0
    b       1f
power_down_resume:
    mov     x19, x0
    bl      enable_mmu
    ldr     x4, =power_down_stack
    ldr     x3, [x4]
    mov     sp, x3
    mov     x1, x19
    mov     x0, #1
1:  ldp     d14, d15, [sp, #144]
    ldp     d12, d13, [sp, #128]
    ldp     d10, d11, [sp, #112]
    ldp     d8, d9, [sp, #96]
    ldp     x27, x28, [sp, #80]
    ldp     x25, x26, [sp, #64]
    ldp     x23, x24, [sp, #48]
    ldp     x21, x22, [sp, #32]
    ldp     x19, x20, [sp, #16]
    ldp     x29, x30, [sp], #160
    ret
    .ltorg

    .section .bss.power_down, "aw", @nobits
    .balign 8
power_down_stack:
    .skip   8
"#
);

unsafe extern "C" {
    #[link_name = "power_down"]
    fn power_down_call(function: u64, power_state: u64, context_id: u64) -> Resumed;
}

/// Powers this core down until an interrupt arrives.
pub(crate) fn power_down(power_state: u64, context_id: u64) -> Resumed {
    // SAFETY: comes back here with the stack and the registers that a function keeps, by either door; the MMU
    // is on again, with the same tables.
    unsafe { power_down_call(CPU_SUSPEND_64, power_state, context_id) }
}
