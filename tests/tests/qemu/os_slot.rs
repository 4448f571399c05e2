//! What lies in OS slot A is not what stage2 may load: it says why, finds slot B empty, and stops.

use emulator::{Entropy, MachineConfig};
use fail_code::FailCode;
use memory_map::MIB;
use memory_map::qemu_virt::{BOARD, OS_LOAD};
use release::{Profile, test_keys};
use sealed_image::host::{Facts, SignedPayload};
use sealed_image::{Kind, Role, Version};
use store::Slot;
use tests::forge::{Parts, find, flip, put, transplant};
use tests::verdict::{assert_boots, assert_os_slot_named, assert_os_slot_refused, assert_stage2_refuses};
use tests::{
    Device, Firmware, Maker, OsSlot, TOKEN, VERSION, bundle_payload, cmdline, delegate, fresh_key, laid_out,
    private_owner,
};

const BUNDLE: usize = 0;
const KERNEL: usize = 1;
const DEVICE_TREE: usize = 2;

fn device(maker: &Maker, slot: Vec<u8>) -> Device {
    Device::new(maker).boot_slot(Slot::A, maker.stage2()).os_slot(Slot::A, slot)
}

/// Boots a device whose OS slot A holds `slot`.
#[track_caller]
fn refused(maker: &Maker, slot: Vec<u8>, code: FailCode) {
    assert_os_slot_refused(&device(maker, slot).boot(), code);
}

/// Makes a slot that is right, has the sealed image at `index` altered, and boots it.
#[track_caller]
fn altered(index: usize, alter: impl FnOnce(Vec<u8>, &Parts) -> Vec<u8>, code: FailCode) {
    let maker = Maker::development();
    let mut images = maker.seal_os_images(&maker.os(TOKEN));
    let image = images[index].clone();
    let changed = alter(image.clone(), &Parts::of(&image));
    assert_ne!(changed, image);
    images[index] = changed;
    refused(&maker, laid_out(&images), code);
}

/// Boots a slot that is right but for one object, which `sign` makes.
#[track_caller]
fn with_object(kind: Kind, sign: impl FnOnce(&Maker) -> SignedPayload, code: FailCode) {
    let maker = Maker::development();
    let mut objects = maker.os(TOKEN).objects;
    let object = sign(&maker);
    objects.iter_mut().find(|(it, _)| *it == kind).unwrap().1 = object;
    let slot = maker.os_of(objects, &cmdline(TOKEN));
    refused(&maker, maker.seal_os(&slot), code);
}

/// Signs the payload as kernel under facts that `change` makes wrong, as `role`.
fn kernel(maker: &Maker, role: Role, change: impl FnOnce(&mut Facts)) -> SignedPayload {
    let mut facts = maker.os_facts(Kind::Kernel);
    change(&mut facts);
    maker.owner.sign_as(role, &facts, Firmware::get().payload.bytes.clone()).unwrap()
}

/// Boots a slot whose bundle `sign` makes of a payload that is right.
#[track_caller]
fn with_bundle(sign: impl FnOnce(&Maker, Vec<u8>) -> SignedPayload, code: FailCode) {
    let maker = Maker::development();
    let OsSlot { objects, .. } = maker.os(TOKEN);
    let bundle = sign(&maker, bundle_payload(&objects, &cmdline(TOKEN), 0));
    refused(&maker, maker.seal_os(&OsSlot { bundle, objects }), code);
}

// --- Bytes altered in storage ----------------------------------------------------------------------------

#[test]
fn an_altered_header_of_each_image() {
    for index in [BUNDLE, KERNEL, DEVICE_TREE] {
        altered(index, |image, _| flip(image, 0), FailCode::HeaderMagic);
    }
    altered(KERNEL, |image, _| flip(image, 8), FailCode::HeaderVersion);
    altered(KERNEL, |image, _| flip(image, 12 + 2), FailCode::HeaderInvalid);
}

#[test]
fn an_altered_delegation() {
    for index in [BUNDLE, KERNEL] {
        altered(
            index,
            |image, parts| {
                let at = find(&image, parts.delegation.clone(), BOARD.as_bytes());
                flip(image, at)
            },
            FailCode::DelegationSignature,
        );
    }
}

#[test]
fn an_altered_manifest() {
    for index in [BUNDLE, KERNEL] {
        altered(
            index,
            |image, parts| {
                let at = find(&image, parts.manifest.clone(), BOARD.as_bytes());
                flip(image, at)
            },
            FailCode::SignatureInvalid,
        );
    }
}

#[test]
fn an_altered_signature_on_the_manifest() {
    for index in [BUNDLE, KERNEL] {
        altered(index, |image, parts| flip(image, parts.manifest.end - 1), FailCode::SignatureInvalid);
    }
}

