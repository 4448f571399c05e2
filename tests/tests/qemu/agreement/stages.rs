//! Images of stages: right ones, and every way in which they can be wrong.

use boot_crypto::Key;
use boot_select::{METADATA_ROOM, Selection};
use fail_code::FailCode;
use hal::{ReadError, Storage};
use lifecycle::{Fuses, Lifecycle, OtpImage};
use memory_map::Region;
use memory_map::qemu_virt::{BOARD, BOOT_SLOT_A, STAGE_CODE, STAGE_RUN};
use release::{Artefact, Compression, Means, Owner, Profile, RoleKey, test_keys};
use sealed_image::host::{Facts, SignedPayload, Signer, certify, encode_grant};
use sealed_image::{Grant, Kind, KindSet, MAX_BOARDS, Role, Version};
use tests::forge::{Parts, find, flip, put, transplant};
use tests::{Firmware, Maker, VERSION, delegate, fresh_key, private_owner};

use super::ledger::{By, Ledger, of, verify};

/// An image of a stage, the die that it lies in, and what is known of that.
pub(crate) struct Case {
    pub(crate) class: &'static str,
    pub(crate) name: String,
    pub(crate) maker: Maker,
    pub(crate) otp: OtpImage,
    pub(crate) image: Vec<u8>,
    /// Roots that its fuses revoke.
    pub(crate) revoked: Vec<[u8; 64]>,
    /// The root that its fuses hold, if it is not the maker's.
    pub(crate) root: Option<[u8; 64]>,
}

impl Case {
    /// What `kiln verify` is told about the die, to judge the image by itself.
    pub(crate) fn means(&self, kind: Kind) -> Means {
        let role = kind.role().unwrap_or(Role::Boot);
        Means {
            floors: self.maker.die.floors[usize::from(role.number()) - 1].into(),
            development: self.maker.lifecycle == Lifecycle::Development,
            expected: Some(Artefact::Images(kind)),
            key: Some(key(&self.maker, kind)),
            revoked: self.revoked.clone(),
            ..Means::new(self.root.unwrap_or(*self.maker.owner.root()))
        }
    }
}

/// Judges images of stage1, which QEMU would not stop after.
pub(crate) fn judge(ledger: &mut Ledger) {
    for case in cases(Kind::Stage1) {
        let device = of(selected(&case));
        let said = verify(&case.image, &case.means(Kind::Stage1));
        ledger.enter(By::Libraries, case.class, &format!("stage1: {}", case.name), &device, &said);
    }
}

/// Does what stage0 does with a slot.
fn selected(case: &Case) -> Result<(), FailCode> {
    let fuses = Fuses::read(&case.otp).map_err(|error| error.code())?;
    let selection = Selection::of(&fuses)?;
    let key = boot_select::stage_key(&fuses)?;
    let mut buffer = [0; METADATA_ROOM];
    let mut flash = Flash(case.image.clone());
    let slot = Region::new(0, BOOT_SLOT_A.size);
    let found = selection.find(&mut flash, slot, STAGE_CODE, &mut buffer)?;
    let mut run = vec![0; STAGE_RUN.size as usize];
    found.open(&mut flash, &key, &mut run).map(|_| ())
}

/// A slot that starts with these bytes and is erased behind them.
pub(crate) struct Flash(pub(crate) Vec<u8>);

impl Storage for Flash {
    fn size(&self) -> u64 {
        256 << 20
    }

