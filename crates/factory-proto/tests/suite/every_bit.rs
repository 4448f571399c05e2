//! No message can be altered: every bit, every length, junk.

use crate::samples::Samples;
use crate::verdict::{Judge, judged, malformed};
use factory_proto::Message;
use fail_code::FailCode;
use proptest::prelude::*;

#[test]
fn every_sound_message_is_taken() {
    let samples = Samples::sound();
    let judge = Judge::sound();
    for (message, sound, _) in judged(samples) {
        assert_eq!(judge.verdict(message, sound), None, "{}", message.name());
    }
}

/// Verifies messages with these bits flipped, two at a time: each is a verification or two.
fn assert_each_refused(bits: &[(Message, &[u8], &[FailCode], usize)]) {
    let judge = Judge::sound();
    std::thread::scope(|scope| {
        for half in bits.chunks(bits.len().div_ceil(2)) {
            scope.spawn(move || {
                for (message, sound, codes, bit) in half {
                    let mut altered = sound.to_vec();
                    altered[bit / 8] ^= 1 << (bit % 8);
                    let code = judge.verdict(*message, &altered);
                    let code = code.unwrap_or_else(|| panic!("{}: bit {bit} was taken", message.name()));
                    assert!(codes.contains(&code), "{}, bit {bit}: {code}", message.name());
                }
            });
        }
    });
}

#[test]
fn every_flipped_bit_of_a_request_and_of_a_ticket_is_refused() {
    let bits: Vec<_> = judged(Samples::sound())
        .into_iter()
        .filter(|(message, ..)| matches!(message, Message::Request | Message::Ticket))
        .flat_map(|(message, sound, codes)| (0..sound.len() * 8).map(move |bit| (message, sound, codes, bit)))
        .collect();
    assert!(bits.len() > 8 * 1200, "only {} bits", bits.len());
    assert_each_refused(&bits);
}

#[test]
fn every_altered_byte_of_every_other_message_is_refused() {
    let bits: Vec<_> = judged(Samples::sound())
        .into_iter()
        .filter(|(message, ..)| !matches!(message, Message::Request | Message::Ticket))
        .flat_map(|(message, sound, codes)| {
            (0..sound.len()).map(move |byte| (message, sound, codes, byte * 8 + byte % 8))
        })
        .collect();
    assert!(bits.len() > 1200, "only {} bytes", bits.len());
    assert_each_refused(&bits);
}

#[test]
fn a_message_cut_off_at_any_byte_is_refused_as_malformed() {
    let samples = Samples::sound();
    let judge = Judge::sound();
    for (message, sound, _) in judged(samples) {
        for length in 0..sound.len() {
            let code = judge.verdict(message, &sound[..length]);
            assert_eq!(code, Some(malformed(message)), "{}, {length} bytes", message.name());
        }
    }
}

#[test]
fn bytes_before_or_after_a_message_are_refused_as_malformed() {
    let samples = Samples::sound();
    let judge = Judge::sound();
    for (message, sound, _) in judged(samples) {
        for extra in [&b"\0"[..], b"\xFF", b"\xA0", b"\x40", sound] {
            for altered in [[sound, extra].concat(), [extra, sound].concat()] {
                assert_eq!(judge.verdict(message, &altered), Some(malformed(message)), "{}", message.name());
            }
        }
    }
}

#[test]
fn no_message_is_taken_for_another() {
    let samples = Samples::sound();
    let judge = Judge::sound();
    let mut tried = 0;
    for (place, _, codes) in judged(samples) {
        for (message, sound, _) in judged(samples) {
            if place != message {
                let code = judge.verdict(place, sound).expect("one message was taken for another");
                assert!(codes.contains(&code), "{} as {}: {code}", message.name(), place.name());
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 30);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn junk_is_refused_as_malformed(junk in proptest::collection::vec(any::<u8>(), 0..600)) {
        let samples = Samples::sound();
    let judge = Judge::sound();
        for (message, _, _) in judged(samples) {
            prop_assert_eq!(judge.verdict(message, &junk), Some(malformed(message)));
        }
    }

    #[test]
    fn messages_of_which_a_part_was_replaced_are_refused(
        which in 0..6_usize,
        start in any::<prop::sample::Index>(),
        part in proptest::collection::vec(any::<u8>(), 1..40),
    ) {
        let samples = Samples::sound();
    let judge = Judge::sound();
        let (message, sound, codes) = judged(samples)[which];
        let start = start.index(sound.len());
        let mut altered = sound.to_vec();
        let end = (start + part.len()).min(sound.len());
        altered.splice(start..end, part);
        prop_assume!(altered != sound);
        let code = judge.verdict(message, &altered);
        prop_assert!(code.is_some_and(|code| codes.contains(&code)), "{}: {:?}", message.name(), code);
    }
}
