//! stage0 on the host: what the second look sees has to be what the first one saw.

use std::cell::Cell;

use boot_info::closing::ClosingState;
use boot_info::record::BootRecord;
use boot_info::{BootInfo, SecretPage};
use fail_code::FailCode;
use hal::{Clock, Otp, ReadError, Storage};
use lifecycle::OtpImage;
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B, CLOSING_STATE, STAGE_CODE};
use sealed_image::{Role, Version};
use stage0::{Memory, Refused};
use tests::Maker;

/// What a look sees.
#[derive(Clone)]
struct Sight {
    otp: OtpImage,
    slots: [Vec<u8>; 2],
    closing: Vec<u8>,
}

/// A die that shows one thing for so many reads of its flash, and another from then on.
struct Die<'a> {
    sights: [&'a Sight; 2],
    reads: &'a Cell<usize>,
    change: usize,
}

impl Die<'_> {
    fn sight(&self) -> &Sight {
        self.sights[usize::from(self.reads.get() >= self.change)]
    }
}

impl Otp for Die<'_> {
    fn words(&self) -> usize {
        Otp::words(&self.sight().otp)
    }

    fn read(&self, index: usize) -> Option<u32> {
        Otp::read(&self.sight().otp, index)
    }
}

impl Storage for Die<'_> {
    fn size(&self) -> u64 {
        BOOT_SLOT_B.end()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let sight = self.sight();
        let [a, b] = &sight.slots;
        for (place, to) in (offset..).zip(&mut *into) {
            let parts = [(BOOT_SLOT_A.base, a), (BOOT_SLOT_B.base, b), (CLOSING_STATE.base, &sight.closing)];
            let byte = |(base, bytes): (u64, &Vec<u8>)| Some(*bytes.get(place.checked_sub(base)? as usize)?);
            *to = parts.into_iter().find_map(byte).unwrap_or(0xFF);
        }
        self.reads.set(self.reads.get() + 1);
        Ok(())
    }
}

struct Still;

impl Clock for Still {
    fn now(&self) -> u64 {
        1
    }

    fn hz(&self) -> u64 {
        1_000_000
    }
}

/// Boots a die that changes after so many reads of its flash; tells what came of it, what the next stage is told, and how
/// often the flash was read.
fn boot(first: &Sight, second: &Sight, change: usize) -> (Result<u64, FailCode>, Option<BootInfo>, usize) {
    let reads = Cell::new(0);
    let die = || Die { sights: [first, second], reads: &reads, change };
    let mut run = vec![0; STAGE_CODE.size as usize];
    // A fault has left something on the pages.
    let (mut info, mut secrets) = (vec![0xAA; 4096], vec![0xAA; 4096]);
    let mut memory = Memory { run: &mut run, code: STAGE_CODE, boot_info: &mut info, secrets: &mut secrets };
    let (mut record, mut refused) = (BootRecord::default(), Refused::default());
    let entry = stage0::boot(&die(), &mut die(), &mut memory, &Still, 0, &mut record, &mut refused);
    let entry = entry.map(|entry| {
        assert_eq!(entry.address, entry.confirmed);
        assert!(entry.is_in(&run).accepts(), "what is entered is in memory");
        run[0] ^= 1;
        assert!(!entry.is_in(&run).accepts(), "and nothing else is");
        let behind = [&info[BootInfo::SIZE..], &secrets[SecretPage::SIZE..]].concat();
        assert!(behind.iter().all(|byte| *byte == 0), "nothing is left behind what is told");
        entry.address
    });
    (entry, BootInfo::read(&info).ok(), reads.get())
}

#[test]
fn two_looks_that_see_different_things_boot_nothing() {
    let maker = Maker::production();
    let image = |version| {
        let mut facts = maker.stage2_facts();
        facts.version = Version(version);
        maker.stage2_with(&facts)
    };
    let good = Sight { otp: maker.otp(), slots: [image(1), image(1)], closing: Vec::new() };
    let (entry, info, reads) = boot(&good, &good, usize::MAX);
    assert_eq!(entry, Ok(maker.stage2_facts().entry));
    assert_eq!(info.map(|info| (info.slot, info.fallback_code)), Some((0, 0)));
    assert!(reads >= 4 && reads.is_multiple_of(2), "{reads} reads in two looks");

    let end = good.slots[0].len() - 1;
    let bad = tests::forge::flip(good.slots[0].clone(), end);
    let mut floors = maker.die.clone();
    floors.floors[usize::from(Role::Os.number()) - 1] = 1;
    let floors = OtpImage::for_die(maker.lifecycle, &floors);
    let seen = |change: &dyn Fn(&mut Sight)| {
        let mut sight = good.clone();
        change(&mut sight);
        sight
    };
    let others = [
        ("another stage", seen(&|sight| sight.slots[0] = image(2))),
        ("another slot", seen(&|sight| sight.slots[0].clone_from(&bad))),
        ("another floor", seen(&|sight| sight.otp.clone_from(&floors))),
        (
            "an install that is being closed",
            seen(&|sight| sight.closing = ClosingState::encode(&[7; 32]).to_vec()),
        ),
    ];
    for (what, other) in &others {
        let (alone, _, reads) = boot(other, other, usize::MAX);
        assert_eq!(alone, Ok(maker.stage2_facts().entry), "{what}: it boots if both looks see it");
        for (first, second, change) in [(&good, other, reads_of_one(&good)), (other, &good, reads / 2)] {
            let (entry, ..) = boot(first, second, change);
            assert_eq!(entry, Err(FailCode::LooksDiffer), "{what}");
        }
    }

    // Both boot slot B, for different reasons.
    let refused = seen(&|sight| sight.slots[0] = vec![0; 64]);
    let fallen = seen(&|sight| sight.slots[0].clone_from(&bad));
    assert_ne!(
        boot(&refused, &refused, usize::MAX).1.map(|info| info.fallback_code),
        boot(&fallen, &fallen, usize::MAX).1.map(|info| info.fallback_code)
    );
    assert_eq!(boot(&refused, &fallen, reads_of_one(&refused)).0, Err(FailCode::LooksDiffer));
}

/// How often one look at this reads the flash.
fn reads_of_one(sight: &Sight) -> usize {
    boot(sight, sight, usize::MAX).2 / 2
}
