//! What stage0 boots: every lifecycle, kind of image, slot and closing measurement, with the exact code of what it
//! refuses.

mod device;

use boot_crypto::Key;
use boot_info::RootSlots;
use boot_select::{METADATA_ROOM, Selection, device_root, stage_key};
use device::{Bench, Flash, Measurement, PLAIN, select};
use fail_code::FailCode;
use lifecycle::{Closing, Fuses, Lifecycle, OtpImage, Plan, Row};
use memory_map::qemu_virt::{BOOT_SLOT_A, STAGE_RUN};
use release::{Profile, test_keys};
use sealed_image::{Kind, Role};
use store::Slot;

const MEASUREMENTS: [Measurement; 4] =
    [Measurement::Blank, Measurement::Torn, Measurement::Own, Measurement::Other];

/// What must come of an image of this kind, sealed under the key of its kind.
fn expected(lifecycle: Lifecycle, kind: Kind, measurement: Measurement) -> Result<(), FailCode> {
    use Lifecycle::{Blank, Closing, Development, Production, Returned, Secured};
    use Measurement as M;
    match (lifecycle, kind, measurement) {
        (Blank | Returned, ..) => Err(FailCode::LifecycleForbids),
        (Closing | Production, _, M::Blank) => Err(FailCode::FuseRowMissing),
        (Closing | Production, _, M::Torn) => Err(FailCode::OtpUnreadable),
        (Secured | Closing, Kind::Stage2, _) => Err(FailCode::KindWrong),
        (Production | Development, Kind::Stage1, _) => Err(FailCode::KindWrong),
        (Secured | Closing, _, M::Other) => Err(FailCode::NotClosingImage),
        (Secured | Closing | Production | Development, ..) => Ok(()),
    }
}

#[test]
fn lifecycle_kind_slot_and_closing_measurement_decide_and_nothing_else_does() {
    let bench = Bench::new();
    let (mut booted, mut refused) = (0, 0);
    for kind in [Kind::Stage1, Kind::Stage2] {
        let stage = bench.stage(kind, |_| {});
        let image = bench.seal(&stage, kind);
        for slot in Slot::TRIES {
            let mut flash = Flash::with(slot, &image);
            for lifecycle in Lifecycle::ALL {
                for measurement in MEASUREMENTS {
                    let otp = bench.otp(lifecycle, measurement, stage.manifest_digest);
                    let case = format!("{} {kind:?} {slot:?} {measurement:?}", lifecycle.name());
                    let found = select(&otp, &mut flash, slot);
                    match expected(lifecycle, kind, measurement) {
                        Ok(()) => {
                            let (found, run) = found.unwrap_or_else(|code| panic!("{case}: {code}"));
                            assert_eq!(found.record.measurement, stage.manifest_digest, "{case}");
                            assert_eq!(found.record.kind, kind.number(), "{case}");
                            assert_eq!(found.entry, STAGE_RUN.base, "{case}");
                            assert!(run.iter().enumerate().all(|(i, byte)| *byte == i as u8), "{case}");
                            assert_eq!(run.len(), PLAIN, "{case}");
                            booted += 1;
                        }
                        Err(code) => {
                            assert_eq!(found.err(), Some(code), "{case}");
                            refused += 1;
                        }
                    }
                }
                let other = if slot == Slot::A { Slot::B } else { Slot::A };
                let otp = bench.otp(lifecycle, Measurement::Own, stage.manifest_digest);
                let code = match lifecycle {
                    Lifecycle::Blank | Lifecycle::Returned => FailCode::LifecycleForbids,
                    _ => FailCode::SlotEmpty,
                };
                assert_eq!(select(&otp, &mut flash, other).err(), Some(code), "{}", lifecycle.name());
            }
        }
    }
    assert_eq!((booted, refused), (20, 76));
}

#[test]
fn a_stage_that_is_sealed_under_the_key_of_the_other_kind_is_refused() {
    let bench = Bench::new();
    let cases = [
        (Lifecycle::Secured, Kind::Stage1, Kind::Stage2),
        (Lifecycle::Closing, Kind::Stage1, Kind::Stage2),
        (Lifecycle::Production, Kind::Stage2, Kind::Stage1),
        (Lifecycle::Development, Kind::Stage2, Kind::Stage1),
    ];
    for (lifecycle, kind, under) in cases {
        let stage = bench.stage(kind, |_| {});
        let otp = bench.otp(lifecycle, Measurement::Own, stage.manifest_digest);
        let mut flash = Flash::with(Slot::A, &bench.seal(&stage, under));
        assert_eq!(
            select(&otp, &mut flash, Slot::A).err(),
            Some(FailCode::KeyUnwrap),
            "{}",
            lifecycle.name()
        );
    }
}

