//! OS slots that stage2 must refuse, each for one reason: all else about them is right.

use fail_code::FailCode;
use lifecycle::Lifecycle;
use memory_map::qemu_virt::{BOARD, OTP};
use release::{Owner, Profile, RoleKey, test_keys};
use sealed_image::host::{Facts, SignedPayload};
use sealed_image::{Kind, Role};
use tests::forge::flip;
use tests::{Firmware, Maker, OsSlot, bundle_payload, delegate, fresh_key, laid_out, private_owner};

use crate::keys::Keys;
use crate::owners::{Forger, die_of};

/// Bytes of the kernels: three chunks.
const LENGTH: usize = 3 * 4096;
/// The command line of what is good.
pub(crate) const COMMAND_LINE: &str = "console=ttyAMA0";

/// A die and an OS slot that its stage2 must refuse.
pub(crate) struct BadSlot {
    /// What is bad about it.
    pub(crate) name: &'static str,
    /// Why it is refused.
    pub(crate) code: FailCode,
    /// What is refused.
    pub(crate) about: Kind,
    /// The die's fuses.
    pub(crate) otp: Vec<u8>,
    /// What lies in both boot slots: stage2, as shipped.
    pub(crate) stage: Vec<u8>,
    /// What lies in OS slot A.
    pub(crate) slot: Vec<u8>,
    /// What lies in OS slot B: the same, or what is good.
    pub(crate) other: Vec<u8>,
    /// What boots, and differs in nothing else.
    pub(crate) good: Vec<u8>,
    /// The kernel of that.
    pub(crate) kernel: Vec<u8>,
    /// What nobody else may learn.
    pub(crate) keys: Keys,
}

impl BadSlot {
    /// Tells whether a good system lies beside it.
    pub(crate) fn is_beside_good(&self) -> bool {
        self.other != self.slot
    }

    fn new(
        name: &'static str,
        (about, code): (Kind, FailCode),
        maker: &Maker,
        slot: Vec<u8>,
        good: Vec<u8>,
    ) -> Self {
        let otp = maker.otp().to_flash(OTP.size as usize);
        let (stage, keys) = (maker.stage2(), Keys::of(maker));
        Self { name, code, about, otp, stage, other: slot.clone(), slot, good, kernel: kernel(0xD5), keys }
    }
}

/// Makes some of them that lie beside a good system: it boots.
pub(crate) fn beside_good() -> Vec<BadSlot> {
    let beside = |name, bad: BadSlot| BadSlot { name, other: bad.good.clone(), ..bad };
    vec![
        beside("another kernel, beside a good system", substituted_payload()),
        beside("another command line, beside a good system", command_line()),
        beside("a kernel of another release, beside a good system", other_release()),
    ]
}

/// Makes all of them that lie in both slots. The boot slots of all hold the stage2 that `KILN_BUILD_DIR` has.
pub(crate) fn all() -> Vec<BadSlot> {
    vec![
        // First, since of the scenes with signatures it is the shortest: faults in the loops of cryptography compute all anew.
        delegation(),
        payload(),
        substituted_payload(),
        device_tree(),
        command_line(),
        kernel_signature(),
        bundle_signature(),
        stranger(),
        bundle_rolled_back(),
        kernel_rolled_back(),
        other_kind(),
        other_board(),
        other_release(),
        published_key(),
    ]
}

/// An arm64 `Image` that is all header and one byte.
fn kernel(byte: u8) -> Vec<u8> {
    let mut image = vec![byte; LENGTH];
    image[8..16].fill(0);
    image[16..24].copy_from_slice(&(LENGTH as u64).to_le_bytes());
    image[24..32].fill(0);
    image[56..60].copy_from_slice(b"ARM\x64");
    image
}

/// An owner with these keys for the roles that make a device boot.
fn owner(root: [u8; 64], boot: RoleKey, os: RoleKey) -> Owner {
    Owner::new(Profile::Production, root, vec![boot, os]).expect("fresh keys are not published")
}

/// A production die of an owner.
fn die(owner: Owner) -> Maker {
    let any = Maker::production();
    Maker::new(owner, Lifecycle::Production, any.die.silicon_secret, any.die.device_seed)
}

/// The objects of a slot that is right.
fn objects(maker: &Maker) -> Vec<(Kind, SignedPayload)> {
    objects_with(maker, maker.object(Kind::Kernel, &kernel(0xD5)))
}

