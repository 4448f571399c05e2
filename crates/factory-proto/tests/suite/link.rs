//! What a serial line may do to frames: lose, repeat, reorder, alter, mix with noise. What comes out was sent.

use crate::common::{Die, roots, trust};
use crate::samples::Samples;
use boot_info::record::BootRecord;
use factory_proto::link::{Answer, Asker, FRAME_VERSION, Frame, MAX_BODY, Question, Receiver, encode};
use factory_proto::{Error, Hello, Message, Refusal};
use fail_code::FailCode;
use proptest::prelude::*;
use sealed_image::Es256;

fn receive(receiver: &mut Receiver, line: &[u8]) -> Vec<Frame> {
    line.iter().filter_map(|byte| receiver.push(*byte)).collect()
}

/// What a receiver that has just begun makes of a line.
fn frames(line: &[u8]) -> Vec<Frame> {
    receive(&mut Receiver::new(), line)
}

fn frame(message: Message, seq: u16, body: &[u8]) -> Frame {
    Frame { message, seq, body: body.to_vec() }
}

/// A frame whose body needs stuffing of every kind.
fn sample() -> Frame {
    let mut body: Vec<u8> = (0..=255).collect();
    body.extend([0; 3]);
    body.extend([0x55; 300]);
    frame(Message::Ticket, 0x1234, &body)
}

/// Stuffs any bytes with a sound CRC-32 at their end.
fn stuffed(head_and_body: &[u8]) -> Vec<u8> {
    let crc = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(head_and_body);
    cobs::encode_vec_including_sentinels(&[head_and_body, &crc.to_le_bytes()].concat())
}

fn question() -> Question {
    Asker::new(7).ask(Message::Request, b"may I?").unwrap()
}

#[test]
fn every_message_comes_through_with_bodies_of_every_length() {
    let mut receiver = Receiver::new();
    let longest = [0xA5; MAX_BODY];
    for message in Message::ALL {
        for length in [0, 1, 2, 253, 254, 255, 256, 508, 509, MAX_BODY - 1, MAX_BODY] {
            for body in [&longest[..length], &[0; MAX_BODY][..length]] {
                let sent = frame(message, length as u16, body);
                assert_eq!(receive(&mut receiver, &sent.encode().unwrap()), [sent]);
            }
        }
    }
    assert_eq!(receiver.dropped(), 0);
}

#[test]
fn the_bytes_of_a_frame_are_as_the_readme_draws_them() {
    let line = encode(Message::Hello, 0x0102, &Hello.encode()).unwrap();
    assert_eq!(line, [0, 10, 1, 10, 2, 1, 0xA0, 0x0E, 0x78, 0xB6, 0x58, 0]);
    assert!(!sample().encode().unwrap()[1..].split_last().unwrap().1.contains(&0), "a delimiter inside");
}

#[test]
fn a_message_that_no_frame_holds_is_not_sent() {
    let long = [0; MAX_BODY + 1];
    let error = encode(Message::Csr, 1, &long).unwrap_err();
    assert_eq!(error, Error::TooLong { message: Message::Csr, found: 8193 });
    assert_eq!(error.code(), FailCode::RequestMalformed);
    assert_eq!(Asker::new(1).ask(Message::Request, &long).unwrap_err().code(), FailCode::RequestMalformed);
    assert_eq!(encode(Message::Ticket, 1, &long).unwrap_err().code(), FailCode::AnswerMalformed);
}

#[test]
fn no_altered_bit_lost_byte_or_cut_of_a_frame_comes_through() {
    let (sound, after) = (sample().encode().unwrap(), frame(Message::Receipt, 9, b"after"));
    let next = after.encode().unwrap();
    let mut tried = 0;
    let mut refuse = |altered: Vec<u8>, what: &str| {
        tried += 1;
        assert_eq!(frames(&[&altered[..], &next].concat()), std::slice::from_ref(&after), "{what}");
    };
    for bit in 8..(sound.len() - 1) * 8 {
        let mut altered = sound.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        refuse(altered, &format!("bit {bit}"));
    }
    for byte in 1..sound.len() - 1 {
        let mut lost = sound.clone();
        lost.remove(byte);
        refuse(lost, &format!("byte {byte} lost"));
        refuse(sound[..byte].to_vec(), &format!("cut at {byte}"));
        if byte > 1 {
            let mut inserted = sound.clone();
            inserted.insert(byte, 0);
            refuse(inserted, &format!("a delimiter at {byte}"));
        }
        let mut doubled = sound.clone();
        doubled.insert(byte, sound[byte] ^ 0x40);
        refuse(doubled, &format!("a byte at {byte}"));
        if sound[byte] != sound[byte + 1] {
            let mut swapped = sound.clone();
            swapped.swap(byte, byte + 1);
            refuse(swapped, &format!("bytes swapped at {byte}"));
        }
    }
    assert!(tried > 6000, "only {tried}");
    // The delimiter at the end is needed, the one at the start is for what came before.
    assert_eq!(frames(&sound[..sound.len() - 1]), []);
    assert_eq!(frames(&sound[1..]), [sample()]);
}

