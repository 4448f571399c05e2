//! Who signed, what the signature covers, and how it is encoded.

use boot_crypto::{Key, sha256};
use factory_proto::authority::{Authority, Install, UntrustedCsr, UntrustedRequest};
use factory_proto::{Csr, Message};
use fail_code::FailCode;
use fuzz_targets::sample::{self, CHIP_ID, INSTALL, SERIAL, Talk, boot, facts, plain, signed};
use sealed_image::host::{SignedPayload, certify, delegation, encode_grant, encode_key};
use sealed_image::{Es256, Kind, PublicKey, Role, Version};

use crate::images::{assembled, open, parts, seal};

/// The sound image with another part of its metadata.
fn with(part: usize, change: impl FnOnce(&mut Vec<u8>)) -> Option<FailCode> {
    let image = seal(&signed());
    let mut parts = parts(&image);
    change(&mut parts[part]);
    open(&assembled(&parts, &image[4096..])).err()
}

/// Finds bytes in a part, and puts others there.
fn replace(part: &mut Vec<u8>, what: &[u8], by: &[u8]) {
    let at = part.windows(what.len()).position(|window| window == what).expect("it is there");
    part.splice(at..at + what.len(), by.iter().copied());
}

const MANIFEST: usize = 1;
const CONTENT_TYPE: &[u8] = b"application/kiln-manifest+cbor";

pub(crate) fn the_message_says_what_is_covered() {
    assert_eq!(with(MANIFEST, |_| ()), None);
    // A header that nobody signed, at the message and at the signature.
    let header = [CONTENT_TYPE, b"\xA0"].concat();
    for unsigned in [&b"\xA1\x03\x60"[..], b"\xA1\x01\x26", b"\xA1\x04\x41\x00", b"\xBF\xFF"] {
        let code = with(MANIFEST, |part| replace(part, &header, &[CONTENT_TYPE, unsigned].concat()));
        assert_eq!(code, Some(FailCode::ManifestMalformed), "{unsigned:02X?}");
        let code = with(MANIFEST, |part| {
            let at = part.len() - 64 - 2 - 1;
            assert_eq!(part[at], 0xA0);
            part.splice(at..=at, unsigned.iter().copied());
        });
        assert_eq!(code, Some(FailCode::ManifestMalformed), "{unsigned:02X?}");
    }
    // A payload that is not in the message, and one of another type.
    let code = with(MANIFEST, |part| {
        let at = part.windows(2).position(|window| window == [0xA9, 1]).unwrap();
        part.splice(at - 2..at + usize::from(part[at - 1]), [0xF6]);
    });
    assert_eq!(code, Some(FailCode::ManifestMalformed));
    let code = with(MANIFEST, |part| replace(part, CONTENT_TYPE, b"application/kiln-manifesu+cbor"));
    assert_eq!(code, Some(FailCode::ManifestMalformed));
    // No signature, and one that is there twice.
    let code = with(MANIFEST, |part| {
        let at = part.windows(3).position(|window| window == [0x81, 0x83, 0x58]).unwrap();
        part.truncate(at);
        part.push(0x80);
    });
    assert_eq!(code, Some(FailCode::ManifestMalformed));
    let code = with(MANIFEST, |part| {
        let at = part.windows(3).position(|window| window == [0x81, 0x83, 0x58]).unwrap();
        part[at] = 0x82;
        let first = part[at + 1..].to_vec();
        part.extend(first);
    });
    assert_eq!(code, Some(FailCode::SignatureInvalid));
}

