//! Images that stage0 must refuse, each for one reason: all else about them is right.

use boot_crypto::Key;
use fail_code::FailCode;
use lifecycle::Lifecycle;
use memory_map::qemu_virt::{BOARD, OTP};
use release::{Compression, Owner, Profile, RoleKey, test_keys};
use sealed_image::host::{Facts, SignedPayload, Signer as _};
use sealed_image::{Kind, Role, Version};
use tests::forge::{Parts, flip, put};
use tests::{Firmware, Maker, delegate, fresh_key, private_owner};

use crate::keys::Keys;
use crate::owners::{Forger, die_of};

/// Bytes of the payloads: three chunks.
const LENGTH: usize = 3 * 4096;

/// A die and an image that it must refuse.
pub(crate) struct Bad {
    /// What is bad about it.
    pub(crate) name: &'static str,
    /// Why it is refused.
    pub(crate) code: FailCode,
    /// The die's fuses.
    pub(crate) otp: Vec<u8>,
    /// What lies in slot A.
    pub(crate) image: Vec<u8>,
    /// What lies in slot B: the same, or what is good.
    pub(crate) other: Vec<u8>,
    /// What flash says of closing, where it says anything.
    pub(crate) closing_state: Vec<u8>,
    /// What a die boots that differs in nothing else.
    pub(crate) good: Vec<u8>,
    /// The fuses of that die.
    pub(crate) good_otp: Vec<u8>,
    /// What nobody else may learn.
    pub(crate) keys: Keys,
    /// Those of them that the good stage gets.
    pub(crate) gets: [&'static str; 2],
    /// The page of the secrets that it gets, as the host derives it, where what is vouched for is on it.
    pub(crate) page: Option<Vec<u8>>,
}

impl Bad {
    /// Tells whether a good image lies beside it.
    pub(crate) fn is_beside_good(&self) -> bool {
        self.other != self.image
    }

    /// How much a run of it takes: one that refuses all, one that boots a good image, one that vouches for it as well.
    pub(crate) fn rank(&self) -> usize {
        usize::from(self.is_beside_good()) + usize::from(self.page.is_some())
    }

