//! From the handoff to a kernel that can be entered, on models of the hardware: which slot is loaded, what is refused
//! with which code, and what is left in memory then.

mod device;
mod looks;
mod release;

use boot_info::record::BootRecord;
use boot_info::{SecretPage, Secrets, Step};
use device::{Booted, Device, board};
use fail_code::FailCode;
use lifecycle::Lifecycle;
use memory_map::Region;
use memory_map::qemu_virt::{KERNEL_LOAD, OS_SLOT_A, OS_SLOT_B};
use release::{COMMAND_LINE, INITRAMFS_LOAD, PLAIN, Release, TREE_LOAD, WINDOW, kernel, laid_out};
use sealed_image::{Compression, HEADER_BYTES, Header, Kind, Role};
use stage2_production::boot::Handoff;

/// Images of a slot by their place in it.
const KERNEL: usize = 1;
const INITRAMFS: usize = 3;

fn good() -> Vec<u8> {
    laid_out(&Release::new(1, 0).sealed())
}

/// Returns a slot with one byte of the last chunk of an image altered.
fn altered(release: &Release, image: usize) -> Vec<u8> {
    let mut images = release.sealed();
    *images[image].last_mut().unwrap() ^= 1;
    laid_out(&images)
}

/// Asserts that the device entered the right kernel from a slot: 0 A, 1 B.
#[track_caller]
fn assert_boots(booted: &Booted, slot: u8) {
    // Here memory does not lie where the window says, as after a fault: the entry is where the kernel's bytes are.
    let entry = booted.at(KERNEL_LOAD).as_ptr().addr() as u64;
    let launch = booted.outcome.as_ref().unwrap();
    assert_eq!(
        (launch.kernel, launch.confirmed, launch.device_tree.held().place.base),
        (entry, KERNEL_LOAD, TREE_LOAD)
    );
    assert_eq!(booted.record.os_slot, slot);
    assert!(booted.at(KERNEL_LOAD).starts_with(&kernel()));
    assert!(booted.at(INITRAMFS_LOAD).starts_with(PLAIN));
    let kinds: Vec<_> =
        booted.record.images.as_slice().iter().map(|it| Kind::from_number(it.kind).unwrap()).collect();
    assert_eq!(kinds, [Kind::Bundle, Kind::Kernel, Kind::DeviceTree, Kind::Initramfs]);
}

/// Boots a device whose slot A is this and whose slot B is empty: it is refused, and nothing decrypted is left.
#[track_caller]
fn refused(slot: Vec<u8>, code: FailCode) -> Booted {
    let booted = Device::new(slot, Vec::new()).boot();
    assert_refused(&booted, code);
    booted
}

#[track_caller]
fn assert_refused(booted: &Booted, code: FailCode) {
    assert_eq!(booted.outcome, Err(FailCode::NoBootableOs));
    assert_eq!(FailCode::from_number(booted.record.os_fallback_code), Some(code));
    assert_eq!(booted.record.images.as_slice().len(), 0, "nothing is reported as measured");
    assert!(!booted.holds(PLAIN), "plaintext is left in memory");
}

#[test]
fn the_first_slot_is_loaded_and_its_device_tree_filled_in() {
    let booted = Device::new(good(), good()).boot();
    assert_boots(&booted, 0);
    assert_eq!(booted.record.os_fallback_code, 0);
    let tree = fdt::Fdt::new(booted.at(TREE_LOAD)).unwrap();
    assert_eq!(tree.chosen().bootargs(), Some(COMMAND_LINE));
    let chosen = tree.find_node("/chosen").unwrap();
    assert_eq!(chosen.property("rng-seed").unwrap().value.len(), 64);
    let start = chosen.property("linux,initrd-start").unwrap().value;
    assert_eq!(start, INITRAMFS_LOAD.to_be_bytes());
    assert_eq!(
        booted.steps(),
        [
            Step::Handoff,
            Step::Setup,
            Step::VerifyObjects,
            Step::ReadObjects,
            Step::OpenObjects,
            Step::VerifyObjects,
            Step::DeviceTree
        ]
    );
    assert_eq!(booted.runs, 3, "the cores share each object");
    assert!(booted.cleaned > kernel().len() as u64, "what was decrypted with caches on is written back");
}

