//! The boot story of stage2: from the handoff to a kernel that can be entered.

use alloc::boxed::Box;
use alloc::vec::Vec;

use boot_crypto::{Digest, Key, Sha256, equal, kaslr_seed, rng_seed};
use boot_info::record::{BootRecord, MAX_FRAME};
use boot_info::{BootInfo, Evidence, SecretPage, Stage, Step, Timeline};
use fail_code::FailCode;
use hal::{Clock, Coherency, Cores, DmaDevices, WriteLock};
use lifecycle::Lifecycle;
use memory_map::Region;
use memory_map::qemu_virt::{BOARD, BOOT_LOG, OS_SLOT_A, OS_SLOT_B};
use sealed_image::{Kind, Root};
use store::{Slot, Slots};
use zeroize::{Zeroize, Zeroizing};

use crate::closing::Pending;
use crate::device_tree::{Finished, FixUps, Hardware, finish};
use crate::load::{LoadError, Loaded, Os, Trust, load, wipe};
use crate::place;

const OS_SLOTS: Slots = Slots::new(OS_SLOT_A, OS_SLOT_B);

/// What the page of the handoff says, in a lifecycle in which this stage runs.
struct Facts {
    info: BootInfo,
    lifecycle: Lifecycle,
}

impl Facts {
    fn of(info: BootInfo) -> Result<Self, FailCode> {
        if !info.board.iter().copied().eq(BOARD.bytes().chain(core::iter::repeat(0)).take(info.board.len())) {
            return Err(FailCode::BootInfoInvalid);
        }
        match Lifecycle::from_word(info.lifecycle) {
            Some(lifecycle @ (Lifecycle::Production | Lifecycle::Development)) => {
                Ok(Self { info, lifecycle })
            }
            _ => Err(FailCode::LifecycleForbids),
        }
    }

    /// Reads the page.
    #[inline(never)]
    fn read(page: &[u8]) -> Result<Self, FailCode> {
        BootInfo::read(page).map_err(|_| FailCode::BootInfoInvalid).and_then(Self::of)
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

    fn trust(&self) -> Trust {
        let (floors, refuse_test_keys) = (self.info.floors, self.refuse_test_keys());
        Trust { roots: self.roots(), floors, refuse_test_keys }
    }
}

/// What the stage before handed over.
pub struct Handoff<'a> {
    /// The page, which another look reads again.
    page: &'a [u8],
    facts: Facts,
    secrets: Kept<'a>,
    evidence: Vouched,
}

/// The secrets, in the page that they came in. It is wiped with this.
///
/// # Threats
/// One wrong bit in the length of a copy from the stack or the heap to where the operating system reads takes along what lies behind
/// it. The page lies below both, and a key is elsewhere only while the key of an image is unwrapped, or a seed made.
struct Kept<'a>(&'a mut [u8]);

impl Kept<'_> {
    /// Returns the key under which the data keys of OS objects are wrapped.
    #[inline(never)]
    fn os_storage_key(&self) -> Result<Key, FailCode> {
        SecretPage::os_storage_key(self.0).ok_or(FailCode::BootInfoInvalid)
    }

    /// Returns the secret that joins random values.
    #[inline(never)]
    fn rng_secret(&self) -> Result<Key, FailCode> {
        SecretPage::rng_secret(self.0).ok_or(FailCode::BootInfoInvalid)
    }
}

impl Drop for Kept<'_> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// The evidence, in memory of its own, with its digest: where a fault makes a handoff without evidence look like one that has some,
/// nothing that happens to lie there is sent.
struct Vouched {
    evidence: Option<Box<Evidence>>,
    digest: Digest,
}

impl Vouched {
    /// Reads the evidence of a page whose secrets are not taken yet.
    #[inline(never)]
    fn read(page: &[u8]) -> Result<Self, FailCode> {
        let evidence = SecretPage::evidence(page).ok_or(FailCode::BootInfoInvalid)?;
        let digest = evidence.as_ref().map_or([0; 32], digest_of);
        Ok(Self { evidence: evidence.map(Box::new), digest })
    }

    fn get(&self) -> Option<&Evidence> {
        self.evidence.as_deref().filter(|evidence| equal(&digest_of(evidence), &self.digest).accepts())
    }
}

/// Returns a digest of evidence.
#[inline(never)]
fn digest_of(evidence: &Evidence) -> Digest {
    let mut hash = Sha256::new();
    hash.update(evidence.statement.as_bytes());
    hash.update(&evidence.fuse_facts);
    hash.update(&evidence.install);
    hash.finish()
}