    fn read(&mut self, offset: u64, into: &mut [u8]) -> Result<(), ReadError> {
        into.fill(0xFF);
        let from = self.0.get(offset as usize..).unwrap_or_default();
        into.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}

/// Returns the key that the slots of a kind of stage are sealed under.
pub(crate) fn key(maker: &Maker, kind: Kind) -> Key {
    match kind {
        Kind::Stage1 => Key::new(maker.die.provisioning_key),
        Kind::Stage2 => maker.boot_key(),
        _ => maker.os_key(),
    }
}

fn role(kind: Kind) -> Role {
    kind.role().expect("a stage has a role")
}

/// Gives a die the state in which it boots this kind.
fn die(mut maker: Maker, kind: Kind) -> Maker {
    if kind == Kind::Stage1 {
        maker.lifecycle = Lifecycle::Secured;
    }
    maker
}

fn owned_by(owner: Owner, kind: Kind) -> Maker {
    let die = Maker::production();
    self::die(Maker::new(owner, die.lifecycle, die.die.silicon_secret, die.die.device_seed), kind)
}

fn production(kind: Kind) -> Maker {
    die(Maker::production(), kind)
}

fn facts(maker: &Maker, kind: Kind) -> Facts {
    Facts { kind, ..maker.stage2_facts() }
}

fn code() -> Vec<u8> {
    Firmware::get().stage2.bytes.clone()
}

fn signed(maker: &Maker, kind: Kind, facts: &Facts) -> SignedPayload {
    maker.owner.sign_as(role(kind), facts, code()).expect("facts can be signed")
}

fn seal(maker: &Maker, kind: Kind, signed: &SignedPayload) -> Vec<u8> {
    signed.seal(&key(maker, kind), Compression::None).expect("a stage can be sealed")
}

fn right(maker: &Maker, kind: Kind) -> Vec<u8> {
    seal(maker, kind, &signed(maker, kind, &facts(maker, kind)))
}

fn case(class: &'static str, name: &str, maker: Maker, image: Vec<u8>) -> Case {
    let otp = maker.otp();
    Case { class, name: name.into(), maker, otp, image, revoked: Vec::new(), root: None }
}

/// An image that is right, altered in storage.
fn altered(
    kind: Kind,
    class: &'static str,
    name: &str,
    alter: impl FnOnce(Vec<u8>, &Parts) -> Vec<u8>,
) -> Case {
    let maker = production(kind);
    let image = right(&maker, kind);
    let changed = alter(image.clone(), &Parts::of(&image));
    assert_ne!(changed, image, "{name}");
    case(class, name, maker, changed)
}

/// An image that is right, but for facts that are signed.
fn stated(kind: Kind, class: &'static str, name: &str, change: impl FnOnce(&mut Facts)) -> Case {
    let maker = production(kind);
    let mut facts = facts(&maker, kind);
    change(&mut facts);
    let image = seal(&maker, kind, &signed(&maker, kind, &facts));
    case(class, name, maker, image)
}

/// An image whose signer was delegated to within limits.
fn limited(kind: Kind, class: &'static str, name: &str, change: impl FnOnce(&mut Grant<'_>)) -> Case {
    let (root, key) = (fresh_key(), fresh_key());
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let mut grant = Grant {
        role: role(kind),
        key: Signer::public_key(&key),
        kinds: KindSet::new(&[kind]),
        boards,
        min_version: Version::MIN,
        max_version: Version::MAX,
    };
    change(&mut grant);
    let certificate = certify(&root, &encode_grant(&grant)).unwrap();
    let signer = RoleKey::new(role(kind), certificate, Box::new(key));
    let others = [Role::Boot, Role::Provision, Role::Os].into_iter().filter(|other| *other != role(kind));
    let mut roles: Vec<_> = others.map(|other| delegate(&root, other, fresh_key())).collect();
    roles.push(signer);
    let maker = owned_by(Owner::new(Profile::Production, root.public(), roles).unwrap(), kind);
    let image = right(&maker, kind);
    case(class, name, maker, image)
}

/// An owner whose role was delegated to this key.
fn signing_with(kind: Kind, key: impl Signer + Send + Sync + 'static) -> Maker {
    let root = fresh_key();
    let roles = vec![delegate(&root, role(kind), key)];
    // The production profile of a host would refuse a published key; this host does not look.
    owned_by(Owner::new(Profile::Development, root.public(), roles).unwrap(), kind)
}

/// Lists images of a kind of stage.
pub(crate) fn cases(kind: Kind) -> Vec<Case> {
    let mut all = bytes(kind);
    all.extend(sealings(kind));
    all.extend(signatures(kind));
    all
}

