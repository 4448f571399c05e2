//! The draft of a release: a folder next to its place, in which all is made first.
//!
//! # Threats
//! *A run that is killed* leaves its draft, with the provisioning key in it. The next run into the same place removes it.
//! *A run that goes on at the same time* must not lose its draft to another one: each holds a lock (`flock`) on a file in
//! its draft, which ends with the process, however that ends. The file gets its name when it is locked already; a draft
//! without one may be that of a run which begins just now, and is left alone. So is whatever is no folder.

use crate::Error;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const PREFIX: &str = ".kiln-release-";
/// The file that is locked as long as its run goes on.
const LOCK: &str = "lock";

/// A draft; removed when dropped.
pub(super) struct Draft {
    // Dropped in this order: the draft goes while its lock is held.
    folder: TempDir,
    _lock: Option<File>,
}

impl Draft {
    /// Makes an empty draft next to where the release is to be, and removes those there whose runs were killed.
    ///
    /// # Errors
    /// A place that cannot be written to.
    pub(super) fn make_next_to(release: &Path) -> Result<Self, Error> {
        let parent = match release.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        sweep(parent);
        Self::make_in(parent).map_err(|error| Error::Write { path: release.into(), error })
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent)?;
        let unnamed = folder.path().join("lock.new");
        let lock = File::create_new(&unnamed)?;
        // Some network file systems have no locks: there a draft is removed by nobody but its own run.
        let locked = flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok();
        if locked {
            fs::rename(&unnamed, folder.path().join(LOCK))?;
        }
        Ok(Self { folder, _lock: locked.then_some(lock) })
    }

    /// Returns where the release is drafted: a folder that is not there yet, so that it gets the mode that the user's
    /// defaults give it.
    pub(super) fn place(&self) -> PathBuf {
        self.folder.path().join("release")
    }
}

/// Removes the drafts of runs that were killed, as far as that can be done: they are in nobody's way.
fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let is_draft = entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX));
        if is_draft && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            // Held until the draft is gone, so that no other run removes it too.
            if let Some(_lock) = lock_of_the_dead(&entry.path()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }
}

/// Takes the lock of a draft; `None` if its run goes on, or that cannot be told.
fn lock_of_the_dead(draft: &Path) -> Option<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let lock = File::from(rustix::fs::open(draft.join(LOCK), flags, Mode::empty()).ok()?);
    flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(lock)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(parent: &Path) -> usize {
        fs::read_dir(parent).unwrap().count()
    }

    #[test]
    fn a_draft_goes_with_its_run() {
        let parent = tempfile::tempdir().unwrap();
        let draft = Draft::make_next_to(&parent.path().join("r1")).unwrap();
        fs::create_dir(draft.place()).unwrap();
        assert_eq!(left(parent.path()), 1);
        drop(draft);
        assert_eq!(left(parent.path()), 0);
    }

    #[test]
    fn the_draft_of_a_run_that_was_killed_is_removed_by_the_next_and_that_of_one_that_goes_on_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let running = Draft::make_next_to(&parent.path().join("r1")).unwrap();
        let killed = Draft::make_next_to(&parent.path().join("r1")).unwrap();
        fs::create_dir(killed.place()).unwrap();
        fs::write(killed.place().join("provisioning.key"), "a key").unwrap();
        // What the end of a process does: its lock is gone, its draft is not.
        let Draft { folder, _lock: lock } = killed;
        let killed = folder.keep();
        drop(lock);
        let next = Draft::make_next_to(&parent.path().join("r1")).unwrap();
        assert!(!killed.exists());
        assert!(running.folder.path().exists() && next.folder.path().exists());
        drop((running, next));
        assert_eq!(left(parent.path()), 0);
    }

    #[test]
    fn what_is_no_draft_of_a_dead_run_stays() {
        let parent = tempfile::tempdir().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join(LOCK), "").unwrap();
        let path = |name: &str| parent.path().join(format!("{PREFIX}{name}"));
        // One that begins just now, a file, a link, and a lock that is none.
        fs::create_dir(path("new")).unwrap();
        fs::write(path("file"), "").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), path("link")).unwrap();
        fs::create_dir(path("linked")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join(LOCK), path("linked").join(LOCK)).unwrap();
        drop(Draft::make_next_to(&parent.path().join("r1")).unwrap());
        assert_eq!(left(parent.path()), 4);
        assert!(elsewhere.path().join(LOCK).exists());
    }
}
