//! An append-only log in a region of flash, whole after every power cut.
//!
//! ```text
//! entry, at a multiple of 64 bytes from the start of the region
//!   0  4  magic "KJRN"          little-endian throughout
//!   4  4  number                0, 1, 2, …
//!   8  1  kind                  the caller's
//!   9  3  reserved, 0
//!  12  4  length of the payload, at most 4096
//!  16  4  CRC-32C of bytes 0 to 15 and the payload
//!  20     payload, then erased bytes up to the next multiple of 64
//! ```
//!
//! # Power cuts
//! An entry counts once it is whole, which its CRC tells. What a cut left of one is skipped: the next entry is written
//! behind it and takes the number that the torn one would have had. So bytes that are no entry lie only where the next
//! entry, if there is one, continues the numbers; anything else is damage, and the journal is refused as a whole. Power
//! may fail many times in a row at one entry: 32 of the longest may lie torn one behind the other.
//!
//! A bit at which power failed may read otherwise each time, so that an entry is whole today and torn tomorrow, or a
//! place erased. What was found has to stay so: an entry that reads whole is programmed once more before anything follows
//! from it; and before the first entry that is appended after opening, everything from the last whole entry on, and the unit
//! in whose place it would come, is programmed to zeros, which are no entry.
//!
//! # Threats
//! Whoever writes the flash can cut entries off at the end, as a power cut does, or plant some: payloads that matter are
//! sealed or signed by whoever appends them, and whoever reads them treats a shorter journal as an earlier time.

use crate::window::check_inside;
use crc::{CRC_32_ISCSI, Crc, NoTable};
use fail_code::FailCode;
use hal::{ReadError, StorageMut, WriteError};
use memory_map::Region;

const MAGIC: [u8; 4] = *b"KJRN";
const HEADER_BYTES: usize = 20;
/// Entries start at multiples of this.
const UNIT: u64 = 64;
const CRC: Crc<u32, NoTable> = Crc::<u32, NoTable>::new(&CRC_32_ISCSI);

/// Longest payload of an entry, in bytes.
pub const MAX_ENTRY: usize = 4096;
/// Bytes of flash that the longest entry takes.
const MAX_STORED: u64 = (HEADER_BYTES as u64 + MAX_ENTRY as u64).next_multiple_of(UNIT);
/// Most bytes of torn entries that lie one behind the other, with a unit of zeros before each and before the next entry.
const MAX_TORN: u64 = 32 * (MAX_STORED + UNIT) + UNIT;

/// Why a journal cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JournalError {
    /// The region leaves the storage, or is not made of whole erase blocks.
    Region {
        /// The region.
        region: Region,
    },
    /// Bytes that are neither an entry nor what a power cut leaves of one.
    Damaged {
        /// Where they start, in the storage.
        offset: u64,
    },
    /// The payload is longer than [`MAX_ENTRY`].
    TooLong {
        /// Its length in bytes.
        found: usize,
    },
    /// There is no room for another entry.
    Full,
    /// The storage reports a read error.
    Read(ReadError),
    /// The storage reports a write error.
    Write(WriteError),
    /// An entry does not read back as it was written.
    ReadBack {
        /// Where it starts, in the storage.
        offset: u64,
    },
}

impl JournalError {
    /// Returns the stable code that stands for this reason.
    pub const fn code(&self) -> FailCode {
        match self {
            Self::Region { .. } | Self::Damaged { .. } | Self::TooLong { .. } => FailCode::JournalInvalid,
            Self::Full => FailCode::JournalFull,
            Self::Read(_) => FailCode::DiskRead,
            Self::Write(_) => FailCode::FlashWrite,
            Self::ReadBack { .. } => FailCode::ReadBack,
        }
    }
}

impl From<ReadError> for JournalError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

impl From<WriteError> for JournalError {
    fn from(error: WriteError) -> Self {
        Self::Write(error)
    }
}

/// An entry of the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'b> {
    /// What it says, in the caller's numbers.
    pub kind: u8,
    /// Its payload.
    pub payload: &'b [u8],
}

/// A journal that was read to its end, ready for the next entry. It does not hold the storage.
#[derive(Clone, Debug)]
pub struct Journal {
    region: Region,
    /// Offset of the next entry within the region.
    next: u64,
    /// Number of the next entry.
    number: u32,
    /// Offset from which on bytes may read otherwise the next time, until something is appended.
    unsure: Option<u64>,
}

