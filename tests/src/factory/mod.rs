//! A factory: an owner, a silicon vendor, a package, an authority, and dies that become devices in QEMU.
//!
//! ```text
//!  Factory ── package, lots ──▶ authority (the real service, on loopback)
//!     └────── die ──▶ Die ── provision ──▶ Run      what station, console, journal and authority say of it
//!                      └──── cut ────────▶ Cut      power went away at a moment that has a name
//! ```

mod die;
mod journal;
mod moment;

use authority::{NewLot, Terms};
use boot_crypto::host::{Es256Key, random};
use boot_crypto::{Key, sha256};
use memory_map::qemu_virt::BOARD;
use release::{
    Compression, ContentKey, Identity, OsParts, Owner, PackageParts, PackageRelease, Profile, SiliconVendor,
    certificate_pem,
};
use sealed_image::{Role, Version};
use station::{Authority, Credentials};
use tempfile::TempDir;
use xtask::local_authority::LocalAuthority;

use crate::{Firmware, TOKEN, cmdline, delegate, fresh_key};

pub use die::{Cut, Die, Run};
pub use journal::{FlashFile, journal};
pub use moment::Moment;

/// The lot of a factory that has one.
pub const LOT: &str = "lot";

/// A package and what only its owner knows.
pub struct Package {
    /// The package as the factory gets it.
    pub release: PackageRelease,
    /// The key that opens it.
    pub content_key: ContentKey,
    /// Every plaintext in it, with its name.
    pub plaintexts: Vec<(&'static str, Vec<u8>)>,
    /// What it boots.
    pub os: OsParts,
}

/// An owner, a vendor, a package and an authority.
pub struct Factory {
    /// Who made the dies.
    pub vendor: SiliconVendor,
    /// Who signs.
    pub owner: Owner,
    /// The package of all lots, unless they say otherwise.
    pub package: Package,
    /// Who counts.
    pub authority: LocalAuthority,
    root: Es256Key,
    credentials: Credentials,
    // Dropped last: the authority's books lie in it.
    _folder: TempDir,
}

impl Factory {
    /// Founds a factory whose devices boot the bare-metal payload.
    ///
    /// # Panics
    /// If anything cannot be made: so do all functions here.
    pub fn new() -> Self {
        Self::booting(payload(&cmdline(TOKEN)))
    }

    /// Founds a factory whose devices boot this.
    pub fn booting(os: OsParts) -> Self {
        let root = fresh_key();
        let roles = [Role::Boot, Role::Provision, Role::Os].map(|role| delegate(&root, role, fresh_key()));
        let owner = Owner::new(Profile::Production, root.public(), roles.into())
            .expect("keys that are not published");
        let package = package(&owner, 1, os);
        Self::of(root, owner, package)
    }

    /// Founds a factory for a package that an owner made.
    pub fn of(root: Es256Key, owner: Owner, package: Package) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the authority");
        let authority = LocalAuthority::start(folder.path(), None).expect("an authority on loopback");
        authority.delegate(&root, BOARD).expect("a root delegates");
        let credentials = authority.issue_station("station").expect("a station's certificate");
        let vendor = SiliconVendor::found().expect("a vendor");
        Self { vendor, owner, package, authority, root, credentials, _folder: folder }
    }

    /// Makes another package, of another release, with this rollback index.
    pub fn package_at(&self, rollback_index: u32) -> Package {
        package(&self.owner, rollback_index, payload(&cmdline(TOKEN)))
    }

    /// Describes a lot for the package.
    pub fn lot(&self, name: &str, quota: u32) -> NewLot {
        lot_of(&self.package, &self.vendor, name, quota)
    }

    /// Makes a lot, and returns the way to it.
    pub fn open_lot(&self, lot: NewLot) -> Authority {
        let name = lot.name.clone();
        self.authority.create_lot(lot).expect("a lot");
        self.way(&name)
    }

    /// Makes the lot of this factory.
    pub fn open(&self, quota: u32) -> Authority {
        self.open_lot(self.lot(LOT, quota))
    }

    /// Returns the way of the station to a lot.
    pub fn way(&self, lot: &str) -> Authority {
        Authority::new(&self.authority.url(), lot, &self.credentials).expect("a way to the authority")
    }

    /// Returns how many installs of a lot are taken, and how many are closed.
    pub fn counts(&self, lot: &str) -> (u32, u32) {
        let lot = self.authority.lot(lot).expect("the authority's books").expect("a lot");
        (lot.issued, lot.closed)
    }

    /// Makes a die and pre-provisions it.
    pub fn die(&self) -> Die {
        Die::secured(&self.vendor, &self.package)
    }

    /// Returns the owner root.
    pub fn root(&self) -> &Es256Key {
        &self.root
    }
}

impl Default for Factory {
    fn default() -> Self {
        Self::new()
    }
}

/// Describes a lot of any dies of a vendor and any stations.
pub fn lot_of(package: &Package, vendor: &SiliconVendor, name: &str, quota: u32) -> NewLot {
    NewLot {
        name: name.into(),
        quota,
        terms: Terms::new(&package.release.facts, certificate_pem(vendor.root())),
        content_key: Key::new(*package.content_key.0.expose()),
        dies: Vec::new(),
        stations: Vec::new(),
    }
}

/// Returns an operating system that is the bare-metal payload, with an initramfs that is nowhere else.
pub fn payload(cmdline: &str) -> OsParts {
    OsParts {
        kernel: Firmware::get().payload.bytes.clone(),
        device_tree: Firmware::get().device_tree.clone(),
        initramfs: Some(noise(100_000)),
        cmdline: cmdline.into(),
        compression: Compression::None,
        places: release::OsPlaces::default(),
    }
}

/// Makes a package of the firmware under test.
fn package(owner: &Owner, rollback_index: u32, os: OsParts) -> Package {
    let firmware = Firmware::get();
    let secret = noise(64);
    let mut plaintexts = vec![
        ("stage2", firmware.stage2.bytes.clone()),
        ("kernel", os.kernel.clone()),
        ("device tree", os.device_tree.clone()),
    ];
    plaintexts.extend(os.initramfs.clone().map(|initramfs| ("initramfs", initramfs)));
    plaintexts.push(("customer's secret", secret.clone()));
    let copy = OsParts {
        kernel: os.kernel.clone(),
        device_tree: os.device_tree.clone(),
        initramfs: os.initramfs.clone(),
        cmdline: os.cmdline.clone(),
        compression: os.compression,
        places: os.places,
    };
    let parts = PackageParts {
        release: "a test".into(),
        stage1: firmware.stage1.clone(),
        stage2: firmware.stage2.clone(),
        os,
        secrets: vec![secret],
        provisioning_key: Key::new(random()),
    };
    let version = Version::new(1, 0, u16::try_from(rollback_index).expect("a small index").into());
    let identity = Identity { board: BOARD.into(), version, rollback_index: rollback_index.into() };
    let (release, content_key) = PackageRelease::make(owner, &identity, parts).expect("a package");
    Package { release, content_key, plaintexts, os: copy }
}

/// Returns bytes that are found nowhere else and do not compress.
fn noise(length: usize) -> Vec<u8> {
    let seed: [u8; 32] = random();
    (0..length.div_ceil(32))
        .flat_map(|n| sha256(&[&seed[..], &n.to_le_bytes()].concat()))
        .take(length)
        .collect()
}
