//! A machine with a station at its link.

use std::sync::mpsc::channel;
use std::time::Duration;

use anyhow::{Context as _, Result};
use emulator::Machine;
use station::{Authorise, Patience, Record, Socket, Transcript, Watch, serve};

/// How long a station that has heard the last of its device may take.
pub const STATION_LATE: Duration = Duration::from_secs(5);

/// What came of it.
pub struct Attended<T> {
    /// What was seen of the machine.
    pub seen: T,
    /// What the station knows.
    pub record: Record,
    /// What the station saw.
    pub transcript: Transcript,
}

/// Serves the device `name`, which runs in `machine`, from a thread of its own, while `look` watches the machine; then
/// ends the emulator.
///
/// # Errors
/// A machine without a station link.
pub fn attend<T>(
    machine: &mut Machine,
    name: &str,
    authority: &dyn Authorise,
    patience: Patience,
    watch: Watch<'_>,
    look: impl FnOnce(&mut Machine) -> T,
) -> Result<Attended<T>> {
    let line = machine.station().context("the machine has no station link")?.connect()?;
    let mut link = Socket::new(line)?;
    let (seen, (record, transcript)) = std::thread::scope(|scope| {
        let (done, ended) = channel();
        let station = scope.spawn(move || {
            let served = serve(name, &mut link, authority, patience, watch);
            let _ = done.send(());
            served
        });
        let seen = look(machine);
        // The station hears the last word a moment after the console shows it; without one it is cut off.
        let _ = ended.recv_timeout(STATION_LATE);
        machine.kill();
        (seen, station.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    Ok(Attended { seen, record, transcript })
}
