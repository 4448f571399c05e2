use std::sync::Mutex;
use std::time::{Duration, Instant};

use boot_info::Stage;
use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use station::{Event, Failure, Link, Outcome, Patience, Record, Refused, Way, serve, serve_all};

use crate::common::{PATIENT, Scripted, link, proof, with_device};

fn refusal(code: FailCode, text: &str) -> Refused {
    Refused { code: code.number(), text: text.into() }
}

#[track_caller]
fn assert_refused(record: &Record, code: FailCode) {
    assert_eq!(record.result, Outcome::Refused, "{record:?}");
    assert_eq!(record.fail_code(), Some(code), "{record:?}");
}

#[test]
fn a_device_that_got_its_certificate_and_says_so_has_passed() {
    let authority = Scripted::new([Ok(b"ticket".to_vec()), Ok(b"receipt".to_vec()), Ok(b"release".to_vec())]);
    let (record, transcript) = with_device(&authority, PATIENT, |mut device| {
        device.send(b"line noise \0 and more");
        device.step(0, 0);
        for (seq, question, answer) in
            [(7, Message::Request, Message::Ticket), (8, Message::Csr, Message::Receipt)]
        {
            device.say(question, seq, b"question");
            let frame = device.hear();
            assert_eq!((frame.message, frame.seq), (answer, seq));
        }
        device.step(4, 1 << 20);
        // The stage that is done resets the device; what comes next starts anywhere.
        device.outcome(0);
        device.boot_record(Stage::Stage1, 0);
        device.say(Message::ClosingProof, 9, &proof(0xAB));
        let frame = device.hear();
        assert_eq!((frame.message, frame.body.as_slice()), (Message::Release, b"release".as_slice()));
        device.outcome(0);
    });
    assert_eq!((record.result, record.code, record.cause), (Outcome::Pass, None, None));
    assert_eq!(record.chip_id.as_deref(), Some("abababababababababababababababab"));
    let names: Vec<_> = record.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["self-test", "re-key"]);
    assert_eq!((record.steps[1].bytes, record.steps[1].device_us), (1 << 20, Some(2_500)));
    assert!(record.steps.iter().all(|step| step.end_ms >= Some(step.start_ms)));
    assert_eq!(
        authority.asked(),
        [
            (Message::Request, b"question".to_vec()),
            (Message::Csr, b"question".to_vec()),
            (Message::ClosingProof, proof(0xAB)),
        ]
    );
    assert_eq!(transcript.bytes(Way::FromAuthority), b"ticketreceiptrelease");
    assert!(transcript.to_text().contains("authority > 7469636b6574"));
}

#[test]
fn a_question_that_comes_again_gets_the_same_answer_without_a_second_word_to_the_authority() {
    let authority = Scripted::new([Ok(b"first".to_vec()), Ok(b"second".to_vec()), Ok(b"release".to_vec())]);
    with_device(&authority, PATIENT, |mut device| {
        device.say(Message::Request, 1, b"q");
        assert_eq!(device.hear().body, b"first");
        std::thread::sleep(Duration::from_millis(250));
        device.say(Message::Request, 1, b"q");
        assert_eq!(device.hear().body, b"first");
        // The device was reset: its numbers may begin where they were.
        device.say(Message::Request, 1, b"other");
        assert_eq!(device.hear().body, b"second");
        device.say(Message::ClosingProof, 1, &proof(1));
        device.hear();
        device.outcome(0);
    });
    assert_eq!(authority.asked().len(), 3);
}

#[test]
fn a_device_that_asked_often_meanwhile_is_answered_once() {
    let authority = Scripted::new([Ok(b"ticket".to_vec()), Ok(b"release".to_vec())]);
    let (_, transcript) = with_device(&authority, PATIENT, |mut device| {
        (0..5).for_each(|_| device.say(Message::Request, 1, b"q"));
        device.hear();
        device.say(Message::ClosingProof, 2, &proof(1));
        assert_eq!(device.hear().message, Message::Release);
        device.outcome(0);
    });
    assert_eq!(transcript.bytes(Way::FromAuthority), b"ticketrelease");
}

