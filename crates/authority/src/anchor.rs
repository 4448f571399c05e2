//! The anchor: where the hash chain was, in a file that a copy of the database does not bring along.
//!
//! # What it defends against
//!
//! Whoever sets the books back to an older copy sets their count back too, and a lot could be provisioned twice. So the
//! head of the chain also stands in a file elsewhere: on another disk, a share that only appends, or wherever the same hand
//! does not reach. The order is
//!
//! ```text
//!  commit to the database ─▶ new anchor written and synced ─▶ renamed ─▶ folder synced ─▶ the answer leaves
//! ```
//!
//! The anchor may be behind the database, after a crash between the two, and never ahead of it. At the start, and before each
//! step, the anchor must lie on the database's own chain: an older database has no such link, and one that went another way
//! since has another there. Then the anchor follows. Whatever has been answered is anchored; also an answer that is given
//! again waits until it is.
//!
//! Not defended: who sets back database and anchor together, or writes the anchor: it is protected by where it lies, not by
//! a key. What was committed but never answered may be lost unnoticed with the database.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use boot_crypto::{Digest, sha256};
use serde::{Deserialize, Serialize};

use crate::fail_point::{self, FailPoint};
use crate::hex;
use crate::storage::sqlite::sync_folder;
use crate::storage::{Head, Storage, StorageError};

/// The form of the file.
const FORM: u32 = 1;
/// A file longer than this is no anchor, in bytes.
const MAX_FILE: u64 = 4096;

/// Where an authority's anchor is to be.
#[derive(Clone, Debug)]
pub struct AnchorFile {
    /// The file, outside of the authority's directory.
    pub path: PathBuf,
    /// Make it: there must be none yet. The books are taken as they are.
    pub new: bool,
}

/// What is wrong with an anchor, or with the books that it belongs to.
#[derive(Debug, thiserror::Error)]
pub enum AnchorError {
    /// There is none.
    #[error("the anchor {} is gone: nothing tells whether the database was set back", .0.display())]
    Missing(PathBuf),
    /// There is one already.
    #[error("there is an anchor {} already", .0.display())]
    Exists(PathBuf),
    /// It lies where the database does.
    #[error("the anchor {} lies in the authority's own directory: a copy of that would bring it along", .0.display())]
    Inside(PathBuf),
    /// It cannot be read as an anchor.
    #[error("{} is no anchor, or a damaged one: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// It belongs to other books.
    #[error("the anchor {} is that of another authority", .0.display())]
    Foreign(PathBuf),
    /// The database is older than the anchor.
    #[error(
        "the database was set back: it ends at link {database}, and link {anchor} of {} was answered for",
        path.display()
    )]
    SetBack {
        /// The anchor.
        path: PathBuf,
        /// Where it is.
        anchor: i64,
        /// Where the database is.
        database: i64,
    },
    /// The database has another link where the anchor is.
    #[error(
        "the database went another way than {} since it was copied: its link {anchor} is another",
        path.display()
    )]
    Forked {
        /// The anchor.
        path: PathBuf,
        /// Where it is.
        anchor: i64,
    },
    /// It cannot be read or written.
    #[error("the anchor {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl AnchorError {
    pub(crate) fn cure(&self) -> &'static str {
        match self {
            Self::Missing(_) => {
                "Bring the file back, or name the right one with --anchor. If you know that the database is the newest, begin a new one with --anchor-new."
            }
            Self::Exists(_) => "Leave --anchor-new out, or name another file.",
            Self::Inside(_) => "Name a file on another disk, or at least outside of that directory.",
            Self::Malformed { .. } => {
                "Bring back the anchor as it was. If you know that the database is the newest, remove the file and begin a new one with --anchor-new."
            }
            Self::Foreign(_) => "Name this authority's own anchor with --anchor.",
            Self::SetBack { .. } | Self::Forked { .. } => {
                "Bring back the newest database. If it is lost, devices were made that this one does not count: revoke its lots, and order the rest in new ones."
            }
            Self::File { .. } => "Correct the path, its permissions or the disk; nothing was answered.",
        }
    }
}

