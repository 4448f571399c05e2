//! Payloads: into secure RAM, from one sealing to another, and back for a check.
//!
//! # Threats
//! *Whoever reads storage, bus or normal-world memory must find no plaintext, at any instant.* A chunk is decrypted in
//! a buffer in secure RAM, which devices cannot reach, and is sealed again there before anything is written. Buffers
//! are wiped when they are dropped, on every path. The disk's driver copies through the bounce pool what was sealed,
//! and nothing else: it is handed no other buffer.
//! *Whoever writes the package must not choose what is sealed.* A chunk is sealed again only after its tag and its
//! signed digest were found right.
//!
//! Storage is read and written in batches of chunks, and all cores share the chunks of a batch. Each has at most one
//! chunk in the clear at a time; a chunk that was only to be checked is wiped at once.

use alloc::vec;
use alloc::vec::Vec;

use boot_crypto::Key;
use hal::{Cores, Storage, StorageMut};
use memory_map::Region;
use sealed_image::{Chunk, Kind, Manifest, Opened, Opener, Resealed, Resealer, Tally};
use spin::Mutex;
use store::ALIGN;
use zeroize::Zeroizing;

use crate::Error;
use crate::hardware::{Board, Hardware};
use crate::random::Random;
use crate::trust::Found;

/// Writes are made of whole sectors, so that no driver has to read what is already there.
const SECTOR: usize = 512;
/// What the rest of a sector is filled with: what erased flash holds.
const PADDING: u8 = 0xFF;

