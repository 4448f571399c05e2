//! An owner's releases, right and wrong, as they lie in an OS slot.

use boot_crypto::Key;
use boot_crypto::host::Es256Key;
use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use memory_map::qemu_virt::{BOARD, DRAM_BASE, DRAM_MIN, KERNEL_LOAD};
use memory_map::{MIB, Region};
use sealed_image::host::{Facts, SignedPayload, Signer, certify, delegation, encode_grant};
use sealed_image::{
    Bundle, BundleObject, Compression, Grant, Kind, KindSet, MAX_BOARDS, PAYLOAD_ALIGN, Role, Root, Version,
};

/// The memory that objects are loaded to, smaller than the board's.
pub(crate) const WINDOW: Region = Region::new(KERNEL_LOAD, 8 * MIB);
/// Where the device tree goes.
pub(crate) const TREE_LOAD: u64 = KERNEL_LOAD + 4 * MIB;
/// Where the initramfs goes.
pub(crate) const INITRAMFS_LOAD: u64 = KERNEL_LOAD + 6 * MIB;
/// The signed command line.
pub(crate) const COMMAND_LINE: &str = "console=ttyAMA0 kiln.test";
/// What is in every chunk of the kernel and the initramfs, and in no ciphertext.
pub(crate) const PLAIN: &[u8; 16] = b"KILN PLAIN TEXT.";

const CHUNK: u32 = 4096;
const KERNEL_BYTES: usize = 5 * CHUNK as usize + 512;

/// The key that the slots are sealed under.
pub(crate) fn storage_key() -> Key {
    Key::new([0x77; 32])
}

fn root() -> Es256Key {
    Es256Key::from_scalar(&[0x41; 32]).unwrap()
}

/// The owner root as the fuses have it.
pub(crate) fn fused_root() -> Root {
    Root { digest: root().public_key().thumbprint(), revoked: false }
}

/// A signed release.
pub(crate) struct Release {
    pub(crate) version: Version,
    pub(crate) rollback_index: u32,
    pub(crate) objects: Vec<(Kind, SignedPayload)>,
    /// What the bundle names, where that is not what lies behind it.
    pub(crate) named: Option<Vec<(Kind, SignedPayload)>>,
    pub(crate) compression: Compression,
}

impl Release {
    /// A release that is right: kernel, device tree and initramfs.
    pub(crate) fn new(version: u64, rollback_index: u32) -> Self {
        let mut release = Self {
            version: Version(version),
            rollback_index,
            objects: Vec::new(),
            named: None,
            compression: Compression::None,
        };
        for (kind, plain) in
            [(Kind::Kernel, kernel()), (Kind::DeviceTree, tree().to_dtb()), (Kind::Initramfs, initramfs())]
        {
            release.put(kind, plain);
        }
        release
    }

    /// Signs another payload of a kind.
    pub(crate) fn put(&mut self, kind: Kind, plain: Vec<u8>) {
        let load = match kind {
            Kind::Kernel => KERNEL_LOAD,
            Kind::DeviceTree => TREE_LOAD,
            _ => INITRAMFS_LOAD,
        };
        let object = self.sign(kind, load, plain);
        self.objects.retain(|(it, _)| *it != kind);
        self.objects.push((kind, object));
    }

    fn sign(&self, kind: Kind, load_address: u64, plain: Vec<u8>) -> SignedPayload {
        let key = Es256Key::from_scalar(&[0x42; 32]).unwrap();
        let mut boards = [""; MAX_BOARDS];
        boards[0] = BOARD;
        let grant = Grant {
            role: Role::Os,
            key: key.public_key(),
            kinds: KindSet::new(&[Kind::Bundle, Kind::Kernel, Kind::DeviceTree, Kind::Initramfs]),
            boards,
            min_version: Version::MIN,
            max_version: Version::MAX,
        };
        let certificate = certify(&root(), &encode_grant(&grant)).unwrap();
        let facts = Facts {
            kind,
            board: BOARD.into(),
            version: self.version,
            rollback_index: self.rollback_index,
            load_address,
            entry: if kind == Kind::Kernel { load_address } else { 0 },
            chunk_size: CHUNK,
        };
        SignedPayload::sign(&facts, plain, &delegation(&root().public_key(), &[certificate]), &[&key])
            .unwrap()
    }

    /// Seals every image of the slot, the bundle first.
    pub(crate) fn sealed(&self) -> Vec<Vec<u8>> {
        let named = self.named.as_ref().unwrap_or(&self.objects);
        let named: Vec<_> = named
            .iter()
            .map(|(kind, object)| BundleObject { kind: *kind, manifest_digest: &object.manifest_digest })
            .collect();
        let bundle = Bundle::new(&named, COMMAND_LINE, self.rollback_index).unwrap().encode();
        let bundle = self.sign(Kind::Bundle, 0, bundle).seal(&storage_key(), Compression::None);
        let objects =
            self.objects.iter().map(|(_, object)| object.seal(&storage_key(), self.compression).unwrap());
        std::iter::once(bundle.unwrap()).chain(objects).collect()
    }
}

/// Lays images out as they lie in a slot.
pub(crate) fn laid_out(images: &[Vec<u8>]) -> Vec<u8> {
    let mut slot = Vec::new();
    for image in images {
        slot.resize(slot.len().next_multiple_of(PAYLOAD_ALIGN as usize), 0);
        slot.extend(image);
    }
    slot
}

/// An arm64 Image that needs more memory than it has bytes.
pub(crate) fn kernel() -> Vec<u8> {
    let mut image: Vec<u8> = PLAIN.iter().copied().cycle().take(KERNEL_BYTES).collect();
    image[..64].fill(0);
    let image_size = KERNEL_BYTES.next_multiple_of(4096) as u64 + 4096;
    for (offset, value) in [(16, image_size), (24, 0b1010)] {
        image[offset..offset + 8].copy_from_slice(&u64::to_le_bytes(value));
    }
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

fn initramfs() -> Vec<u8> {
    PLAIN.iter().copied().cycle().take(10_000).collect()
}

fn property(name: &str, value: impl ToPropertyValue) -> DeviceTreeProperty {
    DeviceTreeProperty::new(name, value).unwrap()
}

fn node(name: &str, properties: Vec<DeviceTreeProperty>) -> DeviceTreeNode {
    let builder = DeviceTreeNode::builder(name).unwrap();
    properties.into_iter().fold(builder, |builder, property| builder.property(property)).build()
}

/// A device tree of two cores with all that stage2 does not add by itself.
fn tree() -> DeviceTree {
    let mut tree = DeviceTree::new();
    tree.root.add_property(property("#address-cells", 2_u32));
    tree.root.add_property(property("#size-cells", 2_u32));
    let reg: Vec<u8> = [DRAM_BASE, DRAM_MIN].iter().flat_map(|value| value.to_be_bytes()).collect();
    let memory = vec![property("device_type", "memory"), property("reg", reg.as_slice())];
    tree.root.add_child(node(&format!("memory@{DRAM_BASE:x}"), memory));
    let cells = vec![property("#address-cells", 1_u32), property("#size-cells", 0_u32)];
    let mut cpus = node("cpus", cells);
    for core in 0..2_u32 {
        let properties = vec![property("device_type", "cpu"), property("reg", core)];
        cpus.add_child(node(&format!("cpu@{core}"), properties));
    }
    tree.root.add_child(cpus);
    tree
}