#[test]
fn each_lifecycle_holds_the_floor_of_its_own_role() {
    let roles = [(Lifecycle::Secured, Kind::Stage1, Role::Provision, Role::Boot)];
    let roles = roles.into_iter().chain([(Lifecycle::Production, Kind::Stage2, Role::Boot, Role::Provision)]);
    for (lifecycle, kind, own, other) in roles {
        let mut bench = Bench::new();
        bench.die.floors[usize::from(own.number()) - 1] = 3;
        bench.die.floors[usize::from(other.number()) - 1] = 64;
        for (index, expected) in [(2, Some(FailCode::RolledBack)), (3, None)] {
            let stage = bench.stage(kind, |facts| facts.rollback_index = index);
            let otp = bench.otp(lifecycle, Measurement::Own, stage.manifest_digest);
            let mut flash = Flash::with(Slot::B, &bench.seal(&stage, kind));
            assert_eq!(select(&otp, &mut flash, Slot::B).err(), expected, "{} {index}", lifecycle.name());
        }
    }
}

#[test]
fn published_secrets_are_refused_wherever_no_development_die_is() {
    let mut refused = 0;
    for lifecycle in [Lifecycle::Secured, Lifecycle::Closing, Lifecycle::Production, Lifecycle::Development] {
        let changes: [fn(&mut Bench); 4] = [
            |bench| bench.die.silicon_secret = test_keys::silicon_secret(),
            |bench| bench.die.device_seed = test_keys::device_seed(),
            |bench| bench.die.provisioning_key = test_keys::silicon_secret(),
            |bench| bench.die.root_digest = test_keys::owner().expect("the test keys sign").root_digest(),
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let mut bench = Bench::new();
            change(&mut bench);
            let fuses =
                Fuses::read(&bench.otp(lifecycle, Measurement::Own, [1; 32])).expect("the fuses are whole");
            let read = match (lifecycle, number) {
                (Lifecycle::Secured, 1) | (Lifecycle::Production, 2) | (Lifecycle::Development, _) => None,
                _ => Some(FailCode::TestKey),
            };
            assert_eq!(Selection::of(&fuses).err(), read, "{} {number}", lifecycle.name());
            refused += usize::from(read.is_some());
        }
    }
    assert_eq!(refused, 10);
}

/// Also where the root that delegated to it is the owner's own.
#[test]
fn a_published_key_signs_for_a_development_die_only() {
    let bench = Bench::signing_with(Profile::Development, || test_keys::es256(test_keys::BOOT));
    for (lifecycle, kind) in [
        (Lifecycle::Secured, Kind::Stage1),
        (Lifecycle::Closing, Kind::Stage1),
        (Lifecycle::Production, Kind::Stage2),
        (Lifecycle::Development, Kind::Stage2),
    ] {
        let stage = bench.stage(kind, |_| {});
        let mut flash = Flash::with(Slot::A, &bench.seal(&stage, kind));
        let otp = bench.otp(lifecycle, Measurement::Own, stage.manifest_digest);
        let refused = (lifecycle != Lifecycle::Development).then_some(FailCode::TestKey);
        assert_eq!(select(&otp, &mut flash, Slot::A).err(), refused, "{}", lifecycle.name());
    }
}

#[test]
fn a_stage_for_another_address_or_too_large_for_its_place_is_refused() {
    let bench = Bench::new();
    let small = memory_map::Region::new(STAGE_RUN.base, PLAIN as u64 - 1);
    let end = STAGE_RUN.base + PLAIN as u64;
    let cases: [(fn(&mut sealed_image::host::Facts), _); 3] = [
        (
            |facts| (facts.load_address, facts.entry) = (STAGE_RUN.base + 4096, STAGE_RUN.base + 4096),
            STAGE_RUN,
        ),
        (|_| {}, small),
        (|facts| facts.entry = facts.load_address + 8192, memory_map::Region::new(end, 4096)),
    ];
    for (change, code) in cases {
        let stage = bench.stage(Kind::Stage2, change);
        let otp = bench.otp(Lifecycle::Production, Measurement::Own, [1; 32]);
        let selection = Selection::of(&Fuses::read(&otp).expect("the fuses are whole")).expect("it boots");
        let mut flash = Flash::with(Slot::A, &bench.seal(&stage, Kind::Stage2));
        let mut buffer = [0; METADATA_ROOM];
        let found = selection.find(&mut flash, BOOT_SLOT_A, code, &mut buffer);
        assert_eq!(found.err(), Some(FailCode::LoadAddress));
    }
}

#[test]
fn a_flipped_bit_in_any_chunk_is_refused() {
    let bench = Bench::new();
    let stage = bench.stage(Kind::Stage2, |_| {});
    let image = bench.seal(&stage, Kind::Stage2);
    let otp = bench.otp(Lifecycle::Production, Measurement::Own, [1; 32]);
    for from_end in [1, PLAIN / 2, PLAIN] {
        let mut bad = image.clone();
        let at = bad.len() - from_end;
        bad[at] ^= 1;
        let mut flash = Flash::with(Slot::A, &bad);
        assert_eq!(select(&otp, &mut flash, Slot::A).err(), Some(FailCode::ChunkTag), "{from_end}");
    }
}

