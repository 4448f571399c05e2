//! Taking the time of a stage's steps.

use crate::record::BootRecord;
use crate::{Stage, Step, Timestamp};

/// The timestamps of a record, and when the step that is running began.
pub struct Timeline<'a> {
    /// The record that the timestamps go into.
    pub record: &'a mut BootRecord,
    stage: Stage,
    last: u64,
}

impl<'a> Timeline<'a> {
    /// Begins the first step of `stage` at `now`, in ticks of the counter.
    pub fn new(record: &'a mut BootRecord, stage: Stage, now: u64) -> Self {
        Self { record, stage, last: now }
    }

    /// Ends the running step at `now` under this name, and begins the next.
    pub fn step(&mut self, step: Step, now: u64) {
        let stamp = Timestamp { stage: self.stage as u8, step: step as u8, start: self.last, end: now };
        // A list that is full loses later timestamps, which only reports read.
        self.record.timestamps.push(stamp);
        self.last = now;
    }

    /// Begins the running step anew, at `now`: what came before belongs to no step.
    pub fn restart(&mut self, now: u64) {
        self.last = now;
    }
}
