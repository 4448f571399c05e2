//! One run of the emulator in which a device provisions itself: the stage that does it, the reset into production, the
//! closing proof, Linux.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use emulator::{Machine, Report};
use station::{Authorise, Event, Patience, Record};

use super::identity::KeepsCsr;
use crate::attended::{STATION_LATE, attend};
use crate::device::Device;
use crate::progress::{self, Step as Shown};

/// What came of it.
pub(crate) struct Provisioned {
    /// What the station knows.
    pub(crate) record: Record,
    /// The boot that came last.
    pub(crate) boot: Report,
    /// When that boot began, since just before the emulator's process was made.
    pub(crate) last_reset: Duration,
    /// When the device was powered on: its first instruction was let go, since then.
    pub(crate) powered_on: Duration,
    /// How often the device was reset.
    pub(crate) resets: usize,
}

/// Powers the device on, lets it provision itself and boot, and ends the emulator. `watch` is told what happens.
///
/// # Errors
/// If the emulator fails. A device that is refused is no error.
pub(crate) fn run(
    device: &Device,
    authority: &dyn Authorise,
    within: Duration,
    watch: &(dyn Fn(&Event) + Sync),
) -> Result<Provisioned> {
    let mut machine = Machine::start(&device.machine().lifetime(Some(within + STATION_LATE)))?;
    let patience = Patience { device: within, ..Patience::default() };
    let watch = |_: &str, event: &Event| watch(event);
    let expectation = device.expectation().within(within).through_resets();
    let way = KeepsCsr { authority, file: device.csr() };
    let attended = attend(&mut machine, &device.name(), &way, patience, &watch, |machine| {
        machine.observe(&expectation)
    })?;
    let resets = machine.resets();
    let last_reset = resets.last().copied().unwrap_or_default();
    let powered_on = machine.reset_at();
    let record = attended.record;
    Ok(Provisioned { record, boot: attended.seen?, last_reset, powered_on, resets: resets.len() })
}

/// The steps as a person sees them, one after the other.
#[derive(Default)]
pub(super) struct Steps(Mutex<Option<(String, Shown)>>);

impl Steps {
    pub(super) fn take(&self, event: &Event) {
        let mut now = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match event {
            Event::Began(name) => *now = Some((name.clone(), Shown::start(explained(name)))),
            Event::Ended(name, bytes) => match now.take() {
                Some((begun, shown)) if begun == *name => {
                    let size = if *bytes > 0 { progress::bytes(*bytes) } else { String::new() };
                    shown.done(&size);
                }
                other => *now = other,
            },
            Event::Asked(question) => {
                if let Some((_, shown)) = now.as_ref() {
                    shown.at(&format!("{} goes to the authority", question.name()));
                }
            }
            // The step that is open then is shown as failed.
            Event::Refused(_) => *now = None,
            Event::Done(station::Outcome::Pass) => {
                *now = Some((String::new(), Shown::start("booting it for good")));
            }
            Event::ChipId(_) | Event::Answered(_) | Event::Done(_) => {}
        }
    }

    pub(super) fn end(&self, booted: bool) {
        let now = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (true, Some((_, shown))) = (booted, now) {
            shown.done("");
        }
    }
}

/// Says what a step of the device does.
fn explained(step: &str) -> String {
    let what = match step {
        "self-test" => "tests its memory, flash, entropy, cryptography and timer",
        "prove-place" => "has its place proved by the boot ROM, and reads the package's index",
        "ask" => "asks the authority for a ticket",
        "be-born" => "draws the seed that all its keys come from",
        "re-key" => "encrypts the whole package anew, for itself alone",
        "identity" => "makes its identity key and requests a certificate",
        "replace" => "writes the production stage over this one",
        "check-and-fuse" => "checks all of it as the closed device will, then burns its fuses",
        "prove-closed" => "proves that it is closed, and gets its certificate",
        other => other,
    };
    format!("{step}: {what}")
}