/// Bytes altered in storage, in each part of the image, and images that are cut off.
fn bytes(kind: Kind) -> Vec<Case> {
    type Place = (&'static str, fn(&[u8], &Parts) -> usize);
    let places: [Place; 24] = [
        ("magic", |_, _| 0),
        ("format", |_, _| 8),
        ("length of the delegation", |_, _| 14),
        ("length of the manifest", |_, _| 18),
        ("length of the sealing record", |_, _| 22),
        ("number of chunks", |_, _| 26),
        ("payload's offset", |_, _| 30),
        ("payload's length", |_, _| 33),
        ("reserved byte", |_, _| 63),
        ("frame of the delegation", |_, parts| parts.delegation.start),
        ("delegated board", |image, parts| find(image, parts.delegation.clone(), BOARD.as_bytes())),
        ("owner root", |_, parts| parts.delegation.start + 10),
        ("root's signature", |_, parts| parts.delegation.end - 1),
        ("frame of the manifest", |_, parts| parts.manifest.start + 2),
        ("board", |image, parts| find(image, parts.manifest.clone(), BOARD.as_bytes())),
        ("signature", |_, parts| parts.manifest.end - 1),
        ("frame of the sealing record", |_, parts| parts.sealing.start),
        ("sealing record", |_, parts| parts.sealing.end - 1),
        ("tag", |_, parts| parts.entry(0).start),
        ("digest of a chunk", |_, parts| parts.entry(parts.chunks - 1).start + 16),
        ("length of a chunk", |_, parts| parts.entry(0).start + 48),
        ("padding", |_, parts| parts.padding.end - 1),
        ("first chunk", |_, parts| parts.chunk(0)),
        ("last chunk", |_, parts| parts.payload.end - 1),
    ];
    let mut all: Vec<_> = places
        .into_iter()
        .map(|(name, at)| {
            altered(kind, "flipped byte", name, |image, parts| {
                let at = at(&image, parts);
                flip(image, at)
            })
        })
        .collect();
    type Cut = (&'static str, fn(&Parts) -> usize);
    let cuts: [Cut; 4] = [
        ("in the header", |_| 40),
        ("in the manifest", |parts| parts.manifest.start + 7),
        ("behind the metadata", |parts| parts.payload.start),
        ("in the payload", |parts| parts.chunk(parts.chunks / 2)),
    ];
    all.extend(cuts.map(|(name, at)| {
        altered(kind, "truncated", name, |mut image, parts| {
            image.truncate(at(parts));
            image
        })
    }));
    all.push(altered(kind, "truncated", "to nothing", |_, _| Vec::new()));
    all.push(altered(kind, "mixed up", "two chunks that changed places", |image, parts| {
        let (first, second) = (parts.chunk(0), parts.chunk(1));
        let (a, b) = (image[first..second].to_vec(), image[second..second + 4096].to_vec());
        let (entry_a, entry_b) = (image[parts.entry(0)].to_vec(), image[parts.entry(1)].to_vec());
        let image = put(put(image, first, &b), second, &a);
        put(put(image, parts.entry(0).start, &entry_b), parts.entry(1).start, &entry_a)
    }));
    all.push(altered(kind, "wrong kind", "a program in the clear", |_, _| {
        Firmware::get().payload.bytes.clone()
    }));
    all
}

/// Sealed for something else.
fn sealings(kind: Kind) -> Vec<Case> {
    let maker = production(kind);
    let image = right(&maker, kind);
    let mut all = vec![case("good", "as it is made", maker, image)];

    let maker = production(kind);
    let payload = signed(&maker, kind, &facts(&maker, kind));
    let (one, other) = (seal(&maker, kind, &payload), seal(&maker, kind, &payload));
    let image = transplant(one.clone(), &other, |parts| parts.sealing.clone());
    all.push(case("mixed up", "the sealing record of another copy", maker, image));

    let maker = production(kind);
    let payload = signed(&maker, kind, &facts(&maker, kind));
    let (one, other) = (seal(&maker, kind, &payload), seal(&maker, kind, &payload));
    let image = transplant(one, &other, |parts| parts.payload.clone());
    all.push(case("mixed up", "the payload of another copy", maker, image));

    let (maker, other) = (production(kind), production(kind));
    let payload = signed(&maker, kind, &facts(&maker, kind));
    let image = seal(&other, kind, &payload);
    all.push(case("another key", "sealed for another die", maker, image));

    let maker = production(kind);
    let image = signed(&maker, kind, &facts(&maker, kind)).seal(&maker.os_key(), Compression::None).unwrap();
    all.push(case("another key", "sealed for the OS slots", maker, image));

    let maker = production(kind);
    let payload = signed(&maker, kind, &facts(&maker, kind));
    let image = payload.seal(&key(&maker, kind), Compression::Lz4).unwrap();
    all.push(case("wrong place in memory", "compressed", maker, image));
    for shift in [0x1000, STAGE_RUN.size] {
        all.push(stated(kind, "wrong place in memory", &format!("{shift:#x} too high"), |facts| {
            facts.load_address += shift;
            facts.entry += shift;
        }));
    }
    all
}

/// Signed, and not for this.
fn signatures(kind: Kind) -> Vec<Case> {
    let mut all = Vec::new();
    let maker = production(kind);
    let other = private_owner().sign(&facts(&maker, kind), code()).unwrap();
    let image = seal(&maker, kind, &other);
    all.push(case("signed again by another owner", "a private one", maker, image));
    let maker = production(kind);
    let test = test_keys::owner().unwrap().sign(&facts(&maker, kind), code()).unwrap();
    let image = seal(&maker, kind, &test);
    all.push(case("wrong root", "the test owner's", maker, image));

    let maker = production(kind);
    let heir = fresh_key().public();
    let image = right(&maker, kind);
    let mut otp = maker.otp();
    otp.revoke_root(0).root(1, &sealed_image::PublicKey::P256(heir).thumbprint());
    let revoked = vec![*maker.owner.root()];
    let name = "of the root that was revoked".into();
    all.push(Case { class: "revoked root", name, otp, image, revoked, root: Some(heir), maker });

    let maker = signing_with(kind, test_keys::es256(test_keys::BOOT));
    let image = right(&maker, kind);
    all.push(case("test key", "that a production root delegated to", maker, image));
    let maker = signing_with(kind, test_keys::os_ps256());
    // A published key too, but for its algorithm: the test key is what is noticed first.
    let image = right(&maker, kind);
    all.push(case("test key", "of RSA", maker, image));
    if kind == Kind::Stage2 {
        let root = fresh_key();
        let roles = vec![delegate(&root, Role::Boot, test_keys::os_ps256())];
        let owner = Owner::new(Profile::Development, root.public(), roles).unwrap();
        let die = Maker::development();
        let maker = Maker::new(owner, die.lifecycle, die.die.silicon_secret, die.die.device_seed);
        let image = right(&maker, kind);
        all.push(case("wrong algorithm", "a stage signed with PS256", maker, image));
        let maker = Maker::development();
        let image = right(&maker, kind);
        all.push(case("good", "of a development die", maker, image));
    }

    for other in [Role::Boot, Role::Provision, Role::Os].into_iter().filter(|other| *other != role(kind)) {
        let maker = production(kind);
        let image = maker.owner.sign_as(other, &facts(&maker, kind), code()).unwrap();
        let image = seal(&maker, kind, &image);
        all.push(case("wrong role", other.name(), maker, image));
        let maker = production(kind);
        let mut payload = signed(&maker, kind, &facts(&maker, kind));
        payload.delegation = maker.owner.delegation(other).unwrap();
        let image = seal(&maker, kind, &payload);
        all.push(case("swapped delegation", &format!("that of the role {}", other.name()), maker, image));
    }
    let maker = production(kind);
    let mut payload = signed(&maker, kind, &facts(&maker, kind));
    payload.delegation = private_owner().delegation(role(kind)).unwrap();
    let image = seal(&maker, kind, &payload);
    all.push(case("swapped delegation", "another owner's", maker, image));

    all.push(stated(kind, "wrong board", "another board", |facts| facts.board = "another-board".into()));
    let other = if kind == Kind::Stage1 { Kind::Stage2 } else { Kind::Stage1 };
    for wrong in [other, Kind::Kernel, Kind::Tee] {
        all.push(stated(kind, "wrong kind", wrong.name(), |facts| facts.kind = wrong));
    }
    for (index, class) in [(4, "below the floor"), (5, "good")] {
        let maker = production(kind).floor(role(kind), 5);
        let at = Facts { rollback_index: index, ..facts(&maker, kind) };
        let image = seal(&maker, kind, &signed(&maker, kind, &at));
        all.push(case(class, &format!("rollback index {index} at floor 5"), maker, image));
    }
    let limits = "limits of the delegation";
    all.push(limited(kind, limits, "another kind", |grant| grant.kinds = KindSet::new(&[other])));
    all.push(limited(kind, limits, "another board", |grant| grant.boards[0] = "another-board"));
    all.push(limited(kind, limits, "another role", |grant| grant.role = Role::Os));
    all.push(limited(kind, "wrong version", "below", |grant| grant.min_version = Version(VERSION.0 + 1)));
    all.push(limited(kind, "wrong version", "above", |grant| grant.max_version = Version(VERSION.0 - 1)));
    all.push(limited(kind, "good", "just the version", |grant| {
        (grant.min_version, grant.max_version) = (VERSION, VERSION);
    }));
    all
}
