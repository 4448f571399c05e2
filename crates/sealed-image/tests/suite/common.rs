//! An owner, an image, and a device that reads it.

use boot_crypto::Key;
use boot_crypto::host::Es256Key;
use sealed_image::host::{Facts, SignedPayload, Signer, certify, delegation, encode_grant};
use sealed_image::{
    Compression, Error, Es256, Es256AndPs256, Grant, Header, Kind, KindSet, MAX_BOARDS, Opener, Policy,
    PublicKey, Role, Root, Tally, UntrustedImage, Version,
};

pub(crate) const BOARD: &str = "test-board";
pub(crate) const CHUNK: u32 = 4096;
pub(crate) const LOAD: u64 = 0x0E20_0000;

pub(crate) fn key(seed: u8) -> Es256Key {
    Es256Key::from_scalar(&[seed; 32]).unwrap()
}

pub(crate) fn root() -> Es256Key {
    key(1)
}

pub(crate) fn boot() -> Es256Key {
    key(2)
}

pub(crate) fn kek() -> Key {
    Key::new([9; 32])
}

/// Two chunks, the second one short.
pub(crate) fn plain() -> Vec<u8> {
    (0..5000_u32).map(|i| (i / 8) as u8).collect()
}

pub(crate) fn facts() -> Facts {
    Facts {
        kind: Kind::Stage2,
        board: BOARD.into(),
        version: Version::new(1, 2, 3),
        rollback_index: 5,
        load_address: LOAD,
        entry: LOAD + 8,
        chunk_size: CHUNK,
    }
}

pub(crate) fn grant<'a>(role: Role, kinds: &[Kind], key: PublicKey<'a>) -> Grant<'a> {
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let (min_version, max_version) = (Version::new(1, 0, 0), Version::new(1, 65535, 0));
    Grant { role, key, kinds: KindSet::new(kinds), boards, min_version, max_version }
}

pub(crate) fn boot_grant(key: &dyn Signer) -> Grant<'_> {
    grant(Role::Boot, &[Kind::Stage2], key.public_key())
}

pub(crate) fn delegate(grants: &[Grant<'_>]) -> Vec<u8> {
    let certificates: Vec<_> =
        grants.iter().map(|grant| certify(&root(), &encode_grant(grant)).unwrap()).collect();
    delegation(&root().public_key(), &certificates)
}

/// The sound image that the tests start from.
pub(crate) fn signed() -> SignedPayload {
    signed_by(&facts(), &[boot_grant(&boot())], &[&boot()])
}

pub(crate) fn signed_by(facts: &Facts, grants: &[Grant<'_>], signers: &[&dyn Signer]) -> SignedPayload {
    SignedPayload::sign(facts, plain(), &delegate(grants), signers).unwrap()
}

pub(crate) fn image() -> Vec<u8> {
    signed().seal(&kek(), Compression::None).unwrap()
}

pub(crate) fn roots() -> [Root; 1] {
    [Root { digest: root().public_key().thumbprint(), revoked: false }]
}

pub(crate) fn policy(roots: &[Root]) -> Policy<'_> {
    Policy { board: BOARD, kind: Kind::Stage2, roots, rollback_floor: 5, refuse_test_keys: true }
}

/// Reads an image as a device does.
pub(crate) fn open(image: &[u8]) -> Result<Vec<u8>, Error> {
    open_with(image, &policy(&roots()))
}

pub(crate) fn open_with(image: &[u8], policy: &Policy<'_>) -> Result<Vec<u8>, Error> {
    let header = Header::parse(image)?;
    let offset = header.metadata_len() as usize;
    let short = Error::Truncated { found: image.len() as u32, expected: offset as u32 };
    let (metadata, payload) = image.split_at_checked(offset).ok_or(short)?;
    let opener = UntrustedImage::parse(metadata)?.verify::<Es256AndPs256>(policy)?.unwrap_key(&kek())?;
    open_payload(&opener, payload)
}

/// Opens a payload whose metadata was verified.
pub(crate) fn open_payload(opener: &Opener<'_>, payload: &[u8]) -> Result<Vec<u8>, Error> {
    let (mut plain, mut tally) = (Vec::new(), Tally::default());
    for chunk in opener.chunks() {
        let start = chunk.stored_offset as usize;
        let end = start + chunk.stored_len as usize;
        let short = Error::Truncated { found: payload.len() as u32, expected: end as u32 };
        let mut buffer = payload.get(start..end).ok_or(short)?.to_vec();
        if chunk.stored_len == chunk.plain_len {
            tally.add(&opener.open_chunk(chunk.index, &mut buffer)?);
        } else {
            let mut plain = vec![0; chunk.plain_len as usize];
            tally.add(&opener.open_chunk_into(chunk.index, &mut buffer, &mut plain)?);
            buffer = plain;
        }
        plain.extend(buffer);
    }
    let _whole = opener.finish(&tally)?;
    Ok(plain)
}

/// Verifies the metadata of an image and unwraps its key.
pub(crate) fn opener(image: &[u8]) -> Opener<'_> {
    let metadata = &image[..Header::parse(image).unwrap().metadata_len() as usize];
    let verified = UntrustedImage::parse(metadata).unwrap().verify::<Es256>(&policy(&roots())).unwrap();
    verified.unwrap_key(&kek()).unwrap()
}

/// Where each part of an image lies.
pub(crate) fn parts(image: &[u8]) -> [(&'static str, std::ops::Range<usize>); 6] {
    let header = Header::parse(image).unwrap();
    let mut at = 64;
    let mut next = |length: u32| {
        at += length as usize;
        at - length as usize..at
    };
    let delegation = next(header.delegation_len);
    let manifest = next(header.manifest_len);
    let sealing = next(header.sealing_len);
    let table = next(header.chunk_count * 52);
    let padding = table.end..header.payload_offset as usize;
    [
        ("header", 0..64),
        ("delegation", delegation),
        ("manifest", manifest),
        ("sealing", sealing),
        ("table", table),
        ("padding", padding),
    ]
}

/// CBOR that is no sound value of any field: other types, other encodings, nonsense.
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
        b"\x18\x01", // 1 in two bytes
        b"\x19\0\x01",
        b"\x1A\0\0\0\x01",
        b"\x1B\0\0\0\0\0\0\0\x01",
        b"\x1B\xFF", // cut off
        b"\x1C",     // reserved
        b"\x60",     // empty text
        b"\x61\0",
        b"\x61\xFF", // no UTF-8
        b"\x7F\x61a\xFF",
        b"\x78\x01a",
        b"\x7B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x40", // empty bytes
        b"\x5F\x41\x01\xFF",
        b"\x5B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\x9F\xFF",
        b"\x9B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\xA0",
        b"\xBF\xFF",
        b"\xBB\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\xFF", // break
        b"",
    ]
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

pub(crate) fn cbor(value: impl minicbor::Encode<()>) -> Vec<u8> {
    minicbor::to_vec(value).unwrap()
}

pub(crate) fn cbor_bytes(value: &[u8]) -> Vec<u8> {
    let mut e = minicbor::Encoder::new(Vec::new());
    e.bytes(value).unwrap();
    e.into_writer()
}
