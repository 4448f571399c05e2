//! Whether a device takes an update: its images as a device reads them, one after the other.

use crate::common::*;
use crate::exact::Contents;
use crate::update_device::*;
use boot_crypto::{Digest, Key};
use fail_code::FailCode;
use sealed_image::host::{Facts, SignedPayload, Signer as _};
use sealed_image::{
    Bundle, BundleObject, Es256AndPs256, Header, Installed, Kind, Policy, Role, UntrustedImage, Update,
    UpdateError, UpdateKey, Version,
};
use std::sync::Mutex;

fn code(images: &[Vec<u8>], installed: Installed<'_>) -> Option<FailCode> {
    Device::new(installed).read(images).err().map(|refused| refused.code())
}

fn judge(parts: &Parts) -> Option<FailCode> {
    code(&parts.images(), installed())
}

#[test]
fn a_sound_update_is_taken_and_says_what_the_floors_may_rise_to() {
    let indices = Device::new(installed()).read(&Parts::sound().images()).unwrap();
    assert_eq!(indices.iter().collect::<Vec<_>>(), [(Role::Boot, 4), (Role::Os, 5)]);
    let indices = Device::new(installed()).read(&Parts::os_only().images()).unwrap();
    assert_eq!(indices.iter().collect::<Vec<_>>(), [(Role::Os, 5)]);
}