#[test]
fn frames_with_a_sound_crc_that_are_none_are_dropped() {
    let body = b"body";
    let heads: [&[u8]; 8] = [
        &[0, 2, 0, 0],
        &[FRAME_VERSION + 1, 2, 0, 0],
        &[0xFF, 2, 0, 0],
        &[FRAME_VERSION, 0, 0, 0],
        &[FRAME_VERSION, 11, 0, 0],
        &[FRAME_VERSION, 0xFF, 0, 0],
        &[FRAME_VERSION, 0x82, 0, 0],
        &[2, FRAME_VERSION, 0, 0],
    ];
    for head in heads {
        assert_eq!(frames(&stuffed(&[head, body].concat())), [], "{head:02X?}");
    }
    for short in [&[][..], &[FRAME_VERSION], &[FRAME_VERSION, 2], &[FRAME_VERSION, 2, 0]] {
        assert_eq!(frames(&stuffed(short)), [], "{short:02X?}");
    }
    assert_eq!(frames(&stuffed(&[FRAME_VERSION, 2, 0, 0])), [frame(Message::Ticket, 0, b"")]);
    // As short as a CRC, and shorter.
    for length in 0..8 {
        assert_eq!(frames(&cobs::encode_vec_including_sentinels(&[0; 8][..length])), [], "{length} zeros");
    }
}

#[test]
fn a_frame_that_is_too_long_is_dropped_and_kept_no_longer_than_it_fits() {
    let mut receiver = Receiver::new();
    let body = vec![0x11; MAX_BODY + 1];
    let long = stuffed(&[&[FRAME_VERSION, 2, 0, 0], &body[..]].concat());
    assert_eq!(receive(&mut receiver, &long), []);
    // A line without a delimiter for as long as it likes.
    for _ in 0..300 {
        assert_eq!(receive(&mut receiver, &[0x7F; 4096]), []);
    }
    assert_eq!(receive(&mut receiver, &sample().encode().unwrap()), [sample()]);
    assert_eq!(receiver.dropped(), 2);
}

#[test]
fn boot_records_between_frames_are_skipped() {
    let mut receiver = Receiver::new();
    let mut buffer = [0; boot_info::record::MAX_FRAME];
    let mut lengths = 0;
    for code in [0, 302, 1040] {
        let record = BootRecord { code, board: *b"qemu-virt\0\0\0\0\0\0\0", ..BootRecord::default() };
        let record = record.frame(&mut buffer).unwrap();
        lengths += record.len();
        // After whole frames, and after the frame that a reset cut off.
        let sound = sample().encode().unwrap();
        for cut in [sound.len(), 1, 100, 300] {
            let line = [&sound[..cut], record, record, &sound].concat();
            let expected = if cut == sound.len() { vec![sample(); 2] } else { vec![sample()] };
            assert_eq!(receive(&mut receiver, &line), expected, "cut at {cut}");
        }
    }
    assert!(lengths > 100);
    assert!(receiver.dropped() > 0);
}

