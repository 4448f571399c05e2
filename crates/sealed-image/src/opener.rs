//! From stored chunks to signed plaintext.

use crate::table::{Entry, Table};
use crate::{Compression, Error, Manifest};
use boot_crypto::{Digest, GcmKey, equal, sha256};
use zeroize::Zeroize;

/// Where a chunk lies, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Number of the chunk, from 0.
    pub index: u32,
    /// Where it starts in the stored payload.
    pub stored_offset: u64,
    /// How long it is there.
    pub stored_len: u32,
    /// Where it starts in the plain payload.
    pub plain_offset: u64,
    /// How long it is there.
    pub plain_len: u32,
}

/// Opens the chunks of one image, in any order and from several cores at once.
pub struct Opener<'a> {
    key: GcmKey,
    binding: Digest,
    chunk_count: u32,
    chunk_size: u32,
    last_len: u32,
    compression: Compression,
    table: Table<'a>,
}

impl<'a> Opener<'a> {
    pub(crate) fn new(
        key: GcmKey,
        binding: Digest,
        compression: Compression,
        manifest: &Manifest<'_>,
        table: Table<'a>,
    ) -> Result<Self, Error> {
        let chunk_size = manifest.chunk_size;
        let expected = manifest.chunk_count();
        let chunk_count = u32::try_from(expected)
            .ok()
            .filter(|count| *count != 0 && table.get(count.wrapping_sub(1)).is_some())
            .ok_or(Error::ChunkCountWrong { found: table.entries().count() as u32 })?;
        // The last chunk holds what the others leave, at most a whole chunk.
        let before_last = u64::from(chunk_count.saturating_sub(1)).saturating_mul(u64::from(chunk_size));
        let last_len = manifest.plain_size.saturating_sub(before_last).min(u64::from(chunk_size)) as u32;
        let opener = Self { key, binding, chunk_count, chunk_size, last_len, compression, table };
        for (index, entry) in (0..chunk_count).zip(table.entries()) {
            let (found, plain) = (entry.stored_len, opener.plain_len(index));
            let allowed = match compression {
                Compression::None => found == plain,
                Compression::Lz4 => (1..=plain).contains(&found),
            };
            if !allowed {
                return Err(Error::StoredLength { index, found });
            }
        }
        Ok(opener)
    }

    /// Returns the number of chunks.
    pub const fn chunk_count(&self) -> u32 {
        self.chunk_count
    }

    /// Tells whether every chunk is stored in its plain length, so that all can be opened in place.
    pub const fn in_place(&self) -> bool {
        matches!(self.compression, Compression::None)
    }

