#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "host")]
extern crate std;

mod error;
mod fuses;
#[cfg(feature = "host")]
mod image;
mod map;
mod reader;
mod redundancy;
mod state;
pub mod vendor;

pub use error::Error;
pub use fuses::{Fuses, RootSlot};
#[cfg(feature = "host")]
pub use image::{Die, OtpImage};
pub use map::{ROLES, ROOT_SLOTS, Row, Rows, WORDS};
pub use redundancy::{Flag, MAX_DRIFT, MAX_LEVEL};
pub use state::Lifecycle;