/// Reads the page of the handoff, and begins the record with what stage0 did.
#[inline(never)]
fn begin(page: &[u8], record: &mut BootRecord) -> Result<Facts, FailCode> {
    let info = BootInfo::read(page).map_err(|_| FailCode::BootInfoInvalid)?;
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
    Facts::of(info)
}

impl<'a> Handoff<'a> {
    /// Takes the handoff, and begins the record with what stage0 did. The secrets' page is wiped with the handoff, or when it
    /// is refused.
    ///
    /// # Errors
    /// [`FailCode::BootInfoInvalid`] if either page is not what stage0 writes on this board, and
    /// [`FailCode::LifecycleForbids`] in a lifecycle in which this stage does not run.
    pub fn take(
        boot_info: &'a [u8],
        secrets: &'a mut [u8],
        record: &mut BootRecord,
    ) -> Result<Self, FailCode> {
        let secrets = Kept(secrets);
        // The record and the evidence go out on the link: they are made before a secret is anywhere that a fault could take
        // it from.
        let (facts, evidence) = (begin(boot_info, record), Vouched::read(secrets.0));
        let (facts, evidence) = (facts?, evidence?);
        drop(secrets.os_storage_key()?);
        Ok(Self { page: boot_info, facts, secrets, evidence })
    }

    /// Returns the timeline of this stage; its first step began where stage0's last one ended.
    pub fn timeline<'r>(&self, record: &'r mut BootRecord, now: u64) -> Timeline<'r> {
        let left = self.facts.info.timestamps.as_slice().last().map_or(now, |stamp| stamp.end);
        let mut timeline = Timeline::new(record, Stage::Stage2, left);
        timeline.step(Step::Handoff, now);
        timeline
    }

    /// Returns what there is to close, on the first boots after the fuses of closing were burned.
    pub fn pending(&self) -> Option<Pending<'_>> {
        self.evidence.get().map(|evidence| Pending {
            evidence,
            chip_id: &self.facts.info.chip_id,
            roots: self.facts.roots(),
            refuse_test_keys: self.facts.refuse_test_keys(),
        })
    }
}

/// What to enter the operating system with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// Address of the kernel's first byte, which is its entry: of the memory in which the first look has found it.
    ///
    /// Not the address that its manifest has: a fault that gave the loader other memory than its window says would have loaded and
    /// verified everything elsewhere, and what lies at that address would be entered unseen.
    pub kernel: u64,
    /// The address that its manifest has, as the second look found it. Where the two differ nothing is entered.
    pub confirmed: u64,
    /// The device tree, which is to be put into its place last of all.
    pub device_tree: Finished,
}

/// The OS slots that were refused, in the order in which they are tried: what was wrong with which object, if with one.
pub type Refused = [Option<(Option<Kind>, FailCode)>; 2];

/// Says which OS slots were refused, and why.
pub fn say_refused(refused: &Refused) {
    for (slot, refusal) in Slot::TRIES.into_iter().zip(refused) {
        if let Some((kind, code)) = refusal {
            let about = kind.map_or("slot", Kind::name);
            log::error!("OS slot {} refused: {about}: {code}", slot.name());
        }
    }
}

