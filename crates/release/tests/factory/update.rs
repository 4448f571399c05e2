//! What an update image holds, that nothing of it can be altered, and that a device of the minimum version takes it.

use crate::bootable::{device_tree, kernel};
use crate::common::{identity, owner, parts, pattern};
use boot_crypto::{Key, sha256};
use fail_code::FailCode;
use memory_map::qemu_virt::{BOARD, OS_LOAD, OS_SLOT_A, STAGE_RUN};
use release::{
    Compression, Error, FlatImage, Identity, ImageInfo, Means, OsParts, OsPlaces, OsRelease, Owner,
    ReleaseProfile, UpdateFacts, UpdateKey, UpdateParts, UpdateRelease, inspect_slot, open_boot_slot,
    open_os_slot, test_keys, verify_update,
};
use sealed_image::host::{Inspected, SignedPayload};
use sealed_image::{Kind, Role, Version};
use std::path::Path;

const MINIMUM: Version = Version::new(1, 1, 0);

fn fresh_key() -> UpdateKey {
    UpdateKey::generate("demo", Path::new("update.key")).unwrap()
}

/// What the images are sealed under, by way of the file that a demonstration has.
fn sealing_key(key: &UpdateKey) -> Key {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("update.key");
    key.write(&path, release::KeyPlace::OpenFiles).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(UpdateKey::read(&path, ReleaseProfile::Development).unwrap().product(), key.product());
    let (_, secret) = pem_rfc7468::decode_vec(text.as_bytes()).unwrap();
    sealed_image::UpdateKey::parse(&secret).unwrap().sealing_key()
}

fn sign(owner: &Owner, identity: &Identity, compression: Compression) -> (SignedPayload, OsRelease) {
    let mut parts = parts();
    parts.os.compression = compression;
    let os = OsRelease::sign(owner, identity, parts.os).unwrap();
    (owner.sign_stage2(identity, parts.stage2).unwrap(), os)
}

fn make(owner: &Owner, key: &UpdateKey) -> UpdateRelease {
    let (stage2, os) = sign(owner, &identity(), Compression::None);
    let parts = UpdateParts { minimum_version: MINIMUM, stage2: Some(&stage2), os: &os };
    UpdateRelease::make(owner, &identity(), &parts, key).unwrap()
}

fn code<T>(result: Result<T, Error>) -> Option<FailCode> {
    let error = result.err()?;
    Some(error.code().unwrap_or_else(|| panic!("no code: {error}")))
}

#[test]
fn an_update_opens_with_the_devices_own_reader() {
    let (owner, key) = (owner(), fresh_key());
    let root = owner.root_digest();
    for compression in [Compression::None, Compression::Lz4] {
        let (stage2, os) = sign(&owner, &identity(), compression);
        for brings in [Some(&stage2), None] {
            let parts = UpdateParts { minimum_version: MINIMUM, stage2: brings, os: &os };
            let update = UpdateRelease::make(&owner, &identity(), &parts, &key).unwrap();
            let images = update.check(root, Some(&key)).unwrap();
            assert_eq!(images, update.check(root, None).unwrap());
            let kinds: Vec<_> = images.iter().map(|image| image.kind).collect();
            use Kind::{Bundle, DeviceTree, Initramfs, Kernel, Stage2};
            let all = [Kind::Update, Stage2, Bundle, Kernel, DeviceTree, Initramfs];
            let expected: Vec<_> =
                all.into_iter().filter(|kind| *kind != Stage2 || brings.is_some()).collect();
            assert_eq!(kinds, expected);
            assert_eq!(images[0].digest, update.facts.update_id);
            let indices: Vec<_> = update.facts.indices.iter().collect();
            let boot = brings.map(|_| (Role::Boot, 4));
            assert_eq!(indices, boot.into_iter().chain([(Role::Os, 4)]).collect::<Vec<_>>());

            let sealing_key = sealing_key(&key);
            let behind =
                |kind| &update.image[images.iter().find(|one| one.kind == kind).unwrap().offset as usize..];
            let opened = open_os_slot(behind(Bundle), BOARD, root, &sealing_key).unwrap();
            let plain = |kind| &opened.iter().find(|image| image.info.kind == kind).unwrap().plain[..];
            assert!(*plain(Kernel) == pattern(140_000, 3) && *plain(Initramfs) == pattern(5_000, 5));
            if brings.is_some() {
                let opened = open_boot_slot(behind(Stage2), BOARD, root, &sealing_key).unwrap();
                assert!(*opened.plain == pattern(66_000, 2));
            }
        }
    }
}

