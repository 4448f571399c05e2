//! How far closing has come, in NOR flash: what stage1 leaves for the first production boot.

use crate::crc::crc32c;

const MAGIC: [u8; 8] = *b"KILNCLOS";

/// The install that a device proves closed, and whether that is done.
///
/// Whoever writes the flash writes this as well. He makes stage0 sign a statement about the boot that it does anyway,
/// with an install id of his choice, which the authority compares with its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosingState {
    /// The install.
    pub install: [u8; 32],
    /// The authority has acknowledged that the device is closed.
    pub acknowledged: bool,
}

impl ClosingState {
    /// Bytes from the start of the region that [`parse`](Self::parse) looks at.
    pub const SIZE: usize = 68;
    /// Where the marker lies, from the start of the region.
    pub const MARKER_OFFSET: u64 = 64;
    /// What the marker is once the authority has acknowledged; it is programmed last. Everything else, a marker that
    /// is half programmed too, stands for a closing that is pending.
    pub const ACKNOWLEDGED: [u8; 4] = [0; 4];
    /// Bytes of the record at the start of the region.
    const RECORD_BYTES: usize = 44;

    /// Encodes the record of an install, for the start of an erased region; the marker stays erased.
    pub fn encode(install: &[u8; 32]) -> [u8; Self::RECORD_BYTES] {
        let mut record = [0; Self::RECORD_BYTES];
        record.iter_mut().zip(MAGIC.iter().chain(install)).for_each(|(to, from)| *to = *from);
        let crc = record.split_last_chunk::<4>().map_or(0, |(body, _)| crc32c(body));
        record
            .iter_mut()
            .skip(MAGIC.len() + install.len())
            .zip(crc.to_le_bytes())
            .for_each(|(to, b)| *to = b);
        record
    }

    /// Reads the start of the region; `None` if it holds no whole record.
    pub fn parse(untrusted: &[u8; Self::SIZE]) -> Option<Self> {
        let (body, rest) = untrusted.split_first_chunk::<{ MAGIC.len() + 32 }>()?;
        let install = body.strip_prefix(&MAGIC)?.try_into().ok()?;
        let crc = rest.first_chunk()?;
        (crc32c(body) == u32::from_le_bytes(*crc))
            .then(|| Self { install, acknowledged: untrusted.ends_with(&Self::ACKNOWLEDGED) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(install: &[u8; 32]) -> [u8; ClosingState::SIZE] {
        let mut region = [0xFF; ClosingState::SIZE];
        region[..44].copy_from_slice(&ClosingState::encode(install));
        region
    }

    #[test]
    fn a_record_is_pending_until_its_marker_is_programmed_whole() {
        let mut region = region(&[7; 32]);
        let pending = ClosingState { install: [7; 32], acknowledged: false };
        assert_eq!(ClosingState::parse(&region), Some(pending));
        for byte in 64..68 {
            assert_eq!(ClosingState::parse(&region), Some(pending), "{byte}");
            region[byte] = 0;
        }
        assert_eq!(ClosingState::parse(&region), Some(ClosingState { acknowledged: true, ..pending }));
    }

    #[test]
    fn erased_torn_and_altered_records_are_none() {
        assert_eq!(ClosingState::parse(&[0xFF; ClosingState::SIZE]), None);
        assert_eq!(ClosingState::parse(&[0; ClosingState::SIZE]), None);
        let whole = region(&[7; 32]);
        for torn in 0..44 {
            let mut bad = whole;
            bad[torn..44].fill(0xFF);
            assert_eq!(ClosingState::parse(&bad), None, "{torn} bytes were written");
        }
        for bit in 0..44 * 8 {
            let mut bad = whole;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(ClosingState::parse(&bad), None, "bit {bit}");
        }
    }
}
