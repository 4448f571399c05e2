//! A campaign of kills: the emulator is killed at chosen writes to the flash and at random times, each die several times.
//! Every die ends as one closed device, and the authority has counted each once.

use std::time::{Duration, Instant};

use boot_info::closing::ClosingState;
use figures::Figure;
use lifecycle::{Lifecycle, WORDS};
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B, BOOT_STAGING, CLOSING_STATE, JOURNAL, OTP_WORDS};
use sealed_image::HEADER_BYTES;
use store::Slot;
use tests::factory::{Cut, LOT};
use tests::verdict::{assert_boots, assert_closed};
use tests::{Die, Factory, chance};

/// Kills that have to come in time: in short and in long runs.
const KILLS: [usize; 2] = [40, 200];
/// Lengths of the journal at which kills have to come at least.
const LENGTHS: usize = 8;
/// Kills of one die at most.
const LIVES: usize = 3;
/// The regions whose writes are chosen from: fuses, journal, closing state and the first image of each boot slot.
const WATCHED: [Region; 6] = [
    OTP_WORDS.part(0, 4 * WORDS as u64),
    JOURNAL.part(0, 16 * 1024),
    CLOSING_STATE.part(0, ClosingState::SIZE as u64),
    BOOT_SLOT_A.part(0, HEADER_BYTES as u64),
    BOOT_SLOT_B.part(0, HEADER_BYTES as u64),
    BOOT_STAGING.part(0, HEADER_BYTES as u64),
];
/// The last write that is chosen; a device that was never cut off makes some more.
const WRITES: u64 = 60;
/// The latest random time: about when a device that was never cut off is closed.
const LATEST_MS: u64 = 1500;

/// When a kill comes.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// As soon as the watched regions have changed so many times.
    Write(u64),
    /// So long after power-on.
    Time(Duration),
}

impl Kill {
    fn of(self, die: &Die, way: &station::Authority) -> Cut {
        match self {
            Self::Write(number) => {
                let (mut seen, mut writes) = (None, 0);
                let mut is_now = |flash: &mut tests::factory::FlashFile| {
                    let now: Vec<Vec<u8>> = WATCHED.iter().map(|region| flash.region(*region)).collect();
                    writes += u64::from(seen.as_ref().is_some_and(|before| *before != now));
                    seen = Some(now);
                    writes >= number
                };
                die.cut_when(way, |flash, _| is_now(flash), Duration::ZERO)
            }
            Self::Time(time) => {
                let start = Instant::now();
                die.cut_when(way, |_, _| start.elapsed() >= time, Duration::ZERO)
            }
        }
    }
}

#[test]
fn whenever_the_emulator_is_killed_each_die_ends_closed_and_counted_once() {
    let kills = figures::scaled(KILLS[0], KILLS[1]);
    let mut chance = chance();
    let factory = Factory::new();
    let way = factory.open(u32::MAX);
    let (mut dies, mut counted, mut late, mut chosen) = (0, [0, 0], 0, 0);
    let mut reached = std::collections::BTreeSet::new();
    // On a busy machine random times come early: then it takes more of them.
    while counted.iter().sum::<usize>() < kills || reached.len() < LENGTHS {
        let die = factory.die();
        dies += 1;
        assert!(
            dies as usize <= 4 * kills,
            "of {dies} dies only {counted:?} were killed in time, at {reached:?} entries"
        );
        for _ in 0..LIVES {
            let random = chance.next().is_multiple_of(2);
            let kill = if random {
                Kill::Time(Duration::from_millis(chance.next() % LATEST_MS))
            } else {
                // Every third write, from another one on each time round.
                chosen += 3;
                Kill::Write(1 + chosen % WRITES + chosen / WRITES % 3)
            };
            let cut = kill.of(&die, &way);
            if !cut.counts || die.is_acknowledged() {
                late += 1;
                break;
            }
            counted[usize::from(random)] += 1;
            reached.insert(cut.journal.len());
        }
        if die.is_acknowledged() {
            assert_eq!(die.lifecycle(), Lifecycle::Production);
        } else {
            assert_closed(&die, &die.provision(&way));
        }
        assert_boots(&die.boot(), Slot::A, Slot::A);
        assert_eq!(
            factory.counts(LOT),
            (dies, dies),
            "one install for each die, however often it was killed"
        );
    }
    assert!(counted.iter().all(|counted| *counted >= kills / 8), "{counted:?} kills of either kind");
    let note = format!(
        "{} at writes, {} at random times, {late} too late to count; {dies} dies; journals of {} lengths",
        counted[0],
        counted[1],
        reached.len()
    );
    Figure::new("QEMU kill campaign", "kills", kills as u64)
        .ran(counted.iter().sum::<usize>() as u64)
        .note(note)
        .report();
}
