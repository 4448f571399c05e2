//! An owner, a package and the lot's authority: what is on the trusted side.

use std::rc::Rc;

use boot_crypto::host::Es256Key;
use boot_crypto::{Key, sha256};
use factory_proto::authority::Authority;
use memory_map::qemu_virt::{BOARD, STAGE_RUN};
use release::{
    Compression, ContentKey, FlatImage, Identity, OsParts, Owner, PackageParts, PackageRelease, Profile,
    RoleKey,
};
use sealed_image::host::Signer as _;
use sealed_image::host::{certify, encode_grant};
use sealed_image::{Grant, KindSet, MAX_BOARDS, PublicKey, Role, Version};
use sim::authority::{Desk, Terms};

use crate::bootable;
use crate::device::Device;

/// Seed of the owner's root key.
pub(crate) const ROOT: u8 = 0x11;

/// A lot of devices of one release.
pub(crate) struct Lot {
    pub(crate) release: PackageRelease,
    pub(crate) content_key: ContentKey,
    pub(crate) authority: Rc<Authority>,
    /// Every plaintext of the release, with its name.
    pub(crate) plaintexts: Vec<(&'static str, Vec<u8>)>,
}

impl Lot {
    /// Its authority, as this die sees it.
    pub(crate) fn desk(&self, device: &Device) -> Desk {
        let facts = &self.release.facts;
        let terms = Terms {
            policy: facts.policy,
            stage1_measurement: facts.stage1_measurement,
            package_id: facts.package_id,
            content_key: *self.content_key.0.expose(),
        };
        Desk::new(terms, self.authority.clone(), device.die_key, device.chip_id)
    }
}

pub(crate) fn key(seed: u8) -> Es256Key {
    Es256Key::from_scalar(&[seed; 32]).unwrap()
}

fn owner(root: u8) -> Owner {
    let roles = [Role::Boot, Role::Provision, Role::Os].into_iter().zip(root + 1..);
    let delegate =
        |(role, seed)| RoleKey::delegated_by(&key(root), role, BOARD, Box::new(key(seed))).unwrap();
    Owner::new(Profile::Production, key(root).public(), roles.map(delegate).collect()).unwrap()
}

/// An authority whose key `signer` the root `root` delegated `role` to.
pub(crate) fn authority(root: u8, role: Role, signer: u8) -> Authority {
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let signer = key(signer);
    let grant = Grant {
        role,
        key: signer.public_key(),
        kinds: KindSet::default(),
        boards,
        min_version: Version::MIN,
        max_version: Version::MAX,
    };
    let certificate = certify(&key(root), &encode_grant(&grant)).unwrap();
    Authority::new(&PublicKey::P256(key(root).public()), certificate, Box::new(signer))
}

/// Bytes that look like code and repeat nowhere.
fn plaintext(length: usize, seed: u8) -> Vec<u8> {
    (0..length)
        .step_by(32)
        .flat_map(|n| sha256(&[&[seed][..], &n.to_le_bytes()].concat()))
        .take(length)
        .collect()
}

/// Makes a lot whose payloads follow from `seed`.
pub(crate) fn lot(seed: u8, compression: Compression) -> Lot {
    lot_of(ROOT, seed, compression)
}

/// Makes a lot of the owner with this root key.
pub(crate) fn lot_of(root: u8, seed: u8, compression: Compression) -> Lot {
    release_of(root, seed, compression, Version::new(1, 2, 3), 4, KERNEL)
}

/// Makes a lot with a small kernel, for rigs that provision very often.
pub(crate) fn small_lot() -> Lot {
    release_of(ROOT, 1, Compression::None, Version::new(1, 2, 3), 4, 9_500)
}

/// Makes a lot of an earlier release.
pub(crate) fn older_lot() -> Lot {
    release_of(ROOT, 0x21, Compression::None, Version::new(1, 2, 2), 3, KERNEL)
}

/// Bytes of the kernel: more than one chunk.
const KERNEL: usize = 70_000;

/// Makes a lot with a kernel and a device tree that stage2 takes, and a second one of the same owner with other keys.
pub(crate) fn bootable_lots() -> [Lot; 2] {
    [1, 0x41].map(|seed| {
        let mut plaintexts = plaintexts(seed, 9_500, Compression::None);
        plaintexts[1].1 = bootable::kernel(9_500, 64 * 1024);
        plaintexts[2].1 = bootable::device_tree();
        lot_with(ROOT, seed, Compression::None, Version::new(1, 2, 3), 4, plaintexts)
    })
}

fn release_of(
    root: u8,
    seed: u8,
    compression: Compression,
    version: Version,
    rollback_index: u32,
    kernel: usize,
) -> Lot {
    lot_with(root, seed, compression, version, rollback_index, plaintexts(seed, kernel, compression))
}

/// Every payload of a release, with its name.
fn plaintexts(seed: u8, kernel: usize, compression: Compression) -> Vec<(&'static str, Vec<u8>)> {
    let parts = [
        ("stage2", 9_000),
        ("kernel", kernel),
        ("device tree", 5_001),
        ("initramfs", 4_100),
        ("secret", 48),
        ("second secret", 96),
    ];
    parts
        .into_iter()
        .zip(seed..)
        .map(|((name, length), seed)| {
            let bytes = plaintext(length, seed);
            // A kernel that compresses: each of its blocks twice.
            let repeated = name == "kernel" && compression != Compression::None;
            (
                name,
                if repeated {
                    bytes.chunks(64).flat_map(|block| [block, block].concat()).collect()
                } else {
                    bytes
                },
            )
        })
        .collect()
}

fn lot_with(
    root: u8,
    seed: u8,
    compression: Compression,
    version: Version,
    rollback_index: u32,
    plaintexts: Vec<(&'static str, Vec<u8>)>,
) -> Lot {
    let [stage2, kernel, device_tree, initramfs, secret, second_secret] =
        [0, 1, 2, 3, 4, 5].map(|n: usize| plaintexts[n].1.clone());
    let stage = |bytes| FlatImage { bytes, load: STAGE_RUN.base, entry: STAGE_RUN.base };
    let parts = PackageParts {
        release: "a test".into(),
        stage1: stage(plaintext(6_000, seed ^ 0x80)),
        stage2: stage(stage2),
        os: OsParts {
            kernel,
            device_tree,
            initramfs: Some(initramfs),
            cmdline: "quiet".into(),
            compression,
            places: release::OsPlaces::default(),
        },
        secrets: vec![secret, second_secret],
        provisioning_key: Key::new([seed ^ 0x55; 32]),
    };
    let identity = Identity { board: BOARD.into(), version, rollback_index: rollback_index.into() };
    let (release, content_key) = PackageRelease::make(&owner(root), &identity, parts).unwrap();
    let authority = Rc::new(authority(root, Role::Authority, root + 4));
    Lot { release, content_key, authority, plaintexts }
}