/// What is checked is what is used: nobody can change a byte between two reads of it.
#[test]
fn no_byte_of_the_disk_is_read_twice() {
    let booted = Device::new(good(), good()).boot();
    assert_boots(&booted, 0);
    assert_eq!(booted.reads.len(), 8, "metadata and payload of four images");
    for (index, read) in booted.reads.iter().enumerate() {
        let again = booted.reads.iter().skip(index + 1).find(|other| other.overlaps(read));
        assert_eq!(again, None, "{read:?}");
        assert!(!read.overlaps(&OS_SLOT_B), "the other slot is left alone");
    }
}

#[test]
fn random_seeds_follow_from_this_boots_entropy() {
    let seeds = |entropy| {
        let mut device = Device::new(good(), Vec::new());
        device.entropy = sim::Source::new(entropy);
        let booted = device.boot();
        let tree = fdt::Fdt::new(booted.at(TREE_LOAD)).unwrap();
        let chosen = tree.find_node("/chosen").unwrap();
        ["rng-seed", "kaslr-seed"].map(|name| chosen.property(name).unwrap().value.to_vec())
    };
    let ([rng, kaslr], [other_rng, other_kaslr]) = (seeds(1), seeds(2));
    assert_ne!(rng, other_rng);
    assert_ne!(kaslr, other_kaslr);
}

#[test]
fn a_bad_first_slot_is_passed_over_and_said() {
    let booted = Device::new(altered(&Release::new(2, 0), INITRAMFS), good()).boot();
    assert_boots(&booted, 1);
    assert_eq!(booted.record.os_fallback_code, FailCode::ChunkTag.number());
    let images = booted.record.images.as_slice();
    assert!(images.iter().all(|it| it.version == 1), "what was passed over is not reported as loaded");
}

#[test]
fn an_empty_first_slot_is_passed_over() {
    let booted = Device::new(Vec::new(), good()).boot();
    assert_boots(&booted, 1);
    assert_eq!(booted.record.os_fallback_code, FailCode::SlotEmpty.number());
}

#[test]
fn the_code_of_the_first_slot_is_what_is_reported() {
    let booted = Device::new(altered(&Release::new(2, 0), KERNEL), Vec::new()).boot();
    assert_refused(&booted, FailCode::ChunkTag);
    let booted = Device::new(Vec::new(), altered(&Release::new(2, 0), KERNEL)).boot();
    assert_refused(&booted, FailCode::SlotEmpty);
}

#[test]
fn an_object_of_another_release_is_refused_before_anything_is_decrypted() {
    let (mut mixed, other) = (Release::new(2, 0), Release::new(1, 0));
    mixed.named = Some(mixed.objects.clone());
    mixed.objects[0] = other.objects[0].clone();
    let booted = refused(laid_out(&mixed.sealed()), FailCode::ObjectNotInBundle);
    assert_eq!(booted.runs, 0);
}

#[test]
fn a_release_below_the_floor_is_refused() {
    for (index, boots) in [(4, false), (5, true)] {
        let mut device = Device::new(laid_out(&Release::new(1, index).sealed()), Vec::new());
        device.info.floors[usize::from(Role::Os.number())] = 5;
        let booted = device.boot();
        if boots {
            assert_boots(&booted, 0);
        } else {
            assert_refused(&booted, FailCode::RolledBack);
        }
    }
}

#[test]
fn a_root_that_the_fuses_do_not_hold_or_have_revoked_is_refused() {
    let mut device = Device::new(good(), Vec::new());
    device.info.roots.digests[0][0] ^= 1;
    assert_refused(&device.boot(), FailCode::RootUnknown);
    let mut device = Device::new(good(), Vec::new());
    device.info.roots.valid = 0;
    assert_refused(&device.boot(), FailCode::RootRevoked);
}

#[test]
fn a_disk_that_cannot_be_read_is_refused_wherever_it_fails() {
    let images = Release::new(1, 0).sealed();
    let mut at = OS_SLOT_A.base;
    for image in &images {
        let header = Header::parse(image.first_chunk::<HEADER_BYTES>().unwrap()).unwrap();
        for offset in [0, u64::from(header.payload_offset)] {
            let mut device = Device::new(laid_out(&images), Vec::new());
            device.fails = Some(Region::new(at + offset, 1));
            assert_refused(&device.boot(), FailCode::DiskRead);
            let mut device = Device::new(laid_out(&images), good());
            device.fails = Some(Region::new(at + offset, 1));
            let booted = device.boot();
            assert_boots(&booted, 1);
            assert_eq!(booted.record.os_fallback_code, FailCode::DiskRead.number());
        }
        at += (image.len() as u64).next_multiple_of(4096);
    }
}

