//! The `BootInfo`: its wire form, private to this module, and the typed view.

use core::mem::{offset_of, size_of};

use boot_crypto::{Decision, equal};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

use crate::{ImageRecord, List, MAX_IMAGES, MAX_TIMESTAMPS, Timestamp};

const MAGIC: [u8; 8] = *b"KILNBOOT";
const MAJOR: u16 = 1;
const MINOR: u16 = 0;

/// The owner root slots, as fused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RootSlots {
    /// SHA-256 of each slot's root key, zero where the slot holds none.
    pub digests: [[u8; 32]; 4],
    /// Bit n: slot n is valid.
    pub valid: u8,
    /// Bit n: slot n is revoked.
    pub revoked: u8,
}

/// What one stage tells the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BootInfo {
    /// Board name, padded with zeros.
    pub board: [u8; 16],
    /// Lifecycle codeword, as fused.
    pub lifecycle: u32,
    /// Why the system was reset: 0 unknown, 1 power-on, 2 reset.
    pub reset_reason: u32,
    /// Boot slot the running stage came from: 0 A, 1 B.
    pub slot: u8,
    /// Refusal code of the slot that was passed over, 0 for none.
    pub fallback_code: u16,
    /// Counter frequency in Hz.
    pub counter_hz: u64,
    /// Chip id, as fused.
    pub chip_id: [u8; 16],
    /// Rollback floors by role number; entry 0 is reserved and 0.
    pub floors: [u32; 8],
    /// Owner root slots, as fused.
    pub roots: RootSlots,
    /// Images verified so far, in the order in which they run.
    pub images: List<ImageRecord, MAX_IMAGES>,
    /// Timestamps so far.
    pub timestamps: List<Timestamp, MAX_TIMESTAMPS>,
}

/// Why a handoff is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The bytes are fewer than a `BootInfo`.
    Short,
    /// The magic is not that of a `BootInfo`.
    Magic,
    /// The version or the total size is unknown; the major version is named.
    Version(u16),
    /// A reserved or unused field is not zero, or a count is out of bounds.
    Reserved,
    /// The digest does not match.
    Digest,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
struct WireImage {
    kind: u8,
    reserved: [u8; 7],
    version: u64,
    stored_bytes: u64,
    plain_bytes: u64,
    plain_digest: [u8; 32],
    measurement: [u8; 32],
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Clone, Copy)]
#[repr(C)]
struct WireTimestamp {
    stage: u8,
    step: u8,
    reserved: [u8; 6],
    start: u64,
    end: u64,
}

#[derive(FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
struct Wire {
    magic: [u8; 8],
    major: u16,
    minor: u16,
    total_size: u32,
    board: [u8; 16],
    lifecycle: u32,
    reset_reason: u32,
    slot: u8,
    images_len: u8,
    timestamps_len: u8,
    reserved0: u8,
    fallback_code: u16,
    reserved1: u16,
    counter_hz: u64,
    chip_id: [u8; 16],
    floors: [u32; 8],
    root_digests: [[u8; 32]; 4],
    root_bits: u32,
    reserved2: u32,
    images: [WireImage; MAX_IMAGES],
    timestamps: [WireTimestamp; MAX_TIMESTAMPS],
    digest: [u8; 32],
}

const _: () = {
    assert!(cfg!(target_endian = "little"));
    assert!(offset_of!(Wire, major) == 8);
    assert!(offset_of!(Wire, board) == 16);
    assert!(offset_of!(Wire, lifecycle) == 32);
    assert!(offset_of!(Wire, slot) == 40);
    assert!(offset_of!(Wire, fallback_code) == 44);
    assert!(offset_of!(Wire, counter_hz) == 48);
    assert!(offset_of!(Wire, chip_id) == 56);
    assert!(offset_of!(Wire, floors) == 72);
    assert!(offset_of!(Wire, root_digests) == 104);
    assert!(offset_of!(Wire, root_bits) == 232);
    assert!(offset_of!(Wire, images) == 240);
    assert!(size_of::<WireImage>() == 96);
    assert!(offset_of!(Wire, timestamps) == 1008);
    assert!(size_of::<WireTimestamp>() == 24);
    assert!(offset_of!(Wire, digest) == 1776);
    assert!(size_of::<Wire>() == BootInfo::SIZE);
};

/// Where the number of timestamps lies, one byte.
const COUNT: usize = offset_of!(Wire, timestamps_len);

impl BootInfo {
    /// Length of the wire form in bytes.
    pub const SIZE: usize = 1808;

