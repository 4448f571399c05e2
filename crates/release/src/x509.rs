//! X.509 certificates signed with Kiln's own keys.

use crate::Error;
use boot_crypto::host::Es256Key;
use boot_crypto::sha256;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, DnValue, IsCa, Issuer, KeyIdMethod,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm, SigningKey,
    date_time_ymd,
};
use std::time::{Duration, SystemTime};

/// Subject attribute `serialNumber` (X.520), which tells devices apart (IEEE 802.1AR).
const SERIAL_NUMBER: [u64; 4] = [2, 5, 4, 5];
/// How long a CA is valid.
const CA_LIFETIME: Duration = Duration::from_secs(30 * 365 * 24 * 3600);

/// A P-256 point as X.509 holds it: uncompressed SEC 1.
pub(crate) struct Point([u8; 65]);

impl Point {
    /// Takes x followed by y.
    pub(crate) fn new(public: &[u8; 64]) -> Self {
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

/// A key that signs certificates.
struct CaKey<'a>(&'a Es256Key, Point);

impl<'a> CaKey<'a> {
    fn new(key: &'a Es256Key) -> Self {
        Self(key, Point::new(&key.public()))
    }
}

impl PublicKeyData for CaKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.1.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.1.algorithm()
    }
}

impl SigningKey for CaKey<'_> {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        Ok(self.0.sign_der(&sha256(message)))
    }
}

/// A certification authority: its name, its key, and how many CAs may follow below it.
pub(crate) struct Ca<'a> {
    pub(crate) organisation: &'a str,
    pub(crate) name: &'a str,
    pub(crate) path_length: u8,
    pub(crate) key: &'a Es256Key,
}

impl Ca<'_> {
    /// Makes its certificate, signed by `issuer`, or by itself.
    pub(crate) fn certificate(&self, issuer: Option<&Ca<'_>>) -> Result<Certificate, Error> {
        let (params, key) = (self.params()?, CaKey::new(self.key));
        let made = match issuer {
            Some(issuer) => params.signed_by(&key, &issuer.issuer()?),
            None => params.self_signed(&key),
        };
        made.map_err(Error::Certificate)
    }

    /// Certifies the key of a die, for ever (RFC 5280 section 4.1.2.5: a device's certificate has no good end).
    pub(crate) fn certify_die(
        &self,
        name: &str,
        chip_id: &[u8; 16],
        public: &[u8; 64],
    ) -> Result<Certificate, Error> {
        let mut params = params(self.organisation, name, public)?;
        let serial = crate::hex(chip_id);
        let serial = DnValue::PrintableString(serial.as_str().try_into().map_err(Error::Certificate)?);
        params.distinguished_name.push(DnType::from_oid(&SERIAL_NUMBER), serial);
        params.not_after = date_time_ymd(9999, 12, 31) + Duration::from_secs(24 * 3600 - 1);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.use_authority_key_identifier_extension = true;
        params.signed_by(&Point::new(public), &self.issuer()?).map_err(Error::Certificate)
    }

    fn params(&self) -> Result<CertificateParams, Error> {
        let mut params = params(self.organisation, self.name, &self.key.public())?;
        params.not_after = params.not_before + CA_LIFETIME;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(self.path_length));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = true;
        Ok(params)
    }

    fn issuer(&self) -> Result<Issuer<'static, CaKey<'_>>, Error> {
        Ok(Issuer::new(self.params()?, CaKey::new(self.key)))
    }
}

/// What all certificates have in common; valid from now on.
fn params(organisation: &str, name: &str, public: &[u8; 64]) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(Vec::new()).map_err(Error::Certificate)?;
    params.distinguished_name.push(DnType::OrganizationName, organisation);
    params.distinguished_name.push(DnType::CommonName, name);
    let mut serial: [u8; 16] = boot_crypto::host::random();
    serial[0] = serial[0] & 0x7F | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.key_identifier_method = KeyIdMethod::PreSpecified(sha256(public)[..20].to_vec());
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(now.as_secs());
    Ok(params)
}
