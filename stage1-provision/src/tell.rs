//! What the stage tells the station and a person, and how it asks.
//!
//! # Threats
//! *The station, and whoever holds its wire, sends anything at any time, or nothing.* What comes is looked at only while a
//! question is open, in frames of bounded length; an answer counts if it bears the question's number, and what it says is
//! verified elsewhere. Nobody can hold the device for longer than [`PATIENCE`] with one question.

use alloc::vec::Vec;
use core::fmt::{self, Write};

use boot_info::record::{BootRecord, MAX_FRAME};
use boot_info::{Stage, Timestamp};
use factory_proto::link::{Answer, Asker, Patience};
use factory_proto::{Message, Outcome, Phase, Progress};
use fail_code::FailCode;
use hal::{Clock as _, Console};

use crate::Error;
use crate::hardware::{Board, Hardware};
use crate::machine::{Entry, Operation, Step};
use crate::run::End;
use crate::self_test::Tested;

/// How long one question may take.
const PATIENCE: Patience = Patience { give_up: 60, again: 1 };

/// The voice of the stage.
pub(crate) struct Teller<'r> {
    record: &'r mut BootRecord,
    asker: Asker,
    /// The step under way, and the counter when it began.
    step: Step,
    began: u64,
    /// Bytes that it has converted, or tested.
    bytes: u64,
}

/// The names of steps in boot records.
const fn recorded(step: Step) -> boot_info::Step {
    match step {
        Step::SelfTest => boot_info::Step::SelfTest,
        Step::ProvePlace => boot_info::Step::ProvePlace,
        Step::Ask => boot_info::Step::Ask,
        Step::BeBorn => boot_info::Step::BeBorn,
        Step::ReKey => boot_info::Step::ReKey,
        Step::Identity => boot_info::Step::Identity,
        Step::Replace => boot_info::Step::Replace,
        Step::CheckAndFuse => boot_info::Step::CheckAndFuse,
        Step::ProveClosed => boot_info::Step::ProveClosed,
    }
}

impl<'r> Teller<'r> {
    pub(crate) fn new(record: &'r mut BootRecord, now: u64) -> Self {
        // Not random yet: the first question is numbered once there is a generator.
        Self { record, asker: Asker::new(now as u16), step: Step::SelfTest, began: now, bytes: 0 }
    }

    /// Numbers the questions from here on.
    pub(crate) fn number_from(&mut self, first: u16) {
        self.asker = Asker::new(first);
    }

    /// Tells that a step begins.
    pub(crate) fn begin<H: Hardware>(&mut self, board: &mut Board<'_, H>, step: Step) {
        self.step = step;
        self.began = board.clock.now();
        self.bytes = 0;
        self.progress(board, Phase::Begin);
        line(board.console, format_args!("{}", step.name()));
    }

    /// Tells that a step is done.
    pub(crate) fn end<H: Hardware>(&mut self, board: &mut Board<'_, H>, step: Step) {
        self.step = step;
        self.progress(board, Phase::End);
        self.stamp(board.clock.now());
    }

    /// Records what the self-test has looked at.
    pub(crate) fn tested<H: Hardware>(&mut self, board: &mut Board<'_, H>, tested: &Tested) {
        let Tested { known_answers, memory, flash, samples } = tested;
        self.converted(*memory);
        line(
            board.console,
            format_args!(
                "tested: timer, {known_answers} known answers, {memory} bytes of memory, flash of {} bytes in blocks of \
                 {}, {samples} samples of entropy",
                flash.size, flash.erase_block,
            ),
        );
    }

