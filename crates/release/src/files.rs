//! Files, with errors that name them.

use crate::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Whoever the system's defaults admit.
    Anyone,
    /// Nobody but its owner: mode 0600.
    Owner,
}

/// Reads a whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| Error::Read { path: path.into(), error })
}

/// Whether the name of a file may be a link to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    Followed,
    Refused,
}

/// Why a file cannot be read.
pub(crate) enum Unreadable {
    /// The system refuses.
    Io(std::io::Error),
    /// It is a folder, a pipe, a device, or a link that is not followed.
    NoFile,
    /// It has more bytes than it may have.
    TooLarge,
}

/// Reads a whole file of at most so many bytes. What it is, is asked of the open file, and opening waits for nobody: a pipe that was put
/// in its place hangs nothing.
pub(crate) fn read_bounded(path: &Path, most: u64, links: Links) -> Result<Vec<u8>, Unreadable> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt as _;
        let never = if links == Links::Refused { OFlags::NOFOLLOW } else { OFlags::empty() };
        options.custom_flags((OFlags::NONBLOCK | never).bits() as i32);
    }
    let file = match options.open(path) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(Unreadable::NoFile);
        }
        opened => opened.map_err(Unreadable::Io)?,
    };
    let metadata = file.metadata().map_err(Unreadable::Io)?;
    if !metadata.is_file() {
        return Err(Unreadable::NoFile);
    }
    // All of it at once: a vector that grows leaves what it held behind.
    let mut bytes = Vec::with_capacity(metadata.len().min(most) as usize + 1);
    file.take(most + 1).read_to_end(&mut bytes).map_err(Unreadable::Io)?;
    if bytes.len() as u64 > most { Err(Unreadable::TooLarge) } else { Ok(bytes) }
}

/// Reads a whole file of at most so many bytes. A folder, a pipe or a device is none.
pub(crate) fn read_at_most(path: &Path, most: u64) -> Result<Vec<u8>, Error> {
    let unknown = |reason: &str| Error::ReleaseFile { path: path.into(), reason: reason.into() };
    read_bounded(path, most, Links::Followed).map_err(|why| match why {
        Unreadable::Io(error) => Error::Read { path: path.into(), error },
        Unreadable::NoFile => unknown("it is no file"),
        Unreadable::TooLarge => unknown("it is larger than anything that Kiln makes of this kind"),
    })
}

/// Reads a whole text file; wiped when dropped.
pub(crate) fn read_text(path: &Path) -> Result<Zeroizing<String>, Error> {
    let text = std::fs::read_to_string(path).map_err(|error| Error::Read { path: path.into(), error })?;
    Ok(Zeroizing::new(text))
}

/// Reads `size` bytes from `offset` on.
pub(crate) fn read_at(path: &Path, offset: u64, size: u64) -> Result<Vec<u8>, Error> {
    let read = || {
        let mut bytes = vec![0; size as usize];
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut bytes)?;
        Ok(bytes)
    };
    read().map_err(|error| Error::Read { path: path.into(), error })
}

/// Writes bytes into a file that is there, from `offset` on.
pub(crate) fn write_at(path: &Path, offset: u64, bytes: &[u8]) -> Result<(), Error> {
    let write = || {
        let mut file = OpenOptions::new().write(true).open(path)?;
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)?;
        file.sync_data()
    };
    write().map_err(|error| Error::Write { path: path.into(), error })
}

/// Writes a file that must not be there yet. One that cannot be written whole is removed again.
pub(crate) fn write_new(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), Error> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    if readers == Readers::Owner {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let made = options.open(path).and_then(|file| fill(file, path, bytes));
    made.map_err(|error| Error::Write { path: path.into(), error })
}

/// New files that are there all together, or not at all.
pub(crate) struct Together {
    written: Vec<PathBuf>,
    /// The folder, where it was made for them.
    folder: Option<PathBuf>,
}

impl Together {
    /// Begins in a folder, which is made if it is not there.
    pub(crate) fn in_folder(folder: &Path) -> Result<Self, Error> {
        let made = !folder.exists();
        make_folder(folder)?;
        Ok(Self { written: Vec::new(), folder: made.then(|| folder.into()) })
    }

