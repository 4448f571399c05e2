//! Asking until an answer comes.

use super::{Frame, encode};
use crate::{Error, Message, Refusal};
use alloc::vec::Vec;

/// Numbers the questions of a device.
///
/// The first number is random: an answer to a question that was asked before a reset must not look like one to the
/// first question after it. If it does, the message itself is found to be of another session.
#[derive(Debug)]
pub struct Asker {
    next: u16,
}

impl Asker {
    /// Starts with a random number.
    pub const fn new(first: u16) -> Self {
        Self { next: first }
    }

    /// Makes a question, to be sent as often as it takes.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn ask(&mut self, message: Message, body: &[u8]) -> Result<Question, Error> {
        let seq = self.next;
        self.next = self.next.wrapping_add(1);
        Ok(Question { message, seq, frame: encode(message, seq, body)? })
    }

    /// Encodes what wants no answer.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn tell(&mut self, message: Message, body: &[u8]) -> Result<Vec<u8>, Error> {
        self.ask(message, body).map(|question| question.frame)
    }
}

/// A question that is to be answered.
#[derive(Debug)]
pub struct Question {
    message: Message,
    seq: u16,
    frame: Vec<u8>,
}

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The message that answers such a question, still untrusted.
    Message(Vec<u8>),
    /// A refusal: the number of its code. Nobody signed it, so it only says when to stop asking.
    Refused(u16),
    /// Somebody has begun to listen: ask again at once.
    Listening,
}

impl Question {
    /// Returns the frame to send, and to send again.
    pub fn frame(&self) -> &[u8] {
        &self.frame
    }

    /// Takes a frame if it answers this question: of the right kind and with the question's number. All else, an
    /// answer that came twice among it, is `None`.
    pub fn accept(&self, frame: Frame) -> Option<Answer> {
        if frame.message == Message::Hello {
            return Some(Answer::Listening);
        }
        if frame.seq != self.seq {
            return None;
        }
        if frame.message == Message::Refusal {
            return Refusal::decode(&frame.body).ok().map(|refusal| Answer::Refused(refusal.code));
        }
        (Some(frame.message) == self.message.answer()).then_some(Answer::Message(frame.body))
    }
}
