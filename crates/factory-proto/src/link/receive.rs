//! From bytes to frames.

use super::{CRC, CRC_BYTES, DELIMITER, FRAME_VERSION, Frame, HEAD_BYTES, MAX_FRAME};
use crate::Message;
use alloc::vec::Vec;
use cobs::{DecodeResult, DecoderState};

/// Receives frames byte by byte, from a line that may lose, repeat and alter them.
#[derive(Debug, Default)]
pub struct Receiver {
    stuffing: DecoderState,
    frame: Vec<u8>,
    /// More came than a frame holds.
    oversize: bool,
    dropped: u32,
}

impl Receiver {
    /// Starts anywhere in a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next byte and returns the frame that it completes.
    pub fn push(&mut self, byte: u8) -> Option<Frame> {
        match self.stuffing.feed(byte) {
            Ok(DecodeResult::NoData | DecodeResult::DataStart) => None,
            Ok(DecodeResult::DataContinue(byte)) => {
                self.keep(byte);
                None
            }
            Ok(DecodeResult::DataComplete) => self.complete(),
            // A delimiter came too early. The decoder starts anew with it, and so does the frame.
            Err(_) => {
                self.drop_frame();
                None
            }
        }
    }

    /// Returns how many times something else than a frame came between two delimiters; boot records count.
    pub const fn dropped(&self) -> u32 {
        self.dropped
    }

    fn keep(&mut self, byte: u8) {
        if self.frame.len() < MAX_FRAME {
            self.frame.push(byte);
        } else {
            self.oversize = true;
        }
    }

    fn complete(&mut self) -> Option<Frame> {
        let frame = if self.oversize { None } else { parse(&self.frame) };
        if frame.is_some() {
            self.frame.clear();
        } else {
            self.drop_frame();
        }
        frame
    }

    fn drop_frame(&mut self) {
        self.frame.clear();
        self.oversize = false;
        self.dropped = self.dropped.saturating_add(1);
    }
}

/// Parses what lay between two delimiters.
fn parse(untrusted: &[u8]) -> Option<Frame> {
    let (checked, crc) = untrusted.split_last_chunk::<CRC_BYTES>()?;
    if CRC.checksum(checked) != u32::from_le_bytes(*crc) {
        return None;
    }
    let ([version, number, low, high], body) = checked.split_first_chunk::<HEAD_BYTES>()?;
    if *version != FRAME_VERSION {
        return None;
    }
    let message = Message::from_number(*number)?;
    Some(Frame { message, seq: u16::from_le_bytes([*low, *high]), body: body.to_vec() })
}

const _: () = assert!(DELIMITER == 0, "what the stuffing leaves out of a frame");
