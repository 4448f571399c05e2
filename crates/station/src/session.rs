//! One device, from the first byte on its link to its record.

use std::time::{Duration, Instant};

use boot_info::Stage;
use boot_info::record::{BootRecord, MAX_FRAME};
use factory_proto::link::{Frame, Receiver, encode};
use factory_proto::{Hello, Message, Phase, Progress, Refusal};
use fail_code::FailCode;

use crate::chip::chip_id;
use crate::record::{Outcome, Record, Refused, Step, step_name};
use crate::transcript::{Seen, Transcript, Way};
use crate::{Authorise, Failure, Link};

/// An answer is not sent again within this time: a device that asked often while the authority was thinking is
/// answered once.
const AGAIN: Duration = Duration::from_millis(200);
/// First and longest pause before an authority that cannot answer is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// How patient a station is.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// How long a device may be silent.
    pub device: Duration,
    /// How long an authority that does not answer is asked again.
    pub authority: Duration,
    /// How long a device that was refused may take to say so.
    pub last_word: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            device: Duration::from_secs(60),
            authority: Duration::from_secs(20),
            last_word: Duration::from_secs(5),
        }
    }
}

/// Something that a station tells while it works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A message named the die.
    ChipId(String),
    /// A step began.
    Began(String),
    /// A step ended, after this many bytes.
    Ended(String, u64),
    /// The device asked; the authority is asked.
    Asked(Message),
    /// The authority answered, and so was the device.
    Answered(Message),
    /// Somebody refused.
    Refused(Refused),
    /// The record is made.
    Done(Outcome),
}

/// Whoever is told what happens, with the name of the device. Called from the thread of that device.
pub type Watch<'a> = &'a (dyn Fn(&str, &Event) + Sync);

/// Serves one device until it is clear how it ended.
pub fn serve(
    device: &str,
    link: &mut dyn Link,
    authority: &dyn Authorise,
    patience: Patience,
    watch: Watch<'_>,
) -> (Record, Transcript) {
    let now = Instant::now();
    let session = Session {
        device,
        link,
        authority,
        patience,
        watch,
        start: now,
        heard_at: now,
        receiver: Receiver::new(),
        records: Vec::new(),
        last: None,
        chip_id: None,
        steps: Vec::new(),
        released: false,
        ending: None,
        transcript: Transcript::default(),
    };
    session.run()
}

/// The last question, and what it was answered with.
struct Answered {
    kind: Message,
    seq: u16,
    question: Vec<u8>,
    frame: Vec<u8>,
    sent: Instant,
}

/// How a device ends, if it says nothing more until then.
struct Ending {
    result: Result<(), Refused>,
    at: Instant,
}

struct Session<'a> {
    device: &'a str,
    link: &'a mut dyn Link,
    authority: &'a dyn Authorise,
    patience: Patience,
    watch: Watch<'a>,
    start: Instant,
    heard_at: Instant,
    receiver: Receiver,
    /// What may hold the beginning of a boot record.
    records: Vec<u8>,
    last: Option<Answered>,
    chip_id: Option<String>,
    steps: Vec<(u8, u64, Step)>,
    released: bool,
    ending: Option<Ending>,
    transcript: Transcript,
}

