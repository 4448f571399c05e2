//! Journals of which a field holds what it must not, and what the shipped stage says of them. Of all but the checksum itself the
//! checksum is made right again.
//!
//! Whoever writes the flash can make such a journal: the checksum of an entry tells what a power cut has left of it, not who wrote it.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

use crc::{CRC_32_ISCSI, Crc};
use fail_code::FailCode;
use figures::Figure;
use memory_map::qemu_virt::JOURNAL;
use stage1_provision::End;
use store::MAX_ENTRY;

use crate::judge::closed;
use crate::stored::{entries, replaced, write_journal};

/// How many values each field of each entry gets at least.
const LEAST: usize = 15;

/// An entry starts in a unit of this many bytes, with its header.
const UNIT: usize = 64;
const HEADER: usize = 20;
const LENGTH: Range<usize> = 12..16;
const CHECKSUM: Range<usize> = 16..HEADER;

/// The kinds of entries, as they are numbered.
const BEGUN: u8 = 1;
const DONE: u8 = 2;
const TICKET: u8 = 4;
const RECEIPT: u8 = 6;

/// What a journal is changed to.
enum Change<'f> {
    /// A field of the header, of which the checksum is made right again.
    Header(&'f str, Range<usize>, u32),
    /// The checksum itself.
    Checksum(u32),
    /// What the entry holds.
    Content(Vec<u8>),
}

impl Change<'_> {
    const fn field(&self) -> &str {
        match self {
            Self::Header(name, ..) => name,
            Self::Checksum(_) => "checksum",
            Self::Content(_) => "content",
        }
    }
}

/// Lists what an entry is changed to: its number, its kind, and what it holds.
fn changes(number: u32, kind: u8, content: &[u8]) -> Vec<Change<'static>> {
    let header = |name, range: Range<usize>, values: Vec<u32>| {
        values.into_iter().map(move |value| Change::Header(name, range.clone(), value))
    };
    let bits = |value: u32, count: u32| (0..count).map(move |bit| value ^ 1 << bit);
    let magic = u32::from_le_bytes(*b"KJRN");
    let len = content.len() as u32;
    let is_step = matches!(kind, BEGUN | DONE);

    let numbers = bits(number, 32).chain([number.wrapping_sub(1), number + 1]);
    let kinds = (0..=16).chain([32, 64, 127, 128, 254, 255]).filter(|other| *other != u32::from(kind));
    let too_long = (1..=16).map(|more| MAX_ENTRY as u32 + more).chain([1 << 16, 1 << 31, u32::MAX]);
    let others = [0, 1, 2, 3, 19, 20, len / 2, len.wrapping_sub(1), len + 1, 64, MAX_ENTRY as u32];
    let lengths = too_long.chain(others).filter(|other| *other != len);
    let mut all: Vec<Change<'_>> = header("magic", 0..4, bits(magic, 32).chain([0, u32::MAX]).collect())
        .chain(header("number", 4..8, numbers.collect()))
        .chain(header("kind", 8..9, kinds.collect()))
        .chain(header("reserved", 9..12, bits(0, 24).collect()))
        .chain(header("length", LENGTH, lengths.collect()))
        .chain(bits(0, 32).map(Change::Checksum))
        .collect();
    let contents: Vec<Vec<u8>> = if is_step {
        let numbers = (0..=20).chain([0x7F, 0x80, 0xFF]).map(|number| vec![number]);
        numbers.chain([vec![], [content, &[0]].concat(), vec![0; MAX_ENTRY]]).collect()
    } else {
        let cuts = (0..content.len()).step_by(content.len() / LEAST).map(|len| content[..len].to_vec());
        let more = [[content, &[0]].concat(), vec![0; content.len()], vec![0xFF; content.len()]];
        cuts.chain(more).collect()
    };
    all.extend(contents.into_iter().filter(|other| other != content).map(Change::Content));
    all
}

/// Changes a field of the entry whose header starts at `start`, and makes its checksum right for the length that it has then.
fn change(journal: &mut [u8], start: usize, field: Range<usize>, value: u32) {
    let width = field.len();
    journal[start..][field].copy_from_slice(&value.to_le_bytes()[..width]);
    let len = u32::from_le_bytes(journal[start..][LENGTH].try_into().unwrap()) as usize;
    let crc = Crc::<u32>::new(&CRC_32_ISCSI);
    let mut digest = crc.digest();
    digest.update(&journal[start..][..CHECKSUM.start]);
    digest.update(journal[start + HEADER..].get(..len).unwrap_or_default());
    journal[start..][CHECKSUM].copy_from_slice(&digest.finalize().to_le_bytes());
}

