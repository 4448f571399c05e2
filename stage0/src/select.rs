//! Reading the fuses, trying the slots, and preparing the handoff.

use boot_crypto::Key;
use boot_info::record::BootRecord;
use boot_info::{BootInfo, ImageRecord, List, Stage, Step, Timeline};
use boot_select::{BOOT_SLOTS, METADATA_ROOM, Selection, stage_key};
use fail_code::FailCode;
use hal::{Clock, Console, Otp, Storage};
use lifecycle::{Fuses, Lifecycle};
use memory_map::Region;
use memory_map::qemu_virt::BOARD;
use sealed_image::Opened;
use store::Slot;
use zeroize::Zeroize;

use crate::dice::secret_page;
use crate::report::say_refusal;

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
    /// Absolute address of its first instruction.
    pub address: u64,
    /// The evidence.
    _opened: Opened,
}

/// Finds the stage that this die may run, decrypts it in place and writes the handoff.
///
/// `reset_at` is the counter at reset. `record` is filled with what is known so far, for the report of a refusal.
///
/// # Errors
/// The code of the refusal: of the fuses, or [`FailCode::NoBootableSlot`] after both slots' own codes were
/// written to the console.
pub fn boot(
    otp: &impl Otp,
    flash: &mut impl Storage,
    memory: &mut Memory<'_>,
    clock: &impl Clock,
    reset_at: u64,
    console: &mut impl Console,
    record: &mut BootRecord,
) -> Result<Entry, FailCode> {
    let mut timeline = Timeline::new(record, Stage::Stage0, reset_at);
    timeline.step(Step::Entry, clock.now());
    timeline.record.counter_hz = clock.hz();
    let board = timeline.record.board.iter_mut().zip(BOARD.as_bytes());
    board.for_each(|(to, from)| *to = *from);

    timeline.record.lifecycle = Fuses::read_lifecycle(otp).map_or(0, Lifecycle::codeword);
    let fuses = Fuses::read(otp).map_err(|error| error.code())?;
    let selection = Selection::of(&fuses)?;
    let key = stage_key(&fuses)?;
    timeline.step(Step::Fuses, clock.now());

    let mut passed_over = None;
    for slot in Slot::TRIES {
        timeline.record.slot = slot.number();
        timeline.restart(clock.now());
        match try_slot(flash, slot, memory, &selection, &key, &mut timeline, clock) {
            Ok(stage) => {
                let record = timeline.record;
                record.fallback_code = passed_over.map_or(0, FailCode::number);
                hand_over(otp, flash, memory, &fuses, &selection, record, &stage.record)?;
                return Ok(Entry { address: stage.entry, _opened: stage.opened });
            }
            Err(code) => {
                memory.run.zeroize();
                say_refusal(console, slot_words(slot), code);
                passed_over = passed_over.or(Some(code));
            }
        }
    }
    timeline.record.fallback_code = passed_over.map_or(0, FailCode::number);
    Err(FailCode::NoBootableSlot)
}

const fn slot_words(slot: Slot) -> &'static str {
    match slot {
        Slot::A => "boot slot A refused: ",
        Slot::B => "boot slot B refused: ",
    }
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

/// Writes the handoff pages.
fn hand_over(
    otp: &impl Otp,
    flash: &mut impl Storage,
    memory: &mut Memory<'_>,
    fuses: &Fuses,
    selection: &Selection,
    record: &mut BootRecord,
    stage: &ImageRecord,
) -> Result<(), FailCode> {
    record.images = List::new();
    record.images.push(*stage);
    let info = BootInfo {
        board: record.board,
        lifecycle: record.lifecycle,
        reset_reason: 0,
        slot: record.slot,
        fallback_code: record.fallback_code,
        counter_hz: record.counter_hz,
        chip_id: *fuses.chip_id(),
        floors: *fuses.floors(),
        roots: *selection.root_slots(),
        images: record.images,
        timestamps: record.timestamps,
    };
    let page = secret_page(otp, flash, fuses, &stage.measurement)?;
    if info.write(memory.boot_info) && page.write(memory.secrets) {
        Ok(())
    } else {
        Err(FailCode::BootInfoInvalid)
    }
}