/// The same with another kernel.
fn objects_with(maker: &Maker, kernel: SignedPayload) -> Vec<(Kind, SignedPayload)> {
    let tree = maker.object(Kind::DeviceTree, &Firmware::get().device_tree);
    vec![(Kind::Kernel, kernel), (Kind::DeviceTree, tree)]
}

fn good(maker: &Maker) -> Vec<u8> {
    maker.seal_os(&maker.os_of(objects(maker), COMMAND_LINE))
}

/// A slot that is right but for its kernel.
fn with_kernel(maker: &Maker, kernel: SignedPayload) -> Vec<u8> {
    maker.seal_os(&maker.os_of(objects_with(maker, kernel), COMMAND_LINE))
}

/// Lays images out, one of which is altered.
fn altered(maker: &Maker, index: usize) -> Vec<u8> {
    let slot = maker.os_of(objects(maker), COMMAND_LINE);
    let mut images = maker.seal_os_images(&slot);
    let last = images[index].len() - 1;
    images[index] = flip(images[index].clone(), last);
    laid_out(&images)
}

fn payload() -> BadSlot {
    let maker = Maker::production();
    BadSlot::new(
        "an altered kernel",
        (Kind::Kernel, FailCode::ChunkTag),
        &maker,
        altered(&maker, 1),
        good(&maker),
    )
}

fn device_tree() -> BadSlot {
    let maker = Maker::production();
    BadSlot::new(
        "an altered device tree",
        (Kind::DeviceTree, FailCode::ChunkTag),
        &maker,
        altered(&maker, 2),
        good(&maker),
    )
}

fn substituted_payload() -> BadSlot {
    let maker = Maker::production();
    let slot = maker.os_of(objects(&maker), COMMAND_LINE);
    let mut other = slot.clone();
    other.objects[0].1.plain = kernel(0xBA);
    let (slot, good) = (maker.seal_os(&other), maker.seal_os(&slot));
    BadSlot::new(
        "another kernel under the signed manifest",
        (Kind::Kernel, FailCode::ChunkDigest),
        &maker,
        slot,
        good,
    )
}

fn command_line() -> BadSlot {
    let maker = Maker::production();
    let slot = maker.os_of(objects(&maker), COMMAND_LINE);
    let mut other = slot.clone();
    other.bundle.plain = bundle_payload(&slot.objects, "init=/evil/sh12", 0);
    assert_eq!(other.bundle.plain.len(), slot.bundle.plain.len());
    let (slot, good) = (maker.seal_os(&other), maker.seal_os(&slot));
    BadSlot::new(
        "another command line under the signed manifest",
        (Kind::Bundle, FailCode::ChunkDigest),
        &maker,
        slot,
        good,
    )
}

/// An owner, and one who has everything of him but the key of the role `os`.
fn forged() -> (Maker, Owner) {
    let (root, boot, os) = (fresh_key(), fresh_key(), fresh_key());
    let public = os.public();
    let role = |key| delegate(&root, Role::Boot, key);
    let maker = die(owner(root.public(), role(boot), delegate(&root, Role::Os, os)));
    let forger = delegate(&root, Role::Os, Forger::of(public));
    (maker, owner(root.public(), role(fresh_key()), forger))
}

fn kernel_signature() -> BadSlot {
    let (maker, forger) = forged();
    let forged = die_of(&maker, forger).object(Kind::Kernel, &kernel(0xBA));
    let slot = with_kernel(&maker, forged);
    BadSlot::new(
        "a forged signature of the kernel",
        (Kind::Kernel, FailCode::SignatureInvalid),
        &maker,
        slot,
        good(&maker),
    )
}

fn bundle_signature() -> BadSlot {
    let (maker, forger) = forged();
    let slot = good(&die_of(&maker, forger));
    BadSlot::new("forged signatures", (Kind::Bundle, FailCode::SignatureInvalid), &maker, slot, good(&maker))
}

fn delegation() -> BadSlot {
    let root = fresh_key();
    let boot = || delegate(&root, Role::Boot, fresh_key());
    let maker = die(owner(root.public(), boot(), delegate(&root, Role::Os, fresh_key())));
    let forged = delegate(&Forger::of(root.public()), Role::Os, fresh_key());
    let slot = good(&die_of(&maker, owner(root.public(), boot(), forged)));
    BadSlot::new(
        "a forged delegation",
        (Kind::Bundle, FailCode::DelegationSignature),
        &maker,
        slot,
        good(&maker),
    )
}

