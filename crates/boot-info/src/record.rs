//! The boot record: what a stage tells the world on UART1, once for each boot.

use minicbor::decode::{Decoder, Error as DecodeError};
use minicbor::encode::write::{Cursor, EndOfSlice};
use minicbor::encode::{Encoder, Error as EncodeError};

use crate::crc::crc32;
use crate::{ImageRecord, List, MAX_IMAGES, MAX_TIMESTAMPS, Timestamp};

/// What a frame starts with.
pub const FRAME_MAGIC: [u8; 4] = *b"KREC";
/// Most bytes that the CBOR of a record can take.
pub const MAX_RECORD: usize = 2048;
/// Most bytes of a frame: magic, length, record and CRC.
pub const MAX_FRAME: usize = 4 + 2 + MAX_RECORD + 4;

const VERSION: u8 = 1;

/// How a boot went, as far as the stages can tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BootRecord {
    /// The refusal code, or 0 if the kernel is entered.
    pub code: u16,
    /// The stage that speaks, a [`Stage`](crate::Stage) number.
    pub stage: u8,
    /// Board name, padded with zeros.
    pub board: [u8; 16],
    /// Lifecycle codeword, as fused; 0 if it could not be read.
    pub lifecycle: u32,
    /// Boot slot: 0 A, 1 B.
    pub slot: u8,
    /// Refusal code of the boot slot that was passed over, 0 for none.
    pub fallback_code: u16,
    /// OS slot: 0 A, 1 B.
    pub os_slot: u8,
    /// Refusal code of the OS slot that was passed over, 0 for none.
    pub os_fallback_code: u16,
    /// Cores that took part.
    pub cores: u8,
    /// Counter frequency in Hz.
    pub counter_hz: u64,
    /// Counter at kernel entry, or when the refusal was made.
    pub end: u64,
    /// Images verified, in the order in which they run.
    pub images: List<ImageRecord, MAX_IMAGES>,
    /// What took how long.
    pub timestamps: List<Timestamp, MAX_TIMESTAMPS>,
}

/// A frame that is no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The CBOR is not that of a record of this version.
    Malformed,
    /// The CRC-32 does not match.
    Crc,
}

impl BootRecord {
    /// Writes the frame into `buffer` and returns it; `None` if `buffer` is smaller than [`MAX_FRAME`].
    pub fn frame<'a>(&self, buffer: &'a mut [u8]) -> Option<&'a [u8]> {
        let (head, rest) = buffer.split_first_chunk_mut::<6>()?;
        let mut cursor = Cursor::new(rest.get_mut(..MAX_RECORD)?);
        self.encode(&mut Encoder::new(&mut cursor)).ok()?;
        let len = cursor.position();
        let (record, tail) = rest.split_at_mut_checked(len)?;
        let [m0, m1, m2, m3] = FRAME_MAGIC;
        let [l0, l1] = u16::try_from(len).ok()?.to_le_bytes();
        *head = [m0, m1, m2, m3, l0, l1];
        *tail.first_chunk_mut::<4>()? = crc32(record).to_le_bytes();
        buffer.get(..len.checked_add(10)?)
    }

    /// Finds the first frame in `bytes` and returns its record with the number of bytes up to its end; `None`
    /// while `bytes` hold no whole frame.
    pub fn find(bytes: &[u8]) -> Option<(Result<Self, Error>, usize)> {
        let start = bytes.windows(4).position(|window| window == FRAME_MAGIC)?;
        let (_, rest) = bytes.split_at_checked(start + 4)?;
        let (len, rest) = rest.split_first_chunk::<2>()?;
        let (record, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*len)))?;
        let crc = rest.first_chunk::<4>()?;
        let used = start + 10 + record.len();
        if crc32(record) != u32::from_le_bytes(*crc) {
            return Some((Err(Error::Crc), used));
        }
        // The one encoding of a record is what a stage sends; a lenient decoder takes others as well.
        let mut buffer = [0; MAX_FRAME];
        let sent = |it: &Self, buffer| {
            Self::frame(it, buffer).is_some_and(|frame| frame.get(6..frame.len() - 4) == Some(record))
        };
        let decoded = Self::decode(&mut Decoder::new(record)).ok().filter(|it| sent(it, &mut buffer));
        Some((decoded.ok_or(Error::Malformed), used))
    }

    fn encode(&self, e: &mut Encoder<&mut Cursor<&mut [u8]>>) -> Result<(), EncodeError<EndOfSlice>> {
        e.array(14)?.u8(VERSION)?.u16(self.code)?.u8(self.stage)?.bytes(&self.board)?;
        e.u32(self.lifecycle)?.u8(self.slot)?.u16(self.fallback_code)?;
        e.u8(self.os_slot)?.u16(self.os_fallback_code)?.u8(self.cores)?;
        e.u64(self.counter_hz)?.u64(self.end)?;
        e.array(self.images.as_slice().len() as u64)?;
        for image in self.images.as_slice() {
            e.array(6)?
                .u8(image.kind)?
                .u64(image.version)?
                .u64(image.stored_bytes)?
                .u64(image.plain_bytes)?;
            e.bytes(&image.plain_digest)?.bytes(&image.measurement)?;
        }
        e.array(self.timestamps.as_slice().len() as u64)?;
        for stamp in self.timestamps.as_slice() {
            e.array(4)?.u8(stamp.stage)?.u8(stamp.step)?.u64(stamp.start)?.u64(stamp.end)?;
        }
        Ok(())
    }

    fn decode(d: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        array(d, 14)?;
        if d.u8()? != VERSION {
            return Err(DecodeError::message("version"));
        }
        let mut record = Self {
            code: d.u16()?,
            stage: d.u8()?,
            board: fixed(d)?,
            lifecycle: d.u32()?,
            slot: d.u8()?,
            fallback_code: d.u16()?,
            os_slot: d.u8()?,
            os_fallback_code: d.u16()?,
            cores: d.u8()?,
            counter_hz: d.u64()?,
            end: d.u64()?,
            ..Self::default()
        };
        for _ in 0..d.array()?.unwrap_or(0) {
            array(d, 6)?;
            let image = ImageRecord {
                kind: d.u8()?,
                version: d.u64()?,
                stored_bytes: d.u64()?,
                plain_bytes: d.u64()?,
                plain_digest: fixed(d)?,
                measurement: fixed(d)?,
            };
            if !record.images.push(image) {
                return Err(DecodeError::message("images"));
            }
        }
        for _ in 0..d.array()?.unwrap_or(0) {
            array(d, 4)?;
            let stamp = Timestamp { stage: d.u8()?, step: d.u8()?, start: d.u64()?, end: d.u64()? };
            if !record.timestamps.push(stamp) {
                return Err(DecodeError::message("timestamps"));
            }
        }
        Ok(record)
    }
}

