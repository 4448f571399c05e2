//! What `cargo xtask` does, as a library: the tests use it to prepare tools, build firmware and make devices.
#![forbid(unsafe_code)]

pub mod apt;
pub mod attended;
pub mod bench;
pub mod boot_report;
pub mod ci;
mod crates;
pub mod debian;
pub mod device;
pub mod digest;
pub mod doctor;
pub mod elf;
pub mod exec;
pub mod explain;
pub mod firmware;
pub mod flash;
pub mod fuzz;
pub mod images;
pub mod initramfs;
pub mod input;
pub mod kernel_image;
pub mod local_authority;
mod mutants;
mod mutation;
pub mod panic_check;
pub mod progress;
pub mod release;
mod reproducible;
pub mod run;
pub mod size;
pub mod test;
pub mod tools;
mod verification;
pub mod workspace;
