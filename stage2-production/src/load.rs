//! Loading an OS slot: bundle, objects, payloads.
//!
//! The order is the point. First everything that is read is read: the bundle and each object's metadata into
//! secure RAM, where they are verified, then the payloads, still encrypted, into DRAM. Then every DMA-capable
//! device is reset, so that nothing can change the payloads any more. Then they are decrypted and checked where
//! they lie. Storage is not read again.
//!
//! Then all that the decision rests on is looked at once more, from the page of the handoff on: one fault of the core while it
//! decides turns one look round, and not both. Payloads are not hashed again: each chunk has passed its tag and its digest, and the
//! second look judges once more whether what was computed accounts for all of them.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use boot_crypto::{Digest, Key, equal};
use boot_info::{ImageRecord, List, MAX_IMAGES, Step, Timeline};
use fail_code::FailCode;
use hal::{Clock, Coherency, Cores, DmaDevices, ReadError, Storage, WriteLock};
use memory_map::Region;
use memory_map::qemu_virt::BOARD;
use sealed_image::{
    Bundle, BundleObject, Es256AndPs256, Header, Kind, MAX_METADATA, Opened, Opener, Policy, Root, Tally,
};
use sealed_image::{UntrustedImage, VerifiedImage, plain_digest};
use store::Cursor;

use crate::held::Held;
use crate::kernel_image::{self, KernelImageError};
use crate::{open, place};

/// Largest payload of a bundle in bytes: eight objects and a command line need about 2.5 KB.
const MAX_BUNDLE: u64 = 16 * 1024;

/// Who may sign what is loaded.
pub struct Trust {
    /// Owner roots, as fused.
    pub roots: Vec<Root>,
    /// Rollback floors by role number, as fused.
    pub floors: [u32; 8],
    /// Whether published test keys are refused.
    pub refuse_test_keys: bool,
}

/// The operating system, loaded, verified and in place.
#[derive(Clone, Debug)]
pub struct Os {
    /// The signed command line.
    pub command_line: String,
    /// The kernel, where its manifest says; it is entered at its first byte.
    pub kernel: Held,
    /// The address of the memory that its first byte was read in. On the board that is the same.
    pub kernel_at: u64,
    /// The device tree: its own bytes, without the room behind it.
    pub device_tree: Held,
    /// The initramfs, if the bundle names one.
    pub initramfs: Option<Held>,
    /// What was loaded, the bundle first.
    pub images: List<ImageRecord, MAX_IMAGES>,
}

impl Os {
    /// Returns a digest of all that is decided about it.
    fn digest(&self) -> Digest {
        let mut all = Vec::new();
        for held in [Some(self.kernel), Some(self.device_tree), self.initramfs].into_iter().flatten() {
            all.extend(held.place.base.to_le_bytes());
            all.extend(held.place.size.to_le_bytes());
            all.extend(held.chunk_size.to_le_bytes());
            all.extend(held.digest);
        }
        for image in self.images.as_slice() {
            all.push(image.kind);
            all.extend(image.measurement);
            all.extend(image.plain_digest);
        }
        all.extend(self.command_line.as_bytes());
        boot_crypto::sha256(&all)
    }
}

/// An operating system that is loaded and that one look has found to be right, with all that this rests on.
pub struct Loaded {
    os: Os,
    bundle_metadata: Vec<u8>,
    bundle_payload: Vec<u8>,
    objects_metadata: Vec<Vec<u8>>,
    tallies: Vec<Tally>,
}

