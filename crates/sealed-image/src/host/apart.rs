//! Verifying parts of an image that lie by themselves, with the code that verifies whole images.
//!
//! # Threats
//! Everything here is the adversary's. A signed manifest has neither its delegations nor its payload with it: whoever
//! verifies it brings the delegations, which are believed only as far as the root has signed them, and learns nothing about
//! any payload.

use crate::chain::{Root, Trust, Verifier};
use crate::cose::{PublicKey, UntrustedCertificate, UntrustedSigned};
use crate::table::ENTRY_BYTES;
use crate::{
    Error, Grant, HEADER_BYTES, Header, MAX_METADATA, Manifest, PAYLOAD_ALIGN, Part, Policy, UntrustedImage,
    cbor,
};
use std::vec::Vec;

/// Verifies a signed manifest as a device verifies that of an image: the chain from a fused root through `delegation`, which
/// is the delegation part of an image, to its signatures, and what it says against the policy.
///
/// It is put into an image whose chunks have no digests. Devices look at those last, so the image is refused for
/// [`Error::PlainDigest`] where all that can be known of a manifest alone is right, and for no other reason.
///
/// # Errors
/// Why a device would refuse every image with this manifest.
pub fn verify_manifest<'a, V: Verifier>(
    delegation: &[u8],
    untrusted: &'a [u8],
    policy: &Policy<'_>,
) -> Result<Manifest<'a>, Error> {
    let malformed = |offset| Error::Malformed { part: Part::Manifest, offset };
    let signed: UntrustedSigned<'a> = cbor::parse_exact(untrusted).map_err(malformed)?;
    let manifest = cbor::parse_exact::<Manifest<'a>>(signed.payload).map_err(malformed);
    let most = u64::from(MAX_METADATA) / ENTRY_BYTES as u64;
    let chunks = manifest.as_ref().map_or(1, Manifest::chunk_count).clamp(1, most) as u32;
    let image = around(delegation, untrusted, chunks);
    match UntrustedImage::parse(&image)?.verify::<V>(policy) {
        Ok(_) | Err(Error::PlainDigest) => manifest,
        Err(error) => Err(error),
    }
}

/// Makes the metadata of an image of these parts, with this number of empty chunks.
fn around(delegation: &[u8], manifest: &[u8], chunks: u32) -> Vec<u8> {
    let end = HEADER_BYTES + delegation.len() + manifest.len() + 1 + chunks as usize * ENTRY_BYTES;
    let header = Header {
        delegation_len: delegation.len() as u32,
        manifest_len: manifest.len() as u32,
        sealing_len: 1,
        chunk_count: chunks,
        payload_offset: end.next_multiple_of(PAYLOAD_ALIGN as usize) as u32,
        payload_len: 0,
    };
    let mut image = header.encode().to_vec();
    image.extend(delegation);
    image.extend(manifest);
    image.resize(header.payload_offset as usize, 0);
    image
}

/// Verifies a delegation certificate with the root's public key, x followed by y: as a device verifies it in whatever
/// it delegates for.
///
/// # Errors
/// Why a device would refuse everything that the delegated key signs: a root that is not among `roots` or was revoked,
/// another root's certificate, a signature that does not hold, a published test key.
pub fn verify_certificate<'a>(
    untrusted: &'a [u8],
    root: &[u8; 64],
    roots: &[Root],
    refuse_test_keys: bool,
) -> Result<Grant<'a>, Error> {
    let certificate: UntrustedCertificate<'a> =
        cbor::parse_exact(untrusted).map_err(|offset| Error::Malformed { part: Part::Delegation, offset })?;
    Trust { roots, refuse_test_keys }.verify_certificate(&PublicKey::P256(*root), &certificate)
}