/// Loads the first OS slot that can be loaded and prepares its device tree.
///
/// `memory` is DRAM that starts at `window`'s base. On success the devices are reset, and `memory` is locked. It says nothing: its keys are in memory, and a
/// fault would make the console say them. `refused` is filled for who says it once the keys are forgotten.
///
/// # Errors
/// [`FailCode::EntropyMissing`], or [`FailCode::NoBootableOs`] if each slot was refused. Nothing decrypted is left in
/// `memory`.
#[expect(clippy::too_many_arguments, reason = "each is one thing that booting may touch")]
pub fn boot(
    handoff: Handoff<'_>,
    hardware: &Hardware,
    affinities: &[u64],
    devices: &mut impl DmaDevices,
    cores: &mut impl Cores,
    caches: &impl Coherency,
    lock: &impl WriteLock,
    clock: &impl Clock,
    memory: &mut [u8],
    window: Region,
    timeline: &mut Timeline<'_>,
    refused: &mut Refused,
) -> Result<Launch, FailCode> {
    let (trust, secrets) = (handoff.facts.trust(), &handoff.secrets);
    let storage_key = || secrets.os_storage_key();
    let mut passed_over = None;
    for (slot, refused) in Slot::TRIES.into_iter().zip(refused) {
        devices.start();
        let mut entropy = Zeroizing::new([0; 64]);
        if !devices.entropy(entropy.as_mut()) {
            devices.stop();
            return Err(FailCode::EntropyMissing);
        }
        timeline.record.os_slot = slot.number();
        timeline.step(Step::Setup, clock.now());
        let region = OS_SLOTS.region(slot);
        let loaded =
            load(region, &trust, &storage_key, devices, cores, caches, lock, clock, memory, window, timeline);
        if loaded.is_err() {
            devices.stop();
        }
        let launch = loaded.map_err(|error| (error.kind(), error.code())).and_then(|loaded| {
            let ready = confirmed(loaded, handoff.page, memory, window)
                .map_err(|error| (error.kind(), error.code()))
                .and_then(|looks| {
                    let mut seeds = Seeds::default();
                    seeds.fill(secrets, entropy.as_ref(), clock.now()).map_err(|code| (None, code))?;
                    timeline.step(Step::VerifyObjects, clock.now());
                    let tree = device_tree(&looks, hardware, affinities, &seeds, memory, window)
                        .map_err(|code| (Some(Kind::DeviceTree), code))?;
                    let (first, os) = looks;
                    Ok((first.kernel_at, os, tree))
                });
            timeline.step(Step::DeviceTree, clock.now());
            if ready.is_err() {
                lock.unlock();
                wipe(memory, caches);
            }
            ready
        });
        match launch {
            Ok((kernel, os, device_tree)) => {
                timeline.record.os_fallback_code = passed_over.map_or(0, FailCode::number);
                for image in os.images.as_slice() {
                    timeline.record.images.push(*image);
                }
                return Ok(Launch { kernel, confirmed: os.kernel.place.base, device_tree });
            }
            Err((kind, code)) => {
                *refused = Some((kind, code));
                passed_over = passed_over.or(Some(code));
            }
        }
    }
    timeline.record.os_fallback_code = passed_over.map_or(0, FailCode::number);
    Err(FailCode::NoBootableOs)
}

/// Has a second look confirm what one look found. Returns what each of the two has found.
///
/// The second look reads the page of the handoff again, and uses nothing that the first has computed, but to compare it.
fn confirmed(loaded: Loaded, page: &[u8], memory: &mut [u8], window: Region) -> Result<(Os, Os), LoadError> {
    if cfg!(feature = "control-one-look") {
        let os = loaded.into_os();
        return Ok((os.clone(), os));
    }
    let facts = Facts::read(page).map_err(LoadError::Handoff)?;
    let second = loaded.confirm(&facts.trust(), memory, window)?;
    Ok((loaded.into_os(), second))
}

/// What Linux gets for its random numbers: of this boot's entropy and of a secret of the device.
struct Seeds {
    rng: Zeroizing<[u8; 64]>,
    kaslr: u64,
}

impl Default for Seeds {
    fn default() -> Self {
        Self { rng: Zeroizing::new([0; 64]), kaslr: 0 }
    }
}

impl Seeds {
    /// Makes them where they are: of what is moved, a fault could leave a part out, and pass on what lies there instead.
    #[inline(never)]
    fn fill(&mut self, secrets: &Kept<'_>, entropy: &[u8], counter: u64) -> Result<(), FailCode> {
        let secret = secrets.rng_secret()?;
        rng_seed(&secret, entropy, counter, &mut self.rng);
        self.kaslr = kaslr_seed(&secret, entropy, counter);
        Ok(())
    }
}

/// Fills in the verified device tree.
fn device_tree(
    (first, second): &(Os, Os),
    hardware: &Hardware,
    affinities: &[u64],
    seeds: &Seeds,
    memory: &mut [u8],
    window: Region,
) -> Result<Finished, FailCode> {
    let by_second = FixUps {
        memory: hardware.memory,
        cores: affinities,
        command_line: &second.command_line,
        initramfs: second.initramfs.map(|held| held.place),
        rng_seed: seeds.rng.as_ref(),
        kaslr_seed: seeds.kaslr,
        boot_record: BOOT_LOG,
    };
    let initramfs = first.initramfs.map(|held| held.place);
    let by_first = FixUps { command_line: &first.command_line, initramfs, ..by_second };
    let signed = &second.device_tree;
    let tree = place::slice(memory, window, signed.place, Kind::DeviceTree).map_err(|error| error.code())?;
    finish(tree, signed, [&by_first, &by_second])
}

/// Returns the frame of the record, which goes to the station link and into the operating system's memory.
pub fn frame<'a>(record: &BootRecord, buffer: &'a mut [u8; MAX_FRAME]) -> &'a [u8] {
    // A record always fits the buffer that is made for it: its own tests hold that.
    record.frame(buffer).unwrap_or_default()
}