    /// Counts bytes that the step has converted or tested.
    pub(crate) fn converted(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Tells a person why an operation failed, in full.
    pub(crate) fn failed<H: Hardware>(
        &mut self,
        board: &mut Board<'_, H>,
        operation: Operation,
        error: &Error,
    ) {
        line(board.console, format_args!("{operation:?}: {} ({error:?})", error.code()));
    }

    /// Tells a person why an entry is not in the journal.
    pub(crate) fn not_recorded<H: Hardware>(
        &mut self,
        board: &mut Board<'_, H>,
        entry: Entry,
        error: &Error,
    ) {
        line(board.console, format_args!("{entry:?}: {} ({error:?})", error.code()));
    }

    /// Tells that all is done.
    pub(crate) fn closed<H: Hardware>(&mut self, board: &mut Board<'_, H>) {
        self.outcome(board, 0);
        line(board.console, format_args!("closed: resetting into production"));
    }

    /// Tells that it ends with a refusal, and sends the record of this boot.
    pub(crate) fn refused<H: Hardware>(&mut self, board: &mut Board<'_, H>, code: FailCode) {
        self.stamp(board.clock.now());
        self.outcome(board, code.number());
        refuse(board.console, board.link, self.record, code, board.clock.now());
    }

    /// Asks until the answer is there.
    pub(crate) fn ask<H: Hardware>(
        &mut self,
        board: &mut Board<'_, H>,
        message: Message,
        body: &[u8],
    ) -> Result<Vec<u8>, Error> {
        let question = self.asker.ask(message, body)?;
        match question.exchange(board.link, board.clock, PATIENCE) {
            Some(Answer::Message(answer)) => Ok(answer),
            Some(Answer::Refused(code)) => Err(Error::Refused { code }),
            Some(Answer::Listening) | None => Err(Error::NoAnswer),
        }
    }

    fn progress<H: Hardware>(&mut self, board: &mut Board<'_, H>, phase: Phase) {
        let ticks = u128::from(board.clock.now()).saturating_mul(1_000_000);
        let micros = ticks.checked_div(u128::from(board.clock.hz())).unwrap_or_default() as u64;
        let progress = Progress { step: self.step.number(), phase, micros, bytes: self.bytes };
        self.tell(board, Message::Progress, &progress.encode());
    }

    fn outcome<H: Hardware>(&mut self, board: &mut Board<'_, H>, code: u16) {
        self.tell(board, Message::Outcome, &Outcome { code }.encode());
    }

    fn tell<H: Hardware>(&mut self, board: &mut Board<'_, H>, message: Message, body: &[u8]) {
        // Only a message of more than 8 KiB has no frame.
        if let Ok(frame) = self.asker.tell(message, body) {
            board.link.write(&frame);
        }
    }

    /// Takes the time of the step under way.
    fn stamp(&mut self, now: u64) {
        let step = recorded(self.step) as u8;
        // A list that is full loses later timestamps, which only reports read.
        self.record.timestamps.push(Timestamp {
            stage: Stage::Stage1 as u8,
            step,
            start: self.began,
            end: now,
        });
        self.began = now;
    }
}

/// Tells why the stage cannot begin.
pub fn not_taken<H: Hardware>(board: &mut Board<'_, H>, error: &Error, record: &mut BootRecord) -> End {
    let code = error.code();
    line(board.console, format_args!("handoff: {code} ({error:?})"));
    refuse(board.console, board.link, record, code, board.clock.now());
    End::Refused(code)
}

/// Tells both that the stage ends in a refusal: the last thing that it does before it stops.
pub fn refuse(
    console: &mut impl Console,
    link: &mut impl Console,
    record: &mut BootRecord,
    code: FailCode,
    now: u64,
) {
    line(console, format_args!("stopped: {code}"));
    record.code = code.number();
    record.stage = Stage::Stage1 as u8;
    record.end = now;
    let mut buffer = [0; MAX_FRAME];
    if let Some(frame) = record.frame(&mut buffer) {
        link.write(frame);
    }
}

/// Writes a line for a person.
fn line(console: &mut impl Console, words: fmt::Arguments<'_>) {
    // The console cannot fail.
    let _ = write!(Lines(console), "stage1: {words}\r\n");
}

struct Lines<'a, C: Console>(&'a mut C);

impl<C: Console> Write for Lines<'_, C> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
    }
}
