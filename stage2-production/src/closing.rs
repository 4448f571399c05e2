//! The end of provisioning, on the first boot in `Production`: proves to the authority that the device is closed,
//! keeps the certificate that it gets for that, and clears away what the factory needed.
//!
//! ```text
//! send the closing proof until the release comes ─▶ burn the lifecycle once more ─▶ write the certificates ─▶ second copy of
//! this stage: from its waiting place to boot slot B ─▶ erase the waiting place, the package, the journal ─▶ program
//! "acknowledged"
//! ```
//!
//! # Power cuts
//! stage0 hands evidence over until "acknowledged" is programmed, which is last. Everything before is done again on the
//! next boot: the authority answers the same proof with the same release, certificates and a copy that are there already are
//! programmed once more, in case a bit of them reads otherwise each time, and the copy is skipped once its source is
//! erased. Boot slot A, which this stage runs from, is not touched.
//!
//! Power may have failed in the very last burn of the provisioning stage, so that the die reads as closed in this boot and as
//! on its way in the next, which would have to run the provisioning stage again. So that one stays in slot B until this
//! stage has burned the lifecycle's words once more, in the same boot: a read-back alone says nothing about a bit that
//! reads otherwise each time.
//!
//! # Threats
//! *The station* relays, and may hold back or forge an answer: only a release that the owner's authority signed for
//! this die and this install counts, and without one the device boots and asks again the next time. *Whoever writes
//! the flash* may have put anything where the second copy waits: slot B is judged by stage0 before it runs, like any
//! slot.

use alloc::vec;
use alloc::vec::Vec;

use boot_info::Evidence;
use boot_info::closing::ClosingState;
use factory_proto::device::verify_release;
use factory_proto::link::{Answer, Asker, Patience, encode};
use factory_proto::{ClosingProof, Message, Outcome, Phase, Progress, Trust};
use fail_code::FailCode;
use hal::{Clock, Console, DmaDevices, OtpBurn, ReadError, Receive, Storage, StorageMut, WriteError};
use lifecycle::Row;
use lifecycle::burn::finish_closing;
use memory_map::Region;
use memory_map::qemu_virt::{
    BOARD, BOOT_SLOT_B, BOOT_STAGING, CERTIFICATES, CLOSING_STATE, JOURNAL, PACKAGE,
};
use sealed_image::{Es256, HEADER_BYTES, Header, PAYLOAD_ALIGN, Root};

/// How long a boot waits for the release: a device without a station boots all the same.
const PATIENCE: Patience = Patience { give_up: 10, again: 1 };
/// Bytes that are copied or cleared at a time.
const STEP: usize = 64 * 1024;
/// The number of this step in what the station is told: the last of provisioning.
const PROVE_CLOSED: u8 = 8;

/// Why closing is not finished. The device boots, and the next boot carries on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Nobody answers.
    NoAnswer,
    /// The authority refuses, with the number of this code.
    Refused {
        /// The number.
        code: u16,
    },
    /// A message cannot be made, or what came is not the release for this device.
    Message(factory_proto::Error),
    /// The release is longer than its place.
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// A storage reports a read error.
    Read(ReadError),
    /// A storage reports a write error.
    Write(WriteError),
    /// What was written does not read back.
    ReadBack {
        /// Where, in its storage.
        offset: u64,
    },
    /// What waits for boot slot B is no image.
    Staging,
    /// No disk answers.
    NoDisk,
    /// The lifecycle cannot be burned once more.
    Fuses(lifecycle::Error),
    /// A core executes from the flash that is to be written.
    FlashInUse,
}

impl Error {
    /// Returns the stable code that stands for this reason.
    pub fn code(&self) -> FailCode {
        match self {
            Self::NoAnswer => FailCode::NoAnswer,
            Self::Refused { code } => FailCode::from_number(*code).unwrap_or(FailCode::AnswerMalformed),
            Self::Message(error) => error.code(),
            Self::TooLong { .. } => FailCode::CertificateInvalid,
            Self::Read(_) => FailCode::DiskRead,
            Self::Write(_) | Self::FlashInUse => FailCode::FlashWrite,
            Self::ReadBack { .. } => FailCode::ReadBack,
            Self::Staging => FailCode::ImageTruncated,
            Self::NoDisk => FailCode::DiskMissing,
            Self::Fuses(error) => error.code(),
        }
    }
}

