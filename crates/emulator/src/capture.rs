//! A serial line of the guest: everything it said, and when; and a socket for a program that takes part in it.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Error;

/// How long the guest's words wait for a program that does not listen.
const PASS: Duration = Duration::from_millis(1);

/// Where a pattern was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Offset of its first byte.
    pub start: usize,
    /// Offset after its last byte.
    pub end: usize,
    /// When its first byte was read, since the emulator's process was started.
    pub at: Duration,
}

#[derive(Default)]
struct Heard {
    bytes: Vec<u8>,
    /// For each read from the socket: the offset of its first byte and the time.
    marks: Vec<(usize, Duration)>,
    closed: bool,
}

/// The program at the other end of the line, which hears what we hear.
#[derive(Default)]
struct Listener {
    stream: Option<UnixStream>,
    /// How much of what was heard has been passed on, to this program or to the one before it.
    passed: usize,
}

#[derive(Default)]
struct Shared {
    heard: Mutex<Heard>,
    changed: Condvar,
    listener: Mutex<Listener>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Passes on what was heard and not passed on yet. A program that does not listen loses bytes, as on a real
    /// line: it does not hold up the guest.
    fn pass_on(&self) {
        let mut listener = self.listener.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut stream) = listener.stream.as_ref() else { return };
        let heard = self.lock();
        let rest = heard.bytes.get(listener.passed..).unwrap_or_default();
        // An error means that the program is gone, or that it is not listening.
        let _ = stream.write_all(rest);
        if heard.closed {
            let _ = stream.shutdown(Shutdown::Both);
        }
        let passed = heard.bytes.len();
        drop(heard);
        listener.passed = passed;
    }
}

/// A live capture of one serial line. A thread reads it all the time, so the guest never waits for us.
pub struct Capture {
    name: &'static str,
    shared: Arc<Shared>,
    writer: UnixStream,
    reader: Option<JoinHandle<()>>,
}

