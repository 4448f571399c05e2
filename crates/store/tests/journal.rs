//! The journal on a NOR flash that loses power.

use figures::Figure;
use hal::StorageMut;
use memory_map::Region;
use proptest::prelude::*;
use sim::{Nor, Power, Tear};
use store::{Journal, JournalError, MAX_ENTRY};

const BLOCK: u64 = 4096;
const REGION: Region = Region::new(BLOCK, 4 * BLOCK);

type Entries = Vec<(u8, Vec<u8>)>;

fn flash(power: &Power) -> Nor {
    Nor::new(6 * BLOCK, BLOCK, power)
}

fn open(flash: &mut Nor) -> Result<(Journal, Entries), JournalError> {
    let mut entries = Vec::new();
    let journal = Journal::open(flash, REGION, &mut [0; MAX_ENTRY], |entry| {
        entries.push((entry.kind, entry.payload.to_vec()));
    })?;
    assert_eq!(journal.entries() as usize, entries.len());
    Ok((journal, entries))
}

fn filled(flash: &mut Nor, entries: &[(u8, Vec<u8>)]) {
    let (mut journal, _) = open(flash).unwrap();
    for (kind, payload) in entries {
        journal.append(flash, *kind, payload).unwrap();
    }
}

fn some() -> Entries {
    vec![(1, vec![]), (2, vec![7; 44]), (3, vec![0xFF; 45]), (4, (0..=255).collect()), (5, vec![0; 1000])]
}

#[test]
fn entries_are_read_back_in_their_order() {
    let mut flash = flash(&Power::new());
    assert_eq!(open(&mut flash).unwrap().1, []);
    filled(&mut flash, &some());
    assert_eq!(open(&mut flash).unwrap().1, some());
    assert_eq!(flash.violations(), 0);
    assert!(flash.bytes()[..BLOCK as usize].iter().all(|byte| *byte == 0xFF), "nothing outside the region");
    Journal::erase(&mut flash, REGION).unwrap();
    assert_eq!(open(&mut flash).unwrap().1, []);
}

/// At every operation, in every way: what was appended before the cut is there, the entry that was being appended is
/// there or not, and the journal goes on.
#[test]
fn a_cut_at_any_operation_costs_at_most_the_entry_that_was_being_written() {
    let (mut cuts, mut torn) = (0, 0);
    for tear in Tear::ALL {
        for operation in 0.. {
            let power = Power::new();
            let mut flash = flash(&power);
            let (mut journal, _) = open(&mut flash).unwrap();
            power.restore();
            power.cut_at(operation, tear);
            let whole = some()
                .iter()
                .take_while(|(kind, payload)| journal.append(&mut flash, *kind, payload).is_ok())
                .count();
            if !power.is_off() {
                break;
            }
            power.restore();
            cuts += 1;

            let (mut journal, entries) = open(&mut flash).unwrap();
            assert!(entries.len() == whole || entries.len() == whole + 1, "{tear:?} at {operation}");
            assert_eq!(entries, some()[..entries.len()]);
            torn += u32::from(entries.len() == whole);
            for (kind, payload) in &some()[entries.len()..] {
                journal.append(&mut flash, *kind, payload).unwrap();
            }
            assert_eq!(open(&mut flash).unwrap().1, some(), "{tear:?} at {operation}");
            assert_eq!(flash.violations(), 0, "{tear:?} at {operation}");
        }
    }
    assert!(cuts > 80 && torn > 40, "{cuts} cuts, {torn} of them cost an entry");
}

/// Of each entry: where it starts in the region, and how many bytes of it are its own. A unit of zeros lies before the first.
fn places(entries: &Entries) -> Vec<(usize, usize)> {
    let stored = entries.iter().map(|(_, payload)| 20 + payload.len());
    stored.scan(64, |at, len| Some((std::mem::replace(at, (*at + len).next_multiple_of(64)), len))).collect()
}

