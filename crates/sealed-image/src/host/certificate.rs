//! Delegation certificates on their own, before they are part of an image.

use crate::chain::parse_grant;
use crate::cose::UntrustedCertificate;
use crate::{Error, Grant, Part, PublicKey, cbor};
use boot_crypto::equal;

/// Verifies a delegation certificate as devices do, and returns what the root says in it. `root` is x followed by y.
///
/// # Errors
/// A certificate that cannot be read, names another root, or is not signed by this one.
pub fn verify_certificate<'a>(untrusted: &'a [u8], root: &[u8; 64]) -> Result<Grant<'a>, Error> {
    let certificate: UntrustedCertificate<'a> =
        cbor::parse_exact(untrusted).map_err(|offset| Error::Malformed { part: Part::Delegation, offset })?;
    if !equal(certificate.root, &PublicKey::P256(*root).thumbprint()).accepts() {
        return Err(Error::RootUnknown);
    }
    if !certificate.sign1.verify(root).accepts() {
        return Err(Error::DelegationSignature { index: 0 });
    }
    parse_grant(&certificate)
}
