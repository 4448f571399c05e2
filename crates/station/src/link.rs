//! Links to devices: serial lines, and sockets of an emulator.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::Error;

/// How long a link waits for bytes before it says that there are none.
const LOOK: Duration = Duration::from_millis(20);
/// How long a device may refuse to take bytes.
const SEND: Duration = Duration::from_secs(10);

/// A line to a device, on which bytes can be lost or altered.
pub trait Link: Send {
    /// Reads what has come, or waits a moment for it; `Some(0)` if nothing came, `None` if the line is closed.
    fn receive(&mut self, into: &mut [u8]) -> Option<usize>;

    /// Sends all bytes; false if the line is closed.
    fn send(&mut self, bytes: &[u8]) -> bool;
}

/// A socket, such as QEMU's for a UART.
pub struct Socket(UnixStream);

impl Socket {
    /// Takes a connected socket.
    ///
    /// # Errors
    /// [`Error::Link`] if it takes no deadlines.
    pub fn new(stream: UnixStream) -> Result<Self, Error> {
        let set = stream.set_read_timeout(Some(LOOK)).and_then(|()| stream.set_write_timeout(Some(SEND)));
        set.map_err(|error| Error::Link { link: "socket".into(), reason: error.to_string() })?;
        Ok(Self(stream))
    }
}

impl Link for Socket {
    fn receive(&mut self, into: &mut [u8]) -> Option<usize> {
        received(self.0.read(into))
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).is_ok()
    }
}

/// A serial line.
struct Serial(Box<dyn serialport::SerialPort>);

impl Link for Serial {
    fn receive(&mut self, into: &mut [u8]) -> Option<usize> {
        // An adapter that is unplugged reads nothing at once, for ever, or fails: neither is silence.
        match self.0.read(into) {
            Ok(0) => None,
            other => received(other),
        }
    }

    fn send(&mut self, bytes: &[u8]) -> bool {
        self.0.write_all(bytes).and_then(|()| self.0.flush()).is_ok()
    }
}

fn received(read: io::Result<usize>) -> Option<usize> {
    match read {
        Ok(0) => None,
        Ok(count) => Some(count),
        Err(error) => match error.kind() {
            ErrorKind::TimedOut | ErrorKind::WouldBlock | ErrorKind::Interrupted => Some(0),
            _ => None,
        },
    }
}

/// Opens a link by its name: `unix:PATH` is a socket that somebody listens on, anything else a serial device.
///
/// # Errors
/// [`Error::Link`] if it is not there or cannot be used.
pub fn open(link: &str, baud: u32) -> Result<Box<dyn Link>, Error> {
    let failed = |reason: String| Error::Link { link: link.into(), reason };
    match link.strip_prefix("unix:") {
        Some(path) => {
            let stream = UnixStream::connect(path).map_err(|error| failed(error.to_string()))?;
            Ok(Box::new(Socket::new(stream)?))
        }
        None => {
            let port = serialport::new(link, baud).timeout(LOOK).open();
            Ok(Box::new(Serial(port.map_err(|error| failed(error.to_string()))?)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_and_the_end_of_a_line_are_told_apart() {
        let (ours, mut device) = UnixStream::pair().unwrap();
        let mut link = Socket::new(ours).unwrap();
        let mut buffer = [0; 8];
        assert_eq!(link.receive(&mut buffer), Some(0));
        device.write_all(b"abc").unwrap();
        assert_eq!(link.receive(&mut buffer), Some(3));
        assert!(link.send(b"answer"));
        device.read_exact(&mut buffer[..6]).unwrap();
        drop(device);
        assert_eq!(link.receive(&mut buffer), None);
        assert!(!link.send(&[0; 8]));
    }

    #[test]
    fn a_link_that_is_not_there_is_named() {
        for name in ["unix:/nonexistent/socket", "/dev/nonexistent-kiln"] {
            let error = open(name, 115_200).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
