//! Somebody else's hand on what provisioning has written.

use std::rc::Rc;

use factory_proto::link::Frame;
use factory_proto::{Message, Refusal};
use fail_code::FailCode;
use lifecycle::{Lifecycle, Row, burn};
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_SLOT_B, BOOT_STAGING, JOURNAL, OS_SLOT_A, OS_SLOT_B, SECRETS};
use release::Compression;
use sim::Tear;
use stage1_provision::End;
use stage1_provision::machine::Step;
use store::MAX_ENTRY;

use crate::case::Case;
use crate::lot::lot;
use crate::power::step_under_way;
use crate::stage0;
use sim::authority::Station;

/// A station that answers honestly until this question, which it refuses.
fn until(case: &Case, question: Message) -> Station {
    let desk = case.desk.clone();
    Box::new(move |frame| {
        if frame.message == question {
            let body = Refusal::new(FailCode::AuthorityUnreachable, "").encode();
            return vec![Frame { message: Message::Refusal, seq: frame.seq, body }];
        }
        desk.answer(frame).into_iter().collect()
    })
}

/// A die that was stopped before its certificate request was acknowledged: everything is re-keyed.
fn re_keyed() -> Case {
    let mut case = Case::new();
    case.is_refused(until(&case, Message::Csr), FailCode::AuthorityUnreachable);
    case
}

#[test]
fn whatever_is_changed_after_re_keying_is_found_and_made_again_before_a_fuse_burns() {
    for (slot, flash) in [(BOOT_STAGING, true), (SECRETS, true), (OS_SLOT_A, false), (OS_SLOT_B, false)] {
        for offset in [8, 300, 4000] {
            let mut case = re_keyed();
            let change = |bytes: &mut [u8]| bytes[offset] ^= 4;
            if flash {
                case.device.change_flash(slot, change)
            } else {
                case.device.change_disk(slot, change)
            }
            let console = case.closes();
            assert!(console.contains("FinalCheck: "), "{slot:?} {offset}: {console}");
        }
    }
}

/// A die that lost power in the last step, before a fuse burned: only the final check is still to come.
pub(crate) fn replaced() -> Case {
    let operations = {
        let mut case = Case::new();
        case.closes();
        case.device.power.operations()
    };
    let mut stopped = (1..operations).rev().step_by(3).map(|cut| {
        let mut case = Case::new();
        case.device.power.cut_at(cut, Tear::Nothing);
        let _ = case.run(case.desk.station());
        case.device.restart();
        case
    });
    let rows = [Row::ClosingMeasurement, Row::DeviceSeed];
    let mut case =
        stopped.find(|case| !rows.iter().any(|row| burn::is_begun(&case.device.otp, *row))).unwrap();
    assert_eq!(step_under_way(&mut case.device), Some(Step::CheckAndFuse));
    case
}

#[test]
fn a_stage_that_is_changed_after_it_was_replaced_is_found_by_the_selection_of_stage0() {
    let mut case = replaced();
    let stage1 = case.lot.release.stage1.clone();
    let before = case.device.remember();
    // The manifest, the payload, and an image of the owner's that is of a kind which a closed die does not boot.
    for changed in [Some(300), Some(5_000), None] {
        case.device.set_back(&before);
        case.device.change_flash(BOOT_SLOT_A, |bytes| match changed {
            Some(offset) => bytes[offset] ^= 1,
            None => bytes[..stage1.len()].copy_from_slice(&stage1),
        });
        assert!(case.closes().contains("FinalCheck: "));
    }
}

#[test]
fn a_backup_that_is_not_the_running_stage_stops_before_the_stage_is_replaced() {
    for offset in [300, 5_000] {
        let mut case = re_keyed();
        case.device.change_flash(BOOT_SLOT_B, |bytes| bytes[offset] ^= 1);
        case.is_refused(case.desk.station(), FailCode::ReadBack);
        assert!(case.device.flash_region(BOOT_SLOT_A).starts_with(&case.lot.release.stage1));
        let stage1 = case.lot.release.stage1.clone();
        case.device.change_flash(BOOT_SLOT_B, |bytes| bytes[..stage1.len()].copy_from_slice(&stage1));
        case.closes();
    }
}

#[test]
fn the_journal_of_another_die_opens_nothing() {
    let lot = Rc::new(lot(1, Compression::None));
    for question in [Message::Request, Message::Csr] {
        let mut other = Case::of(&lot, 2);
        other.is_refused(until(&other, question), FailCode::AuthorityUnreachable);
        let journal = other.device.flash_region(JOURNAL);
        let mut case = Case::of(&lot, 1);
        case.device.change_flash(JOURNAL, |bytes| bytes.copy_from_slice(journal));
        case.is_refused(case.desk.station(), FailCode::JournalInvalid);
        case.device.change_flash(JOURNAL, |bytes| bytes.fill(0xFF));
        case.closes();
    }
}