    /// Writes the wire form, digest included, to the start of `into`; false if it does not fit.
    #[must_use]
    pub fn write(&self, into: &mut [u8]) -> bool {
        let Some((place, _)) = into.split_first_chunk_mut::<{ Self::SIZE }>() else { return false };
        let Ok(wire) = Wire::mut_from_bytes(place) else { return false };
        *wire = self.to_wire();
        let Some((body, _)) = wire.as_bytes().split_last_chunk::<32>() else { return false };
        wire.digest = boot_crypto::sha256(body);
        true
    }

    /// Tells whether two wire forms say the same of everything but the time that it took.
    pub fn confirms(written: &[u8], again: &[u8]) -> Decision {
        const PART: usize = offset_of!(Wire, timestamps);
        let (Some(written), Some(again)) = (written.first_chunk::<PART>(), again.first_chunk::<PART>())
        else {
            return Decision::REFUSE;
        };
        // What comes before the number of timestamps, and what lies between it and them.
        let (before, [_, after @ ..]) = written.split_at(COUNT) else { return Decision::REFUSE };
        let (before_again, [_, after_again @ ..]) = again.split_at(COUNT) else { return Decision::REFUSE };
        equal(before, before_again).and(equal(after, after_again))
    }

    /// Reads and checks the wire form at the start of `from`.
    ///
    /// # Errors
    /// An [`Error`] that names the first check that failed.
    pub fn read(from: &[u8]) -> Result<Self, Error> {
        let bytes = from.first_chunk::<{ Self::SIZE }>().ok_or(Error::Short)?;
        let wire = Wire::read_from_bytes(bytes).map_err(|_| Error::Short)?;
        if wire.magic != MAGIC {
            return Err(Error::Magic);
        }
        if (wire.major, wire.minor, wire.total_size) != (MAJOR, MINOR, Self::SIZE as u32) {
            return Err(Error::Version(wire.major));
        }
        let (body, digest) = bytes.split_last_chunk::<32>().ok_or(Error::Short)?;
        if boot_crypto::sha256(body) != *digest {
            return Err(Error::Digest);
        }
        Self::from_wire(&wire).ok_or(Error::Reserved)
    }

    fn to_wire(&self) -> Wire {
        let mut wire = Wire {
            magic: MAGIC,
            major: MAJOR,
            minor: MINOR,
            total_size: Self::SIZE as u32,
            board: self.board,
            lifecycle: self.lifecycle,
            reset_reason: self.reset_reason,
            slot: self.slot,
            images_len: self.images.as_slice().len() as u8,
            timestamps_len: self.timestamps.as_slice().len() as u8,
            reserved0: 0,
            fallback_code: self.fallback_code,
            reserved1: 0,
            counter_hz: self.counter_hz,
            chip_id: self.chip_id,
            floors: self.floors,
            root_digests: self.roots.digests,
            root_bits: u32::from(self.roots.valid) | (u32::from(self.roots.revoked) << 8),
            reserved2: 0,
            images: <[WireImage; MAX_IMAGES]>::new_zeroed(),
            timestamps: <[WireTimestamp; MAX_TIMESTAMPS]>::new_zeroed(),
            digest: [0; 32],
        };
        for (to, from) in wire.images.iter_mut().zip(self.images.as_slice()) {
            *to = WireImage {
                kind: from.kind,
                reserved: [0; 7],
                version: from.version,
                stored_bytes: from.stored_bytes,
                plain_bytes: from.plain_bytes,
                plain_digest: from.plain_digest,
                measurement: from.measurement,
            };
        }
        for (to, from) in wire.timestamps.iter_mut().zip(self.timestamps.as_slice()) {
            *to = WireTimestamp {
                stage: from.stage,
                step: from.step,
                reserved: [0; 6],
                start: from.start,
                end: from.end,
            };
        }
        wire
    }

