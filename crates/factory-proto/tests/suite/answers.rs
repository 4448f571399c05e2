//! What a device refuses of tickets, receipts and releases: whoever signs them, for whom.

use crate::common::*;
use crate::samples::*;
use crate::verdict::{Judge, malformed};
use boot_crypto::host::{Es256Key, Ps256Key};
use boot_crypto::{Key, sha256};
use factory_proto::{Message, Trust, content_type};
use fail_code::FailCode::{self, *};
use sealed_image::host::{Signer, certify, delegation, encode_grant, sign_message};
use sealed_image::{Grant, MAX_BOARDS, PublicKey, Role, Root, Version};

/// The answers, with the code for one that is not for this device, and whether that differs from the code for one
/// that no authority signed.
const ANSWERS: [(Message, FailCode, FailCode); 3] = [
    (Message::Ticket, TicketInvalid, TicketMismatch),
    (Message::Receipt, ReceiptInvalid, ReceiptInvalid),
    (Message::Release, CertificateInvalid, CertificateInvalid),
];

fn payload(samples: &Samples, message: Message) -> Vec<u8> {
    let payload = samples.payloads().into_iter().find(|(of, _)| *of == message);
    payload.expect("an answer has a payload").1
}

/// Runs a check for each answer, with its sound payload.
fn for_each(check: impl Fn(&Judge<'_>, Message, &[u8], FailCode)) {
    let samples = Samples::sound();
    let judge = Judge::sound();
    for (message, untrusted, _) in ANSWERS {
        check(judge, message, &payload(samples, message), untrusted);
    }
}

#[test]
fn values_out_of_bounds_are_refused_although_they_are_signed() {
    let long = [0x30; 2049];
    let serials = ["", "KILN_1", "K*", "K\n", "K\0", "Kü", &"K".repeat(65), "a\x1B[31m", "a@b", "\"", "a;b"];
    let mut cases: Vec<(Message, usize, Vec<u8>)> = Vec::new();
    for (message, fields) in [
        (Message::Ticket, &[(1, 32), (2, 16), (3, 32), (4, 32), (5, 32), (7, 64), (8, 80)][..]),
        (Message::Receipt, &[(1, 32), (2, 32)]),
        (Message::Release, &[(1, 32), (2, 16)]),
    ] {
        for (key, length) in fields {
            cases.push((message, *key, cbor_bytes(&long[..length - 1])));
            cases.push((message, *key, cbor_bytes(&long[..length + 1])));
        }
    }
    cases.extend(serials.iter().map(|serial| (Message::Ticket, 6, cbor_text(serial))));
    let chains: [&[&[u8]]; 5] = [&[], &[b""], &[&long], &[b"1", b"2", b"3", b"4", b"5"], &[b"1", b""]];
    for chain in chains {
        cases.push((Message::Release, 3, cbor_chain(chain)));
    }
    let samples = Samples::sound();
    let judge = Judge::sound();
    for (message, key, value) in cases {
        let altered = signed(message, &with(&payload(samples, message), key, &value));
        assert_eq!(judge.verdict(message, &altered), Some(AnswerMalformed), "{} field {key}", message.name());
    }
    for serial in ["K", &"K".repeat(64), "A-Z a-z 0-9 '()+,-./:=?"] {
        let altered =
            signed(Message::Ticket, &with(&payload(samples, Message::Ticket), 6, &cbor_text(serial)));
        assert_eq!(judge.verdict(Message::Ticket, &altered), None, "{serial}");
    }
}

#[test]
fn payloads_of_another_shape_are_refused_although_they_are_signed() {
    for_each(|judge, message, sound, _| {
        let values = values_of(sound);
        let (all, first) = (values.len(), sound[0]);
        let mut cases = vec![vec![], vec![0xA0], [sound, b"\0"].concat(), [b"\xC0", sound].concat()];
        cases.push(map(&values[..all - 1]));
        cases.push(map(&[&values[..], &[vec![0]]].concat()));
        cases.push([&[0xB8, first & 0x1F], &sound[1..]].concat());
        cases.push([b"\xBF", &sound[1..], b"\xFF"].concat());
        cases.push(cbor_bytes(sound));
        for key in [0, 2, 9, 0x18, 0x20, 0x61] {
            let mut renamed = sound.to_vec();
            renamed[1] = key;
            cases.push(renamed);
        }
        for case in cases {
            let code = judge.verdict(message, &signed(message, &case));
            assert_eq!(code, Some(AnswerMalformed), "{}: {case:02X?}", message.name());
        }
    });
}

#[test]
fn an_answer_for_another_session_die_or_package_is_refused() {
    let samples = Samples::sound();
    let judge = Judge::sound();
    let fields: [(Message, &[(usize, usize)]); 3] = [
        (Message::Ticket, &[(1, 32), (2, 16), (3, 32), (4, 32)]),
        (Message::Receipt, &[(1, 32), (2, 32)]),
        (Message::Release, &[(1, 32), (2, 16)]),
    ];
    let mut refused = 0;
    for ((message, _, foreign), (_, fields)) in ANSWERS.into_iter().zip(fields) {
        let payload = payload(samples, message);
        for (key, length) in fields {
            let sound = &values_of(&payload)[key - 1];
            // Each bit of what binds an answer, signed again.
            for bit in 0..length * 8 {
                let mut bytes = sound[sound.len() - length..].to_vec();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let altered = signed(message, &with(&payload, *key, &cbor_bytes(&bytes)));
                let code = judge.verdict(message, &altered);
                assert_eq!(code, Some(foreign), "{} field {key}, bit {bit}", message.name());
                refused += 1;
            }
        }
    }
    assert_eq!(refused, 8 * (3 * 32 + 16 + 2 * 32 + 32 + 16));
}

#[test]
fn answers_to_another_die_are_refused() {
    let other = Samples::of(Die::new(0x30), Die::closed(0x30));
    let judge = Judge::sound();
    assert_eq!(judge.verdict(Message::Ticket, &other.ticket), Some(TicketMismatch));
    assert_eq!(judge.verdict(Message::Receipt, &other.receipt), Some(ReceiptInvalid));
    assert_eq!(judge.verdict(Message::Release, &other.release), Some(CertificateInvalid));
}

#[test]
fn a_ticket_of_an_earlier_session_is_refused() {
    let samples = Samples::sound();
    let earlier = samples.die.session_with([0x4F; 32]);
    let ticket = samples.die.ticket(earlier.request());
    assert_eq!(Judge::sound().verdict(Message::Ticket, &ticket), Some(TicketMismatch));
    // The earlier session itself, made again after a power cut, takes it as often as it comes.
    for _ in 0..2 {
        let again = samples.die.session_with([0x4F; 32]);
        assert_eq!(again.request(), earlier.request());
        assert_eq!(*open(&again, &ticket).content_key.expose(), CONTENT_KEY);
    }
}

#[test]
fn a_ticket_opens_for_its_own_session_only_even_where_all_else_is_signed_again() {
    let (samples, other) = (Samples::sound(), Samples::of(Die::new(0x30), Die::closed(0x30)));
    let judge = Judge::sound();
    let (ours, theirs) = (payload(samples, Message::Ticket), payload(&other, Message::Ticket));
    // The other die's secrets and the authority's key for them, in a ticket that names this die.
    let mut values = values_of(&ours);
    values[6] = values_of(&theirs)[6].clone();
    values[7] = values_of(&theirs)[7].clone();
    let transplanted = signed(Message::Ticket, &map(&values));
    assert_eq!(judge.verdict(Message::Ticket, &transplanted), Some(TicketMismatch));
    // Another key on the authority's side.
    let key = with(&ours, 7, &cbor_bytes(&ec(0x71).public()));
    assert_eq!(judge.verdict(Message::Ticket, &signed(Message::Ticket, &key)), Some(TicketMismatch));
    // Every byte of the secrets.
    let secrets = values_of(&ours)[7][2..].to_vec();
    assert_eq!(secrets.len(), 80);
    for byte in 0..80 {
        let mut secrets = secrets.clone();
        secrets[byte] ^= 0x10;
        let altered = signed(Message::Ticket, &with(&ours, 8, &cbor_bytes(&secrets)));
        assert_eq!(judge.verdict(Message::Ticket, &altered), Some(TicketMismatch), "byte {byte}");
    }
    // What is no point of the curve.
    for point in [[0; 64], [0xFF; 64], [1; 64]] {
        let altered = signed(Message::Ticket, &with(&ours, 7, &cbor_bytes(&point)));
        assert_eq!(judge.verdict(Message::Ticket, &altered), Some(TicketInvalid));
    }
}

#[test]
fn two_tickets_for_one_request_share_no_secret_bytes() {
    let die = Die::new(0x20);
    let session = die.session();
    let (one, two) = (die.ticket(session.request()), die.ticket(session.request()));
    let secrets = |ticket: &[u8]| values_of(&signed_payload(ticket))[7][2..].to_vec();
    assert!(secrets(&one).iter().zip(secrets(&two)).filter(|(a, b)| **a == *b).count() < 16);
    assert_ne!(open(&session, &one).entropy.expose(), open(&session, &two).entropy.expose());
    // Neither holds the content key in the clear.
    assert!(!one.windows(8).any(|window| window == &CONTENT_KEY[..8]));
}

fn key4() -> Es256Key {
    es256(4)
}

#[test]
fn only_keys_that_the_root_delegated_the_role_authority_to_answer() {
    for_each(|judge, message, payload, untrusted| {
        let text = content_type(message);
        let (key, other) = (key4(), es256(5));
        let sound = grant(Role::Authority, &key);
        let of = |grant: &Grant<'_>, signer: &dyn Signer, root: &Es256Key| {
            judge.verdict(message, &signed_by(text, payload, grant, signer, root))
        };
        assert_eq!(of(&sound, &key, &root()), None);
        let refused = Some(untrusted);
        // Another role, whatever else it may sign.
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Authority) {
            assert_eq!(of(&Grant { role, ..sound }, &key, &root()), refused, "{}", role.name());
        }
        // A key that was not delegated, a delegation by another root or by the key itself.
        assert_eq!(of(&sound, &other, &root()), refused);
        assert_eq!(of(&grant(Role::Authority, &other), &key, &root()), refused);
        assert_eq!(of(&sound, &key, &other), refused);
        assert_eq!(of(&sound, &key, &key), refused);
        // Limits: to other boards, or to versions, which a message does not have.
        let mut boards = [""; MAX_BOARDS];
        assert_eq!(of(&Grant { boards, ..sound }, &key, &root()), refused);
        boards[0] = "test-boar";
        assert_eq!(of(&Grant { boards, ..sound }, &key, &root()), refused);
        boards[1] = BOARD;
        assert_eq!(of(&Grant { boards, ..sound }, &key, &root()), None);
        let limited = Grant { min_version: Version::new(0, 0, 1), ..sound };
        assert_eq!(of(&limited, &key, &root()), refused);
        let limited = Grant { max_version: Version::new(65535, 0, 0), ..sound };
        assert_eq!(of(&limited, &key, &root()), refused);
        // The root itself answers nothing.
        assert_eq!(of(&sound, &root(), &root()), refused);
    });
}

