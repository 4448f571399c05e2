//! What goes wrong inside the authority, and what it refuses.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use fail_code::FailCode;

use crate::anchor::AnchorError;
use crate::seal::SealError;
use crate::storage::StorageError;

/// Why the authority, or one of its commands, could not do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database fails.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Another service serves these books.
    #[error("another service serves the authority in {}", .0.display())]
    Serving(PathBuf),
    /// A secret cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A file cannot be read or written.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// There is no authority where one was to be opened.
    #[error("{} holds no authority", .0.display())]
    NotInitialised(PathBuf),
    /// There is one already.
    #[error("{} holds an authority already", .0.display())]
    AlreadyInitialised(PathBuf),
    /// A record of the database is not what this release writes.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// A certificate could not be made.
    #[error("a certificate cannot be made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// A message could not be signed.
    #[error("a message cannot be signed: {0}")]
    Sign(#[from] sealed_image::host::SealError),
    /// The TLS settings are not sound.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Nobody can listen at this address.
    #[error("cannot listen at {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        error: io::Error,
    },
    /// The threads of the service could not be started.
    #[error("the service cannot start: {0}")]
    Runtime(io::Error),
    /// A lot, an install or a part of one is described wrongly.
    #[error("{what}: {why}")]
    Invalid {
        /// What was described.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// There is a lot of this name already.
    #[error("there is a lot {0} already")]
    LotExists(String),
    /// There is no such lot.
    #[error("there is no lot {0}")]
    NoSuchLot(String),
    /// There is no such install.
    #[error("there is no install {0}")]
    NoSuchInstall(String),
    /// The quota would be below what is issued.
    #[error("lot {lot} has {issued} installs: its quota cannot be {quota}")]
    QuotaBelowIssued {
        /// The lot.
        lot: String,
        /// Its installs.
        issued: u32,
        /// What was asked for.
        quota: u32,
    },
    /// A closed install cannot be voided.
    #[error("install {0} is closed: its certificate is released")]
    InstallClosed(String),
    /// A sealed content key cannot be opened.
    #[error("the sealed content key: {0}")]
    ContentKey(#[from] release::SealedKeyFault),
    /// What cannot be undone was not confirmed.
    #[error("{0} cannot be undone")]
    Unconfirmed(String),
    /// Nobody delegated to this authority under the lot's owner root.
    #[error("no delegation of the role authority under the owner root {root}")]
    NotDelegated {
        /// The thumbprint of the root.
        root: String,
    },
    /// A delegation that this authority cannot use.
    #[error("the delegation cannot be used: {0}")]
    Delegation(String),
    /// A client of the measurement failed.
    #[error("the measurement failed: {0}")]
    Measurement(String),
}

/// What to do about a damaged database.
const DAMAGED: &str = "Find out how it was damaged. Bring back the newest database, with its -wal file; an older copy does not count all devices that were made.";

impl From<AnchorError> for Error {
    fn from(error: AnchorError) -> Self {
        Self::Storage(error.into())
    }
}

impl Error {
    /// Returns what a person does next.
    pub fn cure(&self) -> &'static str {
        match self {
            Self::Storage(StorageError::Anchor(error)) => error.cure(),
            Self::Storage(StorageError::Damaged(_)) => DAMAGED,
            Self::Storage(_) => {
                "Look at the disk and at who else has the database open; nothing was answered."
            }
            Self::Seal(error) => error.cure(),
            Self::File { .. } => "Correct the path or its permissions.",
            Self::NotInitialised(_) => "Make one with `init`, or name the right directory with --data.",
            Self::AlreadyInitialised(_) => "Use it, or name another directory with --data.",
            Self::Damaged(_) => DAMAGED,
            Self::Serving(_) => {
                "Stop the other one, or leave this one out: one is enough, and two would not be faster."
            }
            Self::Certificate(_) => "Correct the names that the certificate was to hold.",
            Self::Sign(_) => "Look at where the signing key is kept.",
            Self::Tls(_) => "Give a certificate and the key that belongs to it.",
            Self::Listen { .. } => "Choose another port, or 0 for any; stop who uses this one.",
            Self::Runtime(_) => "Look at the limits of threads and open files.",
            Self::Invalid { .. } => "Correct it and try again; nothing was changed.",
            Self::LotExists(_) => "Choose another name; the terms of a lot never change.",
            Self::NoSuchLot(_) => "`lot list` shows the lots.",
            Self::NoSuchInstall(_) => "`install list` shows the installs.",
            Self::QuotaBelowIssued { .. } => "Revoke the lot to stop it; an install is never taken back.",
            Self::InstallClosed(_) => {
                "A device that has its certificate is revoked where certificates are checked."
            }
            Self::ContentKey(fault) => fault.cure(),
            Self::Unconfirmed(_) => "Add --yes if you mean it.",
            Self::NotDelegated { .. } => {
                "Have the owner root delegate the role to the key that `init` printed, and give it with `delegation add`."
            }
            Self::Delegation(_) => "Have the owner root sign one for the key that `key show` prints.",
            Self::Measurement(_) => "Look at the limits of open files, and at what else the machine does.",
        }
    }
}

/// Why a request was refused: the stable code, and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code} ({detail})")]
pub struct Refusal {
    /// The code that the device and the station are told.
    pub code: FailCode,
    /// What was found, for the audit; never a secret.
    pub detail: String,
}

impl Refusal {
    /// Makes a refusal. The detail is cut at 200 bytes: parts of it come from whoever asked.
    pub(crate) fn new(code: FailCode, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        detail.truncate(detail.floor_char_boundary(200));
        Self { code, detail }
    }
}