/// An entry that was altered is damage where more lies behind it. The last one is what a cut leaves: it is not there,
/// and what has no place in an entry belongs to none.
#[test]
fn every_flipped_bit_of_a_journal_is_refused_or_costs_the_last_entry() {
    let mut flash = flash(&Power::new());
    filled(&mut flash, &some());
    let places = places(&some());
    let (last, len) = *places.last().unwrap();
    let end = (last + len).next_multiple_of(64);
    let mut wrong = Vec::new();
    for bit in 0..end * 8 {
        let at = BLOCK as usize + bit / 8;
        flash.bytes_mut()[at] ^= 1 << (bit % 8);
        let opened = open(&mut flash).map(|(_, entries)| entries);
        flash.bytes_mut()[at] ^= 1 << (bit % 8);
        let hit = places.iter().find(|(start, len)| (*start..start + len).contains(&(bit / 8)));
        let good = match (hit, &opened) {
            (None, Ok(entries)) => *entries == some(),
            (Some((start, _)), Ok(entries)) if *start == last => entries[..] == some()[..4],
            // The next entry does not have the number that is due.
            (Some((start, len)), Err(JournalError::Damaged { offset })) if *start < last => {
                *offset == BLOCK + (start + len).next_multiple_of(64) as u64
            }
            _ => false,
        };
        if !good {
            wrong.push(format!("byte {}, bit {}: {opened:?}", bit / 8, bit % 8));
        }
    }
    Figure::new("bits flipped in a journal", "bits", 12_000)
        .ran(end as u64 * 8)
        .violations(&wrong)
        .note(
            "entries of 0, 44, 45, 256 and 1000 bytes; an altered one is refused, the last one is not there",
        )
        .report();
}

/// What a power cut leaves, at every length: the entries that are whole.
#[test]
fn a_journal_that_ends_at_any_byte_has_the_entries_that_are_whole() {
    let mut whole = flash(&Power::new());
    filled(&mut whole, &some());
    let places = places(&some());
    let end = places.iter().map(|(start, len)| start + len).max().unwrap();
    for length in 0..=end {
        let mut cut = whole.clone();
        cut.bytes_mut()[BLOCK as usize + length..].fill(0xFF);
        // Bytes at an entry's end that are as erased ones are there without being written.
        let there = places
            .iter()
            .zip(&some())
            .take_while(|((start, _), (_, payload))| {
                let tail = payload.iter().rev().take_while(|byte| **byte == 0xFF).count();
                start + 20 + payload.len() - tail <= length
            })
            .count();
        assert_eq!(open(&mut cut).unwrap().1, some()[..there], "{length} bytes");
    }
}

/// An entry of which one bit reads otherwise each time is whole or torn, as it reads first, and stays so: also when power
/// fails again and again, and whatever is written behind it.
#[test]
fn what_opening_finds_stays_so_though_a_bit_of_it_reads_otherwise_each_time() {
    let (mut whole, mut torn) = (0, 0);
    for (tear, seed) in
        [Tear::Weak, Tear::Touched].into_iter().flat_map(|tear| (0..200).map(move |seed| (tear, seed)))
    {
        let power = Power::new();
        let mut flash = flash(&power);
        let mut expected = vec![(1, vec![1; 100])];
        filled(&mut flash, &expected);
        for turn in 0..6_u8 {
            let (mut journal, found) = open(&mut flash).unwrap();
            assert_eq!(found, expected, "{tear:?}, seed {seed}");
            // Entries differ, so that bits of one which were to stay erased are not made firm by another.
            let entry = (turn, vec![turn.wrapping_mul(0x35) ^ seed as u8; 30 + seed as usize % 90]);
            let (undisturbed, mut copy) = (Power::new(), flash.clone());
            copy.connect(&undisturbed);
            journal.clone().append(&mut copy, entry.0, &entry.1).unwrap();
            power.restore();
            power.cut_with(
                (seed + u64::from(turn)) % undisturbed.operations(),
                tear,
                seed ^ u64::from(turn) << 32,
            );
            assert!(journal.append(&mut flash, entry.0, &entry.1).is_err());
            power.restore();
            let (_, found) = open(&mut flash).unwrap();
            match found.len() - expected.len() {
                0 => torn += 1,
                _ => {
                    whole += 1;
                    expected.push(entry);
                }
            }
            assert_eq!(found, expected, "{tear:?}, seed {seed}");
            assert!((0..8).all(|_| open(&mut flash).is_ok_and(|(_, again)| again.len() >= expected.len())));
            // What reads as torn counts for nothing once something is written behind it; until then it may come back.
            let again = open(&mut flash).unwrap().1;
            assert!(again.starts_with(&expected), "{tear:?}, seed {seed}");
            expected = again;
        }
        assert_eq!(flash.violations(), 0);
    }
    assert!(whole > 100 && torn > 100, "{whole} whole, {torn} torn");
}

