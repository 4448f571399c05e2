#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

#[cfg(feature = "host")]
extern crate std;

pub mod burn;
mod error;
mod facts;
mod fuses;
#[cfg(feature = "host")]
mod image;
mod map;
mod plan;
mod policy;
mod reader;
mod redundancy;
mod state;
pub mod vendor;

pub use error::Error;
pub use facts::{FuseFacts, Record, RootFact, fuse_tag};
pub use fuses::{Fuses, RootSlot};
#[cfg(feature = "host")]
pub use image::{Die, OtpImage};
pub use map::{ROLES, ROOT_SLOTS, Row, Rows, WORDS};
pub use plan::{Closing, Development, Fabrication, Plan, PreProvisioning};
pub use policy::{Deviation, FusePolicy, compare, deviations};
pub use redundancy::{Flag, MAX_DRIFT, MAX_LEVEL};
pub use state::Lifecycle;