    /// Writes a file that must not be there yet.
    pub(crate) fn put(&mut self, path: PathBuf, bytes: &[u8], readers: Readers) -> Result<(), Error> {
        write_new(&path, bytes, readers)?;
        self.written.push(path);
        Ok(())
    }

    /// Removes what was written: the rest could not be.
    pub(crate) fn undo(self) {
        // The first error is the one to tell.
        for path in self.written {
            let _ = std::fs::remove_file(path);
        }
        let _ = self.folder.map(std::fs::remove_dir);
    }
}

/// Tells whether anything has this name, be it a link that leads nowhere.
pub(crate) fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Writes a new file's bytes, or removes it: half of a file would be taken for one, and stand in the way of the next try.
fn fill(mut file: File, path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if written.is_err() {
        // The first error is the one to tell.
        let _ = std::fs::remove_file(path);
    }
    written
}

/// Refuses a place where something is, be it a link that leads nowhere.
///
/// # Errors
/// [`Error::OutputThere`], and a place that cannot be looked at.
pub fn refuse_existing(path: &Path) -> Result<(), Error> {
    match path.symlink_metadata() {
        Ok(_) => Err(Error::OutputThere { path: path.into() }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::Read { path: path.into(), error }),
    }
}

/// Tells whether a file would lie in a folder that need not be there yet.
pub fn inside(file: &Path, folder: &Path) -> bool {
    let absolute = |path: &Path| {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
        let there = path.ancestors().find_map(|above| Some((above, above.canonicalize().ok()?)));
        there.map_or(path.clone(), |(above, real)| match path.strip_prefix(above) {
            Ok(rest) => real.join(rest),
            Err(_) => path.clone(),
        })
    };
    absolute(file).starts_with(absolute(folder))
}

/// Makes a folder and those above it; one that is there already is fine.
pub(crate) fn make_folder(path: &Path) -> Result<(), Error> {
    std::fs::create_dir_all(path).map_err(|error| Error::Write { path: path.into(), error })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    #[test]
    fn a_file_that_cannot_be_written_whole_is_removed_and_one_that_was_there_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        std::fs::write(&path, b"half").unwrap();
        // Opened for reading, so that writing fails.
        fill(File::open(&path).unwrap(), &path, b"whole").unwrap_err();
        assert!(!path.exists());
        write_new(&path, b"whole", Readers::Owner).unwrap();
        write_new(&path, b"again", Readers::Owner).unwrap_err();
        assert_eq!(read(&path).unwrap(), b"whole");
    }

    #[test]
    fn a_file_is_read_within_its_length_and_nothing_else_is_read_or_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        std::fs::write(place("file"), b"12345").unwrap();
        std::os::unix::fs::symlink(place("file"), place("link")).unwrap();
        std::os::unix::fs::symlink(place("nowhere"), place("broken")).unwrap();
        std::fs::create_dir(place("folder")).unwrap();
        mknodat(CWD, place("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let read = |name: &str, most, links| match read_bounded(&place(name), most, links) {
            Ok(bytes) => String::from_utf8(bytes).unwrap(),
            Err(Unreadable::Io(error)) => error.kind().to_string(),
            Err(Unreadable::NoFile) => "no file".into(),
            Err(Unreadable::TooLarge) => "too large".into(),
        };
        for links in [Links::Followed, Links::Refused] {
            assert_eq!(read("file", 5, links), "12345");
            assert_eq!(read("file", 4, links), "too large");
            assert_eq!(read("missing", 5, links), "entity not found");
            for name in ["folder", "pipe", "/dev/zero"] {
                assert_eq!(read(name, 5, links), "no file", "{name}");
            }
        }
        assert_eq!(read("link", 5, Links::Followed), "12345");
        assert_eq!(read("link", 5, Links::Refused), "no file");
        assert_eq!(read("broken", 5, Links::Followed), "entity not found");
        assert_eq!(read("broken", 5, Links::Refused), "no file");
    }
}
