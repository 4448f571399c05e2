//! Images: stages as stage0 judges them, the rest as the stages after it do.

use super::installed::check_places;
use super::stages::{boot_stage, load_system};
use super::{Holding, Means, Verdict};
use crate::check::{self, OpenedImage};
use crate::inspect::describe;
use crate::{Error, ImageInfo, hex};
use sealed_image::{Kind, Role};
use serde_json::{Value, json};

/// Verifies a stage as stage0 of a die with these roots and this floor would.
pub(super) fn verify_stage(
    untrusted: &[u8],
    kind: Kind,
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let opened = boot_stage(untrusted, kind, &means.judge(), means.key.as_ref())?;
    hold.add(
        "signatures",
        format!("stage0 takes it: of the role {}, which {} delegates to", role(kind), means.by_root()),
    );
    hold.add("place", "it is made for the memory that stages run in");
    let mut unchecked = Vec::new();
    if let Some(bytes) = opened {
        hold.add("payload", format!("opened, all {bytes} bytes are what was signed"));
    } else {
        unchecked.push("the payload, which takes the key that it is sealed under: --key FILE".into());
    }
    let info = describe(untrusted, 0).map_err(|error| Error::Image { offset: 0, error })?;
    if opened.is_none() && info.stored_bytes > untrusted.len() as u64 {
        return Err(Error::SlotTruncated { offset: 0 });
    }
    unchecked.extend(unread(untrusted, std::slice::from_ref(&info)));
    Ok(Verdict { artefact: kind.name(), facts: facts(&info), unchecked })
}

fn role(kind: Kind) -> &'static str {
    kind.role().map_or("none", Role::name)
}

/// Verifies images that lie one after the other, the first of which has to be of this kind.
pub(super) fn verify_images(
    untrusted: &[u8],
    first: Kind,
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let judge = means.judge();
    let mut unchecked = Vec::new();
    let images: Vec<ImageInfo> = match (&means.key, first) {
        (None, _) => {
            let images = check::verify_signatures(untrusted, first, &judge)?;
            let option = if first == Kind::Update { "--update-key" } else { "--key" };
            unchecked
                .push(format!("the payloads, which takes the key that they are sealed under: {option} FILE"));
            if matches!(first, Kind::Bundle | Kind::Package) {
                let name = first.name();
                unchecked.push(format!(
                    "whether the {name} names these objects, which is in its payload, and their places in memory"
                ));
            }
            images
        }
        (Some(key), Kind::Package) => {
            let opened = check::open_package(untrusted, &judge, key)?;
            hold.add("payloads", format!("all {} opened, every byte is what was signed", opened.len()));
            hold.add("package", "its index names these objects, and the bundle those of the system");
            let images = infos(opened);
            check_places(untrusted, &images, &judge, key)?;
            hold.add("places", PLACES);
            unchecked.push(DEVICE_TREE.into());
            images
        }
        (Some(key), Kind::Bundle) => {
            load_system(untrusted, &judge, key)?;
            hold.add("payloads", "stage2's loader opened all, every byte is what was signed");
            hold.add("bundle", "names these objects, which have room in memory beside each other");
            unchecked.push(DEVICE_TREE.into());
            infos(check::open_system(untrusted, &judge, key)?)
        }
        (Some(key), _) => {
            let opened = check::open_first(untrusted, first, &judge, key)?;
            hold.add("payload", "opened, every byte is what was signed");
            infos(vec![opened])
        }
    };
    unchecked.extend(unread(untrusted, &images));
    let list: Vec<_> = images.iter().map(|image| image.kind.name()).collect();
    hold.add("signatures", format!("as devices want them, up to {}: {}", means.by_root(), list.join(", ")));
    let artefact = match first {
        Kind::Package => "package",
        Kind::Bundle if images.len() > 1 => "OS slot",
        _ => first.name(),
    };
    let facts = match images.as_slice() {
        [image] => facts(image),
        images => vec![
            ("board", json!(images[0].board)),
            ("version", json!(images[0].version.to_string())),
            ("images", json!(list)),
            ("manifests", images.iter().map(|image| hex(&image.digest)).collect()),
        ],
    };
    Ok(Verdict { artefact, facts, unchecked })
}

/// What is said once the places of a system hold.
pub(crate) const PLACES: &str = "all of it has room in its slots and in memory once it is installed: stage0's and stage2's own code takes it";
/// What nobody can tell without a board.
pub const DEVICE_TREE: &str =
    "what stage2 fills into the device tree where there is more memory or another core: that takes a device";

pub(super) fn infos(opened: Vec<OpenedImage>) -> Vec<ImageInfo> {
    opened.into_iter().map(|image| image.info).collect()
}

/// Tells where something lies between the images that devices read and behind them, and which images that is, as far as it is
/// any.
pub(super) fn unread(slot: &[u8], images: &[ImageInfo]) -> Vec<String> {
    let mut found = Vec::new();
    let mut end = 0;
    for image in images {
        let start = image.offset as usize;
        let between = slot.get(end..start).unwrap_or_default();
        found.extend(written(between).map(|at| {
            format!("what lies between the images, from byte {:#x} on, which no device reads", end + at)
        }));
        end = start.saturating_add(image.stored_bytes as usize);
    }
    let behind = slot.get(end..).unwrap_or_default();
    // The last image is filled up, and what follows is as it was.
    let filled = end.next_multiple_of(store::ALIGN as usize).saturating_sub(end).min(behind.len());
    let first = written(&behind[..filled]).or_else(|| Some(filled + written(&behind[filled..])?));
    let Some(first) = first.map(|first| end + first) else { return found };
    let mut text = format!("what lies behind, from byte {first:#x} on, which no device reads");
    let mut next = first;
    // What lies there may be anything.
    while let Some(image) = slot.get(next..).and_then(|rest| describe(rest, next as u64).ok()) {
        text += if next == first { ": " } else { ", " };
        text += image.kind.name();
        let stored = image.stored_bytes.checked_next_multiple_of(store::ALIGN);
        let Some(behind) = stored.and_then(|stored| next.checked_add(usize::try_from(stored).ok()?)) else {
            break;
        };
        next = behind;
    }
    found.push(text);
    found
}

/// Returns where bytes stop being erased, to ones or to zeros.
fn written(bytes: &[u8]) -> Option<usize> {
    let erased = bytes.first().filter(|byte| matches!(byte, 0 | 0xFF));
    bytes.iter().position(|byte| Some(byte) != erased)
}

/// What is known of one image.
fn facts(image: &ImageInfo) -> Vec<(&'static str, Value)> {
    vec![
        ("kind", json!(image.kind.name())),
        ("board", json!(image.board)),
        ("version", json!(image.version.to_string())),
        ("rollback index", json!(image.rollback_index)),
        ("manifest", json!(hex(&image.digest))),
    ]
}
