//! Every single bit of a valid OTP image, flipped; every row, torn.

use fail_code::FailCode;
use hal::Otp;
use lifecycle::{Die, Error, Flag, FuseFacts, Fuses, Lifecycle, OtpImage, RootSlot, Row, WORDS};

const DIE: Die = Die {
    chip_id: *b"chip id of a die",
    silicon_secret: [0x51; 32],
    root_digest: [0xA2; 32],
    provisioning_key: [0x33; 32],
    device_seed: [0xC4; 32],
    closing_measurement: [0x65; 32],
    floors: [1, 0, 7, 33, 64, 32],
    owner_generation: 2,
};

/// All that a stage can learn from its fuses, secrets included, in a form that compares.
fn facts(image: &OtpImage) -> Result<impl PartialEq + use<>, Error> {
    let fuses = Fuses::read(image)?;
    let key = |key: Option<&boot_crypto::Key>| key.map(|key| *key.expose());
    Ok((
        (fuses.lifecycle(), fuses.debug_locked(), *fuses.chip_id(), *fuses.roots(), *fuses.floors()),
        (fuses.owner_generation(), fuses.closing_measurement().copied(), *fuses.silicon_secret().expose()),
        (key(fuses.provisioning_key()), key(fuses.device_seed())),
    ))
}

/// Rows that a state reads.
fn is_read(row: Row, lifecycle: Lifecycle) -> bool {
    use Lifecycle::{Closing, Development, Production, Secured};
    match row {
        Row::ProvisioningKey => matches!(lifecycle, Secured | Closing),
        Row::ClosingMeasurement => matches!(lifecycle, Closing | Production),
        Row::DeviceSeed => matches!(lifecycle, Closing | Production | Development),
        // Digests of slots that are not valid; their valid flags are read, and tested below.
        Row::OwnerRoot1 | Row::OwnerRoot2 | Row::OwnerRoot3 => false,
        _ => true,
    }
}

#[test]
fn every_single_flip_is_corrected_and_reported() {
    let mut flips = 0;
    for lifecycle in [Lifecycle::Secured, Lifecycle::Production, Lifecycle::Development] {
        let image = OtpImage::for_die(lifecycle, &DIE);
        assert!(Fuses::read(&image).is_ok_and(|fuses| fuses.corrected().is_empty()));
        for row in Row::ALL {
            for (index, bit) in row.words().flat_map(|index| (0..32).map(move |bit| (index, bit))) {
                let mut flipped = image.clone();
                flipped.words_mut()[index] ^= 1 << bit;
                assert!(facts(&flipped) == facts(&image), "{lifecycle:?}, {row:?}, word {index}, bit {bit}");
                let corrected = Fuses::read(&flipped).map(|fuses| fuses.corrected()).unwrap_or_default();
                if is_read(*row, lifecycle) {
                    assert!(corrected.contains(*row), "{lifecycle:?}, {row:?}, word {index}, bit {bit}");
                }
                flips += 1;
            }
        }
    }
    assert_eq!(flips, 3 * 32 * Row::ALL.iter().map(|row| row.word_count()).sum::<usize>());
}

#[test]
fn a_flip_in_a_closing_lifecycle_stays_closing_or_is_refused() {
    let image = OtpImage::for_die(Lifecycle::Closing, &DIE);
    let (mut corrected, mut detected) = (0, 0);
    for index in Row::Lifecycle.words() {
        for bit in 0..32 {
            let mut flipped = image.clone();
            flipped.words_mut()[index] ^= 1 << bit;
            match Fuses::read(&flipped) {
                Ok(fuses) => {
                    assert_eq!(fuses.lifecycle(), Lifecycle::Closing);
                    corrected += 1;
                }
                Err(error) => {
                    assert_eq!(error.code(), FailCode::LifecycleUnknown);
                    detected += 1;
                }
            }
        }
    }
    // In each of three copies the 16 bits between Secured and Production may be anything.
    assert_eq!((corrected, detected), (48, 48));
}

/// Flips a bit of a lock word of every row: the set of locked rows does not change.
#[test]
fn every_single_flip_of_a_lock_is_corrected() {
    let image = OtpImage::for_die(Lifecycle::Production, &DIE);
    let locks = Fuses::read_locks(&image).unwrap();
    assert!(locks.contains(Row::SiliconSecret) && locks.contains(Row::OwnerRoot3));
    assert!(!locks.contains(Row::FloorOs) && !locks.contains(Row::RootRevocation));
    for row in Row::ALL {
        for (index, bit) in row.lock_words().flat_map(|index| (0..32).map(move |bit| (index, bit))) {
            let mut flipped = image.clone();
            flipped.words_mut()[index] ^= 1 << bit;
            assert_eq!(Fuses::read_locks(&flipped), Ok(locks), "{row:?}, word {index}, bit {bit}");
        }
    }
}

