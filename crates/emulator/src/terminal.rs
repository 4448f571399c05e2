//! A person's terminal on the guest's console.

use std::io::{IsTerminal, Read, Write};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::{Error, Machine};

/// Ctrl-A: the next key is for us.
const ESCAPE: u8 = 0x01;

/// How a session at the console ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TerminalEnd {
    /// The guest powered off, or the emulator ended.
    PoweredOff,
    /// The person typed Ctrl-A X.
    Left,
}

/// Connects standard input and output to the guest's console until the guest powers off or the person types
/// Ctrl-A X. What the console said before is shown first, from byte `from` on. Ctrl-A twice sends one Ctrl-A;
/// Ctrl-C and all other keys go to the guest. The terminal is as it was when this returns.
///
/// # Errors
/// [`Error::Io`] if the terminal cannot be set or written to.
pub fn attach_terminal(machine: &Machine, from: usize) -> Result<TerminalEnd, Error> {
    let _raw = Raw::enter()?;
    let keys = keys();
    let mut filter = Filter::default();
    let mut shown = from;
    loop {
        let closed = machine.console.is_closed();
        let new = machine.console.wait_change(shown, Instant::now() + Duration::from_millis(10));
        shown += new.len();
        let mut out = std::io::stdout();
        out.write_all(&new).and_then(|()| out.flush()).map_err(Error::io("writing to the terminal"))?;
        if closed && new.is_empty() {
            return Ok(TerminalEnd::PoweredOff);
        }
        match keys.try_recv() {
            Ok(typed) => {
                let (pass, leave) = filter.take(&typed);
                // The guest may have powered off in between: the next round sees that.
                let _ = machine.console.send(&pass);
                if leave {
                    return Ok(TerminalEnd::Left);
                }
            }
            // Without standard input the console can still be watched.
            Err(TryRecvError::Empty | TryRecvError::Disconnected) => {}
        }
    }
}

/// Reads standard input in a thread of its own, which ends with the program.
fn keys() -> Receiver<Vec<u8>> {
    let (sender, keys) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 256];
        while let Ok(count @ 1..) = std::io::stdin().read(&mut buffer) {
            if sender.send(buffer[..count].to_vec()).is_err() {
                return;
            }
        }
    });
    keys
}

/// Takes Ctrl-A sequences out of what is typed.
#[derive(Default)]
struct Filter {
    escaped: bool,
}

impl Filter {
    /// Returns what goes to the guest, and whether the person wants to leave.
    fn take(&mut self, typed: &[u8]) -> (Vec<u8>, bool) {
        let mut pass = Vec::with_capacity(typed.len());
        for &key in typed {
            match (std::mem::take(&mut self.escaped), key) {
                (false, ESCAPE) => self.escaped = true,
                (true, b'x' | b'X') => return (pass, true),
                (false, key) | (true, key @ ESCAPE) => pass.push(key),
                (true, _) => {}
            }
        }
        (pass, false)
    }
}

/// A terminal in raw mode, set back on drop. Does nothing where standard input is no terminal.
struct Raw(Option<Termios>);

impl Raw {
    fn enter() -> Result<Self, Error> {
        let stdin = std::io::stdin();
        if !stdin.is_terminal() {
            return Ok(Self(None));
        }
        let failed = |error: rustix::io::Errno| Error::io("setting the terminal")(error.into());
        let before = tcgetattr(&stdin).map_err(failed)?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(&stdin, OptionalActions::Now, &raw).map_err(failed)?;
        Ok(Self(Some(before)))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_but_the_escape_reach_the_guest() {
        let mut filter = Filter::default();
        assert_eq!(filter.take(b"ls\x03x\r"), (b"ls\x03x\r".to_vec(), false));
        assert_eq!(filter.take(b"a\x01"), (b"a".to_vec(), false));
        assert_eq!(filter.take(b"\x01b"), (b"\x01b".to_vec(), false));
        assert_eq!(filter.take(b"\x01qc"), (b"c".to_vec(), false));
        assert_eq!(filter.take(b"d\x01xe"), (b"d".to_vec(), true));
    }
}
