//! The boot story of stage2: from the handoff to a kernel that can be entered.

use alloc::vec::Vec;

use boot_crypto::{Key, kaslr_seed, rng_seed};
use boot_info::record::{BootRecord, MAX_FRAME};
use boot_info::{BootInfo, Evidence, SecretPage, Secrets, Stage, Step, Timeline};
use fail_code::FailCode;
use hal::{Clock, Coherency, Cores, DmaDevices};
use lifecycle::Lifecycle;
use memory_map::Region;
use memory_map::qemu_virt::{BOARD, BOOT_LOG, DTB_ROOM, OS_SLOT_A, OS_SLOT_B};
use sealed_image::{Kind, Root};
use store::{Slot, Slots};
use zeroize::{Zeroize, Zeroizing};

use crate::closing::Pending;
use crate::device_tree::{FixUps, Hardware, fix_up};
use crate::load::{Os, Trust, load};
use crate::place;

const OS_SLOTS: Slots = Slots::new(OS_SLOT_A, OS_SLOT_B);

/// What the stage before handed over.
pub struct Handoff {
    info: BootInfo,
    os_storage_key: Key,
    rng_secret: Key,
    evidence: Option<Evidence>,
    lifecycle: Lifecycle,
}

impl Handoff {
    /// Takes the handoff, wipes the secrets' page, and begins the record with what stage0 did.
    ///
    /// # Errors
    /// [`FailCode::BootInfoInvalid`] if either page is not what stage0 writes on this board, and
    /// [`FailCode::LifecycleForbids`] in a lifecycle in which this stage does not run.
    pub fn take(boot_info: &[u8], secrets: &mut [u8], record: &mut BootRecord) -> Result<Self, FailCode> {
        let page = SecretPage::take(secrets).ok_or(FailCode::BootInfoInvalid)?;
        let info = BootInfo::read(boot_info).map_err(|_| FailCode::BootInfoInvalid)?;
        *record = BootRecord {
            board: info.board,
            lifecycle: info.lifecycle,
            slot: info.slot,
            fallback_code: info.fallback_code,
            counter_hz: info.counter_hz,
            images: info.images,
            timestamps: info.timestamps,
            ..BootRecord::default()
        };
        if !info.board.iter().copied().eq(BOARD.bytes().chain(core::iter::repeat(0)).take(info.board.len())) {
            return Err(FailCode::BootInfoInvalid);
        }
        match Lifecycle::from_word(info.lifecycle) {
            Some(lifecycle @ (Lifecycle::Production | Lifecycle::Development)) => {
                let Secrets::Production { os_storage_key, rng_secret } = page.secrets else {
                    return Err(FailCode::BootInfoInvalid);
                };
                Ok(Self { info, os_storage_key, rng_secret, evidence: page.evidence, lifecycle })
            }
            _ => Err(FailCode::LifecycleForbids),
        }
    }

    /// Returns the timeline of this stage; its first step began where stage0's last one ended.
    pub fn timeline<'a>(&self, record: &'a mut BootRecord, now: u64) -> Timeline<'a> {
        let left = self.info.timestamps.as_slice().last().map_or(now, |stamp| stamp.end);
        let mut timeline = Timeline::new(record, Stage::Stage2, left);
        timeline.step(Step::Handoff, now);
        timeline
    }

    /// Returns what there is to close, on the first boots after the fuses of closing were burned.
    pub fn pending(&self) -> Option<Pending<'_>> {
        self.evidence.as_ref().map(|evidence| Pending {
            evidence,
            chip_id: &self.info.chip_id,
            roots: self.roots(),
            refuse_test_keys: self.refuse_test_keys(),
        })
    }

    fn refuse_test_keys(&self) -> bool {
        self.lifecycle != Lifecycle::Development
    }

    fn roots(&self) -> Vec<Root> {
        let slots = self.info.roots;
        let numbered = slots.digests.iter().zip(0u8..);
        let held = numbered.filter(|(digest, _)| **digest != [0; 32]);
        held.map(|(digest, slot)| Root { digest: *digest, revoked: slots.valid & (1 << slot) == 0 }).collect()
    }
}

/// Where to enter the operating system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Address of the kernel's first byte, which is its entry.
    pub kernel: u64,
    /// Address of the device tree.
    pub device_tree: u64,
}

