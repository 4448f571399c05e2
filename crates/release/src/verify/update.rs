//! An update: its folder, or the image alone.
//!
//! # Threats
//! Both come from whoever serves updates, who may have put one product's words beside another's image, or an older image beside
//! newer words. So what `update.json` says has to be the signed index to the last byte, whose digest the manifest has. An
//! image alone has valid signatures at most, whomever it is for, and that is said; a folder has to have both. The board is that
//! of this device code, whatever `update.json` names.

use super::image::{self, DEVICE_TREE, PLACES};
use super::{Holding, Means, Verdict};
use crate::artefact::Artefact;
use crate::update::{FACTS_FILE, UPDATE_FILE};
use crate::{Check, Error, UpdateFacts, UpdateRelease, files, hex};
use memory_map::qemu_virt::{BOARD, FLASH1};
use sealed_image::Kind;
use serde_json::json;
use std::path::Path;

/// Verifies the folder of an update, for devices of the given root. `checks` gets what holds, one after the other, up to the
/// first thing that does not.
///
/// # Errors
/// The first reason to refuse, with the device's code where it is a device that would refuse; a file that cannot be read.
pub fn verify_update(folder: &Path, means: &Means, checks: &mut Vec<Check>) -> Result<Verdict, Error> {
    let update = Artefact::Images(Kind::Update);
    if means.expected.is_some_and(|expected| expected != update) {
        return Err(Error::OptionUnused { option: "--as", what: "folder of an update" });
    }
    means.refuse_unused(update)?;
    let missing = |name: &str| Error::FileMissing { name: name.into() };
    for name in [UPDATE_FILE, FACTS_FILE] {
        if !files::is_there(&folder.join(name)) {
            return Err(missing(name));
        }
    }
    let facts = UpdateFacts::read(&folder.join(FACTS_FILE))?;
    let image = files::read_at_most(&folder.join(UPDATE_FILE), FLASH1.size)?;
    verify(UpdateRelease { facts, image }, means, &mut Holding { checks })
}

/// Verifies the update image that lies at `path`, with `update.json` if that lies beside it.
pub(super) fn verify_image(
    untrusted: &[u8],
    path: &Path,
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let beside = path.with_file_name(FACTS_FILE);
    if files::is_there(&beside) {
        let update = UpdateRelease { facts: UpdateFacts::read(&beside)?, image: untrusted.to_vec() };
        return verify(update, means, hold);
    }
    if means.update_key.is_some() {
        return Err(Error::FileMissing { name: FACTS_FILE.into() });
    }
    let verdict = image::verify_images(untrusted, Kind::Update, means, hold)?;
    let missing = format!(
        "whom the update is for, and whether these objects are its own: that takes {FACTS_FILE} beside it"
    );
    Ok(Verdict { unchecked: [&[missing], &verdict.unchecked[..]].concat(), ..verdict })
}

fn verify(update: UpdateRelease, means: &Means, hold: &mut Holding<'_>) -> Result<Verdict, Error> {
    let facts = &update.facts;
    if facts.board != BOARD {
        return Err(Error::Image { offset: 0, error: sealed_image::Error::BoardWrong });
    }
    let key = means.update_key()?;
    let images = update.check_for(&means.trusted(), key.as_ref())?;
    let names: Vec<_> = images.iter().map(|image| image.kind.name()).collect();
    hold.add("signatures", format!("as devices want them, up to {}: {}", means.by_root(), names.join(", ")));
    hold.add("index", format!("says what {FACTS_FILE} says, and names these objects"));
    let (product, minimum) = (&facts.product, facts.minimum_version);
    hold.add("admission", format!("a device of the product {product} takes it from version {minimum} on"));
    let mut unchecked = Vec::new();
    if let Some(key) = key {
        hold.add("payloads", format!("all {} opened, every byte is what was signed", images.len()));
        hold.add("bundle", "names these objects");
        update.check_places(&images, &means.trusted(), &key)?;
        hold.add("places", PLACES);
        unchecked.push(DEVICE_TREE.into());
    } else {
        unchecked.push(
            "the payloads, what the bundle names, and their places in memory: --update-key FILE".into(),
        );
    }
    unchecked.push(
        "that it is the update of a release, and whether the root took a key back that signed it: give `kiln verify` the release folder"
            .into(),
    );
    let indices = facts.indices.iter().map(|(role, index)| (role.name().to_owned(), json!(index)));
    let facts = vec![
        ("product", json!(facts.product)),
        ("board", json!(facts.board)),
        ("version", json!(facts.version.to_string())),
        ("minimum version", json!(facts.minimum_version.to_string())),
        ("rollback indices", indices.collect::<serde_json::Map<_, _>>().into()),
        ("update id", json!(hex(&facts.update_id))),
        ("images", json!(names)),
    ];
    Ok(Verdict { artefact: "update", facts, unchecked })
}
