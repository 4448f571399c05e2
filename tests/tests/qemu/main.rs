//! Whole devices in QEMU. They are one program, so that one of them is never alone on a machine that has room for two.

mod agreement;
mod board;
mod boot_slot;
mod compressed;
mod constant_time;
mod fallback;
mod fit;
mod flips;
mod fuses;
mod kills;
mod leaks;
mod linux;
mod os_slot;
mod provisioning;
mod provisioning_attacks;
mod provisioning_blocks;
mod provisioning_fleet;
mod provisioning_leaks;
mod provisioning_refusals;
mod provisioning_release;
mod provisioning_resume;
mod psci;
mod vectors;
