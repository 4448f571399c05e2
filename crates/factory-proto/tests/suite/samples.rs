//! One message of each kind from one session, and what is needed to spoil them: field by field, and signed again.

use crate::common::*;
use boot_crypto::EcKey;
use boot_crypto::host::Es256Key;
use factory_proto::device::{Session, VerifiedTicket};
use factory_proto::{ClosingProof, Message, content_type, identity};
use minicbor::data::{Tag, Type};
use minicbor::{Decoder, Encoder};
use sealed_image::host::{Signer, certify, delegation, encode_grant, sign_message};
use sealed_image::{Es256, Grant, PublicKey, Role};
use std::sync::LazyLock;

/// The messages of one session that are signed, or hold what is.
pub(crate) struct Samples {
    pub(crate) die: Die,
    pub(crate) der: Vec<u8>,
    pub(crate) request: Vec<u8>,
    pub(crate) ticket: Vec<u8>,
    pub(crate) csr: Vec<u8>,
    pub(crate) receipt: Vec<u8>,
    pub(crate) closing_proof: Vec<u8>,
    pub(crate) release: Vec<u8>,
}

impl Samples {
    /// Those of the die of [`Samples::DIE`], made once.
    pub(crate) fn sound() -> &'static Self {
        static SOUND: LazyLock<Samples> =
            LazyLock::new(|| Samples::of(Die::new(Samples::DIE), Die::closed(Samples::DIE)));
        &SOUND
    }

    pub(crate) const DIE: u8 = 0x20;

    /// Makes them for a die as it is before and after it is closed.
    pub(crate) fn of(die: Die, closed: Die) -> Self {
        let session = die.session();
        let request = session.request().to_vec();
        let ticket = die.ticket(&request);
        let der = identity::request(&die.identity, &die.chip_id, SERIAL).unwrap();
        let csr = session.csr(&open(&session, &ticket), &der).unwrap();
        drop(session);
        Self {
            receipt: authority().receipt(&INSTALL, &boot_crypto::sha256(&der)).unwrap(),
            closing_proof: closing_proof(&closed),
            release: authority().release(&INSTALL, &die.chip_id, &CERTIFICATES).unwrap(),
            die,
            der,
            request,
            ticket,
            csr,
        }
    }

    /// The payloads of the messages that are signed.
    pub(crate) fn payloads(&self) -> [(Message, Vec<u8>); 5] {
        [
            (Message::Request, sign1_payload(&self.request)),
            (Message::Ticket, signed_payload(&self.ticket)),
            (Message::Csr, sign1_payload(&self.csr)),
            (Message::Receipt, signed_payload(&self.receipt)),
            (Message::Release, signed_payload(&self.release)),
        ]
    }
}

/// What stands in for the device's certificate and its issuer's.
pub(crate) const CERTIFICATES: [&[u8]; 2] = [b"the device's certificate", b"its issuer's"];

pub(crate) fn closing_proof(die: &Die) -> Vec<u8> {
    ClosingProof {
        install: &INSTALL,
        chip_id: &die.chip_id,
        statement: &die.statement,
        fuse_facts: &die.fuse_facts,
    }
    .encode()
}

/// Opens a ticket that is sound.
pub(crate) fn open(session: &Session<'_>, ticket: &[u8]) -> VerifiedTicket {
    session.verify_ticket::<Es256>(ticket, &trust(&roots())).unwrap()
}

/// Takes the payload out of a COSE_Sign1.
pub(crate) fn sign1_payload(message: &[u8]) -> Vec<u8> {
    let mut d = Decoder::new(message);
    assert_eq!((d.tag().unwrap(), d.array().unwrap()), (Tag::new(18), Some(4)));
    d.bytes().unwrap();
    assert_eq!(d.map().unwrap(), Some(0));
    d.bytes().unwrap().to_vec()
}

/// Takes the payload out of a signed message of a role.
pub(crate) fn signed_payload(message: &[u8]) -> Vec<u8> {
    let mut d = Decoder::new(message);
    assert_eq!(d.array().unwrap(), Some(2));
    d.bytes().unwrap();
    let mut d = Decoder::new(d.bytes().unwrap());
    assert_eq!((d.tag().unwrap(), d.array().unwrap()), (Tag::new(98), Some(4)));
    d.bytes().unwrap();
    assert_eq!(d.map().unwrap(), Some(0));
    d.bytes().unwrap().to_vec()
}

/// Signs a payload again as a COSE_Sign1 of this content type.
pub(crate) fn sign1_as(content_type: &str, payload: &[u8], key: &EcKey) -> Vec<u8> {
    let mut header = Encoder::new(Vec::new());
    header.map(2).unwrap().u8(1).unwrap().i8(-7).unwrap().u8(3).unwrap().str(content_type).unwrap();
    sign1_with(&header.into_writer(), payload, key)
}