pub(crate) fn a_signature_of_zeros() {
    const N: [u8; 32] = [
        0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xBC, 0xE6, 0xFA,
        0xAD, 0xA7, 0x17, 0x9E, 0x84, 0xF3, 0xB9, 0xCA, 0xC2, 0xFC, 0x63, 0x25, 0x51,
    ];
    let sound = Talk::sample();
    let die = sample::die_key().public();
    for r in [[0; 32], N, [0xFF; 32]] {
        for s in [[0; 32], N, [0xFF; 32]] {
            let forged = [r, s].concat();
            let place = |part: &mut Vec<u8>| {
                let at = part.len() - 64;
                part[at..].copy_from_slice(&forged);
            };
            assert_eq!(with(MANIFEST, place), Some(FailCode::SignatureInvalid));
            assert_eq!(with(0, place), Some(FailCode::DelegationSignature));
            let mut request = sound.request.clone();
            place(&mut request);
            let refused = UntrustedRequest::parse(&request).unwrap().verify(&die).unwrap_err();
            assert_eq!(refused.code(), FailCode::RequestSignature);
        }
    }
}

pub(crate) fn the_message_chooses_the_algorithm() {
    // The header of the signature: {1: -7, 4: key id}. Others of the registry's, and none.
    for algorithm in [&b"\x38\x22"[..], b"\x38\x23", b"\x38\x24", b"\x05", b"\x00", b"\x27", b"\x38\xFF"] {
        let code = with(MANIFEST, |part| {
            let at = part.windows(4).position(|window| window == [0xA2, 1, 0x26, 4]).unwrap();
            part.splice(at + 2..at + 3, algorithm.iter().copied());
            part[at - 1] += algorithm.len() as u8 - 1;
        });
        // PS256 is known, and not what the delegated key is for; all others are not known.
        let expected = match algorithm {
            b"\x38\x24" => FailCode::SignatureInvalid,
            _ => FailCode::ManifestMalformed,
        };
        assert_eq!(code, Some(expected), "{algorithm:02X?}");
    }
}

/// The verdict on an image whose signer's grant holds this key.
fn with_key(key: &[u8]) -> Option<FailCode> {
    let (signer, _) = boot();
    let grant = sample::grant(Role::Boot, &[Kind::Stage2], &signer, Version::MIN);
    let mut grant = encode_grant(&grant);
    replace(&mut grant, &encode_key(&PublicKey::P256(signer.public())), key);
    let certificate = certify(&sample::root(), &grant).unwrap();
    let part = delegation(&PublicKey::P256(sample::root().public()), &[certificate]);
    open(&seal(&SignedPayload::sign(&facts(), plain(), &part, &[&signer]).unwrap())).err()
}

pub(crate) fn a_key_with_parameters() {
    let key = encode_key(&PublicKey::P256(boot().0.public()));
    assert_eq!(with_key(&key), None);
    // {1: 2, -1: 1, -2: x, -3: y} and a generator; another curve; a curve by its own parameters; a compressed point.
    let mut more = key.clone();
    more[0] = 0xA5;
    more.extend([0x23, 0x41, 1]);
    let mut curve = key.clone();
    curve[4] = 2;
    let mut explicit = key.clone();
    explicit.splice(4..5, [0x82, 1, 2]);
    let mut compressed = key[..8 + 32].to_vec();
    compressed.extend([0x22, 0xF5]);
    for key in [more, curve, explicit, compressed] {
        assert_eq!(with_key(&key), Some(FailCode::DelegationMalformed), "{key:02X?}");
    }
    // A point that is on no curve, though its encoding is right.
    let mut off = key;
    off[20] ^= 1;
    assert_eq!(with_key(&off), Some(FailCode::SignatureInvalid));
}

