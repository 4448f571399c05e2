//! What the authority refuses of a certificate request, and what openssl makes of a sound one.

use crate::common::*;
use crate::samples::*;
use crate::verdict::Judge;
use boot_crypto::{EcKey, sha256};
use der::asn1::{Any, BitString, ObjectIdentifier, PrintableStringRef, SetOfVec, UintRef, Utf8StringRef};
use der::{Decode, Encode, Sequence};
use factory_proto::{Csr, Message, content_type, identity};
use fail_code::FailCode::{self, *};
use std::process::Command;
use x509_cert::attr::{Attribute, AttributeTypeAndValue};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::request::{CertReq, CertReqInfo};

/// The verdict on a message with this payload, signed by the stage.
fn signed_again(payload: &[u8]) -> Option<FailCode> {
    let samples = Samples::sound();
    let message = sign1(Message::Csr, payload, &samples.die.stage_key);
    Judge::sound().verdict(Message::Csr, &message)
}

fn payload() -> Vec<u8> {
    sign1_payload(&Samples::sound().csr)
}

/// The verdict on a message with this PKCS#10 request, signed by the stage.
fn of_der(der: &[u8]) -> Option<FailCode> {
    signed_again(&with(&payload(), 3, &cbor_bytes(der)))
}

#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// Makes a PKCS#10 request of any content, signed with a key.
fn pkcs10(info: CertReqInfo, key: &EcKey) -> Vec<u8> {
    let signature = key.sign(&sha256(&info.to_der().unwrap()));
    let (r, s) = signature.split_at(32);
    let signature = EcdsaSignature { r: UintRef::new(r).unwrap(), s: UintRef::new(s).unwrap() };
    let sound = CertReq::from_der(&Samples::sound().der).unwrap();
    let signature = BitString::from_bytes(&signature.to_der().unwrap()).unwrap();
    CertReq { info, signature, ..sound }.to_der().unwrap()
}

fn sound_info() -> CertReqInfo {
    CertReq::from_der(&Samples::sound().der).unwrap().info
}

#[test]
fn values_out_of_bounds_are_refused_although_they_are_signed() {
    let payload = payload();
    assert_eq!(signed_again(&payload), None);
    for (key, length) in [(1, 31), (1, 33), (2, 31), (2, 33), (3, 0), (3, 2049)] {
        let value = cbor_bytes(&vec![0x30; length]);
        assert_eq!(signed_again(&with(&payload, key, &value)), Some(RequestMalformed), "field {key}");
    }
}

#[test]
fn payloads_of_another_shape_are_refused_although_they_are_signed() {
    let sound = payload();
    let values = values_of(&sound);
    let mut cases = vec![vec![], vec![0xA0], [&sound[..], b"\0"].concat(), [b"\xC0", &sound[..]].concat()];
    cases.push(map(&values[..2]));
    cases.push(map(&[&values[..], &[vec![0]]].concat()));
    cases.push([b"\xB8\x03", &sound[1..]].concat());
    cases.push([b"\xBF", &sound[1..], b"\xFF"].concat());
    for case in cases {
        assert_eq!(signed_again(&case), Some(RequestMalformed), "{case:02X?}");
    }
}

#[test]
fn a_request_for_another_install_or_session_is_refused() {
    let payload = payload();
    for key in [1, 2] {
        for bit in 0..256 {
            let mut bytes = values_of(&payload)[key - 1][2..].to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let code = signed_again(&with(&payload, key, &cbor_bytes(&bytes)));
            assert_eq!(code, Some(CsrUnbound), "field {key}, bit {bit}");
        }
    }
    let samples = Samples::sound();
    let earlier = samples.die.session_with([0x4F; 32]);
    let ticket = open(&earlier, &samples.die.ticket(earlier.request()));
    let csr = earlier.csr(&ticket, &samples.der).unwrap();
    assert_eq!(Judge::sound().verdict(Message::Csr, &csr), Some(CsrUnbound));
}

#[test]
fn only_the_stage_that_asked_for_the_install_may_go_on() {
    let samples = Samples::sound();
    let judge = Judge::sound();
    let payload = payload();
    let other = Die::new(0x30);
    for key in [&other.stage_key, &samples.die.identity, &samples.die.die_key, &ec(0x70)] {
        let forged = sign1(Message::Csr, &payload, key);
        assert_eq!(judge.verdict(Message::Csr, &forged), Some(CsrUnbound));
    }
    let other = Samples::of(Die::new(0x30), Die::closed(0x30));
    assert_eq!(judge.verdict(Message::Csr, &other.csr), Some(CsrUnbound));
    for message in Message::ALL.into_iter().filter(|message| *message != Message::Csr) {
        let typed = sign1_as(content_type(message), &payload, &samples.die.stage_key);
        assert_eq!(judge.verdict(Message::Csr, &typed), Some(CsrUnbound), "{}", message.name());
    }
}

