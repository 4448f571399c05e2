//! A device in the factory's hands, on the simulator.

use std::cell::Cell;
use std::collections::VecDeque;

use boot_crypto::{Key, die_key};
use boot_info::record::BootRecord;
use factory_proto::link::{Frame, Receiver};
use hal::{
    BurnError, Clock, Coherency, Console, Cores, DmaDevices, FlashIdentity, Identify, OtpBurn, Receive,
};
use lifecycle::{Fuses, Lifecycle, OtpImage, Plan, PreProvisioning, burn};
use memory_map::Region;
use memory_map::qemu_virt::{
    BOOT_SLOT_A, BOOT_SLOT_B, BOOT_STAGING, COUNTER_HZ, DISK_MIN, FLASH_BLOCK, FLASH_WRITE_BUFFER, FLASH0,
    OS_SLOT_A, OS_SLOT_B, OTP, PACKAGE,
};
use release::{SiliconVendor, make_die};
use sim::authority::Station;
use sim::{Disk, Nor, Operation, Otp, Power, Source};
use stage1_provision::{Board, End, Handoff, Hardware, provision};

use crate::lot::Lot;
use crate::mapped::Mapped;

/// What of flash0 is backed: everything from the boot slots to the staging area, and the OTP block.
const FLASH_RANGES: [Region; 2] = [Region::new(BOOT_SLOT_A.base, BOOT_STAGING.end() - BOOT_SLOT_A.base), OTP];
const KIB: u64 = 1024;
/// What of each region of the disk is backed: its first part.
pub(crate) const DISK_BACKED: u64 = 768 * KIB;
const DISK_RANGES: [Region; 3] = [
    Region::new(OS_SLOT_A.base, DISK_BACKED),
    Region::new(OS_SLOT_B.base, DISK_BACKED),
    Region::new(PACKAGE.base, DISK_BACKED),
];

pub(crate) type Flash = Mapped<Nor>;

/// The parts of a device.
pub(crate) struct Parts;

impl Hardware for Parts {
    type Flash = IdentifiedFlash;
    type Devices = Devices;
    type Otp = Hiding;
    type Link = Link;
    type Console = Text;
    type Clock = Ticks;
    type Caches = NoCaches;
    type Cores = Threads;
}

/// Two cores.
pub(crate) struct Threads;

impl Cores for Threads {
    fn count(&self) -> usize {
        2
    }

    fn run(&mut self, work: &(dyn Fn(usize) + Sync)) {
        std::thread::scope(|scope| {
            scope.spawn(|| work(1));
            work(0);
        });
    }
}

/// Flash that says what it is, or something else.
pub(crate) struct IdentifiedFlash {
    pub(crate) bank: Flash,
    pub(crate) identity: Option<FlashIdentity>,
}

impl Identify for IdentifiedFlash {
    fn identify(&mut self) -> Option<FlashIdentity> {
        self.identity
    }
}

mod forward {
    use super::IdentifiedFlash;
    use hal::{ReadError, Storage, StorageMut, WriteError};

    impl Storage for IdentifiedFlash {
        fn size(&self) -> u64 {
            self.bank.size()
        }

        fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
            self.bank.read(offset, into)
        }
    }

    impl StorageMut for IdentifiedFlash {
        fn erase_size(&self) -> u64 {
            self.bank.erase_size()
        }

        fn erase(&mut self, offset: u64, len: u64) -> Result<(), WriteError> {
            self.bank.erase(offset, len)
        }

        fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), WriteError> {
            self.bank.write(offset, bytes)
        }

        fn flush(&mut self) -> Result<(), WriteError> {
            self.bank.flush()
        }
    }
}

/// Fuses of which the silicon secret is hidden, as they are after stage0.
pub(crate) struct Hiding(pub(crate) Otp);

impl hal::Otp for Hiding {
    fn words(&self) -> usize {
        self.0.words()
    }

    fn read(&self, index: usize) -> Option<u32> {
        self.0.read(index).map(|word| if burn::is_hidden(index) { 0 } else { word })
    }
}

impl OtpBurn for Hiding {
    fn burn(&mut self, index: usize, bits: u32) -> Result<(), BurnError> {
        self.0.burn(index, bits)
    }
}

/// Disk and entropy source, off until they are started.
pub(crate) struct Devices {
    pub(crate) disk: Option<Mapped<Disk>>,
    pub(crate) entropy: Source,
    started: bool,
}

impl DmaDevices for Devices {
    type Disk = Mapped<Disk>;

    fn start(&mut self) {
        self.started = true;
    }

    fn stop(&mut self) {
        self.started = false;
    }

    fn disk(&mut self) -> Option<&mut Self::Disk> {
        self.disk.as_mut().filter(|_| self.started)
    }

    fn entropy(&mut self, into: &mut [u8]) -> bool {
        self.started && hal::Entropy::fill(&mut self.entropy, into)
    }
}

