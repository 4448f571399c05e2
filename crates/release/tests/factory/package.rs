//! What a package holds, and that nothing of it can be altered.

use crate::common::{SECRET, identity, make, owner, parts, pattern};
use boot_crypto::host::random;
use boot_crypto::{Key, sha256};
use fail_code::FailCode;
use lifecycle::{Row, fuse_tag};
use release::{
    Compression, ContentKey, Error, Identity, ImageInfo, PackageFacts, PackageRelease, inspect_slot,
    test_keys,
};
use sealed_image::{Bundle, Kind, Package};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

#[test]
fn a_package_opens_with_the_devices_own_reader() {
    for compression in [Compression::None, Compression::Lz4] {
        let mut parts = parts();
        parts.os.compression = compression;
        let (release, content_key) = PackageRelease::make(&owner(), &identity(), parts).unwrap();
        let images = release.open(&content_key).unwrap();
        let kinds: Vec<Kind> = images.iter().map(|image| image.info.kind).collect();
        use Kind::{Bundle as BundleKind, DeviceTree, Initramfs, Kernel, Secret, Stage2};
        assert_eq!(kinds, [Kind::Package, Stage2, BundleKind, Kernel, DeviceTree, Initramfs, Secret]);
        let plain = |kind| &images.iter().find(|image| image.info.kind == kind).unwrap().plain[..];
        assert_eq!(*plain(Stage2), pattern(66_000, 2));
        assert_eq!(*plain(Kernel), pattern(140_000, 3));
        assert_eq!(*plain(DeviceTree), pattern(3_000, 4));
        assert_eq!(*plain(Initramfs), pattern(5_000, 5));
        assert_eq!(plain(Secret), SECRET);
        assert_eq!(Bundle::parse(plain(BundleKind)).unwrap().cmdline, "quiet");

        let index = Package::parse(plain(Kind::Package)).unwrap();
        assert_eq!(index.release, "a test");
        let named: Vec<_> = index.objects().map(|object| *object.manifest_digest).collect();
        assert_eq!(named, images[1..].iter().map(|image| image.info.digest).collect::<Vec<_>>());
        assert_eq!(release.facts.package_id, images[0].info.digest);
        assert_eq!(release.facts.stage2_measurement, images[1].info.digest);
        assert!(images.iter().all(|image| image.info.offset % 4096 == 0));
    }
}

#[test]
fn a_lots_policy_follows_from_the_release() {
    let owner = owner();
    let (release, _) = make(&owner).unwrap();
    let policy = release.facts.policy;
    assert_eq!(policy.root_digest, owner.root_digest());
    assert_eq!(policy.provisioning_key_tag, fuse_tag(Row::ProvisioningKey, &release.provisioning_key));
    assert_eq!(policy.secured_floors, [0, 4, 0, 0, 0, 0]);
    assert_eq!(policy.production_floors, [4, 4, 4, 0, 0, 0]);
    assert_eq!(policy.closing_measurement, release.facts.stage1_measurement);
    let stage1 = inspect_slot(&release.stage1).unwrap();
    let [ImageInfo { kind: Kind::Stage1, digest, .. }] = stage1.as_slice() else { panic!("{stage1:?}") };
    assert_eq!(*digest, release.facts.stage1_measurement);
}

#[test]
fn every_package_has_a_content_key_and_an_id_of_its_own() {
    let owner = owner();
    let ((a, a_key), (b, b_key)) = (make(&owner).unwrap(), make(&owner).unwrap());
    assert_ne!(a_key.0.expose(), b_key.0.expose());
    assert_ne!(a_key.0.expose(), a.provisioning_key.expose());
    assert_eq!(a.facts.package_id, b.facts.package_id, "the same content has the same id");
    let refused = b.open(&a_key).unwrap_err();
    assert_eq!(refused.code(), Some(FailCode::KeyUnwrap), "{refused}");

    let mut other = parts();
    other.secrets.push(b"one more".to_vec());
    let (other, _) = PackageRelease::make(&owner, &identity(), other).unwrap();
    assert_ne!(other.facts.package_id, a.facts.package_id);
}