#[test]
fn an_answer_counts_for_its_question_only() {
    let accept = |message, seq, body: &[u8]| question().accept(frame(message, seq, body));
    assert_eq!(accept(Message::Ticket, 7, b"yes"), Some(Answer::Message(b"yes".to_vec())));
    // Of another question: stale after a reset, early, or with the bytes the other way round.
    for seq in [6, 8, 0, 0x0700, u16::MAX] {
        assert_eq!(accept(Message::Ticket, seq, b"yes"), None, "number {seq}");
        assert_eq!(accept(Message::Refusal, seq, &Refusal { code: 1131, text: "" }.encode()), None);
    }
    // Of another kind: another answer, the question itself echoed, reports.
    for message in Message::ALL {
        if !matches!(message, Message::Ticket | Message::Refusal | Message::Hello) {
            assert_eq!(accept(message, 7, b"yes"), None, "{}", message.name());
        }
    }
    assert_eq!(
        accept(Message::Refusal, 7, &Refusal { code: 1131, text: "" }.encode()),
        Some(Answer::Refused(1131))
    );
    for junk in [&b""[..], b"\xA0", b"junk", &Refusal { code: 0, text: "" }.encode()] {
        assert_eq!(accept(Message::Refusal, 7, junk), None, "{junk:02X?}");
    }
    // Who listens knows no number.
    assert_eq!(accept(Message::Hello, 999, b""), Some(Answer::Listening));
    // What wants no answer takes none.
    let outcome = Asker::new(7).ask(Message::Outcome, b"done").unwrap();
    assert!(
        Message::ALL
            .into_iter()
            .filter(|it| !matches!(it, Message::Refusal | Message::Hello))
            .all(|it| { outcome.accept(frame(it, 7, b"")).is_none() })
    );
}

#[test]
fn questions_are_numbered_on_and_over_the_end() {
    let mut asker = Asker::new(u16::MAX);
    let numbers: Vec<u16> =
        (0..3).map(|_| frames(asker.ask(Message::Csr, b"").unwrap().frame())[0].seq).collect();
    assert_eq!(numbers, [u16::MAX, 0, 1]);
    assert_eq!(frames(&asker.tell(Message::Outcome, b"").unwrap())[0].seq, 2);
}

/// Answers that come twice, late, and in another order than their questions were asked.
#[test]
fn repeated_and_reordered_answers_leave_a_session_what_it_is() {
    let samples = Samples::sound();
    let mut asker = Asker::new(100);
    let first = asker.ask(Message::Request, &samples.request).unwrap();
    let second = asker.ask(Message::Csr, &samples.csr).unwrap();
    let answer = |message, seq, body: &[u8]| encode(message, seq, body).unwrap();
    let ticket = answer(Message::Ticket, 100, &samples.ticket);
    let receipt = answer(Message::Receipt, 101, &samples.receipt);
    let line = [&receipt[..], &ticket, &ticket, &receipt, &ticket].concat();
    let taken = |question: &Question| {
        frames(&line).into_iter().filter_map(|it| question.accept(it)).collect::<Vec<_>>()
    };
    let ticket = Answer::Message(samples.ticket.clone());
    assert_eq!(taken(&first), [ticket.clone(), ticket.clone(), ticket]);
    assert_eq!(
        taken(&second),
        [Answer::Message(samples.receipt.clone()), Answer::Message(samples.receipt.clone())]
    );
    // A ticket of an earlier boot under the number of today's question: the line lets it pass, the session does not.
    let die = Die::new(Samples::DIE);
    let earlier = die.session_with([0x4F; 32]);
    let stale = die.ticket(earlier.request());
    let Some(Answer::Message(stale)) = first.accept(frame(Message::Ticket, 100, &stale)) else {
        panic!("the number is right")
    };
    let refused = samples.die.session().verify_ticket::<Es256>(&stale, &trust(&roots())).err();
    assert_eq!(refused.map(|error| error.code()), Some(FailCode::TicketMismatch));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn after_any_noise_the_next_frame_comes_through(
        noise in proptest::collection::vec(any::<u8>(), 0..2000),
        body in proptest::collection::vec(any::<u8>(), 0..1000),
        seq in any::<u16>(),
    ) {
        let sent = frame(Message::Release, seq, &body);
        let mut receiver = Receiver::new();
        prop_assert_eq!(receive(&mut receiver, &noise), []);
        prop_assert_eq!(receive(&mut receiver, &sent.encode().unwrap()), [sent]);
    }

    #[test]
    fn what_comes_through_was_sent(
        stretches in proptest::collection::vec((any::<prop::sample::Index>(), 1..700_usize), 1..12),
    ) {
        // A line that repeats and reorders stretches of what was sent.
        let sent = [sample(), frame(Message::Receipt, 1, b"receipt"), frame(Message::Hello, 2, b"\xA0")];
        let line: Vec<u8> = sent.iter().flat_map(|it| it.encode().unwrap()).collect();
        let mut mixed = Vec::new();
        for (start, length) in stretches {
            let start = start.index(line.len());
            mixed.extend(&line[start..line.len().min(start + length)]);
        }
        for received in frames(&mixed) {
            prop_assert!(sent.contains(&received), "{:02X?}", received);
        }
    }
}
