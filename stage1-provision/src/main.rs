//! stage1 on QEMU `virt`: wires the policy of the library to the board.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![forbid(unsafe_code)]

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("stage1 runs on a device: `cargo xtask flash` builds it, makes a device and provisions it");
}
