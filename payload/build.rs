//! Gives the linker script its one number.

use memory_map::qemu_virt::KERNEL_LOAD;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=payload.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        let folder = env!("CARGO_MANIFEST_DIR");
        println!("cargo::rustc-link-arg-bins=--script={folder}/payload.ld");
        println!("cargo::rustc-link-arg-bins=--defsym=KERNEL_LOAD={KERNEL_LOAD:#x}");
    }
}