/// What the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    /// The beginning of the chain: which books these are.
    authority: Digest,
    head: Head,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    kiln_anchor: u32,
    #[serde(with = "hex")]
    authority: Digest,
    sequence: i64,
    #[serde(with = "hex")]
    head: Digest,
    /// Over the others: a digit that has changed makes a damaged anchor, not one of other books.
    #[serde(with = "hex")]
    check: Digest,
}

impl State {
    fn check(&self) -> Digest {
        let Self { authority, head } = self;
        sha256(&[&b"Kiln anchor v1"[..], authority, &head.sequence.to_le_bytes(), &head.digest].concat())
    }

    fn encode(&self) -> Result<Vec<u8>, serde_json::Error> {
        let written = Written {
            kiln_anchor: FORM,
            authority: self.authority,
            sequence: self.head.sequence,
            head: self.head.digest,
            check: self.check(),
        };
        let mut text = serde_json::to_vec_pretty(&written)?;
        text.push(b'\n');
        Ok(text)
    }

    fn decode(untrusted: &[u8]) -> Result<Self, String> {
        let written: Written = serde_json::from_slice(untrusted).map_err(|error| error.to_string())?;
        let head = Head { sequence: written.sequence, digest: written.head };
        let state = Self { authority: written.authority, head };
        match written {
            Written { kiln_anchor: FORM, check, .. } if check == state.check() => Ok(state),
            Written { kiln_anchor: FORM, .. } => Err("its digest is another".into()),
            Written { kiln_anchor, .. } => Err(format!("form {kiln_anchor}")),
        }
    }
}

/// The anchor of open books.
pub(crate) struct Anchor {
    path: PathBuf,
    /// Held while the file is compared and replaced: more than one process may write to one database.
    lock: File,
    authority: Digest,
    /// What the file held when it was last known to lie on the database's chain.
    known: Mutex<State>,
}

/// What became of a step.
enum Step {
    Done,
    /// Somebody else has written the file meanwhile.
    Moved(State),
}

impl Anchor {
    /// Opens the anchor of a database, or makes it, and lets it follow.
    pub(crate) async fn open(
        file: &AnchorFile,
        data: &Path,
        storage: &dyn Storage,
    ) -> Result<Arc<Self>, StorageError> {
        let path = outside(&file.path, data)?;
        let (authority, newest) = {
            let mut tx = storage.read().await?;
            let authority =
                tx.link(0).await?.ok_or_else(|| StorageError::Damaged("its hash chain is gone".into()))?;
            (authority, tx.commit().await?)
        };
        let lock = open_lock(&path)?;
        let state = if file.new {
            if path.exists() {
                return Err(AnchorError::Exists(path).into());
            }
            let state = State { authority, head: newest };
            replace(&path, &state)?;
            state
        } else {
            read(&path)?
        };
        let known = Mutex::new(state);
        let anchor = Arc::new(Self { path, lock, authority, known });
        anchor.on_chain(storage, &state).await?;
        anchor.follow(storage, newest).await?;
        Ok(anchor)
    }

    /// Returns the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets the anchor follow to a head that is durable in the database. Nothing may be told of it before.
    pub(crate) async fn follow(
        self: &Arc<Self>,
        storage: &dyn Storage,
        head: Head,
    ) -> Result<(), StorageError> {
        while self.known().head.sequence < head.sequence {
            let this = self.clone();
            let step = tokio::task::spawn_blocking(move || this.step(head));
            match step.await.map_err(|_| StorageError::Stopped)?? {
                Step::Done => {}
                Step::Moved(state) => {
                    self.on_chain(storage, &state).await?;
                    *self.known.lock().unwrap_or_else(PoisonError::into_inner) = state;
                }
            }
        }
        Ok(())
    }