#[test]
fn an_altered_sealing_record() {
    for index in [BUNDLE, KERNEL] {
        altered(index, |image, parts| flip(image, parts.sealing.end - 1), FailCode::KeyUnwrap);
    }
}

#[test]
fn an_altered_chunk_table() {
    altered(KERNEL, |image, parts| flip(image, parts.entry(0).start), FailCode::ChunkTag);
    altered(KERNEL, |image, parts| flip(image, parts.entry(0).start + 16), FailCode::ChunkDigest);
}

#[test]
fn an_altered_byte_in_the_bundle() {
    altered(BUNDLE, |image, parts| flip(image, parts.payload.start), FailCode::ChunkTag);
}

#[test]
fn an_altered_byte_in_the_first_chunk_of_the_kernel() {
    altered(KERNEL, |image, parts| flip(image, parts.chunk(0)), FailCode::ChunkTag);
}

#[test]
fn an_altered_byte_in_the_middle_chunk_of_the_kernel() {
    altered(
        KERNEL,
        |image, parts| {
            assert!(parts.chunks >= 3, "first, middle and last are different");
            flip(image, parts.chunk(parts.chunks / 2))
        },
        FailCode::ChunkTag,
    );
}

#[test]
fn an_altered_byte_in_the_last_chunk_of_the_kernel() {
    altered(KERNEL, |image, parts| flip(image, parts.payload.end - 1), FailCode::ChunkTag);
}

#[test]
fn an_altered_byte_in_the_device_tree() {
    altered(DEVICE_TREE, |image, parts| flip(image, parts.payload.start), FailCode::ChunkTag);
}

#[test]
fn a_kernel_whose_end_was_never_written() {
    altered(
        KERNEL,
        |mut image, parts| {
            let cut = parts.chunk(parts.chunks / 2);
            image[cut..].fill(0);
            image
        },
        FailCode::ChunkTag,
    );
}

#[test]
fn a_slot_that_ends_before_its_last_object() {
    let maker = Maker::development();
    let mut images = maker.seal_os_images(&maker.os(TOKEN));
    images.pop();
    refused(&maker, laid_out(&images), FailCode::ImageTruncated);
}

#[test]
fn an_image_that_claims_more_than_its_slot() {
    let claim = u64::MAX / 2;
    altered(KERNEL, |image, _| put(image, 32, &claim.to_le_bytes()), FailCode::ImageTruncated);
}

// --- Parts that do not belong together -------------------------------------------------------------------

#[test]
fn an_object_of_another_release() {
    let maker = Maker::development();
    let right = maker.os(TOKEN);
    for kind in [Kind::Kernel, Kind::DeviceTree] {
        let mut slot = right.clone();
        let object = &mut slot.objects.iter_mut().find(|(it, _)| *it == kind).unwrap().1;
        let facts = Facts { version: Version(VERSION.0 + 1), ..maker.os_facts(kind) };
        *object = maker.owner.sign(&facts, object.plain.clone()).unwrap();
        refused(&maker, maker.seal_os(&slot), FailCode::ObjectNotInBundle);
    }
}

#[test]
fn objects_in_another_order() {
    let maker = Maker::development();
    let mut images = maker.seal_os_images(&maker.os(TOKEN));
    images.swap(KERNEL, DEVICE_TREE);
    refused(&maker, laid_out(&images), FailCode::KindWrong);
}

#[test]
fn an_object_in_the_place_of_the_bundle() {
    let maker = Maker::development();
    let images = maker.seal_os_images(&maker.os(TOKEN));
    refused(&maker, laid_out(&images[KERNEL..]), FailCode::KindWrong);
}

#[test]
fn the_sealing_record_of_another_copy_of_the_same_kernel() {
    let maker = Maker::development();
    let slot = maker.os(TOKEN);
    let mut images = maker.seal_os_images(&slot);
    let other = maker.seal_os_image(&slot.objects[0].1);
    images[KERNEL] = transplant(images[KERNEL].clone(), &other, |parts| parts.sealing.clone());
    refused(&maker, laid_out(&images), FailCode::ChunkTag);
}

#[test]
fn the_sealing_record_of_another_object() {
    let maker = Maker::development();
    let mut images = maker.seal_os_images(&maker.os(TOKEN));
    let record = images[DEVICE_TREE][Parts::of(&images[DEVICE_TREE]).sealing].to_vec();
    let place = Parts::of(&images[KERNEL]).sealing;
    assert_eq!(place.len(), record.len());
    images[KERNEL] = put(images[KERNEL].clone(), place.start, &record);
    refused(&maker, laid_out(&images), FailCode::KeyUnwrap);
}

#[test]
fn a_slot_that_was_sealed_for_another_die() {
    let other = Maker::development();
    refused(&Maker::development(), other.seal_os(&other.os(TOKEN)), FailCode::KeyUnwrap);
}

