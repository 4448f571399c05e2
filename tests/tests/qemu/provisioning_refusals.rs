//! What the authority refuses: the device stops with the code, its station's record tells code and cause, no fuse burns,
//! and the device stays what it was: with the right order it closes.

use boot_crypto::host::random;
use factory_proto::Message;
use fail_code::FailCode;
use lifecycle::{Lifecycle, OtpImage, Row};
use memory_map::qemu_virt::{BOARD, BOOT_SLOT_A, BOOT_SLOT_B, JOURNAL, OTP};
use release::{Compression, Identity, SiliconVendor, certificate_pem};
use sealed_image::Version;
use station::{Authorise, Failure, Refused};
use tests::factory::{LOT, lot_of};
use tests::verdict::{assert_closed, assert_not_provisioned, text};
use tests::{Die, Factory, Firmware};

/// Asserts that a die which asks in a lot is refused for this reason, and again when it is powered on again.
#[track_caller]
fn assert_refused(die: &Die, way: &dyn Authorise, code: FailCode) {
    let before = die.region(OTP);
    let run = die.provision(way);
    assert_not_provisioned(die, &run, &before, "ask", code);
    assert_eq!(die.lifecycle(), Lifecycle::Secured);
}

#[test]
fn a_die_that_lot_after_lot_refuses_closes_in_the_right_one() {
    let factory = Factory::new();
    let die = factory.die();

    let exhausted = factory.open_lot(factory.lot("exhausted", 0));
    assert_refused(&die, &exhausted, FailCode::QuotaExhausted);

    let revoked = factory.open_lot(factory.lot("revoked", 5));
    factory.authority.revoke("revoked").unwrap();
    assert_refused(&die, &revoked, FailCode::LotRevoked);

    let mut listed = factory.lot("listed", 5);
    listed.dies = vec![random(), random()];
    assert_refused(&die, &factory.open_lot(listed), FailCode::DieNotListed);

    let mut of_others = factory.lot("of-another-vendor", 5);
    of_others.terms.vendors = certificate_pem(SiliconVendor::found().unwrap().root());
    assert_refused(&die, &factory.open_lot(of_others), FailCode::VendorUnknown);

    let mut of_others = factory.lot("of-another-station", 5);
    of_others.stations = vec![random()];
    assert_refused(&die, &factory.open_lot(of_others), FailCode::StationUnauthorised);

    assert_refused(&die, &factory.way("nowhere"), FailCode::LotUnknown);

    let other = factory.package_at(1);
    let of_others = lot_of(&other, &factory.vendor, "of-another-package", 5);
    assert_refused(&die, &factory.open_lot(of_others), FailCode::PackageNotOfLot);

    for lot in
        ["exhausted", "revoked", "listed", "of-another-vendor", "of-another-station", "of-another-package"]
    {
        assert_eq!(factory.counts(lot), (0, 0), "{lot}");
    }
    let run = die.provision(&factory.open(1));
    assert_closed(&die, &run);
    assert_eq!(factory.counts(LOT), (1, 1));
}

/// A station that loses the authority's answers.
struct Losing<'a>(&'a dyn Authorise);

impl Authorise for Losing<'_> {
    fn ask(&self, question: Message, body: &[u8]) -> Result<Vec<u8>, Failure> {
        self.0.ask(question, body)?;
        let code = FailCode::AuthorityUnreachable.number();
        Err(Failure::Refused(Refused { code, text: "the line is cut".into() }))
    }
}

#[test]
fn a_die_whose_ticket_was_lost_gets_none_in_another_lot_and_the_same_one_in_its_own() {
    let factory = Factory::new();
    let (own, other) = (factory.open(1), factory.open_lot(factory.lot("other", 1)));
    let die = factory.die();
    assert_refused(&die, &Losing(&own), FailCode::AuthorityUnreachable);
    assert_eq!(factory.counts(LOT), (1, 0), "reserved before it is answered");
    assert_refused(&die, &other, FailCode::DieOfOtherLot);
    assert_eq!(factory.counts("other"), (0, 0));
    let run = die.provision(&own);
    assert_closed(&die, &run);
    assert_eq!(factory.counts(LOT), (1, 1), "one install");

    // Nobody else can have its place.
    assert_refused(&factory.die(), &own, FailCode::QuotaExhausted);
    assert_eq!(factory.counts(LOT), (1, 1));
}

