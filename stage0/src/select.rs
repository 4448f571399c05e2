//! Reading the fuses, trying the slots, and preparing the handoff.

use boot_crypto::{Decision, Key};
use boot_info::record::BootRecord;
use boot_info::{BootInfo, ImageRecord, List, SecretPage, Stage, Step, Timeline};
use boot_select::{BOOT_SLOTS, METADATA_ROOM, Selection, stage_key};
use fail_code::FailCode;
use hal::{Clock, Otp, Storage};
use lifecycle::{Fuses, Lifecycle};
use memory_map::Region;
use store::Slot;
use zeroize::Zeroize;

use crate::dice::secret_page;
use crate::report::{BOARD_NAME, Refused};

/// Secure RAM that stage0 fills.
pub struct Memory<'a> {
    /// Where the next stage goes.
    pub run: &'a mut [u8],
    /// The part of it that it may execute: an image must fit, and be made for its base address.
    pub code: Region,
    /// The page of the handoff.
    pub boot_info: &'a mut [u8],
    /// The page of the secrets that go with it.
    pub secrets: &'a mut [u8],
}

/// Where to enter the next stage, every byte of which was checked.
pub struct Entry {
    /// Absolute address of its first instruction, as the first look found it.
    pub address: u64,
    /// The same, as the second look found it.
    pub confirmed: u64,
    stage: boot_select::Stage,
}

impl Entry {
    /// Tells whether `run`, which the stage was opened into, holds what was signed. This is the last check: whoever enters the stage makes it
    /// when nothing else is left to do.
    pub fn is_in(&self, run: &[u8]) -> Decision {
        self.stage.is_in(run)
    }
}

/// Finds the stage that this die may run, decrypts it in place and writes the handoff.
///
/// It looks twice, from the fuses on. The second look uses nothing that the first has computed, but to compare it; the addresses
/// of fuses, flash and memory are the same in both. `reset_at` is the counter at reset. `record` is filled with what is known so far, for
/// the report of a refusal, and `refused` with the codes of the slots that were refused.
///
/// What its frame and those below it hold of keys is dead once it returns, for the caller to wipe.
///
/// # Errors
/// The code of the refusal: of the fuses, [`FailCode::LooksDiffer`], or [`FailCode::NoBootableSlot`].
#[inline(never)]
pub fn boot(
    otp: &impl Otp,
    flash: &mut impl Storage,
    memory: &mut Memory<'_>,
    clock: &impl Clock,
    reset_at: u64,
    record: &mut BootRecord,
    refused: &mut Refused,
) -> Result<Entry, FailCode> {
    let mut timeline = Timeline::new(record, Stage::Stage0, reset_at);
    timeline.step(Step::Entry, clock.now());

    if cfg!(feature = "control-one-look") {
        let only = look(otp, flash, memory, clock, &mut timeline, refused, None)?;
        return Ok(Entry { address: only.entry, confirmed: only.entry, stage: only });
    }
    let mut aside = Aside([0; BootInfo::SIZE + SecretPage::SIZE]);
    let (info, secrets) = aside.0.split_at_mut(BootInfo::SIZE);
    let mut first = Memory { run: &mut *memory.run, code: memory.code, boot_info: info, secrets };
    let stage = look(otp, flash, &mut first, clock, &mut timeline, refused, None)?;
    let mut confirmed = 0;
    let (info, secrets) = aside.0.split_at(BootInfo::SIZE);
    let before = Some((info, secrets, &mut confirmed));
    let second = look(otp, flash, memory, clock, &mut timeline, refused, before)?;
    Ok(Entry { address: stage.entry, confirmed, stage: second })
}

/// Wipes a page behind what is told: a fault can have left there what it copied to a wrong address, and nobody reads it.
fn wipe_behind(page: &mut [u8], told: usize) {
    page.iter_mut().skip(told).for_each(|byte| *byte = 0);
}

/// The pages of the handoff as the first look makes them, to be compared with those that the second makes in their place.
#[repr(align(8))]
struct Aside([u8; BootInfo::SIZE + SecretPage::SIZE]);