fn stranger() -> BadSlot {
    let maker = Maker::production();
    let slot = good(&die_of(&maker, private_owner()));
    BadSlot::new(
        "a system of another owner",
        (Kind::Bundle, FailCode::RootUnknown),
        &maker,
        slot,
        good(&maker),
    )
}

/// A slot whose bundle and kernel have these rollback indices, as its other objects have 1.
fn indexed(maker: &Maker, bundle: u32, kernel_index: u32) -> Vec<u8> {
    let sign = |kind, plain: Vec<u8>, rollback_index| {
        let facts = Facts { rollback_index, ..maker.os_facts(kind) };
        maker.owner.sign(&facts, plain).expect("it can be signed")
    };
    let tree = sign(Kind::DeviceTree, Firmware::get().device_tree.clone(), 1);
    let objects =
        vec![(Kind::Kernel, sign(Kind::Kernel, kernel(0xD5), kernel_index)), (Kind::DeviceTree, tree)];
    let bundle = sign(Kind::Bundle, bundle_payload(&objects, COMMAND_LINE, bundle), bundle);
    maker.seal_os(&OsSlot { bundle, objects })
}

fn bundle_rolled_back() -> BadSlot {
    let maker = Maker::production().floor(Role::Os, 1);
    let (slot, good) = (indexed(&maker, 0, 1), indexed(&maker, 1, 1));
    BadSlot::new("a bundle from before the floor", (Kind::Bundle, FailCode::RolledBack), &maker, slot, good)
}

fn kernel_rolled_back() -> BadSlot {
    let maker = Maker::production().floor(Role::Os, 1);
    let (slot, good) = (indexed(&maker, 1, 0), indexed(&maker, 1, 1));
    BadSlot::new("a kernel from before the floor", (Kind::Kernel, FailCode::RolledBack), &maker, slot, good)
}

fn other_kind() -> BadSlot {
    let maker = Maker::production();
    let facts = Facts { kind: Kind::Initramfs, entry: 0, ..maker.os_facts(Kind::Kernel) };
    let signed = maker.owner.sign(&facts, kernel(0xBA)).expect("it can be signed");
    let slot = with_kernel(&maker, signed);
    BadSlot::new("an object of another kind", (Kind::Kernel, FailCode::KindWrong), &maker, slot, good(&maker))
}

fn other_board() -> BadSlot {
    const OTHER: &str = "qemu-wirt";
    let (root, boot, os) = (fresh_key(), fresh_key(), fresh_key());
    let elsewhere = RoleKey::delegated_by(&root, Role::Os, OTHER, Box::new(fresh_key())).expect("it signs");
    let boot = delegate(&root, Role::Boot, boot);
    let maker = die(owner(root.public(), boot, delegate(&root, Role::Os, os)));
    assert_eq!(OTHER.len(), BOARD.len());
    let facts = Facts { board: OTHER.into(), ..maker.os_facts(Kind::Kernel) };
    let boot = delegate(&root, Role::Boot, fresh_key());
    let other = owner(root.public(), boot, elsewhere);
    let slot = with_kernel(&maker, other.sign(&facts, kernel(0xBA)).expect("it can be signed"));
    BadSlot::new(
        "a kernel for another board",
        (Kind::Kernel, FailCode::BoardWrong),
        &maker,
        slot,
        good(&maker),
    )
}

fn other_release() -> BadSlot {
    let maker = Maker::production();
    let mut slot = maker.os_of(objects(&maker), COMMAND_LINE);
    slot.objects[0].1 = maker.object(Kind::Kernel, &kernel(0xBA));
    let slot = maker.seal_os(&slot);
    BadSlot::new(
        "a kernel of another release",
        (Kind::Kernel, FailCode::ObjectNotInBundle),
        &maker,
        slot,
        good(&maker),
    )
}

/// An owner who has delegated to a published key as well.
fn published_key() -> BadSlot {
    let root = fresh_key();
    let boot = || delegate(&root, Role::Boot, fresh_key());
    let maker = die(owner(root.public(), boot(), delegate(&root, Role::Os, fresh_key())));
    let published = delegate(&root, Role::Os, test_keys::es256(test_keys::OS));
    let careless = Owner::new(Profile::Development, root.public(), vec![boot(), published]);
    let careless = careless.expect("a development host takes every key");
    let slot = good(&die_of(&maker, careless));
    BadSlot::new("a published key", (Kind::Bundle, FailCode::TestKey), &maker, slot, good(&maker))
}
