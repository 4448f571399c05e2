//! What the authority refuses of a request.

use crate::common::*;
use crate::samples::*;
use crate::verdict::verdict;
use boot_crypto::{EcKey, Key};
use boot_info::{Statement, Subject};
use factory_proto::authority::AnswerError;
use factory_proto::device::{Device, Session};
use factory_proto::{Error, Message, content_type};
use fail_code::FailCode::{self, *};
use lifecycle::{FuseFacts, Lifecycle};
use sealed_image::cbor::parse_exact;
use sealed_image::cose::UntrustedSign1;

fn payload() -> Vec<u8> {
    sign1_payload(&Samples::sound().request)
}

/// The verdict on a payload that the stage's own key signs.
fn signed_again(payload: &[u8]) -> Option<FailCode> {
    let samples = Samples::sound();
    let message = sign1(Message::Request, payload, &samples.die.stage_key);
    verdict(Message::Request, &message)
}

/// The verdict on a request of a die with these fuses and this statement.
fn of_die(facts: &FuseFacts, edit: impl FnOnce(&mut Statement)) -> Option<FailCode> {
    let mut die = Die::new(Samples::DIE);
    die.state(facts, edit);
    verdict(Message::Request, die.session().request())
}

#[test]
fn the_same_session_makes_the_same_request() {
    let die = Die::new(0x20);
    assert_eq!(die.session().request(), die.session().request());
    let other = die.session_with([0x4F; 32]);
    assert_ne!(die.session().request_digest(), other.request_digest());
    assert_ne!(die.session().request_digest(), Die::new(0x30).session().request_digest());
}

#[test]
fn values_out_of_bounds_are_refused_although_they_are_signed() {
    let payload = payload();
    let long = [0x30; 2049];
    let cases = [
        (2, cbor_bytes(&[0; 31])),
        (2, cbor_bytes(&[0; 33])),
        (3, cbor_bytes(&[0; 31])),
        (3, cbor_bytes(&[0; 33])),
        (4, cbor_bytes(&[0; 63])),
        (4, cbor_bytes(&[0; 65])),
        (5, cbor_chain(&[])),
        (5, cbor_chain(&[b"1", b"2", b"3", b"4", b"5"])),
        (5, cbor_chain(&[b""])),
        (5, cbor_chain(&[b"1", b""])),
        (5, cbor_chain(&[&long])),
        (5, cbor_bytes(b"a certificate")),
        (6, cbor_bytes(&long[..1025])),
        (7, cbor_bytes(&long[..1025])),
        (8, cbor_text("Test-board")),
        (8, cbor_text("test board")),
        (8, cbor_text("test-board\0")),
        (8, cbor_text("tést-board")),
        (8, cbor_text("a23456789-123456789-123456789-123")),
    ];
    for (key, value) in cases {
        assert_eq!(signed_again(&with(&payload, key, &value)), Some(RequestMalformed), "field {key}");
    }
}

#[test]
fn payloads_of_another_shape_are_refused_although_they_are_signed() {
    let sound = payload();
    let values = values_of(&sound);
    let mut cases = vec![vec![], vec![0xA0], [&sound[..], b"\0"].concat(), [b"\xC0", &sound[..]].concat()];
    cases.push(map(&values[..7]));
    cases.push(map(&[&values[..], &[vec![0]]].concat()));
    cases.push([b"\xB8\x08", &sound[1..]].concat());
    cases.push([b"\xBF", &sound[1..], b"\xFF"].concat());
    cases.push(cbor_bytes(&sound));
    for key in [0, 2, 9, 0x18, 0x20, 0x61] {
        let mut renamed = sound.clone();
        renamed[1] = key;
        cases.push(renamed);
    }
    for case in cases {
        assert_eq!(signed_again(&case), Some(RequestMalformed), "{case:02X?}");
    }
}