/// The station link. Everything that the device has sent is kept.
#[derive(Default)]
pub(crate) struct Link {
    pub(crate) sent: Vec<u8>,
    pub(crate) frames: Vec<Frame>,
    receiver: Receiver,
    coming: VecDeque<u8>,
    station: Option<Station>,
}

impl Console for Link {
    fn write(&mut self, bytes: &[u8]) {
        self.sent.extend(bytes);
        for byte in bytes {
            let Some(frame) = self.receiver.push(*byte) else { continue };
            for answer in self.station.iter_mut().flat_map(|station| station(&frame)) {
                self.coming.extend(answer.encode().unwrap());
            }
            self.frames.push(frame);
        }
    }
}

impl Receive for Link {
    fn receive(&mut self) -> Option<u8> {
        self.coming.pop_front()
    }
}

/// A console whose text is kept.
#[derive(Default)]
pub(crate) struct Text(pub(crate) String);

impl Console for Text {
    fn write(&mut self, bytes: &[u8]) {
        self.0.push_str(std::str::from_utf8(bytes).unwrap());
    }
}

/// A counter that goes on with every look.
pub(crate) struct Ticks(Cell<u64>);

impl Clock for Ticks {
    fn now(&self) -> u64 {
        let now = self.0.get() + 10_000;
        self.0.set(now);
        now
    }

    fn hz(&self) -> u64 {
        COUNTER_HZ
    }
}

pub(crate) struct NoCaches;

impl Coherency for NoCaches {
    fn clean(&self, _: &[u8]) {}
}

/// A device, off.
pub(crate) struct Device {
    pub(crate) power: Power,
    pub(crate) flash: IdentifiedFlash,
    pub(crate) devices: Devices,
    pub(crate) otp: Hiding,
    /// The die key's public half, as the vendor certified it.
    pub(crate) die_key: [u8; 64],
    pub(crate) chip_id: [u8; 16],
    pub(crate) silicon_secret: [u8; 32],
    pub(crate) clock: Ticks,
}

/// What a device held at some time.
pub(crate) struct Remembered {
    flash: Vec<u8>,
    disk: Vec<u8>,
    fuses: Vec<u32>,
}

/// One power cycle.
pub(crate) struct Cycle {
    pub(crate) end: End,
    pub(crate) console: String,
    pub(crate) link: Link,
    pub(crate) record: BootRecord,
}

impl Device {
    /// Pre-provisions a die with this chip id and silicon secret.
    pub(crate) fn new(lot: &Lot, vendor: &SiliconVendor, number: u8, entropy: u64) -> Self {
        let silicon_secret = [number ^ 0xA0; 32];
        let chip_id = [number; 16];
        let (_, bank) = make_die(vendor, chip_id, &Key::new(silicon_secret)).unwrap();
        let mut image = OtpImage::from_flash(&bank);
        let policy = &lot.release.facts.policy;
        let plan = Plan::pre_provisioning(&PreProvisioning {
            root_digest: policy.root_digest,
            provisioning_key: &lot.release.provisioning_key,
            floors: policy.secured_floors,
        });
        plan.unwrap().check(&image).unwrap().burn(&mut image).unwrap();

        let power = Power::new();
        let mut nor = Nor::new(Mapped::<Nor>::backing(&FLASH_RANGES), FLASH_BLOCK, &power);
        for (region, bytes) in
            [(BOOT_SLOT_A, &lot.release.stage1), (BOOT_SLOT_B, &lot.release.stage1), (OTP, &bank)]
        {
            let bank = Mapped::new((), FLASH0.size, &FLASH_RANGES, 0xFF);
            let place = bank.place(region.base, bytes.len() as u64).unwrap() as usize;
            nor.bytes_mut()[place..place + bytes.len()].copy_from_slice(bytes);
        }
        let mut content = vec![0; Mapped::<Disk>::backing(&DISK_RANGES) as usize];
        let package = (2 * DISK_BACKED) as usize;
        content[package..package + lot.release.package.len()].copy_from_slice(&lot.release.package);
        let disk = Mapped::new(Disk::new(content, &power), DISK_MIN, &DISK_RANGES, 0);
        Self {
            flash: IdentifiedFlash {
                bank: Mapped::new(nor, FLASH0.size, &FLASH_RANGES, 0xFF),
                identity: Some(FlashIdentity {
                    size: FLASH0.size,
                    erase_block: FLASH_BLOCK,
                    write_buffer: FLASH_WRITE_BUFFER,
                }),
            },
            devices: Devices { disk: Some(disk), entropy: Source::new(entropy), started: false },
            otp: Hiding(Otp::new(image.words().to_vec(), &power, |otp, index| burn::is_locked(otp, index))),
            die_key: die_key(&Key::new(silicon_secret)).public(),
            chip_id,
            silicon_secret,
            power,
            clock: Ticks(Cell::new(0)),
        }
    }