/// Loads the first OS slot that can be loaded and prepares its device tree.
///
/// `memory` is DRAM that starts at `window`'s base. On success the devices are reset.
///
/// # Errors
/// [`FailCode::EntropyMissing`], or [`FailCode::NoBootableOs`] after each slot's own code was logged. Nothing
/// decrypted is left in `memory`.
#[expect(clippy::too_many_arguments, reason = "each is one thing that booting may touch")]
pub fn boot(
    handoff: Handoff,
    hardware: &Hardware,
    affinities: &[u64],
    devices: &mut impl DmaDevices,
    cores: &mut impl Cores,
    caches: &impl Coherency,
    clock: &impl Clock,
    memory: &mut [u8],
    window: Region,
    timeline: &mut Timeline<'_>,
) -> Result<Launch, FailCode> {
    let storage_key = &handoff.os_storage_key;
    let roots = handoff.roots();
    let trust = Trust {
        roots: &roots,
        floors: &handoff.info.floors,
        refuse_test_keys: handoff.refuse_test_keys(),
        storage_key,
    };
    let stage_images = timeline.record.images;
    let mut passed_over = None;
    for slot in Slot::TRIES {
        devices.start();
        let mut entropy = Zeroizing::new([0; 64]);
        if !devices.entropy(entropy.as_mut()) {
            devices.stop();
            return Err(FailCode::EntropyMissing);
        }
        timeline.record.os_slot = slot.number();
        timeline.step(Step::Setup, clock.now());
        let region = OS_SLOTS.region(slot);
        let loaded = load(region, &trust, devices, cores, caches, clock, memory, window, timeline);
        if loaded.is_err() {
            devices.stop();
        }
        let launch = loaded.map_err(|error| (error.kind(), error.code())).and_then(|os| {
            let seeds = Seeds::new(&handoff.rng_secret, entropy.as_ref(), clock.now());
            let tree = device_tree(&os, hardware, affinities, &seeds, memory, window);
            timeline.step(Step::DeviceTree, clock.now());
            if tree.is_err() {
                memory.zeroize();
                caches.clean(memory);
            }
            tree.map_err(|code| (Some(Kind::DeviceTree), code)).map(|()| os)
        });
        match launch {
            Ok(os) => {
                timeline.record.os_fallback_code = passed_over.map_or(0, FailCode::number);
                for image in os.images.as_slice() {
                    timeline.record.images.push(*image);
                }
                return Ok(Launch { kernel: os.kernel.base, device_tree: os.device_tree.base });
            }
            Err((kind, code)) => {
                let about = kind.map_or("slot", Kind::name);
                log::error!("OS slot {} refused: {about}: {code}", slot.name());
                timeline.record.images = stage_images;
                passed_over = passed_over.or(Some(code));
            }
        }
    }
    timeline.record.os_fallback_code = passed_over.map_or(0, FailCode::number);
    Err(FailCode::NoBootableOs)
}

/// What Linux gets for its random numbers: of this boot's entropy and of a secret of the device.
struct Seeds {
    rng: Zeroizing<[u8; 64]>,
    kaslr: u64,
}

impl Seeds {
    fn new(secret: &Key, entropy: &[u8], counter: u64) -> Self {
        Self {
            rng: Zeroizing::new(rng_seed(secret, entropy, counter)),
            kaslr: kaslr_seed(secret, entropy, counter),
        }
    }
}

/// Fixes up the verified device tree where it lies.
fn device_tree(
    os: &Os,
    hardware: &Hardware,
    affinities: &[u64],
    seeds: &Seeds,
    memory: &mut [u8],
    window: Region,
) -> Result<(), FailCode> {
    let room = Region::new(os.device_tree.base, DTB_ROOM);
    let buffer = place::slice(memory, window, room, Kind::DeviceTree).map_err(|error| error.code())?;
    let fix_ups = FixUps {
        memory: hardware.memory,
        cores: affinities,
        command_line: &os.command_line,
        initramfs: os.initramfs,
        rng_seed: seeds.rng.as_ref(),
        kaslr_seed: seeds.kaslr,
        boot_record: BOOT_LOG,
    };
    fix_up(buffer, os.device_tree.size as usize, &fix_ups).map(|_| ()).map_err(|error| error.code())
}

/// Returns the frame of the record, which goes to the station link and into the operating system's memory.
pub fn frame<'a>(record: &BootRecord, buffer: &'a mut [u8; MAX_FRAME]) -> &'a [u8] {
    // A record always fits the buffer that is made for it: its own tests hold that.
    record.frame(buffer).unwrap_or_default()
}