#[test]
fn a_device_without_a_disk_or_without_entropy_boots_nothing() {
    let mut device = Device::new(good(), good());
    device.has_disk = false;
    assert_refused(&device.boot(), FailCode::DiskMissing);
    let booted = Device::new(good(), good()).without_entropy().boot();
    assert_eq!(booted.outcome, Err(FailCode::EntropyMissing));
    assert!(booted.reads.is_empty() && booted.memory.iter().all(|byte| *byte == 0));
}

#[test]
fn what_was_decrypted_before_a_bad_chunk_is_wiped() {
    for (image, runs) in [(KERNEL, 1), (INITRAMFS, 3)] {
        let booted = refused(altered(&Release::new(1, 0), image), FailCode::ChunkTag);
        assert_eq!(booted.runs, runs);
    }
}

#[test]
fn what_was_decrypted_is_wiped_if_linux_could_not_be_started_with_it() {
    let mut release = Release::new(1, 0);
    let mut broken = kernel();
    broken[56] ^= 1;
    release.put(Kind::Kernel, broken);
    refused(laid_out(&release.sealed()), FailCode::KernelInvalid);

    let mut release = Release::new(1, 0);
    release.put(Kind::DeviceTree, PLAIN.repeat(20));
    let booted = refused(laid_out(&release.sealed()), FailCode::DeviceTreeInvalid);
    assert!(booted.memory.iter().all(|byte| *byte == 0));
}

#[test]
fn objects_that_lie_over_each_other_are_refused_before_they_are_read() {
    let mut release = Release::new(1, 0);
    // The device tree begins 4 MiB behind the kernel, which has 5.
    release.put(Kind::Kernel, PLAIN.repeat(5 << 16));
    let booted = refused(laid_out(&release.sealed()), FailCode::LoadOverlap);
    assert_eq!(booted.runs, 0);
}

#[test]
fn compressed_objects_are_loaded_and_their_ciphertext_is_wiped() {
    let mut release = Release::new(1, 0);
    release.compression = Compression::Lz4;
    let images = release.sealed();
    assert!(images[KERNEL].len() < kernel().len(), "it was compressed");
    let booted = Device::new(laid_out(&images), Vec::new()).boot();
    assert_boots(&booted, 0);
    let end = booted.at(WINDOW.end() - 64 * 1024);
    assert!(end.iter().all(|byte| *byte == 0), "what was staged is wiped");

    let booted = refused(altered(&release, INITRAMFS), FailCode::ChunkTag);
    assert!(booted.at(WINDOW.end() - 64 * 1024).iter().all(|byte| *byte == 0));
}

#[test]
fn a_handoff_for_another_board_or_lifecycle_is_refused_and_its_secrets_are_wiped() {
    let take = |change: fn(&mut Device)| {
        let mut device = Device::new(Vec::new(), Vec::new());
        change(&mut device);
        let (info, mut secrets) = device.pages();
        let outcome = Handoff::take(&info, &mut secrets, &mut BootRecord::default()).map(|_| ());
        assert!(secrets.iter().all(|byte| *byte == 0));
        outcome
    };
    assert_eq!(take(|_| {}), Ok(()));
    assert_eq!(take(|it| it.info.board = board("another")), Err(FailCode::BootInfoInvalid));
    assert_eq!(take(|it| it.info.lifecycle = Lifecycle::Secured.codeword()), Err(FailCode::LifecycleForbids));
    assert_eq!(take(|it| it.info.lifecycle ^= 1), Err(FailCode::LifecycleForbids));
}

#[test]
fn a_handoff_that_is_altered_or_made_for_another_stage_is_refused() {
    let (info, secrets) = Device::new(Vec::new(), Vec::new()).pages();
    let take = |info: &[u8], mut secrets: Vec<u8>| {
        Handoff::take(info, &mut secrets, &mut BootRecord::default()).map(|_| ())
    };
    assert_eq!(take(&info, vec![0; 4096]), Err(FailCode::BootInfoInvalid));
    for bit in [0, 64 * 8, 300 * 8] {
        let mut bad = info.clone();
        bad[bit / 8] ^= 1;
        assert_eq!(take(&bad, secrets.clone()), Err(FailCode::BootInfoInvalid), "bit {bit}");
    }
    let key = || boot_crypto::Key::new([1; 32]);
    let mut provision = vec![0; 4096];
    let kept = Secrets::Provision { stage_secret: key(), die_secret: key() };
    assert!(SecretPage { secrets: kept, evidence: None }.write(&mut provision));
    assert_eq!(take(&info, provision), Err(FailCode::BootInfoInvalid));
}