#[test]
fn envelopes_of_another_shape_are_refused() {
    let samples = Samples::sound();
    let (payload, key) = (payload(), &samples.die.stage_key);
    let of = |message: &[u8]| verdict(Message::Request, message);
    let text = content_type(Message::Request);
    let mut header = b"\xA2\x01\x26\x03".to_vec();
    header.extend(cbor_text(text));
    assert_eq!(of(&sign1_with(&header, &payload, key)), None);
    let mut es384 = b"\xA2\x01\x38\x22\x03".to_vec();
    es384.extend(cbor_text(text));
    let mut no_algorithm = b"\xA1\x03".to_vec();
    no_algorithm.extend(cbor_text(text));
    let mut swapped = b"\xA2\x03".to_vec();
    swapped.extend(cbor_text(text));
    swapped.extend(b"\x01\x26");
    let with_kid = [b"\xA3", &header[1..], b"\x04\x41\x01"].concat();
    let longer = [&header[..], b"\0"].concat();
    let wide = [b"\xB8\x02", &header[1..]].concat();
    for header in [vec![], vec![0xA0], es384, no_algorithm, swapped, with_kid, longer, wide] {
        assert_eq!(of(&sign1_with(&header, &payload, key)), Some(RequestSignature), "{header:02X?}");
    }

    let sound = sign1(Message::Request, &payload, key);
    let untagged = &sound[1..];
    let sign_tag = [b"\xD8\x62", untagged].concat();
    let mac_tag = [b"\xD1", untagged].concat();
    let mut five = [&sound[..], b"\x40"].concat();
    five[1] = 0x85;
    let start = 2 + 2 + header.len();
    assert_eq!(sound[start], 0xA0, "the unprotected header");
    let mut unprotected = sound.clone();
    unprotected.splice(start..=start, *b"\xA1\x04\x41\x01");
    let mut short_signature = sound[..sound.len() - 66].to_vec();
    short_signature.extend(cbor_bytes(&[1; 63]));
    let mut long_signature = sound[..sound.len() - 66].to_vec();
    long_signature.extend(cbor_bytes(&[1; 65]));
    for message in [untagged, &sign_tag, &mac_tag, &five, &unprotected, &short_signature, &long_signature] {
        assert_eq!(of(message), Some(RequestMalformed), "{message:02X?}");
    }
}

#[test]
fn what_the_stage_signed_as_something_else_is_no_request() {
    let samples = Samples::sound();
    let payload = payload();
    for message in Message::ALL.into_iter().filter(|message| *message != Message::Request) {
        let other = sign1(message, &payload, &samples.die.stage_key);
        assert_eq!(verdict(Message::Request, &other), Some(RequestSignature));
    }
    let statement = sign1_as("application/kiln-statement+cbor", &payload, &samples.die.stage_key);
    assert_eq!(verdict(Message::Request, &statement), Some(RequestSignature));
}

/// A station would make a second request of it: the authority, which knows requests by their digest, would have spent the
/// nonce on one that no device sent.
#[test]
fn the_other_signature_of_the_two_that_are_valid_is_refused() {
    let samples = Samples::sound();
    let altered = with_high_s(&samples.request);
    let sign1: UntrustedSign1<'_> = parse_exact(&altered).unwrap();
    assert!(sign1.verify(&samples.die.stage_key.public()).accepts(), "the signature is valid");
    assert_eq!(verdict(Message::Request, &altered), Some(RequestSignature));
    assert_eq!(verdict(Message::Csr, &with_high_s(&samples.csr)), Some(CsrUnbound));
    assert_eq!(with_high_s(&altered), samples.request);
    // Every signature of a device is the lower one, whatever it signs.
    for seed in 0..32 {
        let session = samples.die.session_with([seed; 32]);
        assert!(samples.die.verify(session.request()).is_ok());
    }
}

#[test]
fn another_sound_value_that_the_stage_did_not_sign_is_refused() {
    let samples = Samples::sound();
    let payload = payload();
    let other = ec(0x70);
    let cases = [
        (2, cbor_bytes(&[1; 32])),
        (3, cbor_bytes(&[1; 32])),
        (4, cbor_bytes(&other.public())),
        (5, cbor_chain(&[b"another certificate"])),
        (8, cbor_text("other-board")),
    ];
    for (key, value) in cases {
        let mut altered = sign1(Message::Request, &with(&payload, key, &value), &samples.die.stage_key);
        let signature = samples.request[samples.request.len() - 64..].to_vec();
        let at = altered.len() - 64;
        altered[at..].copy_from_slice(&signature);
        assert_eq!(verdict(Message::Request, &altered), Some(RequestSignature), "field {key}");
        // Nor does it help to sign with a key that no statement names.
        let forged = sign1(Message::Request, &with(&payload, key, &value), &other);
        assert_eq!(verdict(Message::Request, &forged), Some(RequestSignature), "field {key}");
    }
}

#[test]
fn a_request_of_another_die_is_refused() {
    let samples = Samples::sound();
    let other = Die::new(0x30);
    // Whole, under this die's certificate.
    let of = |message: &[u8]| verdict(Message::Request, message);
    assert_eq!(of(other.session().request()), Some(StatementInvalid));
    // With this die's statement: the other's stage cannot sign for it.
    let mut mixed = Die::new(0x30);
    mixed.statement = samples.die.statement.clone();
    assert_eq!(of(mixed.session().request()), Some(RequestSignature));
    // With the other's statement, signed by this die's stage.
    let mut mixed = Die::new(Samples::DIE);
    mixed.statement = other.statement.clone();
    assert_eq!(of(mixed.session().request()), Some(StatementInvalid));
}

#[test]
fn a_statement_that_the_die_key_did_not_sign_is_refused() {
    for forger in [ec(0x21), ec(0x22), ec(0x55)] {
        let mut die = Die::new(Samples::DIE);
        die.die_key = forger;
        die.state(&fuse_policy().secured(), |_| ());
        let request = die.session().request().to_vec();
        assert_eq!(verdict(Message::Request, &request), Some(StatementInvalid));
    }
    let payload = payload();
    for junk in [&b"\xD2"[..], &[0; 254], b"no statement"] {
        assert_eq!(signed_again(&with(&payload, 6, &cbor_bytes(junk))), Some(StatementInvalid));
    }
}