/// What the entries of a die's journal hold, by their numbers, in their order.
pub(crate) fn entries(case: &mut Case) -> Vec<(u8, Vec<u8>)> {
    let mut entries = Vec::new();
    let visit = |entry: store::Entry<'_>| entries.push((entry.kind, entry.payload.to_vec()));
    store::Journal::open(&mut case.device.flash, JOURNAL, &mut [0; MAX_ENTRY], visit).unwrap();
    entries
}

/// Writes a journal anew, as anybody can.
pub(crate) fn write_journal<'e>(case: &mut Case, entries: impl IntoIterator<Item = &'e (u8, Vec<u8>)>) {
    case.device.change_flash(JOURNAL, |bytes| bytes.fill(0xFF));
    let flash = &mut case.device.flash;
    let mut journal = store::Journal::open(flash, JOURNAL, &mut [0; MAX_ENTRY], |_| {}).unwrap();
    entries.into_iter().for_each(|(kind, payload)| journal.append(flash, *kind, payload).unwrap());
}

#[test]
fn an_entry_of_an_earlier_session_of_the_same_die_does_not_fit_into_a_later_one() {
    const SESSION: u8 = 3;
    const TICKET: u8 = 4;
    const SEED: u8 = 5;
    let mut case = re_keyed();
    let earlier = entries(&mut case);
    write_journal(&mut case, []);
    case.is_refused(until(&case, Message::Csr), FailCode::AuthorityUnreachable);
    let later = entries(&mut case);
    let kinds = |entries: &[(u8, Vec<u8>)]| entries.iter().map(|(kind, _)| *kind).collect::<Vec<u8>>();
    assert_eq!(kinds(&earlier), kinds(&later));
    for (planted, code, reason) in [
        (SESSION, FailCode::TicketMismatch, "OpenTicket: "),
        (TICKET, FailCode::TicketMismatch, "OpenTicket: "),
        (SEED, FailCode::JournalInvalid, "(EntrySealed { entry: Seed })"),
    ] {
        let both = earlier.iter().zip(&later);
        write_journal(&mut case, both.map(|(old, new)| if new.0 == planted { old } else { new }));
        assert_ne!(entries(&mut case), later);
        let cycle = case.is_refused(case.desk.station(), code);
        assert!(cycle.console.contains(reason), "{}", cycle.console);
        assert!(cycle.link.frames.iter().all(|frame| frame.message.answer().is_none()), "it asked");
    }
    write_journal(&mut case, &later);
    case.closes();
}

#[test]
fn a_journal_with_a_changed_entry_is_refused() {
    let mut tried = 0;
    for number in 0.. {
        let mut case = re_keyed();
        let journal = case.device.flash_region(JOURNAL);
        let end = journal.iter().rposition(|byte| *byte != 0xFF).unwrap();
        let offset = number * 43;
        // The last entry may be one that a power cut has torn; what fills up a unit of an entry is not read, and units of
        // zeros are no entry.
        if offset + 128 > end {
            break;
        }
        let unit = &journal[offset / 64 * 64..][..64];
        if journal[offset] == 0xFF || unit.iter().all(|byte| *byte == 0) {
            continue;
        }
        case.device.change_flash(JOURNAL, |bytes| bytes[offset] ^= 1);
        case.is_refused(case.desk.station(), FailCode::JournalInvalid);
        tried += 1;
    }
    assert!(tried > 20, "{tried}");
}

#[test]
fn a_seed_that_is_burned_in_part_without_its_journal_is_scrap() {
    let operations = {
        let mut case = Case::new();
        case.closes();
        case.device.power.operations()
    };
    let mut hit = 0;
    for back in 1..40 {
        let mut case = Case::new();
        case.device.power.cut_at(operations - back, Tear::Some);
        let _ = case.run(case.desk.station());
        case.device.restart();
        if !burn::is_begun(&case.device.otp, Row::DeviceSeed)
            || case.device.lifecycle() != Ok(Lifecycle::Secured)
        {
            continue;
        }
        hit += 1;
        for journal in [0xFF, 0x00] {
            case.device.change_flash(JOURNAL, |bytes| bytes.fill(journal));
            let code = if journal == 0xFF { FailCode::FuseForeign } else { FailCode::JournalInvalid };
            let fuses = case.device.otp.0.contents().to_vec();
            let cycle = stage0::power_on(&mut case.device, case.desk.station());
            assert_eq!(cycle.end, End::Refused(code), "{}", cycle.console);
            assert!(case.device.otp.0.contents() == fuses);
        }
    }
    assert!(hit > 8, "{hit}");
}

/// Every region that holds an image after re-keying has one.
#[test]
fn the_cases_change_what_is_written() {
    let case = re_keyed();
    let blank = |region: Region, first: &[u8]| {
        assert!(first.iter().any(|byte| !matches!(byte, 0 | 0xFF)), "{region:?}")
    };
    for slot in [BOOT_STAGING, SECRETS] {
        blank(slot, &case.device.flash_region(slot)[..4096]);
    }
    for slot in [OS_SLOT_A, OS_SLOT_B] {
        blank(slot, &case.device.disk_region(slot)[..4096]);
    }
}
