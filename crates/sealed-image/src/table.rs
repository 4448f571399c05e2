//! The chunk table: for each chunk its tag, the digest of its plaintext, and its stored length.

use boot_crypto::{AES_GCM_TAG_BYTES, DIGEST_BYTES, Digest, Sha256};

/// Length of one entry.
pub const ENTRY_BYTES: usize = AES_GCM_TAG_BYTES + DIGEST_BYTES + 4;

/// One chunk as the table has it.
#[derive(Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) tag: &'a [u8; AES_GCM_TAG_BYTES],
    pub(crate) digest: &'a Digest,
    pub(crate) stored_len: u32,
}

/// The chunk table of an image.
#[derive(Clone, Copy)]
pub(crate) struct Table<'a>(pub(crate) &'a [u8]);

impl<'a> Table<'a> {
    pub(crate) fn entries(self) -> impl Iterator<Item = Entry<'a>> {
        self.0.chunks_exact(ENTRY_BYTES).filter_map(Self::entry)
    }

    pub(crate) fn get(self, index: u32) -> Option<Entry<'a>> {
        let start = usize::try_from(index).ok()?.checked_mul(ENTRY_BYTES)?;
        Self::entry(self.0.get(start..)?)
    }

    fn entry(bytes: &'a [u8]) -> Option<Entry<'a>> {
        let (tag, rest) = bytes.split_first_chunk()?;
        let (digest, rest) = rest.split_first_chunk()?;
        Some(Entry { tag, digest, stored_len: u32::from_le_bytes(*rest.first_chunk()?) })
    }

    /// Returns the length of the payload. A table holds at most 2520 chunks, so this does not overflow.
    pub(crate) fn stored_sum(self) -> u64 {
        self.entries().fold(0, |sum: u64, entry| sum.saturating_add(u64::from(entry.stored_len)))
    }

    /// Hashes the list of digests: what the manifest signs as the plain digest.
    pub(crate) fn plain_digest(self) -> Digest {
        let mut hash = Sha256::new();
        self.entries().for_each(|entry| hash.update(entry.digest));
        hash.finish()
    }
}
