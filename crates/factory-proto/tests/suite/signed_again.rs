//! A signature makes nothing sound: whatever is wrong in a payload is found although the right key signed it.

use crate::samples::*;
use crate::verdict::{Judge, malformed};
use factory_proto::Message;
use fail_code::FailCode::{self, *};
use figures::Figure;
use minicbor::Decoder;

/// Signs a payload as whoever sends such a message.
fn again(message: Message, payload: &[u8]) -> Vec<u8> {
    match message {
        Message::Request | Message::Csr => sign1(message, payload, &Samples::sound().die.stage_key),
        _ => signed(message, payload),
    }
}

/// Of each field of a payload, who notices that its content is another: `None` where nobody can, since it is the
/// signer's to say.
fn noticed(message: Message) -> &'static [Option<FailCode>] {
    match message {
        // Version, nonce, package, ephemeral key, chain, statement, fuse facts, board.
        Message::Request => {
            &[None, None, None, None, None, Some(StatementInvalid), Some(FuseDigestWrong), None]
        }
        // Request, chip, nonce, package, install, serial number, ephemeral key, secrets.
        Message::Ticket => &[
            Some(TicketMismatch),
            Some(TicketMismatch),
            Some(TicketMismatch),
            Some(TicketMismatch),
            None,
            None,
            Some(TicketInvalid),
            Some(TicketMismatch),
        ],
        Message::Csr => &[Some(CsrUnbound), Some(CsrUnbound), None],
        Message::Receipt => &[Some(ReceiptInvalid), Some(ReceiptInvalid)],
        Message::Release => &[Some(CertificateInvalid), Some(CertificateInvalid), None],
        _ => panic!("nobody signs a {}", message.name()),
    }
}

#[test]
fn malformed_and_foreign_values_of_every_field_are_refused_although_they_are_signed() {
    let judge = Judge::sound();
    let (mut cases, mut fields) = (0, 0);
    for (message, payload) in Samples::sound().payloads() {
        let of = |payload: &[u8]| judge.verdict(message, &again(message, payload));
        assert_eq!(of(&payload), None, "{}", message.name());
        let values = values_of(&payload);
        assert_eq!(values.len(), noticed(message).len());
        for (key, (value, noticed)) in (1..).zip(values.iter().zip(noticed(message))) {
            fields += 1;
            for malformed_value in malformed_values() {
                let code = of(&with(&payload, key, malformed_value));
                assert_eq!(
                    code,
                    Some(malformed(message)),
                    "{} field {key}: {malformed_value:02X?}",
                    message.name()
                );
                cases += 1;
            }
            // A field less, and this one twice.
            let mut without = values.clone();
            without.remove(key - 1);
            let twice = [&values[..key], &values[key - 1..]].concat();
            for values in [without, twice] {
                assert_eq!(of(&map(&values)), Some(malformed(message)), "{} field {key}", message.name());
                cases += 1;
            }
            // The value cut off at every byte, and with a byte more.
            for length in 0..value.len() {
                let code = of(&with(&payload, key, &value[..length]));
                assert_eq!(code, Some(malformed(message)), "{} field {key}, {length} bytes", message.name());
                cases += 1;
            }
            let longer = [&value[..], &[0]].concat();
            assert_eq!(of(&with(&payload, key, &longer)), Some(malformed(message)), "{}", message.name());
            cases += 1;
            // A bit of each byte of its content, where somebody notices.
            let Some(expected) = noticed else { continue };
            let length = Decoder::new(value).bytes().unwrap().len();
            for byte in value.len() - length..value.len() {
                let mut foreign = value.clone();
                foreign[byte] ^= 1 << (byte % 8);
                let code = of(&with(&payload, key, &foreign));
                assert_eq!(code, Some(*expected), "{} field {key}, byte {byte}", message.name());
                cases += 1;
            }
        }
    }
    Figure::new("malformed fields of messages, signed again", "cases", 24 * 37)
        .ran(cases)
        .note(format!("{fields} fields of 5 messages; the exact code of each"))
        .report();
}

#[test]
fn a_length_or_a_structure_that_is_right_for_another_field_is_refused_although_it_is_signed() {
    let judge = Judge::sound();
    let mut tried = 0;
    for (message, payload) in Samples::sound().payloads() {
        let values = values_of(&payload);
        for first in 0..values.len() {
            for second in first + 1..values.len() {
                // Two values that changed places; of one type and length they are sound values of each other.
                let alike =
                    values[first].len() == values[second].len() && values[first][..2] == values[second][..2];
                if alike {
                    continue;
                }
                let mut swapped = values.clone();
                swapped.swap(first, second);
                let code = judge.verdict(message, &again(message, &map(&swapped)));
                let names = format!("{} fields {first} and {second}", message.name());
                let evidence = message == Message::Request && (first, second) == (5, 6);
                let expected = if evidence { StatementInvalid } else { malformed(message) };
                assert_eq!(code, Some(expected), "{names}");
                tried += 1;
            }
        }
    }
    assert!(tried > 30, "{tried}");
}
