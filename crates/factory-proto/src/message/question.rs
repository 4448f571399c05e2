//! What a device asks the authority.

use super::{CHIP_ID_BYTES, EPHEMERAL_BYTES, MAX_CERTIFICATE, MAX_EVIDENCE, Message};
use super::{bytes_up_to, chain, decode, write_chain};
use crate::Error;
use alloc::vec::Vec;
use boot_crypto::Digest;
use sealed_image::cbor::{Decode, Reader, encode};

/// Version of the protocol, the first field of a request.
const VERSION: u8 = 1;

/// May this die be provisioned? The payload of a COSE_Sign1 by the stage's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Random, and never used before.
    pub nonce: &'a [u8; 32],
    /// Manifest digest of the package's index.
    pub package_id: &'a Digest,
    /// Public half of the key that the ticket's secrets are encrypted to: x followed by y.
    pub ephemeral: &'a [u8; EPHEMERAL_BYTES],
    /// The silicon vendor's certificate for the die key, leaf first; DER.
    pub die_chain: Vec<&'a [u8]>,
    /// What stage0 states about this boot, signed by the die key.
    pub statement: &'a [u8],
    /// The fuses whose digest the statement holds.
    pub fuse_facts: &'a [u8],
    /// The board.
    pub board: &'a str,
}

impl<'a> Request<'a> {
    /// Encodes the payload.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| {
            e.map(8)?.u8(1)?.u8(VERSION)?;
            e.u8(2)?.bytes(self.nonce)?;
            e.u8(3)?.bytes(self.package_id)?;
            e.u8(4)?.bytes(self.ephemeral)?;
            write_chain(e.u8(5)?, &self.die_chain)?;
            e.u8(6)?.bytes(self.statement)?;
            e.u8(7)?.bytes(self.fuse_facts)?;
            e.u8(8)?.str(self.board)?.ok()
        })
    }

    /// Parses the payload.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the one encoding of fields within their bounds.
    pub fn decode(untrusted: &'a [u8]) -> Result<Self, Error> {
        decode(Message::Request, untrusted)
    }
}

impl<'b> Decode<'b> for Request<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(8)?;
        r.key(1)?;
        r.key(VERSION)?;
        r.key(2)?;
        let nonce = r.fixed()?;
        r.key(3)?;
        let package_id = r.fixed()?;
        r.key(4)?;
        let ephemeral = r.fixed()?;
        r.key(5)?;
        let die_chain = chain(r)?;
        r.key(6)?;
        let statement = bytes_up_to(r, MAX_EVIDENCE)?;
        r.key(7)?;
        let fuse_facts = bytes_up_to(r, MAX_EVIDENCE)?;
        r.key(8)?;
        let board = r.name()?;
        Some(Self { nonce, package_id, ephemeral, die_chain, statement, fuse_facts, board })
    }
}

/// Certify this key. The payload of a COSE_Sign1 by the stage's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Csr<'a> {
    /// The install, from the ticket.
    pub install: &'a [u8; 32],
    /// Digest of the request that the ticket answered.
    pub request_digest: &'a Digest,
    /// The certificate request: PKCS#10, DER.
    pub der: &'a [u8],
}

impl<'a> Csr<'a> {
    /// Encodes the payload.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| {
            e.map(3)?.u8(1)?.bytes(self.install)?;
            e.u8(2)?.bytes(self.request_digest)?;
            e.u8(3)?.bytes(self.der)?.ok()
        })
    }

    /// Parses the payload.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the one encoding of fields within their bounds.
    pub fn decode(untrusted: &'a [u8]) -> Result<Self, Error> {
        decode(Message::Csr, untrusted)
    }
}

impl<'b> Decode<'b> for Csr<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(3)?;
        r.key(1)?;
        let install = r.fixed()?;
        r.key(2)?;
        let request_digest = r.fixed()?;
        r.key(3)?;
        Some(Self { install, request_digest, der: bytes_up_to(r, MAX_CERTIFICATE)? })
    }
}

/// This die is closed. Unsigned: the statement in it is signed by the die key, which is proof enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosingProof<'a> {
    /// The install.
    pub install: &'a [u8; 32],
    /// The chip id.
    pub chip_id: &'a [u8; CHIP_ID_BYTES],
    /// What stage0 states about this boot, signed by the die key.
    pub statement: &'a [u8],
    /// The fuses whose digest the statement holds.
    pub fuse_facts: &'a [u8],
}

impl<'a> ClosingProof<'a> {
    /// Encodes the message.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| {
            e.map(4)?.u8(1)?.bytes(self.install)?;
            e.u8(2)?.bytes(self.chip_id)?;
            e.u8(3)?.bytes(self.statement)?;
            e.u8(4)?.bytes(self.fuse_facts)?.ok()
        })
    }

    /// Parses the message.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the one encoding of fields within their bounds.
    pub fn decode(untrusted: &'a [u8]) -> Result<Self, Error> {
        decode(Message::ClosingProof, untrusted)
    }
}

impl<'b> Decode<'b> for ClosingProof<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(4)?;
        r.key(1)?;
        let install = r.fixed()?;
        r.key(2)?;
        let chip_id = r.fixed()?;
        r.key(3)?;
        let statement = bytes_up_to(r, MAX_EVIDENCE)?;
        r.key(4)?;
        Some(Self { install, chip_id, statement, fuse_facts: bytes_up_to(r, MAX_EVIDENCE)? })
    }
}
