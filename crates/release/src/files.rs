//! Files, with errors that name them.

use crate::Error;
use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
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

/// Writes a file that must not be there yet.
pub(crate) fn write_new(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), Error> {
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        if readers == Readers::Owner {
            use std::os::unix::fs::OpenOptionsExt as _;
            options.mode(0o600);
        }
        let mut file = options.open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|error| Error::Write { path: path.into(), error })
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
