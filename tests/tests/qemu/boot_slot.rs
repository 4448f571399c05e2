//! What lies in boot slot A is not what this die may run: stage0 says why, finds slot B empty, and stops.

use fail_code::FailCode;
use memory_map::qemu_virt::{BOARD, BOOT_SLOT_A, STAGE_RUN};
use release::{Profile, RoleKey, test_keys};
use sealed_image::host::{Facts, certify, encode_grant};
use sealed_image::{Grant, Kind, KindSet, MAX_BOARDS, Role, Version};
use store::Slot;
use tests::forge::{Parts, find, flip, put, transplant};
use tests::verdict::{assert_boot_slot_refused, assert_boots};
use tests::{Device, Firmware, Maker, TOKEN, VERSION, delegate, fresh_key, private_owner};

/// Boots a device whose slot A holds `image`.
#[track_caller]
fn refused(maker: &Maker, image: Vec<u8>, code: FailCode) {
    let device = Device::new(maker).boot_slot(Slot::A, image);
    let report = device.os_slot(Slot::A, maker.seal_os(&maker.os(TOKEN))).boot();
    assert_boot_slot_refused(&report, code);
}

/// Makes an image that is right, has it altered, and boots it.
#[track_caller]
fn altered(alter: impl FnOnce(Vec<u8>, &Parts) -> Vec<u8>, code: FailCode) {
    let maker = Maker::development();
    let image = maker.stage2();
    let parts = Parts::of(&image);
    let changed = alter(image.clone(), &parts);
    assert_ne!(changed, image);
    refused(&maker, changed, code);
}

/// Signs the real stage2 under facts that `change` makes wrong, and boots it.
#[track_caller]
fn signed(change: impl FnOnce(&mut Facts), code: FailCode) {
    let maker = Maker::development();
    let mut facts = maker.stage2_facts();
    change(&mut facts);
    refused(&maker, maker.stage2_signed_by(Role::Boot, &facts), code);
}

