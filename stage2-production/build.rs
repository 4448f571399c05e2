//! Gives the linker script its numbers, from the memory map.

use memory_map::qemu_virt::{MAX_CORES, STAGE_CODE, STAGE_RUN};

fn main() {
    println!("cargo::rerun-if-changed=../linker/stage.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("none") {
        return;
    }
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../linker/stage.ld");
    println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    for (symbol, value) in [
        ("RUN_BASE", STAGE_RUN.base),
        ("CODE_END", STAGE_CODE.end()),
        ("RUN_END", STAGE_RUN.end()),
        ("STACK_SIZE", 128 * memory_map::KIB),
        ("MAX_CORES", MAX_CORES as u64),
    ] {
        println!("cargo::rustc-link-arg-bins=--defsym={symbol}={value:#x}");
    }
}
