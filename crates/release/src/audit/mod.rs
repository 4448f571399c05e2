//! What a device's storage must not show: ciphertext that another device has too, and anything in the clear.
//!
//! Both audits say how much they looked at, and both have a control: [`compare_blocks`] of a device with a copy of
//! itself finds every block, [`LeakScan::control`] finds everything that it plants.

mod blocks;
mod leaks;

pub use blocks::{BlockComparison, Payload, compare_blocks, payloads, rekeyed_bytes};
pub use leaks::{Finding, Form, LeakScan};
