//! The signed facts about a payload.

#[cfg(feature = "host")]
use crate::cbor;
use crate::cbor::{Decode, Reader};
use crate::{Error, Kind, Version};
use boot_crypto::{Digest, Sha256, sha256};

/// Longest name of a board, in bytes.
pub const MAX_NAME: usize = 32;
/// Smallest chunk size.
pub const MIN_CHUNK: u32 = 4 * 1024;
/// Largest chunk size.
pub const MAX_CHUNK: u32 = 1024 * 1024;

/// What the owner's role signed about a payload. All sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Manifest<'a> {
    /// What the payload is.
    pub kind: Kind,
    /// The board that it was made for.
    pub board: &'a str,
    /// Its version, for people and delegations.
    pub version: Version,
    /// Compared with the fused floor of the role.
    pub rollback_index: u32,
    /// Physical address where the payload goes; 0 where the reader chooses.
    pub load_address: u64,
    /// Physical address of the first instruction; 0 for what is not code.
    pub entry: u64,
    /// Length of the payload.
    pub plain_size: u64,
    /// Length of every chunk but the last, which holds the rest.
    pub chunk_size: u32,
    /// SHA-256 of the concatenated SHA-256 digests of the chunks.
    pub plain_digest: &'a Digest,
}

/// Computes the plain digest of a payload that is cut into chunks of so many bytes: see [`Manifest::plain_digest`].
pub fn plain_digest(plain: &[u8], chunk_size: u32) -> Digest {
    let mut list = Sha256::new();
    let mut rest = plain;
    while let Some((chunk, behind)) = rest.split_at_checked(rest.len().min(chunk_size as usize))
        && !chunk.is_empty()
    {
        list.update(&sha256(chunk));
        rest = behind;
    }
    list.finish()
}

impl Manifest<'_> {
    /// Returns how many chunks the sizes give.
    pub fn chunk_count(&self) -> u64 {
        self.plain_size.div_ceil(u64::from(self.chunk_size.max(1)))
    }

    /// Checks what can be checked without knowing the board.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if !self.chunk_size.is_power_of_two() || !(MIN_CHUNK..=MAX_CHUNK).contains(&self.chunk_size) {
            return Err(Error::ChunkSize { found: self.chunk_size });
        }
        let outside = Error::LoadRange;
        self.load_address.checked_add(self.plain_size).ok_or(outside)?;
        let entry_fits = if self.kind.executable() {
            // Instructions are whole words, and the first one lies in the payload whole.
            let first = self.entry.checked_sub(self.load_address);
            let behind = first.and_then(|first| first.checked_add(4));
            (self.load_address | self.entry).is_multiple_of(4)
                && behind.is_some_and(|behind| behind <= self.plain_size)
        } else {
            self.entry == 0
        };
        if self.plain_size == 0 || !entry_fits {
            return Err(outside);
        }
        Ok(())
    }
}

impl<'b> Decode<'b> for Manifest<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(9)?;
        r.key(1)?;
        let kind = Kind::from_number(r.uint()?)?;
        r.key(2)?;
        let board = r.name()?;
        r.key(3)?;
        let version = Version(r.uint()?);
        r.key(4)?;
        let rollback_index = r.uint()?;
        r.key(5)?;
        let load_address = r.uint()?;
        r.key(6)?;
        let entry = r.uint()?;
        r.key(7)?;
        let plain_size = r.uint()?;
        r.key(8)?;
        let chunk_size = r.uint()?;
        r.key(9)?;
        let plain_digest = r.fixed()?;
        Some(Self {
            kind,
            board,
            version,
            rollback_index,
            load_address,
            entry,
            plain_size,
            chunk_size,
            plain_digest,
        })
    }
}

#[cfg(feature = "host")]
impl Manifest<'_> {
    /// Encodes the manifest.
    pub(crate) fn encode(&self) -> std::vec::Vec<u8> {
        cbor::encode(|e| {
            e.map(9)?.u8(1)?.u8(self.kind.number())?;
            e.u8(2)?.str(self.board)?;
            e.u8(3)?.u64(self.version.0)?;
            e.u8(4)?.u32(self.rollback_index)?;
            e.u8(5)?.u64(self.load_address)?;
            e.u8(6)?.u64(self.entry)?;
            e.u8(7)?.u64(self.plain_size)?;
            e.u8(8)?.u32(self.chunk_size)?;
            e.u8(9)?.bytes(self.plain_digest)?.ok()
        })
    }
}
