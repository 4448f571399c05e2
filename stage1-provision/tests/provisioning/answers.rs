//! Somebody else's answers.

use std::rc::Rc;

use factory_proto::link::Frame;
use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use memory_map::qemu_virt::JOURNAL;
use release::Compression;
use sealed_image::Role;
use sim::authority::Station;
use stage1_provision::End;

use crate::case::Case;
use crate::lot::{ROOT, authority, lot};

/// Relays everything and keeps the answers to one kind of question.
fn overheard(case: &mut Case, question: Message) -> Vec<u8> {
    let kept = Rc::new(std::cell::RefCell::new(None));
    let keeping = kept.clone();
    let station = case.desk.changing(question, move |answer| *keeping.borrow_mut() = Some(answer.clone()));
    assert_eq!(case.run(station).end, End::Closed);
    let answer = kept.borrow_mut().take();
    answer.unwrap()
}

#[test]
fn a_ticket_or_receipt_that_the_authority_did_not_sign_is_refused() {
    for (question, code) in
        [(Message::Request, FailCode::TicketInvalid), (Message::Csr, FailCode::ReceiptInvalid)]
    {
        let forgers = [
            // Somebody who founds an owner of his own.
            (ROOT + 0x40, Role::Authority, ROOT + 0x44),
            // Somebody who stole the owner's key for another role.
            (ROOT, Role::Provision, ROOT + 2),
        ];
        for (root, role, signer) in forgers {
            let mut case = Case::new();
            let station = case.desk.impostor(question, authority(root, role, signer));
            case.is_refused(station, code);
            // What the forger's authority remembers is not what an honest one does.
            case.desk = case.lot.desk(&case.device);
            if question == Message::Request {
                case.closes();
            }
        }
    }
}

#[test]
fn the_answers_to_another_die_are_refused() {
    let lot = Rc::new(lot(1, Compression::None));
    for (question, code) in
        [(Message::Request, FailCode::TicketMismatch), (Message::Csr, FailCode::ReceiptInvalid)]
    {
        let theirs = overheard(&mut Case::of(&lot, 2), question);
        let mut case = Case::of(&lot, 1);
        let station = case.desk.changing(question, move |answer| *answer = theirs.clone());
        case.is_refused(station, code);
        case.closes();
    }
}

#[test]
fn the_ticket_of_an_earlier_session_is_refused() {
    let mut case = Case::new();
    let kept = Rc::new(std::cell::RefCell::new(None));
    let keeping = kept.clone();
    let station = case.desk.changing(Message::Request, move |answer| {
        *keeping.borrow_mut() = Some(std::mem::take(answer));
    });
    case.is_refused(station, FailCode::AnswerMalformed);
    let ticket: Vec<u8> = kept.borrow().clone().unwrap();
    case.device.change_flash(JOURNAL, |bytes| bytes.fill(0xFF));
    let station = case.desk.changing(Message::Request, move |answer| *answer = ticket.clone());
    case.is_refused(station, FailCode::TicketMismatch);
    case.closes();
}

#[test]
fn a_ticket_counts_to_the_last_bit() {
    let mut case = Case::new();
    let mut tried = 0;
    for byte in (0..).step_by(9) {
        let reached = Rc::new(std::cell::Cell::new(false));
        let seen = reached.clone();
        let station = case.desk.changing(Message::Request, move |answer| {
            if let Some(byte) = answer.get_mut(byte) {
                *byte ^= 1 << (*byte % 8);
                seen.set(true);
            }
        });
        let cycle = case.run(station);
        if !reached.get() {
            assert_eq!(cycle.end, End::Closed);
            break;
        }
        let refused = [FailCode::TicketInvalid, FailCode::AnswerMalformed].map(End::Refused);
        assert!(refused.contains(&cycle.end), "byte {byte}: {}", cycle.console);
        case.is_still_secured();
        tried += 1;
    }
    assert!(tried > 60, "{tried}");
}

#[test]
fn a_ticket_for_other_content_opens_nothing() {
    let mut case = Case::new();
    case.desk = case.desk.with_content_key([0x77; 32]);
    case.is_refused(case.desk.station(), FailCode::KeyUnwrap);
}

#[test]
fn a_refusal_is_passed_on_if_it_is_one_of_the_authoritys() {
    for (sent, code) in [
        (FailCode::QuotaExhausted, FailCode::QuotaExhausted),
        (FailCode::LotRevoked, FailCode::LotRevoked),
        (FailCode::AuthorityUnreachable, FailCode::AuthorityUnreachable),
        // Nobody but the device itself can say this.
        (FailCode::FuseForeign, FailCode::AnswerMalformed),
        (FailCode::SelfTestMemory, FailCode::AnswerMalformed),
    ] {
        let mut case = Case::new();
        let station = Box::new(move |frame: &Frame| {
            let body = Refusal::new(sent, "no").encode();
            let asked = frame.message == Message::Request;
            let refusal = Frame { message: Message::Refusal, seq: frame.seq, body };
            Some(refusal).filter(|_| asked).into_iter().collect()
        });
        case.is_refused(station, code);
        case.closes();
    }
}

#[test]
fn silence_and_noise_cost_time_only() {
    let mut case = Case::new();
    case.is_refused(Box::new(|_| Vec::new()), FailCode::NoAnswer);
    // Answers to questions that nobody asked come first.
    let desk = case.desk.clone();
    let station: Station = Box::new(move |frame| {
        let Some(answer) = desk.answer(frame) else { return Vec::new() };
        let stale = Frame { seq: frame.seq.wrapping_sub(1), ..answer.clone() };
        let other = Frame { message: Message::Release, seq: frame.seq, body: answer.body.clone() };
        vec![stale, other, answer]
    });
    assert_eq!(case.run(station).end, End::Closed);
}