#[test]
fn nothing_of_it_is_in_the_clear_and_no_two_of_one_release_share_a_block() {
    let (owner, key) = (owner(), fresh_key());
    let (stage2, os) = sign(&owner, &identity(), Compression::None);
    let parts = UpdateParts { minimum_version: MINIMUM, stage2: Some(&stage2), os: &os };
    let made = || UpdateRelease::make(&owner, &identity(), &parts, &key).unwrap();
    let (first, second) = (made(), made());
    let holds = |image: &[u8], part: &[u8]| memchr::memmem::find(image, part).is_some();
    for (what, plain) in [("stage2", pattern(66_000, 2)), ("kernel", pattern(140_000, 3))] {
        for at in [0, 1000, 50_000] {
            assert!(!holds(&first.image, &plain[at..at + 16]), "{what} at {at}");
        }
    }
    assert!(!holds(&first.image, b"quiet"));
    assert!(!holds(&first.image, sealing_key(&key).expose()));
    assert_eq!(first.facts.update_id, second.facts.update_id, "the same content has the same id");
    let images = inspect_slot(&first.image).unwrap();
    let payload =
        |image: &ImageInfo| (image.offset as usize + 4096)..(image.offset + image.stored_bytes) as usize;
    for image in &images {
        assert!(!holds(&second.image, &first.image[payload(image)][..16]), "{:?}", image.kind);
    }
}

/// The delegation lists what the role signs, and the root makes it anew with each release.
#[test]
fn the_role_os_is_delegated_updates_too() {
    let update = make(&owner(), &fresh_key());
    let grants = Inspected::of(&update.image).unwrap().grants;
    let [grant] = grants.as_slice() else { panic!("{grants:?}") };
    assert_eq!(grant.role, Role::Os);
    assert!(grant.kinds.contains(Kind::Update) && grant.kinds.contains(Kind::Bundle));
    assert!(!grant.kinds.contains(Kind::Stage2) && !grant.kinds.contains(Kind::Package));
}

#[test]
fn every_sampled_bit_of_an_update_is_guarded_by_the_device() {
    let (owner, key) = (owner(), fresh_key());
    let sound = make(&owner, &key);
    let (mut refused, mut without_a_key) = (0, 0);
    let length = sound.image.len();
    // All of the first metadata, and a prime step through the rest, what lies between images included.
    for (n, at) in (0..1200).chain((1200..length).step_by(397)).enumerate() {
        let mut update = sound.clone();
        update.image[at] ^= 1 << (n % 8);
        let root = owner.root_digest();
        assert!(matches!(update.check(root, Some(&key)), Err(Error::ReleaseMixed { .. })), "{at:#x}");
        // Whoever alters it says so in update.json.
        update.facts.update_digest = sha256(&update.image);
        let error = update.check(root, Some(&key)).err().unwrap_or_else(|| panic!("{at:#x} is not guarded"));
        assert!(error.code().is_some() || matches!(error, Error::SlotTruncated { .. }), "{at:#x}: {error}");
        without_a_key += usize::from(update.check(root, None).is_err());
        refused += 1;
    }
    assert!(refused > 1700 && without_a_key > 1000, "{refused}, {without_a_key} of them without a key");
}

/// Cuts an update into its images.
fn images(update: &[u8]) -> Vec<Vec<u8>> {
    let cut = |image: &ImageInfo| {
        update[image.offset as usize..(image.offset + image.stored_bytes) as usize].to_vec()
    };
    inspect_slot(update).unwrap().iter().map(cut).collect()
}

fn join(images: &[Vec<u8>]) -> Vec<u8> {
    let mut update = Vec::new();
    for image in images {
        update.resize(usize::next_multiple_of(update.len(), 4096), 0);
        update.extend(image);
    }
    update
}