/// Why a slot cannot be loaded.
#[derive(Debug, PartialEq, Eq)]
pub enum LoadError {
    /// No disk answers.
    NoDisk,
    /// The slot cannot be walked.
    Store(store::Error),
    /// A payload cannot be read.
    Read(ReadError),
    /// An image is refused.
    Image {
        /// What it should be.
        kind: Kind,
        /// Why.
        error: sealed_image::Error,
    },
    /// The bundle is larger than any bundle, compressed, or repeats its rollback index wrongly.
    Bundle,
    /// The object is not the one that the bundle names.
    NotInBundle {
        /// What the bundle names here.
        kind: Kind,
    },
    /// The bundle names no object of this kind.
    Missing {
        /// The kind.
        kind: Kind,
    },
    /// The object would leave the memory that it may use.
    Place {
        /// The object.
        kind: Kind,
    },
    /// The object would lie over another.
    Overlap {
        /// The object.
        kind: Kind,
    },
    /// The kernel is not one that can be entered.
    Kernel(KernelImageError),
    /// The page of the handoff is not what it was.
    Handoff(FailCode),
    /// A second look at what was found to be right found something else.
    LooksDiffer,
}

impl LoadError {
    /// Returns the stable refusal code.
    pub fn code(&self) -> FailCode {
        match self {
            Self::NoDisk => FailCode::DiskMissing,
            Self::Store(error) => error.code(),
            Self::Read(_) => FailCode::DiskRead,
            Self::Image { error, .. } => error.code(),
            Self::Bundle => FailCode::BundleMalformed,
            Self::NotInBundle { .. } => FailCode::ObjectNotInBundle,
            Self::Missing { .. } => FailCode::ObjectMissing,
            Self::Place { .. } => FailCode::LoadAddress,
            Self::Overlap { .. } => FailCode::LoadOverlap,
            Self::Kernel(error) => error.code(),
            Self::Handoff(code) => *code,
            Self::LooksDiffer => FailCode::LooksDiffer,
        }
    }

    /// Returns the kind of object that it is about, if it is about one.
    pub fn kind(&self) -> Option<Kind> {
        match self {
            Self::Image { kind, .. }
            | Self::NotInBundle { kind }
            | Self::Missing { kind }
            | Self::Place { kind }
            | Self::Overlap { kind } => Some(*kind),
            Self::Bundle => Some(Kind::Bundle),
            Self::Kernel(_) => Some(Kind::Kernel),
            Self::NoDisk | Self::Store(_) | Self::Read(_) | Self::Handoff(_) | Self::LooksDiffer => None,
        }
    }
}

/// An object whose metadata is verified, with its place in memory.
struct Object<'a> {
    image: VerifiedImage<'a>,
    place: Region,
}

/// The payload of an object.
struct Payload<'a> {
    opener: Opener<'a>,
    /// On the disk.
    stored: Region,
    /// In memory, for the ciphertext of a compressed object.
    staged: Option<Region>,
}

impl<'a> Object<'a> {
    /// Verifies the metadata of what a bundle names.
    fn verify(
        untrusted_metadata: &'a [u8],
        named: &BundleObject<'_>,
        trust: &Trust,
        window: Region,
    ) -> Result<Self, LoadError> {
        let kind = named.kind;
        let image = verify(untrusted_metadata, kind, trust)?;
        if !equal(image.manifest_digest(), named.manifest_digest).accepts() {
            return Err(LoadError::NotInBundle { kind });
        }
        let place = place::occupied(image.manifest(), window)?;
        Ok(Self { image, place })
    }

    fn kind(&self) -> Kind {
        self.image.manifest().kind
    }

    /// The memory of the payload itself.
    fn payload(&self) -> Region {
        Region::new(self.place.base, self.image.manifest().plain_size)
    }

    /// What is in the memory of the payload once it is loaded.
    fn held(&self) -> Held {
        let manifest = self.image.manifest();
        Held { place: self.payload(), chunk_size: manifest.chunk_size, digest: *manifest.plain_digest }
    }

    fn record(&self) -> ImageRecord {
        record_of(&self.image)
    }
}

fn record_of(image: &VerifiedImage<'_>) -> ImageRecord {
    let manifest = image.manifest();
    ImageRecord {
        kind: manifest.kind.number(),
        version: manifest.version.0,
        stored_bytes: image.header().image_len().unwrap_or_default(),
        plain_bytes: manifest.plain_size,
        plain_digest: *manifest.plain_digest,
        measurement: *image.manifest_digest(),
    }
}