    pub(crate) fn new(
        name: &'static str,
        code: FailCode,
        maker: &Maker,
        image: Vec<u8>,
        good: Vec<u8>,
    ) -> Self {
        let otp = maker.otp().to_flash(OTP.size as usize);
        let gets = match maker.lifecycle {
            Lifecycle::Secured | Lifecycle::Closing => ["stage secret", "die secret"],
            _ => ["storage key of the OS slots", "random secret"],
        };
        Self {
            name,
            code,
            good_otp: otp.clone(),
            otp,
            other: image.clone(),
            closing_state: Vec::new(),
            keys: Keys::of(maker).and_of_image(&good, &slot_key(maker)),
            image,
            good,
            gets,
            page: None,
        }
    }
}

/// Makes some of them that lie beside a good image: it boots.
pub(crate) fn beside_good() -> Vec<Bad> {
    let beside = |name, bad: Bad| Bad { name, other: bad.good.clone(), ..bad };
    vec![
        beside("another payload, beside a good image", substituted_payload()),
        beside("a forged signature, beside a good image", signature()),
        beside("an image from before the floor, beside a good one", rolled_back()),
    ]
}

/// Makes all of them that lie in both slots.
pub(crate) fn all() -> Vec<Bad> {
    vec![
        payload(),
        substituted_payload(),
        substituted_chunks(),
        signature(),
        delegation(),
        stranger(),
        rolled_back(),
        other_kind(),
        other_board(),
        other_version(),
        not_named(),
        published_root(),
    ]
}

/// The payload of a good image.
pub(crate) fn plain() -> Vec<u8> {
    vec![0xD5; LENGTH]
}

/// Another one, for images that are bad: where one is entered, its bytes tell.
pub(crate) fn other_plain() -> Vec<u8> {
    vec![0xBA; LENGTH]
}

/// The key that the boot slots of a die are sealed under.
pub(crate) fn slot_key(maker: &Maker) -> Key {
    match maker.lifecycle {
        Lifecycle::Secured | Lifecycle::Closing => Key::new(maker.die.provisioning_key),
        _ => maker.boot_key(),
    }
}

/// Seals for the boot slots of a die.
pub(crate) fn seal(maker: &Maker, signed: &SignedPayload) -> Vec<u8> {
    signed.seal(&slot_key(maker), Compression::None).expect("it can be sealed")
}

/// The facts of a provisioning stage that is right.
pub(crate) fn stage1_facts(maker: &Maker) -> Facts {
    Facts { kind: Kind::Stage1, entry: Firmware::get().stage1.entry, ..maker.stage2_facts() }
}

fn good(maker: &Maker) -> Vec<u8> {
    maker.seal_stage(&maker.owner.sign(&maker.stage2_facts(), plain()).expect("it can be signed"))
}

/// An owner whose boot role is `boot`.
fn owner(root: [u8; 64], boot: RoleKey) -> Owner {
    Owner::new(Profile::Production, root, vec![boot]).expect("fresh keys are not published")
}

/// A production die of an owner.
fn die(owner: Owner) -> Maker {
    let any = Maker::production();
    Maker::new(owner, Lifecycle::Production, any.die.silicon_secret, any.die.device_seed)
}

fn payload() -> Bad {
    let maker = Maker::production();
    let good = good(&maker);
    let image = flip(good.clone(), good.len() - 1);
    Bad::new("an altered payload", FailCode::ChunkTag, &maker, image, good)
}

/// An image, and one with the same manifest around another payload, encrypted as it should be.
fn substituted(maker: &Maker) -> (Vec<u8>, Vec<u8>) {
    let right = maker.owner.sign(&maker.stage2_facts(), plain()).expect("it can be signed");
    let wrong = SignedPayload { plain: other_plain(), ..right.clone() };
    (maker.seal_stage(&right), maker.seal_stage(&wrong))
}

fn substituted_payload() -> Bad {
    let maker = Maker::production();
    let (good, image) = substituted(&maker);
    Bad::new("another payload, with its own digests", FailCode::ChunkDigest, &maker, image, good)
}

fn substituted_chunks() -> Bad {
    let maker = Maker::production();
    let (good, mut image) = substituted(&maker);
    let parts = Parts::of(&good);
    for chunk in 0..parts.chunks {
        let digest = parts.entry(chunk).start + 16;
        image = put(image, digest, &good[digest..digest + 32]);
    }
    Bad::new("another payload, with the signed digests", FailCode::ChunkDigest, &maker, image, good)
}

fn signature() -> Bad {
    let (root, role) = (fresh_key(), fresh_key());
    let public = role.public();
    let boot = delegate(&root, Role::Boot, role);
    let forged = delegate(&root, Role::Boot, Forger::of(public));
    let maker = die(owner(root.public(), boot));
    let forger = die_of(&maker, owner(root.public(), forged));
    let signed = forger.owner.sign(&forger.stage2_facts(), other_plain()).expect("it can be signed");
    let (image, good) = (forger.seal_stage(&signed), good(&maker));
    Bad::new("a forged signature", FailCode::SignatureInvalid, &maker, image, good)
}

fn delegation() -> Bad {
    let root = fresh_key();
    let maker = die(owner(root.public(), delegate(&root, Role::Boot, fresh_key())));
    let forged = delegate(&Forger::of(root.public()), Role::Boot, fresh_key());
    let image = good(&die_of(&maker, owner(root.public(), forged)));
    let good = good(&maker);
    Bad::new("a forged delegation", FailCode::DelegationSignature, &maker, image, good)
}

fn stranger() -> Bad {
    let maker = Maker::production();
    let image = good(&die_of(&maker, private_owner()));
    let good = good(&maker);
    Bad::new("an image of another owner", FailCode::RootUnknown, &maker, image, good)
}

/// Two images that one owner signs: with `facts` changed by `change`, and right ones.
fn signed(name: &'static str, code: FailCode, maker: &Maker, change: impl FnOnce(&mut Facts)) -> Bad {
    let mut facts = maker.stage2_facts();
    change(&mut facts);
    let image = maker.seal_stage(&maker.owner.sign(&facts, other_plain()).expect("it can be signed"));
    let facts = Facts { rollback_index: 1, ..maker.stage2_facts() };
    let good = maker.seal_stage(&maker.owner.sign(&facts, plain()).expect("it can be signed"));
    Bad::new(name, code, maker, image, good)
}

fn rolled_back() -> Bad {
    let maker = Maker::production().floor(Role::Boot, 1);
    signed("an image from before the floor", FailCode::RolledBack, &maker, |_| {})
}

fn other_kind() -> Bad {
    let maker = Maker::production();
    signed("an image of another kind", FailCode::KindWrong, &maker, |facts| facts.kind = Kind::Stage1)
}

fn other_board() -> Bad {
    const OTHER: &str = "qemu-wirt";
    let root = fresh_key();
    let (one, other) = (fresh_key(), fresh_key());
    let boot = delegate(&root, Role::Boot, one);
    let elsewhere = RoleKey::delegated_by(&root, Role::Boot, OTHER, Box::new(other)).expect("it signs");
    let maker = die(owner(root.public(), boot));
    let facts = Facts { board: OTHER.into(), ..maker.stage2_facts() };
    assert_eq!(OTHER.len(), BOARD.len());
    let signed = owner(root.public(), elsewhere).sign(&facts, plain()).expect("it can be signed");
    let image = maker.seal_stage(&signed);
    let good = good(&maker);
    Bad::new("an image for another board", FailCode::BoardWrong, &maker, image, good)
}

fn other_version() -> Bad {
    use sealed_image::host::{certify, encode_grant};
    use sealed_image::{Grant, KindSet, MAX_BOARDS};
    let (root, key) = (fresh_key(), fresh_key());
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let facts = Maker::production().stage2_facts();
    let grant = Grant {
        role: Role::Boot,
        key: key.public_key(),
        kinds: KindSet::new(&[Kind::Stage2]),
        boards,
        min_version: facts.version,
        max_version: Version::MAX,
    };
    let certificate = certify(&root, &encode_grant(&grant)).expect("it signs");
    let maker = die(owner(root.public(), RoleKey::new(Role::Boot, certificate, Box::new(key))));
    let older = |facts: &mut Facts| facts.version = Version(facts.version.0 - 1);
    signed("a version that is not delegated", FailCode::VersionNotDelegated, &maker, older)
}

/// A provisioning stage for a closing die to name, and another one.
pub(crate) fn named_and_not(maker: &Maker) -> [SignedPayload; 2] {
    let facts = stage1_facts(maker);
    let newer = Facts { version: Version(facts.version.0 + 1), ..facts.clone() };
    [(facts, plain()), (newer, other_plain())]
        .map(|(facts, plain)| maker.owner.sign(&facts, plain).expect("it can be signed"))
}

fn not_named() -> Bad {
    let mut maker = Maker::production();
    maker.lifecycle = Lifecycle::Closing;
    let [named, unnamed] = named_and_not(&maker);
    maker.die.closing_measurement = named.manifest_digest;
    let (image, good) = (seal(&maker, &unnamed), seal(&maker, &named));
    Bad::new("a stage that the closing die does not name", FailCode::NotClosingImage, &maker, image, good)
}

/// A production die with a published root boots nothing; in development it does.
fn published_root() -> Bad {
    let any = Maker::production();
    let make = |lifecycle| {
        let owner = test_keys::owner().expect("the test keys sign");
        let maker = Maker::new(owner, lifecycle, any.die.silicon_secret, any.die.device_seed);
        maker.with_chip_id(any.die.chip_id)
    };
    let (maker, development) = (make(Lifecycle::Production), make(Lifecycle::Development));
    let image = good(&maker);
    Bad {
        good_otp: development.otp().to_flash(OTP.size as usize),
        ..Bad::new("a published root", FailCode::TestKey, &maker, image.clone(), image)
    }
}