#[test]
fn every_flipped_bit_of_the_pkcs10_request_is_refused_although_the_stage_signs_it() {
    let samples = Samples::sound();
    let judge = Judge::sound();
    let payload = payload();
    for bit in 0..samples.der.len() * 8 {
        let mut der = samples.der.clone();
        der[bit / 8] ^= 1 << (bit % 8);
        let message = sign1(Message::Csr, &with(&payload, 3, &cbor_bytes(&der)), &samples.die.stage_key);
        let code = judge.verdict(Message::Csr, &message);
        assert!(matches!(code, Some(CsrUnbound | RequestMalformed)), "bit {bit}: {code:?}");
    }
    for length in 1..samples.der.len() {
        assert_eq!(of_der(&samples.der[..length]), Some(RequestMalformed), "{length} bytes");
    }
    assert_eq!(of_der(&[&samples.der[..], b"\0"].concat()), Some(RequestMalformed));
}

#[test]
fn a_subject_that_is_not_the_devices_is_refused() {
    let samples = Samples::sound();
    let die = &samples.die;
    let mut other_chip = die.chip_id;
    other_chip[15] ^= 1;
    assert_eq!(of_der(&identity::request(&die.identity, &die.chip_id, SERIAL).unwrap()), None);
    for (chip_id, serial) in
        [(&other_chip, SERIAL), (&die.chip_id, "KILN-000043"), (&die.chip_id, "KILN-00004")]
    {
        let der = identity::request(&die.identity, chip_id, serial).unwrap();
        assert_eq!(of_der(&der), Some(CsrUnbound), "{serial}");
    }

    let (cn, serial_number) = ("2.5.4.3", "2.5.4.5");
    let common = identity::common_name(&die.chip_id);
    let utf8 = |text: &str| Any::encode_from(&Utf8StringRef::new(text).unwrap()).unwrap();
    let printable = |text: &str| Any::encode_from(&PrintableStringRef::new(text).unwrap()).unwrap();
    let subject = |attributes: Vec<(&str, Any)>| {
        let mut names = RdnSequence::default();
        for (oid, value) in attributes {
            let mut name = RelativeDistinguishedName::default();
            name.insert(AttributeTypeAndValue { oid: ObjectIdentifier::new(oid).unwrap(), value }).unwrap();
            names.push(name);
        }
        Name::from_der(&names.to_der().unwrap()).unwrap()
    };
    let code = |attributes| {
        of_der(&pkcs10(CertReqInfo { subject: subject(attributes), ..sound_info() }, &die.identity))
    };
    let (name, serial) = ((cn, utf8(&common)), (serial_number, printable(SERIAL)));
    assert_eq!(code(vec![name.clone(), serial.clone()]), None);
    for attributes in [
        vec![],
        vec![name.clone()],
        vec![serial.clone()],
        vec![serial.clone(), name.clone()],
        vec![name.clone(), serial.clone(), serial.clone()],
        vec![name.clone(), serial.clone(), (cn, utf8("www.example.com"))],
        vec![(cn, printable(&common)), serial.clone()],
        vec![name.clone(), (serial_number, utf8(SERIAL))],
        vec![(cn, utf8(&common.to_uppercase())), serial.clone()],
        vec![name.clone(), serial.clone(), ("2.5.4.10", utf8("Another company"))],
    ] {
        let shown = format!("{attributes:?}");
        assert_eq!(code(attributes), Some(CsrUnbound), "{shown}");
    }
}

#[test]
fn a_request_that_asks_for_more_is_refused() {
    let die = Die::new(0x20);
    // Extensions, for instance to be a CA.
    let mut attributes = SetOfVec::new();
    let values = SetOfVec::try_from(vec![Any::from_der(&[0x30, 0]).unwrap()]).unwrap();
    let extension_request = ObjectIdentifier::new_unwrap("1.2.840.113549.1.9.14");
    attributes.insert(Attribute { oid: extension_request, values }).unwrap();
    assert_eq!(of_der(&pkcs10(CertReqInfo { attributes, ..sound_info() }, &die.identity)), Some(CsrUnbound));
}

