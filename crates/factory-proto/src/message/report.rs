//! What the parties tell each other without a signature: it costs availability at most, and nothing is decided by
//! it but when to stop asking.

use super::{MAX_TEXT, Message, decode};
use crate::Error;
use alloc::vec::Vec;
use fail_code::FailCode;
use sealed_image::cbor::{Decode, Reader, encode};

/// No, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal<'a> {
    /// Number of the refusal code.
    pub code: u16,
    /// What the authority adds for people: up to 256 printable ASCII characters, so that it can be shown on a
    /// terminal as it is.
    pub text: &'a str,
}

impl<'a> Refusal<'a> {
    /// Makes a refusal. Of a text that is too long or not printable nothing is kept.
    pub fn new(code: FailCode, text: &'a str) -> Self {
        Self { code: code.number(), text: if is_printable(text) { text } else { "" } }
    }

    /// Encodes the message.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| e.map(2)?.u8(1)?.u16(self.code)?.u8(2)?.str(self.text)?.ok())
    }

    /// Parses the message.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the one encoding of fields within their bounds.
    pub fn decode(untrusted: &'a [u8]) -> Result<Self, Error> {
        decode(Message::Refusal, untrusted)
    }
}

impl<'b> Decode<'b> for Refusal<'b> {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(2)?;
        r.key(1)?;
        let code = r.uint().filter(|code| *code != 0)?;
        r.key(2)?;
        Some(Self { code, text: r.text().filter(|text| is_printable(text))? })
    }
}

fn is_printable(text: &str) -> bool {
    text.len() <= MAX_TEXT && text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

/// Where in a step the device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It begins.
    Begin = 0,
    /// It has ended.
    End = 1,
}

/// A step begins or has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The step: 0 the self-test, then 1 to 8.
    pub step: u8,
    /// Which end of it.
    pub phase: Phase,
    /// Time since power-on in microseconds.
    pub micros: u64,
    /// Bytes that the step has converted so far; of the self-test, bytes of memory that it went through.
    pub bytes: u64,
}

impl Progress {
    /// Encodes the message.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| {
            e.map(4)?.u8(1)?.u8(self.step)?.u8(2)?.u8(self.phase as u8)?;
            e.u8(3)?.u64(self.micros)?.u8(4)?.u64(self.bytes)?.ok()
        })
    }

    /// Parses the message.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the one encoding of fields within their bounds.
    pub fn decode(untrusted: &[u8]) -> Result<Self, Error> {
        decode(Message::Progress, untrusted)
    }
}

impl<'b> Decode<'b> for Progress {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(4)?;
        r.key(1)?;
        let step = r.uint().filter(|step| *step <= 8)?;
        r.key(2)?;
        let phase = match r.uint::<u8>()? {
            0 => Phase::Begin,
            1 => Phase::End,
            _ => return None,
        };
        r.key(3)?;
        let micros = r.uint()?;
        r.key(4)?;
        Some(Self { step, phase, micros, bytes: r.uint()? })
    }
}

/// This is how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// 0 if all is done, else the number of the refusal code.
    pub code: u16,
}

impl Outcome {
    /// Encodes the message.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| e.map(1)?.u8(1)?.u16(self.code)?.ok())
    }

    /// Parses the message.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but the one encoding of the field.
    pub fn decode(untrusted: &[u8]) -> Result<Self, Error> {
        decode(Message::Outcome, untrusted)
    }
}

impl<'b> Decode<'b> for Outcome {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(1)?;
        r.key(1)?;
        Some(Self { code: r.uint()? })
    }
}

/// Somebody listens: a device that waits for an answer asks again at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hello;

impl Hello {
    /// Encodes the message: an empty map.
    pub fn encode(&self) -> Vec<u8> {
        encode(|e| e.map(0)?.ok())
    }

    /// Parses the message.
    ///
    /// # Errors
    /// [`Error::Malformed`] for anything but an empty map.
    pub fn decode(untrusted: &[u8]) -> Result<Self, Error> {
        decode(Message::Hello, untrusted)
    }
}

impl<'b> Decode<'b> for Hello {
    fn decode(r: &mut Reader<'b>) -> Option<Self> {
        r.map(0).map(|()| Self)
    }
}