impl From<ReadError> for Error {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<WriteError> for Error {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// A closing that is pending.
pub struct Pending<'a> {
    /// What stage0 vouches for.
    pub evidence: &'a Evidence,
    /// The chip id, as fused.
    pub chip_id: &'a [u8; 16],
    /// The owner roots, as fused.
    pub roots: Vec<Root>,
    /// Whether published test keys are refused.
    pub refuse_test_keys: bool,
}

impl Pending<'_> {
    /// Ends provisioning: asks for the release, has `settle` use it, and tells the station how it went.
    ///
    /// Devices are started, and `settle` is called, only once there is a release that was verified.
    ///
    /// # Errors
    /// See [`Error`]; the device boots all the same, and the next boot does it again.
    pub fn close<D: DmaDevices>(
        &self,
        link: &mut (impl Console + Receive),
        clock: &impl Clock,
        devices: &mut D,
        settle: impl FnOnce(&[u8], Option<&mut D::Disk>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        tell(link, Message::Progress, &progress(Phase::Begin, clock));
        let trust = Trust { board: BOARD, roots: &self.roots, refuse_test_keys: self.refuse_test_keys };
        let settled = prove(self.evidence, self.chip_id, &trust, link, clock).and_then(|release| {
            devices.start();
            let settled = settle(&release, devices.disk());
            devices.stop();
            settled
        });
        if settled.is_ok() {
            tell(link, Message::Progress, &progress(Phase::End, clock));
        }
        let code = settled.err().map_or(0, |error| error.code().number());
        tell(link, Message::Outcome, &Outcome { code }.encode());
        settled
    }
}

fn progress(phase: Phase, clock: &impl Clock) -> Vec<u8> {
    let ticks = u128::from(clock.now()).saturating_mul(1_000_000);
    let micros = ticks.checked_div(u128::from(clock.hz())).unwrap_or_default() as u64;
    Progress { step: PROVE_CLOSED, phase, micros, bytes: 0 }.encode()
}

/// Tells the station what wants no answer.
fn tell(link: &mut impl Console, message: Message, body: &[u8]) {
    // Only a message of more than 8 KiB has no frame.
    if let Ok(frame) = encode(message, 0, body) {
        link.write(&frame);
    }
}

/// Asks the authority for the release of the certificate, and returns the signed message, verified.
///
/// # Errors
/// See [`Error`].
pub fn prove(
    evidence: &Evidence,
    chip_id: &[u8; 16],
    trust: &Trust<'_>,
    link: &mut (impl Console + Receive),
    clock: &impl Clock,
) -> Result<Vec<u8>, Error> {
    let proof = ClosingProof {
        install: &evidence.install,
        chip_id,
        statement: evidence.statement.as_bytes(),
        fuse_facts: &evidence.fuse_facts,
    };
    // The counter stands for a random number: answers of an earlier boot must not look like one to this question.
    let question =
        Asker::new(clock.now() as u16).ask(Message::ClosingProof, &proof.encode()).map_err(Error::Message)?;
    match question.exchange(link, clock, PATIENCE) {
        Some(Answer::Message(release)) => {
            verify_release::<Es256>(&release, trust, &evidence.install, chip_id).map_err(Error::Message)?;
            Ok(release)
        }
        Some(Answer::Refused(code)) => Err(Error::Refused { code }),
        Some(Answer::Listening) | None => Err(Error::NoAnswer),
    }
}

/// Tells whether a word of the fuses is none of the lifecycle's, which are all that this stage burns.
pub fn may_not_be_burned(index: usize) -> bool {
    !Row::Lifecycle.words().contains(&index)
}

/// Makes sure that the die stays closed, writes what the release brings and clears away what the factory needed; `release`
/// is a signed message that was verified.
///
/// # Errors
/// See [`Error`]; then the next boot does it again.
pub fn settle(
    release: &[u8],
    fuses: &mut impl OtpBurn,
    flash: &mut impl StorageMut,
    disk: Option<&mut impl StorageMut>,
) -> Result<(), Error> {
    let disk = disk.ok_or(Error::NoDisk)?;
    finish_closing(fuses).map_err(Error::Fuses)?;
    write_certificates(release, flash)?;
    move_second_copy(flash)?;
    clear(disk, PACKAGE)?;
    store::Journal::erase(flash, JOURNAL).map_err(|error| match error {
        store::JournalError::Write(error) => Error::Write(error),
        _ => Error::ReadBack { offset: JOURNAL.base },
    })?;
    let marker = CLOSING_STATE.base.saturating_add(ClosingState::MARKER_OFFSET);
    write_and_read_back(flash, marker, &ClosingState::ACKNOWLEDGED)
}

/// Keeps the whole signed message, so that it can be verified wherever it is shown: its length as a little-endian
/// `u32`, then its bytes.
fn write_certificates(release: &[u8], flash: &mut impl StorageMut) -> Result<(), Error> {
    let too_long = Error::TooLong { found: release.len() };
    let len = u32::try_from(release.len()).map_err(|_| too_long)?;
    let mut record: Vec<u8> = len.to_le_bytes().into_iter().chain(release.iter().copied()).collect();
    record.resize(record.len().next_multiple_of(4), 0xFF);
    if record.len() as u64 > CERTIFICATES.size {
        return Err(too_long);
    }
    if !reads_as(flash, CERTIFICATES.base, &record)? {
        flash.erase(CERTIFICATES.base, CERTIFICATES.size)?;
    }
    write_and_read_back(flash, CERTIFICATES.base, &record)
}

/// Copies the second copy of this stage to boot slot B, its start last, and erases where it waited.
fn move_second_copy(flash: &mut impl StorageMut) -> Result<(), Error> {
    let mut start = [0; HEADER_BYTES];
    flash.read(BOOT_STAGING.base, &mut start)?;
    if start == [0xFF; HEADER_BYTES] {
        // Moved already: the waiting place is erased only after slot B was read back.
        return erase(flash, BOOT_STAGING);
    }
    let Ok(header) = Header::parse(&start) else {
        // Moved, and the erase is missing or was torn. The start of the copy in slot B was written last: it is whole.
        return if holds_image(flash, BOOT_SLOT_B)? {
            erase(flash, BOOT_STAGING)
        } else {
            Err(Error::Staging)
        };
    };
    let len = header.image_len().filter(|len| *len <= BOOT_STAGING.size).ok_or(Error::Staging)?;
    let len = len.next_multiple_of(u64::from(PAYLOAD_ALIGN));
    if !same(flash, BOOT_STAGING.base, BOOT_SLOT_B.base, len)? {
        flash.erase(BOOT_SLOT_B.base, BOOT_SLOT_B.size)?;
    }
    let page = u64::from(PAYLOAD_ALIGN);
    let (mut at, mut buffer) = (page, vec![0; STEP]);
    while at < len {
        let step = copy(flash, at, len, &mut buffer)?;
        at = at.saturating_add(step);
    }
    copy(flash, 0, page, &mut buffer)?;
    flash.flush()?;
    if !same(flash, BOOT_STAGING.base, BOOT_SLOT_B.base, len)? {
        return Err(Error::ReadBack { offset: BOOT_SLOT_B.base });
    }
    // What waited is no image any more: whatever a torn erase leaves of it is not copied over the one in slot B.
    write_and_read_back(flash, BOOT_STAGING.base, &[0; HEADER_BYTES])?;
    erase(flash, BOOT_STAGING)
}

/// Copies bytes from `at` on, up to `end` and to the end of the buffer; returns how many.
fn copy(flash: &mut impl StorageMut, at: u64, end: u64, buffer: &mut [u8]) -> Result<u64, Error> {
    let step = end.saturating_sub(at).min(buffer.len() as u64);
    let part = buffer.get_mut(..step as usize).unwrap_or_default();
    flash.read(BOOT_STAGING.base.saturating_add(at), part)?;
    flash.write(BOOT_SLOT_B.base.saturating_add(at), part)?;
    Ok(step)
}

fn holds_image(flash: &mut impl Storage, slot: Region) -> Result<bool, Error> {
    let mut start = [0; HEADER_BYTES];
    flash.read(slot.base, &mut start)?;
    Ok(Header::parse(&start).is_ok())
}

fn erase(flash: &mut impl StorageMut, region: Region) -> Result<(), Error> {
    flash.erase(region.base, region.size)?;
    Ok(flash.flush()?)
}

/// Overwrites a region of the disk with zeros.
fn clear(disk: &mut impl StorageMut, region: Region) -> Result<(), Error> {
    let zeros = vec![0; STEP];
    let mut at = 0;
    while at < region.size {
        let part = zeros.get(..region.size.saturating_sub(at).min(STEP as u64) as usize).unwrap_or_default();
        disk.write(region.base.saturating_add(at), part)?;
        at = at.saturating_add(STEP as u64);
    }
    Ok(disk.flush()?)
}

fn write_and_read_back(flash: &mut impl StorageMut, offset: u64, bytes: &[u8]) -> Result<(), Error> {
    flash.write(offset, bytes)?;
    flash.flush()?;
    if reads_as(flash, offset, bytes)? { Ok(()) } else { Err(Error::ReadBack { offset }) }
}

fn reads_as(storage: &mut impl Storage, offset: u64, bytes: &[u8]) -> Result<bool, Error> {
    let mut found = vec![0; bytes.len()];
    storage.read(offset, &mut found)?;
    Ok(found == bytes)
}

/// Tells whether `len` bytes at two places are the same.
fn same(storage: &mut impl Storage, a: u64, b: u64, len: u64) -> Result<bool, Error> {
    let (mut at, mut left, mut right) = (0, vec![0; STEP], vec![0; STEP]);
    while at < len {
        let step = len.saturating_sub(at).min(STEP as u64);
        let left = left.get_mut(..step as usize).unwrap_or_default();
        let right = right.get_mut(..step as usize).unwrap_or_default();
        storage.read(a.saturating_add(at), left)?;
        storage.read(b.saturating_add(at), right)?;
        if left != right {
            return Ok(false);
        }
        at = at.saturating_add(step);
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