/// What the stage has to make of it.
fn expected(change: &Change<'_>, kind: u8, is_last: bool) -> End {
    let too_long = |value: &u32| *value > MAX_ENTRY as u32;
    match change {
        // The last entry is one that a power cut has torn: it is not there, and its step begins once more.
        Change::Header("magic" | "reserved", ..) | Change::Checksum(_) if is_last => End::Closed,
        Change::Header("length", _, value) if is_last && too_long(value) => End::Closed,
        // A message of the authority of another length is no message, wherever it comes from.
        Change::Header("length", _, value) if matches!(kind, TICKET | RECEIPT) && !too_long(value) => {
            End::Refused(FailCode::AnswerMalformed)
        }
        Change::Content(_) if matches!(kind, TICKET | RECEIPT) => End::Refused(FailCode::AnswerMalformed),
        _ => End::Refused(FailCode::JournalInvalid),
    }
}

#[test]
fn a_journal_with_a_malformed_field_is_refused_or_has_a_torn_last_entry_less() {
    let mut case = replaced();
    let (before, book) = (case.device.copy(), case.desk.book());
    let sound = case.device.flash_region(JOURNAL).to_vec();
    let all = entries(&mut case);
    let starts: Vec<usize> =
        (0..sound.len()).step_by(UNIT).filter(|at| sound[*at..].starts_with(b"KJRN")).collect();
    assert_eq!(starts.len(), all.len());
    assert_eq!(all.iter().map(|(kind, _)| *kind).max(), Some(RECEIPT), "all kinds are there");
    // The control: written anew as it was, it is taken.
    write_journal(&mut case, &all);
    assert_eq!(case.run(case.desk.with_book(&book).station()).end, End::Closed);
    let (mut torn, mut fields, mut wrong) = (0, BTreeMap::<_, usize>::new(), Vec::new());
    let mut seen = HashSet::from([sound.clone()]);
    for (number, ((kind, content), start)) in all.iter().zip(&starts).enumerate() {
        for change in changes(number as u32, *kind, content) {
            case.device = before.copy();
            match &change {
                Change::Header(_, field, value) => case.device.change_flash(JOURNAL, |journal| {
                    self::change(journal, *start, field.clone(), *value);
                }),
                Change::Checksum(flipped) => case.device.change_flash(JOURNAL, |journal| {
                    let checksum = &mut journal[*start..][CHECKSUM];
                    checksum.iter_mut().zip(flipped.to_le_bytes()).for_each(|(byte, bits)| *byte ^= bits);
                }),
                Change::Content(other) => {
                    let mut others = all.clone();
                    others[number].1.clone_from(other);
                    write_journal(&mut case, &others);
                }
            }
            if !seen.insert(case.device.flash_region(JOURNAL).to_vec()) {
                continue;
            }
            let fuses = case.device.otp.0.contents().to_vec();
            let desk = case.desk.with_book(&book);
            let cycle = case.run(desk.station());
            let wanted = expected(&change, *kind, number + 1 == all.len());
            if cycle.end != wanted || (cycle.end != End::Closed && case.device.otp.0.contents() != fuses) {
                let value = match &change {
                    Change::Header(_, _, value) | Change::Checksum(value) => format!("{value:#x}"),
                    Change::Content(content) => format!("{} bytes", content.len()),
                };
                let field = change.field();
                wrong.push(format!(
                    "entry {number}, kind {kind}, {field} {value}: {:?}, not {wanted:?}",
                    cycle.end
                ));
            }
            if cycle.end == End::Closed {
                closed(&case.device, &case.lot, desk.install());
                torn += 1;
            }
            *fields.entry((number, change.field().to_owned())).or_default() += 1;
        }
    }
    assert!(fields.values().all(|count| *count >= LEAST), "{fields:?}");
    Figure::new("malformed fields of journals, checksummed again", "cases", 2_500)
        .ran(seen.len() as u64 - 1)
        .violations(&wrong)
        .note(format!(
            "7 fields of {} entries, at least {} values each; {torn} are a torn last entry, whose step begins again; of the others the exact code, and no fuse burns",
            all.len(),
            fields.values().min().unwrap()
        ))
        .report();
}
