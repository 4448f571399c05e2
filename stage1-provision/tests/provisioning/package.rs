//! Somebody else's hand on the package.

use std::rc::Rc;

use fail_code::FailCode;
use memory_map::qemu_virt::PACKAGE;
use release::Compression;
use sealed_image::{HEADER_BYTES, Header};

use crate::case::Case;
use crate::lot::{ROOT, lot, lot_of};

/// Index, stage2, bundle, kernel, device tree, initramfs, two secrets.
const OBJECTS: usize = 8;
const STAGE2: usize = 1;
const KERNEL: usize = 3;

/// Finds the images of a package: where each starts, and its header.
pub(crate) fn images(package: &[u8]) -> Vec<(usize, Header)> {
    let mut images = Vec::new();
    let mut at = 0;
    while let Some(rest) = package.get(at..).filter(|rest| rest.len() > HEADER_BYTES) {
        let Ok(header) = Header::parse(rest) else { break };
        let len = header.image_len().unwrap() as usize;
        images.push((at, header));
        at += len.next_multiple_of(4096);
    }
    assert_eq!(images.len(), OBJECTS);
    images
}

/// A die with a changed package is refused with this code, and closes once it has its package back.
fn changed(change: impl FnOnce(&mut [u8]), code: FailCode) {
    let mut case = Case::new();
    case.device.change_disk(PACKAGE, change);
    case.is_refused(case.desk.station(), code);
    let package = case.lot.release.package.clone();
    case.device.change_disk(PACKAGE, |bytes| {
        bytes.fill(0);
        bytes[..package.len()].copy_from_slice(&package);
    });
    case.closes();
}

#[test]
fn no_part_of_any_object_can_be_changed() {
    let places = images(&Case::new().lot.release.package);
    let mut cases = 0;
    for (start, header) in places {
        let manifest = start + HEADER_BYTES + header.delegation_len as usize;
        let sealing = manifest + header.manifest_len as usize;
        let table = sealing + header.sealing_len as usize;
        let payload = start + header.payload_offset as usize;
        let parts = [
            // header
            (start + 8, FailCode::HeaderVersion),
            // signature
            (sealing - 1, FailCode::SignatureInvalid),
            // sealing record
            (table - 1, FailCode::KeyUnwrap),
            // tag
            (table, FailCode::ChunkTag),
            // digest
            (table + 16, FailCode::ChunkDigest),
            // padding
            (payload - 1, FailCode::PaddingNotZero),
            // first byte
            (payload, FailCode::ChunkTag),
            // last byte
            (payload + header.payload_len as usize - 1, FailCode::ChunkTag),
        ];
        for (offset, code) in parts {
            changed(|bytes| bytes[offset] ^= 0x10, code);
            cases += 1;
        }
    }
    assert_eq!(cases, 8 * OBJECTS);
}

#[test]
fn a_package_that_is_missing_or_ends_early_is_refused() {
    changed(|bytes| bytes.fill(0), FailCode::PackageMissing);
    for (start, _) in images(&Case::new().lot.release.package).into_iter().skip(1) {
        changed(|bytes| bytes[start..].fill(0), FailCode::PackageIncomplete);
    }
}

#[test]
fn an_object_of_another_release_of_the_same_owner_is_refused() {
    let mine = Case::new();
    let theirs = lot(9, Compression::None).release.package;
    for number in [STAGE2, KERNEL] {
        let (at, header) = images(&mine.lot.release.package)[number];
        let (from, other) = images(&theirs)[number];
        assert_eq!(header.image_len(), other.image_len());
        let object = theirs[from..from + header.image_len().unwrap() as usize].to_vec();
        changed(|bytes| bytes[at..at + object.len()].copy_from_slice(&object), FailCode::PackageMixed);
    }
}

#[test]
fn another_package_of_the_same_owner_gets_no_ticket() {
    let package = lot(9, Compression::None).release.package;
    changed(|bytes| bytes[..package.len()].copy_from_slice(&package), FailCode::PackageNotOfLot);
}

#[test]
fn a_package_of_another_owner_is_refused_before_anybody_is_asked() {
    let package = lot_of(ROOT + 0x40, 1, Compression::None).release.package;
    changed(|bytes| bytes[..package.len()].copy_from_slice(&package), FailCode::RootUnknown);
}

#[test]
fn a_package_that_is_exchanged_once_there_is_a_ticket_is_refused() {
    let mut case = Case::new();
    // The station answers the first question and no other.
    let desk = case.desk.clone();
    let station = Box::new(move |frame: &factory_proto::link::Frame| {
        let asked = frame.message == factory_proto::Message::Request;
        desk.answer(frame).filter(|_| asked).into_iter().collect()
    });
    case.is_refused(station, FailCode::NoAnswer);
    let other = Rc::new(lot(9, Compression::None)).release.package.clone();
    case.device.change_disk(PACKAGE, |bytes| bytes[..other.len()].copy_from_slice(&other));
    case.is_refused(case.desk.station(), FailCode::PackageMixed);
}