/// Overwrites what may be decrypted with zeros, in memory and not in a cache alone.
pub(crate) fn wipe(bytes: &mut [u8], caches: &impl Coherency) {
    // Words at a time; whoever cleans the cache reads what was stored, so that nobody may leave it out.
    bytes.fill(0);
    caches.clean(core::hint::black_box(bytes));
}

/// Loads the slot at `slot` on the disk into `memory`, which starts at `window`'s base; the objects' data keys are wrapped under
/// what `storage_key` returns. Resets the devices, and locks the memory.
///
/// # Errors
/// A [`LoadError`]; `memory` then holds nothing decrypted, and is not locked.
#[expect(clippy::too_many_arguments, reason = "each is one thing that loading may touch")]
pub fn load(
    slot: Region,
    trust: &Trust,
    storage_key: &impl Fn() -> Result<Key, FailCode>,
    devices: &mut impl DmaDevices,
    cores: &mut impl Cores,
    caches: &impl Coherency,
    lock: &impl WriteLock,
    clock: &impl Clock,
    memory: &mut [u8],
    window: Region,
    timeline: &mut Timeline<'_>,
) -> Result<Loaded, LoadError> {
    let disk = devices.disk().ok_or(LoadError::NoDisk)?;
    let mut cursor = Cursor::new(slot);
    let mut bundle_metadata = vec![0; MAX_METADATA as usize];
    let (bundle_image, bundle_payload) =
        read_bundle(disk, &mut cursor, trust, storage_key, &mut bundle_metadata)?;
    let bundle = parse_bundle(&bundle_payload, &bundle_image)?;

    let mut objects_metadata = vec![vec![0; MAX_METADATA as usize]; bundle.objects().count()];
    let mut objects = Vec::with_capacity(objects_metadata.len());
    let mut payloads = Vec::with_capacity(objects_metadata.len());
    for (named, buffer) in bundle.objects().zip(&mut objects_metadata) {
        let stored = cursor.read_next(disk, buffer).map_err(LoadError::Store)?;
        let object = Object::verify(stored.untrusted_metadata, named, trust, window)?;
        let opener = object
            .image
            .unwrap_key(&storage_key().map_err(LoadError::Handoff)?)
            .map_err(|error| LoadError::Image { kind: named.kind, error })?;
        objects.push(object);
        payloads.push(Payload { opener, stored: stored.payload, staged: None });
    }
    let free = stage_compressed(&objects, &mut payloads, window)?;
    let mut places: Vec<_> = objects.iter().map(|object| (object.kind(), object.place)).collect();
    places.extend((free.size > 0).then_some((Kind::Bundle, free)));
    place::refuse_overlap(&places)?;
    timeline.step(Step::VerifyObjects, clock.now());

    for (object, payload) in objects.iter().zip(&payloads) {
        let into = payload.staged.unwrap_or(object.payload());
        let bytes = place::slice(memory, window, into, object.kind())?;
        disk.read(payload.stored.base, bytes).map_err(LoadError::Read)?;
    }
    devices.stop();
    timeline.step(Step::ReadObjects, clock.now());

    let mut tallies = vec![Tally::default(); objects.len()];
    let opened = open_objects(&objects, &payloads, &mut tallies, cores, caches, memory, window);
    let staged = place::slice(memory, window, free, Kind::Bundle).map(|staged| wipe(staged, caches));
    // Nothing is written there any more, but where something is refused.
    lock.lock();
    let os = opened.and_then(|evidence| {
        staged?;
        if evidence.len() != objects.len() {
            return Err(LoadError::Bundle);
        }
        describe(&objects, &bundle, &bundle_image, memory, window)
    });
    if os.is_err() {
        lock.unlock();
        for object in &objects {
            // One that has no place in the window was not loaded.
            if let Ok(place) = place::slice(memory, window, object.place, object.kind()) {
                wipe(place, caches);
            }
        }
    }
    timeline.step(Step::OpenObjects, clock.now());
    let os = os?;
    drop((payloads, objects));
    Ok(Loaded { os, bundle_metadata, bundle_payload, objects_metadata, tallies })
}

impl Loaded {
    /// Returns what one look has found to be right.
    pub fn into_os(self) -> Os {
        self.os
    }

