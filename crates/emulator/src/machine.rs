//! A running machine and its channels.

use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use boot_info::record::BootRecord;
use serde_json::Value;
use tempfile::TempDir;

use crate::process::Process;
use crate::{Capture, Error, MachineConfig, Qmp};

/// Longest time from the start of the process until all its channels are open.
const CONNECT: Duration = Duration::from_secs(30);

/// A running machine. Dropping it kills the emulator; see the crate's documentation for what else does.
pub struct Machine {
    // In the order in which they are dropped: the process first, its private folder last.
    process: Process,
    /// The control channel.
    pub qmp: Qmp,
    /// UART0, the console, which both worlds can write to.
    pub console: Capture,
    station: Option<Capture>,
    reset: Duration,
    /// How far the console and the station link have been looked at by [`Machine::observe`].
    pub(crate) console_seen: usize,
    station_seen: usize,
    folder: TempDir,
}

impl Machine {
    /// Starts the emulator. It connects to sockets that already listen, and the guest's first instruction waits
    /// until all its channels are open.
    ///
    /// # Errors
    /// [`Error::Spawn`] if it cannot be started, [`Error::Ended`] with its own words if it gives up.
    pub fn start(config: &MachineConfig) -> Result<Self, Error> {
        let folder = private_folder()?;
        let listen = |name: &&'static str| {
            let listener = UnixListener::bind(folder.path().join(name))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listeners: Vec<UnixListener> =
            config.channels().iter().map(listen).collect::<Result<_, _>>().map_err(Error::Folder)?;
        let process = Process::start(
            config.emulator(),
            config.arguments(folder.path()),
            &log_file(&folder),
            config.longest_life(),
        )?;
        let start = process.start_time();
        let mut streams = listeners
            .iter()
            .map(|listener| accept(listener, &process, &folder))
            .collect::<Vec<_>>()
            .into_iter();
        let mut next = || streams.next().unwrap_or(Err(Error::Folder(std::io::ErrorKind::NotFound.into())));
        let console = Capture::new("UART0", next()?, start)?;
        let station = if config.is_secure() { Some(Capture::new("UART1", next()?, start)?) } else { None };
        let opened = Qmp::open(next()?, start).and_then(|mut qmp| {
            qmp.execute("cont", Value::Null)?;
            Ok(qmp)
        });
        let qmp = match opened {
            Err(Error::Closed { .. } | Error::Io { .. }) => return Err(ended(&process, &folder)),
            other => other?,
        };
        let reset = start.elapsed();
        Ok(Self { process, qmp, console, station, reset, console_seen: 0, station_seen: 0, folder })
    }

    /// Returns the id of the emulator's process.
    pub fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Returns the time since just before the emulator's process was made.
    pub fn elapsed(&self) -> Duration {
        self.process.start_time().elapsed()
    }

    /// Returns when the guest's first instruction was let go, since just before the emulator's process was made.
    pub fn reset_at(&self) -> Duration {
        self.reset
    }

    /// Returns when the guest has been reset since it was started, by itself or by QMP.
    pub fn resets(&self) -> Vec<Duration> {
        self.qmp.events().iter().filter(|event| event.name == "RESET").map(|event| event.at).collect()
    }

    /// Returns every boot record so far and when it was whole, also those that were taken or observed already.
    /// Damaged ones are left out.
    pub fn records(&self) -> Vec<(Duration, BootRecord)> {
        let Some(station) = &self.station else { return Vec::new() };
        let bytes = station.bytes();
        let mut records = Vec::new();
        let mut at = 0;
        while let Some((record, used)) = bytes.get(at..).and_then(BootRecord::find) {
            if let (Ok(record), Some(time)) = (record, station.time_of(at + used - 1)) {
                records.push((time, record));
            }
            at += used;
        }
        records
    }

    /// Returns UART1, the station link, where the machine has one. [`Capture::connect`] lets a station take part
    /// in it.
    pub fn station(&self) -> Option<&Capture> {
        self.station.as_ref()
    }

    /// Returns what the emulator itself wrote to its standard output and error.
    pub fn emulator_log(&self) -> String {
        std::fs::read_to_string(log_file(&self.folder)).unwrap_or_default()
    }

    /// Returns the exit status if the emulator has ended.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        self.process.status()
    }

    /// Waits until the guest has powered off and the emulator has ended by itself.
    ///
    /// # Errors
    /// [`Error::Deadline`] after `within`, [`Error::Ended`] if it failed instead.
    pub fn wait_power_off(&self, within: Duration) -> Result<(), Error> {
        match self.process.wait(Instant::now() + within) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(Error::Ended {
                doing: "powering off",
                status: status.to_string(),
                stderr: self.emulator_log(),
            }),
            None => {
                let what = "the end of the emulator after power-off".into();
                Err(Error::Deadline { what, after: within, tail: self.console.text() })
            }
        }
    }

    /// Kills the emulator now, as a power cut would, and waits until it is gone.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Takes the next boot record from the station link without waiting; `None` while no whole one is there.
    ///
    /// # Errors
    /// [`Error::RecordDamaged`]; the damaged frame is then behind us.
    pub fn take_record(&mut self) -> Result<Option<BootRecord>, Error> {
        let Some(station) = &self.station else { return Ok(None) };
        let bytes = station.wait_change(self.station_seen, Instant::now());
        let Some((record, used)) = BootRecord::find(&bytes) else { return Ok(None) };
        self.station_seen += used;
        record.map(Some).map_err(Error::RecordDamaged)
    }
}

fn log_file(folder: &TempDir) -> PathBuf {
    folder.path().join("qemu.log")
}

/// Makes a folder that only we can enter. Socket paths are limited to 107 bytes, so where the usual place for
/// temporary files has a long name, `/tmp` serves.
fn private_folder() -> Result<TempDir, Error> {
    let mut builder = tempfile::Builder::new();
    let builder = builder.prefix("kiln-");
    let usual = std::env::temp_dir();
    if usual.as_os_str().len() <= 80 { builder.tempdir_in(usual) } else { builder.tempdir_in("/tmp") }
        .map_err(Error::Folder)
}

/// Tells in the emulator's own words why it gave up while it was starting. A closed channel comes a moment before
/// the end of the process.
fn ended(process: &Process, folder: &TempDir) -> Error {
    let status = process.wait(Instant::now() + Duration::from_secs(5));
    let stderr = std::fs::read_to_string(log_file(folder)).unwrap_or_default();
    let status = status.map_or_else(|| "its control channel closed".into(), |status| status.to_string());
    Error::Ended { doing: "starting", status, stderr }
}

fn accept(listener: &UnixListener, process: &Process, folder: &TempDir) -> Result<UnixStream, Error> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(false).map_err(Error::Folder)?;
                return Ok(stream);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(Error::Folder(error)),
        }
        if process.status().is_some() {
            return Err(ended(process, folder));
        }
        if process.start_time().elapsed() > CONNECT {
            let what = "the emulator's connection to its channels".into();
            return Err(Error::Deadline { what, after: CONNECT, tail: String::new() });
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
