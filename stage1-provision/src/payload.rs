//! Payloads: into secure RAM, from one sealing to another, and back for a check.
//!
//! # Threats
//! *Whoever reads storage, bus or normal-world memory must find no plaintext, at any instant.* A chunk is decrypted in
//! a buffer in secure RAM, which devices cannot reach, and is sealed again there before anything is written. Buffers
//! are wiped when they are dropped, on every path. The disk's driver copies through the bounce pool what was sealed,
//! and nothing else: it is handed no other buffer.
//! *Whoever writes the package must not choose what is sealed.* A chunk is sealed again only after its tag and its
//! signed digest were found right.

use alloc::vec;
use alloc::vec::Vec;

use boot_crypto::Key;
use hal::{Storage, StorageMut};
use memory_map::Region;
use sealed_image::{Chunk, Kind, Opened, Opener, Resealer, Tally};
use store::ALIGN;
use zeroize::{Zeroize, Zeroizing};

use crate::Error;
use crate::hardware::{Board, Hardware};
use crate::random::Random;
use crate::trust::Found;

/// Writes are made of whole sectors, so that no driver has to read what is already there.
const SECTOR: usize = 512;
/// What the rest of a sector is filled with: what erased flash holds.
const PADDING: u8 = 0xFF;

/// A storage of the board.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Medium {
    /// The secure flash bank.
    Flash,
    /// The disk.
    Disk,
}

/// A region that images are written into, one behind the other.
pub(crate) struct Destination<'k> {
    medium: Medium,
    region: Region,
    /// Bytes of the region that are taken.
    taken: u64,
    /// The key of the place.
    key: &'k Key,
}

impl<'k> Destination<'k> {
    /// Starts at the beginning of a region.
    pub(crate) const fn new(medium: Medium, region: Region, key: &'k Key) -> Self {
        Self { medium, region, taken: 0, key }
    }

    /// Makes the region ready to be written.
    pub(crate) fn erase<H: Hardware>(&self, board: &mut Board<'_, H>) -> Result<(), Error> {
        let Region { base, size } = self.region;
        match self.medium {
            Medium::Flash => board.flash.erase(base, size).map_err(Error::Write),
            Medium::Disk => board.disk()?.erase(base, size).map_err(Error::Write),
        }
    }

    /// Takes `len` bytes of the region and returns the offset where they start.
    fn take(&mut self, kind: Kind, len: u64) -> Result<u64, Error> {
        let full = Error::DoesNotFit { kind };
        let end = self.taken.checked_add(len).ok_or(full)?;
        if end > self.region.size {
            return Err(full);
        }
        let offset = self.region.base.saturating_add(self.taken);
        self.taken = end.checked_next_multiple_of(ALIGN).ok_or(full)?;
        Ok(offset)
    }

    /// Returns a number that no other place on this board has.
    fn place(&self, offset: u64) -> u64 {
        match self.medium {
            Medium::Flash => offset,
            Medium::Disk => offset | 1 << 63,
        }
    }
}

fn write<H: Hardware>(
    board: &mut Board<'_, H>,
    medium: Medium,
    offset: u64,
    bytes: &[u8],
) -> Result<(), Error> {
    match medium {
        Medium::Flash => board.flash.write(offset, bytes).map_err(Error::Write),
        Medium::Disk => board.disk()?.write(offset, bytes).map_err(Error::Write),
    }
}

/// Makes everything durable.
pub(crate) fn flush<H: Hardware>(board: &mut Board<'_, H>) -> Result<(), Error> {
    board.flash.flush().map_err(Error::Write)?;
    board.disk()?.flush().map_err(Error::Write)
}

/// A copy of one image that is being made.
struct Copy<'a> {
    resealer: Resealer<'a>,
    medium: Medium,
    offset: u64,
    metadata: Vec<u8>,
    tally: Tally,
}

