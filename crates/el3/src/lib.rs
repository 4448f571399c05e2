//! Entry, vectors, MMU, monitor and exit at EL3: the assembly of every stage and the little unsafe code around it.
//!
//! # What a stage gets
//! All Rust runs with the MMU and caches on, on a stack in secure RAM, with interrupts masked. stage0 starts at
//! `reset`, executes in place and finds secure RAM cleared; the other stages start at
//! `start`, in the RAM that stage0 decrypted them to. A stage names its `main` and what it does about
//! a fatal error with `entry!`.
//!
//! # Threats
//! *Stale secrets.* A warm reset keeps secure RAM, so the reset code clears all of it before any Rust runs.
//! `exit::stop` clears what it can reach, registers included, before the core waits for ever, and so
//! does the jump to the next stage with all that stage0 used.
//! *Data as code.* Writable memory is never executable (`SCTLR_EL3.WXN` holds even if a table entry were wrong).
//! stage0's text is the only executable memory of stage0; a later stage's is its image.
//! *The normal world.* It enters EL3 through the SMC vector only: every register is saved before Rust runs and
//! restored after it, but for the results; vector registers are saved too, since Rust may use them.
#![cfg(target_os = "none")]
#![no_std]

pub mod cache;
pub mod cores;
pub mod exit;
pub mod mmu;
pub mod monitor;
pub mod park;
pub mod reset;
pub mod start;
mod vectors;

use aarch64_cpu::registers::{CNTPCT_EL0, MPIDR_EL1, Readable};

/// Names what a stage runs: `entry!(main, fatal)`.
///
/// `main` is `fn(u64) -> !`: stage0 gets the counter at reset, a later stage the address of its `BootInfo`.
/// `fatal` is `fn(u16) -> !`: it tells the world the refusal code and ends in [`exit::stop`]. It is entered at
/// most once; a fatal error inside it, or on another core, stops that core at once.
#[macro_export]
macro_rules! entry {
    ($main:path, $fatal:path) => {
        const _: () = {
            #[unsafe(export_name = "kiln_main")]
            extern "C" fn exported_main(argument: u64) -> ! {
                let main: fn(u64) -> ! = $main;
                main(argument)
            }

            #[unsafe(export_name = "kiln_fatal")]
            extern "C" fn exported_fatal(code: u16) -> ! {
                let fatal: fn(u16) -> ! = $fatal;
                fatal(code)
            }
        };
    };
}

/// Ends the stage with a refusal code, through the `fatal` function that it named in [`entry!`].
pub fn fatal(code: u16) -> ! {
    unsafe extern "C" {
        fn kiln_fatal(code: u16) -> !;
    }
    if exit::STOPPING.begin() {
        exit::stop();
    }
    // SAFETY: `entry!` defines the symbol as a safe function with this signature.
    unsafe { kiln_fatal(code) }
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    /// `FailCode::Panic`: the number is stable, and `el3` depends on no policy.
    const PANIC: u16 = 900;
    fatal(PANIC)
}

/// Returns the number of the running core: its affinity level 0. Cores of other clusters never leave the reset
/// code.
pub fn core() -> usize {
    (MPIDR_EL1.get() & 0xFF) as usize
}

/// Returns the system counter, in ticks.
pub fn counter() -> u64 {
    CNTPCT_EL0.get()
}

/// Returns the frequency of the system counter in Hz, as the reset code of the machine set it.
pub fn counter_hz() -> u64 {
    aarch64_cpu::registers::CNTFRQ_EL0.get()
}
