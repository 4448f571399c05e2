//! A small release, and a die to burn.

use boot_crypto::Key;
use boot_crypto::host::random;
use memory_map::qemu_virt::{BOARD, STAGE_RUN};
use release::{
    Compression, ContentKey, DeviceFiles, Error, FabricatedDie, FlatImage, Identity, OsParts, Owner,
    OwnerKeys, PackageParts, PackageRelease, SiliconVendor, fabricate,
};
use sealed_image::Version;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use tempfile::TempDir;

pub(crate) const STAGE0: &[u8] = b"stage0 of a test";
pub(crate) const SECRET: &[u8] = b"the key of a customer, 40 bytes in length";

pub(crate) fn owner() -> Owner {
    OwnerKeys::found(BOARD).owner().unwrap()
}

pub(crate) fn identity() -> Identity {
    Identity { board: BOARD.into(), version: Version::new(1, 2, 3), rollback_index: 4.into() }
}

/// Bytes that compress and never repeat within 16.
pub(crate) fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|i| (i / 7) as u8 ^ (i % 7) as u8 ^ seed).collect()
}

fn stage(length: usize, seed: u8) -> FlatImage {
    FlatImage { bytes: pattern(length, seed), load: STAGE_RUN.base, entry: STAGE_RUN.base }
}

pub(crate) fn parts() -> PackageParts {
    PackageParts {
        release: "a test".into(),
        stage1: stage(70_001, 1),
        stage2: stage(66_000, 2),
        os: OsParts {
            kernel: pattern(140_000, 3),
            device_tree: pattern(3_000, 4),
            initramfs: Some(pattern(5_000, 5)),
            cmdline: "quiet".into(),
            compression: Compression::None,
            places: release::OsPlaces::default(),
        },
        secrets: vec![SECRET.to_vec()],
        provisioning_key: Key::new(random()),
    }
}

pub(crate) fn make(owner: &Owner) -> Result<(PackageRelease, ContentKey), Error> {
    PackageRelease::make(owner, &identity(), parts())
}

/// A device around a die as the vendor delivers it.
pub(crate) struct Blank {
    pub(crate) files: DeviceFiles,
    pub(crate) die: FabricatedDie,
    _folder: TempDir,
}

impl Blank {
    /// Fabricates one device for all tests, and copies it for this one.
    pub(crate) fn new() -> Self {
        static FIRST: OnceLock<(TempDir, FabricatedDie)> = OnceLock::new();
        let (first, die) = FIRST.get_or_init(|| {
            let folder = tempfile::tempdir().unwrap();
            let files = DeviceFiles::new(folder.path());
            let die = fabricate(&SiliconVendor::found().unwrap(), STAGE0, &files).unwrap();
            (folder, die)
        });
        let folder = tempfile::tempdir().unwrap();
        let (from, files) = (DeviceFiles::new(first.path()), DeviceFiles::new(folder.path()));
        fs::copy(from.flash0(), files.flash0()).unwrap();
        fs::copy(from.flash1(), files.flash1()).unwrap();
        let disk = fs::File::create(files.disk()).unwrap();
        disk.set_len(fs::metadata(from.disk()).unwrap().len()).unwrap();
        Self { files, die: die.clone(), _folder: folder }
    }
}

/// Writes bytes into a file, and returns what was there.
pub(crate) fn poke(path: &Path, offset: u64, bytes: &[u8]) -> Vec<u8> {
    use std::os::unix::fs::FileExt as _;
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut old = vec![0; bytes.len()];
    file.read_exact_at(&mut old, offset).unwrap();
    file.write_all_at(bytes, offset).unwrap();
    old
}
