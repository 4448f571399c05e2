//! From one sealing to another, on the device: the copy that a package brought becomes the copy of a place.
//!
//! The facts, their signatures and the digests of the chunks stay as they are; the sealing record and the tags are
//! new. A chunk is opened once, for as many copies as there are: an [`OpenChunk`] holds on to the buffer with its
//! plaintext, so that what is sealed is what was signed, and wipes it unless it is sealed.

use crate::header::{HEADER_BYTES, Header};
use crate::opener::{Chunk, Opened, Opener, Tally, chunk_aad, chunk_nonce};
use crate::sealing::{SEALING_BYTES, seal_record};
use crate::table::ENTRY_BYTES;
use crate::{Compression, Error, VerifiedImage};
use boot_crypto::{AES_GCM_TAG_BYTES, Digest, GcmKey, Key, Sha256};
use zeroize::Zeroize;

/// What makes a sealing unlike every other. Both are random and are used for one copy only: a copy that was begun
/// anew, after a power cut for instance, gets new ones.
pub struct Fresh {
    /// Salt of the key that wraps the data key.
    pub salt: [u8; 32],
    /// Data key.
    pub data_key: Key,
}

/// A chunk that was sealed again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resealed {
    /// Number of the chunk, from 0.
    pub index: u32,
    /// Its tag in the new copy.
    pub tag: [u8; AES_GCM_TAG_BYTES],
    /// Evidence for [`Resealer::finish`].
    pub tally: Tally,
}

/// Seals the chunks of one image for another place, in any order and from several cores at once.
pub struct Resealer<'a> {
    opener: Opener<'a>,
    key: GcmKey,
    binding: Digest,
    header: Header,
}

impl<'a> Resealer<'a> {
    /// Begins a new copy of `image`: `from` is the key of the place where it lies, `to` that of the place where it
    /// goes. Writes the new metadata, whose tags are still zero, into `metadata`, which has the length of the old.
    ///
    /// # Errors
    /// What [`VerifiedImage::unwrap_key`] refuses, and a buffer of another length.
    pub fn new(
        image: &VerifiedImage<'a>,
        from: &Key,
        to: &Key,
        fresh: &Fresh,
        metadata: &mut [u8],
    ) -> Result<Self, Error> {
        let opener = image.unwrap_key(from)?;
        let payload_len = image.manifest().plain_size;
        let header = Header { payload_len, sealing_len: SEALING_BYTES as u32, ..*image.header() };
        let expected = header.metadata_len();
        let wrong = Error::Truncated { found: metadata.len() as u32, expected };
        if metadata.len() != expected as usize || image.header().sealing_len != header.sealing_len {
            return Err(wrong);
        }
        let sealing =
            seal_record(Compression::None, &fresh.salt, &fresh.data_key, to, image.manifest_digest());
        let parts: [&[u8]; 4] = [&header.encode(), image.delegation(), image.signed_manifest(), &sealing];
        let mut rest = metadata;
        for part in parts {
            rest = write(rest, part).ok_or(wrong)?;
        }
        for (chunk, digest) in opener.chunks().zip(opener.digests()) {
            let entry: [&[u8]; 3] = [&[0; AES_GCM_TAG_BYTES], digest, &chunk.plain_len.to_le_bytes()];
            for part in entry {
                rest = write(rest, part).ok_or(wrong)?;
            }
        }
        rest.fill(0);

        let mut binding = Sha256::new();
        binding.update(image.signed_manifest());
        binding.update(&sealing);
        Ok(Self { opener, key: GcmKey::new(&fresh.data_key), binding: binding.finish(), header })
    }

    /// Lists where the chunks lie in the old copy, in their order; in the new one a chunk of `plain_len` bytes lies
    /// at `plain_offset` of the payload.
    pub fn chunks(&self) -> impl Iterator<Item = Chunk> {
        self.opener.chunks()
    }

    /// Tells whether every chunk is stored in its plain length, so that [`Resealer::open`] takes it.
    pub const fn in_place(&self) -> bool {
        self.opener.in_place()
    }

