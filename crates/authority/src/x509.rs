//! Certificates that the authority makes, and the parts that it reads of others.
//!
//! The key of every certificate authority here is an [`Es256Key`]; a hardware module takes its place by
//! implementing `rcgen::SigningKey`.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use boot_crypto::host::{Es256Key, random};
use boot_crypto::sha256;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SignatureAlgorithm, SigningKey, date_time_ymd,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::der::asn1::{ObjectIdentifier, PrintableStringRef, Utf8StringRef};
use x509_cert::der::{Decode as _, Encode as _, Tag, Tagged as _};
use x509_cert::name::Name;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use crate::Error;

/// DER of the algorithm of a key on P-256 (RFC 5480 section 2.1.1).
const P256_KEY: (ObjectIdentifier, ObjectIdentifier) =
    (ObjectIdentifier::new_unwrap("1.2.840.10045.2.1"), ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7"));

/// A public key as SEC 1 writes it: 4, x, y.
struct Point([u8; 65]);

impl Point {
    fn new(public: &[u8; 64]) -> Self {
        let mut point = [4; 65];
        point[1..].copy_from_slice(public);
        Self(point)
    }
}

impl PublicKeyData for Point {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

/// A private key, as certificates are signed.
struct Signs<'a> {
    key: &'a Es256Key,
    public: Point,
}

impl PublicKeyData for Signs<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.public.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.public.algorithm()
    }
}

impl SigningKey for Signs<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.key.sign_der(&sha256(message)))
    }
}

/// What a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Use {
    /// A device's identity (IEEE 802.1AR): signatures; no well-defined end.
    Device {
        /// The device's serial number.
        serial: String,
    },
    /// A server at these names and addresses, for ten years.
    Server {
        /// DNS names and addresses.
        names: Vec<String>,
    },
    /// A client, for ten years.
    Client,
}

/// A certificate authority: its key, its name and its own certificate.
pub struct CertificateAuthority {
    key: Es256Key,
    name: String,
    certificate: Vec<u8>,
}

impl CertificateAuthority {
    /// Makes one, with a certificate of its own that has no well-defined end.
    ///
    /// # Errors
    /// A name that a certificate cannot hold.
    pub fn create(key: Es256Key, name: String) -> Result<Self, Error> {
        let certificate = Self::params(&name)?.self_signed(&signs(&key))?.der().to_vec();
        Ok(Self { key, name, certificate })
    }

    /// Takes over one that was made earlier.
    pub fn new(key: Es256Key, name: String, certificate: Vec<u8>) -> Self {
        Self { key, name, certificate }
    }

    /// Returns its key, to be sealed.
    pub(crate) fn key(&self) -> &Es256Key {
        &self.key
    }

    /// Returns its certificate, in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    fn params(name: &str) -> Result<CertificateParams, Error> {
        let mut params = CertificateParams::new([])?;
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = date_time_ymd(1970, 1, 1) + now();
        params.not_after = date_time_ymd(9999, 12, 31) + END_OF_DAY;
        params.serial_number = Some(serial_number());
        Ok(params)
    }

    /// Certifies a public key, x followed by y, and returns the certificate in DER.
    ///
    /// # Errors
    /// Names that a certificate cannot hold.
    pub fn certify(&self, name: &str, public: &[u8; 64], purpose: &Use) -> Result<Vec<u8>, Error> {
        let issuer_params = Self::params(&self.name)?;
        let issuer = Issuer::from_params(&issuer_params, signs(&self.key));
        let mut params = CertificateParams::new([])?;
        params.distinguished_name = common_name(name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(serial_number());
        params.not_before = date_time_ymd(1970, 1, 1) + now();
        params.not_after = params.not_before + TEN_YEARS;
        match purpose {
            Use::Device { serial } => {
                params.distinguished_name.push(
                    DnType::from_oid(&[2, 5, 4, 5]),
                    DnValue::PrintableString(serial.as_str().try_into()?),
                );
                params.not_after = date_time_ymd(9999, 12, 31) + END_OF_DAY;
            }
            Use::Server { names } => {
                params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                for name in names {
                    params.subject_alt_names.push(match name.parse::<IpAddr>() {
                        Ok(address) => SanType::IpAddress(address),
                        Err(_) => SanType::DnsName(name.as_str().try_into()?),
                    });
                }
            }
            Use::Client => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth],
        }
        Ok(params.signed_by(&Point::new(public), &issuer)?.der().to_vec())
    }
}

const END_OF_DAY: Duration = Duration::from_secs(86_399);
const TEN_YEARS: Duration = Duration::from_secs(3652 * 86_400);

fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

fn signs(key: &Es256Key) -> Signs<'_> {
    Signs { key, public: Point::new(&key.public()) }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Draws a serial number: 127 random bits, positive.
fn serial_number() -> SerialNumber {
    let mut serial = random::<16>();
    serial[0] = serial[0] & 0x7F | 0x40;
    SerialNumber::from_slice(&serial)
}

/// Lists the values of an attribute in a name: `None` for one that is no text.
pub(crate) fn attributes(name: &Name, oid: ObjectIdentifier) -> impl Iterator<Item = Option<String>> {
    let text = |attribute: &AttributeTypeAndValue| match attribute.value.tag() {
        Tag::PrintableString => {
            attribute.value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.to_string())
        }
        Tag::Utf8String => attribute.value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.to_string()),
        _ => None,
    };
    name.iter().filter(move |attribute| attribute.oid == oid).map(text)
}

/// Reads the P-256 point, x followed by y, of a SubjectPublicKeyInfo; `None` for any other key.
pub(crate) fn p256_key(spki: &[u8]) -> Option<[u8; 64]> {
    let spki = SubjectPublicKeyInfoRef::from_der(spki).ok()?;
    if spki.algorithm.oid != P256_KEY.0 || spki.algorithm.parameters_oid().ok()? != P256_KEY.1 {
        return None;
    }
    let (form, point) = spki.subject_public_key.as_bytes()?.split_first()?;
    if *form == 4 { point.try_into().ok() } else { None }
}

/// Reads the P-256 key, x followed by y, of a certificate in DER; `None` for anything else.
pub(crate) fn key_of_certificate(der: &[u8]) -> Option<[u8; 64]> {
    let certificate = Certificate::from_der(der).ok()?;
    p256_key(&certificate.tbs_certificate().subject_public_key_info().to_der().ok()?)
}

/// Reads the certificates of a PEM text, in DER.
///
/// # Errors
/// In words, where the text is no PEM.
pub(crate) fn from_pem(pem: &str) -> Result<Vec<Vec<u8>>, String> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .map(|der| der.map(|der| der.to_vec()).map_err(|error| format!("{error:?}")))
        .collect()
}
