//! Reading the fuses, trying the slots, and preparing the handoff.

use boot_crypto::{Key, device_root, die_secret, labels, rng_secret, storage_key};
use boot_info::record::BootRecord;
use boot_info::{BootInfo, ImageRecord, List, SecretPage, Secrets, Stage, Step, Timeline};
use fail_code::FailCode;
use hal::{Clock, Console, Otp, Storage};
use lifecycle::{Fuses, Lifecycle};
use memory_map::Region;
use memory_map::qemu_virt::{BOARD, BOOT_SLOT_A, BOOT_SLOT_B};
use sealed_image::{Es256, Kind, Opened, Policy, UntrustedImage};
use store::{Cursor, Slot, Slots};
use zeroize::Zeroize;

use crate::report::say_refusal;
use crate::roots::{Roots, refuse_test_secrets};

const BOOT_SLOTS: Slots = Slots::new(BOOT_SLOT_A, BOOT_SLOT_B);

/// Most bytes of metadata of a stage image.
const METADATA_ROOM: usize = 16 * 1024;

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
    refuse_test_secrets(&fuses)?;
    let keys = Keys::of(&fuses)?;
    let roots = Roots::of(&fuses);
    timeline.step(Step::Fuses, clock.now());

    let mut passed_over = None;
    for slot in Slot::TRIES {
        timeline.record.slot = slot.number();
        timeline.restart(clock.now());
        match try_slot(flash, slot, memory, &fuses, &keys, &roots, &mut timeline, clock) {
            Ok(entry) => {
                timeline.record.fallback_code = passed_over.map_or(0, FailCode::number);
                hand_over(memory, &fuses, &keys, &roots, timeline.record)?;
                return Ok(entry);
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

/// What the lifecycle allows: the kind of image, and the key that its data key is wrapped under.
struct Keys {
    kind: Kind,
    image: Key,
    os_storage: Key,
    rng: Key,
}

impl Keys {
    fn of(fuses: &Fuses) -> Result<Self, FailCode> {
        let seed = match fuses.lifecycle() {
            Lifecycle::Production | Lifecycle::Development => {
                fuses.device_seed().ok_or(FailCode::OtpUnreadable)?
            }
            _ => return Err(FailCode::LifecycleForbids),
        };
        let root = device_root(&die_secret(fuses.silicon_secret()), seed);
        let (chip, generation) = (fuses.chip_id(), fuses.owner_generation());
        Ok(Self {
            kind: Kind::Stage2,
            image: storage_key(&root, labels::STORAGE_BOOT, chip, generation),
            os_storage: storage_key(&root, labels::STORAGE_OS, chip, generation),
            rng: rng_secret(&root, chip),
        })
    }
}

#[expect(clippy::too_many_arguments, reason = "each is one thing that trying a slot may touch")]
fn try_slot(
    flash: &mut impl Storage,
    slot: Slot,
    memory: &mut Memory<'_>,
    fuses: &Fuses,
    keys: &Keys,
    roots: &Roots,
    timeline: &mut Timeline<'_>,
    clock: &impl Clock,
) -> Result<Entry, FailCode> {
    let mut buffer = [0; METADATA_ROOM];
    let stored =
        Cursor::new(BOOT_SLOTS.region(slot)).read_next(flash, &mut buffer).map_err(|error| error.code())?;
    let role = keys.kind.role().ok_or(FailCode::KindReserved)?;
    let policy = Policy {
        board: BOARD,
        kind: keys.kind,
        roots: roots.known(),
        rollback_floor: fuses.floor(role.number()).ok_or(FailCode::RolledBack)?,
        refuse_test_keys: fuses.lifecycle() != Lifecycle::Development,
    };
    let image = UntrustedImage::parse(stored.untrusted_metadata)
        .and_then(|untrusted| untrusted.verify::<Es256>(&policy))
        .map_err(|error| error.code())?;
    let manifest = image.manifest();
    let fits = manifest.load_address == memory.code.base && manifest.plain_size <= memory.code.size;
    if !fits || !memory.code.contains(manifest.entry, 4) {
        return Err(FailCode::LoadAddress);
    }
    let opener = image.unwrap_key(&keys.image).map_err(|error| error.code())?;
    if !opener.in_place() {
        return Err(FailCode::CompressionUnsupported);
    }
    timeline.step(Step::VerifyStage, clock.now());

    let mut tally = sealed_image::Tally::default();
    for chunk in opener.chunks() {
        let start = usize::try_from(chunk.plain_offset).map_err(|_| FailCode::LoadAddress)?;
        let place = memory.run.get_mut(start..).and_then(|rest| rest.get_mut(..chunk.plain_len as usize));
        let place = place.ok_or(FailCode::LoadAddress)?;
        let at = stored.payload.base.saturating_add(chunk.stored_offset);
        flash.read(at, place).map_err(|_| FailCode::DiskRead)?;
        tally.add(&opener.open_chunk(chunk.index, place).map_err(|error| error.code())?);
    }
    let opened = opener.finish(&tally).map_err(|error| error.code())?;
    timeline.step(Step::OpenStage, clock.now());

    timeline.record.images = List::new();
    timeline.record.images.push(ImageRecord {
        kind: manifest.kind.number(),
        version: manifest.version.0,
        stored_bytes: stored.header.image_len().unwrap_or_default(),
        plain_bytes: manifest.plain_size,
        plain_digest: *manifest.plain_digest,
        measurement: *image.manifest_digest(),
    });
    Ok(Entry { address: manifest.entry, _opened: opened })
}

/// Writes the handoff pages.
fn hand_over(
    memory: &mut Memory<'_>,
    fuses: &Fuses,
    keys: &Keys,
    roots: &Roots,
    record: &BootRecord,
) -> Result<(), FailCode> {
    let info = BootInfo {
        board: record.board,
        lifecycle: record.lifecycle,
        reset_reason: 0,
        slot: record.slot,
        fallback_code: record.fallback_code,
        counter_hz: record.counter_hz,
        chip_id: *fuses.chip_id(),
        floors: *fuses.floors(),
        roots: roots.slots,
        images: record.images,
        timestamps: record.timestamps,
    };
    let copy = |key: &Key| Key::new(*key.expose());
    let secrets = Secrets::Production { os_storage_key: copy(&keys.os_storage), rng_secret: copy(&keys.rng) };
    let page = SecretPage { secrets, evidence: None };
    if info.write(memory.boot_info) && page.write(memory.secrets) {
        Ok(())
    } else {
        Err(FailCode::BootInfoInvalid)
    }
}