/// Pre-provisions a die, burns more, and asserts that it is refused for this reason, twice.
#[track_caller]
fn assert_die_refused(factory: &Factory, burn: impl FnOnce(&mut OtpImage), code: FailCode) {
    let die = factory.die();
    die.burn(burn);
    for _ in 0..2 {
        assert_refused(&die, &factory.way(LOT), code);
    }
    assert_eq!(factory.counts(LOT), (0, 0));
}

#[test]
fn a_die_with_a_second_owner_root() {
    let factory = Factory::new();
    factory.open(1);
    assert_die_refused(
        &factory,
        |otp| {
            otp.root(1, &random());
        },
        FailCode::SecondOwnerRoot,
    );
}

#[test]
fn a_die_with_a_raised_floor() {
    let factory = Factory::new();
    factory.open(1);
    assert_die_refused(
        &factory,
        |otp| {
            otp.floor(3, 9);
        },
        FailCode::FloorRaised,
    );
}

#[test]
fn a_die_that_differs_from_the_policy_in_another_row() {
    let factory = Factory::new();
    factory.open(1);
    assert_die_refused(
        &factory,
        |otp| {
            otp.revoke_root(2);
        },
        FailCode::FusePolicyWrong,
    );
}

#[test]
fn a_stage_that_the_lot_does_not_name() {
    let factory = Factory::new();
    let way = factory.open(1);
    let die = factory.die();
    let version = Version::new(1, 0, 77);
    let identity = Identity { board: BOARD.into(), version, rollback_index: 1.into() };
    let signed = factory.owner.sign_stage1(&identity, Firmware::get().stage1.clone()).unwrap();
    let stage1 = signed.seal(&factory.package.release.provisioning_key, Compression::None).unwrap();
    for slot in [BOOT_SLOT_A, BOOT_SLOT_B] {
        die.write(slot, &stage1);
    }
    assert_refused(&die, &way, FailCode::MeasurementWrong);
    for slot in [BOOT_SLOT_A, BOOT_SLOT_B] {
        die.write(slot, &factory.package.release.stage1);
    }
    // What the other stage had begun is sealed for it alone; nothing is burned, so it may be erased.
    let before = die.region(OTP);
    let run = die.provision(&way);
    assert_eq!(run.record.code, Some(text(FailCode::JournalInvalid)), "{:?}", run.record);
    assert!(die.region(OTP) == before, "a fuse was burned");
    die.write(JOURNAL, &vec![0xFF; JOURNAL.size as usize]);
    assert_closed(&die, &die.provision(&way));
    assert_eq!(factory.counts(LOT), (1, 1));
}

#[test]
fn a_die_whose_debug_port_is_open_asks_nobody() {
    let factory = Factory::new();
    let way = factory.open(1);
    let die = factory.die();
    die.burn(|otp| otp.words_mut()[Row::DebugLock.words()].fill(0));
    let before = die.region(OTP);
    let run = die.provision(&way);
    // stage0 does not start anything that could ask.
    assert_eq!(run.boot.code, Some(text(FailCode::DebugOpen)), "{}", run.console);
    assert_eq!(run.record.code, run.boot.code, "{:?}", run.record);
    assert!(run.record.steps.is_empty() && !run.console.contains("stage1"), "{}", run.console);
    assert!(die.region(OTP) == before, "a fuse was burned");
    assert_eq!(factory.counts(LOT), (0, 0));
}

#[test]
fn a_die_that_is_in_another_lifecycle_asks_nobody() {
    let factory = Factory::new();
    let way = factory.open(1);
    let die = factory.die();
    die.burn(|otp| *otp = otp.clone().lifecycle(Lifecycle::Production));
    let before = die.region(OTP);
    let run = die.provision(&way);
    assert_eq!(run.boot.code, Some(text(FailCode::FuseRowMissing)), "{}", run.console);
    assert_eq!(run.record.code, run.boot.code, "{:?}", run.record);
    assert!(run.record.steps.is_empty() && !run.console.contains("stage1"), "{}", run.console);
    assert!(die.region(OTP) == before, "a fuse was burned");
    assert_eq!(factory.counts(LOT), (0, 0));
}
