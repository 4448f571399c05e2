//! The policy of stage0: which image may run, and what the next stage is told.
//!
//! # Threats
//! Whoever owns the flash writes every byte of both boot slots, at any time before reset. So: every byte is read
//! once, into secure RAM, and judged there; a header bounds what is read, and nothing else is parsed before the
//! signature over it was verified; keys, role and rollback floor come from the fuses and from the lifecycle, never
//! from the image. A slot that fails costs nothing but its own contents: the other one is tried, and the code of
//! the failure travels on. What a failed slot left in RAM is wiped before the next is tried.
//!
//! The jump needs evidence that every chunk was opened exactly once and matched the signed digest
//! ([`sealed_image::Opened`]), so skipping one check does not reach it.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod dice;
mod report;
mod select;

pub use report::{BOARD_NAME, Refused, refuse, say_refused};
pub use select::{Entry, Memory, boot};
