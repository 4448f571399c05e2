//! The serial link between device and station.
//!
//! # Threats
//!
//! The line loses, repeats and alters bytes, carries boot records of the same device in between, and the other end
//! may send anything. None of that makes the receiver panic, allocate more than a frame holds, or return a frame
//! that was not sent, as far as a CRC-32 tells: it finds noise, it is no authentication, which is the messages' own.
//! After any noise the next delimiter is where the receiver is in step again, and every frame begins with one.
//! A frame that comes twice is returned twice: an [`Asker`] knows which one it waits for, and whoever answers gives
//! the same answer to the same question.

mod ask;
mod exchange;
mod receive;

pub use ask::{Answer, Asker, Question};
pub use exchange::Patience;
pub use receive::Receiver;

use crate::{Error, Message};
use alloc::vec::Vec;

/// Version of the frames, their first byte.
pub const FRAME_VERSION: u8 = 1;
/// Longest message in a frame, in bytes.
pub const MAX_BODY: usize = 8 * 1024;
/// Version, message number, sequence number.
const HEAD_BYTES: usize = 4;
const CRC_BYTES: usize = 4;
/// Longest frame before it is stuffed.
const MAX_FRAME: usize = HEAD_BYTES + MAX_BODY + CRC_BYTES;
/// What frames start and end with.
const DELIMITER: u8 = 0;
/// As in IEEE 802.3, and as boot records have it.
const CRC: crc::Crc<u32, crc::NoTable> = crc::Crc::<u32, crc::NoTable>::new(&crc::CRC_32_ISO_HDLC);

/// A frame as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Which message it holds.
    pub message: Message,
    /// Number of the question; an answer bears that of its question.
    pub seq: u16,
    /// The message, still untrusted.
    pub body: Vec<u8>,
}

impl Frame {
    /// Encodes the frame for the line, delimiters at both ends.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        encode(self.message, self.seq, &self.body)
    }
}

/// Encodes a frame for the line, delimiters at both ends.
///
/// # Errors
/// [`Error::TooLong`].
pub fn encode(message: Message, seq: u16, body: &[u8]) -> Result<Vec<u8>, Error> {
    check_length(message, body)?;
    let [low, high] = seq.to_le_bytes();
    let mut frame = Vec::with_capacity(HEAD_BYTES + body.len() + CRC_BYTES);
    frame.extend([FRAME_VERSION, message.number(), low, high]);
    frame.extend(body);
    let crc = CRC.checksum(&frame);
    frame.extend(crc.to_le_bytes());
    Ok(cobs::encode_vec_including_sentinels(&frame))
}

/// Refuses a message that no frame holds.
pub(crate) fn check_length(message: Message, body: &[u8]) -> Result<(), Error> {
    if body.len() > MAX_BODY {
        return Err(Error::TooLong { message, found: u32::try_from(body.len()).unwrap_or(u32::MAX) });
    }
    Ok(())
}