impl Capture {
    /// Captures what comes from `stream`, with times counted from `start`.
    pub(crate) fn new(name: &'static str, stream: UnixStream, start: Instant) -> Result<Self, Error> {
        let mut from = stream.try_clone().map_err(Error::io(name))?;
        stream.set_write_timeout(Some(Duration::from_secs(5))).map_err(Error::io(name))?;
        let shared = Arc::new(Shared::default());
        let reader = {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                loop {
                    let count = match from.read(&mut buffer) {
                        Ok(count) => count,
                        Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                        Err(_) => 0,
                    };
                    let at = start.elapsed();
                    let mut heard = shared.lock();
                    if count == 0 {
                        heard.closed = true;
                    } else {
                        let offset = heard.bytes.len();
                        heard.marks.push((offset, at));
                        heard.bytes.extend_from_slice(&buffer[..count]);
                    }
                    drop(heard);
                    shared.changed.notify_all();
                    shared.pass_on();
                    if count == 0 {
                        return;
                    }
                }
            })
        };
        Ok(Self { name, shared, writer: stream, reader: Some(reader) })
    }

    /// Returns everything heard so far.
    pub fn bytes(&self) -> Vec<u8> {
        self.shared.lock().bytes.clone()
    }

    /// Returns everything heard so far as text; bytes that are not UTF-8 become replacement characters.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.shared.lock().bytes).into_owned()
    }

    /// Returns the number of bytes heard so far.
    pub fn len(&self) -> usize {
        self.shared.lock().bytes.len()
    }

    /// Returns whether nothing has been heard yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns whether the line is closed: the emulator has ended.
    pub fn is_closed(&self) -> bool {
        self.shared.lock().closed
    }

    /// Returns when the byte at `offset` was read, since the emulator's process was started; `None` if it has
    /// not been.
    pub fn time_of(&self, offset: usize) -> Option<Duration> {
        self.shared.lock().time_of(offset)
    }

    /// Returns the offset of the first byte that was read at `at` or later, the end if none was.
    pub fn offset_at(&self, at: Duration) -> usize {
        let heard = self.shared.lock();
        let after = heard.marks.partition_point(|(_, time)| *time < at);
        heard.marks.get(after).map_or(heard.bytes.len(), |(offset, _)| *offset)
    }

    /// Finds `pattern` in what was heard from offset `from` on, without waiting.
    pub fn find(&self, pattern: &[u8], from: usize) -> Option<Match> {
        self.shared.lock().find(pattern, from)
    }

    /// Finds the first whole line, from offset `from` on, that holds `prefix`: the match covers `prefix` and the
    /// rest of the line without its line end, and comes with the text.
    pub fn find_line(&self, prefix: &str, from: usize) -> Option<(Match, String)> {
        let heard = self.shared.lock();
        let found = heard.find(prefix.as_bytes(), from)?;
        let rest = heard.bytes.get(found.start..)?;
        let length = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n'))?;
        let text = String::from_utf8_lossy(&rest[..length]).into_owned();
        Some((Match { end: found.start + length, ..found }, text))
    }

    /// Waits until `pattern` has been heard from offset `from` on.
    ///
    /// # Errors
    /// [`Error::Deadline`] after `within`, [`Error::Closed`] if the line closes first.
    pub fn wait_for(&self, pattern: &[u8], from: usize, within: Duration) -> Result<Match, Error> {
        let what = || format!("{:?} on {}", String::from_utf8_lossy(pattern), self.name);
        self.wait_until(what, within, || self.find(pattern, from))
    }

    /// Waits for a whole line that holds `prefix`, as [`Self::find_line`] does.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_for_line(
        &self,
        prefix: &str,
        from: usize,
        within: Duration,
    ) -> Result<(Match, String), Error> {
        let what = || format!("a line with {prefix:?} on {}", self.name);
        self.wait_until(what, within, || self.find_line(prefix, from))
    }

    fn wait_until<T>(
        &self,
        what: impl Fn() -> String,
        within: Duration,
        mut found: impl FnMut() -> Option<T>,
    ) -> Result<T, Error> {
        let deadline = Instant::now() + within;
        loop {
            let seen = self.len();
            let closed = self.is_closed();
            if let Some(it) = found() {
                return Ok(it);
            }
            if closed {
                return Err(Error::Closed { what: what(), tail: self.tail() });
            }
            if Instant::now() >= deadline {
                return Err(Error::Deadline { what: what(), after: within, tail: self.tail() });
            }
            self.wait_change(seen, deadline);
        }
    }

    /// Waits until more than `seen` bytes have been heard, the line closes or `deadline` has passed; returns
    /// what came after the first `seen` bytes.
    pub fn wait_change(&self, seen: usize, deadline: Instant) -> Vec<u8> {
        let mut heard = self.shared.lock();
        while heard.bytes.len() <= seen && !heard.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            heard = self.shared.changed.wait_timeout(heard, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        heard.bytes.get(seen..).unwrap_or_default().to_vec()
    }

    /// Sends `bytes` to the guest.
    ///
    /// # Errors
    /// [`Error::Io`] if the emulator is gone, or takes nothing for five seconds.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        (&self.writer).write_all(bytes).map_err(Error::io(format!("sending to {}", self.name)))
    }

    /// Returns a socket for a program that takes part in the line: it reads what the guest says, from the first
    /// byte that no such program has been given, and what it writes goes to the guest. It is closed when the
    /// emulator ends, and when the next program is connected.
    ///
    /// # Errors
    /// [`Error::Io`] if there can be no more sockets.
    pub fn connect(&self) -> Result<UnixStream, Error> {
        let (theirs, ours) = UnixStream::pair().map_err(Error::io(self.name))?;
        let mut from = ours.try_clone().map_err(Error::io(self.name))?;
        let mut to = self.writer.try_clone().map_err(Error::io(self.name))?;
        ours.set_write_timeout(Some(PASS)).map_err(Error::io(self.name))?;
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let before = {
            let mut listener = self.shared.listener.lock().unwrap_or_else(PoisonError::into_inner);
            listener.stream.replace(ours)
        };
        if let Some(before) = before {
            let _ = before.shutdown(Shutdown::Both);
        }
        self.shared.pass_on();
        Ok(theirs)
    }

    fn tail(&self) -> String {
        let text = self.text();
        let from = text.char_indices().rev().nth(399).map_or(0, |(index, _)| index);
        text[from..].to_owned()
    }
}

impl Heard {
    fn find(&self, pattern: &[u8], from: usize) -> Option<Match> {
        if pattern.is_empty() {
            return None;
        }
        let rest = self.bytes.get(from..)?;
        let start = from + rest.windows(pattern.len()).position(|window| window == pattern)?;
        Some(Match { start, end: start + pattern.len(), at: self.time_of(start)? })
    }