fn array(d: &mut Decoder<'_>, len: u64) -> Result<(), DecodeError> {
    if d.array()? == Some(len) { Ok(()) } else { Err(DecodeError::message("array")) }
}

fn fixed<const N: usize>(d: &mut Decoder<'_>) -> Result<[u8; N], DecodeError> {
    d.bytes()?.try_into().map_err(|_| DecodeError::message("bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> BootRecord {
        let mut record = BootRecord {
            code: 302,
            board: [b'b'; 16],
            lifecycle: u32::MAX,
            end: u64::MAX,
            ..Default::default()
        };
        let image = ImageRecord {
            kind: 255,
            version: u64::MAX,
            stored_bytes: u64::MAX,
            plain_bytes: u64::MAX,
            plain_digest: [0xFF; 32],
            measurement: [0xFF; 32],
        };
        while record.images.push(image) {}
        while record.timestamps.push(Timestamp { stage: 255, step: 255, start: u64::MAX, end: u64::MAX }) {}
        record
    }

    #[test]
    fn the_largest_record_fits_and_is_read_back_amid_noise() {
        let mut buffer = [0; MAX_FRAME];
        let record = full();
        let frame = record.frame(&mut buffer).unwrap();
        let mut noisy = [b'K'; MAX_FRAME + 8];
        noisy[3..3 + frame.len()].copy_from_slice(frame);
        let (found, used) = BootRecord::find(&noisy).unwrap();
        assert_eq!((found, used), (Ok(record), 3 + frame.len()));
        assert!(BootRecord::find(&noisy[..used - 1]).is_none());
    }

    /// The same values, written as no stage writes them.
    #[test]
    fn a_record_in_another_encoding_is_refused() {
        let record = BootRecord { code: 302, cores: 4, ..Default::default() };
        let mut buffer = [0; MAX_FRAME];
        let frame = record.frame(&mut buffer).unwrap();
        let sound = frame.get(6..frame.len() - 4).unwrap();
        let find = |record: &[u8]| {
            let mut framed = [0; 128];
            framed[..4].copy_from_slice(&FRAME_MAGIC);
            framed[4..6].copy_from_slice(&(record.len() as u16).to_le_bytes());
            framed[6..6 + record.len()].copy_from_slice(record);
            framed[6 + record.len()..10 + record.len()].copy_from_slice(&crc32(record).to_le_bytes());
            BootRecord::find(&framed[..10 + record.len()]).unwrap().0
        };
        assert_eq!(find(sound), Ok(record));
        let mut altered = [0; 80];
        // The version in two bytes, and the empty lists at the end of indefinite length.
        altered[..3].copy_from_slice(&[sound[0], 0x18, 1]);
        altered[3..=sound.len()].copy_from_slice(&sound[2..]);
        assert_eq!(find(&altered[..=sound.len()]), Err(Error::Malformed));
        altered[..sound.len()].copy_from_slice(sound);
        altered[sound.len() - 1..=sound.len()].copy_from_slice(&[0x9F, 0xFF]);
        assert_eq!(find(&altered[..=sound.len()]), Err(Error::Malformed));
        altered[..sound.len()].copy_from_slice(sound);
        assert_eq!(find(&altered[..=sound.len()]), Err(Error::Malformed), "a byte more");
    }

    #[test]
    fn a_damaged_record_is_refused() {
        let mut buffer = [0; MAX_FRAME];
        let len = full().frame(&mut buffer).unwrap().len();
        buffer[len / 2] ^= 1;
        assert_eq!(BootRecord::find(&buffer), Some((Err(Error::Crc), len)));
    }
}
