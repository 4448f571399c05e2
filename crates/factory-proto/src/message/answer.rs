//! What the authority answers. The payloads of messages that its role signs.

use super::{CHIP_ID_BYTES, EPHEMERAL_BYTES, MAX_SERIAL, Message, WRAPPED_BYTES, chain, decode, write_chain};
use crate::Error;
use alloc::vec::Vec;
use boot_crypto::Digest;
use sealed_image::cbor::{Decode, Reader, encode};

/// This die may be provisioned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket<'a> {
    /// SHA-256 of the whole request.
    pub request_digest: &'a Digest,
    /// The chip id, as the vendor certified it.
    pub chip_id: &'a [u8; CHIP_ID_BYTES],
    /// The request's nonce.
    pub nonce: &'a [u8; 32],
    /// The request's package.
    pub package_id: &'a Digest,
    /// Name of the one install that this die gets.
    pub install: &'a [u8; 32],
    /// The device's serial number: 1 to 64 characters of an ASN.1 PrintableString.
    pub serial: &'a str,
    /// The authority's ephemeral public key: x followed by y.
    pub ephemeral: &'a [u8; EPHEMERAL_BYTES],
    /// Content key and entropy, encrypted under the ticket key.
    pub secrets: &'a [u8; WRAPPED_BYTES],
}

impl<'a> Ticket<'a> {
    /// Encodes the payload.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| {
            e.map(8)?.u8(1)?.bytes(self.request_digest)?;
            e.u8(2)?.bytes(self.chip_id)?;
            e.u8(3)?.bytes(self.nonce)?;
            e.u8(4)?.bytes(self.package_id)?;
            e.u8(5)?.bytes(self.install)?;
            e.u8(6)?.str(self.serial)?;
            e.u8(7)?.bytes(self.ephemeral)?;
            e.u8(8)?.bytes(self.secrets)?.ok()
        })
    }

    /// Parses the payload.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the one encoding of fields within their bounds.
    pub fn decode(untrusted: &'a [u8]) -> Result<Self, Error> {
        decode(Message::Ticket, untrusted)
    }
}

impl<'b> Decode<'b> for Ticket<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(8)?;
        r.key(1)?;
        let request_digest = r.fixed()?;
        r.key(2)?;
        let chip_id = r.fixed()?;
        r.key(3)?;
        let nonce = r.fixed()?;
        r.key(4)?;
        let package_id = r.fixed()?;
        r.key(5)?;
        let install = r.fixed()?;
        r.key(6)?;
        let serial = r.text().filter(|text| is_serial(text))?;
        r.key(7)?;
        let ephemeral = r.fixed()?;
        r.key(8)?;
        Some(Self {
            request_digest,
            chip_id,
            nonce,
            package_id,
            install,
            serial,
            ephemeral,
            secrets: r.fixed()?,
        })
    }
}

/// Tells whether a text can be a serial number: it becomes an attribute of certificates, and those are
/// PrintableStrings (X.520).
fn is_serial(text: &str) -> bool {
    let printable = |byte| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => true,
        _ => b" '()+,-./:=?".contains(&byte),
    };
    (1..=MAX_SERIAL).contains(&text.len()) && text.bytes().all(printable)
}

/// The certificate request is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt<'a> {
    /// The install.
    pub install: &'a [u8; 32],
    /// SHA-256 of the certificate request's DER.
    pub csr_digest: &'a Digest,
}

impl<'a> Receipt<'a> {
    /// Encodes the payload.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| e.map(2)?.u8(1)?.bytes(self.install)?.u8(2)?.bytes(self.csr_digest)?.ok())
    }

    /// Parses the payload.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the one encoding of the fields.
    pub fn decode(untrusted: &'a [u8]) -> Result<Self, Error> {
        decode(Message::Receipt, untrusted)
    }
}

impl<'b> Decode<'b> for Receipt<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(2)?;
        r.key(1)?;
        let install = r.fixed()?;
        r.key(2)?;
        Some(Self { install, csr_digest: r.fixed()? })
    }
}

/// Here is the certificate of the closed device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release<'a> {
    /// The install.
    pub install: &'a [u8; 32],
    /// The chip id.
    pub chip_id: &'a [u8; CHIP_ID_BYTES],
    /// The device's certificate and its issuers, leaf first; DER.
    pub certificates: Vec<&'a [u8]>,
}

impl<'a> Release<'a> {
    /// Encodes the payload.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| {
            e.map(3)?.u8(1)?.bytes(self.install)?;
            e.u8(2)?.bytes(self.chip_id)?;
            write_chain(e.u8(3)?, &self.certificates)
        })
    }

    /// Parses the payload.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the one encoding of fields within their bounds.
    pub fn decode(untrusted: &'a [u8]) -> Result<Self, Error> {
        decode(Message::Release, untrusted)
    }
}

impl<'b> Decode<'b> for Release<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(3)?;
        r.key(1)?;
        let install = r.fixed()?;
        r.key(2)?;
        let chip_id = r.fixed()?;
        r.key(3)?;
        Some(Self { install, chip_id, certificates: chain(r)? })
    }
}
