//! An update image by itself, with the `update.json` that says what it is for.
//!
//! # Threats
//! Both come from whoever serves updates, who may have put one product's words beside another's image, or an older image beside
//! newer words. So what `update.json` says has to be the signed index to the last byte, whose digest the manifest has. Without
//! `update.json` nothing but the signatures can be told, and that is said.

use super::{Holding, Means, Verdict, image};
use crate::update::FACTS_FILE;
use crate::{Error, UpdateFacts, UpdateRelease, hex};
use sealed_image::Kind;
use serde_json::json;
use std::path::{Path, PathBuf};

/// Verifies the update image that lies at `path`, for devices of the given root.
pub(super) fn verify_update(
    untrusted: &[u8],
    path: &Path,
    means: &Means,
    hold: &mut Holding<'_>,
) -> Result<Verdict, Error> {
    let Some(facts) = facts_beside(path)? else {
        if means.update_key.is_some() {
            return Err(Error::FileMissing { name: FACTS_FILE.into() });
        }
        let mut verdict = image::verify_images(untrusted, Kind::Update, means, hold)?;
        verdict.unchecked = vec![format!(
            "whom the update is for, whether these objects are its own, and their payloads: that takes {FACTS_FILE} beside it"
        )];
        return Ok(verdict);
    };
    let update = UpdateRelease { facts, image: untrusted.to_vec() };
    let images = update.check_for(&means.trusted(), means.update_key.as_ref())?;
    let UpdateRelease { facts, .. } = update;
    let names: Vec<_> = images.iter().map(|image| image.kind.name()).collect();
    hold.add("signatures", format!("as devices want them, up to {}: {}", means.by_root(), names.join(", ")));
    hold.add("index", format!("says what {FACTS_FILE} says, and names these objects"));
    let (product, minimum) = (&facts.product, facts.minimum_version);
    hold.add("admission", format!("a device of the product {product} takes it from version {minimum} on"));
    let mut unchecked = Vec::new();
    if means.update_key.is_some() {
        hold.add("payloads", format!("all {} opened, every byte is what was signed", images.len()));
        hold.add("bundle", "names these objects");
    } else {
        unchecked.push("the payloads, and what the bundle names: --update-key FILE".into());
    }
    unchecked.push("that it is the update of a release: give `kiln verify` the release folder".into());
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

/// Reads what is said of an update in the folder that it lies in; `None` if nothing is.
fn facts_beside(path: &Path) -> Result<Option<UpdateFacts>, Error> {
    let path: PathBuf = path.with_file_name(FACTS_FILE);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    UpdateFacts::read(&path).map(Some)
}
