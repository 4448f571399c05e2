//! A provisioning package by itself: the folder that the factory gets.
//!
//! # Threats
//! The folder names an owner root, and whoever altered it names his own. So the root comes from whoever verifies, and what the
//! folder names has to be the same before anything else of it is looked at. What only the content key opens, and what only the
//! release folder says, is named as not checked.

use super::image::{DEVICE_TREE, PLACES, infos, unread};
use super::{Holding, Means, Verdict};
use crate::{Check, Error, PackageRelease, hex};
use memory_map::qemu_virt::BOARD;
use serde_json::json;
use std::path::Path;

/// Verifies the folder of a package for dies of the given root. `checks` gets what holds, one after the other, up to the first
/// thing that does not.
///
/// # Errors
/// The first reason to refuse, with the device's code where it is a device that would refuse; a file that cannot be read.
pub fn verify_package(folder: &Path, means: &Means, checks: &mut Vec<Check>) -> Result<Verdict, Error> {
    means.refuse_unused_for_package()?;
    let trusted = means.trusted();
    let mut hold = Holding { checks };
    let package = PackageRelease::read(folder)?;
    if package.facts.board != BOARD {
        return Err(Error::Image { offset: 0, error: sealed_image::Error::BoardWrong });
    }
    package.check_for(&trusted)?;
    hold.add("owner root", format!("the package is for dies of {}", means.by_root()));
    hold.add("package", "its files belong together, and a die of the lot boots its stage1");
    // With the key as stage1 walks the package, object by object; what it does not come to is looked at afterwards.
    let opened = means.key.as_ref().map(|key| package.open_for(&trusted, key)).transpose()?;
    let images = package.verify_signatures(&trusted)?;
    let names: Vec<_> = images.stage1.iter().chain(&images.objects).map(|image| image.kind.name()).collect();
    hold.add("signatures", format!("as devices want them, up to {}: {}", means.by_root(), names.join(", ")));
    let mut unchecked = Vec::new();
    let opened = match (opened, &means.key) {
        (Some(opened), Some(key)) => {
            unchecked.push(DEVICE_TREE.into());
            let opened = infos(opened);
            hold.add("payloads", format!("all {} opened, every byte is what was signed", opened.len()));
            hold.add("index", "names these objects, and the bundle those of the system");
            package.check_places(&opened, &trusted, key)?;
            hold.add("places", PLACES);
            opened
        }
        _ => {
            unchecked
                .push("the payloads of the package and their places, which takes its content key: --content-key FILE".into());
            unchecked.push(
                "whether its index and its bundle name these objects, which is in their payloads".into(),
            );
            Vec::new()
        }
    };
    // Objects that the index does not name are read by no device; without the key it may name them all.
    let read = if opened.is_empty() { &images.objects } else { &opened };
    let parts = [
        ("stage1.img", &package.stage1, images.stage1.get(..1).unwrap_or_default()),
        ("package.img", &package.package, &read[..]),
    ];
    for (file, slot, images) in parts {
        unchecked.extend(unread(slot, images).iter().map(|what| format!("{file}: {what}")));
    }
    unchecked.push("SBOM, provenance, and who released it: give `kiln verify` the release folder".into());
    let facts = &package.facts;
    let objects = read.iter().map(|image| format!("{} {}", image.kind.name(), image.version));
    let facts = vec![
        ("package id", json!(hex(&facts.package_id))),
        ("board", json!(facts.board)),
        ("version", json!(facts.version.to_string())),
        ("objects", objects.collect()),
        ("objects opened", json!(opened.len())),
    ];
    Ok(Verdict { artefact: "package", facts, unchecked })
}