pub(crate) fn a_nul_in_a_name() {
    let board = |board: &str| {
        let (key, part) = boot();
        let mut list = Vec::new();
        plain().chunks(4096).for_each(|chunk| list.extend(sha256(chunk)));
        let load = sample::LOAD;
        let manifest = sample::encoded(|e| {
            e.map(9)?.u8(1)?.u8(2)?.u8(2)?.str(board)?.u8(3)?.u64(1 << 48)?.u8(4)?.u32(5)?;
            e.u8(5)?.u64(load)?.u8(6)?.u64(load)?.u8(7)?.u64(5000)?.u8(8)?.u32(4096)?;
            e.u8(9)?.bytes(&sha256(&list))?.ok()
        });
        open(&seal(&SignedPayload::sign_encoded(&manifest, 4096, plain(), &part, &[&key]).unwrap())).err()
    };
    assert_eq!(board(sample::BOARD), None);
    for name in
        ["test-board\0", "test-board\0.evil", "\0test-board", "test-board@1", "test-board/", "Test-board"]
    {
        assert_eq!(board(name), Some(FailCode::ManifestMalformed), "{name:?}");
    }
    for name in ["test-boar", "test-board-", "test-board1"] {
        assert_eq!(board(name), Some(FailCode::BoardWrong), "{name}");
    }
}

pub(crate) fn room_in_an_encoding() {
    let talk = Talk::sample();
    let stage_key = sample::stage_key().public();
    let digest = sample::with_session(|session| *session.request_digest());
    let code = |der: &[u8]| {
        let payload = Csr { install: &INSTALL, request_digest: &digest, der }.encode();
        let expected = factory_proto::authority::CsrExpected {
            stage_key: &stage_key,
            install: &INSTALL,
            request_digest: &digest,
            chip_id: &CHIP_ID,
            serial: SERIAL,
        };
        let message = sample::question(Message::Csr, &payload);
        UntrustedCsr::parse(&message).unwrap().verify(&expected).err().map(|error| error.code())
    };
    let der = &talk.der;
    assert_eq!(code(der), None);
    assert_eq!(der[..2], [0x30, 0x82]);
    // The outer length: in more bytes than it needs, indefinite, and with bytes behind the value or at its end.
    let longer = [&[0x30, 0x83, 0], &der[2..]].concat();
    let longest = [&[0x30, 0x84, 0, 0], &der[2..]].concat();
    let indefinite = [&[0x30, 0x80], &der[4..], &[0, 0]].concat();
    let behind = [&der[..], &[0; 16]].concat();
    let length = (der.len() as u16 - 4 + 2).to_be_bytes();
    let inside = [&[0x30, 0x82], &length[..], &der[4..], &[5, 0]].concat();
    for altered in [longer, longest, indefinite, behind, inside] {
        assert_eq!(code(&altered), Some(FailCode::RequestMalformed), "{altered:02X?}");
    }
}

pub(crate) fn two_tickets_share_nothing() {
    let talk = Talk::sample();
    let untrusted = UntrustedRequest::parse(&talk.request).unwrap();
    let verified = untrusted.verify(&sample::die_key().public()).unwrap();
    let key = sample::es256(4);
    let certificate = encode_grant(&sample::grant(Role::Authority, &[], &key, Version::MIN));
    let certificate = certify(&sample::root(), &certificate).unwrap();
    let authority =
        Authority::new(&PublicKey::P256(sample::root().public()), certificate, Box::new(sample::es256(4)));
    let content_key = Key::new(sample::CONTENT_KEY);
    let install = Install { id: &INSTALL, chip_id: &CHIP_ID, serial: SERIAL, content_key: &content_key };
    let mut blocks = std::collections::HashSet::new();
    let roots = sample::roots();
    for _ in 0..8 {
        let ticket = authority.ticket(&verified, &install).unwrap();
        sample::with_session(|session| {
            let opened = session.verify_ticket::<Es256>(&ticket, &sample::trust(&roots)).unwrap();
            assert_eq!(*opened.content_key.expose(), sample::CONTENT_KEY);
        });
        // The secrets: the last field of the payload, of 80 bytes; the content key lies in the first two blocks.
        let at =
            ticket.windows(3).position(|window| window == [8, 0x58, 80]).expect("the secrets are there") + 3;
        ticket[at..at + 80]
            .chunks(16)
            .for_each(|block| assert!(blocks.insert(block.to_vec()), "a block twice"));
    }
    assert_eq!(blocks.len(), 8 * 5);
}
