//! A question over a serial line, until it is answered.

use super::{Answer, Question, Receiver};
use hal::{Clock, Console, Receive};

/// How long to wait, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For an answer at all.
    pub give_up: u64,
    /// Before the question is sent again.
    pub again: u64,
}

impl Question {
    /// Sends the question again and again until an answer comes, an [`Answer::Message`] or an [`Answer::Refused`];
    /// `None` if none comes in time.
    pub fn exchange(
        &self,
        link: &mut (impl Console + Receive),
        clock: &impl Clock,
        patience: Patience,
    ) -> Option<Answer> {
        let ticks = |seconds: u64| clock.hz().saturating_mul(seconds);
        let give_up = clock.now().saturating_add(ticks(patience.give_up));
        let mut receiver = Receiver::new();
        loop {
            link.write(self.frame());
            let again = clock.now().saturating_add(ticks(patience.again)).min(give_up);
            loop {
                let now = clock.now();
                if now >= give_up {
                    return None;
                }
                if now >= again {
                    break;
                }
                let frame = link.receive().and_then(|byte| receiver.push(byte));
                match frame.and_then(|frame| self.accept(frame)) {
                    Some(Answer::Listening) => break,
                    Some(answer) => return Some(answer),
                    None => {}
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::link::{Asker, encode};
    use crate::{Hello, Message};
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;
    use core::cell::Cell;

    /// A clock of 1000 Hz that goes on by one whenever it is looked at.
    struct Ticking(Cell<u64>);

    impl Clock for Ticking {
        fn now(&self) -> u64 {
            self.0.set(self.0.get() + 1);
            self.0.get()
        }
        fn hz(&self) -> u64 {
            1000
        }
    }

    /// Counts what is sent, and answers the question number `answers_at`.
    struct Line {
        sent: usize,
        answers_at: usize,
        answer: Vec<u8>,
        arriving: VecDeque<u8>,
    }

    impl Console for Line {
        fn write(&mut self, _: &[u8]) {
            self.sent += 1;
            if self.sent == self.answers_at {
                self.arriving.extend(&self.answer);
            }
        }
    }

    impl Receive for Line {
        fn receive(&mut self) -> Option<u8> {
            self.arriving.pop_front()
        }
    }

    fn run(answers_at: usize, answer: Vec<u8>) -> (Option<Answer>, usize) {
        let question = Asker::new(7).ask(Message::ClosingProof, b"proof").unwrap();
        let mut line = Line { sent: 0, answers_at, answer, arriving: VecDeque::new() };
        let patience = Patience { give_up: 10, again: 1 };
        (question.exchange(&mut line, &Ticking(Cell::new(0)), patience), line.sent)
    }

    #[test]
    fn a_question_is_asked_again_until_it_is_answered() {
        let answer = encode(Message::Release, 7, b"release").unwrap();
        assert_eq!(run(3, answer), (Some(Answer::Message(b"release".to_vec())), 3));
    }

    #[test]
    fn an_answer_to_another_question_is_none_and_silence_ends() {
        let stale = encode(Message::Release, 6, b"release").unwrap();
        for answer in [stale, Vec::new()] {
            let (answer, sent) = run(1, answer);
            assert_eq!(answer, None);
            assert!((9..=11).contains(&sent), "{sent}");
        }
    }

    #[test]
    fn somebody_who_begins_to_listen_is_asked_at_once() {
        let hello = encode(Message::Hello, 0, &Hello.encode()).unwrap();
        assert_eq!(run(1, hello).1, run(1, Vec::new()).1 + 1);
    }
}