#[test]
fn the_root_must_be_fused_not_revoked_and_not_published() {
    for_each(|judge, message, payload, untrusted| {
        let sound = signed(message, payload);
        let of = |roots: &[Root]| judge.verdict_under(message, &sound, &trust(roots));
        let [fused] = roots();
        let other = Root { digest: [7; 32], revoked: false };
        assert_eq!(of(&[other, fused]), None);
        for roots in
            [&[][..], &[other], &[Root { revoked: true, ..fused }], &[fused, Root { revoked: true, ..fused }]]
        {
            assert_eq!(of(roots), Some(untrusted), "{roots:?}");
        }

        // The published test root, and an authority key that is a published one.
        let published = |label: &str| Es256Key::from_scalar(&sha256(label.as_bytes())).unwrap();
        let test_root = published("KILN TEST KEY owner root - DO NOT SHIP");
        let test_role = published("KILN TEST KEY role boot - DO NOT SHIP");
        let key = key4();
        for (root, signer) in [(&test_root, &key), (&root(), &test_role)] {
            let roots = [Root { digest: PublicKey::P256(root.public()).thumbprint(), revoked: false }];
            let grant = grant(Role::Authority, signer);
            let answer = signed_by(content_type(message), payload, &grant, signer, root);
            assert_eq!(judge.verdict_under(message, &answer, &trust(&roots)), Some(untrusted));
            let development = Trust { refuse_test_keys: false, ..trust(&roots) };
            assert_eq!(judge.verdict_under(message, &answer, &development), None);
        }
        // On another board.
        let roots = roots();
        let elsewhere = Trust { board: "other-board", ..trust(&roots) };
        assert_eq!(judge.verdict_under(message, &sound, &elsewhere), Some(untrusted));
    });
}

