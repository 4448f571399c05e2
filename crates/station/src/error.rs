//! Why a station cannot work at all. What happens to a device is no error: it is its [`Record`](crate::Record).

use std::io;
use std::path::PathBuf;

/// Everything that can be wrong with a station's own set-up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A certificate or key is not one.
    #[error("{what} is not usable: {reason}")]
    Credential {
        /// Which one.
        what: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// The authority's address is not one.
    #[error("{url:?} is no address of an authority: it begins with https://")]
    Url {
        /// What was given.
        url: String,
    },
    /// The name of a lot is not one.
    #[error("{lot:?} is no name of a lot: letters, digits, `-`, `_` and `.` make one")]
    LotName {
        /// What was given.
        lot: String,
    },
    /// A link to a device cannot be opened.
    #[error("cannot open the link {link}: {reason}")]
    Link {
        /// As it was given.
        link: String,
        /// What the system said.
        reason: String,
    },
    /// Two devices have the same name or the same link.
    #[error("{what} is given twice")]
    Twice {
        /// Which one.
        what: String,
    },
}