/// Most bytes of a batch, unless a chunk has more: of the package, and of each copy.
const ROOM: usize = 1024 * 1024;

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
    let mut buffers = Buffers::new(room(image.manifest()), copies.len());
    let chunks: Vec<Chunk> = copies.first().map(|copy| copy.resealer.chunks().collect()).unwrap_or_default();
    for batch in chunks.chunks(batch_of(image.manifest().chunk_size)) {
        let [Some(first), Some(last)] = [batch.first(), batch.last()] else { break };
        let at = found.payload.base.saturating_add(first.stored_offset);
        board.disk()?.read(at, buffers.stored(first, last)?).map_err(Error::Read)?;
        let resealed = buffers.reseal(board.cores, &copies, batch, kind)?;
        for (copy, chunk) in resealed {
            if let Some(copy) = copies.get_mut(copy) {
                copy.resealer.put_tag(&mut copy.metadata, &chunk).map_err(refused)?;
                copy.tally.add(&chunk.tally);
            }
        }
        for (copy, sealed) in copies.iter().zip(buffers.sealed(first, last)?) {
            let payload = copy.offset.saturating_add(copy.metadata.len() as u64);
            write(board, copy.medium, payload.saturating_add(first.plain_offset), sealed)?;
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

/// Returns how many chunks of this size are in memory at a time: at least one.
fn batch_of(chunk_size: u32) -> usize {
    ROOM.checked_div(chunk_size as usize).unwrap_or(1).max(1)
}

/// Returns how many bytes the largest batch of an image has, in whole sectors.
fn room(manifest: &Manifest<'_>) -> usize {
    let most = batch_of(manifest.chunk_size).saturating_mul(manifest.chunk_size as usize);
    most.min(manifest.plain_size as usize).next_multiple_of(SECTOR)
}

/// Lets all cores work off jobs; the first error ends it.
fn share<J: Send>(
    cores: &mut impl Cores,
    jobs: Vec<J>,
    work: impl Fn(J) -> Result<(), sealed_image::Error> + Sync,
) -> Result<(), sealed_image::Error> {
    let jobs = Mutex::new(jobs.into_iter());
    let outcome = Mutex::new(Ok(()));
    cores.run(&|_| {
        while outcome.lock().is_ok() {
            let Some(job) = jobs.lock().next() else { break };
            if let Err(error) = work(job) {
                *outcome.lock() = Err(error);
            }
        }
    });
    outcome.into_inner()
}

/// Room for a batch of chunks, in secure RAM.
struct Buffers {
    /// The chunks as the package holds them.
    stored: Zeroizing<Vec<u8>>,
    /// The chunks on their way to each destination. A core has the plaintext of one at a time.
    work: Vec<Zeroizing<Vec<u8>>>,
}

impl Buffers {
    fn new(len: usize, copies: usize) -> Self {
        let buffer = || Zeroizing::new(vec![0; len]);
        Self { stored: buffer(), work: core::iter::repeat_with(buffer).take(copies).collect() }
    }

    /// The place for a batch of chunks as the package holds them.
    fn stored(&mut self, first: &Chunk, last: &Chunk) -> Result<&mut [u8], Error> {
        self.stored.get_mut(..stored_len(first, last)).ok_or(Error::ChunkTooLong)
    }

    /// Returns what is to be written of each copy: whole sectors.
    fn sealed(&mut self, first: &Chunk, last: &Chunk) -> Result<Vec<&[u8]>, Error> {
        let len = plain_len(first, last);
        let mut sealed = Vec::with_capacity(self.work.len());
        for work in &mut self.work {
            let written = work.get_mut(..len.next_multiple_of(SECTOR)).ok_or(Error::ChunkTooLong)?;
            written.get_mut(len..).unwrap_or_default().fill(PADDING);
            sealed.push(&*written);
        }
        Ok(sealed)
    }

    /// Opens every chunk of a batch once and seals it for each copy, on all cores. Returns with each the number of its copy.
    fn reseal(
        &mut self,
        cores: &mut impl Cores,
        copies: &[Copy<'_>],
        batch: &[Chunk],
        kind: Kind,
    ) -> Result<Vec<(usize, Resealed)>, Error> {
        let mut stored = self.stored.as_slice();
        let mut works: Vec<&mut [u8]> = self.work.iter_mut().map(|work| work.as_mut_slice()).collect();
        let mut jobs = Vec::with_capacity(batch.len());
        for chunk in batch {
            let from = stored.split_at_checked(chunk.stored_len as usize);
            let (from, later) = from.ok_or(Error::ChunkTooLong)?;
            stored = later;
            let mut places = Vec::with_capacity(works.len());
            for work in &mut works {
                let to = core::mem::take(work).split_at_mut_checked(chunk.plain_len as usize);
                let (to, rest) = to.ok_or(Error::ChunkTooLong)?;
                *work = rest;
                places.push(to);
            }
            jobs.push((chunk.index, from, places));
        }
        let done = Mutex::new(Vec::with_capacity(jobs.len().saturating_mul(copies.len())));
        share(cores, jobs, |(index, stored, places)| {
            let mut pairs = copies.iter().zip(places);
            let Some((copy, place)) = pairs.next() else { return Ok(()) };
            let open = if copy.resealer.in_place() {
                place.copy_from_slice(stored);
                copy.resealer.open(index, place)?
            } else {
                copy.resealer.open_into(index, &mut Zeroizing::new(stored.to_vec()), place)?
            };
            for (number, (copy, place)) in (1..).zip(pairs) {
                let sealed = open.seal_copy(&copy.resealer, place)?;
                done.lock().push((number, sealed));
            }
            let sealed = open.seal()?;
            done.lock().push((0, sealed));
            Ok(())
        })
        .map_err(|error| Error::Image { kind, error })?;
        Ok(done.into_inner())
    }
}

/// Returns how many bytes a batch has as it is stored.
fn stored_len(first: &Chunk, last: &Chunk) -> usize {
    last.stored_offset.saturating_sub(first.stored_offset).saturating_add(last.stored_len.into()) as usize
}

/// Returns how many bytes of plaintext a batch has.
fn plain_len(first: &Chunk, last: &Chunk) -> usize {
    last.plain_offset.saturating_sub(first.plain_offset).saturating_add(last.plain_len.into()) as usize
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

/// Does what [`verify`] does, on all cores.
pub(crate) fn verify_on_all(
    storage: &mut impl Storage,
    cores: &mut impl Cores,
    found: &Found<'_>,
    key: &Key,
) -> Result<Opened, Error> {
    let kind = found.image.manifest().kind;
    let refused = |error| Error::Image { kind, error };
    let opener: Opener<'_> = found.image.unwrap_key(key).map_err(refused)?;
    let mut buffer = Zeroizing::new(vec![0; room(found.image.manifest())]);
    let chunks: Vec<Chunk> = opener.chunks().collect();
    let tally = Mutex::new(Tally::default());
    for batch in chunks.chunks(batch_of(found.image.manifest().chunk_size)) {
        let [Some(first), Some(last)] = [batch.first(), batch.last()] else { break };
        let mut stored = buffer.get_mut(..stored_len(first, last)).ok_or(Error::ChunkTooLong)?;
        storage.read(found.payload.base.saturating_add(first.stored_offset), stored).map_err(Error::Read)?;
        let mut jobs = Vec::with_capacity(batch.len());
        for chunk in batch {
            let (mine, rest) =
                stored.split_at_mut_checked(chunk.stored_len as usize).ok_or(Error::ChunkTooLong)?;
            stored = rest;
            jobs.push((chunk, mine));
        }
        let opened = share(cores, jobs, |(chunk, stored)| {
            let opened = if opener.in_place() {
                opener.open_chunk(chunk.index, stored)
            } else {
                let mut plain = Zeroizing::new(vec![0; chunk.plain_len as usize]);
                opener.open_chunk_into(chunk.index, stored, &mut plain)
            };
            // As fast as memory is; all of the buffer is wiped for certain at the end.
            core::hint::black_box(stored).fill(0);
            tally.lock().add(&opened?);
            Ok(())
        });
        opened.map_err(refused)?;
    }
    opener.finish(&tally.into_inner()).map_err(refused)
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
