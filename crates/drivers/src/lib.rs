//! Drivers for the devices of Kiln's boards, each safe once the board has made its registers' pointer, and the heap of its stages.
//!
//! # Threats
//! A block or entropy device is another's: what it returns is data to be verified, never a length or an address
//! to be trusted. It reaches DRAM by DMA only, so every buffer in secure RAM goes through a bounce pool, and the
//! stage resets every such device before the first plaintext reaches DRAM (`virtio::reset_all`).
#![cfg_attr(target_os = "none", no_std)]

pub mod heap;
mod mapped;
pub mod nor;
pub mod otp;
pub use mapped::{MappedNor, MappedOtp};

#[cfg(target_os = "none")]
pub mod gic;
#[cfg(target_os = "none")]
pub mod gpio;
#[cfg(target_os = "none")]
pub mod uart;
#[cfg(target_os = "none")]
pub mod virtio;