impl Session<'_> {
    fn run(mut self) -> (Record, Transcript) {
        let mut buffer = [0; 4096];
        // A device that asked before we were there asks again at once.
        let hello = encode(Message::Hello, 0, &Hello.encode()).unwrap_or_default();
        self.send(&hello);
        let result = loop {
            let end = match self.link.receive(&mut buffer) {
                None => Some(self.closed()),
                Some(0) => self.late(),
                Some(count) => self.hear(&buffer[..count]).err(),
            };
            if let Some(end) = end {
                break end;
            }
        };
        self.record(result)
    }

    /// Takes in what came. An error is the end, good or bad.
    fn hear(&mut self, bytes: &[u8]) -> Result<(), Result<(), Refused>> {
        self.note(Way::FromDevice, bytes);
        self.heard_at = Instant::now();
        self.boot_records(bytes)?;
        for byte in bytes {
            if let Some(frame) = self.receiver.push(*byte) {
                self.take(frame)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, frame: Frame) -> Result<(), Result<(), Refused>> {
        match frame.message {
            Message::Request | Message::Csr | Message::ClosingProof => {
                self.question(frame);
                Ok(())
            }
            Message::Progress => {
                if let Ok(progress) = Progress::decode(&frame.body) {
                    self.progress(progress);
                }
                Ok(())
            }
            Message::Outcome => match factory_proto::Outcome::decode(&frame.body) {
                Ok(outcome) => self.outcome(outcome.code),
                Err(_) => Ok(()),
            },
            // What only an authority or a station says is noise when a device says it.
            _ => Ok(()),
        }
    }

    fn question(&mut self, frame: Frame) {
        if let Some(chip) = chip_id(frame.message, &frame.body)
            && self.chip_id.as_ref() != Some(&chip)
        {
            self.tell(&Event::ChipId(chip.clone()));
            self.chip_id = Some(chip);
        }
        let same = |last: &&mut Answered| {
            (last.kind, last.seq) == (frame.message, frame.seq) && last.question == frame.body
        };
        if let Some(last) = self.last.as_mut().filter(same) {
            if last.sent.elapsed() < AGAIN {
                return;
            }
            last.sent = Instant::now();
            let again = last.frame.clone();
            self.send(&again);
            return;
        }
        self.tell(&Event::Asked(frame.message));
        self.note(Way::ToAuthority, &frame.body);
        let answer = self.ask(&frame);
        let (kind, body) = match (&answer, frame.message.answer()) {
            (Ok(body), Some(kind)) => {
                self.note(Way::FromAuthority, body);
                (kind, body.clone())
            }
            (Err(refused), _) => {
                let refusal = Refusal { code: refused.code, text: &refused.text };
                (Message::Refusal, refusal.encode())
            }
            (Ok(_), None) => return,
        };
        let sent = encode(kind, frame.seq, &body).unwrap_or_default();
        let (kind, seq, question) = (frame.message, frame.seq, frame.body);
        self.last = Some(Answered { kind, seq, question, frame: sent.clone(), sent: Instant::now() });
        match answer {
            Ok(_) => {
                self.released |= kind == Message::ClosingProof;
                self.tell(&Event::Answered(kind));
            }
            Err(refused) => {
                self.tell(&Event::Refused(refused.clone()));
                self.end_soon(Err(refused));
            }
        }
        self.send(&sent);
        // The authority may have taken its time, in which the device had nothing to say.
        self.heard_at = Instant::now();
    }

    /// Asks the authority, again and again if it cannot answer now.
    fn ask(&self, frame: &Frame) -> Result<Vec<u8>, Refused> {
        let (mut pause, longest) = PAUSES;
        let end = Instant::now() + self.patience.authority;
        loop {
            match self.authority.ask(frame.message, &frame.body) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Refused(refused)) => return Err(refused),
                Err(Failure::NotNow(refused)) if Instant::now() + pause >= end => return Err(refused),
                Err(Failure::NotNow(_)) => std::thread::sleep(pause),
            }
            pause = (pause * 2).min(longest);
        }
    }

    fn progress(&mut self, progress: Progress) {
        let at = self.since_start();
        let name = step_name(progress.step);
        match progress.phase {
            Phase::Begin => {
                self.tell(&Event::Began(name.clone()));
                let step = Step { name, start_ms: at, end_ms: None, device_us: None, bytes: 0 };
                self.steps.push((progress.step, progress.micros, step));
            }
            Phase::End => {
                let open = |it: &&mut (u8, u64, Step)| it.0 == progress.step && it.2.end_ms.is_none();
                if let Some((_, began, step)) = self.steps.iter_mut().rev().find(open) {
                    step.end_ms = Some(at);
                    step.device_us = progress.micros.checked_sub(*began);
                    step.bytes = progress.bytes;
                }
                self.tell(&Event::Ended(name, progress.bytes));
            }
        }
    }

    fn outcome(&self, code: u16) -> Result<(), Result<(), Refused>> {
        match (code, &self.ending) {
            // A stage that is done with its own part says so as well: a device is done once it has its certificate.
            (0, _) if self.released => Err(Ok(())),
            (0, _) => Ok(()),
            // The device repeats what the authority told it, in its own words: none.
            (code, Some(Ending { result: Err(refused), .. })) if refused.code == code => {
                Err(Err(refused.clone()))
            }
            (code, _) => Err(Err(Refused { code, text: String::new() })),
        }
    }

    /// Finds boot records, which share the line with the frames.
    fn boot_records(&mut self, bytes: &[u8]) -> Result<(), Result<(), Refused>> {
        self.records.extend_from_slice(bytes);
        while let Some((record, used)) = BootRecord::find(&self.records) {
            self.records.drain(..used);
            match record {
                Ok(record) if record.code != 0 => {
                    let mut text = Stage::from_number(record.stage).map_or("", Stage::name).to_owned();
                    if record.fallback_code != 0 {
                        text += &format!(", the other slot: K{:04}", record.fallback_code);
                    }
                    let refused = match &self.ending {
                        Some(Ending { result: Err(refused), .. }) if refused.code == record.code => {
                            refused.clone()
                        }
                        _ => Refused { code: record.code, text },
                    };
                    return Err(Err(refused));
                }
                Ok(record) if record.stage == Stage::Stage2 as u8 && self.last.is_none() => {
                    let text = "it boots what it was provisioned with and has nothing to ask";
                    self.end_soon(Err(Refused::new(FailCode::DieClosed, text)));
                }
                Ok(_) | Err(_) => {}
            }
        }
        // No record is longer, so none begins before.
        let excess = self.records.len().saturating_sub(MAX_FRAME);
        self.records.drain(..excess);
        Ok(())
    }

    fn end_soon(&mut self, result: Result<(), Refused>) {
        self.ending.get_or_insert(Ending { result, at: Instant::now() + self.patience.last_word });
    }

    /// Looks whether the device has been silent for too long.
    fn late(&mut self) -> Option<Result<(), Refused>> {
        if self.ending.as_ref().is_some_and(|ending| Instant::now() >= ending.at) {
            return self.ending.take().map(|ending| ending.result);
        }
        let silent = self.heard_at.elapsed() >= self.patience.device;
        silent.then(|| Err(Refused::new(FailCode::DeviceSilent, self.last_seen())))
    }

    /// Says how a device ends whose line is closed.
    fn closed(&mut self) -> Result<(), Refused> {
        match self.ending.take() {
            Some(ending) => ending.result,
            None => Err(Refused::new(
                FailCode::DeviceSilent,
                format!("the link was closed, {}", self.last_seen()),
            )),
        }
    }

    /// Says how far the device had come.
    fn last_seen(&self) -> String {
        match self.steps.last() {
            None => "nothing was heard".into(),
            Some((_, _, step)) if step.end_ms.is_none() => format!("in the step {}", step.name),
            Some((_, _, step)) => format!("after the step {}", step.name),
        }
    }

    /// Sends to the device. Where the line is closed, what the device said last is still to be read.
    fn send(&mut self, bytes: &[u8]) {
        self.note(Way::ToDevice, bytes);
        let _ = self.link.send(bytes);
    }

    fn tell(&self, event: &Event) {
        (self.watch)(self.device, event);
    }

    fn note(&mut self, way: Way, bytes: &[u8]) {
        self.transcript.seen.push(Seen { at: self.start.elapsed(), way, bytes: bytes.to_vec() });
    }

    fn since_start(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn record(self, result: Result<(), Refused>) -> (Record, Transcript) {
        let (outcome, refused) = match result {
            Ok(()) => (Outcome::Pass, None),
            Err(refused) => (Outcome::Refused, Some(refused)),
        };
        self.tell(&Event::Done(outcome));
        let record = Record {
            device: self.device.into(),
            chip_id: self.chip_id,
            result: outcome,
            code: refused.as_ref().map(Refused::code_text),
            cause: refused.as_ref().map(Refused::cause),
            steps: self.steps.into_iter().map(|(_, _, step)| step).collect(),
        };
        (record, self.transcript)
    }
}
