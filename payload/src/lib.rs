//! The part of the payload that does not depend on the machine it runs on.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

pub mod boot_args;
