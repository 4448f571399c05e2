//! Images that no stage is, manifests without their images, and delegations.

use std::io::Write as _;

use fail_code::FailCode;
use hal::Storage as _;
use memory_map::Region;
use memory_map::qemu_virt::{BOARD, OS_SLOT_A};
use release::{Artefact, Compression, Means, Owner, Profile, RoleKey, test_keys};
use sealed_image::host::{Facts, SignedPayload, certify, delegation, encode_grant};
use sealed_image::{
    Es256AndPs256, Grant, Kind, KindSet, MAX_BOARDS, MAX_METADATA, Policy, PublicKey, Role, Root, Tally,
    UntrustedImage, Version,
};
use store::Cursor;
use tempfile::NamedTempFile;
use tests::forge::{Parts, flip};
use tests::{Maker, VERSION, fresh_key, private_owner};

use super::ledger::{By, Ledger, of, verify};
use super::stages::Flash;

pub(crate) fn judge(ledger: &mut Ledger) {
    let bench = Bench::new();
    bench.objects(ledger);
    bench.manifests(ledger);
    delegations(ledger);
}

/// An owner's die, and what is signed for it.
struct Bench {
    maker: Maker,
    kernel: SignedPayload,
    image: Vec<u8>,
}

/// What differs in a device, of one that takes all that is right.
#[derive(Clone, Copy)]
struct Device<'a> {
    kind: Kind,
    roots: &'a [Root],
    floor: u32,
    development: bool,
}

impl Device<'_> {
    fn policy(&self) -> Policy<'_> {
        Policy {
            board: BOARD,
            kind: self.kind,
            roots: self.roots,
            rollback_floor: self.floor,
            refuse_test_keys: !self.development,
        }
    }

    /// Takes an image from the start of a slot as the stages do, whole.
    fn takes(&self, image: &[u8], key: &boot_crypto::Key) -> Result<(), FailCode> {
        let mut slot = Flash(image.to_vec());
        let mut buffer = vec![0; MAX_METADATA as usize];
        let region = Region::new(0, OS_SLOT_A.size);
        let stored = Cursor::new(region).read_next(&mut slot, &mut buffer).map_err(|error| error.code())?;
        let payload = stored.payload;
        let mut opened = || {
            let untrusted = UntrustedImage::parse(stored.untrusted_metadata)?;
            let opener = untrusted.verify::<Es256AndPs256>(&self.policy())?.unwrap_key(key)?;
            let mut tally = Tally::default();
            for chunk in opener.chunks() {
                let mut bytes = vec![0; chunk.stored_len as usize];
                slot.read(payload.base + chunk.stored_offset, &mut bytes).expect("the slot has it");
                let mut plain = vec![0; chunk.plain_len as usize];
                tally.add(&opener.open_chunk_into(chunk.index, &mut bytes, &mut plain)?);
            }
            opener.finish(&tally).map(|_| ())
        };
        opened().map_err(|error: sealed_image::Error| error.code())
    }

    /// Takes the metadata of an image.
    fn takes_metadata(&self, image: &[u8], parts: &Parts) -> Result<(), FailCode> {
        UntrustedImage::parse(&image[..parts.payload.start])
            .and_then(|untrusted| untrusted.verify::<Es256AndPs256>(&self.policy()).map(|_| ()))
            .map_err(|error| error.code())
    }
}

impl Bench {
    fn new() -> Self {
        let maker = Maker::production();
        let kernel = maker.object(Kind::Kernel, &[7; 3 * 4096 + 100]);
        let image = maker.seal_os_image(&kernel);
        Self { maker, kernel, image }
    }

    fn roots(&self) -> [Root; 1] {
        [Root { digest: self.maker.owner.root_digest(), revoked: false }]
    }

    fn means(&self, kind: Kind) -> Means {
        Means {
            expected: Some(Artefact::Images(kind)),
            key: Some(self.maker.os_key()),
            ..Means::new(*self.maker.owner.root())
        }
    }

