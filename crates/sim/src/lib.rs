#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]

#[cfg(feature = "authority")]
pub mod authority;
mod disk;
mod entropy;
mod nor;
mod otp;
mod power;

pub use disk::{Devices, Disk};
pub use entropy::{Fault, Source};
pub use nor::Nor;
pub use otp::Otp;
pub use power::{Noise, Operation, Power, Tear};

use power::Fate;
