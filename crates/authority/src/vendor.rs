//! The silicon vendor's certificates: is this die one of theirs?
//!
//! # What it defends against
//!
//! Whoever asks chooses every byte of the chain. `rustls-webpki` builds and verifies the path (RFC 5280 section
//! 6.1: signatures, names, validity, basic constraints, path lengths, extended key usage, critical extensions),
//! with bounds on its work. It ignores key usage, and takes a trust anchor for a name and a key only; so the
//! path that it found is looked at once more here: key usage of every certificate on it, and the anchor's own
//! validity, path length and key usage. A die's key that signs a "certificate" of another die fails at the basic
//! constraints, whoever signed the die's own.
//!
//! Not defended: a vendor that certifies keys which are no dies', and revocation, which no vendor offers for
//! dies: void the install, or list the dies of the lot.

use std::cell::RefCell;
use std::time::Duration;

use factory_proto::MAX_CHAIN;
use fail_code::FailCode;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage as ExtendedUsage, VerifiedPath};
use x509_cert::Certificate;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use crate::{Refusal, hex, x509};

/// tcg-dice-kp-attestInit (TCG DICE Certificate Profiles, 5.1.5.3) as the content of its DER: what a die's key is
/// for, if its certificate says anything about it.
const ATTEST_INIT: &[u8] = &[0x67, 0x81, 0x05, 0x05, 0x04, 0x64, 0x08];

/// serialNumber of a name (X.520).
const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");

/// A die, as a verified chain names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Die {
    /// The chip id: subject serialNumber of the certificate, in lower-case hexadecimal.
    pub chip_id: [u8; 16],
    /// The public half of the die key: x followed by y.
    pub key: [u8; 64],
}

/// The vendors of a lot, ready to validate chains.
pub struct Vendors {
    anchors: Vec<(TrustAnchor<'static>, Certificate)>,
}

impl Vendors {
    /// Reads vendor certificates from PEM.
    ///
    /// # Errors
    /// In words: no certificate, one that is no certificate authority, or one that cannot be read.
    pub fn from_pem(pem: &str) -> Result<Self, String> {
        let certificates =
            x509::from_pem(pem).map_err(|error| format!("the vendor certificates: {error}"))?;
        if certificates.is_empty() {
            return Err("no vendor certificate".into());
        }
        let anchors = certificates.iter().map(|der| Self::anchor(der)).collect::<Result<_, _>>()?;
        Ok(Self { anchors })
    }

    fn anchor(der: &[u8]) -> Result<(TrustAnchor<'static>, Certificate), String> {
        let certificate =
            Certificate::from_der(der).map_err(|error| format!("a vendor certificate: {error}"))?;
        let name = certificate.tbs_certificate().subject().to_string();
        check_issuer(&certificate, 0).map_err(|refusal| format!("vendor {name}: {refusal}"))?;
        let encoded = CertificateDer::from(der);
        let anchor =
            webpki::anchor_from_trusted_cert(&encoded).map_err(|error| format!("vendor {name}: {error}"))?;
        Ok((anchor.to_owned(), certificate))
    }

    /// Validates a chain, the die's certificate first, at a time in seconds since 1970, and returns the die.
    ///
    /// # Errors
    /// `VendorMalformed`, `VendorUnknown`, `VendorIssuer`, `VendorPathLength`, `VendorKeyUsage`,
    /// `VendorExpired`.
    pub fn validate(&self, untrusted_chain: &[&[u8]], now: u64) -> Result<Die, Refusal> {
        let malformed = |why: String| Refusal::new(FailCode::VendorMalformed, why);
        let Some((untrusted_leaf, untrusted_issuers)) = untrusted_chain.split_first() else {
            return Err(malformed("an empty chain".into()));
        };
        if untrusted_chain.len() > MAX_CHAIN {
            return Err(malformed(format!("a chain of {}, at most {MAX_CHAIN}", untrusted_chain.len())));
        }
        for (depth, der) in untrusted_chain.iter().enumerate() {
            Certificate::from_der(der).map_err(|error| malformed(format!("certificate {depth}: {error}")))?;
        }
        let encoded = CertificateDer::from(*untrusted_leaf);
        let leaf = EndEntityCert::try_from(&encoded).map_err(|error| malformed(error.to_string()))?;
        let issuers: Vec<_> = untrusted_issuers.iter().map(|der| CertificateDer::from(*der)).collect();
        let anchors: Vec<_> = self.anchors.iter().map(|(anchor, _)| anchor.clone()).collect();

        // The callback may refuse one path and see another; the last reason is the one told.
        let reason = RefCell::new(None);
        let check = |path: &VerifiedPath<'_>| {
            self.check_path(path, untrusted_leaf, now).map_err(|refusal| {
                reason.replace(Some(refusal));
                webpki::Error::UnknownIssuer
            })
        };
        let time = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let usage = ExtendedUsage::required_if_present(ATTEST_INIT);
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &issuers, time, usage, None, Some(&check))
            .map_err(|error| reason.take().unwrap_or_else(|| refusal_of(&error)))?;
        die_of(&Certificate::from_der(untrusted_leaf).map_err(|error| malformed(error.to_string()))?)
    }

    /// Checks what webpki leaves out on a path whose signatures and names are right.
    fn check_path(&self, path: &VerifiedPath<'_>, leaf: &[u8], now: u64) -> Result<(), Refusal> {
        let malformed = |error| Refusal::new(FailCode::VendorMalformed, format!("{error}"));
        let leaf = Certificate::from_der(leaf).map_err(malformed)?;
        let usage = leaf.tbs_certificate().get_extension::<KeyUsage>().map_err(malformed)?;
        if usage.is_some_and(|(_, usage)| !usage.digital_signature()) {
            return Err(Refusal::new(FailCode::VendorKeyUsage, "the die's key is not for signatures"));
        }
        let mut below = 0;
        for issuer in path.intermediate_certificates() {
            let issuer = Certificate::from_der(&issuer.der()).map_err(malformed)?;
            check_issuer(&issuer, below)?;
            below += 1;
        }
        let anchor = self
            .anchors
            .iter()
            .find(|(anchor, _)| anchor == path.anchor())
            .ok_or_else(|| Refusal::new(FailCode::VendorUnknown, "the path ends nowhere"))?;
        check_issuer(&anchor.1, below)?;
        check_validity(&anchor.1, now)
    }
}