// --- Signed, but not for this ----------------------------------------------------------------------------

#[test]
fn a_bundle_signed_by_the_wrong_role() {
    let sign = |maker: &Maker, payload| {
        maker.owner.sign_as(Role::Boot, &maker.os_facts(Kind::Bundle), payload).unwrap()
    };
    with_bundle(sign, FailCode::RoleWrong);
}

#[test]
fn a_kernel_signed_by_the_wrong_role() {
    with_object(Kind::Kernel, |maker| kernel(maker, Role::Boot, |_| {}), FailCode::RoleWrong);
}

#[test]
fn a_bundle_for_another_board() {
    let sign = |maker: &Maker, payload| {
        let facts = Facts { board: "another-board".into(), ..maker.os_facts(Kind::Bundle) };
        maker.owner.sign_as(Role::Os, &facts, payload).unwrap()
    };
    with_bundle(sign, FailCode::BoardWrong);
}

#[test]
fn a_kernel_for_another_board() {
    let sign = |maker: &Maker| kernel(maker, Role::Os, |facts| facts.board = "another-board".into());
    with_object(Kind::Kernel, sign, FailCode::BoardWrong);
}

#[test]
fn an_object_of_another_kind_than_the_bundle_says() {
    let sign = |maker: &Maker| {
        let facts = Facts { kind: Kind::Initramfs, entry: 0, ..maker.os_facts(Kind::Kernel) };
        maker.owner.sign(&facts, Firmware::get().payload.bytes.clone()).unwrap()
    };
    with_object(Kind::Kernel, sign, FailCode::KindWrong);
}

#[test]
fn a_tee_in_the_place_of_the_kernel() {
    let sign = |maker: &Maker| kernel(maker, Role::Os, |facts| facts.kind = Kind::Tee);
    with_object(Kind::Kernel, sign, FailCode::KindReserved);
}

#[test]
fn a_bundle_below_the_rollback_floor() {
    let maker = Maker::development().floor(Role::Os, 3);
    refused(&maker, maker.seal_os(&maker.os(TOKEN)), FailCode::RolledBack);
}

#[test]
fn a_release_at_the_rollback_floor_boots() {
    let maker = Maker::development().floor(Role::Os, 3);
    let at_floor = |kind, plain: &[u8]| {
        let facts = Facts { rollback_index: 3, ..maker.os_facts(kind) };
        maker.owner.sign(&facts, plain.to_vec()).unwrap()
    };
    let firmware = Firmware::get();
    let objects = vec![
        (Kind::Kernel, at_floor(Kind::Kernel, &firmware.payload.bytes)),
        (Kind::DeviceTree, at_floor(Kind::DeviceTree, &firmware.device_tree)),
    ];
    let bundle = at_floor(Kind::Bundle, &bundle_payload(&objects, &cmdline(TOKEN), 3));
    let report = device(&maker, maker.seal_os(&OsSlot { bundle, objects })).boot();
    assert_boots(&report, Slot::A, Slot::A);
}

#[test]
fn a_release_of_another_owner() {
    let maker = Maker::production();
    let (die, owner) = (maker.die.clone(), private_owner());
    let mut other = Maker::new(owner, maker.lifecycle, die.silicon_secret, die.device_seed);
    other = other.with_chip_id(die.chip_id);
    refused(&maker, other.seal_os(&other.os(TOKEN)), FailCode::RootUnknown);
}

#[test]
fn a_test_key_that_a_production_root_delegated_to() {
    let root = fresh_key();
    let boot = delegate(&root, Role::Boot, fresh_key());
    let os = delegate(&root, Role::Os, test_keys::es256(test_keys::OS));
    // The production profile of a host would refuse it; this host does not look.
    let owner = release::Owner::new(Profile::Development, root.public(), vec![boot, os]).unwrap();
    let fuses = Maker::production();
    let maker = Maker::new(owner, fuses.lifecycle, fuses.die.silicon_secret, fuses.die.device_seed);
    refused(&maker, maker.seal_os(&maker.os(TOKEN)), FailCode::TestKey);
}

#[test]
fn an_operating_system_signed_with_ps256_boots() {
    let owner = test_keys::owner_with_ps256().unwrap();
    let die = Maker::development();
    let maker = Maker::new(owner, die.lifecycle, die.die.silicon_secret, die.die.device_seed);
    let report = device(&maker, maker.seal_os(&maker.os(TOKEN))).boot();
    assert_boots(&report, Slot::A, Slot::A);
}

// --- Signed, but wrong -----------------------------------------------------------------------------------