    /// Looks once more at what the decision rests on, with a trust that was read once more, and returns the system if it is the same.
    ///
    /// # Errors
    /// A [`LoadError`]. `memory` is as it was: it is to be unlocked and wiped.
    #[inline(never)]
    pub fn confirm(&self, trust: &Trust, memory: &mut [u8], window: Region) -> Result<Os, LoadError> {
        let bundle_image = verify(metadata_of(&self.bundle_metadata)?, Kind::Bundle, trust)?;
        let manifest = bundle_image.manifest();
        let payload = plain_digest(&self.bundle_payload, manifest.chunk_size);
        if !equal(&payload, manifest.plain_digest).accepts() {
            return Err(LoadError::LooksDiffer);
        }
        let bundle = parse_bundle(&self.bundle_payload, &bundle_image)?;
        let mut objects = Vec::with_capacity(self.objects_metadata.len());
        for ((named, metadata), tally) in bundle.objects().zip(&self.objects_metadata).zip(&self.tallies) {
            let object = Object::verify(metadata_of(metadata)?, named, trust, window)?;
            let kind = object.kind();
            let _whole: Opened =
                object.image.accounts_for(tally).map_err(|error| LoadError::Image { kind, error })?;
            objects.push(object);
        }
        let os = describe(&objects, &bundle, &bundle_image, memory, window)?;
        if !equal(&os.digest(), &self.os.digest()).accepts() {
            return Err(LoadError::LooksDiffer);
        }
        Ok(os)
    }
}

/// Returns the metadata in a buffer that it was read into.
fn metadata_of(buffer: &[u8]) -> Result<&[u8], LoadError> {
    let header = Header::parse(buffer).ok();
    header.and_then(|header| buffer.get(..header.metadata_len() as usize)).ok_or(LoadError::LooksDiffer)
}

/// Parses the payload of a bundle that is verified.
fn parse_bundle<'a>(payload: &'a [u8], image: &VerifiedImage<'_>) -> Result<Bundle<'a>, LoadError> {
    let bundle = Bundle::parse(payload).map_err(|error| LoadError::Image { kind: Kind::Bundle, error })?;
    if bundle.rollback_index == image.manifest().rollback_index { Ok(bundle) } else { Err(LoadError::Bundle) }
}

fn verify<'a>(
    untrusted_metadata: &'a [u8],
    kind: Kind,
    trust: &Trust,
) -> Result<VerifiedImage<'a>, LoadError> {
    let refused = |error| LoadError::Image { kind, error };
    // A kind without a role is reserved: the verifier refuses it, whatever the floor.
    let role = kind.role().map_or(0, |role| usize::from(role.number()));
    let policy = Policy {
        board: BOARD,
        kind,
        roots: &trust.roots,
        rollback_floor: trust.floors.get(role).copied().unwrap_or(u32::MAX),
        refuse_test_keys: trust.refuse_test_keys,
    };
    UntrustedImage::parse(untrusted_metadata)
        .and_then(|untrusted| untrusted.verify::<Es256AndPs256>(&policy))
        .map_err(refused)
}

/// Verifies the bundle and opens its payload, in secure RAM.
fn read_bundle<'a>(
    disk: &mut impl Storage,
    cursor: &mut Cursor,
    trust: &Trust,
    storage_key: &impl Fn() -> Result<Key, FailCode>,
    metadata: &'a mut [u8],
) -> Result<(VerifiedImage<'a>, Vec<u8>), LoadError> {
    let stored = cursor.read_next(disk, metadata).map_err(LoadError::Store)?;
    let at = stored.payload.base;
    let image = verify(stored.untrusted_metadata, Kind::Bundle, trust)?;
    let refused = |error| LoadError::Image { kind: Kind::Bundle, error };
    let opener = image.unwrap_key(&storage_key().map_err(LoadError::Handoff)?).map_err(refused)?;
    let size = image.manifest().plain_size;
    if size > MAX_BUNDLE || !opener.in_place() {
        return Err(LoadError::Bundle);
    }
    let mut payload = vec![0; size as usize];
    let mut tally = Tally::default();
    for chunk in opener.chunks() {
        let start = chunk.plain_offset as usize;
        let part = payload.get_mut(start..).and_then(|rest| rest.get_mut(..chunk.plain_len as usize));
        let part = part.ok_or(LoadError::Bundle)?;
        disk.read(at.saturating_add(chunk.stored_offset), part).map_err(LoadError::Read)?;
        tally.add(&opener.open_chunk(chunk.index, part).map_err(refused)?);
    }
    let _whole: Opened = opener.finish(&tally).map_err(refused)?;
    Ok((image, payload))
}

