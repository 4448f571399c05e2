//! Boot tests: whole devices in QEMU, with images that are right, and with images as an adversary would leave them.
//!
//! ```text
//!  Firmware      what `cargo xtask build` made: stage0, stage2, payload, device tree
//!  Maker         an owner and a die: signs and seals, also what no honest release would
//!  forge         changes a sealed image at a place that has a name
//!  Device        fuses, boot slots, OS slots ──▶ boots in QEMU ──▶ emulator::Report
//!  factory       an owner, a vendor, a package and an authority: dies that provision themselves in QEMU
//!  leak          looks for keys in memory
//!  chance        random choices that can be made again
//!  verdict       asserts the exact code, the stage that refused, and that nothing unverified ran
//! ```
//!
//! Run through `cargo xtask test`, which builds the firmware and says where it is.
#![forbid(unsafe_code)]

mod device;
pub mod factory;
mod firmware;
pub mod forge;
pub mod leak;
mod maker;
pub mod poke;
mod seed;
pub mod verdict;

pub use device::{Device, TOKEN, expectation};
pub use factory::{Die, Factory};
pub use firmware::{Firmware, crates, elf};
pub use maker::{
    Maker, OsSlot, VERSION, bundle_payload, cmdline, delegate, fresh_key, laid_out, private_owner,
};
pub use seed::chance;
