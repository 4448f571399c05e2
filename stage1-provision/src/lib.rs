#![doc = include_str!("../README.md")]
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod born;
mod closing;
mod error;
mod handoff;
mod hardware;
pub mod journal;
pub mod machine;
mod package;
mod payload;
mod place;
mod random;
mod read_back;
mod run;
pub mod secret_entry;
pub mod self_test;
mod session;
mod tell;
mod trust;

pub use error::Error;
pub use handoff::Handoff;
pub use hardware::{Board, Hardware};
pub use run::{End, provision};
pub use tell::{not_taken, refuse};