#[test]
fn an_answer_of_another_type_is_refused_although_the_authority_signed_it() {
    for_each(|judge, message, payload, untrusted| {
        let grant_key = key4();
        let grant = grant(Role::Authority, &grant_key);
        let others = Message::ALL.into_iter().filter(|other| *other != message).map(content_type);
        let more = ["", "application/kiln-manifest+cbor", "application/kiln-delegation+cbor"];
        for text in others.chain(more) {
            let answer = signed_by(text, payload, &grant, &grant_key, &root());
            assert_eq!(judge.verdict(message, &answer), Some(untrusted), "{text}");
        }
    });
}

#[test]
fn all_of_several_signatures_must_hold() {
    for_each(|judge, message, payload, untrusted| {
        let (first, second, third) = (key4(), es256(5), es256(6));
        let make = |grants: &[Grant<'_>], signers: &[&dyn Signer]| {
            let certificates: Vec<_> =
                grants.iter().map(|grant| certify(&root(), &encode_grant(grant)).unwrap()).collect();
            let part = delegation(&PublicKey::P256(root().public()), &certificates);
            judge.verdict(message, &sign_message(content_type(message), payload, &part, signers).unwrap())
        };
        let grant = |key| grant(Role::Authority, key);
        let refused = Some(untrusted);
        assert_eq!(make(&[grant(&first), grant(&second)], &[&first, &second]), None);
        assert_eq!(make(&[grant(&first), grant(&second)], &[&first, &third]), refused);
        assert_eq!(make(&[grant(&first), grant(&second)], &[&second, &first]), refused);
        assert_eq!(make(&[grant(&first), grant(&second)], &[&first]), refused);
        assert_eq!(make(&[grant(&first)], &[&first, &second]), refused);
        assert_eq!(make(&[grant(&first), grant(&first)], &[&first, &first]), refused);
        let other_role = Grant { role: Role::Debug, ..grant(&second) };
        assert_eq!(make(&[grant(&first), other_role], &[&first, &second]), refused);
    });
}

