//! An operating system's objects and the bundle that ties them together.

use crate::owner::STAGE_CHUNK;
use crate::{Error, Identity, Owner};
use boot_crypto::Key;
use memory_map::qemu_virt;
use sealed_image::host::{Facts, SignedPayload};
use sealed_image::{Bundle, BundleObject, Compression, Kind, PAYLOAD_ALIGN};

/// Chunk size of kernels and initramfs, in bytes.
const OS_CHUNK: u32 = 128 * 1024;

/// Where the objects of an operating system are loaded: physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OsPlaces {
    /// The kernel, which is entered at its first byte.
    pub kernel: u64,
    /// The device tree.
    pub device_tree: u64,
    /// The initramfs.
    pub initramfs: u64,
}

impl Default for OsPlaces {
    /// The places of the board's memory map.
    fn default() -> Self {
        Self {
            kernel: qemu_virt::KERNEL_LOAD,
            device_tree: qemu_virt::DTB_LOAD,
            initramfs: qemu_virt::INITRAMFS_LOAD,
        }
    }
}

/// What an operating system is made of.
#[derive(Clone, Debug)]
pub struct OsParts {
    /// Kernel: an uncompressed arm64 Image.
    pub kernel: Vec<u8>,
    /// Device tree blob.
    pub device_tree: Vec<u8>,
    /// Initramfs, if there is one.
    pub initramfs: Option<Vec<u8>>,
    /// Kernel command line.
    pub cmdline: String,
    /// How each copy of kernel and initramfs is compressed.
    pub compression: Compression,
    /// Where its objects are loaded.
    pub places: OsPlaces,
}

/// A signed release of an operating system, ready to be sealed for any number of places.
#[derive(Clone, Debug)]
pub struct OsRelease {
    /// The bundle.
    pub bundle: SignedPayload,
    /// Its objects in its order, each with its kind.
    pub objects: Vec<(Kind, SignedPayload)>,
    /// How kernel and initramfs are compressed.
    pub compression: Compression,
}

impl OsRelease {
    /// Signs the objects and the bundle that names them.
    ///
    /// # Errors
    /// As [`Owner::sign`]; a command line that no bundle takes.
    pub fn sign(owner: &Owner, identity: &Identity, parts: OsParts) -> Result<Self, Error> {
        let facts = |kind, load_address, entry, chunk_size| Facts {
            kind,
            board: identity.board.clone(),
            version: identity.version,
            rollback_index: identity.rollback_index_of(kind),
            load_address,
            entry,
            chunk_size,
        };
        let kernel = facts(Kind::Kernel, parts.places.kernel, parts.places.kernel, OS_CHUNK);
        let device_tree = facts(Kind::DeviceTree, parts.places.device_tree, 0, STAGE_CHUNK);
        let mut objects = vec![
            (Kind::Kernel, owner.sign(&kernel, parts.kernel)?),
            (Kind::DeviceTree, owner.sign(&device_tree, parts.device_tree)?),
        ];
        if let Some(initramfs) = parts.initramfs {
            let facts = facts(Kind::Initramfs, parts.places.initramfs, 0, OS_CHUNK);
            objects.push((Kind::Initramfs, owner.sign(&facts, initramfs)?));
        }
        let named: Vec<_> = objects
            .iter()
            .map(|(kind, object)| BundleObject { kind: *kind, manifest_digest: &object.manifest_digest })
            .collect();
        let bundle = Bundle::new(&named, &parts.cmdline, identity.rollback_index_of(Kind::Bundle))
            .map_err(|error| Error::Image { offset: 0, error })?
            .encode();
        let bundle = owner.sign(&facts(Kind::Bundle, 0, 0, STAGE_CHUNK), bundle)?;
        Ok(Self { bundle, objects, compression: parts.compression })
    }

    /// Makes the content of an OS slot: the bundle, then its objects, each sealed under `key` with its own
    /// data key and each on a 4096-byte boundary.
    ///
    /// # Errors
    /// A payload that needs more chunks than the metadata holds.
    pub fn seal_slot(&self, key: &Key) -> Result<Vec<u8>, Error> {
        let mut slot = self.bundle.seal(key, Compression::None)?;
        for (_, object) in &self.objects {
            slot.resize(slot.len().next_multiple_of(PAYLOAD_ALIGN as usize), 0);
            slot.extend(object.seal(key, self.compression)?);
        }
        Ok(slot)
    }
}