/// What is installed, and what becomes of the update 1.2.3 with the minimum 1.1.0, boot 4 and os 5.
#[test]
fn what_is_installed_decides_from_the_index_alone() {
    let (sound, os_only) = (Parts::sound().images(), Parts::os_only().images());
    let (newer, old) = (Some(FailCode::UpdateNotNewer), Some(FailCode::InstalledTooOld));
    let version = Version::new;
    let both = |version| Installed { version, stage2: version, ..installed() };
    let floors = |floors| Installed { floors, ..installed() };
    let rolled = Some(FailCode::RolledBack);
    let cases: [(Installed<'_>, Option<FailCode>, Option<FailCode>); 20] = [
        (both(version(1, 1, 0)), None, None),
        (both(version(1, 2, 2)), None, None),
        (both(version(1, 1, 65535)), None, None),
        (both(VERSION), newer, newer),
        (both(version(1, 2, 4)), newer, newer),
        (both(version(2, 0, 0)), newer, newer),
        (both(Version::MAX), newer, newer),
        (both(version(1, 0, 65535)), old, old),
        (both(Version::MIN), old, old),
        // The production stage is another than that of the system.
        (Installed { stage2: VERSION, ..installed() }, None, None),
        (Installed { stage2: version(1, 2, 4), ..installed() }, newer, None),
        (Installed { stage2: Version::MIN, ..installed() }, None, None),
        (Installed { version: VERSION, ..installed() }, newer, newer),
        (
            Installed { product: "demo-2", ..installed() },
            Some(FailCode::ProductWrong),
            Some(FailCode::ProductWrong),
        ),
        (
            Installed { product: "", ..installed() },
            Some(FailCode::ProductWrong),
            Some(FailCode::ProductWrong),
        ),
        (floors([0; 6]), None, None),
        (floors([5, 0, 5, 0, 0, 0]), rolled, None),
        (floors([4, 0, 6, 0, 0, 0]), rolled, rolled),
        (floors([4, 0, u32::MAX, 0, 0, 0]), rolled, rolled),
        // Floors of roles that sign nothing in it.
        (floors([4, 64, 5, 64, 64, 64]), None, None),
    ];
    for (number, (installed, expected, without_stage2)) in cases.into_iter().enumerate() {
        for (images, expected) in [(&sound, expected), (&os_only, without_stage2)] {
            let mut device = Device::new(installed);
            let code = device.read(images).err().map(|refused| refused.code());
            assert_eq!(code, expected, "{number}: {installed:?}");
            // Nothing but the index was opened before.
            let opened = if expected.is_none() { images.len() } else { usize::from(device.opened > 0) };
            assert_eq!(device.opened, opened, "{number}");
        }
    }
}

#[test]
fn who_signs_for_the_system_raises_no_floor_of_another_role_and_brings_no_older_stage() {
    let refused = |parts: Parts| judge(&parts);
    let index_wrong = Some(FailCode::RoleIndexWrong);
    let sound = Parts::sound();
    // The index names more, or less, than the role boot signed.
    for named in [5, 64, u32::MAX] {
        assert_eq!(refused(Parts { named: (Some(named), 5), ..sound.clone() }), index_wrong, "{named}");
    }
    let low = Installed { floors: [0; 6], ..installed() };
    let less = Parts { named: (Some(3), 5), ..sound.clone() };
    assert_eq!(code(&less.images(), low), index_wrong);
    // Its own as well: the index that it names, the one in its manifests, the one in the bundle.
    assert_eq!(refused(Parts { named: (Some(4), 6), ..sound.clone() }), index_wrong);
    assert_eq!(refused(Parts { in_bundle: 6, ..sound.clone() }), index_wrong);
    // A production stage of another release, older or newer, at the same rollback index.
    for version in [MINIMUM, Version::new(1, 2, 2), Version::new(1, 2, 4)] {
        let mixed = Parts { stage2: Some((version, 4)), ..sound.clone() };
        assert_eq!(refused(mixed), Some(FailCode::UpdateMixed), "{version}");
    }
    // Or one below its floor.
    let below = Parts { stage2: Some((VERSION, 3)), named: (Some(4), 5), ..sound.clone() };
    assert_eq!(refused(below), Some(FailCode::RolledBack));
    assert_eq!(refused(sound), None);
}

#[test]
fn mixed_doubled_exchanged_and_missing_images_are_refused() {
    let own = Parts::sound().images();
    let other = Parts { kernel: 7, ..Parts::sound() }.images();
    let changed = |change: &dyn Fn(&mut Vec<Vec<u8>>)| {
        let mut images = own.clone();
        change(&mut images);
        code(&images, installed())
    };
    let mixed = Some(FailCode::UpdateMixed);
    assert_eq!(changed(&|_| ()), None);
    for place in [2, 3] {
        assert_eq!(changed(&|images| images[place].clone_from(&other[place])), mixed, "{place}");
    }
    assert_eq!(changed(&|images| images[0].clone_from(&other[0])), mixed);
    // What is the same in both is no mixture.
    assert_eq!(changed(&|images| images[1].clone_from(&other[1])), None);
    for (first, second) in [(1, 2), (3, 4), (4, 5)] {
        assert_eq!(changed(&|images| images.swap(first, second)), Some(FailCode::KindWrong));
        assert_eq!(changed(&|images| images[second] = images[first].clone()), Some(FailCode::KindWrong));
    }
    assert_eq!(changed(&|images| drop(images.remove(3))), Some(FailCode::KindWrong));
    for length in 0..own.len() {
        assert_eq!(changed(&|images| images.truncate(length)), Some(FailCode::ImageTruncated), "{length}");
    }
}

/// The bundle is signed by the role that signs the index, and could still name other objects.
#[test]
fn a_bundle_that_names_other_objects_than_the_index_is_refused() {
    let (index, objects) = Parts::os_only().sign();
    let named = |kinds: &[(Kind, &Digest)]| {
        let named: Vec<_> = kinds
            .iter()
            .map(|(kind, manifest_digest)| BundleObject { kind: *kind, manifest_digest })
            .collect();
        Bundle::new(&named, "quiet", 5).unwrap().encode()
    };
    let digest = |place: usize| &objects[place].manifest_digest;
    let (kernel, tree, initramfs) =
        ((Kind::Kernel, digest(1)), (Kind::DeviceTree, digest(2)), (Kind::Initramfs, digest(3)));
    let other = [7; 32];
    let update = Update::parse(&index.plain).unwrap();
    let image = seal(&index, &sealing_key());
    let device = Device::new(installed());
    let verified = device.verify(&image, Kind::Update).unwrap();
    let judged = |payload: &[u8]| {
        let mut admission = update.admit(&verified, &installed()).unwrap();
        admission.take_bundle(&Bundle::parse(payload).unwrap())
    };
    assert_eq!(judged(&named(&[kernel, tree, initramfs])), Ok(()));
    for (kinds, place) in [
        (&[tree, kernel, initramfs][..], 1),
        (&[kernel, (Kind::DeviceTree, &other), initramfs], 2),
        (&[kernel, tree], 3),
        (&[kernel, tree, (Kind::Initramfs, &other)], 3),
    ] {
        assert_eq!(judged(&named(kinds)), Err(UpdateError::Bundle { place }));
    }
    // And the other way round: the index names less.
    let less: Vec<_> = update.objects().take(3).copied().collect();
    let less = Update::new(PRODUCT, MINIMUM, update.indices, &less).unwrap();
    let mut admission = less.admit(&verified, &installed()).unwrap();
    let whole = named(&[kernel, tree, initramfs]);
    let refused = admission.take_bundle(&Bundle::parse(&whole).unwrap());
    assert_eq!(refused, Err(UpdateError::Bundle { place: 3 }));
    assert_eq!(UpdateError::Bundle { place: 3 }.code(), FailCode::UpdateMixed);
}

#[test]
fn an_update_of_which_something_was_not_looked_at_is_not_finished() {
    let images = Parts::os_only().images();
    let mut device = Device::new(installed());
    let plain = device.open(&images[0], Kind::Update).unwrap();
    let update = Update::parse(&plain).unwrap();
    let verified = device.verify(&images[0], Kind::Update).unwrap();
    let bundle = device.open(&images[1], Kind::Bundle).unwrap();
    for (taken, bundle_seen) in [(0, true), (1, true), (3, true), (4, false), (4, true)] {
        let mut admission = update.admit(&verified, &installed()).unwrap();
        for image in &images[1..=taken] {
            let kind = admission.next_kind().unwrap();
            admission.take(&device.verify(image, kind).unwrap()).unwrap();
        }
        if bundle_seen {
            admission.take_bundle(&Bundle::parse(&bundle).unwrap()).unwrap();
        }
        assert_eq!(admission.next_kind().is_none(), taken == 4);
        let whole = taken == 4 && bundle_seen;
        if whole {
            // Nothing lies behind the last object.
            let kernel = device.verify(&images[2], Kind::Kernel).unwrap();
            assert_eq!(admission.clone().take(&kernel), Err(UpdateError::Mixed { place: 4 }));
        }
        let finished = admission.finish();
        assert_eq!(finished.is_ok(), whole, "{taken} {bundle_seen}");
        assert_eq!(finished.err().map(|error| error.code()), (!whole).then_some(FailCode::UpdateIncomplete));
    }
}

#[test]
fn only_the_role_os_signs_an_update_and_only_where_its_delegation_lists_the_kind() {
    let (index, objects) = Parts::sound().sign();
    let with = |role, kinds: &[Kind], signer: u8| {
        let key = key(signer);
        let facts = Facts { kind: Kind::Update, load_address: 0, entry: 0, ..facts() };
        let grant = grant(role, kinds, key.public_key());
        let signed = SignedPayload::sign(&facts, index.plain.clone(), &delegate(&[grant]), &[&key]).unwrap();
        let images: Vec<_> =
            std::iter::once(&signed).chain(&objects).map(|one| seal(one, &sealing_key())).collect();
        code(&images, installed())
    };
    assert_eq!(with(Role::Os, &OS_KINDS, 3), None);
    assert_eq!(with(Role::Os, &OS_KINDS[..4], 3), Some(FailCode::KindNotDelegated));
    assert_eq!(with(Role::Boot, &[Kind::Update], 2), Some(FailCode::RoleWrong));
    assert_eq!(with(Role::Provision, &[Kind::Update], 4), Some(FailCode::RoleWrong));
}

#[test]
fn another_board_key_place_or_product_opens_nothing() {
    let images = Parts::sound().images();
    let with = |device: Device<'_>| {
        let mut device = device;
        (device.read(&images).err().map(|refused| refused.code()), device.opened)
    };
    let device = || Device::new(installed());
    assert_eq!(with(Device { board: "other-board", ..device() }), (Some(FailCode::BoardWrong), 0));
    let unwrap = (Some(FailCode::KeyUnwrap), 0);
    let other = UpdateKey::new(PRODUCT, &Key::new([0x7F; 32])).unwrap().sealing_key();
    assert_eq!(with(Device { key: other, ..device() }), unwrap);
    // The same key in another place, as a content key is used, or for another product.
    assert_eq!(with(Device { key: update_key(), ..device() }), unwrap);
    let product = UpdateKey::new("demo-2", &update_key()).unwrap().sealing_key();
    assert_eq!(with(Device { key: product, ..device() }), unwrap);
    // An index that was sealed for one product and names another.
    let renamed = Parts { product: "demo-2", ..Parts::sound() };
    assert_eq!(judge(&renamed), Some(FailCode::ProductWrong));
    // An update where a package belongs, and the other way round.
    let roots = roots();
    let policy = Policy { kind: Kind::Package, ..policy(&roots) };
    let metadata = &images[0][..Header::parse(&images[0]).unwrap().metadata_len() as usize];
    let refused = UntrustedImage::parse(metadata).unwrap().verify::<Es256AndPs256>(&policy).err();
    assert_eq!(refused.map(|error| error.code()), Some(FailCode::KindWrong));
}

