//! Data cache maintenance by address, to the point of coherency.

use core::arch::asm;

/// The smallest data cache line of an Armv8-A core that Kiln runs on.
const LINE: usize = 64;

/// Writes back and drops every cache line of `value`.
pub(crate) fn clean_and_invalidate<T>(value: &T) {
    clean_range(core::ptr::from_ref(value) as usize, size_of::<T>());
}

/// Writes `bytes` back to memory, so that a core or a stage that runs with its caches off sees them.
#[inline(never)]
pub fn clean(bytes: &[u8]) {
    clean_range(bytes.as_ptr() as usize, bytes.len());
}

fn clean_range(start: usize, len: usize) {
    let mut line = start & !(LINE - 1);
    while line < start + len {
        // SAFETY: clean and invalidate by address changes no value; the range is that of a live reference.
        unsafe { asm!("dc civac, {}", in(reg) line, options(nostack, preserves_flags)) };
        line += LINE;
    }
    aarch64_cpu::asm::barrier::dsb(aarch64_cpu::asm::barrier::SY);
}
