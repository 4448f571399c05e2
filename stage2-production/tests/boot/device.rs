//! The hardware of a boot: a disk that may fail, two cores, memory, and a look at what was done with them.

use crate::release::{WINDOW, fused_root, storage_key};
use boot_crypto::Key;
use boot_info::record::BootRecord;
use boot_info::{BootInfo, List, RootSlots, SecretPage, Secrets, Stage, Step, Timeline};
use fail_code::FailCode;
use hal::{Clock, Coherency, Cores, DmaDevices, Entropy as _, ReadError, Storage, WriteLock};
use lifecycle::Lifecycle;
use memory_map::Region;
use memory_map::qemu_virt::{BOARD, DRAM_BASE, DRAM_MIN, OS_SLOT_A, OS_SLOT_B};
use sim::{Disk, Fault, Power, Source};
use stage2_production::boot::{Handoff, Launch, Refused, boot};
use stage2_production::device_tree::Hardware;
use stage2_production::load::{Loaded, Trust, load};
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// A disk that remembers what was read and fails where it is told to.
pub(crate) struct Medium {
    disk: Disk,
    fails: Option<Region>,
    reads: Vec<Region>,
}

impl Storage for Medium {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        let range = Region::new(offset, into.len() as u64);
        self.reads.push(range);
        if self.fails.is_some_and(|region| region.overlaps(&range)) {
            return Err(ReadError { offset });
        }
        self.disk.read(offset, into)
    }
}

/// Disk and entropy source; whether they run is seen by the cores as well.
struct Devices {
    medium: Option<Medium>,
    entropy: Source,
    running: Arc<AtomicBool>,
}

impl DmaDevices for Devices {
    type Disk = Medium;

    fn start(&mut self) {
        self.running.store(true, Ordering::SeqCst);
    }

    fn stop(&mut self) {
        self.running.store(false, Ordering::SeqCst);
    }

    fn disk(&mut self) -> Option<&mut Medium> {
        self.medium.as_mut().filter(|_| self.running.load(Ordering::SeqCst))
    }

    fn entropy(&mut self, into: &mut [u8]) -> bool {
        self.running.load(Ordering::SeqCst) && self.entropy.fill(into)
    }
}

/// Two cores. Nothing is decrypted while a device could write to memory.
struct TwoCores {
    running: Arc<AtomicBool>,
    runs: usize,
}

impl Cores for TwoCores {
    fn count(&self) -> usize {
        2
    }

    fn run(&mut self, work: &(dyn Fn(usize) + Sync)) {
        assert!(!self.running.load(Ordering::SeqCst), "a device runs while something is decrypted");
        self.runs += 1;
        std::thread::scope(|scope| (0..2).for_each(|core| drop(scope.spawn(move || work(core)))));
    }
}

#[derive(Default)]
struct Caches {
    cleaned: AtomicU64,
}

impl Coherency for Caches {
    fn clean(&self, bytes: &[u8]) {
        self.cleaned.fetch_add(bytes.len() as u64, Ordering::SeqCst);
    }
}

/// Whether memory is locked.
#[derive(Default)]
struct Lock(Cell<bool>);

impl WriteLock for Lock {
    fn lock(&self) {
        assert!(!self.0.replace(true), "locked twice");
    }

    fn unlock(&self) {
        self.0.set(false);
    }
}

struct Ticks(Cell<u64>);

impl Clock for Ticks {
    fn now(&self) -> u64 {
        self.0.set(self.0.get() + 1000);
        self.0.get()
    }

    fn hz(&self) -> u64 {
        62_500_000
    }
}

/// A device that is switched on by [`Device::boot`].
pub(crate) struct Device {
    pub(crate) slots: [Vec<u8>; 2],
    /// Where reading the disk fails.
    pub(crate) fails: Option<Region>,
    pub(crate) entropy: Source,
    pub(crate) has_disk: bool,
    pub(crate) info: BootInfo,
}

/// How a boot ended.
pub(crate) struct Booted {
    pub(crate) outcome: Result<Launch, FailCode>,
    pub(crate) record: BootRecord,
    pub(crate) memory: Vec<u8>,
    pub(crate) reads: Vec<Region>,
    /// How often the cores were set to work.
    pub(crate) runs: usize,
    /// Bytes that were written back from the caches.
    pub(crate) cleaned: u64,
}

impl Booted {
    /// Returns the bytes of memory from an address on.
    pub(crate) fn at(&self, address: u64) -> &[u8] {
        &self.memory[(address - WINDOW.base) as usize..]
    }

    /// Tells whether any plaintext of the kernel or the initramfs is in memory.
    pub(crate) fn holds(&self, plain: &[u8]) -> bool {
        self.memory.windows(plain.len()).any(|window| window == plain)
    }

    /// Returns the steps that were timed.
    pub(crate) fn steps(&self) -> Vec<Step> {
        let stamps = self.record.timestamps.as_slice().iter();
        stamps.map(|stamp| Step::from_number(stamp.step).unwrap()).collect()
    }
}