/// A station with a loose contact: power fails again and again while the same entry is written.
#[test]
fn cuts_in_a_row_at_one_entry_leave_a_journal_that_goes_on() {
    let region = Region::new(BLOCK, 40 * BLOCK);
    let open = |flash: &mut Nor| {
        let mut entries = Vec::new();
        Journal::open(flash, region, &mut [0; MAX_ENTRY], |entry| entries.push(entry.payload.to_vec()))
            .map(|journal| (journal, entries))
    };
    for (len, in_a_row) in [(0, 200), (1000, 100), (MAX_ENTRY, 32)] {
        for tear in [Tear::Nothing, Tear::Some, Tear::Most, Tear::Touched] {
            let power = Power::new();
            let mut flash = Nor::new(42 * BLOCK, BLOCK, &power);
            let (first, last) = (vec![1; 100], vec![2; len]);
            open(&mut flash).unwrap().0.append(&mut flash, 1, &first).unwrap();
            for _ in 0..in_a_row {
                let (mut journal, entries) = open(&mut flash).unwrap();
                assert_eq!(entries, std::slice::from_ref(&first));
                // At the last of its units: as much as can be left of it lies there. Behind it comes a flush.
                let (undisturbed, mut copy) = (Power::new(), flash.clone());
                copy.connect(&undisturbed);
                journal.clone().append(&mut copy, 2, &last).unwrap();
                power.restore();
                power.cut_at(undisturbed.operations() - 2, tear);
                assert!(journal.append(&mut flash, 2, &last).is_err());
                power.restore();
            }
            open(&mut flash).unwrap().0.append(&mut flash, 2, &last).unwrap();
            assert_eq!(open(&mut flash).unwrap().1, [first, last], "{len} bytes, {tear:?}");
            assert_eq!(flash.violations(), 0);
        }
    }
}

#[test]
fn more_junk_than_torn_entries_leave_is_refused() {
    let region = Region::new(BLOCK, 40 * BLOCK);
    let opened = |junk: usize| {
        let mut flash = Nor::new(42 * BLOCK, BLOCK, &Power::new());
        flash.bytes_mut()[BLOCK as usize..][..junk].fill(0x5A);
        Journal::open(&mut flash, region, &mut [0; MAX_ENTRY], |_| ()).map(|journal| journal.entries())
    };
    assert_eq!(opened(32 * (4160 + 64) + 64), Ok(0));
    for junk in [32 * (4160 + 64) + 64 + 1, 40 * BLOCK as usize] {
        assert_eq!(opened(junk), Err(JournalError::Damaged { offset: BLOCK }), "{junk} bytes");
    }
}

#[test]
fn a_full_journal_and_an_entry_that_is_too_long_are_refused() {
    let mut flash = flash(&Power::new());
    let (mut journal, _) = open(&mut flash).unwrap();
    let long = vec![1; MAX_ENTRY + 1];
    assert_eq!(journal.append(&mut flash, 1, &long), Err(JournalError::TooLong { found: MAX_ENTRY + 1 }));
    for _ in 0..3 {
        journal.append(&mut flash, 1, &long[..MAX_ENTRY]).unwrap();
    }
    assert_eq!(journal.append(&mut flash, 1, &long[..MAX_ENTRY]), Err(JournalError::Full));
    journal.append(&mut flash, 1, &long[..100]).unwrap();
    assert_eq!(open(&mut flash).unwrap().1.len(), 4);
}

#[test]
fn a_region_that_leaves_the_flash_or_cuts_a_block_is_refused() {
    let mut flash = flash(&Power::new());
    for region in [Region::new(5 * BLOCK, 2 * BLOCK), Region::new(BLOCK, BLOCK + 64), Region::new(1, BLOCK)] {
        let opened = Journal::open(&mut flash, region, &mut [0; MAX_ENTRY], |_| ());
        assert_eq!(opened.err(), Some(JournalError::Region { region }));
    }
}

#[test]
fn a_flash_that_does_not_take_an_entry_is_found_out() {
    let mut flash = flash(&Power::new());
    let (mut journal, _) = open(&mut flash).unwrap();
    // A unit of zeros lies before the first entry.
    flash.write(BLOCK + 64, &[0; 4]).unwrap();
    let outcome = journal.append(&mut flash, 1, b"entry");
    assert_eq!(outcome, Err(JournalError::ReadBack { offset: BLOCK + 64 }));
}

proptest! {
    #[test]
    fn junk_never_panics_and_a_journal_that_opens_goes_on(
        junk in prop::collection::vec(any::<u8>(), 0..600),
        at in 0..4000_usize,
    ) {
        let mut flash = flash(&Power::new());
        filled(&mut flash, &some());
        flash.bytes_mut()[BLOCK as usize + at..][..junk.len()].copy_from_slice(&junk);
        if let Ok((mut journal, before)) = open(&mut flash)
            && journal.append(&mut flash, 9, b"more").is_ok()
        {
            let after = open(&mut flash).unwrap().1;
            prop_assert_eq!(after.len(), before.len() + 1);
        }
    }
}