#[test]
fn a_refusal_reaches_the_device_and_the_record() {
    let refused = refusal(FailCode::QuotaExhausted, "5 of 5");
    let authority = Scripted::new([Err(Failure::Refused(refused.clone()))]);
    let (record, _) = with_device(&authority, PATIENT, |mut device| {
        device.say(Message::Request, 3, b"q");
        let frame = device.hear();
        assert_eq!((frame.message, frame.seq), (Message::Refusal, 3));
        let told = Refusal::decode(&frame.body).unwrap();
        assert_eq!((told.code, told.text), (refused.code, "5 of 5"));
        device.outcome(refused.code);
    });
    assert_refused(&record, FailCode::QuotaExhausted);
    assert_eq!(record.cause.as_deref(), Some("every install of the lot is taken (5 of 5)"));
}

#[test]
fn a_refused_device_that_says_nothing_more_still_gets_its_record() {
    let authority = Scripted::new([Err(Failure::Refused(refusal(FailCode::LotRevoked, "")))]);
    let patience = Patience { last_word: Duration::from_millis(100), ..PATIENT };
    let (record, _) = with_device(&authority, patience, |mut device| {
        device.say(Message::Request, 3, b"q");
        device.hear();
        std::thread::sleep(Duration::from_millis(500));
    });
    assert_refused(&record, FailCode::LotRevoked);
}

#[test]
fn an_authority_that_cannot_answer_is_asked_again() {
    let not_now = || Err(Failure::NotNow(refusal(FailCode::AuthorityUnreachable, "")));
    let authority = Scripted::new([not_now(), not_now(), Ok(b"release".to_vec())]);
    let (record, _) = with_device(&authority, PATIENT, |mut device| {
        device.say(Message::ClosingProof, 1, &proof(1));
        device.hear();
        device.outcome(0);
    });
    assert_eq!((record.result, authority.asked().len()), (Outcome::Pass, 3));
}

#[test]
fn a_device_is_told_when_the_authority_stays_away() {
    let not_now = || Err(Failure::NotNow(refusal(FailCode::AuthorityUnreachable, "connection refused")));
    let authority = Scripted::new(std::iter::repeat_with(not_now).take(100));
    let patience = Patience { authority: Duration::from_millis(400), ..PATIENT };
    let start = Instant::now();
    let (record, _) = with_device(&authority, patience, |mut device| {
        device.say(Message::Request, 1, b"q");
        let frame = device.hear();
        let told = Refusal::decode(&frame.body).unwrap();
        assert_eq!(told.code, FailCode::AuthorityUnreachable.number());
        device.outcome(told.code);
    });
    assert_refused(&record, FailCode::AuthorityUnreachable);
    assert!(authority.asked().len() >= 2 && start.elapsed() < Duration::from_secs(5));
}

#[test]
fn a_device_that_refuses_by_itself_is_recorded_with_its_code() {
    for stop in [FailCode::EntropyHealth, FailCode::FuseForeign] {
        let (record, _) = with_device(&Scripted::default(), PATIENT, |mut device| {
            device.step(0, 0);
            device.outcome(stop.number());
        });
        assert_refused(&record, stop);
    }
}

#[test]
fn a_boot_record_that_refuses_ends_a_device() {
    let (record, _) = with_device(&Scripted::default(), PATIENT, |mut device| {
        device.boot_record(Stage::Stage0, FailCode::NoBootableSlot.number());
    });
    assert_refused(&record, FailCode::NoBootableSlot);
    assert!(record.cause.unwrap().ends_with("(stage0)"));
}

#[test]
fn a_device_that_was_closed_before_is_recorded_as_such() {
    let patience = Patience { last_word: Duration::from_millis(50), ..PATIENT };
    let (record, _) = with_device(&Scripted::default(), patience, |mut device| {
        device.boot_record(Stage::Stage2, 0);
        std::thread::sleep(Duration::from_millis(300));
    });
    assert_refused(&record, FailCode::DieClosed);
}