    /// Returns `None` where a count is out of bounds, or a field is set that is reserved or not used.
    fn from_wire(wire: &Wire) -> Option<Self> {
        let [valid, revoked, ..] = wire.root_bits.to_le_bytes();
        if (valid | revoked) & 0xF0 != 0 {
            return None;
        }
        let mut images = List::new();
        for from in wire.images.get(..usize::from(wire.images_len))? {
            images.push(ImageRecord {
                kind: from.kind,
                version: from.version,
                stored_bytes: from.stored_bytes,
                plain_bytes: from.plain_bytes,
                plain_digest: from.plain_digest,
                measurement: from.measurement,
            });
        }
        let mut timestamps = List::new();
        for from in wire.timestamps.get(..usize::from(wire.timestamps_len))? {
            timestamps.push(Timestamp {
                stage: from.stage,
                step: from.step,
                start: from.start,
                end: from.end,
            });
        }
        let info = Self {
            board: wire.board,
            lifecycle: wire.lifecycle,
            reset_reason: wire.reset_reason,
            slot: wire.slot,
            fallback_code: wire.fallback_code,
            counter_hz: wire.counter_hz,
            chip_id: wire.chip_id,
            floors: wire.floors,
            roots: RootSlots { digests: wire.root_digests, valid, revoked },
            images,
            timestamps,
        };
        // Whatever has no place in it comes out as zeros.
        let again = Wire { digest: wire.digest, ..info.to_wire() };
        (again.as_bytes() == wire.as_bytes()).then_some(info)
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;

    fn sample() -> BootInfo {
        let mut info = BootInfo {
            board: *b"qemu-virt\0\0\0\0\0\0\0",
            lifecycle: 0x1234_5678,
            reset_reason: 1,
            slot: 1,
            fallback_code: 302,
            counter_hz: 62_500_000,
            chip_id: [7; 16],
            floors: [0, 1, 2, 3, 4, 5, 6, 0],
            roots: RootSlots { digests: [[1; 32], [0; 32], [0; 32], [0; 32]], valid: 1, revoked: 2 },
            images: List::new(),
            timestamps: List::new(),
        };
        for kind in 0..8 {
            let image = ImageRecord { kind, version: 1, plain_digest: [kind; 32], ..Default::default() };
            assert!(info.images.push(image));
        }
        assert!(info.timestamps.push(Timestamp { stage: 0, step: 1, start: 2, end: 3 }));
        info
    }

    fn written(info: &BootInfo) -> [u8; BootInfo::SIZE] {
        let mut bytes = [0; BootInfo::SIZE];
        assert!(info.write(&mut bytes));
        bytes
    }

    /// Sets a byte and makes the digest right again.
    fn altered(offset: usize, value: u8) -> [u8; BootInfo::SIZE] {
        let mut bytes = written(&sample());
        bytes[offset] = value;
        let digest = boot_crypto::sha256(&bytes[..BootInfo::SIZE - 32]);
        bytes[BootInfo::SIZE - 32..].copy_from_slice(&digest);
        bytes
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(BootInfo::read(&written(&sample())), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_is_refused() {
        let good = written(&sample());
        for bit in 0..BootInfo::SIZE * 8 {
            let mut bad = good;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(BootInfo::read(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_same_but_for_timestamps_is_confirmed_and_nothing_else() {
        let good = written(&sample());
        let mut later = sample();
        assert!(later.timestamps.push(Timestamp { stage: 0, step: 2, start: 3, end: 4 }));
        assert!(BootInfo::confirms(&written(&later), &good).accepts());
        for at in (0..1008).filter(|at| *at != 42) {
            let mut other = good;
            other[at] ^= 1;
            assert!(!BootInfo::confirms(&good, &other).accepts(), "byte {at}");
        }
        assert!(!BootInfo::confirms(&good, &good[..1007]).accepts());
        assert!(!BootInfo::confirms(&[], &[]).accepts());
    }

    #[test]
    fn unknown_versions_sizes_counts_and_reserved_bits_are_refused() {
        assert_eq!(BootInfo::read(&altered(0, b'X')), Err(Error::Magic));
        assert_eq!(BootInfo::read(&altered(8, 2)), Err(Error::Version(2)));
        assert_eq!(BootInfo::read(&altered(10, 1)), Err(Error::Version(1)));
        assert_eq!(BootInfo::read(&altered(12, 0)), Err(Error::Version(1)));
        // The last three lie in a timestamp and an image that are not used.
        for offset in [43, 46, 47, 234, 236, 241, 1010, 1008 + 24, 1775] {
            assert_eq!(BootInfo::read(&altered(offset, 1)), Err(Error::Reserved), "offset {offset}");
        }
        assert_eq!(BootInfo::read(&altered(41, 9)), Err(Error::Reserved));
        assert_eq!(BootInfo::read(&altered(42, 33)), Err(Error::Reserved));
        assert_eq!(BootInfo::read(&[0; BootInfo::SIZE - 1]), Err(Error::Short));
        assert!(!sample().write(&mut [0; BootInfo::SIZE - 1]));
    }
}
