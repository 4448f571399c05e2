//! A bare-metal program for the normal world: stands in for Linux where there is none, and tests the monitor's
//! PSCI as no operating system does, with arguments that are wrong.
//!
//! It has the header of an arm64 `Image`, so a boot loader starts it as it starts a kernel, and reads its task
//! from the command line (see [`payload::boot_args`]). All output goes to UART0:
//!
//! ```text
//! PSCI ok NAME
//! PSCI FAIL NAME got 0x0 want 0x1
//! PSCI done ok=N fail=M
//! KILN-PAYLOAD cpus=N token=TOKEN
//! ```
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod bare;

#[cfg(not(target_os = "none"))]
fn main() {
    println!("The payload runs on a board, not here: build it with --target aarch64-unknown-none.");
}
