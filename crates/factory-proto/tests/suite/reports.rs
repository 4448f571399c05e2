//! What is refused of the messages that nobody signs.

use crate::samples::{cbor_bytes, cbor_text, malformed_values, map, values_of, with};
use factory_proto::{Error, Hello, MAX_TEXT, Message, Outcome, Phase, Progress, Refusal};
use fail_code::FailCode;
use proptest::prelude::*;

fn decode(message: Message, untrusted: &[u8]) -> Result<Vec<u8>, Error> {
    match message {
        Message::Refusal => Refusal::decode(untrusted).map(|it| it.encode()),
        Message::Progress => Progress::decode(untrusted).map(|it| it.encode()),
        Message::Outcome => Outcome::decode(untrusted).map(|it| it.encode()),
        Message::Hello => Hello::decode(untrusted).map(|it| it.encode()),
        _ => panic!("{} is signed", message.name()),
    }
}

fn sound() -> [(Message, Vec<u8>); 4] {
    [
        (Message::Refusal, Refusal::new(FailCode::LotRevoked, "since yesterday").encode()),
        (
            Message::Progress,
            Progress { step: 4, phase: Phase::End, micros: 1 << 33, bytes: 1 << 24 }.encode(),
        ),
        (Message::Outcome, Outcome { code: 1040 }.encode()),
        (Message::Hello, Hello.encode()),
    ]
}

fn assert_refused(message: Message, untrusted: &[u8]) {
    let error = decode(message, untrusted).expect_err("taken");
    assert!(matches!(error, Error::Malformed { message: of, .. } if of == message));
    assert_eq!(error.code(), FailCode::AnswerMalformed, "{}: {untrusted:02X?}", message.name());
}

#[test]
fn sound_messages_come_back_as_they_were() {
    for (message, bytes) in sound() {
        assert_eq!(decode(message, &bytes).as_ref(), Ok(&bytes));
    }
    assert_eq!(Hello.encode(), [0xA0]);
}

#[test]
fn every_malformed_value_of_every_field_is_refused() {
    // One-byte integers are sound values of these fields.
    let integers: [&[u8]; 2] = [b"\0", b"\x02"];
    for (message, bytes) in sound() {
        for key in 1..=values_of(&bytes).len() {
            for value in malformed_values() {
                let empty_text = (message, key, value) == (Message::Refusal, 2, b"\x60");
                if !integers.contains(&value) && !empty_text {
                    assert_refused(message, &with(&bytes, key, value));
                }
            }
        }
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let [refusal, progress, outcome, _] = sound().map(|(_, bytes)| bytes);
    let long = cbor_text(&"x".repeat(MAX_TEXT + 1));
    for text in
        [long, cbor_text("\n"), cbor_text("\x1B[2J"), cbor_text("\x7F"), cbor_text("ü"), cbor_bytes(b"x")]
    {
        assert_refused(Message::Refusal, &with(&refusal, 2, &text));
    }
    for code in [&b"\0"[..], b"\x1A\0\x01\0\0", b"\x20", b"\x1B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"] {
        assert_refused(Message::Refusal, &with(&refusal, 1, code));
    }
    for code in [&b"\x1A\0\x01\0\0"[..], b"\x20", b"\x1B\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"] {
        assert_refused(Message::Outcome, &with(&outcome, 1, code));
    }
    for (key, value) in [(1, &b"\x09"[..]), (1, b"\x18\xFF"), (1, b"\x19\x01\0"), (2, b"\x02"), (2, b"\x17")]
    {
        assert_refused(Message::Progress, &with(&progress, key, value));
    }
}

#[test]
fn messages_of_another_shape_are_refused() {
    for (message, bytes) in sound() {
        let values = values_of(&bytes);
        assert_refused(message, &[&bytes[..], b"\0"].concat());
        assert_refused(message, &[b"\xC0", &bytes[..]].concat());
        assert_refused(message, &cbor_bytes(&bytes));
        assert_refused(message, &map(&[&values[..], &[vec![0]]].concat()));
        assert_refused(message, &[&[0xB8, bytes[0] & 0x1F], &bytes[1..]].concat());
        assert_refused(message, &[b"\xBF", &bytes[1..], b"\xFF"].concat());
        assert_refused(message, b"\x80");
        assert_refused(message, b"\xF6");
        for length in 0..bytes.len() {
            assert_refused(message, &bytes[..length]);
        }
        for (other, bytes) in sound() {
            if other != message {
                assert_refused(message, &bytes);
            }
        }
    }
}

#[test]
fn a_refusal_never_carries_what_a_terminal_would_act_on() {
    let long = "x".repeat(MAX_TEXT + 1);
    for text in ["\x1B[2J", "\n", "ü", &long] {
        let refusal = Refusal::new(FailCode::LotUnknown, text);
        assert_eq!((refusal.code, refusal.text), (1131, ""));
    }
}

proptest! {
    #[test]
    fn whatever_is_taken_is_the_one_encoding(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
        for (message, _) in sound() {
            if let Ok(again) = decode(message, &bytes) {
                prop_assert_eq!(again, bytes.clone());
            }
        }
    }
}
