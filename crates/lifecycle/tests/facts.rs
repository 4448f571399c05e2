//! What a die says of its fuses, and what a lot's policy makes of it.

use boot_crypto::Key;
use fail_code::FailCode;
use lifecycle::{
    Deviation, Die, Error, Flag, FuseFacts, FusePolicy, Lifecycle, OtpImage, ROLES, Record, Row, WORDS,
    compare, deviations, fuse_tag,
};
use proptest::prelude::*;

const DIE: Die = Die {
    chip_id: *b"chip id of a die",
    silicon_secret: [0x51; 32],
    root_digest: [0xA2; 32],
    provisioning_key: [0x33; 32],
    device_seed: [0xC4; 32],
    closing_measurement: [0x65; 32],
    floors: [1, 2, 3, 4, 5, 6],
    owner_generation: 0,
};

fn policy() -> FusePolicy {
    FusePolicy {
        root_digest: DIE.root_digest,
        provisioning_key_tag: fuse_tag(Row::ProvisioningKey, &Key::new(DIE.provisioning_key)),
        secured_floors: DIE.floors,
        production_floors: DIE.floors,
        closing_measurement: DIE.closing_measurement,
    }
}

fn die(lifecycle: Lifecycle) -> OtpImage {
    OtpImage::for_die(lifecycle, &DIE)
}

fn secured() -> OtpImage {
    die(Lifecycle::Secured)
}

fn expected(lifecycle: Lifecycle) -> FuseFacts {
    match lifecycle {
        Lifecycle::Secured => policy().secured(),
        _ => policy().production(),
    }
}

/// How a die deviates after somebody has burned more.
fn after(start: Lifecycle, burn: impl FnOnce(&mut OtpImage)) -> Result<(), Deviation> {
    let mut image = die(start);
    burn(&mut image);
    compare(&expected(start), &FuseFacts::read(&image).unwrap())
}

#[test]
fn dies_of_the_lot_are_as_its_policy_says_whoever_they_are() {
    for start in [Lifecycle::Secured, Lifecycle::Production] {
        assert_eq!(FuseFacts::read(&die(start)), Ok(expected(start)));
        assert_eq!(after(start, |_| ()), Ok(()));
        // Chip id, silicon secret and device seed tell dies apart, and are no facts.
        let other = Die { chip_id: [9; 16], silicon_secret: [8; 32], device_seed: [7; 32], ..DIE };
        let facts = FuseFacts::read(&OtpImage::for_die(start, &other)).unwrap();
        assert_eq!((facts.digest(), facts), (expected(start).digest(), expected(start)));
    }
    assert_ne!(policy().secured().digest(), policy().production().digest());
}

#[test]
fn no_secret_is_in_the_facts() {
    for start in [Lifecycle::Secured, Lifecycle::Closing, Lifecycle::Production] {
        let bytes = FuseFacts::read(&die(start)).unwrap().encode();
        for secret in [DIE.silicon_secret, DIE.provisioning_key, DIE.device_seed] {
            assert!(!bytes.windows(4).any(|window| window == &secret[..4]), "{start:?}");
        }
        assert!(bytes.windows(32).any(|window| window == DIE.root_digest), "the control");
    }
    // Keys that differ have tags that differ, and so do rows with the same key.
    let (key, other) = (Key::new([1; 32]), Key::new([2; 32]));
    assert_ne!(fuse_tag(Row::ProvisioningKey, &key), fuse_tag(Row::ProvisioningKey, &other));
    assert_ne!(fuse_tag(Row::ProvisioningKey, &key), fuse_tag(Row::DeviceSeed, &key));
}

