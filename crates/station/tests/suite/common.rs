use std::collections::VecDeque;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::Duration;

use boot_info::Stage;
use boot_info::record::{BootRecord, MAX_FRAME};
use factory_proto::link::{Frame, Receiver, encode};
use factory_proto::{ClosingProof, Message, Outcome, Phase, Progress};
use station::{Authorise, Failure, Link, Patience, Record, Socket, Transcript, serve};

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Patience for tests in which it comes to nothing.
pub(crate) const PATIENT: Patience = Patience { device: SOON, authority: SOON, last_word: SOON };

/// A device at the other end of a link.
pub(crate) struct Device {
    stream: UnixStream,
    receiver: Receiver,
    frames: VecDeque<Frame>,
}

impl Device {
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn say(&mut self, message: Message, seq: u16, body: &[u8]) {
        self.send(&encode(message, seq, body).unwrap());
    }

    /// Waits for the next frame other than a hello.
    pub(crate) fn hear(&mut self) -> Frame {
        loop {
            if let Some(frame) = self.frames.pop_front() {
                if frame.message == Message::Hello {
                    continue;
                }
                return frame;
            }
            let mut buffer = [0; 1024];
            let count = self.stream.read(&mut buffer).expect("the station says something");
            assert_ne!(count, 0, "the station left");
            let frames = buffer[..count].iter().filter_map(|byte| self.receiver.push(*byte));
            self.frames.extend(frames);
        }
    }

    pub(crate) fn step(&mut self, step: u8, bytes: u64) {
        let progress = |phase, micros, bytes| Progress { step, phase, micros, bytes }.encode();
        self.say(Message::Progress, 0, &progress(Phase::Begin, 1_000, 0));
        self.say(Message::Progress, 0, &progress(Phase::End, 3_500, bytes));
    }

    pub(crate) fn outcome(&mut self, code: u16) {
        self.say(Message::Outcome, 0, &Outcome { code }.encode());
    }

    pub(crate) fn boot_record(&mut self, stage: Stage, code: u16) {
        let record = BootRecord { stage: stage as u8, code, ..BootRecord::default() };
        let frame = record.frame(&mut [0; MAX_FRAME]).unwrap().to_vec();
        self.send(&frame);
    }
}

/// Makes a link and the device at its end.
pub(crate) fn link() -> (Socket, Device) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_read_timeout(Some(SOON)).unwrap();
    let device = Device { stream: theirs, receiver: Receiver::new(), frames: VecDeque::new() };
    (Socket::new(ours).unwrap(), device)
}

/// Serves a device that does what `act` says.
pub(crate) fn with_device(
    authority: &dyn Authorise,
    patience: Patience,
    act: impl FnOnce(Device) + Send,
) -> (Record, Transcript) {
    let (mut link, device) = link();
    std::thread::scope(|scope| {
        let acting = scope.spawn(move || act(device));
        let ended = serve("d1", &mut link as &mut dyn Link, authority, patience, &|_, _| ());
        acting.join().unwrap();
        ended
    })
}

/// An authority that gives the answers it is given, in their order, and remembers what it was asked.
#[derive(Default)]
pub(crate) struct Scripted {
    answers: Mutex<VecDeque<Result<Vec<u8>, Failure>>>,
    asked: Mutex<Vec<(Message, Vec<u8>)>>,
}

impl Scripted {
    pub(crate) fn new(answers: impl IntoIterator<Item = Result<Vec<u8>, Failure>>) -> Self {
        Self { answers: Mutex::new(answers.into_iter().collect()), asked: Mutex::default() }
    }

    pub(crate) fn asked(&self) -> Vec<(Message, Vec<u8>)> {
        self.asked.lock().unwrap().clone()
    }
}

impl Authorise for Scripted {
    fn ask(&self, question: Message, body: &[u8]) -> Result<Vec<u8>, Failure> {
        self.asked.lock().unwrap().push((question, body.to_vec()));
        self.answers.lock().unwrap().pop_front().expect("no more questions were expected")
    }
}

/// A closing proof of the die `chip`.
pub(crate) fn proof(chip: u8) -> Vec<u8> {
    ClosingProof { install: &[1; 32], chip_id: &[chip; 16], statement: &[2; 8], fuse_facts: &[3; 8] }.encode()
}
