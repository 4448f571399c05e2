//! What can go wrong around an emulator.

use std::io;
use std::time::Duration;

/// Why a machine could not be started, driven or observed. A refusal by the firmware is no error: it is a
/// [`Report`](crate::Report).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The private folder or its sockets could not be made.
    #[error("cannot prepare the private folder of the emulator: {0}")]
    Folder(#[source] io::Error),
    /// The emulator, or `setpriv` that ties its life to ours, could not be started.
    #[error("cannot start {program}: {source} (`cargo xtask doctor` lists the tools that are needed)")]
    Spawn {
        /// What was to be started.
        program: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The emulator ended where it should have gone on.
    #[error("the emulator ended while {doing} ({status}){}", said(.stderr))]
    Ended {
        /// What was going on.
        doing: &'static str,
        /// Its exit status.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// A deadline passed.
    #[error("{what}: not within {after:?}{}", heard(.tail))]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        after: Duration,
        /// The last that was heard on the channel.
        tail: String,
    },
    /// A channel to the guest closed, because the guest powered off or the emulator was killed.
    #[error("{what}: the channel closed first{}", heard(.tail))]
    Closed {
        /// What was waited for.
        what: String,
        /// The last that was heard on the channel.
        tail: String,
    },
    /// A message on the control channel is not QMP.
    #[error("the emulator's control channel said {0:?}, which is not QMP")]
    NotQmp(String),
    /// The emulator refused a QMP command.
    #[error("the emulator refused `{command}`: {reason}")]
    QmpRefused {
        /// The command.
        command: String,
        /// The emulator's description.
        reason: String,
    },
    /// A frame on the station link is no boot record.
    #[error("a boot record on the station link is damaged: {0:?}")]
    RecordDamaged(boot_info::record::Error),
    /// User space was seen, but no boot record.
    #[error(
        "the guest was reached, but no boot record came on the station link: its firmware is not Kiln's, or is broken"
    )]
    NoRecord,
    /// A socket or a file failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done.
        what: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

fn said(stderr: &str) -> String {
    let stderr = stderr.trim();
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

fn heard(tail: &str) -> String {
    let tail = tail.trim();
    if tail.is_empty() { "; nothing was heard".into() } else { format!("; last heard: {tail}") }
}
