//! A die that becomes a device.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use boot_crypto::Key;
use boot_info::closing::ClosingState;
use emulator::{Machine, MachineConfig, Report};
use factory_proto::Message;
use lifecycle::{Fuses, Lifecycle, OtpImage, WORDS};
use memory_map::qemu_virt::{CLOSING_STATE, DRAM_MIN, OTP, OTP_WORDS};
use memory_map::{MIB, Region};
use release::{DeviceFiles, DieSecrets, Profile, SiliconVendor, Start, fabricate, preprovision};
use stage1_provision::journal::Recorded;
use stage1_provision::machine::Step;
use station::{Authorise, Event, Failure, Patience, Record, Transcript};
use tempfile::TempDir;
use xtask::attended::attend;

use super::{FlashFile, Moment, Package};
use crate::device::Turn;
use crate::{Firmware, expectation};

/// How long a device may take for anything on a machine that is busy. Reached only by a defect.
const WITHIN: Duration = Duration::from_secs(90);

/// A die, and the files of the device around it.
pub struct Die {
    /// Its files.
    pub files: DeviceFiles,
    /// Its chip id.
    pub chip_id: [u8; 16],
    change: Box<dyn Fn(MachineConfig) -> MachineConfig + Send + Sync>,
    // Dropped last.
    _folder: TempDir,
}

/// A time that a device was on, up to its boot for good or a refusal.
pub struct Run {
    /// Its last boot.
    pub boot: Report,
    /// The console from power-on.
    pub console: String,
    /// How often it was reset.
    pub resets: usize,
    /// The station's record.
    pub record: Record,
    /// Everything that the station saw.
    pub transcript: Transcript,
    /// The journal when the device asked to be counted as closed: whole for the last time.
    pub journal: Vec<Recorded>,
}

/// A time that a device was on until power went away.
pub struct Cut {
    /// Whether it came in time.
    pub counts: bool,
    /// The journal as it lies in the flash; empty where it is damaged.
    pub journal: Vec<Recorded>,
    /// The station's record.
    pub record: Record,
    /// The console.
    pub console: String,
}