/// What lies at a place of the journal.
enum Place {
    /// An entry whose payload has this length.
    Entry { kind: u8, len: usize },
    /// Nothing was ever written from here to where the longest entry would end.
    Erased,
    /// Something else.
    Torn,
}

impl Journal {
    /// Reads the journal in `region`, makes sure that each entry stays as it was read, and shows it to `visit`, in their
    /// order. `buffer` holds one at a time.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(
        storage: &mut impl StorageMut,
        region: Region,
        buffer: &mut [u8; MAX_ENTRY],
        mut visit: impl FnMut(Entry<'_>),
    ) -> Result<Self, JournalError> {
        let blocks = storage.erase_size().max(1);
        let whole = region.base.is_multiple_of(UNIT) && region.size.is_multiple_of(blocks.max(UNIT));
        if !whole || check_inside(storage, region).is_err() {
            return Err(JournalError::Region { region });
        }
        let mut journal = Self { region, next: 0, number: 0, unsure: Some(0) };
        let mut torn_at = None;
        let mut at = 0;
        while at < region.size {
            match journal.look(storage, at, buffer)? {
                Place::Entry { kind, len } => {
                    let payload = buffer.get(..len).unwrap_or_default();
                    journal.program(storage, at, kind, payload)?;
                    visit(Entry { kind, payload });
                    at = at.saturating_add(stored_len(len));
                    (journal.next, journal.unsure) = (at, Some(at));
                    journal.number = journal.number.saturating_add(1);
                    torn_at = None;
                }
                Place::Erased if torn_at.is_none_or(|torn| at.saturating_sub(torn) <= MAX_TORN) => break,
                Place::Torn if torn_at.is_none_or(|torn| at.saturating_sub(torn) < MAX_TORN) => {
                    torn_at = torn_at.or(Some(at));
                    at = at.saturating_add(UNIT);
                    journal.next = at;
                }
                Place::Erased | Place::Torn => {
                    let offset = region.base.saturating_add(torn_at.unwrap_or(at));
                    return Err(JournalError::Damaged { offset });
                }
            }
        }
        Ok(journal)
    }

    /// Returns how many entries there are.
    pub const fn entries(&self) -> u32 {
        self.number
    }

    /// Appends an entry; it is durable and was read back once this returns.
    ///
    /// # Errors
    /// See [`JournalError`]. After a write error the journal is to be opened again.
    pub fn append(
        &mut self,
        storage: &mut impl StorageMut,
        kind: u8,
        payload: &[u8],
    ) -> Result<(), JournalError> {
        if payload.len() > MAX_ENTRY {
            return Err(JournalError::TooLong { found: payload.len() });
        }
        let guard = if self.unsure.is_some() { UNIT } else { 0 };
        let start = self.next.saturating_add(guard);
        let end = start.saturating_add(stored_len(payload.len()));
        if end > self.region.size {
            return Err(JournalError::Full);
        }
        if let Some(unsure) = self.unsure {
            let mut at = unsure;
            while at < start {
                storage.write(self.region.base.saturating_add(at), &[0; UNIT as usize])?;
                at = at.saturating_add(UNIT);
            }
            storage.flush()?;
            self.unsure = None;
        }
        self.program(storage, start, kind, payload)?;
        self.next = end;
        self.number = self.number.saturating_add(1);
        Ok(())
    }

    /// Programs the entry of the next number at the place `at` within the region, and reads it back.
    fn program(
        &self,
        storage: &mut impl StorageMut,
        at: u64,
        kind: u8,
        payload: &[u8],
    ) -> Result<(), JournalError> {
        let offset = self.region.base.saturating_add(at);
        let header = header(self.number, kind, payload);
        // The first unit holds the header and the start of the payload, so that each unit is programmed once.
        let (start, rest) = payload.split_at_checked(FIRST).unwrap_or((payload, &[]));
        let mut first = [0xFF; UNIT as usize];
        first.iter_mut().zip(header.iter().chain(start)).for_each(|(to, from)| *to = *from);
        storage.write(offset, &first)?;
        let mut at = offset.saturating_add(UNIT);
        for part in rest.chunks(UNIT as usize) {
            let mut unit = [0xFF; UNIT as usize];
            unit.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
            storage.write(at, &unit)?;
            at = at.saturating_add(UNIT);
        }
        storage.flush()?;

        let mut found = [0; UNIT as usize];
        storage.read(offset, &mut found)?;
        let mut same =
            found.starts_with(&header) && found.iter().skip(HEADER_BYTES).zip(start).all(|(a, b)| a == b);
        let mut at = offset.saturating_add(UNIT);
        for part in rest.chunks(UNIT as usize) {
            storage.read(at, &mut found)?;
            same &= found.starts_with(part);
            at = at.saturating_add(UNIT);
        }
        if !same {
            return Err(JournalError::ReadBack { offset });
        }
        Ok(())
    }

