//! Bits flipped at places that nobody chose: the device refuses, or boots from the other slot, every time.

use emulator::{Outcome, Report};
use store::Slot;
use tests::forge::{Parts, flip};
use tests::verdict::{assert_boots, story};
use tests::{Device, Maker, TOKEN};

/// How many places of each storage are tried with a whole device. Every bit of a manifest is tried on the host,
/// by the tests of `sealed-image`.
const PLACES: usize = 8;

/// Spreads `PLACES` offsets over a length, with a golden-ratio step so that none is a multiple of anything.
fn places(length: usize) -> impl Iterator<Item = usize> {
    (1..=PLACES).map(move |number| (number * 618_033_989) % length)
}

#[track_caller]
fn assert_refused(report: &Report, at: usize) {
    assert_eq!(report.result, Outcome::Refused, "byte {at}: {}", story(report));
    assert!(report.fail_code().is_some(), "byte {at}: {}", story(report));
    assert!(!report.console.contains("KILN-PAYLOAD"), "byte {at}: {}", story(report));
}

#[test]
fn in_a_boot_slot() {
    let maker = Maker::development();
    let image = maker.stage2();
    let os = maker.seal_os(&maker.os(TOKEN));
    let metadata = Parts::of(&image).padding.end;
    // Half of the places in the metadata, which a payload many times its size would otherwise hide.
    let tried: Vec<usize> = places(image.len()).chain(places(metadata)).collect();
    let mut refused = 0;
    for &at in &tried {
        let device = Device::new(&maker).boot_slot(Slot::A, flip(image.clone(), at));
        assert_refused(&device.os_slot(Slot::A, os.clone()).boot(), at);
        refused += 1;
    }
    assert_eq!(refused, 2 * PLACES);
}

#[test]
fn in_an_os_slot_with_a_good_one_behind_it() {
    let maker = Maker::development();
    let os = maker.seal_os(&maker.os(TOKEN));
    let mut booted = 0;
    for at in places(os.len()) {
        let report = Device::new(&maker)
            .boot_slot(Slot::A, maker.stage2())
            .os_slot(Slot::A, flip(os.clone(), at))
            .os_slot(Slot::B, os.clone())
            .boot();
        // Between two images lie a few zeros that belong to neither: they are not read, and change nothing.
        let slot = if report.os_fallback_code.is_some() { Slot::B } else { Slot::A };
        assert_boots(&report, Slot::A, slot);
        assert!(slot == Slot::B || between_images(&os, at), "byte {at}: {}", story(&report));
        booted += 1;
    }
    assert_eq!(booted, PLACES);
}

/// Tells whether `at` is in the gap that rounds an image up to the next page.
fn between_images(slot: &[u8], at: usize) -> bool {
    let images = release::inspect_slot(slot).unwrap();
    !images.iter().any(|image| (image.offset..image.offset + image.stored_bytes).contains(&(at as u64)))
}