#[test]
fn a_bundle_that_is_not_canonical() {
    let sign = |maker: &Maker, mut payload: Vec<u8>| {
        payload.push(0);
        maker.object(Kind::Bundle, &payload)
    };
    with_bundle(sign, FailCode::BundleMalformed);
}

#[test]
fn a_kernel_that_would_lie_outside_the_memory_for_it() {
    for load in [OS_LOAD.base - 2 * MIB, OS_LOAD.end()] {
        let sign = |maker: &Maker| {
            kernel(maker, Role::Os, |facts| {
                facts.load_address = load;
                facts.entry = load;
            })
        };
        with_object(Kind::Kernel, sign, FailCode::LoadAddress);
    }
}

#[test]
fn a_device_tree_that_would_lie_over_the_kernel() {
    let sign = |maker: &Maker| {
        let over = maker.os_facts(Kind::Kernel).load_address + 4096;
        let facts = Facts { load_address: over, ..maker.os_facts(Kind::DeviceTree) };
        maker.owner.sign(&facts, Firmware::get().device_tree.clone()).unwrap()
    };
    with_object(Kind::DeviceTree, sign, FailCode::LoadOverlap);
}

#[test]
fn a_kernel_that_is_no_image() {
    let sign = |maker: &Maker| maker.object(Kind::Kernel, &[0x14; 8192]);
    with_object(Kind::Kernel, sign, FailCode::KernelInvalid);
}

#[test]
fn a_device_tree_that_is_none() {
    let maker = Maker::development();
    let mut objects = maker.os(TOKEN).objects;
    objects[1] = (Kind::DeviceTree, maker.object(Kind::DeviceTree, &[0x14; 8192]));
    let slot = maker.os_of(objects, &cmdline(TOKEN));
    assert_os_slot_refused(&device(&maker, maker.seal_os(&slot)).boot(), FailCode::DeviceTreeInvalid);
}

// --- Machines that lack something ------------------------------------------------------------------------

#[test]
fn both_slots_empty() {
    let maker = Maker::development();
    let report = Device::new(&maker).boot_slot(Slot::A, maker.stage2()).boot();
    assert_os_slot_refused(&report, FailCode::SlotEmpty);
}

#[test]
fn no_disk() {
    let maker = Maker::development();
    let report = device(&maker, maker.seal_os(&maker.os(TOKEN))).machine(|config| config.no_disk()).boot();
    assert_stage2_refuses(&report, FailCode::NoBootableOs);
    for slot in Slot::TRIES {
        assert_os_slot_named(&report, slot, FailCode::DiskMissing);
    }
}

#[test]
fn no_entropy_source() {
    let maker = Maker::development();
    let report = device(&maker, maker.seal_os(&maker.os(TOKEN)))
        .machine(|config| config.entropy(Entropy::Absent))
        .boot();
    assert_stage2_refuses(&report, FailCode::EntropyMissing);
}

#[test]
fn an_entropy_source_that_never_answers() {
    let maker = Maker::development();
    // The daemon behind the source would be whoever reads this character device: nobody.
    let silent = |config: MachineConfig| {
        let config = config.entropy(Entropy::Absent).arg("-chardev").arg("null,id=nobody");
        let config = config.arg("-object").arg("rng-egd,id=silent,chardev=nobody");
        config.arg("-device").arg("virtio-rng-device,rng=silent")
    };
    let report = device(&maker, maker.seal_os(&maker.os(TOKEN))).machine(silent).boot();
    assert_stage2_refuses(&report, FailCode::EntropyMissing);
}

#[test]
fn an_entropy_source_that_trickles() {
    let maker = Maker::development();
    // One byte now, the next one in ten minutes.
    let trickle = |config: MachineConfig| {
        config.entropy(Entropy::Absent).arg("-device").arg("virtio-rng-device,max-bytes=1,period=600000")
    };
    let report = device(&maker, maker.seal_os(&maker.os(TOKEN))).machine(trickle).boot();
    assert_stage2_refuses(&report, FailCode::EntropyMissing);
}

#[test]
fn a_disk_that_stops_to_answer() {
    let maker = Maker::development();
    // One byte a second: the first read is on credit, the next one would have to wait for minutes.
    let slow = |config: MachineConfig| config.arg("-set").arg("drive.disk.throttling.bps-total=1");
    let report = device(&maker, maker.seal_os(&maker.os(TOKEN))).machine(slow).boot();
    assert_stage2_refuses(&report, FailCode::NoBootableOs);
    for slot in Slot::TRIES {
        assert_os_slot_named(&report, slot, FailCode::DiskRead);
    }
}

#[test]
fn too_little_memory() {
    let maker = Maker::development();
    let report =
        device(&maker, maker.seal_os(&maker.os(TOKEN))).machine(|config| config.memory_mib(128)).boot();
    assert_stage2_refuses(&report, FailCode::HardwareTreeInvalid);
}