/// Looks for the stage once, opens it, and writes what it is told. After a look `before` the two have to be one, and to be told the
/// same of the die, of the stage and of its secrets; then, last, the entry that the second look has found is written. Nothing else
/// writes that, so a fault that makes a refusal look like a stage has none.
///
/// It says nothing: its keys are in memory, and a fault would make the console say them. They are in its own frame, which
/// the caller wipes.
#[inline(never)]
fn look(
    otp: &impl Otp,
    flash: &mut impl Storage,
    memory: &mut Memory<'_>,
    clock: &impl Clock,
    timeline: &mut Timeline<'_>,
    refused: &mut Refused,
    before: Option<(&[u8], &[u8], &mut u64)>,
) -> Result<boot_select::Stage, FailCode> {
    timeline.record.counter_hz = clock.hz();
    timeline.record.board = BOARD_NAME;
    timeline.record.lifecycle = Fuses::read_lifecycle(otp).map_or(0, Lifecycle::codeword);
    timeline.record.fallback_code = 0;
    let fuses = Fuses::read(otp);
    let fuses = fuses.as_ref().map_err(|error| error.code())?;
    let selection = Selection::of(fuses);
    let selection = selection.as_ref().map_err(|code| *code)?;
    let key = stage_key(fuses);
    let key = key.as_ref().map_err(|code| *code)?;
    timeline.step(Step::Fuses, clock.now());

    for (slot, refused) in Slot::TRIES.into_iter().zip(refused) {
        timeline.record.slot = slot.number();
        timeline.restart(clock.now());
        match try_slot(flash, slot, memory, selection, key, timeline, clock) {
            Ok(stage) => {
                // The secrets on the stack are wiped before the comparison: at a wrong address that would alter the stage.
                // The handoff is written after them: what a fault has copied of them into its page is written over.
                let told = secret_page(otp, flash, fuses, &stage.record.measurement)?.write(memory.secrets)
                    & info(fuses, selection, timeline.record, &stage.record).write(memory.boot_info);
                if !told {
                    return Err(FailCode::BootInfoInvalid);
                }
                // Before the comparison too: at a wrong address this alters the stage as well.
                wipe_behind(memory.boot_info, BootInfo::SIZE);
                wipe_behind(memory.secrets, SecretPage::SIZE);
                if let Some((info, secrets, confirmed)) = before {
                    // What the second look has opened and told has to be what the first one saw. What is in memory is looked at last.
                    let same = BootInfo::confirms(memory.boot_info, info);
                    let same = same.and(SecretPage::confirms(memory.secrets, secrets));
                    if !same.accepts() {
                        return Err(FailCode::LooksDiffer);
                    }
                    *confirmed = stage.entry;
                }
                return Ok(stage);
            }
            Err(code) => {
                memory.run.zeroize();
                *refused = Some(code);
                let first = &mut timeline.record.fallback_code;
                *first = if *first == 0 { code.number() } else { *first };
            }
        }
    }
    Err(FailCode::NoBootableSlot)
}

fn try_slot(
    flash: &mut impl Storage,
    slot: Slot,
    memory: &mut Memory<'_>,
    selection: &Selection,
    key: &Key,
    timeline: &mut Timeline<'_>,
    clock: &impl Clock,
) -> Result<boot_select::Stage, FailCode> {
    let mut buffer = [0; METADATA_ROOM];
    let found = selection.find(flash, BOOT_SLOTS.region(slot), memory.code, &mut buffer)?;
    timeline.step(Step::VerifyStage, clock.now());
    let stage = found.open(flash, key, memory.run)?;
    timeline.step(Step::OpenStage, clock.now());
    Ok(stage)
}

/// What the next stage is told.
fn info(fuses: &Fuses, selection: &Selection, record: &BootRecord, stage: &ImageRecord) -> BootInfo {
    let mut images = List::new();
    images.push(*stage);
    BootInfo {
        board: record.board,
        lifecycle: record.lifecycle,
        reset_reason: 0,
        slot: record.slot,
        fallback_code: record.fallback_code,
        counter_hz: record.counter_hz,
        chip_id: *fuses.chip_id(),
        floors: *fuses.floors(),
        roots: *selection.root_slots(),
        images,
        timestamps: record.timestamps,
    }
}
