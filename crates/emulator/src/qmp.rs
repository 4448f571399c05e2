//! QEMU's control channel: QMP, one JSON value a line.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Error;

/// Longest wait for the answer to a command.
const ANSWER: Duration = Duration::from_secs(10);

/// Something that QEMU told without being asked.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its name, for instance `SHUTDOWN` or `RESET`.
    pub name: String,
    /// Its data.
    pub data: Value,
    /// When it was read, since the emulator's process was started.
    pub at: Duration,
}

/// A QMP session.
pub struct Qmp {
    writer: UnixStream,
    answers: Receiver<Value>,
    events: Arc<Mutex<Vec<Event>>>,
    version: String,
    reader: Option<JoinHandle<()>>,
}

impl Qmp {
    /// Reads the greeting and enters command mode.
    pub(crate) fn open(stream: UnixStream, start: Instant) -> Result<Self, Error> {
        let from = stream.try_clone().map_err(Error::io("qmp"))?;
        stream.set_write_timeout(Some(ANSWER)).map_err(Error::io("qmp"))?;
        let (sender, answers) = channel();
        let events = Arc::new(Mutex::new(Vec::new()));
        let reader = {
            let events = Arc::clone(&events);
            std::thread::spawn(move || read(from, &sender, &events, start))
        };
        let mut qmp = Self { writer: stream, answers, events, version: String::new(), reader: Some(reader) };
        let greeting = qmp.answer("the greeting")?;
        let version = greeting.pointer("/QMP/version/qemu");
        let part = |name| version.and_then(|it| it.get(name)).and_then(Value::as_u64);
        let (Some(major), Some(minor), Some(micro)) = (part("major"), part("minor"), part("micro")) else {
            return Err(Error::NotQmp(greeting.to_string()));
        };
        qmp.version = format!("{major}.{minor}.{micro}");
        qmp.execute("qmp_capabilities", Value::Null)?;
        Ok(qmp)
    }

    /// Returns QEMU's version, for instance `10.0.2`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Runs a command with its arguments (`Value::Null` for none) and returns what it returned.
    ///
    /// # Errors
    /// [`Error::QmpRefused`] with QEMU's reason; [`Error::Deadline`] or [`Error::Closed`] without an answer.
    pub fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        let mut request = json!({ "execute": command });
        if !arguments.is_null() {
            request["arguments"] = arguments;
        }
        self.writer.write_all(format!("{request}\n").as_bytes()).map_err(Error::io("sending to qmp"))?;
        let mut answer = self.answer(command)?;
        if let Some(reason) = answer.pointer("/error/desc").and_then(Value::as_str) {
            return Err(Error::QmpRefused { command: command.into(), reason: reason.into() });
        }
        match answer.get_mut("return") {
            Some(value) => Ok(value.take()),
            None => Err(Error::NotQmp(answer.to_string())),
        }
    }

    /// Returns the events so far.
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, to: &str) -> Result<Value, Error> {
        let what = || format!("QEMU's answer to {to}");
        match self.answers.recv_timeout(ANSWER) {
            Ok(Value::String(raw)) => Err(Error::NotQmp(raw)),
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Timeout) => {
                Err(Error::Deadline { what: what(), after: ANSWER, tail: String::new() })
            }
            Err(RecvTimeoutError::Disconnected) => Err(Error::Closed { what: what(), tail: String::new() }),
        }
    }
}

/// Sorts lines into events and answers until the channel closes. A line that is no JSON is passed on as a JSON
/// string, which no answer is.
fn read(from: UnixStream, answers: &Sender<Value>, events: &Mutex<Vec<Event>>, start: Instant) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
        match value.get("event").and_then(Value::as_str) {
            Some(name) => {
                let event = Event { name: name.into(), data: value["data"].clone(), at: start.elapsed() };
                events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
            }
            None => {
                if answers.send(value).is_err() {
                    return;
                }
            }
        }
    }
}

impl Drop for Qmp {
    fn drop(&mut self) {
        // Wakes the reader; an error means that the other end is gone, which wakes it too.
        let _ = self.writer.shutdown(std::net::Shutdown::Both);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREETING: &str =
        r#"{"QMP":{"version":{"qemu":{"micro":2,"minor":0,"major":10}},"capabilities":[]}}"#;

    /// Answers each request line with the next of `answers`, each of which may be several lines.
    fn fake(answers: &'static [&'static str]) -> (UnixStream, JoinHandle<Vec<String>>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let server = std::thread::spawn(move || {
            let mut writer = theirs.try_clone().unwrap();
            writeln!(writer, "{GREETING}").unwrap();
            let mut lines = BufReader::new(theirs).lines();
            answers
                .iter()
                .map(|answer| {
                    let request = lines.next().unwrap().unwrap();
                    writeln!(writer, "{answer}").unwrap();
                    request
                })
                .collect()
        });
        (ours, server)
    }

    #[test]
    fn commands_are_answered_and_events_kept_apart() {
        let (stream, server) = fake(&[
            r#"{"return":{}}"#,
            "{\"event\":\"RESET\",\"data\":{\"guest\":true}}\n{\"return\":{\"status\":\"running\"}}",
            r#"{"error":{"class":"CommandNotFound","desc":"no such command"}}"#,
        ]);
        let mut qmp = Qmp::open(stream, Instant::now()).unwrap();
        assert_eq!(qmp.version(), "10.0.2");
        assert_eq!(qmp.execute("query-status", Value::Null).unwrap()["status"], "running");
        let events = qmp.events();
        assert_eq!((events.len(), events[0].name.as_str()), (1, "RESET"));
        assert_eq!(events[0].data["guest"], true);
        let refused = qmp.execute("nonsense", json!({"a": 1})).unwrap_err();
        assert_eq!(refused.to_string(), "the emulator refused `nonsense`: no such command");
        let requests = server.join().unwrap();
        assert_eq!(requests[0], r#"{"execute":"qmp_capabilities"}"#);
        assert_eq!(requests[2], r#"{"arguments":{"a":1},"execute":"nonsense"}"#);
        assert!(matches!(
            qmp.execute("query-status", Value::Null),
            Err(Error::Closed { .. } | Error::Io { .. })
        ));
    }

    #[test]
    fn what_is_not_qmp_is_refused() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"login: \n").unwrap();
        assert!(matches!(Qmp::open(ours, Instant::now()), Err(Error::NotQmp(said)) if said == "login: "));
    }
}