#[test]
fn a_stage_is_in_memory_that_holds_its_bytes_and_in_no_other() {
    let bench = Bench::new();
    let otp = bench.otp(Lifecycle::Production, Measurement::Own, [1; 32]);
    let stage = bench.stage(Kind::Stage2, |_| {});
    let mut flash = Flash::with(Slot::A, &bench.seal(&stage, Kind::Stage2));
    let (stage, run) = select(&otp, &mut flash, Slot::A).expect("it boots");
    assert!(stage.is_in(&run).accepts());
    for at in [0, 4096, PLAIN - 1] {
        let mut altered = run.clone();
        altered[at] ^= 1;
        assert!(!stage.is_in(&altered).accepts(), "byte {at}");
    }
    assert!(!stage.is_in(&run[..PLAIN - 1]).accepts(), "memory that is too short");
}

/// The handoff tells the next stage of each slot by itself which root it holds, and whether it was revoked.
#[test]
fn each_root_slot_is_handed_over_as_the_fuses_have_it() {
    let digest = |slot: usize| [slot as u8 + 1; 32];
    for active in 0..4 {
        let revoked = (active + 1) % 4;
        let lost = (active + 2) % 4;
        let mut otp = OtpImage::for_die(Lifecycle::Production, &Bench::new().die);
        Row::OWNER_ROOTS.iter().for_each(|row| otp.words_mut()[row.words()].fill(0));
        otp.root(active, &digest(active)).root(revoked, &digest(revoked)).revoke_root(revoked);
        // Of this one the digest is damaged.
        otp.root(lost, &digest(lost)).revoke_root(lost);
        otp.words_mut()[Row::OWNER_ROOTS[lost].first_word()..][..20].fill(0x0F0F_0F0F);

        let selection = Selection::of(&Fuses::read(&otp).expect("the fuses are whole")).expect("it boots");
        let mut digests = [[0; 32]; 4];
        digests[active] = digest(active);
        digests[revoked] = digest(revoked);
        let expected = RootSlots { digests, valid: 1 << active, revoked: 1 << revoked | 1 << lost };
        assert_eq!(*selection.root_slots(), expected);
    }
}

/// What a provisioning stage does before it closes a device. The silicon secret is hidden from it, and so from its
/// model: it opens the slot with the key that it sealed it under.
#[test]
fn the_model_of_a_closing_die_foresees_what_the_closed_die_boots() {
    let bench = Bench::new();
    let stage = bench.stage(Kind::Stage2, |facts| facts.rollback_index = 2);
    let mut flash = Flash::with(Slot::A, &bench.seal(&stage, Kind::Stage2));
    let secured = bench.otp(Lifecycle::Secured, Measurement::Blank, [0; 32]);
    assert_eq!(select(&secured, &mut flash, Slot::A).err(), Some(FailCode::KindWrong));

    for (floor, expected) in [(2, None), (3, Some(FailCode::RolledBack))] {
        let seed = Key::new(bench.die.device_seed);
        let mut floors = [0; 6];
        floors[usize::from(Role::Boot.number()) - 1] = floor;
        let closing = Closing { measurement: [9; 32], device_seed: &seed, floors };
        let plan = Plan::closing(&closing).and_then(|plan| plan.check(&secured)).expect("the plan holds");
        let fuses = Fuses::read(plan.outcome()).expect("the model is whole");
        assert_eq!(fuses.lifecycle(), Lifecycle::Production);

        let selection = Selection::of(&fuses).expect("a production die boots");
        let mut buffer = [0; METADATA_ROOM];
        let found = selection.find(&mut flash, BOOT_SLOT_A, STAGE_RUN, &mut buffer);
        assert_eq!(found.as_ref().err().copied(), expected);
        if let Ok(found) = found {
            let mut run = [0; PLAIN];
            found.open(&mut flash, &bench.key(Kind::Stage2), &mut run).expect("it opens");
            let other = bench.key(Kind::Stage1);
            assert_eq!(found.open(&mut flash, &other, &mut run).err(), Some(FailCode::KeyUnwrap));
        }
    }
}

#[test]
fn a_die_that_has_no_device_seed_has_no_device_root() {
    let bench = Bench::new();
    let otp = bench.otp(Lifecycle::Secured, Measurement::Blank, [0; 32]);
    let fuses = Fuses::read(&otp).expect("the fuses are whole");
    assert_eq!(device_root(&fuses).err(), Some(FailCode::OtpUnreadable));
    assert_eq!(*stage_key(&fuses).expect("the provisioning key").expose(), bench.die.provisioning_key);
    assert!(Row::DeviceSeed.words().all(|word| otp.words()[word] == 0));
}
