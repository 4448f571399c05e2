//! Somebody else's CDDL tool takes real messages, and refuses bad ones.

use crate::samples::{Samples, cbor_bytes, malformed_values, map, sign1, signed, values_of, with};
use factory_proto::{Hello, Message, Outcome, Phase, Progress, Refusal};
use std::fmt::Write as _;
use std::io::Write as _;
use std::process::{Command, Stdio};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/validate_cddl.py");
const CDDL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kiln.cddl");

/// Validates messages with the interpreter that `KILN_PYTHON` names, which has `zcbor`.
fn validate(cases: &[(String, Vec<u8>)]) -> Vec<String> {
    let python = std::env::var("KILN_PYTHON");
    let python = python
        .expect("KILN_PYTHON names an interpreter with zcbor: run `cargo xtask test`, which sets it up");
    let mut input = String::new();
    for (rule, message) in cases {
        writeln!(input, "{rule} {}", hex(message)).unwrap();
    }
    let mut tool = Command::new(python);
    tool.args([SCRIPT, CDDL]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut tool = tool.spawn().unwrap();
    let mut stdin = tool.stdin.take().unwrap();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()).unwrap());
    let output = tool.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success(), "the tool failed");
    let verdicts: Vec<_> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(verdicts.len(), cases.len());
    verdicts
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn assert_valid(cases: &[(String, Vec<u8>)]) {
    for ((rule, message), verdict) in cases.iter().zip(validate(cases)) {
        assert_eq!(verdict, "valid", "{rule}: {}", hex(message));
    }
}

fn assert_refused(cases: &[(String, Vec<u8>)]) {
    for ((rule, message), verdict) in cases.iter().zip(validate(cases)) {
        assert!(verdict.starts_with("refused: "), "{rule} was taken: {}", hex(message));
    }
}

/// Every message, as the other party gets it.
fn messages(samples: &Samples) -> Vec<(String, Vec<u8>)> {
    let end = Progress { step: 8, phase: Phase::End, micros: u64::MAX, bytes: 1 << 40 };
    let messages = [
        (Message::Request, samples.request.clone()),
        (Message::Ticket, samples.ticket.clone()),
        (Message::Csr, samples.csr.clone()),
        (Message::Receipt, samples.receipt.clone()),
        (Message::ClosingProof, samples.closing_proof.clone()),
        (Message::Release, samples.release.clone()),
        (Message::Refusal, Refusal::new(fail_code::FailCode::QuotaExhausted, "5 of 5 taken").encode()),
        (Message::Progress, end.encode()),
        (Message::Outcome, Outcome { code: 0 }.encode()),
        (Message::Hello, Hello.encode()),
    ];
    assert_eq!(messages.each_ref().map(|(message, _)| *message), Message::ALL);
    messages.into_iter().map(|(message, bytes)| (message.name().into(), bytes)).collect()
}

#[test]
fn every_message_is_as_the_cddl_says() {
    let samples = Samples::sound();
    let mut cases = messages(samples);
    cases.extend(
        samples.payloads().map(|(message, payload)| (format!("{}-payload", message.name()), payload)),
    );
    for code in [0, 1, 23, 24, 255, 256, u16::MAX] {
        cases.push(("outcome".into(), Outcome { code }.encode()));
    }
    let longest = "~".repeat(256);
    for text in ["", &longest] {
        cases.push(("refusal".into(), Refusal { code: 1, text }.encode()));
    }
    for step in 0..=8 {
        let progress = Progress { step, phase: Phase::Begin, micros: 0, bytes: 0 };
        cases.push(("progress".into(), progress.encode()));
    }
    assert_eq!(cases.len(), 10 + 5 + 7 + 2 + 9);
    assert_valid(&cases);
}

#[test]
fn what_is_not_as_the_cddl_says_is_refused_by_the_tool() {
    let samples = Samples::sound();
    let mut cases = Vec::new();
    for (rule, message) in messages(samples) {
        for cut in 0..message.len().min(40) {
            cases.push((rule.clone(), message[..cut].to_vec()));
        }
        cases.push((rule.clone(), [&message[..], &[0]].concat()));
        cases.push((rule.clone(), [&[0xC1][..], &message].concat()));
        cases.push((rule.clone(), cbor_bytes(&message)));
    }
    // One message is no other.
    let all = messages(samples);
    for (rule, _) in &all {
        for (other, message) in &all {
            if rule != other {
                cases.push((rule.clone(), message.clone()));
            }
        }
    }
    // No field takes nonsense, in a map nor in an envelope, whoever signs it.
    for (message, payload) in samples.payloads() {
        let rule = format!("{}-payload", message.name());
        let values = values_of(&payload);
        for field in 0..values.len() {
            for value in malformed_values() {
                cases.push((rule.clone(), with(&payload, field + 1, value)));
            }
            let mut missing = values.clone();
            missing.remove(field);
            cases.push((rule.clone(), map(&missing)));
        }
        cases.push((rule.clone(), map(&[values, vec![vec![0]]].concat())));
    }
    // The right payload in an envelope of another type, by the right key.
    let key = &samples.die.stage_key;
    for (message, payload) in samples.payloads() {
        for other in [Message::Request, Message::Csr, Message::Ticket, Message::Receipt, Message::Release] {
            let wrong = match message {
                Message::Request | Message::Csr => sign1(other, &payload, key),
                _ => signed(other, &payload),
            };
            if other != message {
                cases.push((message.name().into(), wrong));
            }
        }
    }
    for (message, payload) in [
        ("outcome", Outcome { code: 5 }.encode()),
        ("refusal", Refusal { code: 5, text: "no" }.encode()),
        ("progress", Progress { step: 5, phase: Phase::Begin, micros: 1 << 40, bytes: 1 << 40 }.encode()),
    ] {
        for field in 0..values_of(&payload).len() {
            for value in [&b"\x20"[..], b"\x40", b"\xF6", b"\x18\x01", b"\x80", b"\xA0", b"\xFF", b""] {
                cases.push((message.into(), with(&payload, field + 1, value)));
            }
        }
    }
    assert!(cases.len() > 1000, "only {} cases", cases.len());
    assert_refused(&cases);
}
