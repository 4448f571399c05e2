//! The one code that a flipped bit of each byte of a message is refused with.
//!
//! An independent decoder finds what a message is made of. Whatever is a head, a key or a constant is malformed once a
//! bit of it differs; of what lies between them it is known who notices.

use crate::verdict::malformed;
use factory_proto::Message;
use fail_code::FailCode::{self, *};
use minicbor::Decoder;
use std::ops::Range;

/// The contents of a message that are no structure, with the code for each; all else of it is malformed.
pub(crate) struct Contents(Vec<(Range<usize>, FailCode)>);

impl Contents {
    /// Returns the code that a message is refused with of which this bit was flipped.
    pub(crate) fn code(&self, message: Message, altered: &[u8], bit: usize) -> FailCode {
        let byte = bit / 8;
        let found = self.0.iter().find(|(range, _)| range.contains(&byte));
        match found {
            // The one text that a question holds is the name of a board, of few characters.
            Some((range, RequestSignature)) if message == Message::Request && self.is_board(range) => {
                let plain = |byte: &u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
                if altered[range.clone()].iter().all(plain) { RequestSignature } else { RequestMalformed }
            }
            Some((_, code)) => *code,
            None => malformed(message),
        }
    }

    fn is_board(&self, range: &Range<usize>) -> bool {
        // The last content before the signature.
        self.0.len().checked_sub(2).is_some_and(|at| self.0[at].0 == *range)
    }

    /// Finds them in a message of the samples.
    pub(crate) fn of(message: Message, sound: &[u8]) -> Self {
        let mut contents = Vec::new();
        let mut d = Decoder::new(sound);
        match message {
            Message::Request => sign1(&mut d, RequestSignature, &mut contents, |d, add| {
                d.map().unwrap();
                for key in 1..=8_u64 {
                    assert_eq!(d.u64().unwrap(), key);
                    match key {
                        1 => drop(d.u8().unwrap()),
                        5 => (0..d.array().unwrap().unwrap()).for_each(|_| add(string(d), RequestSignature)),
                        6 => add(string(d), StatementInvalid),
                        8 => add(text(d), RequestSignature),
                        _ => add(string(d), RequestSignature),
                    }
                }
            }),
            Message::Csr => sign1(&mut d, CsrUnbound, &mut contents, |d, add| {
                d.map().unwrap();
                for key in 1..=3_u64 {
                    assert_eq!(d.u64().unwrap(), key);
                    add(string(d), CsrUnbound);
                }
            }),
            Message::Ticket => signed(&mut d, TicketInvalid, &mut contents),
            Message::Receipt => signed(&mut d, ReceiptInvalid, &mut contents),
            Message::Release => signed(&mut d, CertificateInvalid, &mut contents),
            Message::ClosingProof => {
                d.map().unwrap();
                for code in [InstallUnknown, InstallUnknown, StatementInvalid, FuseDigestWrong] {
                    d.u64().unwrap();
                    contents.push((string(&mut d), code));
                }
            }
            _ => panic!("nobody judges a {}", message.name()),
        }
        Self(contents)
    }
}

/// Reads a byte string and returns where its content lies.
fn string(d: &mut Decoder<'_>) -> Range<usize> {
    let length = d.bytes().unwrap().len();
    d.position() - length..d.position()
}

/// Reads a text and returns where its content lies.
fn text(d: &mut Decoder<'_>) -> Range<usize> {
    let length = d.str().unwrap().len();
    d.position() - length..d.position()
}

/// Reads a COSE_Sign1; `inside` reads its payload. A header or signature that differs gets `code`.
fn sign1(
    d: &mut Decoder<'_>,
    code: FailCode,
    contents: &mut Vec<(Range<usize>, FailCode)>,
    inside: impl Fn(&mut Decoder<'_>, &mut dyn FnMut(Range<usize>, FailCode)),
) {
    d.tag().unwrap();
    d.array().unwrap();
    contents.push((string(d), code));
    d.map().unwrap();
    let payload = string(d);
    let mut within = Decoder::new(&d.input()[..payload.end]);
    within.set_position(payload.start);
    inside(&mut within, &mut |range, code| contents.push((range, code)));
    contents.push((string(d), code));
}

/// Reads a signed message of a role: whatever its delegation says, and all that is signed, is the signer's to answer for.
fn signed(d: &mut Decoder<'_>, code: FailCode, contents: &mut Vec<(Range<usize>, FailCode)>) {
    d.array().unwrap();
    contents.push((string(d), code));
    let message = string(d);
    let mut d = Decoder::new(&d.input()[..message.end]);
    d.set_position(message.start);
    d.tag().unwrap();
    d.array().unwrap();
    contents.push((string(&mut d), code));
    d.map().unwrap();
    contents.push((string(&mut d), code));
    for _ in 0..d.array().unwrap().unwrap() {
        d.array().unwrap();
        let header = string(&mut d);
        // {1: algorithm, 4: key id}
        contents.push((header.end - 32..header.end, code));
        d.map().unwrap();
        contents.push((string(&mut d), code));
    }
}