#[test]
fn images_that_were_moved_left_out_doubled_or_exchanged_are_refused() {
    let (owner, key) = (owner(), fresh_key());
    let sound = make(&owner, &key);
    let own = images(&sound.image);
    assert_eq!(join(&own), sound.image);
    let mut other = parts();
    other.os.kernel = pattern(140_000, 77);
    let other_os = OsRelease::sign(&owner, &identity(), other.os).unwrap();
    let other = UpdateParts { minimum_version: MINIMUM, stage2: None, os: &other_os };
    let other = UpdateRelease::make(&owner, &identity(), &other, &key).unwrap();
    let foreign = images(&other.image);

    let judged = |image: Vec<u8>, key: Option<&UpdateKey>| {
        let mut update = UpdateRelease { facts: sound.facts.clone(), image };
        update.facts.update_digest = sha256(&update.image);
        code(update.check(owner.root_digest(), key))
    };
    let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut images = own.clone();
        change(&mut images);
        join(&images)
    };
    let (malformed, twice) = (FailCode::UpdateMalformed, FailCode::UpdateTwice);
    let cases: [(FailCode, Vec<u8>); 8] = [
        (malformed, changed(&|images| images.swap(1, 2))),
        (FailCode::ReleaseMixed, changed(&|images| images.swap(3, 4))),
        (FailCode::ReleaseMixed, changed(&|images| drop(images.pop()))),
        (FailCode::UpdateIncomplete, changed(&|images| drop(images.remove(3)))),
        (FailCode::UpdateIncomplete, changed(&|images| images.truncate(1))),
        (twice, changed(&|images| images.insert(1, images[1].clone()))),
        (malformed, changed(&|images| drop(images.remove(0)))),
        // A kernel of another update of this product: the signed index does not name it.
        (FailCode::ReleaseMixed, changed(&|images| images[3].clone_from(&foreign[2]))),
    ];
    for (n, (expected, image)) in cases.into_iter().enumerate() {
        for key in [None, Some(&key)] {
            assert_eq!(judged(image.clone(), key), Some(expected), "{n}");
        }
    }
    assert_eq!(judged(sound.image.clone(), Some(&key)), None);
    let behind = [&sound.image[..], &[0]].concat();
    assert_eq!(judged(behind, None), Some(FailCode::ReleaseMixed));
    let length = sound.image.len();
    for cut in [1, 100, length / 2, length - 64] {
        let code = judged(sound.image[..length - cut].to_vec(), None);
        assert!(code.is_some(), "{cut} bytes cut off");
    }
    assert_eq!(judged(sound.image[..length - 1].to_vec(), None), Some(FailCode::ImageTruncated));
}

#[test]
fn what_an_update_brings_has_to_have_a_place_in_memory() {
    let owner = owner();
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("update.key");
    let key = UpdateKey::generate("demo", &key_file).unwrap();
    key.write(&key_file, release::KeyPlace::OpenFiles).unwrap();
    let root = *owner.root();
    let judge = |kernel: Vec<u8>,
                 (places, initramfs): (OsPlaces, usize),
                 stage2: FlatImage,
                 with_key: bool| {
        let mut parts = parts();
        let initramfs = Some(vec![0; initramfs]);
        let compression = Compression::Lz4;
        parts.os = OsParts { kernel, device_tree: device_tree(), initramfs, compression, places, ..parts.os };
        let os = OsRelease::sign(&owner, &identity(), parts.os).unwrap();
        let stage2 = owner.sign_stage2(&identity(), stage2).unwrap();
        let parts = UpdateParts { minimum_version: MINIMUM, stage2: Some(&stage2), os: &os };
        let update = UpdateRelease::make(&owner, &identity(), &parts, &key).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("update.img"), &update.image).unwrap();
        std::fs::write(folder.path().join("update.json"), update.facts.to_json()).unwrap();
        let update_key = with_key.then(|| key_file.clone());
        let mut checks = Vec::new();
        let verdict = verify_update(folder.path(), &Means { update_key, ..Means::new(root) }, &mut checks);
        let refused =
            verdict.err().map(|error| error.code().map_or(error.to_string(), |code| code.name().into()));
        (refused.unwrap_or_default(), checks.iter().any(|check| check.name == "places"))
    };
    let places = OsPlaces::default();
    assert_eq!(
        judge(kernel(140_000, 0x4_0000), (places, 5_000), parts().stage2, true),
        (String::new(), true)
    );
    // On the device nothing is compressed, so what ends with the window needs no room behind it to be decompressed from.
    let at_the_end = OsPlaces { initramfs: OS_LOAD.end() - 0x10_0000, ..places };
    assert_eq!(
        judge(kernel(140_000, 0x4_0000), (at_the_end, 0x10_0000), parts().stage2, true),
        (String::new(), true)
    );
    let elsewhere = STAGE_RUN.base + 0x1000;
    let moved = FlatImage { load: elsewhere, entry: elsewhere, ..parts().stage2 };
    let overlapping = OsPlaces { initramfs: places.kernel + 0x1000, ..places };
    for (expected, kernel, system, stage2) in [
        ("load-address", kernel(140_000, 0x4_0000), (places, 5_000), moved),
        ("load-overlap", kernel(140_000, 0x4_0000), (overlapping, 5_000), parts().stage2),
        ("kernel-invalid", pattern(140_000, 3), (places, 5_000), parts().stage2),
        // Compressed it is small enough to arrive, and larger than its slot once it is installed.
        (
            "the slot of the operating system",
            kernel(140_000, 0x4_0000),
            (places, OS_SLOT_A.size as usize),
            parts().stage2,
        ),
    ] {
        let (refused, places) = judge(kernel.clone(), system, stage2.clone(), true);
        assert!(refused.starts_with(expected) && !places, "{expected}: {refused}");
        assert_eq!(judge(kernel, system, stage2, false), (String::new(), false), "it takes the key");
    }
}