#[test]
fn a_second_owner_root_is_found_in_every_slot_whole_or_torn_valid_or_not() {
    let mut tried = 0;
    for start in [Lifecycle::Secured, Lifecycle::Production] {
        for slot in 1..4_u8 {
            let row = Row::OWNER_ROOTS[usize::from(slot)];
            let second = Err(Deviation::SecondOwnerRoot(slot));
            assert_eq!(
                after(start, |otp| {
                    otp.root(slot.into(), &[0xEE; 32]);
                }),
                second
            );
            assert_eq!(
                after(start, |otp| {
                    otp.record(row, &[0xEE; 32]);
                }),
                second
            );
            // The valid flag alone, each torn record that is more than drift.
            let flag = row.first_word() + 20;
            assert_eq!(after(start, |otp| otp.words_mut()[flag..flag + 3].fill(0x31E8_E7A1)), second);
            assert_eq!(after(start, |otp| otp.words_mut()[flag..flag + 2].fill(1)), second);
            for word in 0..20 {
                assert_eq!(
                    after(start, |otp| otp.words_mut()[row.first_word() + word] |= 0xF),
                    second,
                    "word {word}"
                );
                assert_eq!(
                    after(start, |otp| otp.words_mut()[row.first_word() + word] |= 7),
                    Ok(()),
                    "drift"
                );
                tried += 1;
            }
        }
    }
    assert_eq!(tried, 2 * 3 * 20);
    // Another root in the first slot.
    let other = FuseFacts::read(&OtpImage::for_die(Lifecycle::Secured, &Die { root_digest: [1; 32], ..DIE }))
        .unwrap();
    assert_eq!(compare(&policy().secured(), &other), Err(Deviation::SecondOwnerRoot(0)));
    assert_eq!(Deviation::SecondOwnerRoot(0).code(), FailCode::SecondOwnerRoot);
}

#[test]
fn a_raised_floor_is_found_for_every_role() {
    for start in [Lifecycle::Secured, Lifecycle::Production] {
        for role in 1..=ROLES {
            for level in [DIE.floors[usize::from(role) - 1] + 1, 33, 64] {
                let raised = after(start, |otp| {
                    otp.floor(role, level);
                });
                assert_eq!(raised, Err(Deviation::FloorRaised(role)), "level {level}");
            }
            // One that is too low was not burned as the lot's are.
            let row = Row::FLOORS[usize::from(role) - 1];
            let low = after(start, |otp| otp.words_mut()[row.first_word()..row.first_word() + 6].fill(0));
            assert_eq!(low, Err(Deviation::Other(row.number())));
        }
    }
    assert_eq!(Deviation::FloorRaised(1).code(), FailCode::FloorRaised);
}

#[test]
fn a_debug_lock_that_is_open_or_torn_is_found() {
    let row = Row::DebugLock;
    for words in 1..=3 {
        let open = after(Lifecycle::Secured, |otp| otp.words_mut()[row.first_word()..][..words].fill(0));
        assert_eq!(open, if words == 1 { Ok(()) } else { Err(Deviation::DebugOpen) }, "{words} words");
    }
    let torn = after(Lifecycle::Secured, |otp| otp.words_mut()[row.first_word()..][..3].fill(0x31E8_E7A0));
    assert_eq!(torn, Err(Deviation::DebugOpen));
    assert_eq!(Deviation::DebugOpen.code(), FailCode::DebugNotLocked);
}

#[test]
fn every_other_deviation_is_found_with_its_row() {
    let other = |row: Row| Err(Deviation::Other(row.number()));
    for start in [Lifecycle::Secured, Lifecycle::Production] {
        for slot in 0..4 {
            assert_eq!(
                after(start, |otp| {
                    otp.revoke_root(slot);
                }),
                other(Row::RootRevocation)
            );
        }
        assert_eq!(
            after(start, |otp| {
                otp.require_post_quantum();
            }),
            other(Row::BootPolicy)
        );
        for flag in 1..4 {
            let first = Row::BootPolicy.first_word() + 3 * flag;
            assert_eq!(after(start, |otp| otp.words_mut()[first..first + 2].fill(1)), other(Row::BootPolicy));
        }
        assert_eq!(
            after(start, |otp| {
                otp.owner_generation(1);
            }),
            other(Row::OwnerGeneration)
        );
        let key = Row::ProvisioningKey;
        assert_eq!(after(start, |otp| otp.words_mut()[key.first_word()] ^= 0xF), other(key), "torn");
        // Every lock that the lot's dies do not have, and every one that they lack.
        for row in Row::ALL {
            let locked = expected(start).locks.contains(*row);
            let changed = after(start, |otp| {
                let fill = if locked { 0 } else { 0x31E8_E7A1 };
                otp.words_mut()[row.lock_words()].fill(fill);
            });
            assert_eq!(changed, other(*row), "the lock of {row:?}");
        }
    }
    // Closing that has begun: a measurement, whole or torn.
    let row = Row::ClosingMeasurement;
    assert_eq!(
        after(Lifecycle::Secured, |otp| {
            otp.record(row, &[1; 32]);
        }),
        other(row)
    );
    assert_eq!(after(Lifecycle::Secured, |otp| otp.words_mut()[row.first_word()] = 0xF), other(row));
    let another = Die { closing_measurement: [1; 32], ..DIE };
    let facts = FuseFacts::read(&OtpImage::for_die(Lifecycle::Production, &another)).unwrap();
    assert_eq!(compare(&policy().production(), &facts), other(row));
    let another = Die { provisioning_key: [1; 32], ..DIE };
    let facts = FuseFacts::read(&OtpImage::for_die(Lifecycle::Secured, &another)).unwrap();
    assert_eq!(compare(&policy().secured(), &facts), other(Row::ProvisioningKey));
    assert_eq!(Deviation::Other(9).code(), FailCode::FusePolicyWrong);
}

