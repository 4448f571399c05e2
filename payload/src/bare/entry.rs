//! From the boot loader's jump, and from PSCI's, to Rust.
//!
//! The MMU comes on first, with one page of tables: the compiler may use unaligned accesses, which memory
//! without attributes refuses.

use super::cores::{arrived, secondary_main};
use super::payload_main;
use core::arch::{asm, global_asm};

/// All of it at EL2, one block for each GiB.
const MAIR: u64 = 0xFF00;
/// 39-bit addresses, 4 KiB granule, tables inner-shareable and cacheable, 40 bits of physical address.
const TCR: u64 = 1 << 31 | 1 << 23 | 2 << 16 | 3 << 12 | 1 << 10 | 1 << 8 | 25;
/// The bits that must be one, and: MMU, data and instruction caches.
const SCTLR: u64 = 0x30C5_0830 | 1 | 1 << 2 | 1 << 12;
/// A block of devices: attributes 0, accessed, never executed.
const DEVICE_BLOCK: u64 = 1 << 54 | 1 << 10 | 1 << 6 | 1;
/// A block of RAM: attributes 1, accessed, inner-shareable.
const RAM_BLOCK: u64 = 1 << 10 | 3 << 8 | 1 << 6 | 1 << 2 | 1;
/// EL1 is AArch64; nothing is trapped.
const HCR: u64 = 1 << 31;
/// The bits that must be one; FP and SIMD are not trapped.
const CPTR: u64 = 0x33FF;

global_asm!(
    r#"
    .section .text.header, "ax"
    .global image_header
image_header:
    b       boot_entry
    .word   0
    .quad   0                       // text_offset
    .quad   image_size
    .quad   0b0010                  // little endian, 4 KiB pages
    .quad   0, 0, 0
    .ascii  "ARM\x64"
    .word   0

    .section .text.entry, "ax"
boot_entry:
    mov     x19, x0
    msr     daifset, #0xf
    adr     x0, boot_stack_top_address
    ldr     x0, [x0]
    mov     sp, x0
    ldr     x0, =bss_start
    ldr     x1, =bss_end
1:  cmp     x0, x1
    b.hs    2f
    stp     xzr, xzr, [x0], #16
    b       1b
2:  bl      enable_mmu
    mov     x0, x19
    b       {payload_main}
    .balign 8
boot_stack_top_address:
    .quad   boot_stack_top

    // Where CPU_ON sends a core: x0 is the context id, all else is what the monitor made it.
    .global secondary_entry
secondary_entry:
    mov     x19, x0
    orr     x20, x1, x2             // what should be zero
    orr     x20, x20, x3
    mrs     x21, sctlr_el2
    mrs     x22, daif
    mrs     x23, CurrentEL
    ldr     x0, =secondary_stack_top
    mov     sp, x0
    bl      enable_mmu
    mov     x0, x19
    mov     x1, x20
    mov     x2, x21
    mov     x3, x22
    mov     x4, x23
    bl      {arrived}
    b       {secondary_main}

    // Clobbers x0 and x1.
    .global enable_mmu
enable_mmu:
    ldr     x0, ={hcr}
    msr     hcr_el2, x0
    mov     x0, #{cptr}
    msr     cptr_el2, x0
    ldr     x0, =vectors
    msr     vbar_el2, x0
    mov     x0, #{mair}
    msr     mair_el2, x0
    ldr     x0, ={tcr}
    msr     tcr_el2, x0
    ldr     x0, =level1
    msr     ttbr0_el2, x0
    dsb     sy
    tlbi    alle2
    ic      iallu
    dsb     sy
    isb
    ldr     x0, ={sctlr}
    msr     sctlr_el2, x0
    isb
    ret
    .ltorg

    .section .data.tables, "aw"
    .balign 4096
level1:
    .quad   {device}
    .set    gib, 1
    .rept   9
    .quad   gib * 0x40000000 + {ram}
    .set    gib, gib + 1
    .endr
    .fill   512 - 10, 8, 0
"#,
    payload_main = sym payload_main,
    secondary_main = sym secondary_main,
    arrived = sym arrived,
    hcr = const HCR,
    cptr = const CPTR,
    mair = const MAIR,
    tcr = const TCR,
    sctlr = const SCTLR,
    device = const DEVICE_BLOCK,
    ram = const RAM_BLOCK,
);

unsafe extern "C" {
    fn secondary_entry();
}

/// Returns where another core starts.
pub(crate) fn secondary_address() -> u64 {
    secondary_entry as *const () as u64
}

/// Returns the exception level that this runs at.
pub(crate) fn current_el() -> u64 {
    let value: u64;
    // SAFETY: reads a register that says where we are.
    unsafe { asm!("mrs {}, CurrentEL", out(reg) value, options(nomem, nostack, preserves_flags)) };
    value >> 2
}