#[test]
fn every_flipped_bit_of_a_signed_index_is_refused() {
    let images = Parts::sound().images();
    let contents = Contents::of(&images[0]);
    let metadata = Header::parse(&images[0]).unwrap().metadata_len() as usize;
    let bits = images[0].len() * 8;
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for first in 0..2 {
            let (images, contents, wrong) = (&images, &contents, &wrong);
            scope.spawn(move || {
                for bit in (first..bits).step_by(2) {
                    let mut altered = images[0].clone();
                    altered[bit / 8] ^= 1 << (bit % 8);
                    let refused = Device::new(installed()).open(&altered, Kind::Update);
                    let expected =
                        if bit / 8 < metadata { contents.code(&images[0], bit) } else { FailCode::ChunkTag };
                    let code = refused.err().map(|error| error.code());
                    if code != Some(expected) {
                        wrong.lock().unwrap().push(format!("bit {bit}: {code:?}, not {expected}"));
                    }
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty() && bits > 32_768, "{} of {bits} bits: {:?}", wrong.len(), wrong.first());
}

/// The role's own key signs whatever the flipped index says.
#[test]
fn every_flipped_bit_of_an_index_that_is_signed_again_is_refused() {
    let (index, objects) = Parts::sound().sign();
    let sealed: Vec<_> = objects.iter().map(|one| seal(one, &sealing_key())).collect();
    let (mut refused, mut taken) = (0, Vec::new());
    for bit in 0..index.plain.len() * 8 {
        let mut plain = index.plain.clone();
        plain[bit / 8] ^= 1 << (bit % 8);
        let signed = sign_os(Kind::Update, VERSION, 5, plain.clone());
        let mut images = vec![seal(&signed, &sealing_key())];
        images.extend_from_slice(&sealed);
        match code(&images, installed()) {
            Some(_) => refused += 1,
            None => taken.push(Update::parse(&plain).unwrap().minimum_version),
        }
    }
    // What remains are other minimum versions, which are the role's to choose.
    assert!(taken.iter().all(|minimum| *minimum != MINIMUM && *minimum <= installed().version), "{taken:?}");
    assert!(refused > index.plain.len() * 8 - 64 && taken.len() < 64, "{refused} refused");
}

#[test]
fn an_index_cut_off_anywhere_is_refused() {
    let images = Parts::sound().images();
    for length in 0..images[0].len() {
        let mut cut = images.clone();
        cut[0].truncate(length);
        assert_eq!(code(&cut, installed()), Some(FailCode::ImageTruncated), "{length} bytes");
    }
    let last = images.len() - 1;
    for length in [0, 1, 63, 64, 4095, 4096, images[last].len() - 1] {
        let mut cut = images.clone();
        cut[last].truncate(length);
        assert_eq!(code(&cut, installed()), Some(FailCode::ImageTruncated), "{length} bytes");
    }
}