#[test]
fn only_a_die_in_secured_is_provisioned() {
    let secured = fuse_policy().secured();
    let production = fuse_policy().production();
    assert_eq!(of_die(&secured, |_| ()), None);
    assert_eq!(of_die(&production, |_| ()), Some(LifecycleWrong));
    for lifecycle in Lifecycle::ALL.into_iter().filter(|state| *state != Lifecycle::Secured) {
        let facts = FuseFacts { lifecycle, ..secured };
        let stage_key = Subject::StageKey(ec(Samples::DIE + 1).public());
        let expected = if lifecycle.codeword() >= 0x1_0000 { LifecycleWrong } else { StatementInvalid };
        assert_eq!(of_die(&facts, |it| it.subject = stage_key), Some(expected), "{lifecycle:?}");
    }
    // A statement for an install names no key to ask with.
    assert_eq!(of_die(&secured, |it| it.subject = Subject::Closed(INSTALL)), Some(LifecycleWrong));
}

#[test]
fn fuses_that_the_die_key_did_not_sign_are_refused() {
    let secured = fuse_policy().secured();
    let lying = FuseFacts { debug_lock: lifecycle::Flag::Clear, ..secured };
    // The die is open, the report says it is not.
    assert_eq!(of_die(&secured, |it| it.fuse_digest = lying.digest()), Some(FuseDigestWrong));
    assert_eq!(of_die(&secured, |it| it.fuse_digest = [0; 32]), Some(FuseDigestWrong));
    let payload = payload();
    assert_eq!(signed_again(&with(&payload, 7, &cbor_bytes(&lying.encode()))), Some(FuseDigestWrong));
    assert_eq!(signed_again(&with(&payload, 7, &cbor_bytes(b"junk"))), Some(FuseDigestWrong));
    // The statement says Secured and vouches for fuses that say otherwise.
    let contradiction = fuse_policy().production();
    let mut die = Die::new(Samples::DIE);
    die.state(&secured, |it| it.fuse_digest = contradiction.digest());
    die.fuse_facts = contradiction.encode().to_vec();
    let verdict_of = |die: &Die| verdict(Message::Request, die.session().request());
    assert_eq!(verdict_of(&die), Some(StatementInvalid));
    // A later release's facts.
    let mut unknown = secured.encode();
    unknown[0] = 2;
    die.state(&secured, |it| it.fuse_digest = boot_crypto::sha256(&unknown));
    die.fuse_facts = unknown.to_vec();
    assert_eq!(verdict_of(&die), Some(RequestMalformed));
}

#[test]
fn no_ticket_is_made_for_a_key_that_is_no_point() {
    let samples = Samples::sound();
    for key in [[0; 64], [0xFF; 64], [1; 64]] {
        let payload = with(&payload(), 4, &cbor_bytes(&key));
        let request = sign1(Message::Request, &payload, &samples.die.stage_key);
        let verified = samples.die.verify(&request).unwrap();
        let content_key = Key::new(CONTENT_KEY);
        let refused = authority().ticket(&verified, &samples.die.install(&content_key)).unwrap_err();
        let told = refused.to_string();
        let AnswerError::Refused(error) = refused else { panic!("{told}") };
        assert_eq!(told, format!("a device would refuse the answer: {error}"));
        assert_eq!(error, Error::EphemeralKey { message: Message::Request });
        assert_eq!(error.code(), RequestMalformed);
    }
}

#[test]
fn a_device_does_not_send_what_would_be_refused() {
    let die = Die::new(0x20);
    let refused = |device: Device<'_>| {
        let ephemeral = EcKey::from_scalar(&[3; 32]).unwrap();
        Session::new(device, &die.stage_key, ephemeral, NONCE).err().map(|error| error.code())
    };
    let sound = die.device();
    assert_eq!(refused(sound), None);
    let (two_kib, long) = ([0x30; 2048], [0x30; 2049]);
    let four = [&two_kib[..]; 4];
    assert_eq!(refused(Device { die_chain: &four[..3], ..sound }), None);
    for device in [
        Device { die_chain: &four, ..sound },
        Device { die_chain: &[], ..sound },
        Device { die_chain: &[b""], ..sound },
        Device { die_chain: &[&long], ..sound },
        Device { die_chain: &[&b"1"[..]; 5], ..sound },
        Device { statement: b"", ..sound },
        Device { statement: &long, ..sound },
        Device { fuse_facts: b"", ..sound },
        Device { fuse_facts: &long, ..sound },
        Device { board: "", ..sound },
        Device { board: "Board", ..sound },
        Device { board: "a23456789-123456789-123456789-123", ..sound },
    ] {
        assert_eq!(refused(device), Some(RequestMalformed), "{device:?}");
    }
}