    fn time_of(&self, offset: usize) -> Option<Duration> {
        if offset >= self.bytes.len() {
            return None;
        }
        let after = self.marks.partition_point(|(first, _)| *first <= offset);
        self.marks.get(after.checked_sub(1)?).map(|(_, at)| *at)
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        // Wakes the reader; an error means that the other end is gone, which wakes it too.
        let _ = self.writer.shutdown(Shutdown::Both);
        if let Some(listener) = &self.shared.listener.lock().unwrap_or_else(PoisonError::into_inner).stream {
            let _ = listener.shutdown(Shutdown::Both);
        }
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(5);

    fn pair() -> (Capture, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Capture::new("test", ours, Instant::now()).unwrap(), theirs)
    }

    #[test]
    fn a_pattern_that_comes_in_two_pieces_is_found_with_the_time_of_its_first_byte() {
        let (capture, mut guest) = pair();
        guest.write_all(b"noise Boo").unwrap();
        let first = capture.wait_for(b"Boo", 0, SOON).unwrap();
        std::thread::sleep(Duration::from_millis(20));
        guest.write_all(b"ting").unwrap();
        let found = capture.wait_for(b"Booting", 0, SOON).unwrap();
        assert_eq!((found.start, found.end, found.at), (6, 13, first.at));
        assert!(capture.time_of(9).unwrap() > first.at);
        assert_eq!(capture.time_of(13), None);
        assert_eq!((capture.offset_at(Duration::ZERO), capture.offset_at(first.at)), (0, 0));
        assert_eq!(capture.offset_at(first.at + Duration::from_millis(1)), 9);
        assert_eq!(capture.offset_at(SOON), 13);
        assert_eq!(capture.find(b"Booting", 7), None);
    }

    #[test]
    fn lines_are_whole_and_without_their_ends() {
        let (capture, mut guest) = pair();
        guest.write_all(b"[0.1] KILN a=1\r\nKILN b").unwrap();
        let (found, text) = capture.wait_for_line("KILN ", 0, SOON).unwrap();
        assert_eq!((text.as_str(), found.start, found.end), ("KILN a=1", 6, 14));
        assert_eq!(capture.find_line("KILN ", found.end), None);
        guest.write_all(b"\n").unwrap();
        assert_eq!(capture.wait_for_line("KILN ", found.end, SOON).unwrap().1, "KILN b");
    }

    #[test]
    fn waiting_ends_at_the_deadline_and_when_the_guest_is_gone() {
        let (capture, mut guest) = pair();
        guest.write_all(b"last words").unwrap();
        let late = capture.wait_for(b"never", 0, Duration::from_millis(30)).unwrap_err();
        assert!(matches!(late, Error::Deadline { .. }) && late.to_string().contains("last words"), "{late}");
        drop(guest);
        let gone = capture.wait_for(b"never", 0, SOON).unwrap_err();
        assert!(matches!(gone, Error::Closed { .. }), "{gone}");
        assert!(capture.is_closed());
    }

    #[test]
    fn a_program_on_the_line_hears_all_of_it_and_answers_the_guest() {
        let (capture, mut guest) = pair();
        guest.write_all(b"before").unwrap();
        capture.wait_for(b"before", 0, SOON).unwrap();
        let mut station = capture.connect().unwrap();
        station.set_read_timeout(Some(SOON)).unwrap();
        guest.write_all(b" after").unwrap();
        let mut heard = [0; 12];
        station.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"before after");
        station.write_all(b"answer").unwrap();
        let mut answer = [0; 6];
        guest.read_exact(&mut answer).unwrap();
        assert_eq!((&answer, capture.text().as_str()), (b"answer", "before after"));

        let mut next = capture.connect().unwrap();
        assert_eq!(station.read(&mut heard).unwrap(), 0, "the first program is off the line");
        guest.write_all(b"next").unwrap();
        next.read_exact(&mut heard[..4]).unwrap();
        assert_eq!(&heard[..4], b"next", "nothing is said twice");
        drop(guest);
        assert_eq!(next.read(&mut heard).unwrap(), 0, "the line ends with the guest");
    }

    #[test]
    fn a_program_that_does_not_listen_does_not_hold_up_the_guest() {
        let (capture, mut guest) = pair();
        let _deaf = capture.connect().unwrap();
        guest.set_write_timeout(Some(SOON)).unwrap();
        guest.write_all(&vec![b'x'; 4 << 20]).unwrap();
        guest.write_all(b"end").unwrap();
        capture.wait_for(b"end", 0, SOON).unwrap();
    }

    #[test]
    fn bytes_reach_the_guest() {
        let (capture, mut guest) = pair();
        capture.send(b"reboot\n").unwrap();
        let mut got = [0; 7];
        guest.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"reboot\n");
    }
}