/// Signs the real stage2 with a key whose delegation is limited by `change`, and boots it.
#[track_caller]
fn delegated(change: impl FnOnce(&mut Grant<'_>), code: FailCode) {
    let (root, key) = (fresh_key(), fresh_key());
    let mut boards = [""; MAX_BOARDS];
    boards[0] = BOARD;
    let mut grant = Grant {
        role: Role::Boot,
        key: sealed_image::host::Signer::public_key(&key),
        kinds: KindSet::new(&[Kind::Stage2]),
        boards,
        min_version: Version::MIN,
        max_version: Version::MAX,
    };
    change(&mut grant);
    let certificate = certify(&root, &encode_grant(&grant)).unwrap();
    let os = delegate(&root, Role::Os, fresh_key());
    let boot = RoleKey::new(Role::Boot, certificate, Box::new(key));
    let owner = release::Owner::new(Profile::Production, root.public(), vec![boot, os]).unwrap();
    let production = Maker::production();
    let maker =
        Maker::new(owner, production.lifecycle, production.die.silicon_secret, production.die.device_seed);
    refused(&maker, maker.stage2(), code);
}

// --- Bytes altered in storage ----------------------------------------------------------------------------

#[test]
fn an_altered_magic() {
    altered(|image, _| flip(image, 0), FailCode::HeaderMagic);
}

#[test]
fn an_altered_format_version() {
    altered(|image, _| flip(image, 8), FailCode::HeaderVersion);
}

#[test]
fn an_altered_length_in_the_header() {
    // The lengths of delegation, manifest and sealing record, the number of chunks, the payload's offset; 64 KiB off.
    for at in [12, 16, 20, 24, 28] {
        altered(|image, _| flip(image, at + 2), FailCode::HeaderInvalid);
    }
}

#[test]
fn an_altered_reserved_byte_of_the_header() {
    altered(|image, _| flip(image, 63), FailCode::HeaderInvalid);
}

#[test]
fn an_altered_owner_root() {
    altered(
        |image, parts| {
            let root = test_keys::es256(test_keys::ROOT).public();
            let at = find(&image, parts.delegation.clone(), &root[..32]);
            flip(image, at)
        },
        FailCode::RootUnknown,
    );
}

#[test]
fn an_altered_delegation() {
    altered(
        |image, parts| {
            let at = find(&image, parts.delegation.clone(), BOARD.as_bytes());
            flip(image, at)
        },
        FailCode::DelegationSignature,
    );
}

#[test]
fn an_altered_signature_on_the_delegation() {
    altered(|image, parts| flip(image, parts.delegation.end - 1), FailCode::DelegationSignature);
}

#[test]
fn an_altered_frame_of_the_delegation() {
    altered(|image, parts| flip(image, parts.delegation.start), FailCode::DelegationMalformed);
}

#[test]
fn an_altered_manifest() {
    altered(
        |image, parts| {
            let at = find(&image, parts.manifest.clone(), BOARD.as_bytes());
            flip(image, at)
        },
        FailCode::SignatureInvalid,
    );
}

#[test]
fn an_altered_signature_on_the_manifest() {
    altered(|image, parts| flip(image, parts.manifest.end - 1), FailCode::SignatureInvalid);
}

#[test]
fn an_altered_frame_of_the_manifest() {
    altered(|image, parts| flip(image, parts.manifest.start + 2), FailCode::ManifestMalformed);
}

#[test]
fn an_altered_sealing_record() {
    altered(|image, parts| flip(image, parts.sealing.end - 1), FailCode::KeyUnwrap);
}

#[test]
fn an_altered_frame_of_the_sealing_record() {
    altered(|image, parts| flip(image, parts.sealing.start), FailCode::SealingMalformed);
}

#[test]
fn an_altered_tag_in_the_chunk_table() {
    altered(|image, parts| flip(image, parts.entry(0).start), FailCode::ChunkTag);
}

#[test]
fn an_altered_digest_in_the_chunk_table() {
    altered(|image, parts| flip(image, parts.entry(parts.chunks - 1).start + 16), FailCode::ChunkDigest);
}

#[test]
fn an_altered_length_in_the_chunk_table() {
    altered(|image, parts| flip(image, parts.entry(0).start + 48), FailCode::HeaderInvalid);
}

#[test]
fn altered_padding() {
    altered(|image, parts| flip(image, parts.padding.end - 1), FailCode::PaddingNotZero);
}

#[test]
fn an_altered_byte_in_the_first_the_middle_and_the_last_chunk() {
    let places: [fn(&Parts) -> usize; 3] =
        [|parts| parts.chunk(0), |parts| parts.chunk(parts.chunks / 2), |parts| parts.payload.end - 1];
    for place in places {
        altered(
            |image, parts| {
                assert!(parts.chunks >= 3, "three different chunks");
                flip(image, place(parts))
            },
            FailCode::ChunkTag,
        );
    }
}

#[test]
fn two_chunks_that_changed_places() {
    altered(
        |image, parts| {
            let (first, second) = (parts.chunk(0), parts.chunk(1));
            let (a, b) = (image[first..second].to_vec(), image[second..second + 4096].to_vec());
            let (entry_a, entry_b) = (image[parts.entry(0)].to_vec(), image[parts.entry(1)].to_vec());
            let image = put(put(image, first, &b), second, &a);
            // Tags and digests move along: only the list's own digest can notice.
            put(put(image, parts.entry(0).start, &entry_b), parts.entry(1).start, &entry_a)
        },
        FailCode::ChunkDigest,
    );
}

#[test]
fn a_payload_whose_end_was_never_written() {
    altered(
        |mut image, parts| {
            let cut = parts.chunk(parts.chunks / 2);
            image[cut..].fill(0xFF);
            image
        },
        FailCode::ChunkTag,
    );
}

#[test]
fn an_image_that_is_cut_off_by_the_end_of_its_slot() {
    let maker = Maker::development();
    let stage2 = &Firmware::get().stage2;
    let mut bytes = stage2.bytes.clone();
    bytes.resize(BOOT_SLOT_A.size as usize, 0);
    let facts = Facts { chunk_size: 64 * 1024, ..maker.stage2_facts() };
    let signed = maker.owner.sign(&facts, bytes).unwrap();
    let mut image = maker.seal_stage(&signed);
    assert!(image.len() as u64 > BOOT_SLOT_A.size);
    image.truncate(BOOT_SLOT_A.size as usize);
    refused(&maker, image, FailCode::ImageTruncated);
}

#[test]
fn an_erased_slot() {
    refused(&Maker::development(), vec![0xFF; 4096], FailCode::SlotEmpty);
}

#[test]
fn a_plain_program_instead_of_an_image() {
    refused(&Maker::development(), Firmware::get().payload.bytes.clone(), FailCode::HeaderMagic);
}

// --- Sealed for something else ---------------------------------------------------------------------------

#[test]
fn the_sealing_record_of_another_copy_of_the_same_image() {
    let maker = Maker::development();
    let signed = maker.owner.sign(&maker.stage2_facts(), Firmware::get().stage2.bytes.clone()).unwrap();
    let (one, other) = (maker.seal_stage(&signed), maker.seal_stage(&signed));
    let image = transplant(one, &other, |parts| parts.sealing.clone());
    // The data key of the other copy unwraps, being of the same manifest, but opens no chunk of this one.
    refused(&maker, image, FailCode::ChunkTag);
}

#[test]
fn the_sealing_record_of_another_image() {
    let maker = Maker::development();
    let other = Facts { version: Version(VERSION.0 + 1), ..maker.stage2_facts() };
    let image = transplant(maker.stage2(), &maker.stage2_with(&other), |parts| parts.sealing.clone());
    refused(&maker, image, FailCode::KeyUnwrap);
}

#[test]
fn the_payload_of_another_copy_of_the_same_image() {
    let maker = Maker::development();
    let signed = maker.owner.sign(&maker.stage2_facts(), Firmware::get().stage2.bytes.clone()).unwrap();
    let (one, other) = (maker.seal_stage(&signed), maker.seal_stage(&signed));
    let image = transplant(one, &other, |parts| parts.payload.clone());
    refused(&maker, image, FailCode::ChunkTag);
}

#[test]
fn an_image_that_was_sealed_for_another_die() {
    refused(&Maker::development(), Maker::development().stage2(), FailCode::KeyUnwrap);
}

#[test]
fn an_image_that_was_sealed_for_the_os_slots() {
    let maker = Maker::development();
    let signed = maker.owner.sign(&maker.stage2_facts(), Firmware::get().stage2.bytes.clone()).unwrap();
    let image = maker.seal_os_image(&signed);
    refused(&maker, image, FailCode::KeyUnwrap);
}

#[test]
fn a_compressed_stage() {
    let maker = Maker::development();
    let signed = maker.owner.sign(&maker.stage2_facts(), Firmware::get().stage2.bytes.clone()).unwrap();
    let image = maker.seal_stage_compressed(&signed);
    refused(&maker, image, FailCode::CompressionUnsupported);
}

// --- Signed, but not for this ----------------------------------------------------------------------------

#[test]
fn an_image_of_another_owner() {
    let maker = Maker::production();
    let other = private_owner().sign(&maker.stage2_facts(), Firmware::get().stage2.bytes.clone()).unwrap();
    refused(&maker, maker.seal_stage(&other), FailCode::RootUnknown);
}

#[test]
fn an_image_under_a_root_that_was_revoked() {
    let maker = Maker::production();
    let mut otp = maker.otp();
    otp.revoke_root(0).root(1, &private_owner().root_digest());
    let report = Device::with_otp(otp).boot_slot(Slot::A, maker.stage2()).boot();
    assert_boot_slot_refused(&report, FailCode::RootRevoked);
}

#[test]
fn a_test_key_that_a_production_root_delegated_to() {
    let root = fresh_key();
    let boot = delegate(&root, Role::Boot, test_keys::es256(test_keys::BOOT));
    // The production profile of a host would refuse it; this host does not look.
    let owner = release::Owner::new(Profile::Development, root.public(), vec![boot]).unwrap();
    let fuses = Maker::production();
    let maker = Maker::new(owner, fuses.lifecycle, fuses.die.silicon_secret, fuses.die.device_seed);
    let report = Device::new(&maker).boot_slot(Slot::A, maker.stage2()).boot();
    assert_boot_slot_refused(&report, FailCode::TestKey);
}

#[test]
fn an_image_of_the_test_owner_on_a_production_die() {
    let maker = Maker::production();
    let test = test_keys::owner().unwrap();
    let signed = test.sign(&maker.stage2_facts(), Firmware::get().stage2.bytes.clone()).unwrap();
    refused(&maker, maker.seal_stage(&signed), FailCode::RootUnknown);
}

#[test]
fn an_image_signed_by_the_wrong_role() {
    let maker = Maker::development();
    for role in [Role::Provision, Role::Os] {
        refused(&maker, maker.stage2_signed_by(role, &maker.stage2_facts()), FailCode::RoleWrong);
    }
}

#[test]
fn an_image_for_another_board() {
    signed(|facts| facts.board = "another-board".into(), FailCode::BoardWrong);
}

#[test]
fn an_image_of_another_kind() {
    let maker = Maker::development();
    for kind in [Kind::Stage1, Kind::Kernel] {
        let facts = Facts { kind, ..maker.stage2_facts() };
        refused(&maker, maker.stage2_with(&facts), FailCode::KindWrong);
    }
}

#[test]
fn a_tee() {
    signed(|facts| facts.kind = Kind::Tee, FailCode::KindReserved);
}

#[test]
fn an_image_below_the_rollback_floor() {
    let maker = Maker::development().floor(Role::Boot, 5);
    let version = |rollback_index| Facts { rollback_index, ..maker.stage2_facts() };
    refused(&maker, maker.stage2_with(&version(4)), FailCode::RolledBack);
    let device = Device::new(&maker).boot_slot(Slot::A, maker.stage2_with(&version(5)));
    let report = device.os_slot(Slot::A, maker.seal_os(&maker.os(TOKEN))).boot();
    assert_boots(&report, Slot::A, Slot::A);
}

#[test]
fn a_kind_that_the_delegation_does_not_list() {
    delegated(|grant| grant.kinds = KindSet::new(&[Kind::Stage1]), FailCode::KindNotDelegated);
}

#[test]
fn a_board_that_the_delegation_does_not_list() {
    delegated(|grant| grant.boards[0] = "another-board", FailCode::BoardNotDelegated);
}

#[test]
fn a_version_outside_the_delegation() {
    delegated(|grant| grant.min_version = Version(VERSION.0 + 1), FailCode::VersionNotDelegated);
    delegated(|grant| grant.max_version = Version(VERSION.0 - 1), FailCode::VersionNotDelegated);
}

#[test]
fn a_stage_signed_with_ps256() {
    let root = fresh_key();
    let boot = delegate(&root, Role::Boot, test_keys::os_ps256());
    let owner = release::Owner::new(Profile::Development, root.public(), vec![boot]).unwrap();
    let die = Maker::development();
    let maker = Maker::new(owner, die.lifecycle, die.die.silicon_secret, die.die.device_seed);
    let report = Device::new(&maker).boot_slot(Slot::A, maker.stage2()).boot();
    assert_boot_slot_refused(&report, FailCode::AlgorithmUnsupported);
}

#[test]
fn a_load_address_outside_the_stages_memory() {
    for shift in [0x1000, STAGE_RUN.size] {
        signed(
            |facts| {
                facts.load_address += shift;
                facts.entry += shift;
            },
            FailCode::LoadAddress,
        );
    }
}

#[test]
fn both_slots_empty() {
    let maker = Maker::development();
    let report = Device::new(&maker).os_slot(Slot::A, maker.seal_os(&maker.os(TOKEN))).boot();
    assert_boot_slot_refused(&report, FailCode::SlotEmpty);
}

#[test]
#[should_panic(expected = "K0101")]
fn a_verdict_of_another_code_fails() {
    // The control of this rig: slot A is empty, which is no altered chunk.
    assert_boot_slot_refused(&Device::new(&Maker::development()).boot(), FailCode::ChunkTag);
}
