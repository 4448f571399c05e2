//! An owner and a die of that owner: everything that is needed to make images for it, right or wrong.

use boot_crypto::host::{Es256Key, random};
use lifecycle::{Die, Lifecycle, OtpImage};
use memory_map::qemu_virt::{BOARD, DTB_LOAD, KERNEL_LOAD};
use release::{Compression, DieSecrets, OsRelease, Owner, Profile, RoleKey, test_keys};
use sealed_image::host::{Facts, SignedPayload, Signer};
use sealed_image::{Bundle, BundleObject, Kind, PAYLOAD_ALIGN, Role, Version};

use crate::Firmware;

/// The version of all images that are right.
pub const VERSION: Version = Version((1 << 48) | (2 << 32) | 3);

/// Small chunks, so that small payloads have a first, a middle and a last one.
const CHUNK: u32 = 4096;

/// An owner and a die.
pub struct Maker {
    /// The owner.
    pub owner: Owner,
    /// What is burned into the die.
    pub die: Die,
    /// Its state.
    pub lifecycle: Lifecycle,
    secrets: DieSecrets,
}

impl Maker {
    /// Makes a development die of the test owner.
    pub fn development() -> Self {
        let owner = test_keys::owner().expect("the test keys sign");
        Self::new(owner, Lifecycle::Development, test_keys::silicon_secret(), test_keys::device_seed())
    }

    /// Makes a production die with secrets of its own, of an owner with keys of its own.
    pub fn production() -> Self {
        Self::new(private_owner(), Lifecycle::Production, random(), random())
    }

    /// Makes a die in any state, with any secrets, of any owner.
    pub fn new(owner: Owner, lifecycle: Lifecycle, silicon_secret: [u8; 32], device_seed: [u8; 32]) -> Self {
        let die = Die {
            chip_id: random(),
            silicon_secret,
            root_digest: owner.root_digest(),
            provisioning_key: random(),
            device_seed,
            closing_measurement: random(),
            floors: [0; 6],
            owner_generation: 0,
        };
        let secrets = secrets(&die);
        Self { owner, die, lifecycle, secrets }
    }

    /// Gives the die another chip id, from which its storage keys follow.
    pub fn with_chip_id(mut self, chip_id: [u8; 16]) -> Self {
        self.die.chip_id = chip_id;
        self.secrets = secrets(&self.die);
        self
    }

    /// Sets the rollback floor of a role.
    pub fn floor(mut self, role: Role, floor: u8) -> Self {
        self.die.floors[usize::from(role.number()) - 1] = floor;
        self
    }

    /// Returns the die's fuses.
    pub fn otp(&self) -> OtpImage {
        OtpImage::for_die(self.lifecycle, &self.die)
    }

    /// Returns the facts of a stage2 image that is right, to be changed.
    pub fn stage2_facts(&self) -> Facts {
        let stage2 = &Firmware::get().stage2;
        facts(Kind::Stage2, stage2.load, stage2.entry)
    }

    /// Seals a stage2 image that is right.
    pub fn stage2(&self) -> Vec<u8> {
        self.stage2_with(&self.stage2_facts())
    }

    /// Seals the real stage2 under other facts, signed by the role that owns their kind.
    pub fn stage2_with(&self, facts: &Facts) -> Vec<u8> {
        let signed =
            self.owner.sign(facts, Firmware::get().stage2.bytes.clone()).expect("facts can be signed");
        self.seal_stage(&signed)
    }

    /// Seals the real stage2 under facts that `role` signed, whether it may or not.
    pub fn stage2_signed_by(&self, role: Role, facts: &Facts) -> Vec<u8> {
        let bytes = Firmware::get().stage2.bytes.clone();
        self.seal_stage(&self.owner.sign_as(role, facts, bytes).expect("facts can be signed"))
    }

    /// Seals for the boot slots of this die.
    pub fn seal_stage(&self, signed: &SignedPayload) -> Vec<u8> {
        signed.seal(&self.secrets.boot_key(), Compression::None).expect("a stage can be sealed")
    }

    /// Seals for the boot slots of this die, with each chunk compressed.
    pub fn seal_stage_compressed(&self, signed: &SignedPayload) -> Vec<u8> {
        signed.seal(&self.secrets.boot_key(), Compression::Lz4).expect("a stage can be sealed")
    }

    /// Returns the facts of an OS object of a kind that is right, to be changed.
    pub fn os_facts(&self, kind: Kind) -> Facts {
        match kind {
            Kind::Kernel => facts(kind, KERNEL_LOAD, KERNEL_LOAD),
            Kind::DeviceTree => facts(kind, DTB_LOAD, 0),
            _ => facts(kind, 0, 0),
        }
    }

    /// Signs an OS object that is right.
    pub fn object(&self, kind: Kind, plain: &[u8]) -> SignedPayload {
        self.owner.sign(&self.os_facts(kind), plain.to_vec()).expect("facts can be signed")
    }