    /// Makes a copy with a supply of its own.
    pub(crate) fn copy(&self) -> Self {
        let power = Power::new();
        let mut bank = self.flash.bank.clone();
        bank.inner.connect(&power);
        let mut disk = self.devices.disk.clone();
        disk.iter_mut().for_each(|disk| disk.inner.connect(&power));
        let mut otp = self.otp.0.clone();
        otp.connect(&power);
        Self {
            flash: IdentifiedFlash { bank, identity: self.flash.identity },
            devices: Devices { disk, entropy: self.devices.entropy.clone(), started: false },
            otp: Hiding(otp),
            power,
            clock: Ticks(self.clock.0.clone()),
            ..*self
        }
    }

    /// Does an operation of an earlier run once more. False if power fails during it.
    pub(crate) fn repeat(&mut self, operation: &Operation) -> bool {
        use hal::StorageMut as _;
        let flash = &mut self.flash.bank.inner;
        let disk = self.devices.disk.as_mut().map(|disk| &mut disk.inner).unwrap();
        match operation {
            Operation::Program { offset, bytes } => flash.write(*offset, bytes).is_ok(),
            Operation::Erase { offset } => flash.erase(*offset, FLASH_BLOCK).is_ok(),
            Operation::FlushNor => flash.flush().is_ok(),
            Operation::Sector { offset, bytes } => disk.write(*offset, bytes).is_ok(),
            Operation::FlushDisk => disk.flush().is_ok(),
            Operation::Burn { index, bits } => self.otp.0.burn(*index, *bits).is_ok(),
        }
    }

    /// Power is back: what the cut has lost is lost in every part.
    pub(crate) fn restart(&mut self) {
        self.flash.bank.inner.settle();
        self.devices.disk.iter_mut().for_each(|disk| disk.inner.settle());
        self.power.restore();
    }

    /// Reads the lifecycle.
    pub(crate) fn lifecycle(&self) -> Result<Lifecycle, lifecycle::Error> {
        Fuses::read_lifecycle(&self.otp)
    }

    /// Everything that outlives a power cut and can be read from outside: flash, then disk.
    pub(crate) fn storage(&self) -> [&[u8]; 2] {
        let disk = self.devices.disk.as_ref().map_or(&[][..], |disk| disk.inner.bytes());
        [self.flash.bank.inner.bytes(), disk]
    }

    /// Returns a region of flash0.
    pub(crate) fn flash_region(&self, region: Region) -> &[u8] {
        let at = self.flash.bank.place(region.base, region.size).unwrap() as usize;
        &self.storage()[0][at..at + region.size as usize]
    }

    /// Returns the backed part of a region of the disk.
    pub(crate) fn disk_region(&self, region: Region) -> &[u8] {
        let disk = self.devices.disk.as_ref().unwrap();
        let at = disk.place(region.base, DISK_BACKED).unwrap() as usize;
        &disk.inner.bytes()[at..at + DISK_BACKED as usize]
    }

    /// Remembers what flash, disk and fuses hold.
    pub(crate) fn remember(&self) -> Remembered {
        let [flash, disk] = self.storage().map(<[u8]>::to_vec);
        Remembered { flash, disk, fuses: self.otp.0.contents().to_vec() }
    }

    /// Makes flash, disk and fuses hold that again.
    pub(crate) fn set_back(&mut self, to: &Remembered) {
        self.flash.bank.inner.bytes_mut().copy_from_slice(&to.flash);
        self.devices.disk.as_mut().unwrap().inner.change(|bytes| bytes.copy_from_slice(&to.disk));
        self.otp.0.contents_mut().copy_from_slice(&to.fuses);
    }

    /// Lets the adversary change a region of flash0.
    pub(crate) fn change_flash(&mut self, region: Region, change: impl FnOnce(&mut [u8])) {
        let at = self.flash.bank.place(region.base, region.size).unwrap() as usize;
        change(&mut self.flash.bank.inner.bytes_mut()[at..at + region.size as usize]);
    }

    /// Lets the adversary change the backed part of a region of the disk.
    pub(crate) fn change_disk(&mut self, region: Region, change: impl FnOnce(&mut [u8])) {
        let disk = self.devices.disk.as_mut().unwrap();
        let at = disk.place(region.base, DISK_BACKED).unwrap() as usize;
        disk.inner.change(|bytes| change(&mut bytes[at..at + DISK_BACKED as usize]));
    }

    /// Runs stage1 once, with this station at the link.
    pub(crate) fn run(&mut self, handoff: Handoff, station: Station) -> Cycle {
        let mut record = BootRecord::default();
        let mut link = Link { station: Some(station), ..Link::default() };
        let mut console = Text::default();
        self.devices.started = false;
        let mut board = Board::<'_, Parts> {
            flash: &mut self.flash,
            devices: &mut self.devices,
            otp: &mut self.otp,
            link: &mut link,
            console: &mut console,
            clock: &self.clock,
            caches: &NoCaches,
            cores: &mut Threads,
            working_memory: 16 * 1024,
        };
        let end = provision(&mut board, handoff, &mut record);
        link.station = None;
        Cycle { end, console: console.0, link, record }
    }
}