    /// Lists where the chunks lie, in their order.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> {
        let mut stored_offset = 0_u64;
        (0..self.chunk_count).zip(self.table.entries()).map(move |(index, entry)| {
            let chunk = Chunk {
                index,
                stored_offset,
                stored_len: entry.stored_len,
                plain_offset: u64::from(index).saturating_mul(u64::from(self.chunk_size)),
                plain_len: self.plain_len(index),
            };
            stored_offset = stored_offset.saturating_add(u64::from(entry.stored_len));
            chunk
        })
    }

    /// Lists the signed digests of the chunks, in their order.
    pub(crate) fn digests(&self) -> impl Iterator<Item = &'a Digest> {
        self.table.entries().map(|entry| entry.digest)
    }

    /// Decrypts a chunk in place: checks its tag, decrypts, checks its signed digest.
    ///
    /// # Errors
    /// After a wrong tag `stored` is as it was; after a wrong digest it is wiped. A compressed chunk is
    /// refused.
    pub fn open_chunk(&self, index: u32, stored: &mut [u8]) -> Result<Tally, Error> {
        let entry = self.entry(index, stored)?;
        if entry.stored_len != self.plain_len(index) {
            return Err(Error::Compressed { index });
        }
        let mut digest = no_digest(&entry);
        self.decrypt(index, &entry, stored, &mut digest)?;
        self.accept(index, &entry, digest, stored)
    }

    /// Decrypts a chunk in place and puts its plaintext into `plain`, decompressed where it was compressed.
    /// `stored` then holds the compressed plaintext, which the caller wipes.
    ///
    /// # Errors
    /// After a wrong tag both buffers are as they were; after any later failure both are wiped.
    pub fn open_chunk_into(&self, index: u32, stored: &mut [u8], plain: &mut [u8]) -> Result<Tally, Error> {
        let entry = self.entry(index, stored)?;
        let expected = self.plain_len(index);
        if plain.len() != expected as usize {
            return Err(Error::ChunkLength { index, found: plain.len() as u32 });
        }
        let mut stored_digest = no_digest(&entry);
        self.decrypt(index, &entry, stored, &mut stored_digest)?;
        let digest = if entry.stored_len == expected {
            plain.iter_mut().zip(&*stored).for_each(|(to, from)| *to = *from);
            stored_digest
        } else {
            match lz4_flex::block::decompress_into(stored, plain) {
                Ok(length) if length == plain.len() => sha256(plain),
                _ => {
                    stored.zeroize();
                    plain.zeroize();
                    return Err(Error::Decompress { index });
                }
            }
        };
        let accepted = self.accept(index, &entry, digest, plain);
        if accepted.is_err() {
            stored.zeroize();
        }
        accepted
    }

    /// Checks that the tallies of all chunks together account for every chunk of the signed list once, by the
    /// digests that were really computed.
    ///
    /// # Errors
    /// A chunk was left out, opened twice, or let through by a fault.
    pub fn finish(&self, tally: &Tally) -> Result<Opened, Error> {
        tally.judge(self.table, self.chunk_count)
    }

    fn plain_len(&self, index: u32) -> u32 {
        if index.checked_add(1) == Some(self.chunk_count) { self.last_len } else { self.chunk_size }
    }

    fn entry(&self, index: u32, stored: &[u8]) -> Result<Entry<'a>, Error> {
        let entry = self.table.get(index).filter(|_| index < self.chunk_count);
        let entry = entry.ok_or(Error::NoSuchChunk { index })?;
        if stored.len() != entry.stored_len as usize {
            return Err(Error::ChunkLength { index, found: stored.len() as u32 });
        }
        Ok(entry)
    }

    fn decrypt(
        &self,
        index: u32,
        entry: &Entry<'_>,
        stored: &mut [u8],
        digest: &mut Digest,
    ) -> Result<(), Error> {
        let aad = chunk_aad(index, self.chunk_count, &self.binding);
        self.key
            .open_and_digest(&chunk_nonce(index), &aad, stored, entry.tag, digest)
            .map_err(|_| Error::ChunkTag { index })
    }

    fn accept(
        &self,
        index: u32,
        entry: &Entry<'_>,
        digest: Digest,
        plain: &mut [u8],
    ) -> Result<Tally, Error> {
        if !equal(&digest, entry.digest).accepts() {
            plain.zeroize();
            return Err(Error::ChunkDigest { index });
        }
        let mut tally = Tally::default();
        tally.count(index, &digest);
        Ok(tally)
    }
}

/// The digests of the chunks that were opened, added up: each core keeps its own, [`Opener::finish`] judges
/// the sum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    chunks: u32,
    sum: [u64; 4],
}

impl Tally {
    /// Adds what another call or another core has opened.
    pub fn add(&mut self, other: &Self) {
        self.chunks = self.chunks.wrapping_add(other.chunks);
        self.sum.iter_mut().zip(other.sum).for_each(|(sum, word)| *sum = sum.wrapping_add(word));
    }

