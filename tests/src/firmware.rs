//! The programs under test.

use std::path::PathBuf;
use std::sync::OnceLock;

use release::{FlatImage, flatten_elf};

/// Names the folder that `cargo xtask build` filled.
const FOLDER: &str = "KILN_BUILD_DIR";

/// What `cargo xtask build` made.
pub struct Firmware {
    /// stage0, as it lies in flash.
    pub stage0: Vec<u8>,
    /// The provisioning stage.
    pub stage1: FlatImage,
    /// The production stage.
    pub stage2: FlatImage,
    /// The bare-metal payload, an arm64 Image.
    pub payload: FlatImage,
    /// The board's device tree.
    pub device_tree: Vec<u8>,
}

impl Firmware {
    /// Returns the firmware under test.
    ///
    /// # Panics
    /// If it was not built, with what to do.
    pub fn get() -> &'static Self {
        static FIRMWARE: OnceLock<Firmware> = OnceLock::new();
        FIRMWARE.get_or_init(|| {
            let flat =
                |name: &str| flatten_elf(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            Self {
                stage0: read("stage0.bin"),
                stage1: flat("stage1-provision.elf"),
                stage2: flat("stage2-production.elf"),
                payload: flat("payload.elf"),
                device_tree: read("qemu-virt.dtb"),
            }
        })
    }
}

/// Returns the ELF file of a program that was built for the device, with its symbols.
///
/// # Panics
/// If it was not built, with what to do.
pub fn elf(program: &str) -> Vec<u8> {
    read(&format!("{program}.elf"))
}

/// Returns the list of the crates that the stages are made of, in JSON.
///
/// # Panics
/// If it was not built, with what to do.
pub fn crates() -> Vec<u8> {
    read("crates.json")
}

fn read(name: &str) -> Vec<u8> {
    let folder = std::env::var_os(FOLDER).map(PathBuf::from).unwrap_or_else(|| {
        panic!("{FOLDER} is not set: run `cargo xtask test`, which builds the firmware and sets it")
    });
    let file = folder.join(name);
    std::fs::read(&file).unwrap_or_else(|error| {
        let file = file.display();
        panic!("cannot read {file}: {error}. Run `cargo xtask test`, which builds it")
    })
}