/// Cuts the burn of each record after every bit, in the order in which it burns.
#[test]
fn a_torn_record_is_refused_until_it_is_whole() {
    for row in [Row::ChipId, Row::SiliconSecret, Row::OwnerRoot0, Row::ClosingMeasurement, Row::DeviceSeed] {
        let whole = OtpImage::for_die(Lifecycle::Production, &DIE);
        let mut torn = whole.clone();
        let record = row.words().start..row.words().start + 20;
        torn.words_mut()[record.clone()].fill(0);
        assert_eq!(Fuses::read(&torn).err(), Some(Error::RowMissing(row)));

        let bits: Vec<(usize, u32)> = record
            .flat_map(|index| (0..32).map(move |bit| (index, bit)))
            .filter(|(index, bit)| whole.words()[*index] >> bit & 1 == 1)
            .collect();
        for (burned, (index, bit)) in bits.iter().enumerate() {
            let left = bits.len() - burned;
            match Fuses::read(&torn).err() {
                Some(Error::RowMissing(missing)) => assert!(missing == row && burned == 0),
                Some(error) => assert_eq!((error, left > 3), (Error::RowTorn(row), true), "{left} left"),
                // One copy is whole and the other lacks at most three bits: drift, for all one can tell.
                None => assert!(left <= 3 && facts(&torn) == facts(&whole), "{row:?}: {left} bits left"),
            }
            torn.words_mut()[*index] |= 1 << bit;
        }
        assert!(torn == whole && bits.len() > 100);
    }
}

#[test]
fn two_whole_copies_that_differ_are_refused() {
    let mut image = OtpImage::for_die(Lifecycle::Development, &DIE);
    let mut other = OtpImage::blank();
    other.record(Row::DeviceSeed, &[0xC5; 32]);
    let second = Row::DeviceSeed.words().start + 10..Row::DeviceSeed.words().end;
    image.words_mut()[second.clone()].copy_from_slice(&other.words()[second]);
    assert_eq!(Fuses::read(&image).err(), Some(Error::RowsDisagree(Row::DeviceSeed)));
    assert_eq!(Error::RowsDisagree(Row::DeviceSeed).code(), FailCode::OtpUnreadable);
}

#[test]
fn a_record_moved_to_another_row_is_refused() {
    let mut image = OtpImage::for_die(Lifecycle::Production, &DIE);
    let seed: Vec<u32> = image.words()[Row::DeviceSeed.words()].to_vec();
    image.words_mut()[Row::SiliconSecret.words()].copy_from_slice(&seed);
    assert_eq!(Fuses::read(&image).err(), Some(Error::RowTorn(Row::SiliconSecret)));
}

#[test]
fn states_in_which_nothing_boots_are_refused_before_any_secret_is_read() {
    for lifecycle in [Lifecycle::Blank, Lifecycle::Returned] {
        let image = OtpImage::for_die(lifecycle, &DIE);
        assert_eq!(Fuses::read(&image).err(), Some(Error::LifecycleForbids(lifecycle)));
        assert_eq!(Fuses::read_lifecycle(&image), Ok(lifecycle));
        assert_eq!(Fuses::read_chip_id(&image), Ok(DIE.chip_id));
    }
    assert_eq!(Fuses::read(&OtpImage::blank()).err(), Some(Error::LifecycleForbids(Lifecycle::Blank)));
}

#[test]
fn a_die_without_secure_boot_or_debug_lock_or_root_is_refused() {
    for (row, lifecycle, code) in [
        (Row::BootPolicy, Lifecycle::Development, FailCode::SecureBootOff),
        (Row::DebugLock, Lifecycle::Production, FailCode::DebugOpen),
        (Row::DebugLock, Lifecycle::Secured, FailCode::DebugOpen),
        (Row::OwnerRoot0, Lifecycle::Development, FailCode::FuseRowMissing),
    ] {
        let mut image = OtpImage::for_die(lifecycle, &DIE);
        image.words_mut()[row.words()].fill(0);
        assert_eq!(Fuses::read(&image).err().map(|error| error.code()), Some(code));
    }
}

#[test]
fn a_policy_that_this_release_does_not_know_is_refused() {
    let mut image = OtpImage::for_die(Lifecycle::Development, &DIE);
    image.require_post_quantum();
    assert_eq!(Fuses::read(&image).err(), Some(Error::PostQuantumRequired));
    for flag in [2, 3] {
        let mut image = OtpImage::for_die(Lifecycle::Development, &DIE);
        // Burned in part is enough.
        for copy in 0..3 {
            image.words_mut()[Row::BootPolicy.words().start + 3 * flag + copy] = 1;
        }
        let error = Fuses::read(&image).err();
        assert_eq!(error, Some(Error::PolicyUnknown(flag as u8)));
        assert_eq!(error.map(|error| error.code()), Some(FailCode::PolicyUnsupported));
    }
}

