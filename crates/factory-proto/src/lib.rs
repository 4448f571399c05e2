#![doc = include_str!("../README.md")]
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

#[cfg(feature = "host")]
pub mod authority;
pub mod device;
mod error;
#[cfg(feature = "csr")]
pub mod identity;
pub mod link;
mod message;
mod signed;

pub use error::{Error, Field};
pub use message::{
    CHIP_ID_BYTES, ClosingProof, Csr, EPHEMERAL_BYTES, Hello, MAX_CERTIFICATE, MAX_CHAIN, MAX_EVIDENCE,
    MAX_SERIAL, MAX_TEXT, Message, Outcome, Phase, Progress, Receipt, Refusal, Release, Request, Ticket,
    WRAPPED_BYTES,
};
pub use signed::{Trust, content_type};