#[test]
fn a_package_survives_its_folder_and_its_content_key_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (release, content_key) = make(&owner()).unwrap();
    let package = folder.path().join("package");
    release.write(&package).unwrap();
    let again = PackageRelease::read(&package).unwrap();
    assert_eq!(again.facts, release.facts);
    assert_eq!(PackageFacts::read(&package).unwrap(), release.facts);
    assert!(again.stage1 == release.stage1 && again.package == release.package);
    assert_eq!(again.provisioning_key.expose(), release.provisioning_key.expose());
    again.open(&content_key).unwrap();

    let mode = |file: &std::path::Path| fs::metadata(file).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&package.join("provisioning.key")), 0o600);
    let file = folder.path().join("content.key");
    content_key.write(&file).unwrap();
    assert_eq!(mode(&file), 0o600);
    assert_eq!(ContentKey::read(&file).unwrap().0.expose(), content_key.0.expose());

    assert!(matches!(release.write(&package), Err(Error::Write { .. })), "a package was written over");
    assert!(matches!(content_key.write(&file), Err(Error::Write { .. })), "a key was written over");
    fs::write(&file, "short").unwrap();
    assert!(matches!(ContentKey::read(&file), Err(Error::SecretFile { .. })));
}

#[test]
fn a_release_file_that_is_not_exactly_right_is_refused_with_the_reason() {
    let json = make(&owner()).unwrap().0.facts.to_json();
    assert!(PackageFacts::from_json(&json).is_ok());
    for (from, to, reason) in [
        ("\"format\": 1", "\"format\": 2", "its format is 2"),
        ("\"board\"", "\"bored\"", "bored"),
        ("\"version\": \"1.2.3\"", "\"version\": \"1.2\"", "MAJOR.MINOR.PATCH"),
        ("\"package_id\": \"", "\"package_id\": \"0", "`package_id` is no digest"),
        ("\"root_digest\": \"", "\"root_digest\": \"0", "`root_digest` is no digest"),
        ("\"release\": \"a test\"", "\"release\": 7", "expected a string"),
        ("}\n}", "}", "EOF"),
    ] {
        assert!(json.contains(from), "{from}");
        let error = PackageFacts::from_json(&json.replacen(from, to, 1)).unwrap_err();
        assert!(error.contains(reason), "{from}: {error}");
    }
}

/// Where a reader looks: everything but what lies between two images.
fn looked_at(package: &[u8]) -> Vec<usize> {
    let images = inspect_slot(package).unwrap();
    images
        .iter()
        .flat_map(|image| image.offset as usize..(image.offset + image.stored_bytes) as usize)
        .collect()
}

#[test]
fn every_sampled_bit_of_a_package_is_guarded() {
    let (release, content_key) = make(&owner()).unwrap();
    let places = looked_at(&release.package);
    // All of the first metadata, and a prime step through the rest.
    let sampled: Vec<usize> =
        places.iter().copied().take(1200).chain(places.iter().copied().step_by(397)).collect();
    let mut refused = 0;
    for (n, at) in sampled.iter().enumerate() {
        let mut package = release.package.clone();
        package[*at] ^= 1 << (n % 8);
        let altered = PackageRelease {
            facts: release.facts.clone(),
            stage1: release.stage1.clone(),
            package,
            provisioning_key: Key::new(*release.provisioning_key.expose()),
        };
        let error = altered.open(&content_key).err().unwrap_or_else(|| panic!("{at:#x} is not guarded"));
        let mixed = matches!(error, Error::ReleaseMixed { .. });
        assert!(mixed || error.code().is_some(), "{at:#x}: {error}");
        refused += 1;
    }
    assert!(refused > 1500, "only {refused} bits were tried");
}

#[test]
fn every_sampled_bit_of_stage1_is_guarded() {
    let (mut release, _) = make(&owner()).unwrap();
    let places = looked_at(&release.stage1);
    let mut refused = 0;
    for at in places.iter().copied().take(800).chain(places.iter().copied().step_by(397)) {
        release.stage1[at] ^= 0x10;
        assert!(release.check().is_err(), "{at:#x} is not guarded");
        release.stage1[at] ^= 0x10;
        refused += 1;
    }
    release.check().unwrap();
    assert!(refused > 900, "only {refused} bits were tried");
}