/// A root that became less than it was is no second one, and a lock that nobody asked for leaves no debugger in.
#[test]
fn what_is_missing_of_a_root_or_set_too_much_is_told_as_what_it_is() {
    let secured = expected(Lifecycle::Secured);
    let deviates = |change: fn(&mut FuseFacts, &mut FuseFacts)| {
        let (mut expected, mut found) = (secured, secured);
        change(&mut expected, &mut found);
        compare(&expected, &found)
    };
    let other = |row: Row| Err(Deviation::Other(row.number()));
    for valid in [Flag::Clear, Flag::Torn] {
        let mut found = secured;
        found.roots[0].valid = valid;
        assert_eq!(compare(&secured, &found), other(Row::OwnerRoot0), "{valid:?}");
    }
    assert_eq!(deviates(|_, found| found.roots[0].digest = Record::Blank), other(Row::OwnerRoot0));
    assert_eq!(deviates(|expected, _| expected.debug_lock = Flag::Clear), other(Row::DebugLock));
    assert_eq!(deviates(|_, found| found.debug_lock = Flag::Clear), Err(Deviation::DebugOpen));
}

#[test]
fn another_lifecycle_is_found() {
    for lifecycle in Lifecycle::ALL.into_iter().filter(|state| *state != Lifecycle::Secured) {
        let facts = FuseFacts { lifecycle, ..policy().secured() };
        let deviation = compare(&policy().secured(), &facts);
        assert_eq!(deviation, Err(Deviation::Lifecycle(lifecycle.codeword())));
    }
    assert_eq!(Deviation::Lifecycle(0).code(), FailCode::LifecycleWrong);
    let torn = after(Lifecycle::Production, |otp| {
        let first = Row::Lifecycle.first_word();
        otp.words_mut()[first] = Lifecycle::Secured.codeword();
    });
    assert_eq!(torn, Err(Deviation::Lifecycle(Lifecycle::Closing.codeword())));
}

#[test]
fn the_gravest_of_several_deviations_is_told_and_all_are_listed() {
    let mut otp = secured();
    otp.owner_generation(1).floor(3, 9).root(2, &[1; 32]);
    Row::DebugLock.words().for_each(|word| otp.words_mut()[word] = 0);
    let facts = FuseFacts::read(&otp).unwrap();
    assert_eq!(compare(&policy().secured(), &facts), Err(Deviation::SecondOwnerRoot(2)));
    let all: Vec<_> = deviations(&policy().secured(), &facts).collect();
    let other = Deviation::Other(Row::OwnerGeneration.number());
    assert_eq!(all, [Deviation::DebugOpen, Deviation::SecondOwnerRoot(2), Deviation::FloorRaised(3), other]);
}

