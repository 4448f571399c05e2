//! Bits flipped at places that nobody chose: the device refuses, or boots from the other slot, every time.

use emulator::{Outcome, Report};
use store::Slot;
use tests::forge::{Parts, flip};
use tests::verdict::{assert_boots, story};
use tests::{Device, Maker, TOKEN};

/// How many places of each storage are tried with a whole device. Every bit of a manifest is tried on the host,
/// by the tests of `sealed-image`.
const PLACES: usize = 8;

/// Spreads `count` offsets over a length: multiples of the golden ratio, modulo one, which leave no gap open for long.
fn places(count: usize, length: usize) -> Vec<usize> {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    (1..=count).map(|number| ((number as f64 * GOLDEN).fract() * length as f64) as usize).collect()
}

#[test]
fn places_are_spread_over_the_whole_length() {
    for length in [1000, 63_754, 40_000_000] {
        let mut tried = places(PLACES, length);
        tried.sort_unstable();
        assert!(tried[0] < length / 4 && tried[PLACES - 1] >= length * 3 / 4, "{tried:?} of {length}");
        assert!(tried.windows(2).all(|pair| pair[1] - pair[0] < length / 4), "{tried:?} of {length}");
    }
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
    let tried: Vec<usize> = places(PLACES, image.len()).into_iter().chain(places(PLACES, metadata)).collect();
    let mut refused = 0;
    for &at in &tried {
        let device = Device::new(&maker).boot_slot(Slot::A, flip(image.clone(), at));
        assert_refused(&device.os_slot(Slot::A, os.clone()).boot(), at);
        refused += 1;
    }
    assert_eq!(refused, 2 * PLACES);
}

/// Offsets in an OS slot: some anywhere, some in the metadata of each image, which the payloads would otherwise hide.
fn places_in_os_slot(slot: &[u8]) -> Vec<usize> {
    let mut tried = places(PLACES, slot.len());
    for image in release::inspect_slot(slot).unwrap() {
        let start = image.offset as usize;
        let metadata = Parts::of(&slot[start..][..image.stored_bytes as usize]).padding.end;
        tried.extend(places(2, metadata).into_iter().map(|at| start + at));
    }
    tried
}

#[test]
fn in_an_os_slot_with_a_good_one_behind_it() {
    let maker = Maker::development();
    let os = maker.seal_os(&maker.os(TOKEN));
    let tried = places_in_os_slot(&os);
    assert_eq!(tried.len(), PLACES + 2 * 3, "three images");
    for at in tried {
        let report = Device::new(&maker)
            .boot_slot(Slot::A, maker.stage2())
            .os_slot(Slot::A, flip(os.clone(), at))
            .os_slot(Slot::B, os.clone())
            .boot();
        // Between two images lie a few zeros that belong to neither: they are not read, and change nothing.
        let slot = if report.os_fallback_code.is_some() { Slot::B } else { Slot::A };
        assert_boots(&report, Slot::A, slot);
        assert!(slot == Slot::B || between_images(&os, at), "byte {at}: {}", story(&report));
    }
}

#[test]
fn in_an_os_slot_with_nothing_behind_it() {
    let maker = Maker::development();
    let os = maker.seal_os(&maker.os(TOKEN));
    let tried: Vec<usize> =
        places(PLACES, os.len()).into_iter().filter(|at| !between_images(&os, *at)).collect();
    assert!(tried.len() > PLACES / 2, "{tried:?}");
    for at in tried {
        let device = Device::new(&maker).boot_slot(Slot::A, maker.stage2());
        assert_refused(&device.os_slot(Slot::A, flip(os.clone(), at)).boot(), at);
    }
}

/// Tells whether `at` is in the gap that rounds an image up to the next page.
fn between_images(slot: &[u8], at: usize) -> bool {
    let images = release::inspect_slot(slot).unwrap();
    !images.iter().any(|image| (image.offset..image.offset + image.stored_bytes).contains(&(at as u64)))
}
