//! Published test vectors through Kiln's own functions: what one is, how a list of them gets onto a device, and whether a
//! function gives what the list says.
//!
//! ```text
//!  Wycheproof ─┐                        ┌─ encode ─▶ memory of a device ─▶ parse ─▶ check
//!  CAVP, RFCs ─┴─▶ host::Collection ────┤
//!                  (each once)          └─ parse ─▶ check, with every arithmetic that a host has
//! ```
//!
//! What runs is [`boot_crypto`] as everything else in Kiln calls it; nothing here knows an algorithm. A vector counts if
//! it says what has to come out, and the whole of that was compared.
//!
//! # What it defends against
//! A wrapper that accepts what it must refuse, gives another result than the standard, or leaves plaintext behind a wrong
//! tag. And a list that is not looked at: who checks it is told neither which vectors are good nor that some are wrong on
//! purpose.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;
#[cfg(feature = "host")]
extern crate std;

mod check;
#[cfg(feature = "host")]
pub mod host;
mod list;

pub use check::{Checked, Curve, Functions, SignatureOfDer, check};
pub use list::{Group, List, Malformed, Operation, Parts, Vector, encode};