    /// Erases a journal that is not needed any more, from its end to its start: while something of it is left, its
    /// first entry is.
    ///
    /// # Errors
    /// [`JournalError::Write`].
    pub fn erase(storage: &mut impl StorageMut, region: Region) -> Result<(), JournalError> {
        let block = storage.erase_size().max(UNIT);
        let mut end = region.size;
        while let Some(start) = end.checked_sub(block) {
            storage.erase(region.base.saturating_add(start), block)?;
            end = start;
        }
        Ok(storage.flush()?)
    }

    /// Looks at the place `at` within the region; an entry's payload is then in `buffer`.
    fn look(
        &self,
        storage: &mut impl StorageMut,
        at: u64,
        buffer: &mut [u8; MAX_ENTRY],
    ) -> Result<Place, JournalError> {
        let offset = self.region.base.saturating_add(at);
        let room = self.region.size.saturating_sub(at);
        let mut found = [0; HEADER_BYTES];
        storage.read(offset, &mut found)?;
        let entry = parse_header(&found).filter(|(_, _, len)| *len <= MAX_ENTRY && stored_len(*len) <= room);
        if let Some((number, kind, len)) = entry
            && let Some(payload) = buffer.get_mut(..len)
        {
            storage.read(offset.saturating_add(HEADER_BYTES as u64), payload)?;
            if header(number, kind, payload) == found {
                // No power cut leaves a whole entry out of its order.
                let in_order = number == self.number;
                return if in_order {
                    Ok(Place::Entry { kind, len })
                } else {
                    Err(JournalError::Damaged { offset })
                };
            }
        }
        if is_erased(storage, offset, room.min(MAX_STORED))? { Ok(Place::Erased) } else { Ok(Place::Torn) }
    }
}

/// Bytes of the payload that lie in the unit of the header.
const FIRST: usize = UNIT as usize - HEADER_BYTES;

/// Returns how much flash an entry takes.
const fn stored_len(len: usize) -> u64 {
    (HEADER_BYTES as u64).saturating_add(len as u64).next_multiple_of(UNIT)
}

fn header(number: u32, kind: u8, payload: &[u8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    let fields = MAGIC
        .into_iter()
        .chain(number.to_le_bytes())
        .chain([kind, 0, 0, 0])
        .chain((payload.len() as u32).to_le_bytes());
    header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    let mut digest = CRC.digest();
    digest.update(header.get(..HEADER_BYTES - 4).unwrap_or_default());
    digest.update(payload);
    header.iter_mut().skip(HEADER_BYTES - 4).zip(digest.finalize().to_le_bytes()).for_each(|(to, b)| *to = b);
    header
}

/// Returns number, kind and length of the payload.
fn parse_header(untrusted: &[u8; HEADER_BYTES]) -> Option<(u32, u8, usize)> {
    let (number, rest) = untrusted.strip_prefix(&MAGIC)?.split_first_chunk()?;
    let ([kind, 0, 0, 0], rest) = rest.split_first_chunk()? else { return None };
    let (len, _) = rest.split_first_chunk()?;
    Some((u32::from_le_bytes(*number), *kind, usize::try_from(u32::from_le_bytes(*len)).ok()?))
}

fn is_erased(storage: &mut impl StorageMut, offset: u64, len: u64) -> Result<bool, ReadError> {
    let mut unit = [0; UNIT as usize];
    let mut at = 0;
    while at < len {
        storage.read(offset.saturating_add(at), &mut unit)?;
        if unit.iter().any(|byte| *byte != 0xFF) {
            return Ok(false);
        }
        at = at.saturating_add(UNIT);
    }
    Ok(true)
}
