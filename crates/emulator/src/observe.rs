//! Watches a boot until it is clear how it ended.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use boot_info::Stage;
use boot_info::record::BootRecord;

use crate::{Error, Machine, MachineConfig, Outcome, Report};

/// What Linux says first, with an early console.
pub const FIRST_KERNEL_LINE: &str = "Booting Linux on physical CPU";
/// What init says when Linux is in user space: `KILN-USERSPACE kernel=… cpus=… token=…`.
const USERSPACE: &str = "KILN-USERSPACE ";
/// What the bare-metal payload says: `KILN-PAYLOAD cpus=… token=…`.
const PAYLOAD: &str = "KILN-PAYLOAD ";

/// How often the console and the station link are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// How long a boot record may come after the line that it should have come before: the two lines are read by
/// two threads.
const RECORD_LATE: Duration = Duration::from_secs(2);
/// How long the console may stay silent after a refusal before its text counts as whole.
const LAST_WORDS: Duration = Duration::from_millis(50);
/// How long to go on after a wrong token: the right one may follow a forged one, but hardly later.
const AFTER_WRONG_TOKEN: Duration = Duration::from_secs(2);

/// What is waited for, and for how long.
#[derive(Clone, Debug)]
pub struct Expectation {
    /// The token that user space or payload must show. Without one, any token does and `token_matched` is null.
    pub token: Option<String>,
    /// How long to wait, from now.
    pub within: Duration,
    /// Where the console output is written to, in full.
    pub console_log: Option<PathBuf>,
    /// Whether the device may reset itself on the way: what counts is then its last boot.
    pub through_resets: bool,
}

impl Expectation {
    /// Expects `token` within a minute.
    pub fn token(token: impl Into<String>) -> Self {
        Self {
            token: Some(token.into()),
            within: Duration::from_secs(60),
            console_log: None,
            through_resets: false,
        }
    }

    /// Watches through the resets of a device that is being provisioned, up to its first boot for good or to a
    /// refusal. The report is that of the last boot.
    pub fn through_resets(mut self) -> Self {
        self.through_resets = true;
        self
    }

    /// Sets how long to wait.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Writes the console output to a file.
    pub fn console_log(mut self, file: impl Into<PathBuf>) -> Self {
        self.console_log = Some(file.into());
        self
    }
}

/// Starts a machine, watches its first boot and ends the machine.
///
/// # Errors
/// An [`Error`] if the emulator fails; a boot that fails is no error but a [`Report`].
pub fn boot_and_observe(config: &MachineConfig, expectation: &Expectation) -> Result<Report, Error> {
    Machine::start(config)?.observe(expectation)
}

/// A line in which user space or the payload proves that it runs.
struct Proof {
    outcome: Outcome,
    text: String,
    at: Duration,
}

/// What was seen of a boot.
struct Seen {
    record: Option<BootRecord>,
    proof: Option<Proof>,
    wrong_token: bool,
    /// Where the next boot begins on the console.
    end: usize,
    /// Why the watch ended without proof or refusal.
    detail: Option<String>,
}

impl Machine {
    /// Watches a boot until user space or the payload shows the right token, a stage refuses, the emulator ends
    /// or time is up. A second call watches the boot after the next reset.
    ///
    /// # Errors
    /// [`Error::RecordDamaged`]; [`Error::NoRecord`] where the guest was reached without a boot record;
    /// [`Error::Ended`] if the emulator fails; [`Error::Io`] if the console log cannot be written.
    pub fn observe(&mut self, expectation: &Expectation) -> Result<Report, Error> {
        let from = self.console_seen;
        let seen = self.watch(from, expectation);
        let mut report = Report::empty();
        if let Some(file) = &expectation.console_log {
            let what = format!("writing the console log {}", file.display());
            std::fs::write(file, self.console.bytes()).map_err(Error::io(what))?;
            report.console_log = Some(file.clone());
        }
        let seen = seen?;
        let from = match self.last_reset().filter(|_| expectation.through_resets) {
            Some(reset) => self.console.offset_at(reset).clamp(from, seen.end),
            None => from,
        };
        self.console_seen = seen.end;
        report.qemu_version = Some(self.qmp.version().to_owned());
        report.console =
            String::from_utf8_lossy(self.console.bytes().get(from..seen.end).unwrap_or_default())
                .into_owned();
        if let Some(record) = &seen.record {
            // A reset does not set the guest's counter back, but its first timestamp is taken right after.
            let first = record.timestamps.as_slice().iter().map(|stamp| stamp.start).min();
            report.take_record(record, if from == 0 { 0 } else { first.unwrap_or(0) });
        }
        report.result = match (&seen.proof, &seen.record) {
            (Some(proof), _) => proof.outcome,
            (None, Some(record)) if record.code != 0 => Outcome::Refused,
            (None, _) => Outcome::Timeout,
        };
        report.detail = seen.detail;
        report.token_matched = match (&seen.proof, seen.wrong_token) {
            (Some(_), _) => expectation.token.is_some().then_some(true),
            (None, wrong) => wrong.then_some(false),
        };
        let reset = if from == 0 { Some(Duration::ZERO) } else { self.last_reset() };
        let since_reset = |at: Duration| reset.map(|reset| at.saturating_sub(reset).as_secs_f64() * 1e3);
        let kernel = self.console.find(FIRST_KERNEL_LINE.as_bytes(), from).filter(|it| it.end <= seen.end);
        if let Some(proof) = &seen.proof {
            report.cpus_online = field(&proof.text, "cpus").and_then(|cpus| cpus.parse().ok());
            report.kernel_version = field(&proof.text, "kernel").map(str::to_owned);
            report.host_reset_to_userspace_ms = since_reset(proof.at);
            report.host_reset_to_kernel_ms = since_reset(kernel.map_or(proof.at, |it| it.at));
        } else {
            report.host_reset_to_kernel_ms = kernel.and_then(|it| since_reset(it.at));
        }
        Ok(report)
    }

