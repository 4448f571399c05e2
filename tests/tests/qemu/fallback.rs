//! One slot that is right and one that is not: the device boots, and says what it passed over.

use fail_code::FailCode;
use store::Slot;
use tests::forge::{Parts, flip};
use tests::verdict::{assert_boots, assert_os_slot_named, assert_says, story, text};
use tests::{Device, Maker, TOKEN};

/// Flips the last byte of the last chunk, which no earlier check sees.
fn spoiled(image: Vec<u8>) -> Vec<u8> {
    let last = image.len() - 1;
    flip(image, last)
}

#[test]
fn boot_slot_b_when_a_is_bad() {
    let maker = Maker::development();
    let os = maker.seal_os(&maker.os(TOKEN));
    let device = Device::new(&maker).boot_slot(Slot::B, maker.stage2()).os_slot(Slot::A, os);
    let signature = Parts::of(&maker.stage2()).manifest.end - 1;
    let cases = [
        (flip(maker.stage2(), signature), FailCode::SignatureInvalid),
        (spoiled(maker.stage2()), FailCode::ChunkTag),
        (vec![0xFF; 64], FailCode::SlotEmpty),
    ];
    let mut device = device;
    for (bad, code) in cases {
        device = device.boot_slot(Slot::A, bad);
        let report = device.boot();
        assert_boots(&report, Slot::B, Slot::A);
        assert_eq!(report.fallback_code, Some(text(code)), "{}", story(&report));
        assert_says(&report, &format!("boot slot A refused: {code}"));
    }
}

#[test]
fn boot_slot_a_when_b_is_bad_and_no_word_of_it() {
    let maker = Maker::development();
    let report = Device::new(&maker)
        .boot_slot(Slot::A, maker.stage2())
        .boot_slot(Slot::B, spoiled(maker.stage2()))
        .os_slot(Slot::A, maker.seal_os(&maker.os(TOKEN)))
        .boot();
    assert_boots(&report, Slot::A, Slot::A);
    assert_eq!((&report.fallback_code, &report.os_fallback_code), (&None, &None));
    assert!(!report.console.contains("refused"), "{}", story(&report));
}

#[test]
fn os_slot_b_when_a_is_bad() {
    let maker = Maker::development();
    let good = maker.seal_os(&maker.os(TOKEN));
    let cases =
        [(spoiled(maker.seal_os(&maker.os(TOKEN))), FailCode::ChunkTag), (vec![0; 64], FailCode::SlotEmpty)];
    for (bad, code) in cases {
        let report = Device::new(&maker)
            .boot_slot(Slot::A, maker.stage2())
            .os_slot(Slot::A, bad)
            .os_slot(Slot::B, good.clone())
            .boot();
        assert_boots(&report, Slot::A, Slot::B);
        assert_eq!(report.os_fallback_code, Some(text(code)), "{}", story(&report));
        assert_os_slot_named(&report, Slot::A, code);
    }
}

#[test]
fn both_slots_bad_says_both_codes() {
    let maker = Maker::development();
    let report = Device::new(&maker)
        .boot_slot(Slot::A, flip(maker.stage2(), 0))
        .boot_slot(Slot::B, spoiled(maker.stage2()))
        .boot();
    assert_eq!(report.code, Some(text(FailCode::NoBootableSlot)), "{}", story(&report));
    assert_says(&report, &format!("boot slot A refused: {}", FailCode::HeaderMagic));
    assert_says(&report, &format!("boot slot B refused: {}", FailCode::ChunkTag));
}
