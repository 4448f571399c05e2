//! Gives the linker script its numbers, from the memory map.

use memory_map::qemu_virt::{STAGE0_RAM, STAGE0_ROM};

fn main() {
    println!("cargo::rerun-if-changed=../linker/stage0.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../linker/stage0.ld");
    println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    for (symbol, value) in [
        ("ROM_BASE", STAGE0_ROM.base),
        ("ROM_END", STAGE0_ROM.end()),
        ("RAM_BASE", STAGE0_RAM.base),
        ("RAM_END", STAGE0_RAM.end()),
        ("STACK_SIZE", 128 * memory_map::KIB),
    ] {
        println!("cargo::rustc-link-arg-bins=--defsym={symbol}={value:#x}");
    }
}