    fn watch(&mut self, from: usize, expectation: &Expectation) -> Result<Seen, Error> {
        let mut deadline = Instant::now() + expectation.within;
        let mut seen = Seen { record: None, proof: None, wrong_token: false, end: from, detail: None };
        loop {
            // Asked first: whatever came before the end is then found below.
            let closed = self.console.is_closed() && self.station().is_none_or(|station| station.is_closed());
            let heard = self.console.len();
            if seen.record.is_none() {
                seen.record = self.take_record()?.filter(|record| {
                    // A stage that goes on after a reset has not entered anything yet.
                    record.code != 0 || record.stage == Stage::Stage2 as u8 || !expectation.through_resets
                });
            }
            if seen.record.is_some_and(|record| record.code != 0) {
                seen.end = self.hear_out();
                return Ok(seen);
            }
            while let Some(proof) = self.next_proof(&mut seen.end) {
                let token = field(&proof.text, "token");
                if token.is_some() && (expectation.token.is_none() || token == expectation.token.as_deref()) {
                    seen.record = self.late_record(seen.record)?;
                    seen.proof = Some(proof);
                    return Ok(seen);
                }
                if !seen.wrong_token {
                    seen.wrong_token = true;
                    deadline = deadline.min(Instant::now() + AFTER_WRONG_TOKEN);
                }
            }
            if closed {
                return self.ended(seen);
            }
            if Instant::now() >= deadline {
                seen.end = heard;
                let last = last_line(&self.console.text());
                seen.detail = Some(if seen.wrong_token {
                    "a line claims that the guest was reached, but with another token than the device was given"
                        .into()
                } else {
                    format!("nothing proved that the guest was reached; the console ends with: {last}")
                });
                return Ok(seen);
            }
            self.console.wait_change(heard, deadline.min(Instant::now() + LOOK));
        }
    }

    /// Finds the next whole line that claims user space or payload, and moves `end` behind it.
    fn next_proof(&self, end: &mut usize) -> Option<Proof> {
        let user = self.console.find_line(USERSPACE, *end).map(|it| (Outcome::LinuxUserspace, it));
        let payload = self.console.find_line(PAYLOAD, *end).map(|it| (Outcome::Payload, it));
        let (outcome, (found, text)) =
            [user, payload].into_iter().flatten().min_by_key(|(_, (found, _))| found.start)?;
        *end = found.end;
        Some(Proof { outcome, text, at: found.at })
    }

    /// Waits for the boot record that was sent before the guest was entered.
    fn late_record(&mut self, record: Option<BootRecord>) -> Result<Option<BootRecord>, Error> {
        let deadline = Instant::now() + RECORD_LATE;
        let mut record = record;
        while record.is_none() && self.station().is_some() {
            if Instant::now() >= deadline {
                return Err(Error::NoRecord);
            }
            std::thread::sleep(LOOK);
            record = self.take_record()?;
        }
        Ok(record)
    }

    /// Waits until the console is silent and returns its end.
    fn hear_out(&self) -> usize {
        let mut end = self.console.len();
        while !self.console.wait_change(end, Instant::now() + LAST_WORDS).is_empty() {
            end = self.console.len();
        }
        end
    }

    fn ended(&self, mut seen: Seen) -> Result<Seen, Error> {
        // The channels close a moment before the process ends.
        match self.wait_power_off(RECORD_LATE) {
            Ok(()) => {
                seen.end = self.console.len();
                let last = last_line(&self.console.text());
                seen.detail = Some(format!("the device powered off early; the console ends with: {last}"));
                Ok(seen)
            }
            Err(Error::Ended { status, stderr, .. }) => {
                Err(Error::Ended { doing: "running the guest", status, stderr })
            }
            Err(other) => Err(other),
        }
    }

    fn last_reset(&self) -> Option<Duration> {
        self.resets().last().copied()
    }
}

/// Finds the value of `name=value` among the words of `line`.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn last_line(text: &str) -> String {
    text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("(nothing)").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_whole_words() {
        let line = "KILN-USERSPACE kernel=6.1.0-37-arm64 cpus=2 token=00ff";
        assert_eq!(field(line, "cpus"), Some("2"));
        assert_eq!(field(line, "kernel"), Some("6.1.0-37-arm64"));
        assert_eq!(field(line, "token"), Some("00ff"));
        assert_eq!(field(line, "pus"), None);
        assert_eq!(field("xtoken=1 token", "token"), None);
    }

    #[test]
    fn the_last_line_is_one_with_text() {
        assert_eq!(last_line("a\r\nb \r\n\r\n"), "b");
        assert_eq!(last_line(""), "(nothing)");
    }
}