    /// Makes an OS slot that is right: it boots the payload, which answers with `token`.
    pub fn os(&self, token: &str) -> OsSlot {
        let firmware = Firmware::get();
        let kernel = self.object(Kind::Kernel, &firmware.payload.bytes);
        let device_tree = self.object(Kind::DeviceTree, &firmware.device_tree);
        self.os_of(vec![(Kind::Kernel, kernel), (Kind::DeviceTree, device_tree)], &cmdline(token))
    }

    /// Bundles objects.
    pub fn os_of(&self, objects: Vec<(Kind, SignedPayload)>, cmdline: &str) -> OsSlot {
        let bundle = self.bundle(&objects, cmdline);
        OsSlot { bundle, objects }
    }

    /// Signs a bundle of objects.
    pub fn bundle(&self, objects: &[(Kind, SignedPayload)], cmdline: &str) -> SignedPayload {
        self.object(Kind::Bundle, &bundle_payload(objects, cmdline, 0))
    }

    /// Seals an OS slot for this die.
    pub fn seal_os(&self, slot: &OsSlot) -> Vec<u8> {
        laid_out(&self.seal_os_images(slot))
    }

    /// Seals each image of an OS slot for this die, the bundle first.
    pub fn seal_os_images(&self, slot: &OsSlot) -> Vec<Vec<u8>> {
        let objects = slot.objects.iter().map(|(_, object)| object);
        std::iter::once(&slot.bundle).chain(objects).map(|signed| self.seal_os_image(signed)).collect()
    }

    /// Returns the key that the boot slots of this die are sealed under.
    pub fn boot_key(&self) -> boot_crypto::Key {
        self.secrets.boot_key()
    }

    /// Returns the key that the OS slots of this die are sealed under.
    pub fn os_key(&self) -> boot_crypto::Key {
        self.secrets.os_key()
    }

    /// Seals a whole release for the OS slots of this die, as the release tools do.
    pub fn seal_release(&self, release: &OsRelease) -> Vec<u8> {
        release.seal_slot(&self.secrets.os_key()).expect("a release can be sealed")
    }

    /// Seals an image for the OS slots of this die.
    pub fn seal_os_image(&self, signed: &SignedPayload) -> Vec<u8> {
        signed.seal(&self.secrets.os_key(), Compression::None).expect("an object can be sealed")
    }
}

/// A signed operating system.
#[derive(Clone)]
pub struct OsSlot {
    /// The bundle.
    pub bundle: SignedPayload,
    /// The objects as they lie in the slot.
    pub objects: Vec<(Kind, SignedPayload)>,
}

/// Lays sealed images out as they lie in a slot.
pub fn laid_out(images: &[Vec<u8>]) -> Vec<u8> {
    let mut slot = Vec::new();
    for image in images {
        slot.resize(slot.len().next_multiple_of(PAYLOAD_ALIGN as usize), 0);
        slot.extend(image);
    }
    slot
}

/// Encodes the payload of a bundle.
pub fn bundle_payload(objects: &[(Kind, SignedPayload)], cmdline: &str, rollback_index: u32) -> Vec<u8> {
    let named: Vec<_> = objects
        .iter()
        .map(|(kind, object)| BundleObject { kind: *kind, manifest_digest: &object.manifest_digest })
        .collect();
    Bundle::new(&named, cmdline, rollback_index).expect("a bundle of known kinds").encode()
}

/// Returns the command line that makes the payload answer with `token`.
pub fn cmdline(token: &str) -> String {
    format!("kiln.token={token}")
}

/// Makes an owner whose keys nobody else has.
pub fn private_owner() -> Owner {
    let root = fresh_key();
    let roles = [Role::Boot, Role::Provision, Role::Os].map(|role| delegate(&root, role, fresh_key()));
    Owner::new(Profile::Production, root.public(), roles.into()).expect("fresh keys are not published")
}

/// Has `root` delegate a role to `key`, without limits.
pub fn delegate(root: &dyn Signer, role: Role, key: impl Signer + Send + Sync + 'static) -> RoleKey {
    RoleKey::delegated_by(root, role, BOARD, Box::new(key)).expect("a key in memory signs")
}

/// Makes a key that nobody else has.
pub fn fresh_key() -> Es256Key {
    // Fails for fewer than one in 2^32 keys.
    Es256Key::from_scalar(&random()).expect("32 random bytes are a scalar")
}

/// Derives a die's keys in the profile of a host that does not look: what the device does is what is tested.
fn secrets(die: &Die) -> DieSecrets {
    DieSecrets::new(Profile::Development, &die.silicon_secret, &die.device_seed, die.chip_id, 0)
        .expect("a development host takes every secret")
}

fn facts(kind: Kind, load_address: u64, entry: u64) -> Facts {
    Facts {
        kind,
        board: BOARD.into(),
        version: VERSION,
        rollback_index: 0,
        load_address,
        entry,
        chunk_size: CHUNK,
    }
}