/// Cuts a package into its images.
fn images(package: &[u8]) -> Vec<Vec<u8>> {
    let cut = |image: &ImageInfo| {
        let end = (image.offset + image.stored_bytes) as usize;
        package[image.offset as usize..end].to_vec()
    };
    inspect_slot(package).unwrap().iter().map(cut).collect()
}

fn join(images: &[Vec<u8>]) -> Vec<u8> {
    let mut package = Vec::new();
    for image in images {
        package.resize(usize::next_multiple_of(package.len(), 4096), 0);
        package.extend(image);
    }
    package
}

#[test]
fn a_package_whose_objects_were_moved_left_out_or_exchanged_is_refused() {
    let owner = owner();
    let (mut release, content_key) = make(&owner).unwrap();
    let own = images(&release.package);
    assert_eq!(join(&own), release.package);

    let mut opened = |images: &[Vec<u8>]| {
        release.package = join(images);
        release.open(&content_key).err().and_then(|error| error.code())
    };
    let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut images = own.clone();
        change(&mut images);
        images
    };
    let cases: [(FailCode, Vec<Vec<u8>>); 4] = [
        (FailCode::KindWrong, changed(&|images| images.swap(1, 2))),
        (FailCode::PackageIncomplete, changed(&|images| drop(images.pop()))),
        (FailCode::KindWrong, changed(&|images| drop(images.remove(3)))),
        (FailCode::PackageIncomplete, changed(&|images| images.truncate(1))),
    ];
    for (n, (code, images)) in cases.into_iter().enumerate() {
        assert_eq!(opened(&images), Some(code), "{n}");
    }
    assert_eq!(opened(&own), None);

    // An object of another package of the same owner: that comes before the key, which does not open it either.
    let mut other = parts();
    other.os.kernel = pattern(140_000, 77);
    let (other, other_key) = PackageRelease::make(&owner, &identity(), other).unwrap();
    let foreign = images(&other.package).remove(3);
    let mut mixed = own.clone();
    mixed[3] = foreign;
    assert_eq!(opened(&mixed), Some(FailCode::PackageMixed));
    assert_ne!(sha256(other_key.0.expose()), sha256(content_key.0.expose()));
}

#[test]
fn what_no_device_would_take_is_not_made() {
    let owner = owner();
    let code = |identity: &Identity, change: &dyn Fn(&mut release::PackageParts)| {
        let mut parts = parts();
        change(&mut parts);
        PackageRelease::make(&owner, identity, parts).err()
    };
    let index = |index: u32| Identity { rollback_index: index.into(), ..identity() };
    assert!(code(&index(64), &|_| ()).is_none());
    let refused = code(&index(65), &|_| ());
    assert!(matches!(refused, Some(Error::RollbackIndexTooHigh { found: 65 })));

    let test_key = |parts: &mut release::PackageParts| {
        parts.provisioning_key = Key::new(test_keys::device_seed());
    };
    let refused = code(&identity(), &test_key).and_then(|error| error.code());
    assert_eq!(refused, Some(FailCode::TestKey));
    let twice = |parts: &mut release::PackageParts| parts.secrets = vec![random::<32>().to_vec(); 2];
    let refused = code(&identity(), &twice).and_then(|error| error.code());
    assert_eq!(refused, Some(FailCode::PackageMalformed));
    let name = |parts: &mut release::PackageParts| parts.release = "ü".into();
    let refused = code(&identity(), &name).and_then(|error| error.code());
    assert_eq!(refused, Some(FailCode::PackageMalformed));
}

#[test]
fn the_owner_of_development_dies_makes_no_package() {
    let owner = test_keys::owner().unwrap();
    let refused = make(&owner).err().and_then(|error| error.code());
    assert_eq!(refused, Some(FailCode::TestKey));
}