    fn known(&self) -> State {
        *self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Replaces the file, if it is still what it was.
    fn step(&self, head: Head) -> Result<Step, AnchorError> {
        let failed = |error| AnchorError::File { path: self.path.clone(), error };
        self.lock.lock().map_err(failed)?;
        let step = read(&self.path).and_then(|found| {
            if found != self.known() {
                return Ok(Step::Moved(found));
            }
            let state = State { authority: self.authority, head };
            replace(&self.path, &state)?;
            *self.known.lock().unwrap_or_else(PoisonError::into_inner) = state;
            Ok(Step::Done)
        });
        self.lock.unlock().map_err(failed)?;
        step
    }

    /// Checks that what the file holds is a link of the database's own chain.
    async fn on_chain(&self, storage: &dyn Storage, state: &State) -> Result<(), StorageError> {
        let path = || self.path.clone();
        if state.authority != self.authority {
            return Err(AnchorError::Foreign(path()).into());
        }
        let mut tx = storage.read().await?;
        let anchor = state.head.sequence;
        match tx.link(anchor).await? {
            Some(link) if link == state.head.digest => Ok(()),
            Some(_) => Err(AnchorError::Forked { path: path(), anchor }.into()),
            None => {
                let database = tx.commit().await?.sequence;
                Err(AnchorError::SetBack { path: path(), anchor, database }.into())
            }
        }
    }
}

/// Checks that an anchor does not lie in the directory of its database, and returns its whole path.
fn outside(path: &Path, data: &Path) -> Result<PathBuf, AnchorError> {
    let failed = |error| AnchorError::File { path: path.into(), error };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidFilename.into()))?;
    let folder = folder.canonicalize().map_err(failed)?;
    let data = data.canonicalize().map_err(|error| AnchorError::File { path: data.into(), error })?;
    if folder.starts_with(data) {
        return Err(AnchorError::Inside(path.into()));
    }
    Ok(folder.join(name))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn open_lock(path: &Path) -> Result<File, AnchorError> {
    let path = beside(path, ".lock");
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    opened.map_err(|error| AnchorError::File { path, error })
}

fn read(path: &Path) -> Result<State, AnchorError> {
    let malformed = |why: String| AnchorError::Malformed { path: path.into(), why };
    let failed = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => AnchorError::Missing(path.into()),
        _ => AnchorError::File { path: path.into(), error },
    };
    if path.metadata().map_err(failed)?.len() > MAX_FILE {
        return Err(malformed("it is too long".into()));
    }
    State::decode(&fs::read(path).map_err(failed)?).map_err(malformed)
}

/// Writes a file anew so that at any time the old or the new one is there, whole.
fn replace(path: &Path, state: &State) -> Result<(), AnchorError> {
    let new = beside(path, ".new");
    let write = || {
        fail_point::hit(FailPoint::BeforeAnchor);
        let mut file = File::create(&new)?;
        file.write_all(&state.encode()?)?;
        file.sync_all()?;
        fail_point::hit(FailPoint::AnchorWritten);
        fs::rename(&new, path)?;
        fail_point::hit(FailPoint::AnchorRenamed);
        sync_folder(path)?;
        fail_point::hit(FailPoint::AfterAnchor);
        Ok(())
    };
    write().map_err(|error| AnchorError::File { path: path.into(), error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_cut_or_changed_in_an_anchor_is_noticed() {
        let state = State { authority: [0xA7; 32], head: Head { sequence: 1_234, digest: [0x5C; 32] } };
        let good = state.encode().unwrap();
        assert_eq!(State::decode(&good), Ok(state));
        // The last byte is a line's end, without which it means the same.
        for length in 0..good.len() - 1 {
            assert!(State::decode(&good[..length]).is_err(), "length {length}");
        }
        let digits = good.iter().enumerate().filter(|(_, byte)| byte.is_ascii_hexdigit());
        let mut changed = 0;
        for (at, byte) in digits {
            let mut bad = good.clone();
            bad[at] = if *byte == b'7' { b'1' } else { b'7' };
            assert!(State::decode(&bad).is_err(), "byte {at}");
            changed += 1;
        }
        assert!(changed > 196, "only {changed} digits");
        for junk in [&b"[]"[..], &[0; 300], &[&good[..], b"{}"].concat()] {
            assert!(State::decode(junk).is_err());
        }
    }
}
