//! Fuses that stage0 must not boot with, whatever lies in the slots.

use boot_crypto::host::random;
use fail_code::FailCode;
use lifecycle::{Lifecycle, OtpImage, Row};
use release::test_keys;
use store::Slot;
use tests::verdict::{assert_boot_slot_refused, assert_boots, assert_stage0_refuses};
use tests::{Device, Maker, TOKEN, private_owner};

/// A device with everything in its slots that it needs, and these fuses.
fn device(maker: &Maker, otp: OtpImage) -> Device {
    Device::with_otp(otp).boot_slot(Slot::A, maker.stage2()).os_slot(Slot::A, maker.seal_os(&maker.os(TOKEN)))
}

#[track_caller]
fn refused(maker: &Maker, otp: OtpImage, code: FailCode) {
    assert_stage0_refuses(&device(maker, otp).boot(), code);
}

#[test]
fn a_development_die_and_a_production_die_boot() {
    for maker in [Maker::development(), Maker::production()] {
        let report = device(&maker, maker.otp()).boot();
        assert_boots(&report, Slot::A, Slot::A);
        assert_eq!(report.lifecycle.as_deref(), Some(maker.lifecycle.name()));
        assert_eq!(report.fallback_code, None);
    }
}

#[test]
fn states_that_boot_nothing_are_refused() {
    for lifecycle in [Lifecycle::Blank, Lifecycle::Returned] {
        let mut maker = Maker::production();
        maker.lifecycle = lifecycle;
        refused(&maker, maker.otp(), FailCode::LifecycleForbids);
    }
}

#[test]
fn a_device_that_is_not_closed_does_not_boot_the_production_stage() {
    for lifecycle in [Lifecycle::Secured, Lifecycle::Closing] {
        let mut maker = Maker::production();
        maker.lifecycle = lifecycle;
        let report = device(&maker, maker.otp()).boot();
        assert_boot_slot_refused(&report, FailCode::KindWrong);
    }
}

#[test]
fn a_production_die_with_the_test_root_is_refused() {
    let owner = test_keys::owner().unwrap();
    let maker = Maker::new(owner, Lifecycle::Production, random(), random());
    refused(&maker, maker.otp(), FailCode::TestKey);
}

#[test]
fn a_production_die_with_the_published_silicon_secret_is_refused() {
    let maker = Maker::new(private_owner(), Lifecycle::Production, test_keys::silicon_secret(), random());
    refused(&maker, maker.otp(), FailCode::TestKey);
}

#[test]
fn a_production_die_with_the_published_device_seed_is_refused() {
    let maker = Maker::new(private_owner(), Lifecycle::Production, random(), test_keys::device_seed());
    refused(&maker, maker.otp(), FailCode::TestKey);
}

/// Changes every word of a row.
fn with_row(maker: &Maker, row: Row, change: fn(u32) -> u32) -> OtpImage {
    let mut otp = maker.otp();
    let words = otp.words_mut()[row.first_word()..][..row.word_count()].iter_mut();
    assert!(words.map(|word| *word = change(*word)).count() >= 3);
    otp
}

#[test]
fn a_lifecycle_that_is_no_codeword_is_refused() {
    let maker = Maker::development();
    refused(&maker, with_row(&maker, Row::Lifecycle, |word| word ^ 0x0000_0FFF), FailCode::LifecycleUnknown);
}

#[test]
fn a_row_that_fails_its_check_is_refused() {
    let maker = Maker::development();
    refused(&maker, with_row(&maker, Row::DeviceSeed, |word| word ^ 0x0F0F_0F0F), FailCode::OtpUnreadable);
}

#[test]
fn a_row_that_was_never_burned_is_refused() {
    let maker = Maker::development();
    refused(&maker, with_row(&maker, Row::DeviceSeed, |_| 0), FailCode::FuseRowMissing);
}

#[test]
fn a_die_that_asks_for_post_quantum_signatures_is_refused() {
    let maker = Maker::development();
    let mut otp = maker.otp();
    otp.require_post_quantum();
    refused(&maker, otp, FailCode::PolicyUnsupported);
}
