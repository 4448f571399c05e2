//! From one sealing to another, on the device: the copy that a package brought becomes the copy of a place.
//!
//! The facts, their signatures and the digests of the chunks stay as they are; the sealing record and the tags are
//! new. A chunk is opened and sealed again in one call, so that its plaintext exists in the caller's buffer only
//! while the call runs, and what is sealed is what was signed.

use crate::header::{HEADER_BYTES, Header};
use crate::opener::{Chunk, Opened, Opener, Tally, chunk_aad, chunk_nonce};
use crate::sealing::{SEALING_BYTES, seal_record};
use crate::table::ENTRY_BYTES;
use crate::{Compression, Error, VerifiedImage};
use boot_crypto::{AES_GCM_TAG_BYTES, Digest, GcmKey, Key, Sha256};

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

    /// Tells whether every chunk is stored in its plain length, so that [`Resealer::reseal`] takes it.
    pub const fn in_place(&self) -> bool {
        self.opener.in_place()
    }

    /// Opens a chunk and seals it again, in place.
    ///
    /// # Errors
    /// As [`Opener::open_chunk`].
    pub fn reseal(&self, index: u32, stored: &mut [u8]) -> Result<Resealed, Error> {
        let tally = self.opener.open_chunk(index, stored)?;
        self.seal(index, tally, stored)
    }

    /// Opens a chunk that may be compressed and seals its plaintext in `plain`. `stored` may then hold the
    /// compressed plaintext, which the caller wipes.
    ///
    /// # Errors
    /// As [`Opener::open_chunk_into`].
    pub fn reseal_into(&self, index: u32, stored: &mut [u8], plain: &mut [u8]) -> Result<Resealed, Error> {
        let tally = self.opener.open_chunk_into(index, stored, plain)?;
        self.seal(index, tally, plain)
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

    fn seal(&self, index: u32, tally: Tally, plain: &mut [u8]) -> Result<Resealed, Error> {
        let aad = chunk_aad(index, self.header.chunk_count, &self.binding);
        let length = plain.len() as u32;
        let tag = self
            .key
            .seal(&chunk_nonce(index), &aad, plain)
            .ok_or(Error::ChunkLength { index, found: length })?;
        Ok(Resealed { index, tag, tally })
    }
}

/// Writes `part` to the start of `to` and returns what follows it; `None` if it does not fit.
fn write<'b>(to: &'b mut [u8], part: &[u8]) -> Option<&'b mut [u8]> {
    let (place, rest) = to.split_at_mut_checked(part.len())?;
    place.copy_from_slice(part);
    Some(rest)
}