/// Whatever anybody burns into any word: either nothing that counts has changed, or the digest has, and the policy says so.
#[test]
fn more_than_drift_in_any_word_is_found_unless_it_only_tells_dies_apart() {
    let mut found = 0;
    for start in [Lifecycle::Secured, Lifecycle::Production] {
        for word in 0..WORDS {
            let Some(row) = Row::of_word(word) else { continue };
            let mut otp = die(start);
            // Two words: what a vote of three would still correct in one.
            for word in [word, word + 1] {
                if Row::of_word(word) == Some(row) {
                    otp.words_mut()[word] |= 0xFFFF_0000;
                    otp.words_mut()[word] |= 0x0000_FFFF;
                }
            }
            let apart = matches!(row, Row::ChipId | Row::SiliconSecret | Row::DeviceSeed);
            let in_lock = row.lock_words().contains(&word);
            match FuseFacts::read(&otp) {
                Ok(facts) => {
                    let deviates = compare(&expected(start), &facts).is_err();
                    assert_eq!(deviates, facts.digest() != expected(start).digest(), "{start:?} word {word}");
                    found += u32::from(deviates);
                    // The last word of a lock or of a flag alone is outvoted; a lock that is set stays set.
                    let outvoted = in_lock || word + 1 >= row.words().end || row.word_count() <= 12;
                    assert!(deviates || apart || outvoted, "{start:?}, {row:?}, word {word}");
                }
                Err(Error::LifecycleUnknown(_)) => found += 1,
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    assert!(found > 300, "only {found}");
}

#[test]
fn the_encoding_comes_back_and_nothing_else_is_read() {
    for lifecycle in [Lifecycle::Blank, Lifecycle::Secured, Lifecycle::Closing, Lifecycle::Production] {
        let facts = FuseFacts::read(&die(lifecycle)).unwrap();
        let bytes = facts.encode();
        assert_eq!(FuseFacts::decode(&bytes), Ok(facts));
        for length in (0..FuseFacts::SIZE).chain([FuseFacts::SIZE + 1]) {
            let mut other = bytes.to_vec();
            other.resize(length, 0);
            let error = FuseFacts::decode(&other).unwrap_err();
            assert_eq!((error, error.code()), (Error::FactsLength(length), FailCode::RequestMalformed));
        }
        for version in (0..=255).filter(|version| *version != 1) {
            let mut other = bytes;
            other[0] = version;
            assert_eq!(FuseFacts::decode(&other), Err(Error::FactsVersion(version)));
        }
        // Every flipped bit is refused, or other facts.
        for bit in 8..FuseFacts::SIZE * 8 {
            let mut other = bytes;
            other[bit / 8] ^= 1 << (bit % 8);
            match FuseFacts::decode(&other) {
                Ok(decoded) => assert!(decoded != facts && decoded.encode() == other, "bit {bit}"),
                Err(error) => {
                    assert!(matches!(error, Error::FactsMalformed(_)), "bit {bit}: {error:?}");
                    assert_eq!(error.code(), FailCode::RequestMalformed);
                }
            }
        }
    }
}

#[test]
fn values_that_a_field_cannot_have_are_refused_at_their_place() {
    let sound = policy().secured().encode();
    // Lifecycle at 1, locks at 5, debug lock at 9, policy at 10, floors at 14, generation at 20, roots from 21 on, each of
    // valid, revoked, record; then the two records.
    let mut cases = vec![(1, vec![1, 2, 3, 4]), (5, vec![0, 0, 0x10, 0]), (5, vec![0xFF; 4])];
    for flag in (9..14).chain([21, 22, 56, 57, 91, 92, 126, 127]) {
        cases.extend([3, 0x80, 0xFF].map(|value| (flag, vec![value])));
    }
    for level in 14..21 {
        cases.extend([65, 0xFF].map(|value| (level, vec![value])));
    }
    for record in [23, 58, 93, 128, 161, 194] {
        cases.push((record, vec![3]));
        cases.push((record, vec![0, 1]));
        cases.push((record, vec![2, 1]));
    }
    for (at, bytes) in cases {
        let mut other = sound;
        other[at..at + bytes.len()].copy_from_slice(&bytes);
        let error = FuseFacts::decode(&other).err();
        // A record is refused where it starts.
        assert_eq!(error, Some(Error::FactsMalformed(at)), "{bytes:02X?} at {at}");
    }
    let torn = FuseFacts { closing_measurement: Record::Torn, debug_lock: Flag::Torn, ..policy().secured() };
    assert_eq!(FuseFacts::decode(&torn.encode()), Ok(torn));
}

#[test]
fn a_bank_that_is_too_small_is_refused() {
    struct Small(OtpImage);
    impl hal::Otp for Small {
        fn words(&self) -> usize {
            WORDS - 1
        }
        fn read(&self, index: usize) -> Option<u32> {
            self.0.read(index)
        }
    }
    assert_eq!(FuseFacts::read(&Small(secured())), Err(Error::BankTooSmall(WORDS - 1)));
}

proptest! {
    #[test]
    fn whatever_is_decoded_is_the_one_encoding(
        changes in prop::collection::vec((1..FuseFacts::SIZE, 0..5_u8), 0..8),
    ) {
        let mut bytes = policy().production().encode();
        for (at, value) in changes {
            bytes[at] = value;
        }
        if let Ok(facts) = FuseFacts::decode(&bytes) {
            prop_assert_eq!(facts.encode(), bytes);
        }
    }

    #[test]
    fn any_bank_is_read_without_a_panic(words in prop::collection::vec(any::<u32>(), WORDS)) {
        let mut otp = secured();
        otp.words_mut().copy_from_slice(&words);
        if let Ok(facts) = FuseFacts::read(&otp) {
            prop_assert_eq!(FuseFacts::decode(&facts.encode()), Ok(facts));
        }
    }
}
