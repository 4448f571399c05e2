//! The 64 bytes that an image starts with.

use crate::{Error, table::ENTRY_BYTES};

/// First bytes of every image.
pub const MAGIC: [u8; 8] = *b"KILNIMG1";
/// Format major that this release knows.
pub const MAJOR: u16 = 1;
/// Format minor that this release knows.
pub const MINOR: u16 = 0;
/// Length of the header.
pub const HEADER_BYTES: usize = 64;
/// Longest metadata, header and padding included: what an image may make a reader buffer before any check.
pub const MAX_METADATA: u32 = 128 * 1024;
/// The payload starts at a multiple of this.
pub const PAYLOAD_ALIGN: u32 = 4096;

/// A header whose lengths fit each other. Nothing else is known to be true of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Length of the delegation part.
    pub delegation_len: u32,
    /// Length of the signed manifest.
    pub manifest_len: u32,
    /// Length of the sealing record.
    pub sealing_len: u32,
    /// Number of payload chunks.
    pub chunk_count: u32,
    /// Where the payload starts; also the length of the metadata.
    pub payload_offset: u32,
    /// Length of the payload as stored.
    pub payload_len: u64,
}

impl Header {
    /// Parses and bounds the first 64 bytes of an image; `untrusted` may be longer.
    ///
    /// # Errors
    /// Every deviation from the format, see [`Error`].
    pub fn parse(untrusted: &[u8]) -> Result<Self, Error> {
        let short = Error::Truncated { found: untrusted.len() as u32, expected: HEADER_BYTES as u32 };
        let bytes: &[u8; HEADER_BYTES] = untrusted.first_chunk().ok_or(short)?;
        let (magic, rest) = take::<8>(bytes).ok_or(short)?;
        if magic != MAGIC {
            return Err(Error::Magic);
        }
        let (major, rest) = take::<2>(rest).ok_or(short)?;
        let (minor, rest) = take::<2>(rest).ok_or(short)?;
        let (major, minor) = (u16::from_le_bytes(major), u16::from_le_bytes(minor));
        if (major, minor) != (MAJOR, MINOR) {
            return Err(Error::FormatVersion { major, minor });
        }
        let (delegation_len, rest) = take::<4>(rest).ok_or(short)?;
        let (manifest_len, rest) = take::<4>(rest).ok_or(short)?;
        let (sealing_len, rest) = take::<4>(rest).ok_or(short)?;
        let (chunk_count, rest) = take::<4>(rest).ok_or(short)?;
        let (payload_offset, rest) = take::<4>(rest).ok_or(short)?;
        let (payload_len, reserved) = take::<8>(rest).ok_or(short)?;
        if reserved.iter().any(|byte| *byte != 0) {
            return Err(Error::HeaderReserved);
        }
        let header = Self {
            delegation_len: u32::from_le_bytes(delegation_len),
            manifest_len: u32::from_le_bytes(manifest_len),
            sealing_len: u32::from_le_bytes(sealing_len),
            chunk_count: u32::from_le_bytes(chunk_count),
            payload_offset: u32::from_le_bytes(payload_offset),
            payload_len: u64::from_le_bytes(payload_len),
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), Error> {
        for length in [self.delegation_len, self.manifest_len, self.sealing_len] {
            if length == 0 || length > MAX_METADATA {
                return Err(Error::PartLength { length });
            }
        }
        if self.chunk_count == 0 || self.chunk_count > MAX_METADATA / ENTRY_BYTES as u32 {
            return Err(Error::ChunkCount { found: self.chunk_count });
        }
        // Each term is at most MAX_METADATA, so neither the sum nor the rounding overflows.
        let end = HEADER_BYTES as u32
            + self.delegation_len
            + self.manifest_len
            + self.sealing_len
            + self.chunk_count * ENTRY_BYTES as u32;
        let expected = end.div_ceil(PAYLOAD_ALIGN) * PAYLOAD_ALIGN;
        if self.payload_offset != expected || expected > MAX_METADATA {
            return Err(Error::PayloadOffset { found: self.payload_offset, expected });
        }
        Ok(())
    }

    /// Returns how many bytes of the image come before the payload; at most [`MAX_METADATA`].
    pub const fn metadata_len(&self) -> u32 {
        self.payload_offset
    }

    /// Returns the length of the whole image; `None` if it overflows.
    pub const fn image_len(&self) -> Option<u64> {
        self.payload_len.checked_add(self.payload_offset as u64)
    }

    /// Encodes the header.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let fields: [&[u8]; 9] = [
            &MAGIC,
            &MAJOR.to_le_bytes(),
            &MINOR.to_le_bytes(),
            &self.delegation_len.to_le_bytes(),
            &self.manifest_len.to_le_bytes(),
            &self.sealing_len.to_le_bytes(),
            &self.chunk_count.to_le_bytes(),
            &self.payload_offset.to_le_bytes(),
            &self.payload_len.to_le_bytes(),
        ];
        bytes.iter_mut().zip(fields.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }
}

/// Splits off the first `N` bytes.
fn take<const N: usize>(bytes: &[u8]) -> Option<([u8; N], &[u8])> {
    bytes.split_first_chunk().map(|(first, rest)| (*first, rest))
}
