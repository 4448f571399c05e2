//! The device's certificate request (PKCS#10, RFC 2986): one for each key, chip id and serial number.

use crate::{CHIP_ID_BYTES, Error, Message};
use alloc::string::String;
use alloc::vec::Vec;
use boot_crypto::{EcKey, sha256};
use der::asn1::{Any, BitString, ObjectIdentifier, PrintableStringRef, SetOfVec, UintRef, Utf8StringRef};
use der::{Decode, Encode, Sequence};
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::request::{CertReq, CertReqInfo, Version};
use x509_cert::spki::{AlgorithmIdentifierOwned, SubjectPublicKeyInfoOwned};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SERIAL_NUMBER: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.5");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const ECDSA_WITH_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");

/// Makes the certificate request of a device: subject `CN=kiln-<chip id in hex>, serialNumber=<serial>`, no
/// attributes, ES256. The same inputs make the same bytes.
///
/// # Errors
/// A serial number that is no PrintableString.
pub fn request(identity: &EcKey, chip_id: &[u8; CHIP_ID_BYTES], serial: &str) -> Result<Vec<u8>, Error> {
    build(identity, chip_id, serial).map_err(unencodable)
}

fn build(identity: &EcKey, chip_id: &[u8; CHIP_ID_BYTES], serial: &str) -> der::Result<Vec<u8>> {
    let info = info(&identity.public(), chip_id, serial)?;
    let signature = identity.sign(&sha256(&info.to_der()?));
    let (r, s) = signature.split_at(32);
    let signature = EcdsaSignature { r: UintRef::new(r)?, s: UintRef::new(s)? }.to_der()?;
    CertReq { info, algorithm: signature_algorithm(), signature: BitString::from_bytes(&signature)? }.to_der()
}

fn unencodable(error: der::Error) -> Error {
    let offset = error.position().map_or(0, u32::from);
    Error::Malformed { message: Message::Csr, offset }
}

/// Returns the identifier of ES256 in X.509 (RFC 5758 section 3.2).
pub(crate) const fn signature_algorithm() -> AlgorithmIdentifierOwned {
    AlgorithmIdentifierOwned { oid: ECDSA_WITH_SHA256, parameters: None }
}

/// Makes what the identity key signs.
pub(crate) fn info(key: &[u8; 64], chip_id: &[u8; CHIP_ID_BYTES], serial: &str) -> der::Result<CertReqInfo> {
    let mut point = Vec::with_capacity(65);
    point.push(4);
    point.extend(key);
    Ok(CertReqInfo {
        version: Version::V1,
        subject: subject(chip_id, serial)?,
        public_key: SubjectPublicKeyInfoOwned {
            algorithm: AlgorithmIdentifierOwned {
                oid: EC_PUBLIC_KEY,
                parameters: Some(Any::encode_from(&P256)?),
            },
            subject_public_key: BitString::from_bytes(&point)?,
        },
        attributes: SetOfVec::new(),
    })
}

/// Returns the common name of a device.
pub fn common_name(chip_id: &[u8; CHIP_ID_BYTES]) -> String {
    let mut name = String::from("kiln-");
    for nibble in chip_id.iter().flat_map(|byte| [byte >> 4, byte & 15]) {
        name.push(char::from_digit(u32::from(nibble), 16).unwrap_or('-'));
    }
    name
}

/// Makes the subject. By way of its DER: the parser of names in text would link a table of every attribute there is.
fn subject(chip_id: &[u8; CHIP_ID_BYTES], serial: &str) -> der::Result<Name> {
    let name = common_name(chip_id);
    let mut subject = RdnSequence::default();
    for (oid, value) in [
        (COMMON_NAME, Any::encode_from(&Utf8StringRef::new(&name)?)?),
        (SERIAL_NUMBER, Any::encode_from(&PrintableStringRef::new(serial)?)?),
    ] {
        let mut attribute = RelativeDistinguishedName::default();
        attribute.insert(AttributeTypeAndValue { oid, value })?;
        subject.push(attribute);
    }
    Name::from_der(&subject.to_der()?)
}

/// An ECDSA signature in X.509 (RFC 3279 section 2.2.3).
#[derive(Sequence)]
pub(crate) struct EcdsaSignature<'a> {
    pub(crate) r: UintRef<'a>,
    pub(crate) s: UintRef<'a>,
}
