//! Something else than was ordered, in the places that a closed device boots from: the owner signed it, and it is sealed
//! under the die's own keys.

use boot_crypto::Key;
use boot_crypto::host::random;
use fail_code::FailCode;
use memory_map::Region;
use memory_map::qemu_virt::{BOOT_SLOT_A, BOOT_STAGING, OS_SLOT_A, OS_SLOT_B, PACKAGE, SECRETS};
use release::Compression;
use sealed_image::{Fresh, Kind, Resealer};

use crate::case::Case;
use crate::device::{Device, Remembered};
use crate::judge::{Keys, keys, verified};
use crate::lot::{Lot, lot, older_lot};
use crate::package::images;
use crate::stored::replaced;

/// The images of a package, in their order.
const KINDS: [Kind; 8] = [
    Kind::Package,
    Kind::Stage2,
    Kind::Bundle,
    Kind::Kernel,
    Kind::DeviceTree,
    Kind::Initramfs,
    Kind::Secret,
    Kind::Secret,
];
const STAGE: usize = 1;
const OS: [usize; 4] = [2, 3, 4, 5];
const SECRET: [usize; 2] = [6, 7];

const ANOTHER_STAGE: &str = "NotTheOneNamed { kind: Stage2 }";
const ANOTHER_BUNDLE: &str = "NotTheOneNamed { kind: Bundle }";
const ANOTHER_SECRET: &str = "NotTheOneNamed { kind: Secret }";

/// Seals objects of a lot's package under a key of the device, as only the device can: one behind the other.
fn resealed<'l>(objects: impl IntoIterator<Item = (&'l Lot, usize)>, key: &Key) -> Vec<u8> {
    let mut slot = Vec::new();
    for (lot, number) in objects {
        let package = &lot.release.package;
        let (at, header) = images(package)[number];
        let (metadata, payload) = package[at..].split_at(header.metadata_len() as usize);
        let image = verified(metadata, KINDS[number]);
        let fresh = Fresh { salt: random(), data_key: Key::new(random()) };
        let mut metadata = vec![0; metadata.len()];
        let mut payload = payload[..header.payload_len as usize].to_vec();
        let resealer = Resealer::new(&image, &lot.content_key.0, key, &fresh, &mut metadata).unwrap();
        for chunk in resealer.chunks() {
            let at = chunk.stored_offset as usize;
            let bytes = &mut payload[at..at + chunk.stored_len as usize];
            let chunk = resealer.open(chunk.index, bytes).unwrap().seal().unwrap();
            resealer.put_tag(&mut metadata, &chunk).unwrap();
        }
        slot.resize(slot.len().next_multiple_of(4096), 0xFF);
        slot.extend([metadata, payload].concat());
    }
    slot
}

/// Puts something else in the place of what a region holds.
fn put(device: &mut Device, region: Region, content: &[u8]) {
    let change = |bytes: &mut [u8]| {
        bytes.fill(0xFF);
        bytes[..content.len()].copy_from_slice(content);
    };
    match region {
        OS_SLOT_A | OS_SLOT_B | PACKAGE => device.change_disk(region, change),
        _ => device.change_flash(region, change),
    }
}

/// A die that only the final check is still to come for, and the keys that it will have.
struct Waiting {
    case: Case,
    before: Remembered,
    keys: Keys,
}

impl Waiting {
    fn new() -> Self {
        let mut case = replaced();
        let before = case.device.remember();
        case.closes();
        let keys = keys(&case.device);
        Self { case, before, keys }
    }

    /// Puts this into these places. It has to be found before a fuse burns, for this reason, and what was ordered is made
    /// again; where it cannot be, no fuse burns.
    fn finds(&mut self, places: &[Region], slot: &[u8], code: FailCode, reason: &str) {
        let told = format!("stage1: FinalCheck: {code} ({reason}");
        let Self { case, before, .. } = self;
        case.device.set_back(before);
        places.iter().for_each(|place| put(&mut case.device, *place, slot));
        let changed = case.device.remember();
        let console = case.closes();
        assert!(console.contains(&told), "{told}: {console}");

        case.device.set_back(&changed);
        let (kernel, header) = images(&case.lot.release.package)[OS[1]];
        let offset = kernel + header.payload_offset as usize;
        case.device.change_disk(PACKAGE, |bytes| bytes[offset] ^= 1);
        let cycle = case.is_refused(case.desk.station(), FailCode::ChunkTag);
        assert!(cycle.console.contains(&told), "{told}: {}", cycle.console);
        case.device.change_disk(PACKAGE, |bytes| bytes[offset] ^= 1);
        case.closes();
    }
}

