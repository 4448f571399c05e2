//! Loading an OS slot: bundle, objects, payloads.
//!
//! The order is the point. First everything that is read is read: the bundle and each object's metadata into
//! secure RAM, where they are verified, then the payloads, still encrypted, into DRAM. Then every DMA-capable
//! device is reset, so that nothing can change the payloads any more. Then they are decrypted and checked where
//! they lie. Storage is not read again.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use boot_crypto::Key;
use boot_info::{ImageRecord, List, MAX_IMAGES, Step, Timeline};
use fail_code::FailCode;
use hal::{Clock, Coherency, Cores, DmaDevices, ReadError, Storage};
use memory_map::Region;
use memory_map::qemu_virt::BOARD;
use sealed_image::{Bundle, Es256AndPs256, Kind, MAX_METADATA, Opened, Opener, Policy, Root, Tally};
use sealed_image::{UntrustedImage, VerifiedImage};
use store::Cursor;
use zeroize::Zeroize;

use crate::kernel_image::{self, KernelImageError};
use crate::{open, place};

/// Largest payload of a bundle in bytes: eight objects and a command line need about 2.5 KB.
const MAX_BUNDLE: u64 = 16 * 1024;

/// Who may sign what is loaded, and under which key it is sealed.
pub struct Trust<'a> {
    /// Owner roots, as fused.
    pub roots: &'a [Root],
    /// Rollback floors by role number, as fused.
    pub floors: &'a [u32; 8],
    /// Whether published test keys are refused.
    pub refuse_test_keys: bool,
    /// The key that the objects' data keys are wrapped under.
    pub storage_key: &'a Key,
}

/// The operating system, loaded, verified and in place.
#[derive(Debug)]
pub struct Os {
    /// The signed command line.
    pub command_line: String,
    /// Where the kernel lies; it is entered at its first byte.
    pub kernel: Region,
    /// Where the device tree lies: its own bytes, without the room behind it.
    pub device_tree: Region,
    /// Where the initramfs lies, if the bundle names one.
    pub initramfs: Option<Region>,
    /// What was loaded, the bundle first.
    pub images: List<ImageRecord, MAX_IMAGES>,
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
            Self::NoDisk | Self::Store(_) | Self::Read(_) => None,
        }
    }
}

/// An object whose metadata is verified, with the places of its payload.
struct Object<'a> {
    image: VerifiedImage<'a>,
    opener: Opener<'a>,
    /// On the disk.
    stored: Region,
    /// In memory.
    place: Region,
    /// In memory, for the ciphertext of a compressed object.
    staged: Option<Region>,
}