#[test]
fn what_is_said_of_an_update_in_the_clear_is_what_was_signed() {
    type Alter = fn(&mut UpdateFacts);
    let (owner, key) = (owner(), fresh_key());
    let sound = make(&owner, &key);
    let alterations: [Alter; 10] = [
        |facts| facts.product = "other".into(),
        |facts| facts.board = "other".into(),
        |facts| facts.version = Version::new(9, 9, 9),
        |facts| facts.minimum_version = Version::MIN,
        |facts| facts.minimum_version = Version::new(1, 2, 0),
        |facts| facts.indices.set(Role::Os, 5),
        |facts| facts.indices.set(Role::Boot, 64),
        |facts| facts.indices.set(Role::Provision, 4),
        |facts| facts.update_id[0] ^= 1,
        |facts| facts.update_digest[31] ^= 1,
    ];
    for (number, alter) in alterations.iter().enumerate() {
        let mut update = sound.clone();
        alter(&mut update.facts);
        assert_ne!(update.facts, sound.facts, "{number}");
        assert!(code(update.check(owner.root_digest(), None)).is_some(), "{number}");
    }
    assert_eq!(code(sound.check(owner.root_digest(), None)), None);
    assert_eq!(UpdateFacts::from_json(&sound.facts.to_json()).unwrap(), sound.facts);
}

#[test]
fn another_owner_key_or_product_is_refused() {
    let (owner, key) = (owner(), fresh_key());
    let sound = make(&owner, &key);
    let root = owner.root_digest();
    assert_eq!(code(sound.check(crate::common::owner().root_digest(), None)), Some(FailCode::RootUnknown));
    assert_eq!(code(sound.check(root, Some(&fresh_key()))), Some(FailCode::KeyUnwrap));
    let other = UpdateKey::generate("other", Path::new("update.key")).unwrap();
    assert_eq!(code(sound.check(root, Some(&other))), Some(FailCode::KeyUnwrap));
    // The update of another product, passed off as one of this.
    let mut theirs = make(&owner, &other);
    assert_eq!(theirs.facts.product, "other");
    theirs.facts.product = "demo".into();
    assert_eq!(code(theirs.check(root, None)), Some(FailCode::ReleaseMixed));
}

#[test]
fn what_no_device_would_take_is_not_made() {
    let (owner, key) = (owner(), fresh_key());
    let made = |identity: &Identity, minimum_version| {
        let (stage2, os) = sign(&owner, identity, Compression::None);
        let parts = UpdateParts { minimum_version, stage2: Some(&stage2), os: &os };
        UpdateRelease::make(&owner, identity, &parts, &key)
    };
    let index = |index: u32| Identity { rollback_index: index.into(), ..identity() };
    made(&index(64), MINIMUM).unwrap();
    let refused = made(&index(65), MINIMUM);
    assert!(matches!(refused, Err(Error::RollbackIndexTooHigh { found: 65 })));
    made(&identity(), Version::MIN).unwrap();
    made(&identity(), Version::new(1, 2, 2)).unwrap();
    for minimum in [identity().version, Version::new(1, 2, 4), Version::MAX] {
        assert!(matches!(made(&identity(), minimum), Err(Error::MinimumVersion { .. })), "{minimum}");
    }
    // Objects that were signed for another release, or with another rollback index.
    for other in [Identity { version: Version::new(1, 2, 4), ..identity() }, index(5)] {
        let (stage2, os) = sign(&owner, &other, Compression::None);
        let parts = UpdateParts { minimum_version: MINIMUM, stage2: Some(&stage2), os: &os };
        let update = UpdateRelease::make(&owner, &identity(), &parts, &key).unwrap();
        let expected =
            if other.rollback_index == 5.into() { FailCode::RoleIndexWrong } else { FailCode::UpdateMixed };
        assert_eq!(code(update.check(owner.root_digest(), None)), Some(expected));
    }
    let published = test_keys::owner().unwrap();
    let (stage2, os) = sign(&published, &identity(), Compression::None);
    let parts = UpdateParts { minimum_version: MINIMUM, stage2: Some(&stage2), os: &os };
    let refused = UpdateRelease::make(&published, &identity(), &parts, &key);
    assert_eq!(code(refused), Some(FailCode::TestKey));
}
