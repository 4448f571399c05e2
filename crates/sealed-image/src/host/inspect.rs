//! Looking at an image without trusting it.

use crate::chain::parse_grant;
use crate::cose::{UntrustedCertificate, UntrustedSigned};
use crate::delegation::UntrustedDelegation;
use crate::image::UntrustedImage;
use crate::message::UntrustedMessage;
use crate::sealing::{Sealing, WRAPPED_BYTES};
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
    /// Length of the data key as it is wrapped.
    pub wrapped_key_bytes: usize,
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
    /// The root key with what it delegates, as it lies in the image.
    pub delegation: &'a [u8],
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
            wrapped_key_bytes: WRAPPED_BYTES,
            root: delegation.root_key.thumbprint(),
            grants: delegation.certificates().map(parse_grant).collect::<Result<_, _>>()?,
            signers: signed.entries().map(|entry| *entry.kid).collect(),
            image_len: header.image_len().ok_or(truncated)?,
            signed_manifest: image.manifest,
            delegation: image.delegation,
        })
    }
}

/// What a signed message says about itself. Nothing here is verified: what [`verify_message`](crate::verify_message)
/// has accepted before is that of the owner's.
#[derive(Clone, Debug)]
pub struct InspectedMessage<'a> {
    /// What was signed.
    pub payload: &'a [u8],
    /// What it is said to be.
    pub content_type: Option<&'a str>,
    /// The owner root.
    pub root: PublicKey<'a>,
    /// What the root delegates to the keys that signed, in their order.
    pub grants: Vec<Grant<'a>>,
    /// The root key with what it delegates, as it lies in the message.
    pub delegation: &'a [u8],
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
            content_type: signed.content_type(),
            root: delegation.root_key,
            grants: delegation.certificates().map(parse_grant).collect::<Result<_, _>>()?,
            delegation: message.delegation,
        })
    }
}

/// What a signed manifest that lies by itself says. Nothing here is verified.
#[derive(Clone, Debug)]
pub struct InspectedManifest<'a> {
    /// The manifest.
    pub manifest: Manifest<'a>,
    /// Its SHA-256.
    pub manifest_digest: Digest,
    /// Thumbprints of the keys that are said to have signed.
    pub signers: Vec<Digest>,
}

impl<'a> InspectedManifest<'a> {
    /// Reads a manifest with its signatures (COSE_Sign), without the delegations that lie next to it in an image.
    ///
    /// # Errors
    /// Whatever makes it unreadable.
    pub fn of(untrusted: &'a [u8]) -> Result<Self, Error> {
        let malformed = |offset| Error::Malformed { part: Part::Manifest, offset };
        let signed: UntrustedSigned<'a> = cbor::parse_exact(untrusted).map_err(malformed)?;
        if !signed.is_manifest() {
            return Err(malformed(0));
        }
        Ok(Self {
            manifest: cbor::parse_exact(signed.payload).map_err(malformed)?,
            manifest_digest: sha256(signed.payload),
            signers: signed.entries().map(|entry| *entry.kid).collect(),
        })
    }
}

/// What a delegation certificate says. Nothing here is verified.
#[derive(Clone, Copy, Debug)]
pub struct InspectedCertificate<'a> {
    /// Thumbprint of the root that is said to have signed.
    pub root: Digest,
    /// What is delegated to which key.
    pub grant: Grant<'a>,
}

impl<'a> InspectedCertificate<'a> {
    /// Reads a certificate.
    ///
    /// # Errors
    /// Whatever makes it unreadable.
    pub fn of(untrusted: &'a [u8]) -> Result<Self, Error> {
        let malformed = |offset| Error::Malformed { part: Part::Delegation, offset };
        let certificate: UntrustedCertificate<'a> = cbor::parse_exact(untrusted).map_err(malformed)?;
        Ok(Self { root: *certificate.root, grant: parse_grant(&certificate)? })
    }
}
