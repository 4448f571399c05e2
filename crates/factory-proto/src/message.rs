//! What the messages say. Every one is a CBOR map in its one encoding; `kiln.cddl` describes them all.

mod answer;
mod question;
mod report;

pub use answer::{Receipt, Release, Ticket};
pub use question::{ClosingProof, Csr, Request};
pub use report::{Hello, Outcome, Phase, Progress, Refusal};

use crate::Error;
use alloc::vec::Vec;
use sealed_image::cbor::{self, Decode, Encoded, Reader};

/// Length of a chip id.
pub const CHIP_ID_BYTES: usize = 16;
/// Length of an ephemeral public key: x followed by y.
pub const EPHEMERAL_BYTES: usize = 64;
/// Length of a ticket's secrets: content key, entropy, tag.
pub const WRAPPED_BYTES: usize = 32 + 32 + 16;
/// Most certificates of a chain.
pub const MAX_CHAIN: usize = 4;
/// Longest certificate or certificate request, in bytes.
pub const MAX_CERTIFICATE: usize = 2048;
/// Longest statement, and longest fuse facts, in bytes.
pub const MAX_EVIDENCE: usize = 1024;
/// Longest serial number, in bytes.
pub const MAX_SERIAL: usize = 64;
/// Longest text of a refusal, in bytes.
pub const MAX_TEXT: usize = 256;

/// The messages, by their number in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Message {
    /// Device to authority: may this die be provisioned?
    Request = 1,
    /// Authority to device: it may, with this content key.
    Ticket = 2,
    /// Device to authority: certify this key.
    Csr = 3,
    /// Authority to device: the certificate request is stored.
    Receipt = 4,
    /// Device to authority: this die is closed.
    ClosingProof = 5,
    /// Authority to device: here is the certificate.
    Release = 6,
    /// Authority or station to device: no, and why.
    Refusal = 7,
    /// Device to station: a step begins or has ended.
    Progress = 8,
    /// Device to station: this is how it ended.
    Outcome = 9,
    /// Station to device: somebody listens.
    Hello = 10,
}

impl Message {
    /// Every message, in the order of their numbers.
    pub const ALL: [Self; 10] = [
        Self::Request,
        Self::Ticket,
        Self::Csr,
        Self::Receipt,
        Self::ClosingProof,
        Self::Release,
        Self::Refusal,
        Self::Progress,
        Self::Outcome,
        Self::Hello,
    ];

    /// Returns the number in frames.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Finds a message by its number.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|message| message.number() == number)
    }

    /// Returns the message that answers this one; `None` for what is no question.
    pub const fn answer(self) -> Option<Self> {
        match self {
            Self::Request => Some(Self::Ticket),
            Self::Csr => Some(Self::Receipt),
            Self::ClosingProof => Some(Self::Release),
            _ => None,
        }
    }

    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Ticket => "ticket",
            Self::Csr => "csr",
            Self::Receipt => "receipt",
            Self::ClosingProof => "closing-proof",
            Self::Release => "release",
            Self::Refusal => "refusal",
            Self::Progress => "progress",
            Self::Outcome => "outcome",
            Self::Hello => "hello",
        }
    }
}

/// Parses the one encoding of a message's payload.
fn decode<'a, T: Decode<'a>>(message: Message, untrusted: &'a [u8]) -> Result<T, Error> {
    cbor::parse_exact(untrusted).map_err(|offset| Error::Malformed { message, offset })
}

/// Reads a byte string of 1 to `most` bytes.
fn bytes_up_to<'a>(r: &mut Reader<'a>, most: usize) -> Option<&'a [u8]> {
    r.bytes().filter(|bytes| (1..=most).contains(&bytes.len()))
}

/// Reads a chain of 1 to [`MAX_CHAIN`] certificates.
fn chain<'a>(r: &mut Reader<'a>) -> Option<Vec<&'a [u8]>> {
    let count = r.array_up_to(MAX_CHAIN).filter(|count| *count > 0)?;
    (0..count).map(|_| bytes_up_to(r, MAX_CERTIFICATE)).collect()
}

/// Writes a chain of certificates.
fn write_chain(e: &mut minicbor::Encoder<Vec<u8>>, chain: &[&[u8]]) -> Encoded {
    e.array(chain.len() as u64)?;
    for certificate in chain {
        e.bytes(certificate)?;
    }
    Ok(())
}
