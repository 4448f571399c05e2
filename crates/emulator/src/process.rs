//! A process that cannot outlive its owner.
//!
//! - The owner drops it: it is killed by its own id and reaped before `drop` returns.
//! - The owner panics: the same, while unwinding.
//! - The owner's process dies in any other way, `kill -9` included: the kernel kills the child. `setpriv
//!   --pdeathsig` asks for that before it becomes the child. The signal follows the *thread* that started the
//!   child, so a thread of its own starts it, waits for it, and ends only after it.
//! - The owner's process dies before `setpriv` has asked: QEMU then finds nobody listening on its sockets and
//!   ends by itself.
//! - The owner hangs: the child is killed when its lifetime is over.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::Error;

/// How often the keeper looks whether the child has ended by itself.
const LOOK: Duration = Duration::from_millis(5);

/// A running child process.
pub(crate) struct Process {
    id: u32,
    start: Instant,
    orders: Sender<()>,
    status: Arc<Mutex<Option<ExitStatus>>>,
    keeper: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts `program` with no standard input, with its output in `log`, for at most `lifetime`.
    pub(crate) fn start(
        program: &Path,
        arguments: Vec<OsString>,
        log: &Path,
        lifetime: Option<Duration>,
    ) -> Result<Self, Error> {
        let out = File::create(log).map_err(Error::Folder)?;
        let err = out.try_clone().map_err(Error::Folder)?;
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program).args(arguments);
        command.stdin(Stdio::null()).stdout(out).stderr(err);

        let status = Arc::new(Mutex::new(None));
        let (orders, inbox) = channel();
        let (report, started) = channel();
        let keeper = {
            let status = Arc::clone(&status);
            std::thread::spawn(move || {
                let start = Instant::now();
                match command.spawn() {
                    Ok(child) => {
                        let end = lifetime.map(|lifetime| start + lifetime);
                        let _ = report.send(Ok((child.id(), start)));
                        keep(child, &inbox, end, &status);
                    }
                    Err(error) => drop(report.send(Err(error))),
                }
            })
        };
        match started.recv() {
            Ok(Ok((id, start))) => Ok(Self { id, start, orders, status, keeper: Some(keeper) }),
            Ok(Err(source)) => Err(Error::Spawn { program: "setpriv (package util-linux)".into(), source }),
            Err(_) => Err(Error::Spawn {
                program: program.display().to_string(),
                source: std::io::ErrorKind::Other.into(),
            }),
        }
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Returns the moment just before the process was made.
    pub(crate) fn start_time(&self) -> Instant {
        self.start
    }

    /// Returns the exit status once the process has ended.
    pub(crate) fn status(&self) -> Option<ExitStatus> {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the process has ended by itself; `None` at the deadline.
    pub(crate) fn wait(&self, deadline: Instant) -> Option<ExitStatus> {
        while self.status().is_none() && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        self.status()
    }

    /// Kills the process and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        // An error means that the keeper has already reaped the child.
        let _ = self.orders.send(());
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keep(mut child: Child, inbox: &Receiver<()>, end: Option<Instant>, status: &Mutex<Option<ExitStatus>>) {
    let last = loop {
        if let Ok(Some(status)) = child.try_wait() {
            break status;
        }
        let order = inbox.recv_timeout(LOOK);
        let over = end.is_some_and(|end| Instant::now() >= end);
        if over || !matches!(order, Err(RecvTimeoutError::Timeout)) {
            let _ = child.kill();
            // A child that was killed and cannot be reaped is none of ours any more: it counts as killed.
            break child.wait().unwrap_or_else(|_| ExitStatus::from_raw(9));
        }
    };
    *status.lock().unwrap_or_else(PoisonError::into_inner) = Some(last);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(seconds: &str, lifetime: Option<Duration>) -> Process {
        let log = tempfile::NamedTempFile::new().unwrap();
        Process::start(Path::new("sleep"), vec![seconds.into()], log.path(), lifetime).unwrap()
    }

    fn alive(id: u32) -> bool {
        // A zombie still has an entry: it must have been reaped too.
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[test]
    fn dropping_kills_and_reaps() {
        let process = sleeper("60", None);
        let id = process.id();
        assert!(alive(id));
        drop(process);
        assert!(!alive(id));
    }

    #[test]
    fn the_lifetime_ends_a_process_that_nobody_looks_after() {
        let process = sleeper("60", Some(Duration::from_millis(100)));
        let status = process.wait(Instant::now() + Duration::from_secs(5)).unwrap();
        assert_eq!(status.signal(), Some(9));
        assert!(!alive(process.id()));
    }

    #[test]
    fn an_ordinary_end_is_seen() {
        let process = sleeper("0", None);
        assert!(process.wait(Instant::now() + Duration::from_secs(5)).unwrap().success());
    }

    #[test]
    fn a_process_dies_with_a_parent_that_was_killed() {
        // A shell stands for the test program: setpriv watches its parent, whatever that is.
        let mut parent = Command::new("sh")
            .args(["-c", "setpriv --pdeathsig KILL -- sleep 60 & echo $!; wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = std::io::BufReader::new(parent.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut out, &mut line).unwrap();
        let id: u32 = line.trim().parse().unwrap();
        assert!(alive(id));
        // setpriv must have had the time to ask.
        let comm = || std::fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        let deadline = Instant::now() + Duration::from_secs(5);
        while comm().trim() != "sleep" && Instant::now() < deadline {
            std::thread::sleep(LOOK);
        }
        parent.kill().unwrap();
        parent.wait().unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // Orphans are reaped by init; where there is none, a zombie remains, which runs no more.
        while alive(id) && !state().contains(") Z ") {
            assert!(Instant::now() < deadline, "{} still runs: {}", id, state());
            std::thread::sleep(LOOK);
        }
    }
}