impl Die {
    /// Makes a blank die of a vendor.
    ///
    /// # Panics
    /// If it cannot be made: so do all functions here.
    pub fn blank(vendor: &SiliconVendor) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the device");
        let files = DeviceFiles::new(folder.path().join("device"));
        let die = fabricate(vendor, &Firmware::get().stage0, &files).expect("a die");
        let change = Box::new(|config: MachineConfig| config);
        Self { files, chip_id: die.chip_id, change, _folder: folder }
    }

    /// Makes a die and pre-provisions it with a package.
    pub fn secured(vendor: &SiliconVendor, package: &Package) -> Self {
        let die = Self::blank(vendor);
        preprovision(&die.files, &package.release, Start::Blank).expect("a die that is pre-provisioned");
        die
    }

    /// Changes the machine around it.
    pub fn machine(
        mut self,
        change: impl Fn(MachineConfig) -> MachineConfig + Send + Sync + 'static,
    ) -> Self {
        self.change = Box::new(change);
        self
    }

    /// Returns the machine that it is.
    pub fn config(&self) -> MachineConfig {
        let config = MachineConfig::device(self.files.folder()).memory_mib((DRAM_MIN / MIB) as u32);
        (self.change)(config.lifetime(Some(2 * WITHIN)))
    }

    /// Powers it on with a station, and lets it go on until it boots for good or refuses.
    pub fn provision(&self, authority: &dyn Authorise) -> Run {
        self.provision_and_watch(authority, &|_| ())
    }

    /// Does the same, and tells `watch` what the station hears.
    pub fn provision_and_watch(&self, authority: &dyn Authorise, watch: &(dyn Fn(&Event) + Sync)) -> Run {
        let _turn = Turn::take();
        let mut machine = self.start();
        let tap = Tap { authority, files: &self.files, journal: Mutex::default() };
        let look = |machine: &mut Machine| machine.observe(&expectation().within(WITHIN).through_resets());
        let watch = |_: &str, event: &Event| watch(event);
        let attended =
            attend(&mut machine, "device", &tap, patience(), &watch, look).expect("a link to the device");
        Run {
            boot: attended.seen.unwrap_or_else(|error| panic!("{error}")),
            console: machine.console.text(),
            resets: machine.resets().len(),
            record: attended.record,
            transcript: attended.transcript,
            journal: tap.journal.into_inner().expect("no panic of the station"),
        }
    }

    /// Powers it on without a station, until it boots or refuses.
    pub fn boot(&self) -> Report {
        let _turn = Turn::take();
        self.start().observe(&expectation().within(WITHIN)).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Powers it on with a station, and kills the emulator at a moment, or `after` it.
    pub fn cut(&self, authority: &dyn Authorise, moment: Moment, after: Duration) -> Cut {
        let is_now = |flash: &mut FlashFile, closing| {
            (closing || moment != Moment::ProvesClosed) && moment.is_now(flash)
        };
        let cut = self.cut_when(authority, is_now, after);
        Cut { counts: moment.is_now(&mut self.flash()), ..cut }
    }

    /// Powers it on with a station, and kills the emulator once `is_now` says so, or `after` that: it is shown the flash,
    /// and whether the device has begun to prove that it is closed. The cut counts if the device had not come to its end.
    ///
    /// # Panics
    /// If the device comes neither there nor to its end: it hangs.
    pub fn cut_when(
        &self,
        authority: &dyn Authorise,
        mut is_now: impl FnMut(&mut FlashFile, bool) -> bool,
        after: Duration,
    ) -> Cut {
        let _turn = Turn::take();
        let mut machine = self.start();
        let (over, closing) = (AtomicBool::new(false), AtomicBool::new(false));
        let watch = |_: &str, event: &Event| match event {
            Event::Began(step) if step == Step::ProveClosed.name() => closing.store(true, Ordering::Relaxed),
            Event::Done(_) => over.store(true, Ordering::Relaxed),
            _ => {}
        };
        let look = |machine: &mut Machine| {
            let mut flash = self.flash();
            let deadline = Instant::now() + WITHIN;
            let mut is_now = || is_now(&mut flash, closing.load(Ordering::Relaxed));
            let hangs = loop {
                if is_now() || over.load(Ordering::Relaxed) {
                    break false;
                }
                if Instant::now() > deadline {
                    break true;
                }
                std::thread::sleep(Duration::from_micros(20));
            };
            std::thread::sleep(after);
            // The link ends with the machine, and then the station is done as well.
            let in_time = !over.load(Ordering::Relaxed);
            machine.kill();
            (in_time, hangs)
        };
        let attended = attend(&mut machine, "device", authority, patience(), &watch, look)
            .expect("a link to the device");
        let (counts, hangs) = attended.seen;
        let said = machine.console.text();
        assert!(!hangs, "in {WITHIN:?} the device has come neither there nor to its end: {said}");
        let mut flash = self.flash();
        Cut {
            counts,
            journal: flash.journal().unwrap_or_default(),
            record: attended.record,
            console: machine.console.text(),
        }
    }

    /// Powers it on without a station, and lets `watch` watch it.
    pub fn watch<T>(&self, watch: impl FnOnce(&mut Machine) -> T) -> T {
        let _turn = Turn::take();
        watch(&mut self.start())
    }

    /// Burns its fuses as somebody does who holds no promise: locks are not looked at.
    pub fn burn(&self, burn: impl FnOnce(&mut OtpImage)) {
        let mut otp = OtpImage::from_flash(&self.region(OTP));
        burn(&mut otp);
        let words = otp.to_flash(4 * WORDS);
        self.files.write_flash0("the fuses", OTP_WORDS, &words).expect("a file that can be written");
    }

    /// Writes a region of its flash over, as a programmer of loose flash does.
    pub fn write(&self, region: Region, bytes: &[u8]) {
        self.files.write_flash0("flash", region, bytes).expect("a file that can be written");
    }

    /// Starts its machine.
    pub fn start(&self) -> Machine {
        Machine::start(&self.config()).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Opens its flash, to be read.
    pub fn flash(&self) -> FlashFile {
        FlashFile::open(&self.files.flash0())
    }

    /// Reads a region of its flash.
    pub fn region(&self, region: Region) -> Vec<u8> {
        self.flash().region(region)
    }

    /// Reads its fuses.
    pub fn fuses(&self) -> Fuses {
        Fuses::read(&self.files.otp().expect("an OTP bank")).expect("fuses that are whole")
    }

    /// Reads its lifecycle.
    pub fn lifecycle(&self) -> Lifecycle {
        Fuses::read_lifecycle(&self.files.otp().expect("an OTP bank")).expect("a lifecycle")
    }

    /// Tells whether it knows that it is counted as closed: it has nothing more to ask the authority for.
    pub fn is_acknowledged(&self) -> bool {
        let state = self.region(CLOSING_STATE.part(0, ClosingState::SIZE as u64));
        state.first_chunk().and_then(ClosingState::parse).is_some_and(|state| state.acknowledged)
    }

    /// Returns the device seed, which is burned.
    pub fn device_seed(&self) -> Key {
        Key::new(*self.fuses().device_seed().expect("a seed that is burned").expose())
    }

    /// Derives the keys that its storage is sealed under, as whoever had decapped the die could.
    pub fn secrets(&self) -> DieSecrets {
        let fuses = self.fuses();
        let seed = self.device_seed();
        let secret = fuses.silicon_secret().expose();
        DieSecrets::new(Profile::Production, secret, seed.expose(), self.chip_id, 0)
            .expect("secrets that are not published")
    }
}

/// How patient the station is: a defect is to be seen within a test's time.
fn patience() -> Patience {
    Patience { device: WITHIN, ..Patience::default() }
}

/// Reads the journal when the device asks to be counted as closed.
struct Tap<'a> {
    authority: &'a dyn Authorise,
    files: &'a DeviceFiles,
    journal: Mutex<Vec<Recorded>>,
}

impl Authorise for Tap<'_> {
    fn ask(&self, question: Message, body: &[u8]) -> Result<Vec<u8>, Failure> {
        if question == Message::ClosingProof {
            *self.journal.lock().expect("no panic of the station") = super::journal(&self.files.flash0());
        }
        self.authority.ask(question, body)
    }
}