#[test]
fn an_authority_may_have_an_rsa_key() {
    let pem = include_str!("../../../release/keys/TEST-ONLY-os-ps256.pem");
    let key = Ps256Key::from_pem(pem).unwrap();
    for_each(|judge, message, payload, untrusted| {
        let other = key4();
        let grant = Grant { key: key.public_key(), ..grant(Role::Authority, &other) };
        let answer = signed_by(content_type(message), payload, &grant, &key, &root());
        let roots = roots();
        let development = Trust { refuse_test_keys: false, ..trust(&roots) };
        assert_eq!(judge.verdict_under(message, &answer, &development), None);
        assert_eq!(judge.verdict(message, &answer), Some(untrusted), "the key is published");
    });
}

#[test]
fn envelopes_of_another_shape_are_refused() {
    for_each(|judge, message, payload, untrusted| {
        let sound = signed(message, payload);
        assert_eq!(judge.verdict(message, &sound), None);
        let mut three = sound.clone();
        three[0] = 0x83;
        three.push(0x40);
        let mut one = sound.clone();
        one[0] = 0x81;
        // The parts in the other order, and each twice.
        let mut d = minicbor::Decoder::new(&sound);
        d.array().unwrap();
        let (delegated, signed) = (d.bytes().unwrap(), d.bytes().unwrap());
        let pair = |a: &[u8], b: &[u8]| [&[0x82][..], &cbor_bytes(a), &cbor_bytes(b)].concat();
        assert_eq!(pair(delegated, signed), sound);
        for case in [&three, &one, &signed.to_vec(), &delegated.to_vec(), &cbor_bytes(&sound)] {
            assert_eq!(judge.verdict(message, case), Some(malformed(message)));
        }
        let no_signature = pair(delegated, b"");
        assert_eq!(judge.verdict(message, &no_signature), Some(malformed(message)));
        for case in [pair(signed, delegated), pair(signed, signed), pair(b"", signed), pair(b"\x80", signed)]
        {
            assert_eq!(judge.verdict(message, &case), Some(untrusted), "no delegation");
        }
    });
}

#[test]
fn an_authority_does_not_sign_what_a_device_refuses() {
    let die = Die::new(0x20);
    let request = die.session().request().to_vec();
    let verified = die.verify(&request).unwrap();
    let content_key = Key::new(CONTENT_KEY);
    for serial in ["", "a_b", &"K".repeat(65)] {
        let install = factory_proto::authority::Install { serial, ..die.install(&content_key) };
        assert!(authority().ticket(&verified, &install).is_err(), "{serial}");
    }
    let long = [0; 2049];
    let chains: [&[&[u8]]; 5] = [&[], &[b""], &[&long], &[b"1", b"2", b"3", b"4", b"5"], &[&long[..2048]; 4]];
    for chain in chains {
        assert!(authority().release(&INSTALL, &CHIP_ID, chain).is_err());
    }
}
