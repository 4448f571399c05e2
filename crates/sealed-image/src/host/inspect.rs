//! Looking at an image without trusting it.

use crate::chain::parse_grant;
use crate::cose::UntrustedSigned;
use crate::delegation::UntrustedDelegation;
use crate::image::UntrustedImage;
use crate::message::UntrustedMessage;
use crate::sealing::Sealing;
use crate::{Compression, Error, Grant, Header, Manifest, Part, PublicKey, cbor};
use boot_crypto::{Digest, sha256};
use std::vec::Vec;

/// What an image says about itself. Nothing here is verified.
#[derive(Clone, Debug)]
pub struct Inspected<'a> {
    /// The manifest.
    pub manifest: Manifest<'a>,
    /// Its SHA-256.
    pub manifest_digest: Digest,
    /// How the payload is compressed.
    pub compression: Compression,
    /// Thumbprint of the owner root.
    pub root: Digest,
    /// What the root delegates to the keys that signed, in their order.
    pub grants: Vec<Grant<'a>>,
    /// Thumbprints of the keys that signed.
    pub signers: Vec<Digest>,
    /// Length of the whole image in bytes.
    pub image_len: u64,
    /// The manifest with its signatures (COSE_Sign), as it lies in the image.
    pub signed_manifest: &'a [u8],
}

impl<'a> Inspected<'a> {
    /// Reads the metadata of the image that `untrusted` starts with.
    ///
    /// # Errors
    /// Whatever makes it unreadable.
    pub fn of(untrusted: &'a [u8]) -> Result<Self, Error> {
        let header = Header::parse(untrusted)?;
        let expected = header.metadata_len() as usize;
        let truncated = Error::Truncated { found: untrusted.len() as u32, expected: expected as u32 };
        let image = UntrustedImage::parse(untrusted.get(..expected).ok_or(truncated)?)?;
        let malformed = |part| move |offset| Error::Malformed { part, offset };
        let delegation: UntrustedDelegation<'a> =
            cbor::parse_exact(image.delegation).map_err(malformed(Part::Delegation))?;
        let signed: UntrustedSigned<'a> =
            cbor::parse_exact(image.manifest).map_err(malformed(Part::Manifest))?;
        if !signed.is_manifest() {
            return Err(malformed(Part::Manifest)(0));
        }
        Ok(Self {
            manifest: cbor::parse_exact(signed.payload).map_err(malformed(Part::Manifest))?,
            manifest_digest: sha256(signed.payload),
            compression: Sealing::parse(image.sealing)?.compression,
            root: delegation.root_key.thumbprint(),
            grants: delegation.certificates().map(parse_grant).collect::<Result<_, _>>()?,
            signers: signed.entries().map(|entry| *entry.kid).collect(),
            image_len: header.image_len().ok_or(truncated)?,
            signed_manifest: image.manifest,
        })
    }
}

/// What a signed message says about itself. Nothing here is verified: what [`verify_message`](crate::verify_message)
/// has accepted before is that of the owner's.
#[derive(Clone, Debug)]
pub struct InspectedMessage<'a> {
    /// What was signed.
    pub payload: &'a [u8],
    /// The owner root.
    pub root: PublicKey<'a>,
    /// What the root delegates to the keys that signed, in their order.
    pub grants: Vec<Grant<'a>>,
}

impl<'a> InspectedMessage<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// Whatever makes it unreadable.
    pub fn of(untrusted: &'a [u8]) -> Result<Self, Error> {
        let malformed = |part| move |offset| Error::Malformed { part, offset };
        let message: UntrustedMessage<'a> = cbor::parse_exact(untrusted).map_err(malformed(Part::Message))?;
        let delegation: UntrustedDelegation<'a> =
            cbor::parse_exact(message.delegation).map_err(malformed(Part::Delegation))?;
        let signed: UntrustedSigned<'a> =
            cbor::parse_exact(message.signed).map_err(malformed(Part::Message))?;
        Ok(Self {
            payload: signed.payload,
            root: delegation.root_key,
            grants: delegation.certificates().map(parse_grant).collect::<Result<_, _>>()?,
        })
    }
}
