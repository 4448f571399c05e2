//! A device in QEMU.

use std::path::Path;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use emulator::{Expectation, Machine, MachineConfig, Report};
use lifecycle::OtpImage;
use memory_map::Region;
use memory_map::qemu_virt::OTP;
use release::{FlashLayout, flatten_elf, write_disk};
use sealed_image::host::Facts;
use store::Slot;
use tempfile::TempDir;

use crate::{Firmware, Maker, elf};

/// How long a boot of a few hundred KiB may take on a machine that is busy. Reached only by a defect.
const WITHIN: Duration = Duration::from_secs(60);

/// The token that the payload of all tests shows. What a token is for is tested by the emulator's own tests.
pub const TOKEN: &str = "5eed";

/// What a device is made of. A new one has its fuses, stage0 and nothing else.
pub struct Device {
    otp: OtpImage,
    boot_slots: [Option<Vec<u8>>; 2],
    os_slots: [Option<Vec<u8>>; 2],
    memory: Option<(Region, Vec<u8>)>,
    change: fn(MachineConfig) -> MachineConfig,
}

impl Device {
    /// Makes a device with the fuses of `maker`'s die and empty slots.
    pub fn new(maker: &Maker) -> Self {
        Self::with_otp(maker.otp())
    }

    /// Makes a device with these fuses and empty slots.
    pub fn with_otp(otp: OtpImage) -> Self {
        let (boot_slots, os_slots) = ([None, None], [None, None]);
        Self { otp, boot_slots, os_slots, memory: None, change: |config| config }
    }

    /// Makes a device on which one of the board's conformance programs runs in the place of stage2.
    pub fn running(maker: &Maker, program: &str) -> Self {
        let image = flatten_elf(&elf(program)).expect("a program that was built");
        let facts = Facts { load_address: image.load, entry: image.entry, ..maker.stage2_facts() };
        let signed = maker.owner.sign(&facts, image.bytes).expect("an image that can be signed");
        Self::new(maker).boot_slot(Slot::A, maker.seal_stage(&signed))
    }

    /// Puts bytes into the system's memory before the device starts.
    ///
    /// # Panics
    /// If they do not fit into the region.
    pub fn loaded(mut self, region: Region, bytes: &[u8]) -> Self {
        assert!(bytes.len() as u64 <= region.size, "{} bytes do not fit into {region:x?}", bytes.len());
        self.memory = Some((region, bytes.to_vec()));
        self
    }

    /// Writes a boot slot.
    pub fn boot_slot(mut self, slot: Slot, image: Vec<u8>) -> Self {
        self.boot_slots[usize::from(slot.number())] = Some(image);
        self
    }

    /// Writes an OS slot.
    pub fn os_slot(mut self, slot: Slot, content: Vec<u8>) -> Self {
        self.os_slots[usize::from(slot.number())] = Some(content);
        self
    }

    /// Changes the machine.
    pub fn machine(mut self, change: fn(MachineConfig) -> MachineConfig) -> Self {
        self.change = change;
        self
    }

    /// Boots the device until it is clear how that ends.
    pub fn boot(&self) -> Report {
        self.run(|machine| machine.observe(&expectation()).unwrap_or_else(|error| panic!("{error}")))
    }

    /// Has `judge` look at the folder of the device's `flash0.img` and `disk.img`, and boots the device then.
    pub fn judge_and_boot<T>(&self, judge: impl FnOnce(&Path) -> T) -> (T, Report) {
        let _turn = Turn::take();
        let folder = tempfile::tempdir().expect("a folder for the device");
        let config = self.write(&folder);
        let judged = judge(folder.path());
        let mut machine = Machine::start(&config).unwrap_or_else(|error| panic!("{error}"));
        (judged, machine.observe(&expectation()).unwrap_or_else(|error| panic!("{error}")))
    }

    /// Starts the device and lets `watch` watch it.
    pub fn run<T>(&self, watch: impl FnOnce(&mut Machine) -> T) -> T {
        self.run_and_look(|machine, _| watch(machine))
    }

    /// Starts the device and lets `watch` watch it and look into the folder of its `flash0.img` and `disk.img`.
    pub fn run_and_look<T>(&self, watch: impl FnOnce(&mut Machine, &Path) -> T) -> T {
        let _turn = Turn::take();
        let folder = tempfile::tempdir().expect("a folder for the device");
        let config = self.write(&folder);
        let mut machine = Machine::start(&config).unwrap_or_else(|error| panic!("{error}"));
        watch(&mut machine, folder.path())
    }

    fn write(&self, folder: &TempDir) -> MachineConfig {
        let file = |name: &str| -> Box<Path> { folder.path().join(name).into() };
        let (flash0, disk) = (file("flash0.img"), file("disk.img"));
        let [slot_a, slot_b] = self.boot_slots.each_ref().map(|slot| slot.as_deref());
        let otp = self.otp.to_flash(OTP.size as usize);
        let layout = FlashLayout { stage0: &Firmware::get().stage0, slot_a, slot_b, otp: &otp };
        layout.write(&flash0).expect("flash0 can be written");
        let [slot_a, slot_b] = self.os_slots.each_ref().map(|slot| slot.as_deref());
        write_disk(&disk, slot_a, slot_b).expect("the disk can be written");
        let mut config = MachineConfig::default().flash0(flash0.as_ref()).disk(disk.as_ref());
        if let Some((region, bytes)) = &self.memory {
            let memory = file("memory");
            std::fs::write(&memory, bytes).expect("the content of the memory can be written");
            let (memory, base) = (memory.display(), region.base);
            config = config.arg("-device").arg(format!("loader,file={memory},addr={base:#x},force-raw=on"));
        }
        (self.change)(config.lifetime(Some(2 * WITHIN)))
    }
}

/// What a boot of the payload is expected to show.
pub fn expectation() -> Expectation {
    Expectation::token(TOKEN).within(WITHIN)
}

/// A turn to run an emulator: as many run at once as there are cores, however many devices a test has.
pub(crate) struct Turn;

static RUNNING: Mutex<usize> = Mutex::new(0);
static DONE: Condvar = Condvar::new();

impl Turn {
    pub(crate) fn take() -> Self {
        let limit = std::thread::available_parallelism().map_or(1, usize::from);
        let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        let mut running =
            DONE.wait_while(running, |running| *running >= limit).unwrap_or_else(PoisonError::into_inner);
        *running += 1;
        Self
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        DONE.notify_one();
    }
}
