//! Certificate requests.

use super::UntrustedQuestion;
use crate::device::same;
use crate::identity::{self, EcdsaSignature};
use crate::{CHIP_ID_BYTES, Csr, Error, Field, Message};
use boot_crypto::{Digest, es256_verify, sha256};
use der::asn1::UintRef;
use der::{Decode as _, Encode as _};
use x509_cert::request::CertReq;

/// A certificate request whose shape is known: what is needed to find its install.
pub struct UntrustedCsr<'a> {
    envelope: UntrustedQuestion<'a>,
    csr: Csr<'a>,
}

/// What a certificate request has to be, from the authority's own record of the install.
#[derive(Clone, Copy, Debug)]
pub struct CsrExpected<'a> {
    /// The key that signed the request which the install was taken for.
    pub stage_key: &'a [u8; 64],
    /// The install.
    pub install: &'a [u8; 32],
    /// SHA-256 of the request that the device's ticket answered.
    pub request_digest: &'a Digest,
    /// The chip id, as the vendor certified it.
    pub chip_id: &'a [u8; CHIP_ID_BYTES],
    /// The serial number in the ticket.
    pub serial: &'a str,
}

/// A certificate request that belongs to the install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedCsr<'a> {
    /// PKCS#10, DER.
    pub der: &'a [u8],
    /// Its SHA-256, for the receipt.
    pub digest: Digest,
    /// The device's identity key: x followed by y.
    pub identity: [u8; 64],
}

impl<'a> UntrustedCsr<'a> {
    /// Parses a message that asks for a certificate.
    ///
    /// # Errors
    /// Anything but a COSE_Sign1 of this content type over the one encoding of its fields.
    pub fn parse(untrusted: &'a [u8]) -> Result<Self, Error> {
        let envelope = UntrustedQuestion::parse(Message::Csr, untrusted)?;
        let csr = Csr::decode(envelope.payload())?;
        Ok(Self { envelope, csr })
    }

    /// Returns the install that this is said to be for.
    pub const fn install(&self) -> &'a [u8; 32] {
        self.csr.install
    }

    /// Returns the digest of the request that this is said to follow.
    pub const fn request_digest(&self) -> &'a Digest {
        self.csr.request_digest
    }

    /// Returns the PKCS#10 request, DER, of which nothing is verified: to be shown.
    pub const fn untrusted_der(&self) -> &'a [u8] {
        self.csr.der
    }

    /// Verifies that the stage which asked for the install now asks for a certificate, for a key that it holds and
    /// in the device's own name.
    ///
    /// # Errors
    /// The first reason to refuse.
    pub fn verify(self, expected: &CsrExpected<'_>) -> Result<VerifiedCsr<'a>, Error> {
        if !self.envelope.verify(expected.stage_key).accepts() {
            return Err(Error::QuestionSignature { message: Message::Csr });
        }
        let bound = same(Message::Csr, Field::Install, self.csr.install, expected.install)?.and(same(
            Message::Csr,
            Field::RequestDigest,
            self.csr.request_digest,
            expected.request_digest,
        )?);
        let identity = verify_pkcs10(self.csr.der, expected)?;
        if !bound.accepts() {
            return Err(Error::Mismatch { message: Message::Csr, field: Field::Install });
        }
        Ok(VerifiedCsr { der: self.csr.der, digest: sha256(self.csr.der), identity })
    }
}

/// Verifies a PKCS#10 request and returns its key. There is one such request for a key, chip id and serial number:
/// it is made again here and compared, so that no second subject, attribute or encoding comes through.
fn verify_pkcs10(untrusted: &[u8], expected: &CsrExpected<'_>) -> Result<[u8; 64], Error> {
    let parsed = CertReq::from_der(untrusted).map_err(Error::CertificateRequest)?;
    let content = Error::CertificateRequestContent;
    let point = parsed.info.public_key.subject_public_key.as_bytes().ok_or(content)?;
    let identity: [u8; 64] =
        point.strip_prefix(&[4]).and_then(|point| point.try_into().ok()).ok_or(content)?;
    let info = identity::info(&identity, expected.chip_id, expected.serial).map_err(|_| content)?;
    if parsed.info != info || parsed.algorithm != identity::signature_algorithm() {
        return Err(content);
    }
    let signature = parsed.signature.as_bytes().ok_or(content)?;
    let signature = signature_of_der(signature)?;
    let signed = info.to_der().map_err(Error::CertificateRequest)?;
    if !es256_verify(&identity, &sha256(&signed), &signature).accepts() {
        return Err(Error::CertificateRequestSignature);
    }
    Ok(identity)
}

/// Reads an ECDSA signature over P-256 in DER (RFC 3279 section 2.2.3) as r followed by s, of which nothing is verified.
///
/// # Errors
/// What is no DER, has bytes behind it, or holds a number that is negative or longer than 32 bytes.
pub fn signature_of_der(untrusted: &[u8]) -> Result<[u8; 64], Error> {
    let signature = EcdsaSignature::from_der(untrusted).map_err(Error::CertificateRequest)?;
    let mut both = [0; 64];
    let (r, s) = both.split_at_mut(32);
    right_align(r, &signature.r)
        .and_then(|()| right_align(s, &signature.s))
        .ok_or(Error::CertificateRequestContent)?;
    Ok(both)
}

/// Writes a number to the end of `to`; `None` if it is longer.
fn right_align(to: &mut [u8], number: &UintRef<'_>) -> Option<()> {
    let bytes = number.as_bytes();
    let start = to.len().checked_sub(bytes.len())?;
    to.get_mut(start..)?.copy_from_slice(bytes);
    Some(())
}