/// Checks that a certificate may issue others, with `below` issuers between it and the die's.
fn check_issuer(certificate: &Certificate, below: u8) -> Result<(), Refusal> {
    let name = certificate.tbs_certificate().subject();
    let malformed = |error| Refusal::new(FailCode::VendorMalformed, format!("{name}: {error}"));
    let constraints = certificate.tbs_certificate().get_extension::<BasicConstraints>().map_err(malformed)?;
    let constraints = constraints
        .map(|(_, constraints)| constraints)
        .filter(|constraints| constraints.ca)
        .ok_or_else(|| Refusal::new(FailCode::VendorIssuer, format!("{name} is no certificate authority")))?;
    if constraints.path_len_constraint.is_some_and(|most| below > most) {
        return Err(Refusal::new(FailCode::VendorPathLength, format!("{name} allows no {below} below it")));
    }
    // RFC 5280 section 4.2.1.3: conforming authorities include the extension.
    let usage = certificate.tbs_certificate().get_extension::<KeyUsage>().map_err(malformed)?;
    if !usage.is_some_and(|(_, usage)| usage.key_cert_sign()) {
        return Err(Refusal::new(FailCode::VendorKeyUsage, format!("{name} may not sign certificates")));
    }
    Ok(())
}

fn check_validity(certificate: &Certificate, now: u64) -> Result<(), Refusal> {
    let validity = certificate.tbs_certificate().validity();
    let [from, to] = [validity.not_before, validity.not_after].map(|time| time.to_unix_duration().as_secs());
    if now < from || now > to {
        let name = certificate.tbs_certificate().subject();
        return Err(Refusal::new(FailCode::VendorExpired, format!("{name} is not valid at this time")));
    }
    Ok(())
}

/// Gives webpki's reasons their codes.
fn refusal_of(error: &webpki::Error) -> Refusal {
    use webpki::Error as E;
    let code = match error {
        E::UnknownIssuer
        | E::InvalidSignatureForPublicKey
        | E::SignatureAlgorithmMismatch
        | E::UnsupportedSignatureAlgorithmContext(_)
        | E::UnsupportedSignatureAlgorithmForPublicKeyContext(_)
        | E::NameConstraintViolation => FailCode::VendorUnknown,
        E::EndEntityUsedAsCa => FailCode::VendorIssuer,
        E::PathLenConstraintViolated => FailCode::VendorPathLength,
        E::CaUsedAsEndEntity | E::EmptyEkuExtension | E::RequiredEkuNotFoundContext(_) => {
            FailCode::VendorKeyUsage
        }
        E::CertExpired { .. } | E::CertNotValidYet { .. } | E::InvalidCertValidity => FailCode::VendorExpired,
        _ => FailCode::VendorMalformed,
    };
    Refusal::new(code, format!("{error:?}"))
}

/// Reads chip id and key from the certificate of a die.
fn die_of(certificate: &Certificate) -> Result<Die, Refusal> {
    let malformed = |why: &str| Refusal::new(FailCode::VendorMalformed, why);
    let subject = certificate.tbs_certificate().subject();
    let mut serials = x509::attributes(subject, SERIAL_NUMBER);
    let serial = serials.next().flatten().ok_or_else(|| malformed("no serialNumber in the subject"))?;
    let chip_id = hex::array(&serial)
        .filter(|id| hex::encode(id) == serial && serials.next().is_none())
        .ok_or_else(|| malformed("the subject's serialNumber is not a chip id"))?;
    let spki = certificate.tbs_certificate().subject_public_key_info();
    let spki = spki.to_der().map_err(|_| malformed("the die's key cannot be read"))?;
    let key = x509::p256_key(&spki).ok_or_else(|| malformed("the die's key is not on P-256"))?;
    Ok(Die { chip_id, key })
}
