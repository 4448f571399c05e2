//! No message can be altered: every bit, every length, junk.

use crate::exact::Contents;
use crate::samples::Samples;
use crate::verdict::{Judge, judged, malformed};
use figures::Figure;
use proptest::prelude::*;
use std::sync::Mutex;

#[test]
fn every_sound_message_is_taken() {
    let samples = Samples::sound();
    let judge = Judge::sound();
    for (message, sound, _) in judged(samples) {
        assert_eq!(judge.verdict(message, sound), None, "{}", message.name());
    }
}

#[test]
fn every_flipped_bit_of_a_message_is_refused_with_the_code_of_what_it_hit() {
    let all: Vec<_> = judged(Samples::sound())
        .into_iter()
        .map(|(message, sound, codes)| (message, sound, codes, Contents::of(message, sound)))
        .collect();
    let bits: Vec<_> = all.iter().flat_map(|one| (0..one.1.len() * 8).map(move |bit| (one, bit))).collect();
    let judge = Judge::sound();
    let wrong = Mutex::new(Vec::new());
    // Each is a verification or two: two threads take every other bit.
    std::thread::scope(|scope| {
        for first in 0..2 {
            let bits = bits.iter().skip(first).step_by(2);
            let wrong = &wrong;
            scope.spawn(move || {
                for ((message, sound, codes, contents), bit) in bits {
                    let mut altered = sound.to_vec();
                    altered[bit / 8] ^= 1 << (bit % 8);
                    let expected = contents.code(*message, &altered, *bit);
                    assert!(
                        codes.contains(&expected),
                        "{}: {expected} is for something else",
                        message.name()
                    );
                    let code = judge.verdict(*message, &altered);
                    if code != Some(expected) {
                        let what = format!("{}, bit {bit}: {code:?}, not {expected}", message.name());
                        wrong.lock().unwrap().push(what);
                    }
                }
            });
        }
    });
    let names: Vec<_> = all.iter().map(|(message, ..)| message.name()).collect();
    Figure::new("bits flipped in signed messages", "bits", 29_000)
        .ran(bits.len() as u64)
        .violations(&wrong.into_inner().unwrap())
        .note(format!("{}; the exact code of each bit", names.join(", ")))
        .report();
}

#[test]
fn a_message_cut_off_at_any_byte_is_refused_as_malformed() {
    let samples = Samples::sound();
    let judge = Judge::sound();
    let mut cut = 0;
    for (message, sound, _) in judged(samples) {
        for length in 0..sound.len() {
            let code = judge.verdict(message, &sound[..length]);
            assert_eq!(code, Some(malformed(message)), "{}, {length} bytes", message.name());
            cut += 1;
        }
    }
    Figure::new("truncations of signed messages", "lengths", 3_600)
        .ran(cut)
        .note("every shorter length of each message")
        .report();
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