    /// Judges images of objects.
    fn objects(&self, ledger: &mut Ledger) {
        let roots = self.roots();
        let device = Device { kind: Kind::Kernel, roots: &roots, floor: 0, development: false };
        let mut enter = |class, name: &str, device: &Device<'_>, image: &[u8], means: &Means| {
            let taken = of(device.takes(image, &self.maker.os_key()));
            ledger.enter(By::Libraries, class, &format!("object: {name}"), &taken, &verify(image, means));
        };
        let parts = Parts::of(&self.image);
        // A byte of the metadata every so often, and one of each chunk.
        let places =
            (0..parts.table.end).step_by(parts.table.end / 40).chain(parts.payload.clone().step_by(4096));
        for at in places {
            let image = flip(self.image.clone(), at);
            enter("flipped byte", &format!("byte {at}"), &device, &image, &self.means(Kind::Kernel));
        }
        for length in [3, 64, parts.table.start + 5, parts.payload.start, parts.payload.end - 1] {
            let image = &self.image[..length];
            enter("truncated", &format!("{length} bytes"), &device, image, &self.means(Kind::Kernel));
        }
        for kind in [Kind::Kernel, Kind::DeviceTree, Kind::Initramfs, Kind::Secret] {
            let device = Device { kind, ..device };
            let object = self.maker.object(kind, &[1; 9000]);
            let image = self.maker.seal_os_image(&object);
            enter("good", kind.name(), &device, &image, &self.means(kind));
            let image = object.seal(&self.maker.os_key(), Compression::Lz4).unwrap();
            enter("good", &format!("{}, compressed", kind.name()), &device, &image, &self.means(kind));
            let expected = if kind == Kind::Initramfs { Kind::Kernel } else { Kind::Initramfs };
            let elsewhere = Device { kind: expected, ..device };
            enter("wrong kind", kind.name(), &elsewhere, &image, &self.means(expected));
        }
        let secured = self.maker.seal_stage(&self.kernel);
        enter("another key", "sealed for the boot slots", &device, &secured, &self.means(Kind::Kernel));

        let floored = Device { floor: 1, ..device };
        let means = Means { floors: 1.into(), ..self.means(Kind::Kernel) };
        enter("below the floor", "a kernel", &floored, &self.image, &means);
        let other = private_owner().sign(&self.maker.os_facts(Kind::Kernel), vec![7; 5000]).unwrap();
        let image = self.maker.seal_os_image(&other);
        enter("signed again by another owner", "a kernel", &device, &image, &self.means(Kind::Kernel));
        let heir = fresh_key().public();
        let with_heir = [
            Root { digest: self.maker.owner.root_digest(), revoked: true },
            Root { digest: PublicKey::P256(heir).thumbprint(), revoked: false },
        ];
        let means = Means { root: heir, revoked: vec![*self.maker.owner.root()], ..self.means(Kind::Kernel) };
        enter("revoked root", "a kernel", &Device { roots: &with_heir, ..device }, &self.image, &means);
        for role in [Role::Boot, Role::Provision] {
            let facts = self.maker.os_facts(Kind::Kernel);
            let signed = self.maker.owner.sign_as(role, &facts, vec![7; 5000]).unwrap();
            let image = self.maker.seal_os_image(&signed);
            enter("wrong role", role.name(), &device, &image, &self.means(Kind::Kernel));
        }
        let facts = Facts { board: "another-board".into(), ..self.maker.os_facts(Kind::Kernel) };
        let signed = self.maker.owner.sign(&facts, vec![7; 5000]).unwrap();
        let image = self.maker.seal_os_image(&signed);
        enter("wrong board", "a kernel", &device, &image, &self.means(Kind::Kernel));

