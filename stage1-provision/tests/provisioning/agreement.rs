//! `kiln verify` says of a package what the shipped stage1 does with it: taken, or refused with the same code.
//!
//! Whoever alters the package on its way alters `release.json` with it, so that it names what lies there: only what the owner signed
//! and sealed is left to refuse it.

use std::collections::{BTreeMap, BTreeSet};

use boot_crypto::{Key, sha256};
use fail_code::FailCode;
use figures::Figure;
use memory_map::qemu_virt::PACKAGE;
use release::{Means, PackageRelease, SiliconVendor, inspect_slot, verify_package};
use sealed_image::HEADER_BYTES;
use stage1_provision::End;

use crate::device::Device;
use crate::lot::{Lot, ROOT, bootable_lots, key, lot_of};
use crate::package::images;
use crate::stage0;

/// What a package was made of, and in which way it is wrong.
struct Altered {
    class: &'static str,
    name: String,
    package: Vec<u8>,
}

/// Every package that is judged.
fn packages(lot: &Lot, other: &Lot) -> Vec<Altered> {
    let sound = &lot.release.package;
    let mut all = vec![Altered { class: "good", name: "as it was made".into(), package: sound.clone() }];
    let mut add = |class, name: String, change: &dyn Fn(&mut Vec<u8>)| {
        let mut package = sound.clone();
        change(&mut package);
        all.push(Altered { class, name, package });
    };
    let places = images(sound);
    for (number, (start, header)) in places.iter().enumerate() {
        let delegation = start + HEADER_BYTES;
        let manifest = delegation + header.delegation_len as usize;
        let sealing = manifest + header.manifest_len as usize;
        let table = sealing + header.sealing_len as usize;
        let payload = start + header.payload_offset as usize;
        let last = payload + header.payload_len as usize - 1;
        let bytes = [
            ("magic", *start),
            ("version of the header", start + 8),
            ("length of the delegation", start + 12),
            ("delegation", delegation + 40),
            ("signature of the root", manifest - 1),
            ("manifest", manifest + 20),
            ("signature of the role", sealing - 1),
            ("sealing record", sealing + 3),
            ("wrapped key", table - 1),
            ("tag of the first chunk", table),
            ("digest of the first chunk", table + 16),
            ("padding", payload - 1),
            ("first byte", payload),
            ("last byte", last),
        ];
        for (what, at) in bytes {
            add("altered", format!("image {number}: {what}"), &|package| package[at] ^= 0x10);
        }
        add("cut off", format!("from image {number} on"), &|package| package[*start..].fill(0));
        add("cut off", format!("in image {number}"), &|package| package.truncate(last));
        let (from, theirs) = images(&other.release.package)[number];
        // The index of another release is another package, which is none of this lot: nobody sees that by the package alone.
        if number > 0 && theirs.image_len() == header.image_len() {
            let length = header.image_len().unwrap() as usize;
            add("of another release", format!("image {number}"), &|package| {
                package[*start..start + length].copy_from_slice(&other.release.package[from..from + length]);
            });
        }
        if number > 0 {
            let image = sound[*start..=last].to_vec();
            let (before, _) = places[number - 1];
            add("twice", format!("image {number}"), &|package| {
                if package.len() < before + image.len() {
                    package.resize(before + image.len(), 0);
                }
                package[before..before + image.len()].copy_from_slice(&image);
            });
        }
    }
    let theirs = lot_of(ROOT + 0x40, 1, release::Compression::None).release.package;
    add("of another owner", "all of it".into(), &|package| *package = theirs.clone());
    add("empty", "nothing".into(), &|package| package.fill(0));
    add("more behind", "bytes".into(), &|package| package.extend([0x5A; 100]));
    all
}

/// What stage1 of a fresh die does with a package.
fn stage1(lot: &Lot, package: &[u8]) -> Result<(), FailCode> {
    let mut device = Device::new(lot, &SiliconVendor::found().unwrap(), 1, 1);
    device.change_disk(PACKAGE, |disk| {
        disk.fill(0xFF);
        disk[..package.len()].copy_from_slice(package);
    });
    let station = lot.desk(&device).station();
    match stage0::power_on(&mut device, station).end {
        End::Closed => Ok(()),
        End::Refused(code) => Err(code),
    }
}

/// What `kiln verify` says of the folder with it.
fn verify(lot: &Lot, package: &[u8]) -> Result<(), String> {
    let index = inspect_slot(package).ok().and_then(|images| images.first().map(|image| image.digest));
    let mut facts = lot.release.facts.clone();
    facts.package_digest = sha256(package);
    facts.package_id = index.unwrap_or(facts.package_id);
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("package");
    let release = PackageRelease {
        facts,
        stage1: lot.release.stage1.clone(),
        package: package.to_vec(),
        provisioning_key: Key::new(*lot.release.provisioning_key.expose()),
    };
    release.write(&folder).unwrap();
    let means = Means { key: Some(Key::new(*lot.content_key.0.expose())), ..Means::new(key(ROOT).public()) };
    match verify_package(&folder, &means, &mut Vec::new()) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.code().map_or_else(|| format!("no code: {error}"), |code| code.to_string())),
    }
}

#[test]
fn kiln_verify_judges_packages_as_stage1_does() {
    let [lot, other] = bootable_lots();
    let (mut differing, mut codes, mut classes) = (Vec::new(), BTreeSet::new(), BTreeMap::new());
    let (mut good, mut bad) = (0_u64, 0_u64);
    for Altered { class, name, package } in packages(&lot, &other) {
        let device = stage1(&lot, &package).map_err(|code| code.to_string());
        let said = verify(&lot, &package);
        *classes.entry(class).or_insert(0) += 1;
        match &device {
            Ok(()) => good += 1,
            Err(code) => {
                bad += 1;
                codes.insert(code.clone());
            }
        }
        if device != said {
            differing.push(format!("{class}: {name}: stage1 {device:?}, kiln verify {said:?}"));
        }
    }
    assert!(good >= 2 && codes.len() >= 10, "{good} good, {codes:?}");
    let classes: Vec<_> = classes.into_iter().map(|(class, count)| format!("{count} {class}")).collect();
    Figure::new("kiln verify, of packages, against stage1", "packages", 120)
        .ran(good + bad)
        .violations(&differing)
        .note(format!("{good} good, {bad} bad with {} codes; {}", codes.len(), classes.join(", ")))
        .report();
}

/// The control of this rig: where they differ it says so.
#[test]
fn a_package_that_only_one_of_them_takes_is_seen() {
    let [lot, _] = bootable_lots();
    let mut altered = lot.release.package.clone();
    let (start, header) = images(&altered)[3];
    altered[start + header.payload_offset as usize] ^= 1;
    assert_eq!(stage1(&lot, &altered), Err(FailCode::ChunkTag));
    assert_eq!(verify(&lot, &lot.release.package), Ok(()));
    assert_eq!(verify(&lot, &altered), Err(FailCode::ChunkTag.to_string()));
}
