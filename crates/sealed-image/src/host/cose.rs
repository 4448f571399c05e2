//! COSE on the writing side, spelled as RFC 9052 and the README do; the reader has the same as constants.

use super::{SealError, Signer};
use crate::cbor::encode;
use crate::cose::{MAX_SIGNATURES, sign_digest, sign1_digest};
use crate::{Algorithm, PublicKey};
use minicbor::data::Tag;
use std::vec::Vec;

const HEADER_ALGORITHM: u8 = 1;
const HEADER_CONTENT_TYPE: u8 = 3;
const HEADER_KID: u8 = 4;
const DELEGATION_TYPE: &str = "application/kiln-delegation+cbor";
const MANIFEST_TYPE: &str = "application/kiln-manifest+cbor";

/// Encodes a public key as COSE_Key.
pub fn encode_key(key: &PublicKey<'_>) -> Vec<u8> {
    encode(|e| match key {
        PublicKey::P256(point) => {
            let (x, y) = point.split_at(32);
            e.map(4)?.u8(1)?.u8(2)?.i8(-1)?.u8(1)?.i8(-2)?.bytes(x)?.i8(-3)?.bytes(y)?.ok()
        }
        PublicKey::Rsa(modulus) => {
            e.map(3)?.u8(1)?.u8(3)?.i8(-1)?.bytes(modulus)?.i8(-2)?.bytes(&[1, 0, 1])?.ok()
        }
    })
}

/// Makes a delegation certificate: a COSE_Sign1 by the root over the encoded grant.
///
/// # Errors
/// The signer's, and a root that is not P-256.
pub fn certify(root: &dyn Signer, grant: &[u8]) -> Result<Vec<u8>, SealError> {
    let key = root.public_key();
    if key.algorithm() != Algorithm::Es256 {
        return Err(SealError::RootAlgorithm);
    }
    let protected = encode(|e| {
        e.map(3)?.u8(HEADER_ALGORITHM)?.i8(Algorithm::Es256 as i8)?;
        e.u8(HEADER_CONTENT_TYPE)?.str(DELEGATION_TYPE)?.u8(HEADER_KID)?.bytes(&key.thumbprint())?.ok()
    });
    sign1(root, &protected, grant)
}

/// Makes a message that one key signs, outside of any role: a COSE_Sign1, which
/// [`UntrustedSign1`](crate::cose::UntrustedSign1) reads.
///
/// # Errors
/// The signer's, and a key that is not P-256.
pub fn sign1_message(key: &dyn Signer, content_type: &str, payload: &[u8]) -> Result<Vec<u8>, SealError> {
    if key.public_key().algorithm() != Algorithm::Es256 {
        return Err(SealError::RootAlgorithm);
    }
    let protected = encode(|e| {
        e.map(2)?.u8(HEADER_ALGORITHM)?.i8(Algorithm::Es256 as i8)?;
        e.u8(HEADER_CONTENT_TYPE)?.str(content_type)?.ok()
    });
    sign1(key, &protected, payload)
}

fn sign1(key: &dyn Signer, protected: &[u8], payload: &[u8]) -> Result<Vec<u8>, SealError> {
    let signature = key.sign(&sign1_digest(protected, payload)).map_err(SealError::Signer)?;
    Ok(encode(|e| {
        e.tag(Tag::new(18))?.array(4)?.bytes(protected)?.map(0)?.bytes(payload)?.bytes(&signature)?.ok()
    }))
}

/// Makes the delegation part of an image from the root's public key and its certificates.
pub fn delegation(root: &PublicKey<'_>, certificates: &[Vec<u8>]) -> Vec<u8> {
    let mut part = encode(|e| e.array(certificates.len() as u64 + 1)?.ok());
    part.extend(encode_key(root));
    certificates.iter().for_each(|certificate| part.extend(certificate));
    part
}

/// Makes the manifest part of an image: a COSE_Sign over the encoded manifest, signed in the order of the
/// certificates.
///
/// # Errors
/// The signers', and none or too many of them.
pub fn sign_manifest(manifest: &[u8], signers: &[&dyn Signer]) -> Result<Vec<u8>, SealError> {
    sign(MANIFEST_TYPE, manifest, signers)
}

/// Makes a signed message of a role. `delegation` holds a certificate for each signer, in the same order.
///
/// # Errors
/// The signers', and none or too many of them.
pub fn sign_message(
    content_type: &str,
    payload: &[u8],
    delegation: &[u8],
    signers: &[&dyn Signer],
) -> Result<Vec<u8>, SealError> {
    let signed = sign(content_type, payload, signers)?;
    Ok(encode(|e| e.array(2)?.bytes(delegation)?.bytes(&signed)?.ok()))
}

/// Makes a COSE_Sign.
fn sign(content_type: &str, payload: &[u8], signers: &[&dyn Signer]) -> Result<Vec<u8>, SealError> {
    if signers.is_empty() || signers.len() > MAX_SIGNATURES {
        return Err(SealError::SignerCount { found: signers.len() });
    }
    let body = encode(|e| e.map(1)?.u8(HEADER_CONTENT_TYPE)?.str(content_type)?.ok());
    let mut signatures = Vec::new();
    for signer in signers {
        let key = signer.public_key();
        let protected = encode(|e| {
            e.map(2)?.u8(HEADER_ALGORITHM)?.i8(key.algorithm() as i8)?;
            e.u8(HEADER_KID)?.bytes(&key.thumbprint())?.ok()
        });
        let signature = signer.sign(&sign_digest(&body, &protected, payload)).map_err(SealError::Signer)?;
        signatures.push((protected, signature));
    }
    Ok(encode(|e| {
        e.tag(Tag::new(98))?.array(4)?.bytes(&body)?.map(0)?;
        e.bytes(payload)?.array(signatures.len() as u64)?;
        for (protected, signature) in &signatures {
            e.array(3)?.bytes(protected)?.map(0)?.bytes(signature)?;
        }
        Ok(())
    }))
}