impl Device {
    /// A production device whose OS slots hold these bytes.
    pub(crate) fn new(slot_a: Vec<u8>, slot_b: Vec<u8>) -> Self {
        let mut digests = [[0; 32]; 4];
        digests[0] = fused_root().digest;
        Self {
            slots: [slot_a, slot_b],
            fails: None,
            entropy: Source::new(7),
            has_disk: true,
            info: BootInfo {
                board: board(BOARD),
                lifecycle: Lifecycle::Production.codeword(),
                reset_reason: 1,
                slot: 0,
                fallback_code: 0,
                counter_hz: 62_500_000,
                chip_id: [9; 16],
                floors: [0; 8],
                roots: RootSlots { digests, valid: 1, revoked: 0 },
                images: List::new(),
                timestamps: List::new(),
            },
        }
    }

    /// Takes the entropy source away.
    pub(crate) fn without_entropy(mut self) -> Self {
        self.entropy = Source::faulty(7, Fault::Absent);
        self
    }

    /// Returns the two pages of a handoff.
    pub(crate) fn pages(&self) -> (Vec<u8>, Vec<u8>) {
        let (mut info, mut secrets) = (vec![0; 4096], vec![0; 4096]);
        assert!(self.info.write(&mut info));
        let kept = Secrets::Production { os_storage_key: storage_key(), rng_secret: Key::new([3; 32]) };
        assert!(SecretPage { secrets: kept, evidence: None }.write(&mut secrets));
        (info, secrets)
    }

    /// Puts the hardware together, with the devices off.
    fn hardware(self) -> (Devices, TwoCores) {
        let mut content = vec![0; OS_SLOT_B.end() as usize];
        for (slot, bytes) in [OS_SLOT_A, OS_SLOT_B].iter().zip(&self.slots) {
            content[slot.base as usize..][..bytes.len()].copy_from_slice(bytes);
        }
        let medium = Medium { disk: Disk::new(content, &Power::new()), fails: self.fails, reads: Vec::new() };
        let running = Arc::new(AtomicBool::new(false));
        let medium = self.has_disk.then_some(medium);
        (Devices { medium, entropy: self.entropy, running: running.clone() }, TwoCores { running, runs: 0 })
    }

    /// Loads slot A, which has to be right, and returns it with the memory that it lies in.
    pub(crate) fn load(self, trust: &Trust) -> (Loaded, Vec<u8>) {
        let (mut devices, mut cores) = self.hardware();
        let (mut record, mut memory) = (BootRecord::default(), vec![0; WINDOW.size as usize]);
        let mut timeline = Timeline::new(&mut record, Stage::Stage2, 0);
        devices.start();
        let loaded = load(
            OS_SLOT_A,
            trust,
            &|| Ok(storage_key()),
            &mut devices,
            &mut cores,
            &Caches::default(),
            &Lock::default(),
            &Ticks(Cell::new(0)),
            &mut memory,
            WINDOW,
            &mut timeline,
        );
        (loaded.unwrap_or_else(|error| panic!("{error:?}")), memory)
    }

    /// Boots.
    pub(crate) fn boot(self) -> Booted {
        let (info, mut secrets) = self.pages();
        let (mut devices, mut cores) = self.hardware();
        let (caches, lock, clock) = (Caches::default(), Lock::default(), Ticks(Cell::new(0)));
        let hardware = Hardware { memory: Region::new(DRAM_BASE, DRAM_MIN), cores: 2 };
        let (mut record, mut memory) = (BootRecord::default(), vec![0; WINDOW.size as usize]);

        let mut refused = Refused::default();
        let handoff = Handoff::take(&info, &mut secrets, &mut record).unwrap();
        assert!(handoff.pending().is_none());
        let mut timeline = handoff.timeline(&mut record, clock.now());
        let outcome = boot(
            handoff,
            &hardware,
            &[0, 1],
            &mut devices,
            &mut cores,
            &caches,
            &lock,
            &clock,
            &mut memory,
            WINDOW,
            &mut timeline,
            &mut refused,
        );
        if let Ok(launch) = &outcome {
            launch.device_tree.put(&mut memory, WINDOW).unwrap();
        }
        assert_eq!(lock.0.get(), outcome.is_ok(), "what is about to be entered is locked, and nothing else");
        assert!(secrets.iter().all(|byte| *byte == 0), "the secrets are wiped where they were handed over");
        assert!(!devices.running.load(Ordering::SeqCst) || outcome.is_err(), "no device runs on");
        let codes: Vec<_> = refused.iter().flatten().map(|(_, code)| code.number()).collect();
        assert_eq!(codes.first().copied().unwrap_or_default(), record.os_fallback_code, "{codes:?}");
        Booted {
            outcome,
            record,
            memory,
            reads: devices.medium.map(|medium| medium.reads).unwrap_or_default(),
            runs: cores.runs,
            cleaned: caches.cleaned.into_inner(),
        }
    }
}

/// Pads a board's name.
pub(crate) fn board(name: &str) -> [u8; 16] {
    let mut padded = [0; 16];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    padded
}