/// Gives each compressed object a place for its ciphertext at the end of the window, and returns all of it.
fn stage_compressed(
    objects: &[Object<'_>],
    payloads: &mut [Payload<'_>],
    window: Region,
) -> Result<Region, LoadError> {
    let mut base = window.end();
    let compressed = objects.iter().zip(payloads).filter(|(_, payload)| !payload.opener.in_place());
    for (object, payload) in compressed {
        let size = payload.stored.size;
        base = base.checked_sub(size).ok_or(LoadError::Place { kind: object.kind() })?;
        if base < window.base {
            return Err(LoadError::Place { kind: object.kind() });
        }
        payload.staged = Some(Region::new(base, size));
    }
    Ok(Region::new(base, window.end() - base))
}

fn open_objects(
    objects: &[Object<'_>],
    payloads: &[Payload<'_>],
    tallies: &mut [Tally],
    cores: &mut impl Cores,
    caches: &impl Coherency,
    memory: &mut [u8],
    window: Region,
) -> Result<Vec<Opened>, LoadError> {
    let mut evidence = Vec::with_capacity(objects.len());
    for ((object, Payload { opener, staged, .. }), tally) in objects.iter().zip(payloads).zip(tallies) {
        let kind = object.kind();
        let error = LoadError::Place { kind };
        // Staged ciphertext lies behind every object, so that one cut separates the two.
        let cut = staged.map_or(window.end(), |staged| staged.base) - window.base;
        let (front, back) = memory.split_at_mut_checked(cut as usize).ok_or(error)?;
        let staged = match staged {
            None => None,
            Some(staged) => Some(back.get_mut(..staged.size as usize).ok_or(LoadError::Place { kind })?),
        };
        let payload = place::slice(front, window, object.payload(), kind)?;
        let opened = open::open(cores, caches, opener, payload, staged, tally);
        evidence.push(opened.map_err(|error| LoadError::Image { kind, error })?);
    }
    Ok(evidence)
}

/// Describes what was loaded.
fn describe(
    objects: &[Object<'_>],
    bundle: &Bundle<'_>,
    bundle_image: &VerifiedImage<'_>,
    memory: &mut [u8],
    window: Region,
) -> Result<Os, LoadError> {
    let find = |kind| objects.iter().find(|object| object.kind() == kind);
    let kernel = find(Kind::Kernel).ok_or(LoadError::Missing { kind: Kind::Kernel })?;
    let device_tree = find(Kind::DeviceTree).ok_or(LoadError::Missing { kind: Kind::DeviceTree })?;
    let image = place::slice(memory, window, kernel.payload(), Kind::Kernel)?;
    let kernel_at = image.as_ptr().addr() as u64;
    let footprint = kernel_image::footprint(image, kernel.place.base, window).map_err(LoadError::Kernel)?;
    let others = objects.iter().filter(|object| object.kind() != Kind::Kernel);
    let mut places = vec![(Kind::Kernel, footprint)];
    places.extend(others.map(|object| (object.kind(), object.place)));
    place::refuse_overlap(&places)?;

    let mut images = List::new();
    images.push(record_of(bundle_image));
    for object in objects {
        images.push(object.record());
    }
    Ok(Os {
        command_line: String::from(bundle.cmdline),
        kernel: kernel.held(),
        kernel_at,
        device_tree: device_tree.held(),
        initramfs: find(Kind::Initramfs).map(Object::held),
        images,
    })
}