        // What is signed with PS256 is taken, of an object; the only such key is published.
        let owner = test_keys::owner_with_ps256().unwrap();
        let test_roots = [Root { digest: owner.root_digest(), revoked: false }];
        let signed = owner.sign(&self.maker.os_facts(Kind::Kernel), vec![7; 5000]).unwrap();
        let image = self.maker.seal_os_image(&signed);
        for (class, development) in [("good", true), ("test key", false)] {
            let device = Device { roots: &test_roots, development, ..device };
            let means = Means { root: *owner.root(), development, ..self.means(Kind::Kernel) };
            enter(class, "PS256", &device, &image, &means);
        }
    }

    /// Judges manifests by themselves: the device takes the image that they were cut from.
    fn manifests(&self, ledger: &mut Ledger) {
        let roots = self.roots();
        let device = Device { kind: Kind::Kernel, roots: &roots, floor: 0, development: false };
        let mut enter =
            |class, name: &str, device: &Device<'_>, image: &[u8], signers: &[u8], means: Means| {
                let parts = Parts::of(signers);
                let taken = of(device.takes_metadata(image, &parts));
                let file = on_disk(signers);
                let means = Means {
                    expected: Some(Artefact::Manifest),
                    key: None,
                    delegation: Some(file.path().into()),
                    ..means
                };
                let said = verify(&image[parts.manifest], &means);
                ledger.enter(By::Libraries, class, &format!("manifest: {name}"), &taken, &said);
            };
        let means = || self.means(Kind::Kernel);
        enter("good", "a kernel's", &device, &self.image, &self.image, means());
        let manifest = Parts::of(&self.image).manifest;
        for at in manifest.clone().step_by(manifest.len() / 30) {
            let image = flip(self.image.clone(), at);
            enter("flipped byte", &format!("byte {at}"), &device, &image, &self.image, means());
        }
        let floored = Device { floor: 1, ..device };
        let at_one = Means { floors: 1.into(), ..means() };
        enter("below the floor", "floor 1", &floored, &self.image, &self.image, at_one);
        let other = [Root { digest: [9; 32], revoked: false }];
        let key = fresh_key().public();
        let elsewhere = Means { root: key, ..means() };
        enter(
            "wrong root",
            "another",
            &Device { roots: &other, ..device },
            &self.image,
            &self.image,
            elsewhere,
        );
        for role in [Role::Boot, Role::Provision] {
            let facts = self.maker.os_facts(Kind::Kernel);
            let signed = self.maker.owner.sign_as(role, &facts, vec![7; 5000]).unwrap();
            let image = self.maker.seal_os_image(&signed);
            enter("wrong role", role.name(), &device, &image, &image, means());
            let mut swapped = self.kernel.clone();
            swapped.delegation = self.maker.owner.delegation(role).unwrap();
            let image = self.maker.seal_os_image(&swapped);
            enter("swapped delegation", role.name(), &device, &image, &image, means());
        }
        for (class, change) in [
            ("wrong board", (|facts| facts.board = "another-board".into()) as fn(&mut Facts)),
            ("wrong kind", |facts| facts.kind = Kind::Tee),
        ] {
            let mut facts = self.maker.os_facts(Kind::Kernel);
            change(&mut facts);
            let signed = self.maker.owner.sign_as(Role::Os, &facts, vec![7; 5000]).unwrap();
            let image = self.maker.seal_os_image(&signed);
            let kind = facts.kind;
            enter(class, kind.name(), &Device { kind, ..device }, &image, &image, means());
        }
    }
}

/// Writes a file.
fn on_disk(bytes: &[u8]) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    file.write_all(bytes).expect("it can be written");
    file
}

/// Judges delegation certificates: the device takes an image that its key has signed.
fn delegations(ledger: &mut Ledger) {
    let (root, key) = (fresh_key(), fresh_key());
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let grant = Grant {
        role: Role::Os,
        key: PublicKey::P256(key.public()),
        kinds: KindSet::new(&[Kind::Kernel]),
        boards,
        min_version: Version::MIN,
        max_version: Version(VERSION.0 + 1),
    };
    let certificate = certify(&root, &encode_grant(&grant)).unwrap();
    let signer = RoleKey::new(Role::Os, certificate.clone(), Box::new(key));
    let owner = Owner::new(Profile::Production, root.public(), vec![signer]).unwrap();
    let maker = Maker::production();
    let signed = owner.sign(&maker.os_facts(Kind::Kernel), vec![7; 5000]).unwrap();
    let known = [Root { digest: owner.root_digest(), revoked: false }];
    let mut enter = |class, name: &str, certificate: &[u8], roots: &[Root], means: Means| {
        let device = Device { kind: Kind::Kernel, roots, floor: 0, development: false };
        let part = delegation(&PublicKey::P256(root.public()), &[certificate.to_vec()]);
        let image = maker.seal_os_image(&SignedPayload { delegation: part, ..signed.clone() });
        let taken = of(device.takes(&image, &maker.os_key()));
        let means = Means { expected: Some(Artefact::Delegation), ..means };
        let said = verify(certificate, &means);
        ledger.enter(By::Libraries, class, &format!("delegation: {name}"), &taken, &said);
    };
    let means = || Means::new(root.public());
    enter("good", "a role's", &certificate, &known, means());
    for at in (0..certificate.len()).step_by(certificate.len() / 24) {
        let altered = flip(certificate.clone(), at);
        enter("flipped byte", &format!("byte {at}"), &altered, &known, means());
    }
    for length in [1, certificate.len() / 2, certificate.len() - 1] {
        enter("truncated", &format!("{length} bytes"), &certificate[..length], &known, means());
    }
    boards[0] = "another-board";
    let elsewhere = certify(&root, &encode_grant(&Grant { boards, ..grant })).unwrap();
    enter("wrong board", "another board", &elsewhere, &known, means());
    let theirs = certify(&fresh_key(), &encode_grant(&grant)).unwrap();
    enter("wrong root", "another root's certificate", &theirs, &known, means());
    let revoked = [Root { revoked: true, ..known[0] }];
    let means = Means { revoked: vec![root.public()], ..means() };
    enter("revoked root", "the root itself", &certificate, &revoked, means);
}
