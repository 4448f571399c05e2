//! The production stage: loads Linux and stays resident at EL3.
//!
//! # Threats
//! *Who owns the disk* writes every byte of both OS slots at any time. Each byte is read once: metadata into secure
//! RAM, payloads, still encrypted, to where they will run. Then every device that could change them by DMA is
//! reset, and only then is anything decrypted ([`load`]). Objects of different releases cannot be mixed: a signed
//! bundle names each by the digest of its manifest.
//! *Who owns the machine's own device tree* can say how much memory and how many cores there are, within the bounds
//! of the memory map, and nothing else ([`device_tree`]). Linux gets the signed tree and the signed command line.
//! *Who disturbs the core* while it decides turns one decision round: each is taken twice, the second time from the page of the
//! handoff on, and the two have to be one ([`load::Loaded::confirm`]).
//! *Root in Linux* can call the monitor with anything: [`smccc`] and [`psci`] check every argument.
//!
//! A slot that fails is wiped from memory, its code is logged, and the other slot is tried.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod boot;
pub mod closing;
pub mod device_tree;
pub mod held;
pub mod kernel_image;
pub mod load;
mod open;
mod place;
pub mod psci;
pub mod smccc;