    /// Opens a chunk in place.
    ///
    /// # Errors
    /// As [`Opener::open_chunk`].
    pub fn open<'b>(&self, index: u32, stored: &'b mut [u8]) -> Result<OpenChunk<'_, 'a, 'b>, Error> {
        let tally = self.opener.open_chunk(index, stored)?;
        Ok(OpenChunk { resealer: self, index, tally, plain: stored })
    }

    /// Opens a chunk that may be compressed. `stored` may then hold the compressed plaintext, which the caller wipes.
    ///
    /// # Errors
    /// As [`Opener::open_chunk_into`].
    pub fn open_into<'b>(
        &self,
        index: u32,
        stored: &mut [u8],
        plain: &'b mut [u8],
    ) -> Result<OpenChunk<'_, 'a, 'b>, Error> {
        let tally = self.opener.open_chunk_into(index, stored, plain)?;
        Ok(OpenChunk { resealer: self, index, tally, plain })
    }

    /// Writes the tag of a chunk into the new metadata.
    ///
    /// # Errors
    /// There is no such chunk, or `metadata` is not that of this copy.
    pub fn put_tag(&self, metadata: &mut [u8], chunk: &Resealed) -> Result<(), Error> {
        let header = &self.header;
        let table = HEADER_BYTES as u32 + header.delegation_len + header.manifest_len + header.sealing_len;
        let offset = (table as usize).saturating_add((chunk.index as usize).saturating_mul(ENTRY_BYTES));
        let missing = Error::NoSuchChunk { index: chunk.index };
        if chunk.index >= header.chunk_count {
            return Err(missing);
        }
        let place = metadata.get_mut(offset..).and_then(<[u8]>::first_chunk_mut).ok_or(missing)?;
        *place = chunk.tag;
        Ok(())
    }

    /// Checks that every chunk was sealed again once, as [`Opener::finish`] does.
    ///
    /// # Errors
    /// A chunk was left out, sealed twice, or let through by a fault.
    pub fn finish(&self, tally: &Tally) -> Result<Opened, Error> {
        self.opener.finish(tally)
    }

    /// Seals a chunk in place, or wipes it.
    fn seal(&self, index: u32, tally: Tally, plain: &mut [u8]) -> Result<Resealed, Error> {
        let aad = chunk_aad(index, self.header.chunk_count, &self.binding);
        let Some(tag) = self.key.seal(&chunk_nonce(index), &aad, plain) else {
            plain.zeroize();
            return Err(Error::ChunkLength { index, found: plain.len() as u32 });
        };
        Ok(Resealed { index, tag, tally })
    }
}

/// A chunk that was verified and is in the clear, in the caller's buffer. Unless it is sealed it is wiped.
pub struct OpenChunk<'r, 'a, 'b> {
    resealer: &'r Resealer<'a>,
    index: u32,
    tally: Tally,
    plain: &'b mut [u8],
}

impl OpenChunk<'_, '_, '_> {
    /// Seals it for another copy of the same image, in a buffer of its own.
    ///
    /// A copy of another image takes it as well, and [`Resealer::finish`] then refuses that copy.
    ///
    /// # Errors
    /// A buffer of another length. It holds nothing in the clear.
    pub fn seal_copy(&self, other: &Resealer<'_>, sealed: &mut [u8]) -> Result<Resealed, Error> {
        if sealed.len() != self.plain.len() {
            return Err(Error::ChunkLength { index: self.index, found: sealed.len() as u32 });
        }
        sealed.copy_from_slice(self.plain);
        other.seal(self.index, self.tally, sealed)
    }

    /// Seals it where it lies, for the copy that it was opened for.
    ///
    /// # Errors
    /// None in practice: no chunk is as long as what a key may encrypt.
    pub fn seal(mut self) -> Result<Resealed, Error> {
        self.resealer.seal(self.index, self.tally, core::mem::take(&mut self.plain))
    }
}

impl Drop for OpenChunk<'_, '_, '_> {
    fn drop(&mut self) {
        self.plain.zeroize();
    }
}

/// Writes `part` to the start of `to` and returns what follows it; `None` if it does not fit.
fn write<'b>(to: &'b mut [u8], part: &[u8]) -> Option<&'b mut [u8]> {
    let (place, rest) = to.split_at_mut_checked(part.len())?;
    place.copy_from_slice(part);
    Some(rest)
}