#[test]
fn a_silent_device_and_one_that_is_gone_end_with_where_they_were() {
    let patience = Patience { device: Duration::from_millis(100), ..PATIENT };
    let (record, _) = with_device(&Scripted::default(), patience, |_device| {
        std::thread::sleep(Duration::from_millis(400));
    });
    assert_refused(&record, FailCode::DeviceSilent);
    assert!(record.cause.unwrap().ends_with("(nothing was heard)"));
    let (record, _) = with_device(&Scripted::default(), PATIENT, |mut device| device.step(2, 0));
    assert_refused(&record, FailCode::DeviceSilent);
    assert!(record.cause.unwrap().ends_with("(the link was closed, after the step ask)"));
}

#[test]
fn what_only_an_authority_says_is_noise_from_a_device() {
    let (record, transcript) = with_device(&Scripted::default(), PATIENT, |mut device| {
        for message in [Message::Ticket, Message::Receipt, Message::Release, Message::Refusal, Message::Hello]
        {
            device.say(message, 1, b"\xA0");
        }
        device.say(Message::Progress, 1, b"no progress");
        device.say(Message::Outcome, 1, b"no outcome");
        device.outcome(FailCode::SelfTestTimer.number());
    });
    assert_refused(&record, FailCode::SelfTestTimer);
    assert!(transcript.bytes(Way::ToAuthority).is_empty());
}

#[test]
fn a_done_device_without_a_certificate_has_not_passed() {
    let patience = Patience { device: Duration::from_millis(200), ..PATIENT };
    let (record, _) = with_device(&Scripted::default(), patience, |mut device| {
        device.outcome(0);
        std::thread::sleep(Duration::from_millis(500));
    });
    assert_refused(&record, FailCode::DeviceSilent);
}

#[test]
fn several_devices_are_served_at_once_and_each_record_comes_when_it_is_made() {
    let authority = Scripted::new((0..4).map(|_| Ok(b"release".to_vec())));
    let (mut links, mut devices) = (Vec::new(), Vec::new());
    for number in 0..4_u8 {
        let (link, device) = link();
        links.push((format!("d{number}"), Box::new(link) as Box<dyn Link>));
        devices.push((number, device));
    }
    let order = Mutex::new(Vec::new());
    let records = std::thread::scope(|scope| {
        let acting = scope.spawn(move || {
            // Every device has begun before the first one ends.
            devices.iter_mut().for_each(|(_, device)| device.step(0, 0));
            for (number, device) in devices.iter_mut().rev() {
                device.say(Message::ClosingProof, 1, &proof(*number));
                device.hear();
                device.outcome(0);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        let ended = |record: &Record, _: &station::Transcript| {
            order.lock().unwrap().push(record.device.clone());
            Ok::<_, std::convert::Infallible>(())
        };
        let records = serve_all(links, &authority, PATIENT, &|_, _| (), &ended);
        acting.join().unwrap();
        records
    });
    let names: Vec<_> = records.iter().map(|record| record.as_ref().unwrap().device.as_str()).collect();
    assert_eq!(names, ["d0", "d1", "d2", "d3"]);
    assert_eq!(order.into_inner().unwrap(), ["d3", "d2", "d1", "d0"]);
}

#[test]
fn what_happens_is_told_as_it_happens() {
    let authority = Scripted::new([Ok(b"release".to_vec())]);
    let (mut link, mut device) = link();
    let events = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        scope.spawn(move || {
            device.step(4, 4096);
            device.say(Message::ClosingProof, 1, &proof(0));
            device.hear();
            device.outcome(0);
        });
        let watch = |name: &str, event: &Event| events.lock().unwrap().push((name.to_owned(), event.clone()));
        serve("d7", &mut link, &authority, PATIENT, &watch)
    });
    let events = events.into_inner().unwrap();
    assert!(events.iter().all(|(name, _)| name == "d7"));
    let events: Vec<_> = events.into_iter().map(|(_, event)| event).collect();
    assert_eq!(
        events,
        [
            Event::Began("re-key".into()),
            Event::Ended("re-key".into(), 4096),
            Event::ChipId("00".repeat(16)),
            Event::Asked(Message::ClosingProof),
            Event::Answered(Message::ClosingProof),
            Event::Done(Outcome::Pass),
        ]
    );
}