#[test]
fn a_revoked_root_is_refused_even_if_another_slot_holds_it() {
    let mut image = OtpImage::for_die(Lifecycle::Development, &DIE);
    image.root(1, &[0xB7; 32]);
    let fuses = Fuses::read(&image).ok().unwrap();
    assert_eq!(fuses.root(&DIE.root_digest), Ok(0));
    assert_eq!(fuses.root(&[0xB7; 32]), Ok(1));
    assert_eq!(fuses.root(&[0; 32]), Err(Error::RootUnknown));

    image.revoke_root(0).root(2, &DIE.root_digest);
    let fuses = Fuses::read(&image).ok().unwrap();
    assert_eq!(fuses.roots()[0], RootSlot::Revoked(Some(DIE.root_digest)));
    assert_eq!(fuses.root(&DIE.root_digest), Err(Error::RootRevoked(0)));
    assert_eq!(fuses.root(&[0xB7; 32]), Ok(1));
}

#[test]
fn a_root_torn_while_it_is_revoked_is_revoked_and_one_torn_while_it_is_added_is_not_there() {
    let mut image = OtpImage::for_die(Lifecycle::Development, &DIE);
    image.root(1, &[0xB7; 32]).root(2, &[0xD8; 32]);
    for copy in 0..3 {
        image.words_mut()[Row::RootRevocation.words().start + copy] = 1;
        image.words_mut()[Row::OwnerRoot1.words().end - 1 - copy] &= !(1 << 5);
    }
    let fuses = Fuses::read(&image).ok().unwrap();
    assert_eq!(fuses.roots()[0], RootSlot::Revoked(Some(DIE.root_digest)));
    assert_eq!(fuses.roots()[1..3], [RootSlot::Empty, RootSlot::Active([0xD8; 32])]);
}

#[test]
fn floors_are_found_by_role_number_only() {
    let fuses = Fuses::read(&OtpImage::for_die(Lifecycle::Production, &DIE)).ok().unwrap();
    assert_eq!((1..=6).filter_map(|role| fuses.floor(role)).collect::<Vec<_>>(), [1, 0, 7, 33, 64, 32]);
    assert_eq!([0, 7, 255].map(|role| fuses.floor(role)), [None; 3]);
    assert_eq!(fuses.floors(), &[0, 1, 0, 7, 33, 64, 32, 0]);
    assert_eq!(fuses.owner_generation(), 2);
}

#[test]
fn the_flash_block_holds_the_complement_and_reads_back() {
    let image = OtpImage::for_die(Lifecycle::Production, &DIE);
    let block = image.to_flash(0x4_0000);
    assert_eq!(block.len(), 0x4_0000);
    assert!(block[4 * WORDS..].iter().all(|byte| *byte == 0xFF));
    let lifecycle = 4 * Row::Lifecycle.words().start;
    assert_eq!(block[lifecycle..lifecycle + 4], (!Lifecycle::Production.codeword()).to_le_bytes());
    assert!(OtpImage::from_flash(&block) == image);
    assert!(OtpImage::from_flash(&[0xFF; 64]) == OtpImage::blank());
    assert_ne!(Flag::Set, Flag::Clear);
}

/// A bank whose word `index` reads as its complement on every third read, from the one numbered `read` on.
struct Disturbed {
    image: OtpImage,
    index: usize,
    read: u32,
    reads: std::cell::Cell<u32>,
}

impl Otp for Disturbed {
    fn words(&self) -> usize {
        self.image.words().len()
    }

    fn read(&self, index: usize) -> Option<u32> {
        let word = *self.image.words().get(index)?;
        if index != self.index {
            return Some(word);
        }
        self.reads.set(self.reads.get() + 1);
        Some(if self.reads.get() % 3 == self.read { !word } else { word })
    }
}

#[test]
fn one_disturbed_read_of_a_word_changes_nothing() {
    let image = OtpImage::for_die(Lifecycle::Development, &DIE);
    for index in Row::ALL.iter().flat_map(|row| row.words()) {
        for read in 0..3 {
            let bank = Disturbed { image: image.clone(), index, read, reads: Default::default() };
            let fuses = Fuses::read(&bank).unwrap_or_else(|error| panic!("word {index}: {error:?}"));
            assert_eq!(FuseFacts::read(&bank), FuseFacts::read(&image));
            assert_eq!(fuses.corrected(), Fuses::read(&image).unwrap().corrected());
        }
    }
}

#[test]
fn a_bank_smaller_than_the_map_is_refused() {
    struct Small;
    impl Otp for Small {
        fn words(&self) -> usize {
            WORDS - 1
        }
        fn read(&self, _: usize) -> Option<u32> {
            Some(0)
        }
    }
    assert_eq!(Fuses::read(&Small).err(), Some(Error::BankTooSmall(WORDS - 1)));
}