#[test]
fn a_key_that_the_device_does_not_hold_is_refused() {
    let die = Die::new(0x20);
    let victim = identity::request(&ec(0x71), &die.chip_id, SERIAL).unwrap();
    let info = CertReq::from_der(&victim).unwrap().info;
    // Somebody else's key, signed with the device's own.
    assert_eq!(of_der(&pkcs10(info, &die.identity)), Some(CsrUnbound));
    assert_eq!(of_der(&pkcs10(sound_info(), &ec(0x71))), Some(CsrUnbound));
    // Keys of another kind, or no point of the curve.
    let bits = |bytes: &[u8]| BitString::from_bytes(bytes).unwrap();
    let mut compressed = vec![2];
    compressed.extend(&die.identity.public()[..32]);
    let no_point = [&[4][..], &[1; 64]].concat();
    let longer = [&[4][..], &die.identity.public(), &[0]].concat();
    for point in [&compressed[..], &no_point, &longer, b"", b"\x04"] {
        let mut info = sound_info();
        info.public_key.subject_public_key = bits(point);
        assert_eq!(of_der(&pkcs10(info, &die.identity)), Some(CsrUnbound), "{point:02X?}");
    }
    let mut info = sound_info();
    let p384 = ObjectIdentifier::new_unwrap("1.3.132.0.34");
    info.public_key.algorithm.parameters = Some(Any::encode_from(&p384).unwrap());
    assert_eq!(of_der(&pkcs10(info, &die.identity)), Some(CsrUnbound));
}

#[test]
fn another_signature_algorithm_or_signature_is_refused() {
    let sound = CertReq::from_der(&Samples::sound().der).unwrap();
    let mut algorithm = sound.algorithm.clone();
    algorithm.oid = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");
    let der = CertReq { algorithm, ..sound.clone() }.to_der().unwrap();
    assert_eq!(of_der(&der), Some(CsrUnbound));
    let with_signature = |bytes: &[u8]| {
        let signature = BitString::from_bytes(bytes).unwrap();
        of_der(&CertReq { signature, ..sound.clone() }.to_der().unwrap())
    };
    let numbers = |r: &[u8], s: &[u8]| {
        EcdsaSignature { r: UintRef::new(r).unwrap(), s: UintRef::new(s).unwrap() }.to_der().unwrap()
    };
    for junk in [&b""[..], b"\x30\0", &[0; 64], b"\x30\x03\x02\x01\x01"] {
        assert_eq!(with_signature(junk), Some(RequestMalformed), "{junk:02X?}");
    }
    let one: &[u8] = &[1];
    let (zero, long): (&[u8], &[u8]) = (&[0], &[1; 33]);
    for (r, s) in [(zero, one), (one, zero), (one, one), (long, one), (one, long), (&[0xFF; 32], one)] {
        assert_eq!(with_signature(&numbers(r, s)), Some(CsrUnbound), "{r:02X?} {s:02X?}");
    }
}

#[test]
fn the_same_key_and_names_make_the_same_request() {
    let die = Die::new(0x20);
    let make = |serial| identity::request(&die.identity, &die.chip_id, serial);
    assert_eq!(make(SERIAL).unwrap(), make(SERIAL).unwrap());
    for serial in ["a_b", "ü", "\0"] {
        assert_eq!(make(serial).unwrap_err().code(), RequestMalformed, "{serial}");
    }
    let long = vec![0x30; 2049];
    let (session, ticket) = (die.session(), die.ticket(die.session().request()));
    let ticket = open(&session, &ticket);
    assert_eq!(session.csr(&ticket, &long).unwrap_err().code(), RequestMalformed);
    assert_eq!(session.csr(&ticket, b"").unwrap_err().code(), RequestMalformed);
    let csr = sign1_payload(&session.csr(&ticket, &long[..2048]).unwrap());
    assert_eq!(Csr::decode(&csr).unwrap().der, &long[..2048]);
}

/// Somebody else's tool verifies the request, and refuses it with any byte of what is signed altered.
#[test]
fn openssl_verifies_the_request() {
    let samples = Samples::sound();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("csr.der");
    let verify = |der: &[u8]| {
        std::fs::write(&path, der).unwrap();
        let mut command = Command::new("openssl");
        command
            .args(["req", "-inform", "DER", "-verify", "-noout", "-subject", "-nameopt", "RFC2253", "-in"]);
        command.arg(&path).output().expect("openssl is installed")
    };
    let output = verify(&samples.der);
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("verify OK"), "{text}");
    assert!(text.contains("serialNumber=KILN-000042,CN=kiln-20c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1"), "{text}");
    for byte in [40, 80, 120, samples.der.len() - 1] {
        let mut der = samples.der.clone();
        der[byte] ^= 1;
        let output = verify(&der);
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() || text.contains("failure"), "byte {byte}: {text}");
    }
}