/// Seals an image of the package again for each destination. Its metadata, without which a copy is none, is written
/// last. Returns the number of bytes written.
pub(crate) fn reseal<H: Hardware>(
    board: &mut Board<'_, H>,
    found: &Found<'_>,
    content_key: &Key,
    destinations: &mut [Destination<'_>],
    random: &mut Random,
) -> Result<u64, Error> {
    let image = &found.image;
    let kind = image.manifest().kind;
    let refused = |error| Error::Image { kind, error };
    let mut copies = Vec::with_capacity(destinations.len());
    for destination in destinations {
        let metadata_len = image.header().metadata_len();
        let offset =
            destination.take(kind, u64::from(metadata_len).saturating_add(image.manifest().plain_size))?;
        let fresh = random.sealing(image.manifest_digest(), destination.place(offset));
        let mut metadata = vec![0; metadata_len as usize];
        let resealer =
            Resealer::new(image, content_key, destination.key, &fresh, &mut metadata).map_err(refused)?;
        let medium = destination.medium;
        copies.push(Copy { resealer, medium, offset, metadata, tally: Tally::default() });
    }

    let mut written = 0_u64;
    let mut buffers = Buffers::new(image.manifest().chunk_size);
    let chunks: Vec<Chunk> = copies.first().map(|copy| copy.resealer.chunks().collect()).unwrap_or_default();
    for chunk in chunks {
        let at = found.payload.base.saturating_add(chunk.stored_offset);
        board.disk()?.read(at, buffers.stored(&chunk)?).map_err(Error::Read)?;
        for copy in &mut copies {
            let (resealed, sealed) = buffers.reseal(&copy.resealer, &chunk, kind)?;
            let payload = copy.offset.saturating_add(copy.metadata.len() as u64);
            write(board, copy.medium, payload.saturating_add(chunk.plain_offset), sealed)?;
            copy.resealer.put_tag(&mut copy.metadata, &resealed).map_err(refused)?;
            copy.tally.add(&resealed.tally);
            written = written.saturating_add(sealed.len() as u64);
        }
    }
    for copy in &copies {
        let _whole: Opened = copy.resealer.finish(&copy.tally).map_err(refused)?;
        write(board, copy.medium, copy.offset, &copy.metadata)?;
        written = written.saturating_add(copy.metadata.len() as u64);
    }
    Ok(written)
}

/// Room for one chunk, in secure RAM.
struct Buffers {
    /// The chunk as the package holds it.
    stored: Zeroizing<Vec<u8>>,
    /// The chunk on its way to one destination.
    work: Zeroizing<Vec<u8>>,
    /// What a compressed chunk is decompressed from.
    packed: Zeroizing<Vec<u8>>,
}

impl Buffers {
    fn new(chunk_size: u32) -> Self {
        let buffer = || Zeroizing::new(vec![0; chunk_size as usize]);
        Self { stored: buffer(), work: buffer(), packed: Zeroizing::new(Vec::new()) }
    }

    /// The place for the chunk as the package holds it.
    fn stored(&mut self, chunk: &Chunk) -> Result<&mut [u8], Error> {
        self.stored.get_mut(..chunk.stored_len as usize).ok_or(Error::ChunkTooLong)
    }

    /// Seals the chunk for one copy, and returns what is to be written.
    fn reseal(
        &mut self,
        resealer: &Resealer<'_>,
        chunk: &Chunk,
        kind: Kind,
    ) -> Result<(sealed_image::Resealed, &[u8]), Error> {
        let refused = |error| Error::Image { kind, error };
        let stored = self.stored.get(..chunk.stored_len as usize).ok_or(Error::ChunkTooLong)?;
        let len = chunk.plain_len as usize;
        let written = self.work.get_mut(..len.next_multiple_of(SECTOR)).ok_or(Error::ChunkTooLong)?;
        let (work, padding) = written.split_at_mut_checked(len).ok_or(Error::ChunkTooLong)?;
        padding.fill(PADDING);
        let resealed = if resealer.in_place() {
            work.copy_from_slice(stored);
            resealer.reseal(chunk.index, work)
        } else {
            self.packed.zeroize();
            self.packed.extend_from_slice(stored);
            resealer.reseal_into(chunk.index, &mut self.packed, work)
        };
        if resealed.is_err() {
            work.zeroize();
        }
        Ok((resealed.map_err(refused)?, written))
    }
}

/// Opens every chunk of an image and lets `take` see the plaintext of each; nothing is kept.
fn open_chunks(
    storage: &mut impl Storage,
    found: &Found<'_>,
    key: &Key,
    mut take: impl FnMut(&[u8]),
) -> Result<Opened, Error> {
    let kind = found.image.manifest().kind;
    let refused = |error| Error::Image { kind, error };
    let opener: Opener<'_> = found.image.unwrap_key(key).map_err(refused)?;
    let room = found.image.manifest().chunk_size as usize;
    let mut stored = Zeroizing::new(vec![0; room]);
    let mut plain = Zeroizing::new(if opener.in_place() { Vec::new() } else { vec![0; room] });
    let mut tally = Tally::default();
    for chunk in opener.chunks() {
        let bytes = stored.get_mut(..chunk.stored_len as usize).ok_or(Error::ChunkTooLong)?;
        storage.read(found.payload.base.saturating_add(chunk.stored_offset), bytes).map_err(Error::Read)?;
        let opened = if opener.in_place() {
            let opened = opener.open_chunk(chunk.index, bytes);
            (opened, &*bytes)
        } else {
            let place = plain.get_mut(..chunk.plain_len as usize).ok_or(Error::ChunkTooLong)?;
            let opened = opener.open_chunk_into(chunk.index, bytes, place);
            (opened, &*place)
        };
        tally.add(&opened.0.map_err(refused)?);
        take(opened.1);
    }
    opener.finish(&tally).map_err(refused)
}

/// Reads an image to its end and checks every chunk of it.
pub(crate) fn verify(storage: &mut impl Storage, found: &Found<'_>, key: &Key) -> Result<Opened, Error> {
    open_chunks(storage, found, key, |_| {})
}

/// Reads a payload of at most `most` bytes into secure RAM.
pub(crate) fn read(
    storage: &mut impl Storage,
    found: &Found<'_>,
    key: &Key,
    most: u64,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let manifest = found.image.manifest();
    if manifest.plain_size > most {
        return Err(Error::TooLarge { kind: manifest.kind });
    }
    let mut payload = Zeroizing::new(Vec::with_capacity(manifest.plain_size as usize));
    let _whole: Opened = open_chunks(storage, found, key, |plain| payload.extend_from_slice(plain))?;
    Ok(payload)
}