    /// Judges whether it accounts for each of so many chunks once.
    pub(crate) fn judge(&self, table: Table<'_>, chunk_count: u32) -> Result<Opened, Error> {
        let mut signed = Self::default();
        (0..).zip(table.entries()).for_each(|(index, entry)| signed.count(index, entry.digest));
        if *self == signed && core::hint::black_box(self.chunks) == chunk_count {
            return Ok(Opened(()));
        }
        Err(Error::Incomplete { opened: self.chunks, expected: chunk_count })
    }

    /// Counts a chunk. What it adds depends on its place, so that a chunk counted twice does not stand for one that is alike.
    fn count(&mut self, index: u32, digest: &Digest) {
        let weight = u64::from(index).wrapping_mul(2).wrapping_add(1);
        self.chunks = self.chunks.wrapping_add(1);
        let (words, _) = digest.as_chunks();
        self.sum
            .iter_mut()
            .zip(words)
            .for_each(|(sum, word)| *sum = sum.wrapping_add(u64::from_le_bytes(*word).wrapping_mul(weight)));
    }
}

/// Evidence that the whole payload was opened and is what was signed.
#[derive(Debug)]
#[must_use]
pub struct Opened(());

/// Returns what is not the digest of a chunk. What an earlier chunk has left there would pass for this one's if both are alike.
fn no_digest(entry: &Entry<'_>) -> Digest {
    core::hint::black_box(entry.digest.map(|byte| !byte))
}

/// The nonce of a chunk: its number. The data key belongs to this sealing alone.
pub(crate) fn chunk_nonce(index: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce.iter_mut().rev().zip(index.to_le_bytes()).for_each(|(to, from)| *to = from);
    nonce
}

/// The associated data of a chunk: number, count, and the digest of manifest and sealing record.
pub(crate) fn chunk_aad(index: u32, count: u32, binding: &Digest) -> [u8; 40] {
    let mut aad = [0; 40];
    let bytes = index.to_le_bytes().into_iter().chain(count.to_le_bytes()).chain(*binding);
    aad.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Kind, Version};
    use boot_crypto::Key;

    /// It is what the place of a digest holds before the chunk is hashed: where a fault leaves it there, nothing compares equal.
    #[test]
    fn what_stands_where_no_digest_is_yet_has_no_bit_of_the_chunks_own() {
        let mut table = [0; crate::ENTRY_BYTES];
        table.iter_mut().zip(0..).for_each(|(byte, value)| *byte = value);
        let entry = Table(&table).get(0).unwrap();
        let none = no_digest(&entry);
        assert!(none.iter().zip(entry.digest).all(|(none, digest)| none ^ digest == 0xFF), "{none:?}");
    }

    /// Nothing of a table that is longer than what was signed is opened, whoever has checked its length before.
    #[test]
    fn a_chunk_past_the_signed_ones_is_none_even_where_the_table_has_it() {
        const SIZE: u32 = 4096;
        let mut table = [0; 3 * crate::ENTRY_BYTES];
        let lengths = table.chunks_exact_mut(crate::ENTRY_BYTES).filter_map(<[u8]>::last_chunk_mut);
        lengths.for_each(|length: &mut [u8; 4]| *length = SIZE.to_le_bytes());
        let manifest = Manifest {
            kind: Kind::Stage2,
            board: "test-board",
            version: Version(1),
            rollback_index: 0,
            load_address: 0,
            entry: 0,
            plain_size: 2 * u64::from(SIZE),
            chunk_size: SIZE,
            plain_digest: &[0; 32],
        };
        let key = GcmKey::new(&Key::new([1; 32]));
        let opener = Opener::new(key, [0; 32], Compression::None, &manifest, Table(&table)).unwrap();
        for (index, expected) in [
            (1, Error::ChunkTag { index: 1 }),
            (2, Error::NoSuchChunk { index: 2 }),
            (3, Error::NoSuchChunk { index: 3 }),
        ] {
            assert_eq!(opener.open_chunk(index, &mut [0; SIZE as usize]), Err(expected));
        }
    }
}