#[test]
fn secret_objects_that_are_missing_old_too_many_or_in_another_order_are_found() {
    let mut waiting = Waiting::new();
    let (mine, sibling, older) = (waiting.case.lot.clone(), lot(9, Compression::None), older_lot());
    let mine = &*mine;
    let [first, second] = SECRET;
    for (objects, code, reason) in [
        (&[][..], FailCode::SlotEmpty, "Store(Empty"),
        (&[(mine, first)], FailCode::ImageTruncated, "Store(NoFurtherImage"),
        (&[(mine, second)], FailCode::PackageMixed, ANOTHER_SECRET),
        (&[(mine, second), (mine, first)], FailCode::PackageMixed, ANOTHER_SECRET),
        (&[(mine, first), (&sibling, second)], FailCode::PackageMixed, ANOTHER_SECRET),
        (&[(mine, first), (&older, second)], FailCode::RolledBack, "Image { kind: Secret"),
        (
            &[(mine, first), (mine, second), (&sibling, second)],
            FailCode::ReadBack,
            "NotNamed { kind: Secret }",
        ),
    ] {
        let slot = resealed(objects.iter().copied(), &waiting.keys.secret);
        waiting.finds(&[SECRETS], &slot, code, reason);
    }
}

#[test]
fn an_operating_system_of_another_release_is_found_though_both_slots_hold_it() {
    let mut waiting = Waiting::new();
    let (sibling, older) = (lot(9, Compression::None), older_lot());
    for (other, places, code, reason) in [
        (&sibling, &[OS_SLOT_A, OS_SLOT_B][..], FailCode::PackageMixed, ANOTHER_BUNDLE),
        (&sibling, &[OS_SLOT_A], FailCode::PackageMixed, ANOTHER_BUNDLE),
        (&sibling, &[OS_SLOT_B], FailCode::PackageMixed, ANOTHER_BUNDLE),
        (&older, &[OS_SLOT_A, OS_SLOT_B], FailCode::PackageMixed, ANOTHER_BUNDLE),
        // The floors are those of the release that was ordered already.
        (&older, &[OS_SLOT_B], FailCode::RolledBack, "Image { kind: Bundle"),
    ] {
        let slot = resealed(OS.map(|number| (other, number)), &waiting.keys.os);
        waiting.finds(places, &slot, code, reason);
    }
}

#[test]
fn a_stage_of_another_release_is_found_though_both_its_copies_are_of_it() {
    let mut waiting = Waiting::new();
    let (sibling, older) = (lot(9, Compression::None), older_lot());
    for (other, places, code, reason) in [
        (&sibling, &[BOOT_SLOT_A, BOOT_STAGING][..], FailCode::PackageMixed, ANOTHER_STAGE),
        (&sibling, &[BOOT_SLOT_A], FailCode::PackageMixed, ANOTHER_STAGE),
        (&sibling, &[BOOT_STAGING], FailCode::PackageMixed, ANOTHER_STAGE),
        (&older, &[BOOT_SLOT_A, BOOT_STAGING], FailCode::PackageMixed, ANOTHER_STAGE),
        (&older, &[BOOT_STAGING], FailCode::RolledBack, "Selection("),
    ] {
        let slot = resealed([(other, STAGE)], &waiting.keys.boot);
        waiting.finds(places, &slot, code, reason);
    }
}

#[test]
fn what_was_sealed_for_the_die_by_these_tests_is_what_it_takes() {
    let waiting = Waiting::new();
    let Waiting { mut case, before, keys } = waiting;
    case.device.set_back(&before);
    for (places, objects, key) in [
        (&[BOOT_SLOT_A, BOOT_STAGING][..], &[STAGE][..], &keys.boot),
        (&[OS_SLOT_A, OS_SLOT_B], &OS, &keys.os),
        (&[SECRETS], &SECRET, &keys.secret),
    ] {
        for place in places {
            let objects = objects.iter().map(|number| (&*case.lot, *number));
            put(&mut case.device, *place, &resealed(objects, key));
        }
    }
    assert!(!case.closes().contains("FinalCheck"));
}

#[test]
fn a_package_that_is_lost_or_exchanged_before_the_final_check_stops_it() {
    let mut case = replaced();
    let package = case.lot.release.package.clone();
    let index = images(&package)[0].1.payload_offset as usize;
    let other = lot(9, Compression::None).release.package;
    let mut damaged = package.clone();
    damaged[index] ^= 1;
    for (content, code) in [
        (&[][..], FailCode::PackageMissing),
        (&other, FailCode::PackageMixed),
        (&damaged, FailCode::ChunkTag),
    ] {
        put(&mut case.device, PACKAGE, content);
        case.is_refused(case.desk.station(), code);
    }
    put(&mut case.device, PACKAGE, &package);
    case.closes();
}