/// Signs a payload again under any protected header.
pub(crate) fn sign1_with(header: &[u8], payload: &[u8], key: &EcKey) -> Vec<u8> {
    let mut structure = Encoder::new(Vec::new());
    structure.array(4).unwrap().str("Signature1").unwrap().bytes(header).unwrap();
    structure.bytes(&[]).unwrap().bytes(payload).unwrap();
    let signature = key.sign(&boot_crypto::sha256(&structure.into_writer()));
    let signature = boot_crypto::es256_low_s(&signature).unwrap();
    let mut e = Encoder::new(Vec::new());
    e.tag(Tag::new(18)).unwrap().array(4).unwrap().bytes(header).unwrap().map(0).unwrap();
    e.bytes(payload).unwrap().bytes(&signature).unwrap();
    e.into_writer()
}

/// A COSE_Sign1 with the other of the two signatures that are valid: n - s in the place of s.
pub(crate) fn with_high_s(message: &[u8]) -> Vec<u8> {
    let order: [u8; 32] = [
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA,
        0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
    ];
    let mut message = message.to_vec();
    let start = message.len() - 32;
    let mut borrow = false;
    for (s, n) in message[start..].iter_mut().zip(order).rev() {
        let (difference, first) = n.overflowing_sub(*s);
        let (difference, second) = difference.overflowing_sub(u8::from(borrow));
        (*s, borrow) = (difference, first || second);
    }
    message
}

/// Signs a payload again as the stage would.
pub(crate) fn sign1(message: Message, payload: &[u8], key: &EcKey) -> Vec<u8> {
    sign1_as(content_type(message), payload, key)
}

/// Signs a payload again as the authority would.
pub(crate) fn signed(message: Message, payload: &[u8]) -> Vec<u8> {
    signed_by(content_type(message), payload, &grant(Role::Authority, &es256(4)), &es256(4), &root())
}

/// Signs a payload again as anybody would.
pub(crate) fn signed_by(
    content_type: &str,
    payload: &[u8],
    grant: &Grant<'_>,
    signer: &dyn Signer,
    root: &Es256Key,
) -> Vec<u8> {
    let certificate = certify(root, &encode_grant(grant)).unwrap();
    let part = delegation(&PublicKey::P256(root.public()), &[certificate]);
    sign_message(content_type, payload, &part, &[signer]).unwrap()
}

/// Splits a map that is keyed 1, 2, 3, … into its encoded values.
pub(crate) fn values_of(map: &[u8]) -> Vec<Vec<u8>> {
    let mut d = Decoder::new(map);
    assert_eq!(d.datatype().unwrap(), Type::Map);
    let count = d.map().unwrap().unwrap();
    let mut values = Vec::new();
    for key in 1..=count {
        assert_eq!(d.u64().unwrap(), key);
        let start = d.position();
        d.skip().unwrap();
        values.push(map[start..d.position()].to_vec());
    }
    assert_eq!(d.position(), map.len());
    values
}

/// A CBOR map whose values are given encoded, keyed 1, 2, 3, …
pub(crate) fn map(values: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = vec![0xA0 | values.len() as u8];
    for (key, value) in (1..).zip(values) {
        bytes.push(key);
        bytes.extend(value);
    }
    bytes
}

/// A payload with one field replaced: keys count from 1.
pub(crate) fn with(payload: &[u8], key: usize, value: &[u8]) -> Vec<u8> {
    let mut values = values_of(payload);
    values[key - 1] = value.to_vec();
    map(&values)
}

pub(crate) fn cbor_bytes(value: &[u8]) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    e.bytes(value).unwrap();
    e.into_writer()
}

pub(crate) fn cbor_text(value: &str) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    e.str(value).unwrap();
    e.into_writer()
}

pub(crate) fn cbor_chain(chain: &[&[u8]]) -> Vec<u8> {
    let mut e = Encoder::new(Vec::new());
    e.array(chain.len() as u64).unwrap();
    chain.iter().for_each(|certificate| {
        e.bytes(certificate).unwrap();
    });
    e.into_writer()
}

/// CBOR that is no sound value of any field of a signed payload: other types, other encodings, nonsense.
pub(crate) fn malformed_values() -> Vec<&'static [u8]> {
    vec![
        b"\xF6",         // null
        b"\xF5",         // true
        b"\xF7",         // undefined
        b"\xF9\x3C\x00", // 1.0 as a half float
        b"\xFB\x3F\xF0\0\0\0\0\0\0",
        b"\x20",     // -1
        b"\xC0\x01", // a tagged integer
        b"\xC2\x41\x01",
        b"\x00",
        b"\x02",
        b"\x18\x01", // 1 in two bytes
        b"\x19\0\x01",
        b"\x1A\0\0\0\x01",
        b"\x1B\0\0\0\0\0\0\0\x01",
        b"\x1B\xFF", // cut off
        b"\x1C",     // reserved
        b"\x60",     // empty text
        b"\x61\xFF", // no UTF-8
        b"\x7F\x61a\xFF",
        b"\x78\x01a",
        b"\x7B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x40", // empty bytes
        b"\x5F\x41\x01\xFF",
        b"\x5B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x80",
        b"\x81\x40",
        b"\x81\x01",
        b"\x9F\xFF",
        b"\x9B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\xA0",
        b"\xBF\xFF",
        b"\xBB\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\xFF", // break
        b"",
    ]
}