impl Object<'_> {
    fn kind(&self) -> Kind {
        self.image.manifest().kind
    }

    /// The memory of the payload itself.
    fn payload(&self) -> Region {
        Region::new(self.place.base, self.image.manifest().plain_size)
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

/// Loads the slot at `slot` on the disk into `memory`, which starts at `window`'s base. Resets the devices.
///
/// # Errors
/// A [`LoadError`]; `memory` then holds nothing decrypted.
#[expect(clippy::too_many_arguments, reason = "each is one thing that loading may touch")]
pub fn load(
    slot: Region,
    trust: &Trust<'_>,
    devices: &mut impl DmaDevices,
    cores: &mut impl Cores,
    caches: &impl Coherency,
    clock: &impl Clock,
    memory: &mut [u8],
    window: Region,
    timeline: &mut Timeline<'_>,
) -> Result<Os, LoadError> {
    let disk = devices.disk().ok_or(LoadError::NoDisk)?;
    let mut cursor = Cursor::new(slot);
    let mut bundle_metadata = vec![0; MAX_METADATA as usize];
    let (bundle_image, bundle_payload) = read_bundle(disk, &mut cursor, trust, &mut bundle_metadata)?;
    let bundle =
        Bundle::parse(&bundle_payload).map_err(|error| LoadError::Image { kind: Kind::Bundle, error })?;
    if bundle.rollback_index != bundle_image.manifest().rollback_index {
        return Err(LoadError::Bundle);
    }

    let mut metadata = vec![vec![0; MAX_METADATA as usize]; bundle.objects().count()];
    let mut objects = Vec::with_capacity(metadata.len());
    for (named, buffer) in bundle.objects().zip(&mut metadata) {
        let stored = cursor.read_next(disk, buffer).map_err(LoadError::Store)?;
        let kind = named.kind;
        let image = verify(stored.untrusted_metadata, kind, trust)?;
        if !boot_crypto::equal(image.manifest_digest(), named.manifest_digest).accepts() {
            return Err(LoadError::NotInBundle { kind });
        }
        let opener = image.unwrap_key(trust.storage_key).map_err(|error| LoadError::Image { kind, error })?;
        let place = place::occupied(image.manifest(), window)?;
        objects.push(Object { image, opener, stored: stored.payload, place, staged: None });
    }
    let free = stage_compressed(&mut objects, window)?;
    let mut places: Vec<_> = objects.iter().map(|object| (object.kind(), object.place)).collect();
    places.extend((free.size > 0).then_some((Kind::Bundle, free)));
    place::refuse_overlap(&places)?;
    timeline.step(Step::VerifyObjects, clock.now());

    for object in &objects {
        let into = object.staged.unwrap_or(object.payload());
        let bytes = place::slice(memory, window, into, object.kind())?;
        disk.read(object.stored.base, bytes).map_err(LoadError::Read)?;
    }
    devices.stop();
    timeline.step(Step::ReadObjects, clock.now());

    let opened = open_objects(&objects, cores, caches, memory, window)
        .and_then(|evidence| os(&objects, &evidence, &bundle, &bundle_image, memory, window));
    if opened.is_err() {
        for object in &objects {
            let place = place::slice(memory, window, object.place, object.kind())?;
            place.zeroize();
            caches.clean(place);
        }
    }
    let staging = place::slice(memory, window, free, Kind::Bundle)?;
    staging.zeroize();
    caches.clean(staging);
    timeline.step(Step::OpenObjects, clock.now());
    opened
}

fn verify<'a>(
    untrusted_metadata: &'a [u8],
    kind: Kind,
    trust: &Trust<'_>,
) -> Result<VerifiedImage<'a>, LoadError> {
    let refused = |error| LoadError::Image { kind, error };
    // A kind without a role is reserved: the verifier refuses it, whatever the floor.
    let role = kind.role().map_or(0, |role| usize::from(role.number()));
    let policy = Policy {
        board: BOARD,
        kind,
        roots: trust.roots,
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
    trust: &Trust<'_>,
    metadata: &'a mut [u8],
) -> Result<(VerifiedImage<'a>, Vec<u8>), LoadError> {
    let stored = cursor.read_next(disk, metadata).map_err(LoadError::Store)?;
    let at = stored.payload.base;
    let image = verify(stored.untrusted_metadata, Kind::Bundle, trust)?;
    let refused = |error| LoadError::Image { kind: Kind::Bundle, error };
    let opener = image.unwrap_key(trust.storage_key).map_err(refused)?;
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
fn stage_compressed(objects: &mut [Object<'_>], window: Region) -> Result<Region, LoadError> {
    let mut base = window.end();
    for object in objects.iter_mut().filter(|object| !object.opener.in_place()) {
        let size = object.stored.size;
        base = base.checked_sub(size).ok_or(LoadError::Place { kind: object.kind() })?;
        if base < window.base {
            return Err(LoadError::Place { kind: object.kind() });
        }
        object.staged = Some(Region::new(base, size));
    }
    Ok(Region::new(base, window.end() - base))
}

fn open_objects(
    objects: &[Object<'_>],
    cores: &mut impl Cores,
    caches: &impl Coherency,
    memory: &mut [u8],
    window: Region,
) -> Result<Vec<Opened>, LoadError> {
    let mut evidence = Vec::with_capacity(objects.len());
    for object in objects {
        let kind = object.kind();
        let error = LoadError::Place { kind };
        // Staged ciphertext lies behind every object, so that one cut separates the two.
        let cut = object.staged.map_or(window.end(), |staged| staged.base) - window.base;
        let (front, back) = memory.split_at_mut_checked(cut as usize).ok_or(error)?;
        let staged = match object.staged {
            None => None,
            Some(staged) => Some(back.get_mut(..staged.size as usize).ok_or(LoadError::Place { kind })?),
        };
        let payload = place::slice(front, window, object.payload(), kind)?;
        let opened = open::open(cores, caches, &object.opener, payload, staged);
        evidence.push(opened.map_err(|error| LoadError::Image { kind, error })?);
    }
    Ok(evidence)
}

/// Describes what was loaded, given the evidence that every byte of every object is verified.
fn os(
    objects: &[Object<'_>],
    evidence: &[Opened],
    bundle: &Bundle<'_>,
    bundle_image: &VerifiedImage<'_>,
    memory: &mut [u8],
    window: Region,
) -> Result<Os, LoadError> {
    if evidence.len() != objects.len() {
        return Err(LoadError::Bundle);
    }
    let find = |kind| objects.iter().find(|object| object.kind() == kind);
    let kernel = find(Kind::Kernel).ok_or(LoadError::Missing { kind: Kind::Kernel })?;
    let device_tree = find(Kind::DeviceTree).ok_or(LoadError::Missing { kind: Kind::DeviceTree })?;
    let image = place::slice(memory, window, kernel.payload(), Kind::Kernel)?;
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
        kernel: kernel.payload(),
        device_tree: device_tree.payload(),
        initramfs: find(Kind::Initramfs).map(Object::payload),
        images,
    })
}
